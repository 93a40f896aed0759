package supervisor

import (
	"context"
	"time"

	"github.com/debughost/debughost/host/cluster"
)

// Times for which a member starts nothing, since others may know better.
const (
	joinMin   = 300 * time.Millisecond  // after it has started, where there are others
	joinMax   = 1500 * time.Millisecond // after it has started, at most, where it sees no other
	joinLong  = 10 * time.Second        // likewise, where it does, and they have more to tell
	holdJoin  = 500 * time.Millisecond  // after another one came into sight
	holdGap   = time.Second             // after it was frozen
	holdMax   = 1500 * time.Millisecond // whatever comes together
	gap       = time.Second             // a pause of the clock's goroutine that counts as frozen
	lookEvery = 100 * time.Millisecond
)

// syncing is whether this member knows what those in sight know. The caller of
// its methods has the Supervisor's mu.
type syncing struct {
	began  bool // it has, once
	hold   time.Duration
	since  time.Duration // of the hold that goes on
	usable map[string]bool
}

// pause has the member wait.
func (y *syncing) pause(now, d time.Duration) {
	if now >= y.hold {
		y.since = now
	}
	y.hold = min(max(y.hold, now+d), y.since+holdMax)
}

// look tells the core who is there. It is called when the members change, and
// again and again.
func (s *Supervisor) look() {
	members := s.cfg.Members()
	quorum := s.cfg.Quorum()
	caughtUp := s.cfg.Registry.CaughtUp()
	if caughtUp && s.heardAll.CompareAndSwap(false, true) {
		s.hearAll() // before it is taken for one that knows what they know
	}
	var back bool
	s.do(func(c *core, now instant) {
		peers := map[string]peer{s.cfg.Member: {}}
		for _, m := range members {
			peers[m.Name] = peer{
				up:     m.State != cluster.Dead && m.State != cluster.Left,
				usable: m.State.Usable(),
			}
			if m.Name != s.cfg.Member && m.State.Usable() && !s.sync.usable[m.Name] {
				back = true
				if s.sync.began {
					s.sync.pause(now.mono, holdJoin)
				}
			}
		}
		s.sync.usable = map[string]bool{}
		for name, p := range peers {
			s.sync.usable[name] = p.usable
			p.draining = s.drains[name].On
			peers[name] = p
		}
		c.setMembers(now, peers, quorum.Has || quorum.Size <= 1, s.synced(now.mono, members, caughtUp))
	})
	if back {
		s.resync()
		s.news.Tell()
	}
}

// synced tells whether this member may decide and start.
func (s *Supervisor) synced(now time.Duration, members []cluster.Member, caughtUp bool) bool {
	if !s.cfg.Clustered {
		return true
	}
	if !s.sync.began {
		others, all, sees := 0, true, false
		for _, m := range members {
			if m.Name != s.cfg.Member && m.State != cluster.Left {
				others++
				all, sees = all && m.State.Usable(), sees || m.State.Usable()
			}
		}
		alone := others == 0 && !s.cfg.Seeded
		most := joinMax
		if sees && !caughtUp {
			most = joinLong
		}
		s.sync.began = alone || now >= most || others > 0 && all && caughtUp && now >= joinMin
	}
	return s.sync.began && now >= s.sync.hold
}

// clock looks at the time and the members. A long pause in it means that this
// member, or its machine, was frozen: others may have taken its children then.
func (s *Supervisor) clock(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	last, swept, changed := time.Now(), time.Now(), s.cfg.Changed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			changed = s.cfg.Changed()
		case <-timer.C:
		}
		now := time.Now()
		// The monotonic clock stands still while a machine is suspended.
		if frozen := max(now.Sub(last), now.Round(0).Sub(last.Round(0))); frozen > gap {
			s.mu.Lock()
			s.sync.pause(now.Sub(s.began), holdGap)
			s.mu.Unlock()
			if s.cfg.Clustered && now.Sub(last) > gap {
				s.cfg.Log.WithField("for", frozen).Warn("this member stood still; it looks what others have done before it goes on")
			}
		}
		last = now
		s.mergeDrains()
		s.look()
		wait := lookEvery
		s.do(func(c *core, now instant) {
			c.tick(now)
			if at, ok := c.due(); ok {
				wait = min(wait, max(at-now.mono, time.Millisecond))
			}
		})
		if now.Sub(swept) > time.Minute {
			swept = now
			s.do(func(c *core, now instant) { c.sweep(now) })
			s.resync()
		}
		timer.Reset(wait)
	}
}

// Leave has everything of this member stopped, and says so, so that others start
// it when this member is gone. It returns when nothing runs here, or ctx ends.
func (s *Supervisor) Leave(ctx context.Context) error {
	s.do(func(c *core, now instant) { c.leave(now) })
	for {
		news := s.news.Next()
		s.mu.Lock()
		idle := s.core.idle()
		s.mu.Unlock()
		if idle {
			return s.flush(ctx)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flush returns when all that the core wanted so far has been begun.
func (s *Supervisor) flush(ctx context.Context) error {
	done := make(chan struct{})
	s.do(func(c *core, _ instant) { c.do(action{kind: doSignal, signal: done}) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
