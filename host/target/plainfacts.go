package target

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// plainFacts gathers what plain calls tell: mailboxes, memory, limits, and what
// nodes should agree on.
func (t *target) plainFacts(ctx context.Context, link *node.Peer, q DiagnoseQuery) (*facts, error) {
	f := &facts{node: link.Name(), rows: t.rows(link)}
	f.skipped = []string{"without the helper module only mailboxes, memory, limits, versions and connections are looked at"}
	ask := func(module, function string, args ...etf.Term) etf.Tuple {
		return etf.Tuple{etf.Atom(module), etf.Atom(function), etf.List(args)}
	}
	info := func(item etf.Atom) etf.Tuple { return ask("erlang", "system_info", item) }
	before, err := t.several(ctx, link, info("atom_count"), ask("erlang", "loaded"))
	if err != nil {
		return nil, err
	}
	f.atomsBefore = count(before[0])
	start := time.Now()
	first, err := t.plainLook(ctx, link, q)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(q.Window - time.Since(start)):
	case <-ctx.Done():
		return nil, t.timedOut(ctx, link, ctx.Err())
	}
	f.between = time.Since(start)
	second, err := t.plainLook(ctx, link, q)
	if err != nil {
		return nil, err
	}
	for i, p := range second {
		before, known := first[i]
		if !known {
			before = p // it was not among the highest before: nothing is known of its growth
		}
		s := subject{p.Pid, p.RegisteredName, p.CurrentFunction}
		if i.sort == ByMemory {
			f.growth = append(f.growth, changeFact{s, p.Memory, before.Memory})
		} else {
			f.queues = append(f.queues, changeFact{s, p.MessageQueueLen, before.MessageQueueLen})
		}
	}
	now, err := t.several(ctx, link,
		info("otp_release"), info("schedulers_online"), info("process_count"), info("process_limit"), info("port_count"), info("port_limit"),
		info("atom_count"), info("atom_limit"),
		ask("application", "loaded_applications"), ask("erlang", "nodes", etf.Atom("connected")), ask("erlang", "nodes", etf.Atom("known")), ask("erlang", "loaded"))
	if err != nil {
		return nil, err
	}
	f.state = NodeState{OTPRelease: text(now[0]), Connected: atoms(now[9]), Known: slices.DeleteFunc(atoms(now[10]), func(n string) bool { return n == f.node || n == "nonode@nohost" }), Apps: map[string]string{}}
	f.modules = uint64(max(0, len(atoms(now[11]))-len(atoms(before[1]))))
	f.schedulers = count(now[1])
	f.limits = []limitFact{{"processes", count(now[2]), count(now[3])}, {"ports", count(now[4]), count(now[5])}, {"atoms", count(now[6]), count(now[7])}}
	if total, err := t.call(ctx, link, "erlang", "memory", etf.Atom("total")); err == nil { // some nodes do not count
		f.memory = &memoryFact{total: count(total), before: count(total)}
	}
	apps, _ := etf.Elements(now[8])
	for _, a := range apps {
		if e, ok := a.(etf.Tuple); ok && len(e) == 3 {
			f.state.Apps[atom(e[0])] = text(e[2])
		}
	}
	return f, nil
}

// several calls functions that take no time, one after the other.
func (t *target) several(ctx context.Context, link *node.Peer, asked ...etf.Tuple) ([]etf.Term, error) {
	out := make([]etf.Term, len(asked))
	for i, a := range asked {
		args, _ := etf.Elements(a[2])
		reply, err := t.call(ctx, link, atom(a[0]), atom(a[1]), args...)
		if err != nil {
			return nil, fmt.Errorf("diagnose %s: %w", link.Name(), err)
		}
		out[i] = reply
	}
	return out, nil
}

// looked is a process in one of the two rankings.
type looked struct {
	sort Sort
	pid  string
}

// plainLook returns the processes with the most memory and the longest queues.
func (t *target) plainLook(ctx context.Context, link *node.Peer, q DiagnoseQuery) (map[looked]Process, error) {
	out := map[looked]Process{}
	for _, sort := range []Sort{ByMemory, ByMessageQueueLen} {
		c := &collector{rank: true}
		ranking := ProcessQuery{Sort: sort, Limit: 2 * q.Limit}
		if err := t.plain(ctx, link, ranking, c); err != nil {
			return nil, err
		}
		for _, p := range Rank(c.rows, ranking) {
			out[looked{sort, p.Pid}] = p
		}
	}
	return out, nil
}
