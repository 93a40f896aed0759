package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// leaveTimeout bounds a goodbye.
const leaveTimeout = 5 * time.Second

type leaveRequest struct {
	ctx  context.Context
	done chan error // has room for one
}

// Leave says goodbye: the others see this member as left, at once, and do not
// count it any more. It goes on answering until Run ends. An error means that
// the goodbye may not have reached anybody.
func (c *Cluster) Leave(ctx context.Context) error {
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	if !running {
		return fmt.Errorf("leave cluster: %w", ErrNotRunning)
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	l := leaveRequest{ctx: ctx, done: make(chan error, 1)}
	select {
	case c.leaving <- l:
	case <-ctx.Done():
		return fmt.Errorf("leave cluster: %w", ctx.Err())
	}
	select {
	case err := <-l.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("leave cluster: %w", ctx.Err())
	}
}

// goodbye is called by Run.
func (c *Cluster) goodbye(ctx context.Context, list *memberlist.Memberlist) error {
	c.left()
	wait := leaveTimeout
	if until, ok := ctx.Deadline(); ok {
		wait = max(time.Until(until), time.Millisecond)
	}
	if err := list.Leave(wait); err != nil {
		return fmt.Errorf("leave cluster: %w", err)
	}
	return nil
}

// left stops attempts to join, and says so in Self.
func (c *Cluster) left() {
	c.update(func(t *table, now time.Time) {
		if t.self.State != Left {
			t.self.State, t.self.Since, t.changed = Left, now, true
		}
	})
}

// Forget removes a member that is dead or has left from every member's list. It
// does not count for the quorum any more, and is not tried again. It is
// ErrUnknownMember or ErrMemberRuns where that cannot be; a member that is
// forgotten and starts again joins like a new one.
func (c *Cluster) Forget(name string) error {
	m, ok := c.Member(name)
	switch {
	case !ok:
		return fmt.Errorf("forget %.200q: %w", name, ErrUnknownMember)
	case m.Self:
		return fmt.Errorf("forget %s: it is this member: %w (stop it, and forget it from another one)", name, ErrMemberRuns)
	case m.State == Unreachable:
		return fmt.Errorf("forget %s: it is unreachable, and not known to be dead yet: %w (try again in some seconds)", name, ErrMemberRuns)
	case !m.State.gone():
		return fmt.Errorf("forget %s: it is %s at %s: %w (stop it first)", name, m.State, m.Addr, ErrMemberRuns)
	}
	c.bury(burial{name: m.Name, epoch: m.Epoch})
	if m, ok := c.Member(name); ok {
		return fmt.Errorf("forget %s: it is %s again at %s: %w", name, m.State, m.Addr, ErrMemberRuns)
	}
	return nil
}
