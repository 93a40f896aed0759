package target_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

func TestGraph(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startShop(t, erltest.Borrow(t, otp))
		b.MustEval(t, `register(watcher, spawn(fun() -> monitor(process, shop), monitor(process, {far, 'far@nowhere'}), receive stop -> ok end end)),
			register(third, spawn(fun() -> link(whereis(watcher)), receive stop -> ok end end)),
			register(hub, spawn(fun() -> [spawn_link(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 150)], receive stop -> ok end end))`)
		b.Await(t, "lists:member(whereis(third), element(2, process_info(whereis(watcher), links)))", "true")
		b.Await(t, "length(element(2, process_info(whereis(hub), links)))", "150")
		r := attach(t, nil, b)
		ask := func(process string, depth, limit int) target.Graph {
			g, err := r.Graph(t.Context(), target.GraphQuery{Node: b.Name, Process: process, Depth: depth, Limit: limit, Timeout: 30 * time.Second})
			require.NoError(t, err)
			return g
		}
		g := ask("shop", 1, 0)
		assert.Equal(t, b.Name, g.Node)
		for _, n := range g.Nodes {
			if n.Ref.RegisteredName == "kernel_sup" {
				assert.Equal(t, "supervisor:kernel/1", n.Ref.InitialCall, "what runs behind proc_lib, on every release")
			}
		}
		assert.Equal(t, "shop", g.Nodes[0].Ref.RegisteredName)
		assert.Equal(t, uint64(100), g.Nodes[0].MessageQueueLen)
		assert.ElementsMatch(t, []string{"link shop_helper", "monitor kernel_sup", "link port", "monitored by watcher"}, around(g, "shop"))
		assert.Empty(t, around(g, "third"))
		assert.Zero(t, g.LeftOut)

		g = ask("third", 3, 0)
		assert.ElementsMatch(t, []string{"link watcher"}, around(g, "third"))
		assert.Contains(t, around(g, "watcher"), "monitor shop")
		assert.Contains(t, around(g, "shop"), "link shop_helper")
		assert.True(t, slices.IsSortedFunc(g.Nodes[:2], func(a, b target.GraphNode) int { return a.Step - b.Step }))

		g = ask("hub", 1, 0)
		assert.Len(t, g.Nodes, 101)
		assert.Equal(t, uint64(50), g.LeftOut)
		g = ask("hub", 1, 10)
		assert.Len(t, g.Nodes, 15)
		assert.Equal(t, uint64(50+100-14), g.LeftOut)

		_, err := r.Graph(t.Context(), target.GraphQuery{Node: b.Name, Process: "<0.32000.0>"})
		assert.ErrorIs(t, err, target.ErrNoProcess)
		r.stop()
		b.Await(t, agents, unloaded)
		never := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
		_, err = never.Graph(t.Context(), target.GraphQuery{Node: b.Name, Process: "shop"})
		assert.ErrorContains(t, err, "helper module is not used")
	})
}

// around tells what a process of a graph is tied to.
func around(g target.Graph, name string) []string {
	names := map[string]string{}
	for _, n := range g.Nodes {
		names[n.ID] = n.Ref.RegisteredName
		if n.Ref.Kind == "port" {
			names[n.ID] = "port"
		}
	}
	var out []string
	for _, e := range g.Edges {
		switch {
		case names[e.From] == name:
			out = append(out, e.Kind+" "+names[e.To])
		case names[e.To] == name && e.Kind == "link":
			out = append(out, "link "+names[e.From])
		case names[e.To] == name:
			out = append(out, "monitored by "+names[e.From])
		}
	}
	return out
}

// TestInspectCallers has a task, whose caller and binaries are shown.
func TestInspectCallers(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{OTP: "27", Elixir: true})
	_, err := b.EvalElixir(`
		spawn(fn ->
			Process.register(self(), :boss)
			big = :binary.copy("x", 100_000)
			small = :binary.copy("y", 1000)
			Task.async(fn -> Process.register(self(), :errand); receive do :stop -> {big, big, small} end end)
			Process.sleep(:infinity)
		end)
		:ok`)
	require.NoError(t, err)
	b.Await(t, "is_pid(whereis(errand))", "true")
	r := attach(t, nil, b)
	d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "errand"})
	require.NoError(t, err)
	require.Len(t, d.Callers, 1)
	assert.Equal(t, "boss", d.Callers[0].RegisteredName)
	require.Len(t, d.LargestBinaries, 2, "%v", d.Missing)
	assert.Equal(t, uint64(100_000), d.LargestBinaries[0].Size)
	assert.GreaterOrEqual(t, d.LargestBinaries[0].RefC, d.LargestBinaries[0].Times)
	assert.Equal(t, uint64(1000), d.LargestBinaries[1].Size)
	assert.Equal(t, uint64(2), d.Binaries, "one that is referred to twice counts once")
	assert.Equal(t, uint64(101_000), d.BinaryBytes)
	r.stop()
	b.Await(t, agents, unloaded)
}
