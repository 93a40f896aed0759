package cluster

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/debughost/debughost/host/events"
)

// hint says how a connection to a member does.
type hint struct {
	member string
	err    error // nil: it works
}

// Hint is told by whoever has a connection to a member: err, when it broke or
// could not be made; nil, when it works, as often as the caller likes. A broken
// connection has the member dialled, and it becomes unreachable where that
// fails. Hint never blocks.
func (c *Cluster) Hint(member string, err error) {
	if err == nil {
		c.update(func(t *table, now time.Time) { t.works(now, member) })
		return
	}
	select {
	case c.hints <- hint{member, err}:
	default: // gossip finds it, later
	}
}

// recheckEvery is how often an unreachable member is dialled.
const recheckEvery = 500 * time.Millisecond

// again are the pauses before a member that could be dialled is dialled again:
// a process that is being killed may close its connections before its port.
var again = []time.Duration{30 * time.Millisecond, 100 * time.Millisecond}

// clashKey is no name that a member can have.
const clashKey = "\x00clash"

// check dials members whose connections broke, those that are unreachable, and
// whoever else has this member's name, until ctx ends. One goroutine a member
// at most.
func (c *Cluster) check(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	busy := map[string]bool{}
	done := make(chan string)
	start := func(key string, f func()) {
		if busy[key] {
			return
		}
		busy[key] = true
		wg.Go(func() {
			f()
			select {
			case done <- key:
			case <-ctx.Done():
			}
		})
	}
	dial := func(name string, pauses []time.Duration) {
		if m, ok := c.Member(name); ok && !m.Self && !m.State.gone() {
			start(name, func() { c.probe(ctx, m, pauses) })
		}
	}
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-c.hints:
			dial(h.member, again)
		case x := <-c.conflicts:
			if x.name == c.cfg.Name {
				start(clashKey, func() { c.conflict(ctx, x) })
			} else {
				dial(x.name, nil)
			}
		case name := <-done:
			delete(busy, name)
		case <-tick.C:
			for _, m := range c.Members() {
				if m.State == Unreachable {
					dial(m.Name, nil)
				}
			}
			if addr := c.clashAddr(); addr != "" {
				start(clashKey, func() { c.reviewClash(ctx, addr) })
			}
		}
	}
}

// probe dials a member, several times where pauses say so, until it fails. What
// listens at its address may be its next life, of which gossip will tell.
func (c *Cluster) probe(ctx context.Context, m Member, pauses []time.Duration) {
	for i := 0; ; i++ {
		dialled, cancel := context.WithTimeout(ctx, c.times.recheck)
		conn, err := c.dial(dialled, m.Addr)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			cause := fmt.Sprintf("its connection broke, and dialling %s fails: %v", m.Addr, err)
			c.update(func(t *table, now time.Time) { t.broken(now, m.Name, m.Epoch, cause) })
			return
		}
		switch it, err := c.identify(ctx, conn); {
		case err != nil: // it listens; that it does not answer proves nothing
		case it.instance != instanceOf(m.Name, m.Epoch):
			cause := fmt.Sprintf("its connection broke, and another process listens at %s now", m.Addr)
			c.update(func(t *table, now time.Time) { t.broken(now, m.Name, m.Epoch, cause) })
			return
		case m.State == Unreachable:
			c.update(func(t *table, now time.Time) { t.reached(now, m.Name, m.Epoch) })
		}
		if i >= len(pauses) {
			return
		}
		select {
		case <-time.After(pauses[i]):
		case <-ctx.Done():
			return
		}
	}
}

// identify asks who is at the other end of a connection, and closes it.
func (c *Cluster) identify(ctx context.Context, conn net.Conn) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, c.times.dial)
	defer cancel()
	defer conn.Close()
	return ask(ctx, conn)
}

// dial connects, with an error that does not repeat the address.
func (c *Cluster) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := c.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, shortError(err)
	}
	return conn, nil
}

// conflict is a name that gossip has from two addresses.
type conflict struct {
	name     string
	had, got string // the addresses
	epoch    uint64 // of the one that got is the address of
}

// conflict looks into a clash of this member's name: it may be an earlier life
// of this member, of which gossip does not know yet that it is dead.
func (c *Cluster) conflict(ctx context.Context, x conflict) {
	ctx, cancel := context.WithTimeout(ctx, c.times.recheck)
	defer cancel()
	if _, err := c.greet(ctx, x.got); err != nil {
		return // nobody there, or not of this cluster
	}
	if x.epoch > c.cfg.Epoch {
		c.mu.Lock()
		first := c.ignored != x.got
		c.ignored = x.got
		c.mu.Unlock()
		if first {
			c.log.WithField("address", x.got).Warn("another member with this member's name tries to join, and is ignored")
		}
		return
	}
	started := time.Unix(0, int64(x.epoch)).UTC().Format(time.RFC3339)
	why := fmt.Sprintf("a member called %s runs at %s since %s: the others ignore this one (give it another name, or stop the other one)", x.name, x.got, started)
	if c.clashAddr() == x.got {
		return // told already
	}
	c.tell(events.Event{Type: events.NameConflict, Reason: why, Fields: map[string]string{"kind": "member", "member": x.name, "address": x.got}})
	c.update(func(t *table, now time.Time) { t.setClash(now, x.got, why) })
}

func (c *Cluster) clashAddr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.clashAddr
}

// reviewClash ends a clash when the older member is gone.
func (c *Cluster) reviewClash(ctx context.Context, addr string) {
	greeted, cancel := context.WithTimeout(ctx, c.times.recheck)
	defer cancel()
	if _, err := c.greet(greeted, addr); err != nil && ctx.Err() == nil {
		c.update(func(t *table, now time.Time) { t.setClash(now, "", "") })
	}
}
