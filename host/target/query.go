package target

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// Processes answers q from all its targets in parallel, each with a deadline of
// its own. Rows of a ranking come ranked, when the last target has answered or
// failed; rows of a whole table (Limit 0) come as they arrive, unranked. Each
// target that failed is told to sink once; that is not an error of the query.
func (m *Manager) Processes(ctx context.Context, q ProcessQuery, sink Sink) error {
	q, err := m.check(q)
	if err != nil {
		return err
	}
	chosen, failed := m.choose(q.Nodes)
	for _, f := range failed {
		if err := sink.Failed(f); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &collector{sink: sink, cancel: cancel, rank: q.Limit > 0}
	var wg sync.WaitGroup
	for _, t := range chosen {
		wg.Go(func() {
			link, err := t.usable()
			if err == nil {
				err = m.ask(ctx, t, link, q, c)
			}
			if err != nil {
				c.failed(NodeError{Node: t.display(), Err: err})
			}
		})
	}
	wg.Wait()
	if c.err == nil && c.rank {
		if rows := Rank(c.rows, q); len(rows) > 0 {
			c.err = sink.Rows(rows)
		}
	}
	return c.err
}

// check fills in defaults and refuses what makes no sense.
func (m *Manager) check(q ProcessQuery) (ProcessQuery, error) {
	if q.Sort == "" {
		q.Sort = ByMemory
	}
	switch {
	case !slices.Contains([]Sort{ByMemory, ByReductions, ByMessageQueueLen}, q.Sort):
		return q, hint(fmt.Errorf("sort by %q: %w", q.Sort, ErrBadQuery), "sort by memory, reductions or message_queue_len")
	case q.Limit < 0 || q.Offset < 0 || q.Window < 0 || q.Timeout < 0:
		return q, fmt.Errorf("a negative limit, offset, window or timeout: %w", ErrBadQuery)
	case q.Limit == 0 && q.Offset > 0:
		return q, hint(fmt.Errorf("an offset without a limit: %w", ErrBadQuery), "give --limit, the size of a page")
	case q.Limit == 0 && q.Window > 0:
		return q, hint(fmt.Errorf("a window without a limit: %w", ErrBadQuery), "give --limit: growth is ranked on the target")
	case q.Limit+q.Offset > m.cfg.MaxRows:
		return q, hint(fmt.Errorf("a ranking of %d rows: %w: at most %d", q.Limit+q.Offset, ErrBadQuery, m.cfg.MaxRows), "limit 0 lists all processes")
	case q.Window > time.Hour:
		return q, fmt.Errorf("a window of %v: %w: at most an hour", q.Window, ErrBadQuery)
	case q.Window > 0 && q.Window < time.Millisecond:
		return q, fmt.Errorf("a window of %v: %w: at least a millisecond", q.Window, ErrBadQuery)
	}
	return q, nil
}

// ask puts the question to one target.
func (m *Manager) ask(ctx context.Context, t *target, link *node.Peer, q ProcessQuery, c *collector) error {
	extra := q.Window
	if q.Limit == 0 {
		extra = tableTime // a table goes on as long as its parts come
	}
	if q.Timeout > 0 {
		q.Timeout += q.Window
	}
	ctx, cancel := m.deadline(ctx, q.Timeout, extra)
	defer cancel()
	var err error
	if q.Limit == 0 {
		err = t.table(ctx, link, q, c)
	} else {
		err = t.top(ctx, link, q, c)
	}
	if errors.Is(err, errNoAgent) {
		err = t.plain(ctx, link, q, c)
	}
	return err
}

// largeRanking is how many rows are not small any more: about 60 kB.
const largeRanking = 500

// top has the agent rank, and receives only the rows.
func (t *target) top(ctx context.Context, link *node.Peer, q ProcessQuery, c *collector) error {
	wanted, most := q.Limit+q.Offset, t.m.budget().Rows
	if wanted > most {
		q.Limit, q.Offset = most, 0
	}
	if wanted > largeRanking {
		if err := t.pace(ctx, link); err != nil {
			return err
		}
	}
	rows, err := t.shared(ctx, link, q)
	if err != nil {
		return err
	}
	if wanted > most && len(rows) == most {
		c.failed(t.cut(link.Name(), most, 0))
	}
	return c.add(rows)
}

// rank walks over the target's processes for the rows of a ranking.
func (t *target) rank(ctx context.Context, link *node.Peer, q ProcessQuery) ([]Process, error) {
	began := time.Now()
	reply, err := t.agentCall(ctx, link, "top", t.spec(link, q))
	if t.rhythm.walked(began.Add(q.Window), time.Now()); err != nil {
		return nil, err
	}
	e, ok := reply.(etf.Tuple)
	if !ok || len(e) != 3 {
		return nil, fmt.Errorf("rank processes on %s: got %s", link.Name(), printed(reply))
	}
	rows, err := t.rows(link).all(e[2])
	t.cost.rows(len(rows))
	return rows, err
}

// spec is the query as the agent reads it.
func (t *target) spec(link *node.Peer, q ProcessQuery) etf.Term {
	spec := etf.Map{
		{Key: etf.Atom("sort"), Value: etf.Atom(q.Sort)},
		{Key: etf.Atom("limit"), Value: etf.Int(q.Limit + q.Offset)},
		{Key: etf.Atom("window"), Value: etf.Int(q.Window / time.Millisecond)},
		{Key: etf.Atom("share"), Value: etf.Int(t.walkShare())},
	}
	add := func(key etf.Atom, value string) {
		if value != "" {
			spec = append(spec, etf.Pair{Key: key, Value: etf.Binary(value)})
		}
	}
	add("function", erlangCall(q.Function))
	add("application", q.Application)
	if id, serial, err := etf.ParsePid(q.Filter); err == nil {
		var pid etf.Term = etf.Atom("none")
		if t.possible(id, serial) {
			pid = link.Pid(id, serial)
		}
		return append(spec, etf.Pair{Key: etf.Atom("pid"), Value: pid})
	}
	add("text", erlangCall(q.Filter))
	return spec
}

// elixirCall is a function as Elixir writes it: Process.sleep/1.
var elixirCall = regexp.MustCompile(`^([A-Z]\w*(?:\.[A-Z]\w*)*)\.([a-z_]\w*[?!]?(?:/\d+)?)$`)

// erlangCall writes such a function as the nodes do, and leaves other text be.
func erlangCall(text string) string { return elixirCall.ReplaceAllString(text, "$1:$2") }

// collector gathers what the targets answer and hands it on from one goroutine
// at a time.
type collector struct {
	rank   bool // keep rows for the ranking rather than hand them on
	cancel context.CancelFunc

	mu   sync.Mutex
	sink Sink
	rows []Process
	err  error // of the sink: the query ends
}

func (c *collector) add(rows []Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.rank {
		c.rows = append(c.rows, rows...)
		return nil
	}
	if c.err = c.sink.Rows(rows); c.err != nil {
		c.cancel()
	}
	return c.err
}

func (c *collector) failed(f NodeError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if c.err = c.sink.Failed(f); c.err != nil {
		c.cancel()
	}
}
