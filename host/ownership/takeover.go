package ownership

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// When the registry is gone over for entries of a node's processes, each pause
// after the one before: when the node has been attached to, or another member
// says that it has some, since entries may still be on their way; and when it was
// let go of, until the new owner has them, or, with the last look, are dropped.
var (
	takeLooks = []time.Duration{0, time.Second, 4 * time.Second, 10 * time.Second}
	giveLooks = []time.Duration{0, time.Second, 4 * time.Second, 10 * time.Second, 15 * time.Second}
)

// look is the next time to go over a node's entries.
type look struct {
	at   time.Time
	step int  // of takeLooks or giveLooks
	take bool // or give
}

// Adopt is told what the registry's OnAdoptable is. The entries of processes
// are registered again, with their age, once this member owns their targets; it
// returns the others.
func (o *Ownership) Adopt(entries []registry.Entry) (others []registry.Entry) {
	p := o.pids
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range entries {
		if e.Owner.Kind != registry.OwnerPid {
			others = append(others, e)
			continue
		}
		p.adopted[e.Owner.Node] = append(p.adopted[e.Owner.Node], e)
		p.until = time.Now().Add(adoptFor)
		if mine, _ := o.Owned(e.Owner.Node); mine {
			p.schedule(e.Owner.Node, true)
		}
	}
	return others
}

// attached has the node's entries taken over.
func (p *pids) attached(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.schedule(node, true)
}

// released has our entries of the node go when another member has them.
func (p *pids) released(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.schedule(node, false)
}

func (p *pids) schedule(node string, take bool) {
	after := giveLooks[0]
	if take {
		after = takeLooks[0]
	}
	p.looks[node] = look{at: time.Now().Add(after), take: take}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// watch hears of entries that another member has and this one may take over.
func (p *pids) watch(ctx context.Context) {
	for c := range p.cfg.Registry.Watch(ctx, handoverPrefix) {
		if c.Type != registry.Put || c.Entry.Origin == p.cfg.Member {
			continue
		}
		node := strings.TrimPrefix(c.Entry.Key, handoverPrefix)
		if mine, _ := p.Owned(node); mine {
			p.attached(node)
		}
	}
}

// run goes over entries when it is time to, until ctx ends.
func (p *pids) run(ctx context.Context) {
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	swept := time.Now()
	for {
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ctx.Done():
			p.cancelAll()
			return
		}
		now := time.Now()
		due, next := p.due(now)
		p.over(ctx, due)
		if now.Sub(swept) >= sweepEvery {
			p.sweep()
			swept = now
		}
		timer.Reset(min(sweepEvery, max(time.Until(next), time.Millisecond)))
	}
}

// due takes out the looks that are due, puts the ones after them in their place,
// and returns when the next one is.
func (p *pids) due(now time.Time) (due map[string]look, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due, next = map[string]look{}, now.Add(sweepEvery)
	if now.After(p.until) {
		clear(p.adopted)
	}
	for node, l := range p.looks {
		if !now.Before(l.at) {
			due[node] = l
			steps := giveLooks
			if l.take {
				steps = takeLooks
			}
			if l.step++; l.step == len(steps) {
				delete(p.looks, node)
				continue
			}
			l.at = now.Add(steps[l.step])
			p.looks[node] = l
		}
		if l.at.Before(next) {
			next = l.at
		}
	}
	return due, next
}

// over goes over the entries of the processes of the nodes.
func (p *pids) over(ctx context.Context, due map[string]look) {
	if len(due) == 0 {
		return
	}
	found := map[string][]registry.Entry{}
	for e := range p.cfg.Registry.Select("", func(e registry.Entry) bool { return e.Owner.Kind == registry.OwnerPid }) {
		if _, ok := due[e.Owner.Node]; ok {
			found[e.Owner.Node] = append(found[e.Owner.Node], e)
		}
	}
	for node, l := range due {
		if mine, _ := p.Owned(node); mine != l.take {
			continue // another look is on its way
		}
		if !l.take {
			p.give(node, found[node], l.step == len(giveLooks)-1)
			continue
		}
		p.mu.Lock()
		adopted := p.adopted[node]
		p.mu.Unlock()
		p.offerNothing(node)
		p.take(ctx, node, slices.Concat(found[node], p.cfg.Registry.Orphans(node), adopted))
	}
}

// take makes the entries of living processes ours.
func (p *pids) take(ctx context.Context, node string, entries []registry.Entry) {
	byOwner := map[registry.Owner][]registry.Entry{}
	for _, e := range entries {
		byOwner[e.Owner] = append(byOwner[e.Owner], e)
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for owner, entries := range byOwner {
		if mine, _ := p.Owned(node); !mine || ctx.Err() != nil {
			break
		}
		g.Go(func() error { return p.takeProcess(ctx, owner, entries) })
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		p.cfg.Log.WithField("node", node).WithField("err", err).Warn("names of processes not taken over, trying again")
		p.mu.Lock()
		defer p.mu.Unlock()
		if l, ok := p.looks[node]; !ok || l.take {
			p.looks[node] = look{at: time.Now().Add(tryLater), step: 1, take: true}
		}
	}
}

// takeProcess makes the entries of one process ours, unless it has ended.
func (p *pids) takeProcess(ctx context.Context, owner registry.Owner, entries []registry.Entry) error {
	ours := map[string]bool{}
	for _, e := range entries {
		if e.Origin == p.cfg.Member {
			ours[e.Key] = p.current(e)
		}
	}
	err := p.hold(ctx, owner)
	switch {
	case errors.Is(err, target.ErrNoProcess):
		p.cfg.Registry.Drop(owner)
		return nil
	case errors.Is(err, target.ErrNotAttached), errors.Is(err, target.ErrNoTarget):
		return nil // whoever attaches next looks again
	case err != nil:
		return err
	}
	defer p.letGo(owner)
	for _, e := range entries {
		if ours[e.Key] {
			continue
		}
		// Of two claims of one age the later registration stays: ours.
		c := registry.Claim{Key: e.Key, Value: e.Value, Owner: owner, Duplicate: e.Duplicate, Claimed: e.Claimed}
		if _, err := p.cfg.Registry.Register(ctx, c); err != nil {
			p.cfg.Log.WithField("key", e.Key).WithField("err", err).Info("name of a process not taken over")
			continue
		}
		ours[e.Key] = true
	}
	if !p.holds(owner) {
		p.cfg.Registry.Drop(owner)
	}
	return nil
}

// current tells whether an entry of this member's is in force: one that was
// adopted is of an earlier life.
func (p *pids) current(e registry.Entry) bool {
	for _, o := range p.cfg.Registry.All(e.Key) {
		if o.Origin == e.Origin && o.Owner == e.Owner {
			return true
		}
	}
	return false
}

// give takes back our entries of a node that another member owns, once that has
// them, and until then says that there are some; with the last look, all go.
func (p *pids) give(node string, entries []registry.Entry, last bool) {
	left := false
	for _, e := range entries {
		if e.Origin != p.cfg.Member {
			continue
		}
		theirs := slices.ContainsFunc(entries, func(o registry.Entry) bool {
			return o.Origin != e.Origin && o.Key == e.Key && o.Owner == e.Owner
		})
		if theirs || last {
			_, _ = p.cfg.Registry.Unregister(e.Key, &e.Owner) // gone already is as well
		} else {
			left = true
		}
	}
	if left {
		c := registry.Claim{Key: handoverPrefix + node, Owner: p.self, Duplicate: true}
		if _, err := p.cfg.Registry.Register(context.Background(), c); err != nil {
			p.cfg.Log.WithField("node", node).WithField("err", err).Warn("names of processes not handed over")
		}
		return
	}
	p.offerNothing(node)
	if last {
		p.cancel(func(o registry.Owner, _ *watched) bool { return o.Node == node })
	}
}

// offerNothing takes back that there are entries to take over.
func (p *pids) offerNothing(node string) {
	_, _ = p.cfg.Registry.Unregister(handoverPrefix+node, &p.self) // most often there is none
}
