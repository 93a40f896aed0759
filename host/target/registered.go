package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/names.erl
var namesSource []byte

//go:embed agent/names.beam
var namesBeam []byte

var namesModule = newCompanion("names", namesSource, namesBeam)

// MaxNames bounds the names of one target in one answer.
const MaxNames = 10_000

// NamesQuery asks for registered names.
type NamesQuery struct {
	Ask
	Filter string // part of the name, case-insensitive
	Limit  int    // names of each target; default and at most MaxNames
}

// Name is a registered name.
type Name struct {
	Name            string // Elixir.My.Worker unabridged
	Kind            string // process or port
	Pid             string // <0.123.0> or #Port<0.4>
	Memory          uint64 // bytes
	MessageQueueLen uint64
	InitialCall     string // mod:fun/arity, or of a port what it runs
}

// Names are some or all registered names of a target, sorted.
type Names struct {
	Names []Name
	Total int // that match; more than len(Names) where the limit cut them
}

// Names tells the registered names of targets.
func (m *Manager) Names(ctx context.Context, q NamesQuery, out Answers[Names]) {
	if q.Limit <= 0 || q.Limit > MaxNames {
		q.Limit = MaxNames
	}
	each(ctx, m, q.Ask, 0, out, func(ctx context.Context, t *target, link *node.Peer) (Names, error) {
		reply, err := t.companionCall(ctx, link, namesModule, "names", etf.Binary(strings.ToLower(q.Filter)), etf.Int(t.most(q.Limit)))
		if err == errNoAgent {
			return t.plainNames(ctx, link, q)
		}
		if err != nil {
			return Names{}, err
		}
		return t.parseNames(link, reply)
	})
}

// parseNames reads {Total, [{Name, Pid | Port, Kind, Memory, QueueLen, Call}]}.
func (t *target) parseNames(link *node.Peer, reply etf.Term) (Names, error) {
	bad := func() (Names, error) {
		return Names{}, fmt.Errorf("list names of %s: got %s", link.Name(), printed(reply))
	}
	answer, ok := reply.(etf.Tuple)
	if !ok || len(answer) != 2 {
		return bad()
	}
	rows, ok := etf.Elements(answer[1])
	if !ok {
		return bad()
	}
	out := Names{Total: int(count(answer[0])), Names: make([]Name, 0, len(rows))}
	calls := t.rows(link)
	for _, row := range rows {
		r, ok := row.(etf.Tuple)
		if !ok || len(r) != 6 {
			return bad()
		}
		n := Name{Name: atom(r[0]), Kind: atom(r[2]), Pid: identifier(r[1]), Memory: count(r[3]), MessageQueueLen: count(r[4])}
		if b, ok := r[5].(etf.Binary); ok {
			n.InitialCall = string(b)
		} else {
			n.InitialCall = calls.mfa(r[5])
		}
		out.Names = append(out.Names, n)
	}
	return out, nil
}

// identifier writes a pid or port as its own node does.
func identifier(t etf.Term) string {
	switch t := t.(type) {
	case etf.Pid:
		return pidText(t)
	case etf.Port:
		return "#Port<0." + strconv.FormatUint(t.ID, 10) + ">"
	}
	return ""
}

// plainNames does without the helper: names and whose they are, and no more.
func (t *target) plainNames(ctx context.Context, link *node.Peer, q NamesQuery) (Names, error) {
	reply, err := t.call(ctx, link, "erlang", "registered")
	if err != nil {
		return Names{}, err
	}
	all, ok := etf.Elements(reply)
	if !ok {
		return Names{}, fmt.Errorf("list names of %s: got %s", link.Name(), printed(reply))
	}
	names := make([]etf.Term, 0, len(all))
	for _, n := range all {
		if strings.Contains(strings.ToLower(atom(n)), strings.ToLower(q.Filter)) {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b etf.Term) int { return strings.Compare(atom(a), atom(b)) })
	out := Names{Total: len(names)}
	names = names[:min(len(names), t.most(q.Limit))]
	whereis := etf.Export{Module: "erlang", Function: "whereis", Arity: 1}
	reply, err = t.call(ctx, link, "lists", "map", whereis, etf.List(names))
	if err != nil {
		return Names{}, err
	}
	owners, ok := etf.Elements(reply)
	if !ok || len(owners) != len(names) {
		return Names{}, fmt.Errorf("list names of %s: got %s", link.Name(), printed(reply))
	}
	for i, o := range owners {
		kind := "process"
		switch o.(type) {
		case etf.Pid:
		case etf.Port:
			kind = "port"
		default:
			continue // gone meanwhile
		}
		out.Names = append(out.Names, Name{Name: atom(names[i]), Kind: kind, Pid: identifier(o)})
	}
	return out, nil
}
