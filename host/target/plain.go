package target

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// plainBatch is how many processes one plain call looks at: its answer takes a
// few hundred kilobytes at most.
const plainBatch = 1000

// rowItems are the process_info items of a row, in the order of a row.
var rowItems = etf.List{
	etf.Atom("registered_name"), etf.Atom("memory"), etf.Atom("reductions"), etf.Atom("message_queue_len"),
	etf.Atom("current_function"), etf.Atom("initial_call"), etf.Atom("status"), etf.Atom("group_leader"),
}

// plain does what the agent does, with calls of functions that every node has:
// where loading code is forbidden. All pids cross the wire, and eight items for
// each, so it is slower; the answer is the same but for initial_call, which
// stays proc_lib:init_p/5 where reading the dictionary would be needed.
func (t *target) plain(ctx context.Context, link *node.Peer, q ProcessQuery, c *collector) error {
	match, err := t.plainFilter(ctx, link, q)
	if err != nil {
		return err
	}
	reply, err := t.call(ctx, link, "erlang", "processes")
	if err != nil {
		return err
	}
	pids, ok := etf.Elements(reply)
	if !ok {
		return fmt.Errorf("list processes of %s: got %s", link.Name(), printed(reply))
	}
	var before map[string]uint64
	var between time.Duration
	if q.Window > 0 {
		start := time.Now()
		if before, err = t.plainMeasure(ctx, link, pids, q); err != nil {
			return err
		}
		between = time.Since(start)
	}
	most := t.m.budget().Rows
	left, wanted := most, q.Limit+q.Offset
	best := ProcessQuery{Sort: q.Sort, Window: q.Window, Limit: min(wanted, most)}
	var top []Process
	for batch := range slices.Chunk(pids, plainBatch) {
		rows, err := t.plainRows(ctx, link, batch, match)
		if err != nil {
			return err
		}
		if q.Window > 0 {
			rows = grown(rows, before, q.Sort, between)
		}
		if q.Limit > 0 { // keep only what can still be in the answer
			top = Rank(append(top, rows...), best)
			continue
		}
		some, whole := within(&left, rows)
		t.cost.rows(len(some))
		if err := c.add(some); err != nil {
			return err
		}
		if !whole {
			c.failed(t.cut(link.Name(), most, 0))
			return nil
		}
	}
	if q.Limit == 0 {
		return nil
	}
	t.cost.rows(len(top))
	if wanted > most && len(top) == most {
		c.failed(t.cut(link.Name(), most, 0))
	}
	return c.add(top)
}

// plainMeasure takes the first look of a window and waits it out.
func (t *target) plainMeasure(ctx context.Context, link *node.Peer, pids []etf.Term, q ProcessQuery) (map[string]uint64, error) {
	start := time.Now()
	before := make(map[string]uint64, len(pids))
	for batch := range slices.Chunk(pids, plainBatch) {
		infos, err := t.processInfos(ctx, link, batch, etf.Atom(q.Sort))
		if err != nil {
			return nil, err
		}
		for i, info := range infos {
			if e, ok := info.(etf.Tuple); ok && len(e) == 2 {
				before[pidText(batch[i].(etf.Pid))] = count(e[1])
			}
		}
	}
	timer := time.NewTimer(q.Window - time.Since(start))
	defer timer.Stop()
	select {
	case <-timer.C:
		return before, nil
	case <-ctx.Done():
		return nil, t.timedOut(ctx, link, ctx.Err())
	}
}

// grown keeps the rows that were there before, with their rate.
func grown(rows []Process, before map[string]uint64, sort Sort, between time.Duration) []Process {
	out := rows[:0]
	for _, p := range rows {
		v0, ok := before[p.Pid]
		if !ok {
			continue
		}
		v := p.Memory
		switch sort {
		case ByReductions:
			v = p.Reductions
		case ByMessageQueueLen:
			v = p.MessageQueueLen
		}
		p.Rate = max(0, float64(v)-float64(v0)) / between.Seconds()
		out = append(out, p)
	}
	return out
}

// plainRows reads one row for each process that is alive and matches.
func (t *target) plainRows(ctx context.Context, link *node.Peer, pids []etf.Term, match func(Process, etf.Term) bool) ([]Process, error) {
	infos, err := t.processInfos(ctx, link, pids, rowItems)
	if err != nil {
		return nil, err
	}
	reader := t.rows(link)
	rows := make([]Process, 0, len(infos))
	for i, info := range infos {
		items, ok := etf.Elements(info)
		if !ok { // undefined: it has ended
			continue
		}
		row := etf.Tuple{pids[i]}
		for _, item := range items {
			e, ok := item.(etf.Tuple)
			if !ok || len(e) != 2 {
				return nil, fmt.Errorf("read process_info of %s: got %s", link.Name(), printed(info))
			}
			row = append(row, e[1])
		}
		if len(row) != len(rowItems)+1 {
			return nil, fmt.Errorf("read process_info of %s: got %s", link.Name(), printed(info))
		}
		leader := row[len(row)-1]
		row[len(row)-1] = etf.Int(0) // the place of the rate
		p, err := reader.row(row)
		if err != nil {
			return nil, err
		}
		if match(p, leader) {
			rows = append(rows, p)
		}
	}
	return rows, nil
}

// processInfos runs process_info(Pid, items) for each pid, in one call.
func (t *target) processInfos(ctx context.Context, link *node.Peer, pids []etf.Term, items etf.Term) ([]etf.Term, error) {
	all := make(etf.List, len(pids))
	for i, p := range pids {
		if _, ok := p.(etf.Pid); !ok {
			return nil, fmt.Errorf("list processes of %s: got %s", link.Name(), printed(p))
		}
		all[i] = items
	}
	if err := t.pace(ctx, link); err != nil {
		return nil, err
	}
	info := etf.Export{Module: "erlang", Function: "process_info", Arity: 2}
	reply, err := t.call(ctx, link, "lists", "zipwith", info, etf.List(pids), all)
	if err != nil {
		return nil, err
	}
	infos, ok := etf.Elements(reply)
	if !ok || len(infos) != len(pids) {
		return nil, fmt.Errorf("read process_info of %s: got %s", link.Name(), printed(reply))
	}
	return infos, nil
}

// plainMaster is the process that leads an application's group; undefined for
// one that does not run. It makes no atom of the name on the target.
func (t *target) plainMaster(ctx context.Context, link *node.Peer, application string) (etf.Term, error) {
	name, err := t.existingAtom(ctx, link, application)
	if err != nil || name == nil {
		return etf.Atom("undefined"), err
	}
	return t.call(ctx, link, "application_controller", "get_master", name)
}

// plainFilter is the query's filter on this side of the wire.
func (t *target) plainFilter(ctx context.Context, link *node.Peer, q ProcessQuery) (func(Process, etf.Term) bool, error) {
	var master etf.Term
	if q.Application != "" {
		var err error
		if master, err = t.plainMaster(ctx, link, q.Application); err != nil {
			return nil, err
		}
	}
	has := func(s, part string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(part)) }
	function := func(p Process, text string) bool { return has(p.CurrentFunction, text) || has(p.InitialCall, text) }
	q.Filter, q.Function = erlangCall(q.Filter), erlangCall(q.Function)
	var only string
	if id, serial, err := etf.ParsePid(q.Filter); err == nil {
		only = pidText(etf.Pid{ID: id, Serial: serial})
	}
	return func(p Process, leader etf.Term) bool {
		switch {
		case q.Application != "" && !etf.Equal(leader, master):
			return false
		case q.Function != "" && !function(p, q.Function):
			return false
		case only != "":
			return p.Pid == only
		case q.Filter != "":
			return has(p.RegisteredName, q.Filter) || function(p, q.Filter)
		}
		return true
	}, nil
}
