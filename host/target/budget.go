package target

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/node"
)

// Budget bounds what the asking may cost one target. A field that is not above
// zero means its default.
type Budget struct {
	// Bytes are how many a second the target may be made to send. The next part
	// of a large answer is asked for when the parts before it are paid for; small
	// questions never wait. Default 32 MB.
	Bytes int
	// Rows are how many one answer may have; it is cut there, and says so with an
	// ErrCut beside its rows. Default a million.
	Rows int
	// Share is how much of one scheduler a walk over the target's processes may
	// take, in percent; default and at most 100.
	Share int
}

func (b Budget) withDefaults() Budget {
	if b.Bytes <= 0 {
		b.Bytes = 32 << 20
	}
	if b.Rows <= 0 {
		b.Rows = 1_000_000
	}
	if b.Share <= 0 {
		b.Share = 100
	}
	b.Share = min(b.Share, 100)
	return b
}

// burst is what may be had at once, as time of the rate.
const burst = time.Second

// bucket is the account of one target's bytes. It is a function of times and
// counts; the zero value is full.
type bucket struct {
	owed float64 // bytes beyond the burst when positive
	at   time.Time
}

// take pays for n bytes, at a rate of so many a second, and returns how long the
// next part of an answer has to wait.
func (b *bucket) take(now time.Time, n, rate int) time.Duration {
	full := -float64(rate) * burst.Seconds()
	if b.at.IsZero() {
		b.owed = full
	} else {
		b.owed -= now.Sub(b.at).Seconds() * float64(rate)
	}
	b.owed, b.at = max(b.owed, full)+float64(n), now
	if b.owed <= 0 {
		return 0
	}
	return time.Duration(b.owed / float64(rate) * float64(time.Second))
}

// pacer holds back what asks for parts of large answers.
type pacer struct {
	mu     sync.Mutex
	bucket bucket
	link   *node.Peer
	seen   int64 // bytes of link that are paid for
}

// due pays for what the connection has brought since the last time.
func (p *pacer) due(now time.Time, link *node.Peer, rate int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != link {
		p.link, p.seen = link, 0
	}
	in := max(link.Stats().BytesIn, p.seen)
	wait := p.bucket.take(now, int(in-p.seen), rate)
	p.seen = in
	return wait
}

// pace waits until the target may be asked for the next part of a large answer,
// which what it sends to others of ours counts for too. It is called before a
// call takes its place among those under way, and where nothing else waits.
func (t *target) pace(ctx context.Context, link *node.Peer) error {
	for first := true; ; first = false {
		wait := t.pacer.due(time.Now(), link, t.m.budget().Bytes)
		if wait == 0 {
			return nil
		}
		if first {
			t.cost.note(func(c *Cost) { c.Slowed++ })
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-link.Done():
			timer.Stop()
			return link.Err()
		case <-ctx.Done():
			timer.Stop()
			return overBudget(ctx, link, t.m.budget().Bytes)
		}
	}
}

// overBudget is the error of a question whose time was over while it waited for
// the budget.
func overBudget(ctx context.Context, link *node.Peer, rate int) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(context.Cause(ctx), ErrTimeout) {
		return ctx.Err()
	}
	return hint(fmt.Errorf("%s: %w: it may be made to send %d bytes a second", link.Name(), errSlow, rate),
		"[targets] bytes_per_second is the budget; ask for less, or wait longer with --timeout")
}

// errSlow is an ErrTimeout for which the target is not to blame.
var errSlow = &Kind{ErrTimeout.code, "not answered in time"}

// ErrCut means that an answer has no more rows since its budget ends there. The
// rows before it are good.
var ErrCut = &Kind{"cut", "cut by the budget"}

// cut is the mark of an answer that lost rows, of how many in all where that is
// known (else 0).
func (t *target) cut(node string, rows, of int) NodeError {
	t.cost.note(func(c *Cost) { c.Cut++ })
	text := fmt.Sprintf("%d rows", rows)
	if of > 0 {
		text = fmt.Sprintf("%d of %d rows", rows, of)
	}
	return NodeError{node, hint(fmt.Errorf("answer of %s: %w after %s", node, ErrCut, text),
		"[targets] max_rows is the budget of one answer; filters and limits make it smaller")}
}

// within returns as many of the rows as the budget has left, and takes them from it;
// whole is false where that is not all.
func within(left *int, rows []Process) (some []Process, whole bool) {
	some = rows[:min(len(rows), *left)]
	*left -= len(some)
	return some, len(some) == len(rows)
}

// most bounds the rows of a list.
func (t *target) most(limit int) int { return min(limit, t.m.budget().Rows) }

// listed is an answer that is a list of rows, of so many in all.
type listed interface{ listed() (rows, of int) }

// settle counts the rows of an answer, and marks it where the budget cut it.
func (t *target) settle(node string, answer any, failed func(NodeError)) {
	list, ok := answer.(listed)
	if !ok {
		return
	}
	rows, of := list.listed()
	t.cost.rows(rows)
	if rows < of && rows >= t.m.budget().Rows {
		failed(t.cut(node, rows, of))
	}
}

func (a Tables) listed() (rows, of int) { return len(a.Tables), a.Total }
func (a Names) listed() (rows, of int)  { return len(a.Names), a.Total }
func (a Ports) listed() (rows, of int)  { return len(a.Ports), a.Total }
func (a Mnesia) listed() (rows, of int) { return len(a.Tables), a.Total }
func (a Timers) listed() (rows, of int) { return len(a.Owners), len(a.Owners) }
func (a Snapshot) listed() (rows, of int) {
	rows = len(a.Processes) + len(a.Groups) + len(a.Tables)
	return rows, rows
}
func (a Groups) listed() (rows, of int) {
	rows, of = len(a.Groups), len(a.Groups)
	for _, s := range a.Scopes {
		of += int(s.Total - min(s.Total, s.Seen))
	}
	return rows, of
}
