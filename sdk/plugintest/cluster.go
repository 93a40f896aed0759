package plugintest

import (
	"context"
	"fmt"
	"slices"

	"github.com/debughost/debughost/sdk"
)

// Cluster is a made-up cluster to try a placement strategy in: it keeps where
// each child is and tells the strategy so, as debughost would. A child uses all
// that its limits allow.
//
//	c := plugintest.Cluster{Strategy: strategy, Members: members}
//	err := c.Place(ctx, sdk.ChildSpec{ID: "box-1"})
//	c.Members = append(c.Members, another)
//	moved, err := c.Rest(ctx)
type Cluster struct {
	Strategy sdk.Placement
	// Members without their children.
	Members []sdk.Member
	// Late is how many of the children that came last do not show in the figures
	// yet, and are reserved for.
	Late int

	children []placed                // in the order in which they came to where they are
	used     map[string]sdk.Reserved // by all that each member has
}

type placed struct {
	spec sdk.ChildSpec
	at   string
}

// Place starts a child.
func (c *Cluster) Place(ctx context.Context, child sdk.ChildSpec) error {
	d, err := c.Strategy.Choose(ctx, c.request(child, ""))
	if err != nil {
		return err
	}
	c.put(child, d.Member)
	return nil
}

// Lose is the death of a member, whose children are placed anew. At the first
// that is refused it ends, and the rest of them is gone.
func (c *Cluster) Lose(ctx context.Context, member string) error {
	for i, m := range c.Members {
		if m.Name == member {
			c.Members[i].State = sdk.MemberDead
		}
	}
	var lost []placed
	for _, p := range slices.Clone(c.children) {
		if p.at == member {
			lost = append(lost, p)
			c.take(p)
		}
	}
	for _, p := range lost {
		d, err := c.Strategy.Choose(ctx, c.request(p.spec, member))
		if err != nil {
			return err
		}
		c.put(p.spec, d.Member)
	}
	return nil
}

// Rest asks for each child whether it is to move, and moves it, again and again
// until none does. It returns how many moves that took, and fails when there
// is no end to them.
func (c *Cluster) Rest(ctx context.Context) (moves int, err error) {
	const rounds = 20
	for range rounds {
		before := moves
		for _, p := range slices.Clone(c.children) {
			d, err := c.Strategy.Choose(ctx, c.request(p.spec, p.at))
			if err != nil {
				return moves, err
			}
			if d.Member != p.at {
				moves++
				c.take(p)
				c.put(p.spec, d.Member)
			}
		}
		if moves == before {
			return moves, nil
		}
	}
	return moves, fmt.Errorf("let children come to rest: they still move after each was asked for %d times, %d moves", rounds, moves)
}

// At returns where the child is, or "".
func (c *Cluster) At(id string) string {
	for _, p := range c.children {
		if p.spec.ID == id {
			return p.at
		}
	}
	return ""
}

// Count is how many children each member has.
func (c *Cluster) Count() map[string]int {
	count := make(map[string]int, len(c.Members))
	for _, p := range c.children {
		count[p.at]++
	}
	return count
}

// request is what a strategy is told of the cluster as it is.
func (c *Cluster) request(child sdk.ChildSpec, previous string) sdk.PlacementRequest {
	r := sdk.PlacementRequest{Child: child, Previous: previous, Members: slices.Clone(c.Members)}
	late := c.children[max(len(c.children)-c.Late, 0):]
	for i := range r.Members {
		m := &r.Members[i]
		use, reserved := c.used[m.Name], sdk.Reserved{}
		for _, p := range late {
			if p.at == m.Name {
				reserved = add(reserved, p.spec.Limits, 1)
				use = add(use, p.spec.Limits, -1)
			}
		}
		m.Resources.Reserved = reserved
		m.Resources.Children += use.Children
		m.Resources.MemoryAvailable -= min(use.Memory, m.Resources.MemoryAvailable)
		m.Resources.Load += max(use.CPUs, 0) // what was added and taken away again may leave a trace below zero
		for _, id := range child.Apart {
			if c.At(id) == m.Name {
				m.Children = append(slices.Clone(m.Children), id)
			}
		}
	}
	return r
}

// put is a child's coming to a member.
func (c *Cluster) put(child sdk.ChildSpec, at string) {
	if c.used == nil {
		c.used = make(map[string]sdk.Reserved)
	}
	c.children = append(c.children, placed{child, at})
	c.used[at] = add(c.used[at], child.Limits, 1)
}

// take is its leaving it.
func (c *Cluster) take(p placed) {
	i := slices.IndexFunc(c.children, func(q placed) bool { return q.spec.ID == p.spec.ID })
	c.children = slices.Delete(c.children, i, i+1)
	c.used[p.at] = add(c.used[p.at], p.spec.Limits, -1)
}

// add is what n children with these limits use more.
func add(r sdk.Reserved, limits sdk.SandboxLimits, n int) sdk.Reserved {
	r.Children += n
	r.Memory += uint64(n) * limits.Memory // wraps, and back
	r.CPUs += float64(n) * limits.CPUs
	return r
}
