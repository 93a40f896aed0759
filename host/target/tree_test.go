package target_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// trees is an application with a supervision tree of all sorts.
const trees = `
-module(trees).
-behaviour(application).
-behaviour(supervisor).
-export([start/0, start/2, stop/1, init/1, worker/1, many/1, hang/1, stuck/1, handle_call/3, handle_cast/2]).

start() ->
    ok = application:load({application, trees, [{description, "Trees"}, {vsn, "1.2"}, {mod, {trees, []}}, {env, [{password, "hush"}, {limit, 3}]}]}),
    application:start(trees, transient).
start(_, _) -> spawn(fun idle/0), supervisor:start_link({local, trees_sup}, trees, top).
stop(_) -> ok.

init(top) -> {ok, {#{strategy => rest_for_one, intensity => 5, period => 60}, [
    #{id => first, start => {trees, worker, [first]}, restart => permanent, shutdown => brutal_kill},
    #{id => {second, "x"}, start => {trees, worker, [undefined]}, restart => transient, shutdown => 700},
    #{id => crowd, start => {supervisor, start_link, [{local, crowd}, trees, crowd]}, type => supervisor},
    #{id => hanging, start => {supervisor, start_link, [{local, hanging}, trees, hanging]}, type => supervisor},
    #{id => liar, start => {gen_server, start_link, [{local, liar}, trees, server, []]}, type => supervisor},
    #{id => temp, start => {trees, worker, [temp]}, restart => temporary}]}};
init(crowd) -> {ok, {#{strategy => simple_one_for_one}, [#{id => one, start => {trees, worker, []}, restart => temporary}]}};
init(hanging) -> {ok, {#{strategy => one_for_one}, [#{id => slow, start => {trees, worker, [slow]}}]}};
init(server) -> {ok, state}.

%% As many a server does, this one ends on a call that it does not know.
handle_call(known, _, S) -> {reply, ok, S}.
handle_cast(_, S) -> {noreply, S}.

worker(Name) ->
    {ok, proc_lib:spawn_link(fun() ->
        Name =:= undefined orelse register(Name, self()),
        spawn(fun idle/0),
        idle() end)}.
idle() -> receive stop -> ok end.
many(N) -> [{ok, _} = supervisor:start_child(crowd, [undefined]) || _ <- lists:seq(1, N)], ok.
hang(Sup) ->
    Self = self(),
    spawn(fun() -> supervisor:start_child(Sup, #{id => stuck, start => {trees, stuck, [Self]}}) end),
    receive stuck -> ok end.
stuck(From) -> From ! stuck, receive go -> ignore end.
`

func startTrees(t testing.TB, otp string) *erltest.Beam {
	t.Helper()
	b := erltest.Borrow(t, otp)
	b.LoadModule(t, "trees", trees)
	b.MustEval(t, "ok = trees:start()")
	return b
}

// at finds the child of this name or id.
func at(t testing.TB, n *target.TreeNode, path ...string) *target.TreeNode {
	t.Helper()
	for _, name := range path {
		i := slices.IndexFunc(n.Children, func(c *target.TreeNode) bool { return c.Name == name || c.ID == name })
		require.GreaterOrEqual(t, i, 0, "no %s below %s", name, n.Name)
		n = n.Children[i]
	}
	return n
}

func loose(n *target.TreeNode) (out []*target.TreeNode) {
	for _, c := range n.Children {
		if c.Unsupervised {
			out = append(out, c)
		}
	}
	return out
}

func TestTree(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startTrees(t, otp)
		r := attach(t, nil, b)
		tree := func(q target.TreeQuery) *target.TreeNode {
			t.Helper()
			q.Node, q.Timeout = b.Name, 30*time.Second
			root, err := r.Tree(t.Context(), q)
			require.NoError(t, err)
			return root
		}
		app := tree(target.TreeQuery{App: "trees"})
		assert.Equal(t, "trees", app.Name)
		assert.Equal(t, "application", app.Type)
		assert.Equal(t, "transient", app.Restart)
		sup := at(t, app, "trees_sup")
		assert.Equal(t, "supervisor", sup.Type)
		assert.Equal(t, "trees", sup.Module)
		assert.Equal(t, "rest_for_one", sup.Strategy)
		assert.EqualValues(t, 5, sup.Intensity)
		assert.EqualValues(t, 60, sup.Period)
		assert.EqualValues(t, 6, sup.Total)
		require.Len(t, sup.Children, 6)
		var ids []string
		for _, c := range sup.Children {
			ids = append(ids, c.ID)
		}
		assert.Equal(t, []string{"first", `{second,"x"}`, "crowd", "hanging", "liar", "temp"}, ids, "in the order of their start")
		first := at(t, sup, "first")
		assert.Equal(t, "worker", first.Type)
		assert.Equal(t, "permanent", first.Restart)
		assert.Equal(t, "brutal_kill", first.Shutdown)
		assert.Equal(t, "waiting", first.Status)
		assert.Equal(t, "trees:idle/0", first.CurrentFunction)
		assert.NotZero(t, first.Memory)
		pid := b.MustEval(t, "pid_to_list(whereis(first))")
		assert.Equal(t, pid, `"`+first.Pid+`"`)
		assert.Equal(t, "700", at(t, sup, `{second,"x"}`).Shutdown)
		assert.Equal(t, "not_a_supervisor", at(t, sup, "liar").Problem)
		require.NotEqual(t, "undefined", b.MustEval(t, "whereis(liar)"), "what is no supervisor must not be asked as one")
		assert.Len(t, loose(app), 5, "the callback's and one of each worker")
		assert.Equal(t, "process", loose(app)[0].Type)
		assert.NotEmpty(t, loose(app)[0].Parent)
		assert.Zero(t, app.Cut())

		// A crowd is cut with a count, and what it started is not taken for loose.
		b.MustEval(t, "trees:many(300)")
		app = tree(target.TreeQuery{App: "trees", Children: 10, Supervised: true})
		crowd := at(t, app, "trees_sup", "crowd")
		assert.Equal(t, "simple_one_for_one", crowd.Strategy)
		assert.EqualValues(t, 300, crowd.Total)
		assert.Len(t, crowd.Children, 10)
		assert.EqualValues(t, 290, crowd.Cut())
		assert.Equal(t, "temporary", crowd.Children[0].Restart)
		assert.Empty(t, crowd.Children[0].ID)
		app = tree(target.TreeQuery{App: "trees", Children: 10})
		assert.Len(t, loose(app), 10)
		assert.EqualValues(t, 5, app.Cut(), "what those have started that were cut is not looked for")
		app = tree(target.TreeQuery{App: "trees"})
		assert.Len(t, at(t, app, "trees_sup", "crowd").Children, 300)

		// No deeper than asked.
		app = tree(target.TreeQuery{App: "trees", Depth: 2})
		crowd = at(t, app, "trees_sup", "crowd")
		assert.Equal(t, "depth", crowd.Problem)
		assert.Empty(t, crowd.Children)
		assert.Len(t, loose(app), 4, "below what was not asked nothing is taken for loose")

		// One that hangs costs its own branch.
		b.MustEval(t, "trees:hang(hanging)")
		app = tree(target.TreeQuery{App: "trees"})
		hanging := at(t, app, "trees_sup", "hanging")
		assert.Equal(t, "timeout", hanging.Problem)
		_ = tree(target.TreeQuery{App: "trees", Supervised: true})
		assert.Equal(t, "{message_queue_len,0}", b.MustEval(t, "process_info(whereis(hanging), message_queue_len)"), "nothing piles up in its mailbox")
		require.Len(t, hanging.Children, 1, "its children are its links")
		assert.Equal(t, "slow", hanging.Children[0].Name)
		assert.Len(t, at(t, app, "trees_sup", "crowd").Children, 300)
		b.MustEval(t, "hanging ! go")

		// Restarts are seen as other pids; the supervisor tells of the latest.
		b.MustEval(t, "exit(whereis(temp), kill)")
		_ = tree(target.TreeQuery{App: "trees"})
		b.MustEval(t, "exit(whereis(crowd), kill)")
		require.Eventually(t, func() bool {
			sup = at(t, tree(target.TreeQuery{App: "trees"}), "trees_sup")
			return at(t, sup, "crowd").Restarts == 1 && at(t, sup, "crowd").Status == "waiting"
		}, 30*time.Second, 10*time.Millisecond)
		assert.EqualValues(t, 1, sup.Recent)
		assert.EqualValues(t, 1, at(t, sup, "hanging").Restarts, "rest for one")
		assert.Zero(t, at(t, sup, "first").Restarts)

		// All applications.
		root := tree(target.TreeQuery{})
		assert.Equal(t, b.Name, root.Name)
		assert.Equal(t, "node", root.Type)
		assert.Equal(t, "code", at(t, root, "kernel", "kernel_sup", "code_server").Module)
		assert.EqualValues(t, 1, at(t, root, "trees", "trees_sup", "crowd").Restarts)

		r.stop()
		b.Await(t, agents, unloaded)
	})
}

func TestTreeErrors(t *testing.T) {
	t.Parallel()
	b := startTrees(t, "")
	r := attach(t, nil, b)
	b.MustEval(t, "application:load(sasl)")
	for app, want := range map[string]string{"no_such_application_anywhere": "not loaded", "ok": "not loaded", "sasl": "does not run"} {
		_, err := r.Tree(t.Context(), target.TreeQuery{Node: b.Name, App: app})
		require.ErrorIs(t, err, target.ErrNoApp)
		assert.ErrorContains(t, err, want)
	}
	root, err := r.Tree(t.Context(), target.TreeQuery{Node: b.Name, App: "stdlib"})
	require.NoError(t, err)
	assert.Equal(t, &target.TreeNode{Name: "stdlib", Type: "application", Restart: "permanent"}, root, "a library has no processes")
	_, err = r.Tree(t.Context(), target.TreeQuery{Node: "none"})
	require.ErrorIs(t, err, target.ErrNoTarget)
	require.NoError(t, b.Freeze())
	_, err = r.Tree(t.Context(), target.TreeQuery{Node: b.Name, Timeout: 200 * time.Millisecond})
	require.ErrorIs(t, err, target.ErrTimeout)
	require.NoError(t, b.Thaw())

	never := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
	_, err = never.Tree(t.Context(), target.TreeQuery{Node: b.Name})
	assert.ErrorContains(t, err, "helper module is not used")
	_, err = never.Env(t.Context(), target.EnvQuery{InspectQuery: target.InspectQuery{Node: b.Name}, App: "trees"})
	assert.ErrorContains(t, err, "secrets are taken out on the node")
}

// Elixir's supervisors are read from their own state.
func TestTreeOfElixir(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Elixir: true})
		_, err := b.EvalElixir(`
			me = self()
			spawn(fn ->
			  Process.group_leader(self(), :application_controller.get_master(:logger))
			  {:ok, top} = Supervisor.start_link([
			    {Task.Supervisor, name: Shop.Tasks},
			    {PartitionSupervisor, child_spec: DynamicSupervisor, name: Shop.Parts, partitions: 2},
			    {DynamicSupervisor, name: Shop.Carts},
			    {Agent, fn -> 1 end}], strategy: :one_for_one, name: Shop.Sup)
			  {:ok, _} = Supervisor.start_child(Logger.Supervisor, %{id: Shop, start: {Function, :identity, [{:ok, top}]}, type: :supervisor})
			  for _ <- 1..50, do: {:ok, _} = DynamicSupervisor.start_child(Shop.Carts, {Agent, fn -> 1 end})
			  {:ok, _} = Task.Supervisor.start_child(Shop.Tasks, fn -> Process.sleep(:infinity) end)
			  send(me, :done)
			  Process.sleep(:infinity)
			end)
			receive do :done -> :ok end`)
		require.NoError(t, err)
		r := attach(t, nil, b)
		app, err := r.Tree(t.Context(), target.TreeQuery{Node: b.Name, App: "logger", Children: 20, Timeout: 30 * time.Second})
		require.NoError(t, err)
		shop := at(t, app, "Elixir.Logger.Supervisor", "Shop")
		carts := at(t, shop, "Elixir.Shop.Carts")
		assert.Equal(t, "one_for_one", carts.Strategy)
		assert.EqualValues(t, 50, carts.Total)
		assert.Len(t, carts.Children, 20)
		assert.Equal(t, "Elixir.Agent", carts.Children[0].Module)
		assert.Len(t, at(t, shop, "Elixir.Shop.Tasks").Children, 1)
		assert.Len(t, at(t, shop, "Elixir.Shop.Parts").Children, 2)
	})
}

// BenchmarkTree reads 10 000 supervised children, in turn with the floor: a fold
// over process_info of all processes on the same node, which are twice as many.
func BenchmarkTree(b *testing.B) {
	for _, otp := range erltest.Releases() {
		beam := startTrees(b, otp)
		beam.LoadModule(b, "meter", meter)
		beam.MustEval(b, "trees:many(10000)")
		r := attach(b, nil, beam)
		for _, supervised := range []bool{true, false} {
			b.Run(fmt.Sprintf("otp%s/10000/supervised=%v", otp, supervised), func(b *testing.B) {
				var ours, floor []time.Duration
				var d disturbance
				q := target.TreeQuery{Node: beam.Name, App: "trees", Supervised: supervised, Timeout: time.Minute}
				read := func() {
					t := time.Now()
					app, err := r.Tree(b.Context(), q)
					require.NoError(b, err)
					require.Len(b, at(b, app, "trees_sup", "crowd").Children, 10000)
					ours = append(ours, time.Since(t))
				}
				read()
				for ours = nil; b.Loop(); {
					floor = append(floor, micros(b, beam.MustEval(b, "meter:floor()")))
					read()
					d.during(b, beam, r.node.Peer(beam.Name), read)
				}
				b.ReportMetric(median(ours), "ours-ms")
				b.ReportMetric(median(floor), "floor-ms")
				d.report(b)
			})
		}
	}
}
