package target_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

// owners is an Ownership that does as the test says.
type owners struct {
	mu      sync.Mutex
	mine    map[string]bool // of a node; missing: not mine
	claims  map[string]bool // that are refused
	asked   []string        // node, key of each Claim
	reports map[string][]target.Sighting
}

func newOwners(mine ...string) *owners {
	o := &owners{mine: map[string]bool{}, claims: map[string]bool{}, reports: map[string][]target.Sighting{}}
	for _, n := range mine {
		o.mine[n] = true
	}
	return o
}

func (o *owners) use(c *target.Config) { c.Ownership = o }

func (o *owners) set(node string, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mine[node] = mine
}

func (o *owners) Owned(node string) (bool, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mine[node] {
		return true, ""
	}
	return false, "member m2 is attached to it"
}

func (o *owners) Owner(node string) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mine[node] {
		return "m1", true
	}
	return "m2", true
}

func (o *owners) Claim(_ context.Context, node, key string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, node+" "+key)
	if o.claims[node] {
		return errors.New("member m2 has it")
	}
	o.mine[node] = true
	return nil
}

func (o *owners) Report(s target.Sighting) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reports[s.Key] = append(o.reports[s.Key], s)
}

func (o *owners) told(key string) []target.Sighting {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.reports[key])
}

// last waits until the last report of a target is like this.
func (o *owners) last(t *testing.T, key string, like func(target.Sighting) bool) target.Sighting {
	t.Helper()
	var s target.Sighting
	require.Eventually(t, func() bool {
		all := o.told(key)
		if len(all) == 0 {
			return false
		}
		s = all[len(all)-1]
		return like(s)
	}, 30*time.Second, 5*time.Millisecond, "reports of %s", key)
	return s
}

func (r *rig) has(t *testing.T, typ events.Type) events.Event {
	t.Helper()
	var all []events.Event
	require.Eventually(t, func() bool {
		all = r.bus.History(events.Filter{Types: []events.Type{typ}})
		return len(all) > 0
	}, 30*time.Second, 5*time.Millisecond, "no %s", typ)
	return all[len(all)-1]
}

// TestOwned has a target wait until it is ours, attach, and let go again.
func TestOwned(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		o := newOwners()
		r := newRig(t, func(c *target.Config) { cookies(b)(c); o.use(c) })
		r.SetFound("test", found(t, b))
		first := o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.Reason != "" })
		require.Equal(t, target.Discovered, first.Info.State)
		require.Equal(t, "member m2 is attached to it", first.Info.Reason)
		require.True(t, first.Local)
		require.True(t, first.Named)
		require.False(t, first.Hidden)
		require.Equal(t, addr(t, b), first.Addr)
		info := r.Targets()[0]
		require.Equal(t, "m2", info.Owner)
		_, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "init"})
		require.ErrorIs(t, err, target.ErrNotAttached)
		require.ErrorContains(t, err, "member m2 is attached to it")
		require.Empty(t, r.ps(t, target.ProcessQuery{Limit: 3}).failed, "a question to all is not about it")

		o.set(b.Name, true)
		r.Recheck()
		info = r.await(t, b.Name, target.Attached)
		require.Equal(t, "m1", info.Owner)
		require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
		require.Equal(t, loaded, loadedAgents(t, b))
		o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.Creation == info.Creation && s.Info.Agent == "loaded" })
		require.Equal(t, []string{b.Name + " " + b.Name}, o.asked)

		o.set(b.Name, false)
		r.Recheck(b.Name)
		e := r.has(t, events.TargetReleased)
		require.Equal(t, b.Name, e.Node)
		require.Equal(t, "member m2 is attached to it", e.Reason)
		b.Await(t, agents, unloaded)
		b.Await(t, "nodes(hidden)", "[]")
		o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.State == target.Discovered && s.Info.Creation == 0 })
		require.Empty(t, r.bus.History(events.Filter{Types: []events.Type{events.TargetLost}}))

		o.set(b.Name, true)
		r.Recheck("another@node", b.Name)
		require.Eventually(t, func() bool { return r.Targets()[0].State == target.Attached }, 30*time.Second, 5*time.Millisecond)
		r.stop()
		o.last(t, b.Name, func(s target.Sighting) bool { return s.Ended && s.Info.Creation == 0 })
	})
}

// TestClaimRefused has the node tell a name that another member has.
func TestClaimRefused(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	alive, _, _ := strings.Cut(b.Name, "@")
	guess := alive + "@guess"
	o := newOwners(guess)
	o.claims[b.Name] = true
	r := newRig(t, func(c *target.Config) { cookies(b)(c); o.use(c) })
	r.SetFound("local", []target.Found{{Node: guess, Addr: addr(t, b), Guessed: true}})
	s := o.last(t, guess, func(s target.Sighting) bool { return s.Info.Node == b.Name && s.Info.Creation == 0 })
	require.False(t, s.Hidden, "it may be attached to here, if the other one dies")
	require.Empty(t, r.Targets())
	b.Await(t, "nodes(hidden)", "[]")
	_, err := r.Resolve(alive)
	require.ErrorIs(t, err, target.ErrNoTarget)

	o.mu.Lock()
	o.claims[b.Name] = false
	o.mu.Unlock()
	o.set(b.Name, true)
	r.Recheck(b.Name)
	r.await(t, b.Name, target.Attached)
	full, err := r.Resolve(alive)
	require.NoError(t, err)
	require.Equal(t, b.Name, full)
}

// TestTakenDuringAttempt ends an attempt, also one that a frozen node does not
// answer, when another member is to attach.
func TestTakenDuringAttempt(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	o := newOwners(b.Name)
	where := found(t, b)
	require.NoError(t, b.Freeze())
	r := newRig(t, func(c *target.Config) { cookies(b)(c); o.use(c); c.ConnectTimeout = time.Hour })
	r.SetFound("test", where)
	o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.State == target.Connecting })
	o.set(b.Name, false)
	r.Recheck(b.Name)
	o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.State == target.Discovered })
	require.NoError(t, b.Thaw())
	require.Empty(t, r.bus.History(events.Filter{Types: []events.Type{events.TargetFailed}}))
}

// TestReports tells what discovery does, and how attempts go.
func TestReports(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	o := newOwners(b.Name)
	r := newRig(t, func(c *target.Config) { cookies(b)(c); o.use(c); c.GoneAfter = 50 * time.Millisecond })
	right := found(t, b)
	wrong := []target.Found{{Node: b.Name, Addr: "127.0.0.1:1"}}
	r.SetFound("test", wrong)
	s := o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.State == target.Unreachable })
	require.EqualValues(t, 1, s.News)
	r.SetFound("test", right)
	s = o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.State == target.Attached })
	require.EqualValues(t, 2, s.News)
	require.Equal(t, right[0].Addr, s.Addr)
	r.SetFound("other", right)
	o.last(t, b.Name, func(s target.Sighting) bool { return len(s.Info.Topologies) == 2 })
	r.SetFound("test", nil)
	r.SetFound("other", nil)
	o.last(t, b.Name, func(s target.Sighting) bool { return !s.Named && s.Info.State == target.Attached })
	b.Kill()
	o.last(t, b.Name, func(s target.Sighting) bool { return s.Ended })
	states := []target.State{}
	for _, s := range o.told(b.Name) {
		if len(states) == 0 || states[len(states)-1] != s.Info.State {
			states = append(states, s.Info.State)
		}
	}
	require.Equal(t, []target.State{target.Discovered, target.Connecting, target.Unreachable, target.Attached, target.Gone}, states)
}

// TestRefusedStaysRefused has a wrong cookie told again by a member that let go
// of the target in between, although it asks the node only once.
func TestRefusedStaysRefused(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	o := newOwners(b.Name)
	r := newRig(t, func(c *target.Config) {
		cookies(&erltest.Beam{Name: b.Name, Cookie: "guess"})(c)
		o.use(c)
	})
	r.SetFound("test", found(t, b))
	r.await(t, b.Name, target.Refused)
	o.set(b.Name, false)
	r.Recheck()
	o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.State == target.Discovered })
	o.set(b.Name, true)
	r.Recheck()
	s := o.last(t, b.Name, func(s target.Sighting) bool { return s.Info.State == target.Refused })
	require.Equal(t, "wrong cookie", s.Info.Reason)
	require.Eventually(t, func() bool { return strings.Contains(b.Log(), "Invalid challenge reply") }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, 1, strings.Count(b.Log(), "Invalid challenge reply"))
}

// TestOneNodeUnderTwoNames has two strategies find a node that was somebody
// else's, and both targets attach at once.
func TestOneNodeUnderTwoNames(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{Long: true})
	alive, _, _ := strings.Cut(b.Name, "@")
	o := newOwners()
	r := newRig(t, func(c *target.Config) { cookies(b)(c); o.use(c) })
	where := addr(t, b)
	for i, name := range []string{b.Name, alive + "@one", alive + "@two"} {
		r.SetFound(name, []target.Found{{Node: name, Addr: where, Guessed: i > 0}})
	}
	for _, name := range []string{b.Name, alive + "@one", alive + "@two"} {
		o.last(t, name, func(s target.Sighting) bool { return s.Info.Reason != "" })
		o.set(name, true)
	}
	r.Recheck()
	r.await(t, b.Name, target.Attached)
	require.Eventually(t, func() bool {
		return len(r.Targets()) == 1 && len(r.node.Peers()) == 1 && r.Targets()[0].State == target.Attached
	}, 30*time.Second, 5*time.Millisecond)
	require.Len(t, r.ps(t, target.ProcessQuery{Nodes: []string{b.Name}, Limit: 3}).all, 3)
	require.Empty(t, r.bus.History(events.Filter{Types: []events.Type{events.TargetLost}}))
}
