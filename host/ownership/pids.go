package ownership

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// NotOwnerError says that another member owns a target, and is to be asked.
type NotOwnerError struct {
	Node   string
	Member string // empty: nobody owns it yet
}

func (e *NotOwnerError) Error() string {
	if e.Member == "" {
		return fmt.Sprintf("%s: no member is attached to it", e.Node)
	}
	return fmt.Sprintf("%s: member %s is attached to it", e.Node, e.Member)
}

const (
	// sweepEvery is how often monitors are ended that no entry needs any more.
	sweepEvery = 30 * time.Second
	// adoptFor is how long what an earlier life of this member had registered is
	// kept for the case that it becomes the owner of the target again.
	adoptFor = 10 * time.Minute
	// atOnce is how many processes are asked after at a time.
	atOnce = 8
)

// pids are the registry's entries of processes on the targets that this member
// owns.
type pids struct {
	*Ownership
	wake chan struct{}

	mu      sync.Mutex
	watched map[registry.Owner]*watched
	looks   map[string]look // by node
	adopted map[string][]registry.Entry
	until   time.Time // of adopted
}

// watched is the monitor of one process.
type watched struct {
	ready  chan struct{} // closed with cancel or err set
	cancel func()
	err    error
	users  int // registrations under way
}

func newPids(o *Ownership) *pids {
	return &pids{
		Ownership: o, wake: make(chan struct{}, 1),
		watched: map[registry.Owner]*watched{}, looks: map[string]look{}, adopted: map[string][]registry.Entry{},
	}
}

// Register is the registry's Register for a claim whose owner is a process of a
// target that this member owns; it is a *NotOwnerError otherwise. The owner's
// node may be a short name. Without a creation, its pid may be a registered
// name. The entry goes when the process ends.
func (o *Ownership) Register(ctx context.Context, c registry.Claim) (registry.Entry, error) {
	full, owner, err := o.Find(c.Owner.Node)
	if err != nil {
		return registry.Entry{}, err
	}
	if owner != o.cfg.Member {
		return registry.Entry{}, &NotOwnerError{Node: full, Member: owner}
	}
	pid, creation, err := o.targets.ResolvePid(ctx, full, c.Owner.Pid)
	if err != nil {
		return registry.Entry{}, err
	}
	if c.Owner.Creation != 0 {
		creation = c.Owner.Creation
	}
	c.Owner = registry.ByPid(full, pid, creation)
	return o.pids.register(ctx, c)
}

// register monitors the owner and registers the claim.
func (p *pids) register(ctx context.Context, c registry.Claim) (registry.Entry, error) {
	if err := p.hold(ctx, c.Owner); err != nil {
		return registry.Entry{}, err
	}
	defer p.letGo(c.Owner)
	e, err := p.cfg.Registry.Register(ctx, c)
	if err == nil && !p.holds(c.Owner) { // it has ended meanwhile
		p.cfg.Registry.Drop(c.Owner)
		return registry.Entry{}, fmt.Errorf("register %q for %s: %w", c.Key, c.Owner, target.ErrNoProcess)
	}
	return e, err
}

// hold monitors a process; letGo is called when its entries are registered.
func (p *pids) hold(ctx context.Context, owner registry.Owner) error {
	for {
		p.mu.Lock()
		w := p.watched[owner]
		if w == nil {
			w = &watched{ready: make(chan struct{}), users: 1}
			p.watched[owner] = w
			p.mu.Unlock()
			return p.monitor(ctx, owner, w)
		}
		w.users++
		p.mu.Unlock()
		select {
		case <-w.ready:
			if w.err == nil {
				return nil
			}
			// The attempt of another caller, whose time may have been over.
		case <-ctx.Done():
			p.letGo(owner)
			return ctx.Err()
		}
	}
}

// monitor is the first one's part of hold.
func (p *pids) monitor(ctx context.Context, owner registry.Owner, w *watched) error {
	cancel, err := p.targets.MonitorPid(ctx, owner.Node, owner.Pid, owner.Creation, func(reason string) {
		p.mu.Lock()
		if p.watched[owner] == w {
			delete(p.watched, owner)
		}
		p.mu.Unlock()
		if n := p.cfg.Registry.Drop(owner); n > 0 {
			p.cfg.Log.WithField("node", owner.Node).WithField("pid", owner.Pid).WithField("reason", reason).Debug("process ended, its names are free")
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	w.cancel, w.err = cancel, err
	if err != nil && p.watched[owner] == w {
		delete(p.watched, owner)
	}
	close(w.ready)
	return err
}

// holds tells whether the process is monitored, and so has not ended.
func (p *pids) holds(owner registry.Owner) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watched[owner] != nil
}

func (p *pids) letGo(owner registry.Owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.watched[owner]; w != nil {
		w.users--
	}
}

// sweep ends the monitors of processes that have no entry any more.
func (p *pids) sweep() {
	p.mu.Lock()
	owners := slices.Collect(maps.Keys(p.watched))
	p.mu.Unlock()
	bare := map[registry.Owner]bool{}
	for _, o := range owners {
		bare[o] = len(p.cfg.Registry.Keys(o)) == 0
	}
	p.cancel(func(o registry.Owner, w *watched) bool { return w.users == 0 && bare[o] })
}

func (p *pids) cancelAll() {
	p.cancel(func(registry.Owner, *watched) bool { return true })
}

// cancel ends the monitors that match. A registration of a process whose monitor
// is ended meanwhile fails, as if the process had ended.
func (p *pids) cancel(match func(registry.Owner, *watched) bool) {
	p.mu.Lock()
	var over []*watched
	maps.DeleteFunc(p.watched, func(o registry.Owner, w *watched) bool {
		select {
		case <-w.ready:
		default:
			return false // monitor is under way
		}
		if !match(o, w) {
			return false
		}
		over = append(over, w)
		return true
	})
	p.mu.Unlock()
	for _, w := range over {
		w.cancel()
	}
}
