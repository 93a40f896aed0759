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

//go:embed agent/diagnose.erl
var diagnoseSource []byte

//go:embed agent/diagnose.beam
var diagnoseBeam []byte

var diagnoseModule = newCompanion("diagnose", diagnoseSource, diagnoseBeam)

// Bounds and defaults of a diagnosis.
const (
	DefaultWindow     = time.Second
	MaxDiagnoseWindow = time.Minute
	MaxMonitor        = 10 * time.Minute
	MaxFindings       = 100 // of each kind and target
	usualFindings     = 10
)

// diagnoseTime is what the two walks may take beside the window.
const diagnoseTime = 20 * time.Second

// What a garbage collection or a slice of work takes to be told, in
// milliseconds. A node that is well has none of either.
const (
	longGC       = 50
	longSchedule = 50
)

// DiagnoseQuery asks what is wrong with targets.
type DiagnoseQuery struct {
	Ask
	Window time.Duration // between the two looks; 0 means DefaultWindow
	Limit  int           // findings of each kind; 0 means 10
	Deep   bool          // also what costs a target more: processes that nobody supervises
	// GC collects the garbage of the processes that hold the most binaries, and
	// tells what that freed.
	GC bool
	// Monitor listens for so long to what the node's system monitor tells of long
	// garbage collections and schedules. Before OTP 28 a node has one, which is
	// taken for that time and given back.
	Monitor time.Duration
	// Force takes it also from a process that has it.
	Force bool
}

// Diagnosis is what a target has that seems wrong, worst first.
type Diagnosis struct {
	Findings []Finding
	State    NodeState
	Skipped  []string // what was not looked at, and why
}

// NodeState is what nodes of one system should agree on.
type NodeState struct {
	OTPRelease string
	Apps       map[string]string // version of each loaded application
	Connected  []string          // nodes, hidden ones too
	Known      []string          // those and others that it has been connected to
}

// Diagnose looks for what is wrong with targets.
func (m *Manager) Diagnose(ctx context.Context, q DiagnoseQuery, out Answers[Diagnosis]) {
	if q.Window <= 0 {
		q.Window = DefaultWindow
	}
	if q.Limit <= 0 {
		q.Limit = usualFindings
	}
	q.Window, q.Monitor, q.Limit = min(q.Window, MaxDiagnoseWindow), min(q.Monitor, MaxMonitor), min(q.Limit, MaxFindings)
	extra := q.Window + q.Monitor + diagnoseTime
	if q.Timeout > 0 {
		q.Timeout += q.Window + q.Monitor
	}
	each(ctx, m, q.Ask, extra, out, func(ctx context.Context, t *target, link *node.Peer) (Diagnosis, error) {
		f, err := t.facts(ctx, link, q)
		if err != nil {
			return Diagnosis{}, err
		}
		return Diagnosis{Findings: f.judge(), State: f.state, Skipped: f.skipped}, nil
	})
}

// facts asks one target; the work takes one of its walks.
func (t *target) facts(ctx context.Context, link *node.Peer, q DiagnoseQuery) (*facts, error) {
	if err := t.walks.enter(ctx); err != nil {
		return nil, t.noRoom(ctx, link)
	}
	defer t.walks.leave()
	spec := etf.Map{
		{Key: etf.Atom("window"), Value: etf.Int(max(q.Window/time.Millisecond, 1))},
		{Key: etf.Atom("limit"), Value: etf.Int(q.Limit)},
		{Key: etf.Atom("share"), Value: etf.Int(t.m.budget().Share)},
		{Key: etf.Atom("deep"), Value: boolean(q.Deep)},
		{Key: etf.Atom("gc"), Value: boolean(q.GC)},
	}
	reply, err := t.companionCall(ctx, link, diagnoseModule, "look", spec)
	if errors.Is(err, errNoAgent) {
		return t.plainFacts(ctx, link, q)
	}
	if err != nil {
		return nil, err
	}
	f := &facts{node: link.Name(), rows: t.rows(link)}
	if err := f.read(reply); err != nil {
		return nil, err
	}
	t.cost.note(func(c *Cost) { c.Collections += uint64(f.collected()) })
	if q.Monitor > 0 {
		err = t.watchSystem(ctx, link, q, f)
	}
	return f, err
}

// collected is how many processes had their garbage collected for the answer.
func (f *facts) collected() (n int) {
	for _, b := range f.binaries {
		if b.collected {
			n++
		}
	}
	return n
}

// watchSystem listens to the system monitor.
func (t *target) watchSystem(ctx context.Context, link *node.Peer, q DiagnoseQuery, f *facts) error {
	reply, err := t.companionCall(ctx, link, diagnoseModule, "watch", etf.Map{
		{Key: etf.Atom("duration"), Value: etf.Int(max(q.Monitor/time.Millisecond, 1))},
		{Key: etf.Atom("long_gc"), Value: etf.Int(longGC)},
		{Key: etf.Atom("long_schedule"), Value: etf.Int(longSchedule)},
		{Key: etf.Atom("limit"), Value: etf.Int(q.Limit)},
		{Key: etf.Atom("force"), Value: boolean(q.Force)},
	})
	if err != nil {
		return fmt.Errorf("listen to the system monitor of %s: %w", link.Name(), err)
	}
	return f.readMonitor(reply, q.Monitor)
}

func boolean(b bool) etf.Term {
	if b {
		return etf.Atom("true")
	}
	return etf.Atom("false")
}
