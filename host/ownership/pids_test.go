package ownership

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

const (
	one = "<0.101.0>"
	two = "<0.102.0>"
)

// shops is three members that see one node with two processes.
func shops(t *testing.T) (n *network, owner *member) {
	n = newNet(t, "a", "b", "c")
	n.nodes.up(shop, 7, one, two)
	for _, m := range n.all() {
		m.mgr.find(shop, true, false)
	}
	return n, n.owner(shop)
}

// register registers a key for a process, retrying while the owner is about to
// be seen as one.
func (m *member) register(t *testing.T, key, pid string, change func(*registry.Claim)) registry.Entry {
	t.Helper()
	c := registry.Claim{Key: key, Owner: registry.ByPid("shop", pid, 0)}
	if change != nil {
		change(&c)
	}
	var e registry.Entry
	eventually(t, func() bool {
		var err error
		e, err = m.own.Register(t.Context(), c)
		return err == nil || !errors.Is(err, target.ErrNotAttached)
	}, "register %s", key)
	require.Equal(t, registry.ByPid(shop, pid, 7), e.Owner)
	return e
}

// names waits until a member sees exactly these entries of processes: key,
// origin.
func (n *network) names(t *testing.T, m *member, want map[string]string) {
	t.Helper()
	var is map[string]string
	defer func() {
		if t.Failed() {
			t.Logf("%s has %v, not %v; attached: %v", m.name, is, want, n.nodes)
			for _, o := range n.all() {
				t.Logf("registry of %s:", o.name)
				for e := range o.reg.Select("", nil) {
					t.Logf("  %s %s of %s claimed %d: %s", e.Key, e.Origin, e.Owner, e.Claimed, e.Value)
				}
			}
		}
	}()
	eventually(t, func() bool {
		is = map[string]string{}
		count := 0
		for e := range m.reg.Select("", func(e registry.Entry) bool { return e.Owner.Kind == registry.OwnerPid }) {
			is[e.Key] = e.Origin
			count++
		}
		if count != len(want) {
			return false
		}
		for k, v := range want {
			if is[k] != v {
				return false
			}
		}
		return true
	}, "names at %s", m.name)
}

func TestNameOfProcess(t *testing.T) {
	n, owner := shops(t)
	first := owner.register(t, "leader", one, nil)
	require.Equal(t, owner.name, first.Origin)
	other := n.all()[0]
	if other == owner {
		other = n.all()[1]
	}
	_, err := other.own.Register(t.Context(), registry.Claim{Key: "x", Owner: registry.ByPid(shop, one, 0)})
	var not *NotOwnerError
	require.ErrorAs(t, err, &not)
	require.Equal(t, NotOwnerError{Node: shop, Member: owner.name}, *not)
	require.ErrorContains(t, err, "member "+owner.name)
	require.ErrorContains(t, &NotOwnerError{Node: shop}, "no member")

	owner.register(t, "standby", one, func(c *registry.Claim) { c.Duplicate = true })
	owner.register(t, "standby", two, func(c *registry.Claim) { c.Duplicate = true })
	_, err = owner.own.Register(t.Context(), registry.Claim{Key: "leader", Owner: registry.ByPid(shop, two, 7)})
	var taken *registry.TakenError
	require.ErrorAs(t, err, &taken)
	_, err = owner.own.Register(t.Context(), registry.Claim{Key: "x", Owner: registry.ByPid(shop, "<0.9.0>", 0)})
	require.ErrorIs(t, err, target.ErrNoProcess)
	_, err = owner.own.Register(t.Context(), registry.Claim{Key: "x", Owner: registry.ByPid(shop, one, 6)})
	require.ErrorIs(t, err, target.ErrNoProcess, "it is of another life of the node")
	_, err = owner.own.Register(t.Context(), registry.Claim{Key: "x", Owner: registry.ByPid("nobody", one, 0)})
	require.ErrorIs(t, err, target.ErrNoTarget)

	n.nodes.end(shop, one)
	for _, m := range n.all() {
		n.names(t, m, map[string]string{"standby": owner.name})
	}
	owner.own.pids.sweep()
	require.Len(t, owner.own.pids.watched, 1)
	_, err = owner.reg.Unregister("standby", nil)
	require.NoError(t, err)
	owner.own.pids.sweep()
	require.Empty(t, owner.own.pids.watched, "nothing is monitored that has no entry")
}

// TestNamesSurviveOwner has the next owner take names over, with their age, but
// not those of processes that ended meanwhile.
func TestNamesSurviveOwner(t *testing.T) {
	n, owner := shops(t)
	first := owner.register(t, "leader", one, func(c *registry.Claim) { c.Value = []byte(`{"port":1}`) })
	owner.register(t, "second", two, nil)
	owner.register(t, "group", one, func(c *registry.Claim) { c.Duplicate = true })
	for _, m := range n.all() {
		n.names(t, m, map[string]string{"leader": owner.name, "second": owner.name, "group": owner.name})
	}
	n.nodes.mu.Lock()
	delete(n.nodes.pids, shop+two) // as it were, while nobody looks
	n.nodes.mu.Unlock()
	owner.kill()
	next := n.owner(shop, others(n, owner)...)
	for _, m := range n.all() {
		n.names(t, m, map[string]string{"leader": next.name, "group": next.name})
		e, _ := m.reg.Lookup("leader")
		require.Equal(t, first.Claimed, e.Claimed)
		require.JSONEq(t, `{"port":1}`, string(e.Value))
	}

	// The first one comes back, with nothing; what it had is there.
	back := n.start(owner.name)
	back.mgr.find(shop, true, false)
	n.names(t, back, map[string]string{"leader": next.name, "group": next.name})
	// The names end with the process, whoever had them first.
	n.nodes.end(shop, one)
	for _, m := range n.all() {
		n.names(t, m, map[string]string{})
	}
}

// TestNamesMove has a target move in peace, and back after a partition.
func TestNamesMove(t *testing.T) {
	n := newNet(t, "a", "b")
	n.nodes.up(shop, 7, one, two)
	a, b := n.all()[0], n.all()[1]
	a.mgr.find(shop, false, false)
	n.owner(shop, "a")
	first := a.register(t, "leader", one, nil)
	a.register(t, "group", one, func(c *registry.Claim) { c.Duplicate = true })
	b.mgr.find(shop, true, false)
	n.owner(shop, "b")
	for _, m := range n.all() {
		n.names(t, m, map[string]string{"leader": "b", "group": "b"})
		e, _ := m.reg.Lookup("leader")
		require.Equal(t, first.Claimed, e.Claimed)
	}
	n.split("b")
	eventually(t, func() bool { return len(n.nodes.attachedTo(shop)) == 2 }, "a takes it over")
	n.names(t, a, map[string]string{"leader": "a", "group": "a"})
	a.register(t, "fresh", two, nil)
	n.split()
	n.owner(shop, "b")
	for _, m := range n.all() {
		n.names(t, m, map[string]string{"leader": "b", "group": "b", "fresh": "b"})
	}
	n.nodes.end(shop, one)
	for _, m := range n.all() {
		n.names(t, m, map[string]string{"fresh": "b"})
	}
	eventually(t, func() bool { return a.reg.Count(handoverPrefix) == 0 && b.reg.Count(handoverPrefix) == 0 }, "all is handed over")
}

// TestNamesAfterRestart has the only member that sees a node restart: the others
// remember what it had registered.
func TestNamesAfterRestart(t *testing.T) {
	n := newNet(t, "a", "b")
	n.nodes.up(shop, 7, one)
	a := n.all()[0]
	a.mgr.find(shop, true, false)
	n.owner(shop, "a")
	first := a.register(t, "leader", one, nil)
	n.names(t, n.all()[1], map[string]string{"leader": "a"})
	a.kill()
	a = n.start("a")
	a.mgr.find(shop, true, false)
	n.owner(shop, "a")
	for _, m := range n.all() {
		n.names(t, m, map[string]string{"leader": "a"})
		e, _ := m.reg.Lookup("leader")
		require.Equal(t, first.Claimed, e.Claimed)
	}
	n.nodes.end(shop, one)
	n.names(t, n.all()[1], map[string]string{})
	lease := registry.Entry{Key: "l", Owner: registry.ByLease("1")}
	require.Equal(t, []registry.Entry{lease}, a.own.Adopt([]registry.Entry{lease}))
}

// TestRegisterGivenUp has a registration wait for somebody else's monitor of the
// same process.
func TestRegisterGivenUp(t *testing.T) {
	_, owner := shops(t)
	p := owner.own.pids
	o := registry.ByPid(shop, one, 7)
	w := &watched{ready: make(chan struct{}), users: 1}
	p.mu.Lock()
	p.watched[o] = w
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.hold(ctx, o), context.Canceled)
	p.sweep() // one that is not ready yet stays
	p.mu.Lock()
	require.Equal(t, 1, w.users)
	w.err = errors.New("its context was over")
	delete(p.watched, o)
	close(w.ready)
	p.mu.Unlock()
	owner.register(t, "k", one, nil)
}
