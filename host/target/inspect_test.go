package target_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

// shop has one process with a bit of everything.
const shop = `
-module(shop).
-export([start/0, init/1, idle/0]).
start() ->
    {ok, P} = proc_lib:start(?MODULE, init, [self()]),
    P.
init(_) ->
    register(shop, self()),
    process_flag(trap_exit, true),
    put(cart, #{items => [1, 2, 3]}),
    put(huge, lists:seq(1, 100000)),
    put(bin, binary:copy(<<0>>, 100000)),
    Peer = spawn_link(?MODULE, idle, []),
    register(shop_helper, Peer),
    monitor(process, whereis(kernel_sup)),
    {ok, Port} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    _ = Port,
    proc_lib:init_ack({ok, self()}),
    receive stop -> ok end.
idle() -> receive stop -> ok end.
`

func startShop(t testing.TB, b *erltest.Beam) *erltest.Beam {
	t.Helper()
	b.LoadModule(t, "shop", shop)
	b.MustEval(t, "shop:start()")
	b.MustEval(t, `[shop ! {order, I, <<"text">>} || I <- lists:seq(1, 100)]`)
	return b
}

func TestInspect(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startShop(t, erltest.Borrow(t, otp))
		for _, never := range []bool{false, true} {
			r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
			d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "shop", Messages: 2})
			require.NoError(t, err)
			require.Equal(t, "shop", d.RegisteredName)
			require.Equal(t, "shop:init/1", d.InitialCall)
			require.Equal(t, "shop:init/1", d.CurrentFunction)
			require.Equal(t, "shop:init/1", d.CurrentStacktrace[0].Function)
			require.Equal(t, "waiting", d.Status)
			require.Equal(t, "normal", d.Priority)
			require.True(t, d.TrapExit)
			require.Equal(t, uint64(100), d.MessagesTotal)
			require.Len(t, d.Messages, 2)
			require.Equal(t, `{order,1,<<"text">>}`, d.Messages[0].Value)
			require.NotZero(t, d.HeapSize)
			require.NotZero(t, d.TotalHeapSize)
			require.NotEmpty(t, d.GroupLeader.Pid)
			require.NotEmpty(t, d.Parent.Pid)

			links := linkNames(d.Links)
			require.Contains(t, links, "shop_helper shop:idle/0")
			require.True(t, slices.ContainsFunc(d.Links, func(r target.ProcessRef) bool { return r.Kind == "port" }))
			require.Equal(t, []string{"kernel_sup"}, []string{d.Monitors[0].RegisteredName})

			entry := func(key string) target.KeyValue {
				i := slices.IndexFunc(d.Dictionary, func(kv target.KeyValue) bool { return kv.Key == key })
				require.GreaterOrEqual(t, i, 0, "no %s in %v", key, d.Dictionary)
				return d.Dictionary[i]
			}
			require.Equal(t, `#{items => [1,2,3]}`, entry("cart").Value)
			require.True(t, entry("huge").Truncated)
			require.LessOrEqual(t, len(entry("huge").Value), 4096)
			if never {
				require.Contains(t, strings.Join(d.Missing, "\n"), "binaries: ")
			} else {
				require.Empty(t, d.Missing)
				require.GreaterOrEqual(t, d.BinaryBytes, uint64(100000))
			}
			r.stop()
		}
	})
}

func linkNames(refs []target.ProcessRef) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.RegisteredName+" "+r.InitialCall)
	}
	return out
}

func TestInspectWithoutMessages(t *testing.T) {
	t.Parallel()
	b := startShop(t, erltest.Borrow(t, ""))
	r := attach(t, nil, b)
	d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "shop"})
	require.NoError(t, err)
	require.Empty(t, d.Messages, "only when asked for")
	require.Equal(t, uint64(100), d.MessagesTotal)
}

func TestInspectElixir(t *testing.T) {
	t.Parallel()
	b := startShop(t, erltest.Start(t, erltest.Options{OTP: "27", Elixir: true}))
	_, err := b.EvalElixir(`Agent.start(fn -> Process.put(:user, %{name: "Ada"}); %{} end, name: My.Worker)`)
	require.NoError(t, err)
	r := attach(t, nil, b)
	for _, name := range []string{"My.Worker", "Elixir.My.Worker", "'Elixir.My.Worker'"} {
		d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: name, ElixirGuess: true})
		require.NoError(t, err, name)
		require.Equal(t, "Elixir.My.Worker", d.RegisteredName)
		i := slices.IndexFunc(d.Dictionary, func(kv target.KeyValue) bool { return kv.Key == ":user" })
		require.GreaterOrEqual(t, i, 0, "%v", d.Dictionary)
		require.Equal(t, `%{name: "Ada"}`, d.Dictionary[i].Value)
	}
}

func TestInspectErrors(t *testing.T) {
	t.Parallel()
	b := startShop(t, erltest.Borrow(t, ""))
	r := attach(t, nil, b)
	for _, c := range []struct {
		node, process string
		want          error
	}{
		{"nobody@nowhere", "shop", target.ErrNoTarget},
		{b.Name, "no_such_name", target.ErrNoProcess},
		{b.Name, "<0.99999.0>", target.ErrNoProcess},
		{b.Name, "<1.2.3>", target.ErrBadQuery},
		{b.Name, "Foo bar(", target.ErrNoProcess},
		{b.Name, "", target.ErrBadQuery},
		{b.Name, strings.Repeat("x", 300), target.ErrBadQuery},
	} {
		_, err := r.Inspect(t.Context(), target.InspectQuery{Node: c.node, Process: c.process})
		require.ErrorIs(t, err, c.want, "%v", c)
		var h *target.HintError
		require.ErrorAs(t, err, &h, "%v has no advice", c)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startShop(t, erltest.Borrow(t, otp))
		r := attach(t, nil, b)
		victim := b.MustEval(t, `P = spawn(fun() -> receive stop -> ok end end), register(victim, P), pid_to_list(P)`)
		victim = strings.Trim(victim, `"`)

		done, err := r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: victim, Reason: "{shutdown, now}"})
		require.NoError(t, err)
		require.Equal(t, target.KillResult{Node: b.Name, Pid: victim, RegisteredName: "victim", Reason: "{shutdown,now}"}, done)
		require.Equal(t, "undefined", b.MustEval(t, "whereis(victim)"))

		_, err = r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: victim})
		require.ErrorIs(t, err, target.ErrNoProcess, "it has ended between listing and acting")

		done, err = r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: "shop", Reason: "shutdown"})
		require.NoError(t, err)
		require.True(t, done.Alive, "it traps exits")
		done, err = r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: "shop"})
		require.NoError(t, err)
		require.Equal(t, "kill", done.Reason)
		require.False(t, done.Alive)

		killed := r.bus.History(events.Filter{Types: []events.Type{events.ProcessKilled}})
		require.Len(t, killed, 3)
		require.Equal(t, victim, killed[0].Fields["pid"])

		_, err = r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: "shop_helper", Reason: "{oops"})
		require.ErrorIs(t, err, target.ErrBadQuery)
	})
}

// TestProtected tries what would take the node down, by pid too.
func TestProtected(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startShop(t, erltest.Borrow(t, otp))
		b.MustEval(t, `ok = application:start(sasl, permanent)`)
		r := attach(t, nil, b)
		pid := func(expr string) string { return strings.Trim(b.MustEval(t, "pid_to_list("+expr+")"), `"`) }
		master := pid(`application_controller:get_master(sasl)`)
		for _, name := range []string{
			"init", "erl_prim_loader", "kernel_sup", "application_controller", "code_server", "net_kernel", "logger",
			"rex", "file_server_2", "<0.0.0>", pid("whereis(net_sup)"), "sasl_sup", master, pid(`application_controller:get_master(kernel)`),
			pid(`hd([P || P <- processes(), erts_internal:is_system_process(P)])`),
		} {
			_, err := r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: name})
			require.ErrorIs(t, err, target.ErrProtected, name)
		}
		require.Equal(t, "2", b.MustEval(t, "1 + 1"))

		// One after the other, whatever is not refused: the node lives.
		for line := range strings.SplitSeq(strings.Trim(b.MustEval(t, `[list_to_atom(pid_to_list(P)) || P <- processes()]`), "[]"), ",") {
			pid := strings.Trim(line, "'")
			if info := b.MustEval(t, `process_info(list_to_pid("`+pid+`"), current_stacktrace)`); strings.Contains(info, "erl_eval") {
				continue // it steers this node for the test
			}
			what := b.MustEval(t, `process_info(list_to_pid("`+pid+`"))`)
			_, kerr := r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: pid})
			t.Logf("%s: %v: %.300s", pid, kerr, what)
			require.Equal(t, "2", b.MustEval(t, "1 + 1"), "after %s", what)
			require.NotEqual(t, "[]", b.MustEval(t, "nodes(hidden)"), "after %s", what)
		}

		_, err := r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: "application_controller", Force: true})
		require.NoError(t, err)
		<-b.Exited()
		r.await(t, b.Name, target.Gone)
	})
}

// TestLargeTermsStayThere has terms that weigh little on the process's heap, or
// hide much in one term: they do not cross the wire.
func TestLargeTermsStayThere(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		b.MustEval(t, `register(heavy, spawn(fun() ->
			Bin = binary:copy(<<0>>, 20000000), put(bin, Bin), put(bits, <<Bin/binary, 1:3>>),
			L = lists:seq(1, 200000), put(closure, fun() -> L end), put(big, 1 bsl 4000000),
			receive never -> ok end end))`)
		b.Await(t, "process_info(whereis(heavy), status)", "{status,waiting}")
		r := attach(t, nil, b)
		peer := r.node.Peer(b.Name)
		before := peer.Stats().BytesIn
		d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "heavy"})
		require.NoError(t, err)
		require.Len(t, d.Dictionary, 4, "%v", d.Missing)
		require.Less(t, peer.Stats().BytesIn-before, int64(100_000))
	})
}
