package ownership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

const shop = "shop@db1"

func TestAlone(t *testing.T) {
	n := newNet(t, "a")
	n.nodes.up(shop, 7)
	a := n.all()[0]
	a.mgr.find(shop, false, false)
	require.Equal(t, a, n.owner(shop))
	eventually(t, func() bool {
		all := a.own.Targets()
		return len(all) == 1 && all[0].State == target.Attached && all[0].Owner == "a" && all[0].Creation == 7
	}, "targets: %v", a.own.Targets())
	full, owner, err := a.own.Find("shop")
	require.NoError(t, err)
	require.Equal(t, []string{shop, "a"}, []string{full, owner})
	_, _, err = a.own.Find("nobody")
	require.ErrorIs(t, err, target.ErrNoTarget)
	a.stop()
	require.Empty(t, n.nodes.attachedTo(shop))
	require.Zero(t, a.reg.Count(""), "nothing stays in the registry")
}

// TestOwnerDies has another member attach, and a third when that one leaves.
func TestOwnerDies(t *testing.T) {
	n := newNet(t, "a", "b", "c")
	n.nodes.up(shop, 7)
	for _, m := range n.all() {
		m.mgr.find(shop, true, false)
	}
	first := n.owner(shop)
	changed := n.all()[0].own.Changed()
	if n.all()[0] == first {
		changed = n.all()[1].own.Changed()
	}
	first.kill()
	<-changed
	second := n.owner(shop, others(n, first)...)
	moved := await(t, second, events.TargetMoved, "is dead")
	require.Equal(t, first.name, moved.Fields["from"])
	require.Equal(t, second.name, moved.Fields["to"])
	second.stop()
	third := n.owner(shop, others(n, second)...)
	moved = await(t, third, events.TargetMoved, "let go")
	require.Equal(t, second.name, moved.Fields["from"])
}

func others(n *network, m *member) (names []string) {
	for _, o := range n.all() {
		if o != m {
			names = append(names, o.name)
		}
	}
	return names
}

// await waits for an event with a cause.
func await(t testing.TB, m *member, typ events.Type, cause string) (e events.Event) {
	t.Helper()
	eventually(t, func() bool {
		for _, e = range m.bus.History(events.Filter{Types: []events.Type{typ}}) {
			if strings.Contains(e.Reason, cause) {
				return true
			}
		}
		return false
	}, "%s at %s, %s", typ, m.name, cause)
	return e
}

// TestSameMachineFirst has a target move to the member on its machine, once that
// sees it, and stay there.
func TestSameMachineFirst(t *testing.T) {
	n := newNet(t, "a", "b", "c")
	n.nodes.up(shop, 7)
	a, b, c := n.all()[0], n.all()[1], n.all()[2]
	a.mgr.find(shop, false, false)
	c.mgr.find(shop, false, false)
	was := n.owner(shop, "a", "c")
	b.mgr.find(shop, true, false)
	require.Equal(t, b, n.owner(shop, "b"))
	await(t, b, events.TargetMoved, "this member is on its machine")
	await(t, was, events.TargetReleased, "member b is on its machine")
	for _, m := range n.all() {
		eventually(t, func() bool {
			all := m.own.Targets()
			return len(all) == 1 && all[0].Owner == "b" && all[0].State == target.Attached
		}, "%s shows %v", m.name, m.own.Targets())
		mine, why := m.own.Owned(shop)
		require.Equal(t, m == b, mine)
		if !mine {
			eventually(t, func() bool { _, why = m.own.Owned(shop); return why == "member b is attached to it" }, why)
		}
	}
}

// TestCannotAttach has a member on the node's machine fail, and another one take
// over, until that is told that things have changed.
func TestCannotAttach(t *testing.T) {
	n := newNet(t, "a", "b")
	n.nodes.up(shop, 7)
	a, b := n.all()[0], n.all()[1]
	b.mgr.find(shop, true, true)
	eventually(t, func() bool { owner, _ := a.own.Owner(shop); return owner == "b" }, "b claims it")
	eventually(t, func() bool {
		all := a.own.Targets()
		return len(all) == 1 && all[0].State == target.Unreachable && all[0].Reason == "nothing listens" && all[0].Owner == "b"
	}, "a knows how b does: %v", a.own.Targets())
	a.mgr.find(shop, false, false)
	n.owner(shop, "a")
	said := a.reg.All(seenPrefix + shop)
	i := slices.IndexFunc(said, func(e registry.Entry) bool { return e.Origin == "b" })
	require.GreaterOrEqual(t, i, 0)
	require.Contains(t, string(said[i].Value), `"failed":true,"failures":1,"reason":"nothing listens"`)
	// It stays although b is on the machine, until b has reason to hope.
	b.mgr.change(shop, func(f *fake) { f.blocked = false })
	b.own.Look()
	require.Equal(t, a, n.owner(shop))
	b.own.Retry()
	n.owner(shop, "b")
}

// TestPartition has both sides attach, and one of them let go when they see each
// other again.
func TestPartition(t *testing.T) {
	n := newNet(t, "a", "b", "c")
	n.nodes.up(shop, 7)
	for _, m := range n.all() {
		m.mgr.find(shop, true, false)
	}
	first := n.owner(shop)
	n.split(first.name)
	eventually(t, func() bool { return len(n.nodes.attachedTo(shop)) == 2 }, "both sides attach")
	var second *member
	for _, m := range n.all() {
		if m != first && slices.Contains(n.nodes.attachedTo(shop), m.name) {
			second = m
		}
	}
	n.split()
	require.Equal(t, first, n.owner(shop), "the older claim wins")
	await(t, second, events.TargetReleased, "member "+first.name)
}

// TestDropped has discovery lose a node here, and everywhere.
func TestDropped(t *testing.T) {
	n := newNet(t, "a", "b")
	n.nodes.up(shop, 7)
	a, b := n.all()[0], n.all()[1]
	a.mgr.find(shop, true, false)
	n.owner(shop, "a")
	a.mgr.drop(shop)
	b.mgr.find(shop, true, false)
	require.Equal(t, a, n.owner(shop), "it is attached, so that it stays")
	n.nodes.up(shop, 0)
	n.nodes.up(shop, 8) // it has restarted, and a does not see it any more
	n.owner(shop, "b")

	b.mgr.drop(shop)
	n.nodes.up(shop, 0)
	for _, m := range n.all() {
		eventually(t, func() bool {
			all := m.own.Targets()
			return len(all) == 1 && all[0].State == target.Gone && all[0].Owner == "b"
		}, "%s shows what is gone: %v", m.name, m.own.Targets())
	}
	b.mgr.change(shop, func(f *fake) { f.Info.State = target.Discovered }) // long ago
	for _, m := range n.all() {
		eventually(t, func() bool { return m.reg.Count("") == 0 && len(m.own.Targets()) == 0 }, "%s forgets it", m.name)
	}
}

// TestRenamed has two members know one node by different names.
func TestRenamed(t *testing.T) {
	n := newNet(t, "a", "b")
	a, b := n.all()[0], n.all()[1]
	a.mgr.find(shop, true, false)
	n.nodes.up(shop, 7)
	n.owner(shop, "a")
	b.mgr.find("shop@guess", true, true)
	eventually(t, func() bool { mine, _ := b.own.Owned("shop@guess"); return mine }, "b tries its guess")
	err := b.own.Claim(t.Context(), shop, "shop@guess")
	require.ErrorContains(t, err, "member a has it")
	b.mgr.change("shop@guess", func(f *fake) { f.Info.Node, f.Info.State, f.blocked = shop, target.Discovered, false })
	eventually(t, func() bool { return a.reg.Count(targetPrefix) == 1 && len(a.reg.All(seenPrefix+shop)) == 2 }, "the guess is gone, and b is known to see it")
	a.kill()
	n.owner(shop, "b")

	// Alone, the name that the node gives is claimed with the connection.
	b.mgr.find("web@guess", true, true)
	eventually(t, func() bool { mine, _ := b.own.Owned("web@guess"); return mine }, "b tries its guess")
	require.NoError(t, b.own.Claim(t.Context(), "web@db1", "web@guess"))
	mine, _ := b.own.Owned("web@db1")
	require.True(t, mine)
	owner, _ := b.own.Owner("web@db1")
	require.Equal(t, "b", owner)
}

func TestFind(t *testing.T) {
	n := newNet(t, "a", "b")
	a, b := n.all()[0], n.all()[1]
	_, _, err := a.own.Find("shop")
	require.ErrorIs(t, err, target.ErrNoTarget)
	for _, node := range []string{"shop@db1", "web@db1"} {
		n.nodes.up(node, 1)
		a.mgr.find(node, true, false)
		n.owner(node, "a")
	}
	n.nodes.up("shop@db2", 1)
	b.mgr.find("shop@db2", true, false)
	n.owner("shop@db2", "b")
	for _, m := range n.all() {
		_, _, err := m.own.Find("shop")
		require.ErrorIs(t, err, target.ErrAmbiguous)
		full, owner, err := m.own.Find("web")
		require.NoError(t, err)
		require.Equal(t, "web@db1 a", full+" "+owner)
		_, owner, err = m.own.Find("shop@db2")
		require.NoError(t, err)
		require.Equal(t, "b", owner)
		_, _, err = m.own.Find("we")
		require.ErrorIs(t, err, target.ErrNoTarget)
	}
}

// TestManyNodes spreads nodes, and has random faults end in one owner each.
func TestManyNodes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	names := []string{"a", "b", "c", "d"}
	n := newNet(t, names...)
	var nodes []string
	for i := range 40 {
		node := fmt.Sprintf("n%d@host%d", i, i%5)
		nodes = append(nodes, node)
		n.nodes.up(node, 1)
		for j, m := range n.all() {
			m.mgr.find(node, i%5 == j, false) // those of host4 are nobody's
		}
	}
	count := map[string]int{}
	for i, node := range nodes {
		is := n.owner(node)
		count[is.name]++
		if i%5 < 4 {
			require.Equal(t, names[i%5], is.name, node)
		}
	}
	for _, name := range names {
		require.GreaterOrEqual(t, count[name], 8)
	}
	for range 12 {
		all := n.all()
		m := all[r.IntN(len(all))]
		switch r.IntN(4) {
		case 0:
			n.split(m.name)
		case 1:
			n.split(m.name, all[r.IntN(len(all))].name)
		case 2:
			n.split()
		case 3:
			m.kill()
			m = n.start(m.name)
			for i, node := range nodes {
				m.mgr.find(node, i%5 == slices.Index(names, m.name), false)
			}
		}
		// Long enough for something to happen, and not for everything.
		node := nodes[r.IntN(len(nodes))]
		eventually(t, func() bool { return len(n.nodes.attachedTo(node)) > 0 }, node)
	}
	n.split()
	for i, node := range nodes {
		var at []string
		if i%5 < 4 {
			at = []string{names[i%5]}
		}
		n.owner(node, at...)
	}
}
