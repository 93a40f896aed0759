package target

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// Cost is what this debughost has cost a target since it first attached to it.
type Cost struct {
	Since time.Time // the first attachment; zero before it

	Calls    uint64 // functions called on the target
	Failed   uint64 // of them, those that raised an exception or lost their connection
	TimedOut uint64 // of them, those whose deadline passed
	CallTime time.Duration
	Received uint64 // bytes that the target sent, ticks included
	Sent     uint64 // bytes that it was sent
	// Reductions are those of the helper's processes on the target, as they
	// measured them themselves. What plain calls take is not measured, nor what
	// the emulator does for others on their behalf.
	Reductions  uint64
	Rows        uint64 // of all answers
	LogEvents   uint64 // of the logger, handed to followers
	LogDropped  uint64 // that followers had no room for
	Collections uint64 // garbage collections that were asked for
	Slowed      uint64 // times that a call, or a part of an answer, had to wait for the budget
	Cut         uint64 // answers that lost rows to the budget of rows
}

// cost counts what one target is made to do.
type cost struct {
	mu     sync.Mutex
	n      Cost
	link   *node.Peer // the present connection, or the last
	before dist.Stats // of those before it; only the bytes
}

// meter counts reductions on the target, for as long as one keeper lives.
type meter struct {
	term etf.Term // what the helper knows it by
	seen uint64   // guarded by the cost's mu
}

// connected notes that a connection was made. What went over it before counts too.
func (c *cost) connected(link *node.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n.Since.IsZero() {
		c.n.Since = time.Now()
	}
	if c.link != nil && c.link != link {
		s := c.link.Stats()
		c.before.BytesIn += s.BytesIn
		c.before.BytesOut += s.BytesOut
	}
	c.link = link
}

// read returns what there is so far.
func (c *cost) read() Cost {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, s := c.n, c.before
	if c.link != nil {
		now := c.link.Stats()
		s.BytesIn += now.BytesIn
		s.BytesOut += now.BytesOut
	}
	n.Received, n.Sent = uint64(s.BytesIn), uint64(s.BytesOut)
	return n
}

// note changes the counts.
func (c *cost) note(change func(*Cost)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.n)
}

// rows counts rows of an answer.
func (c *cost) rows(n int) { c.note(func(c *Cost) { c.Rows += uint64(n) }) }

// call is link.Call, counted. All calls of a target go through here.
func (c *cost) call(ctx context.Context, link *node.Peer, module, function string, args ...etf.Term) (etf.Term, error) {
	began := time.Now()
	reply, err := link.Call(ctx, module, function, args...)
	took := time.Since(began)
	c.note(func(c *Cost) {
		c.Calls++
		c.CallTime += took
		switch {
		case err == nil || errors.Is(err, context.Canceled):
		case errors.Is(err, context.DeadlineExceeded):
			c.TimedOut++
		default:
			c.Failed++
		}
	})
	return reply, err
}

// spent takes in what a meter stands at: answers overtake each other.
func (c *cost) spent(m *meter, reductions uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reductions > m.seen {
		c.n.Reductions += reductions - m.seen
		m.seen = reductions
	}
}
