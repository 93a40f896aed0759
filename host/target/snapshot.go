package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/snapshot.erl
var snapshotSource []byte

//go:embed agent/snapshot.beam
var snapshotBeam []byte

var snapshotModule = newCompanion("snapshot", snapshotSource, snapshotBeam)

// MaxSnapshotRows bounds the processes by each measure, and the tables, of one
// snapshot.
const (
	MaxSnapshotRows = 1000
	usualSnapshot   = 100
)

// SnapshotQuery asks what targets are at this moment.
type SnapshotQuery struct {
	Ask
	Limit int // processes by each measure, and tables; 0 means 100
}

// Snapshot is what a target was at a moment. Names are the target's own.
type Snapshot struct {
	Taken      time.Time // by our clock
	OTPRelease string
	Uptime     time.Duration
	Memory     []Amount // bytes by kind
	Counts     []Amount
	Limits     []Amount
	Apps       map[string]string
	Connected  []string
	Groups     []ProcessGroup // by memory
	Processes  []Process      // without a function but the initial call
	Tables     []TableGroup   // by memory
	AllGroups  uint64         // more than len(Groups) where these are cut
	AllTables  uint64         // names of tables; the same
}

// Amount is a number with its name.
type Amount struct {
	Name  string
	Value uint64
}

// ProcessGroup is all processes that began alike.
type ProcessGroup struct {
	InitialCall                                string // other: what is not told apart
	Count, Memory, MessageQueueLen, Reductions uint64
}

// TableGroup is all ETS tables of one name.
type TableGroup struct {
	Name                string
	Count, Size, Memory uint64
}

// Snapshot tells what targets are at this moment.
func (m *Manager) Snapshot(ctx context.Context, q SnapshotQuery, out Answers[Snapshot]) {
	if q.Limit <= 0 {
		q.Limit = usualSnapshot
	}
	q.Limit = min(q.Limit, MaxSnapshotRows)
	each(ctx, m, q.Ask, diagnoseTime/2, out, func(ctx context.Context, t *target, link *node.Peer) (Snapshot, error) {
		reply, err := t.companionWalk(ctx, link, snapshotModule, "take", etf.Map{
			{Key: etf.Atom("limit"), Value: etf.Int(q.Limit)},
			{Key: etf.Atom("share"), Value: etf.Int(t.m.budget().Share)},
		})
		if errors.Is(err, errNoAgent) {
			return Snapshot{}, hint(fmt.Errorf("take a snapshot of %s: %w", link.Name(), err),
				"processes are counted on the node, by the helper module; `debughost ps %s -o json --limit 0` lists them without it", ShellWord(link.Name()))
		}
		if err != nil {
			return Snapshot{}, err
		}
		return readSnapshot(t.rows(link), reply)
	})
}

// readSnapshot reads what take/1 of the helper module describes.
func readSnapshot(rows *rowReader, reply etf.Term) (Snapshot, error) {
	f := &facts{node: rows.node, rows: rows}
	s := Snapshot{Taken: time.Now()}
	list, ok := etf.Elements(reply)
	if !ok {
		return s, f.bad("snapshot", reply)
	}
	amounts := func(to *[]Amount) func(etf.Term) error {
		return listInto(f, "numbers", 2, to, func(e etf.Tuple) Amount { return Amount{atom(e[0]), count(e[1])} })
	}
	common := f.readers()
	readers := map[string]func(etf.Term) error{
		"release": func(t etf.Term) error { s.OTPRelease = text(t); return nil },
		"uptime":  func(t etf.Term) error { s.Uptime = time.Duration(min(count(t), 1<<42)) * time.Millisecond; return nil },
		"memory":  amounts(&s.Memory), "counts": amounts(&s.Counts), "limits": amounts(&s.Limits),
		"apps": common["apps"], "nodes": common["nodes"],
		"groups": cutInto(f, "groups", 5, &s.AllGroups, &s.Groups, func(e etf.Tuple) ProcessGroup {
			call := atom(e[0])
			if call == "" {
				call = rows.mfa(e[0])
			}
			return ProcessGroup{call, count(e[1]), count(e[2]), count(e[3]), count(e[4])}
		}),
		"tables": cutInto(f, "tables", 4, &s.AllTables, &s.Tables, func(e etf.Tuple) TableGroup {
			return TableGroup{atom(e[0]), count(e[1]), count(e[2]), count(e[3])}
		}),
		"processes": listInto(f, "processes", 6, &s.Processes, func(e etf.Tuple) Process {
			who := f.subject(e)
			return Process{Node: f.node, Pid: who.pid, RegisteredName: who.name, InitialCall: who.call, Memory: count(e[3]), MessageQueueLen: count(e[4]), Reductions: count(e[5])}
		}),
	}
	for _, e := range list {
		kv, ok := e.(etf.Tuple)
		if !ok || len(kv) != 2 {
			return s, f.bad("snapshot", e)
		}
		if read := readers[atom(kv[0])]; read != nil {
			if err := read(kv[1]); err != nil {
				return s, err
			}
		}
	}
	s.Apps, s.Connected = f.state.Apps, f.state.Connected
	return s, nil
}

// cutInto reads {Total, [Tuple]}.
func cutInto[T any](f *facts, what string, n int, total *uint64, to *[]T, one func(etf.Tuple) T) func(etf.Term) error {
	rows := listInto(f, what, n, to, one)
	return func(t etf.Term) error {
		e, ok := t.(etf.Tuple)
		if !ok || len(e) != 2 {
			return f.bad(what, t)
		}
		*total = count(e[0])
		return rows(e[1])
	}
}
