package target_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// otpProcesses has processes of each kind, and some that know no system messages.
const otpProcesses = `
-module(otps).
-export([start/0, init/1, callback_mode/0, handle_call/3, handle_cast/2, handle_event/2, handle_event/4, plain/0, client/1, fails/0, slow/0]).
start() ->
    {ok, _} = gen_server:start({local, server}, ?MODULE, server, []),
    {ok, _} = gen_server:start({local, sleeper}, ?MODULE, sleeper, []),
    {ok, _} = gen_statem:start({local, machine}, ?MODULE, machine, []),
    {ok, _} = gen_event:start({local, handlers}),
    ok = gen_event:add_handler(handlers, ?MODULE, handler),
    register(plain, spawn(?MODULE, plain, [])),
    {ok, Busy} = gen_server:start({local, busy}, ?MODULE, busy, []),
    register(client, spawn(?MODULE, client, [Busy])),
    {ok, _} = proc_lib:start(special, begin_, [self()]),
    {ok, Sup} = gen_server:start({local, sup}, supervisor, {{local, sup}, ?MODULE, sup}, []),
    is_pid(Sup).
init(sup) -> {ok, {#{strategy => rest_for_one, intensity => 3, period => 7}, [#{id => kid, start => {gen_server, start_link, [{local, kid}, ?MODULE, server, []]}}]}};
init(machine) -> {ok, locked, #{code => [1, 2, 3]}};
init(handler) -> {ok, #{seen => 4}};
init(busy) -> {ok, busy};
init(sleeper) -> {ok, asleep, hibernate};
init(server) ->
    {ok, #{items => [#{id => I, name => <<"item">>} || I <- lists:seq(1, 100)], <<"key">> => {1, {two, "text"}}, {odd, key} => 1.5,
           opts => [{depth, 7}, {width, 8}], 42 => answer, big => binary:copy(<<"0123456789">>, 1000000)}}.
callback_mode() -> handle_event_function.
handle_call(slow, _, S) -> receive go -> {reply, ok, S} end.
handle_cast(_, S) -> {noreply, S}.
handle_event(_, S) -> {ok, S}.
handle_event(_, _, _, _) -> keep_state_and_data.
fails() ->
    case application:get_env(kernel, fails) of
        {ok, true} -> {error, oh_no};
        _ -> gen_server:start_link(?MODULE, sleeper, [])
    end.
slow() ->
    {ok, spawn_link(fun() -> register(slow, self()), process_flag(trap_exit, true), (fun F() -> receive _ -> F() end end)() end)}.
plain() -> receive stop -> ok end.
client(S) -> gen_server:call(S, slow, infinity).
`

// special is a process that handles system messages itself.
const specialProcess = `
-module(special).
-export([begin_/1, system_continue/3, system_terminate/4, system_code_change/4, system_get_state/1]).
begin_(Parent) -> register(special, self()), proc_lib:init_ack(Parent, {ok, self()}), loop(Parent).
loop(Parent) -> receive {system, From, Req} -> sys:handle_system_msg(Req, From, Parent, ?MODULE, [], {special, Parent}) end.
system_continue(Parent, _, _) -> loop(Parent).
system_terminate(Reason, _, _, _) -> exit(Reason).
system_code_change(M, _, _, _) -> {ok, M}.
system_get_state({special, _}) -> {ok, special_state}.
`

func startOTP(t testing.TB, otp string) *erltest.Beam {
	t.Helper()
	b := erltest.Borrow(t, otp)
	b.LoadModule(t, "special", specialProcess)
	b.LoadModule(t, "otps", otpProcesses)
	require.Equal(t, "true", b.MustEval(t, "otps:start()"))
	return b
}

func (r *rig) state(t testing.TB, b *erltest.Beam, process, path string) target.ProcessState {
	t.Helper()
	s, err := r.State(t.Context(), target.StateQuery{Node: b.Name, Process: process, Path: path, Timeout: 30 * time.Second})
	require.NoError(t, err)
	return s
}

// tree writes a node and its parts, one a line.
func tree(n target.StateNode) string {
	var b strings.Builder
	var write func(n target.StateNode, indent string)
	write = func(n target.StateNode, indent string) {
		fmt.Fprintf(&b, "%s%s %s %s %s\n", indent, n.Path, n.Key, n.Kind, n.Text)
		for _, c := range n.Children {
			write(c, indent+" ")
		}
		if n.More > 0 {
			fmt.Fprintf(&b, "%s +%d\n", indent, n.More)
		}
	}
	write(n, "")
	return b.String()
}

// TestStateKinds shows processes of each kind as what they are.
func TestStateKinds(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startOTP(t, otp)
		r := attach(t, nil, b)
		for _, c := range []struct{ process, behaviour, module, tree string }{
			{"sleeper", "gen_server", "otps", "  atom asleep\n"},
			{"machine", "gen_statem", "otps", "  tuple {locked,#{code => [1,2,3]}}\n {1} state atom locked\n {2} data map #{code => [1,2,3]}\n  {2}.code code list [1,2,3]\n   +3\n"},
			{"handlers", "gen_event", "gen_event", "  list [{otps,false,#{seen => 4}}]\n [1]  tuple {otps,false,#{seen => 4}}\n  [1]{1}  atom otps\n  [1]{2}  atom false\n  [1]{3}  map #{seen => 4}\n   +1\n"},
			{"special", "special", "special", "  atom special_state\n"},
			{"sup", "supervisor", "otps", " {3} strategy atom rest_for_one\n"},
			{"sup", "supervisor", "otps", " {6} intensity integer 3\n {7} period integer 7\n"},
			{"kernel_sup", "supervisor", "kernel", " {3} strategy atom one_for_all\n"},
			{"server", "gen_server", "otps", " .42 42 atom answer\n"},
			{"server", "gen_server", "otps", ".(<<\"key\">>){2}  tuple {two,\"text\"}\n"},
			{"server", "gen_server", "otps", ".({odd,key}) {odd,key} float 1.5\n"},
		} {
			s := r.state(t, b, c.process, "")
			assert.Equal(t, c.behaviour, s.Behaviour, c.process)
			assert.Equal(t, c.module, s.Module, c.process)
			assert.Equal(t, c.process, s.RegisteredName)
			assert.Contains(t, tree(s.Tree), c.tree, c.process)
		}
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

// TestStatePath opens parts, by the paths of all syntaxes and by those that a
// tree shows.
func TestStatePath(t *testing.T) {
	t.Parallel()
	b := startOTP(t, "")
	r := attach(t, nil, b)
	for _, c := range []struct{ process, path, shown, text string }{
		{"server", ".items[3].id", ".items[3].id", "3"},
		{"server", "items[-1].id", ".items[100].id", "100"},
		{"server", ".key{1}", ".(<<\"key\">>){1}", "1"},
		{"server", `."key"{2}{1}`, ".(<<\"key\">>){2}{1}", "two"},
		{"server", `.(<<"key">>){1}`, ".(<<\"key\">>){1}", "1"},
		{"server", ".({odd, key})", ".({odd,key})", "1.5"},
		{"server", ".({:odd, :key})", ".({odd,key})", "1.5"},
		{"server", ".:opts.width", ".opts.width", "8"},
		{"server", ".opts[2]", ".opts[2]", "{width,8}"},
		{"server", "[42]", ".42", "answer"},
		{"server", ".42", ".42", "answer"},
		{"machine", "#data.code[2]", "{2}.code[2]", "2"},
		{"sup", "#children{1}", "{4}{1}", "[kid]"},
		{"server", "#opts", ".opts", "[{depth,7},{width,8}]"},
	} {
		s := r.state(t, b, c.process, c.path)
		assert.Equal(t, c.shown, s.Path, c.path)
		assert.Equal(t, c.text, s.Text, c.path)
		again := r.state(t, b, c.process, s.Path)
		assert.Equal(t, s.Text, again.Text, "the path that was shown leads to the same")
	}
	for _, path := range []string{".nosuch", ".items[1000]", "[1]", "{1}", ".items{1}", "#nosuch", ".items[0]", ".42.x", ".opts.nosuch", ".items[-200]", "#no_such_atom_anywhere"} {
		_, err := r.State(t.Context(), target.StateQuery{Node: b.Name, Process: "server", Path: path})
		assert.ErrorIs(t, err, target.ErrBadQuery, path)
		assert.ErrorContains(t, err, "leads nowhere", path)
	}
	for _, path := range []string{"..", ".", "[", "[1", "{x}", "#", "#1", ".(", `."a`, ".('a)", ".(foo bar)", ".a/b", ":", `.:"a`, strings.Repeat(".a", 101), strings.Repeat("a", 5000)} {
		_, err := r.State(t.Context(), target.StateQuery{Node: b.Name, Process: "server", Path: path})
		assert.ErrorIs(t, err, target.ErrBadQuery, path)
		assert.NotContains(t, fmt.Sprint(err), "leads nowhere", path)
	}
	assert.Equal(t, "true", b.MustEval(t, `try binary_to_existing_atom(list_to_binary("no_such_atom" ++ "_anywhere"), utf8) of _ -> false catch error:badarg -> true end`))
}

// TestStateOfWrappers has those of Elixir, by their own names.
func TestStateOfWrappers(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{OTP: "27", Elixir: true})
	_, err := b.EvalElixir(`
		defmodule Shop.Cart do
			use GenServer
			defstruct [:owner, items: %{}]
			def init(_), do: {:ok, %__MODULE__{owner: "Ada", items: %{"apple" => 3, Shop.Cart => 4, {:odd, 1} => 5}}}
		end
		defmodule Phoenix.LiveView.Channel do
			use GenServer
			def init(_), do: {:ok, %{socket: %{__struct__: Phoenix.LiveView.Socket, view: Shop.Live, assigns: %{count: 7}}, components: {%{}, %{}, 1}}}
		end
		{:ok, _} = GenServer.start(Shop.Cart, nil, name: Shop.Cart)
		{:ok, _} = GenServer.start(Phoenix.LiveView.Channel, nil, name: Shop.View)
		{:ok, _} = Agent.start(fn -> %{a: [1, 2]} end, name: Shop.Agent)
		spawn(fn -> {:ok, _} = DynamicSupervisor.start_link(strategy: :one_for_one, name: Shop.Workers); Process.sleep(:infinity) end)
		:ok`)
	require.NoError(t, err)
	b.Await(t, `is_pid(whereis('Elixir.Shop.Workers'))`, "true")
	r := attach(t, nil, b)
	for _, c := range []struct{ process, path, behaviour, module, text string }{
		{"Shop.Cart", "", "GenServer", "Elixir.Shop.Cart", `%Shop.Cart{owner: "Ada", items: %{Shop.Cart => 4, {:odd, 1} => 5, "apple" => 3}}`},
		{"Shop.Cart", `.items."apple"`, "GenServer", "Elixir.Shop.Cart", "3"},
		{"Shop.Cart", ".items.Shop.Cart", "GenServer", "Elixir.Shop.Cart", "4"},
		{"Shop.Cart", ".items.({:odd, 1})", "GenServer", "Elixir.Shop.Cart", "5"},
		{"Shop.Agent", ".a[2]", "Agent", "erl_eval", "2"},
		{"Shop.View", ".socket.assigns.count", "Phoenix.LiveView", "Elixir.Shop.Live", "7"},
		{"Shop.Workers", ".max_restarts", "DynamicSupervisor", "Elixir.Supervisor.Default", "3"},
	} {
		s, err := r.State(t.Context(), target.StateQuery{Node: b.Name, Process: c.process, Path: c.path, ElixirGuess: true})
		require.NoError(t, err, c.process)
		assert.Equal(t, c.behaviour, s.Behaviour, c.process)
		assert.Equal(t, c.module, s.Module, c.process)
		assert.Equal(t, c.text, s.Text, c.process)
		assert.Equal(t, c.path, s.Path)
	}
}

// TestStateThatIsNotTold: who would not answer is not asked, and who does not
// answer costs a timeout and nothing else.
func TestStateThatIsNotTold(t *testing.T) {
	t.Parallel()
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		b := startOTP(t, otp)
		r := attach(t, nil, b)
		ask := func(process string, force bool, timeout time.Duration) error {
			_, err := r.State(t.Context(), target.StateQuery{Node: b.Name, Process: process, Timeout: timeout, Force: force})
			return err
		}
		for _, process := range []string{"plain", "client"} {
			err := ask(process, false, 0)
			require.ErrorIs(t, err, target.ErrNoState)
			require.ErrorContains(t, err, "does not handle system messages")
			require.Equal(t, "{message_queue_len,0}", b.MustEval(t, "process_info(whereis("+process+"), message_queue_len)"), "it was not asked")
		}
		require.ErrorContains(t, ask("plain", false, 0), "it is in otps:plain/0")
		// A node that itself is slow may not find the time to tell what the process does.
		told := func(process string, force bool, what string) {
			for end := time.Now().Add(time.Minute); ; {
				err := ask(process, force, 2*time.Second)
				require.ErrorIs(t, err, target.ErrTimeout)
				if strings.Contains(err.Error(), what) {
					return
				}
				require.True(t, time.Now().Before(end), "%v does not say %s", err, what)
			}
		}
		told("plain", true, "it is busy in otps:plain/0, and ")

		b.Await(t, "element(2, process_info(whereis(busy), current_function))", "{otps,handle_call,3}")
		told("busy", false, "it is busy in otps:handle_call/3")
		info := r.await(t, b.Name, target.Attached)
		require.Empty(t, info.Reason, "a busy process does not make the node look unreachable")

		b.MustEval(t, `process_flag(priority, normal), register(holder, spawn(fun() -> erlang:suspend_process(whereis(machine)), receive stop -> ok end end))`)
		b.Await(t, "process_info(whereis(machine), status)", "{status,suspended}")
		told("machine", false, "it is suspended")

		b.MustEval(t, `register(fat, spawn(fun() -> L = lists:seq(1, 5000000), receive stop -> L end end))`)
		b.Await(t, "process_info(whereis(fat), status)", "{status,waiting}")
		require.ErrorIs(t, ask("fat", false, 0), target.ErrLarge)
		require.ErrorIs(t, ask("<0.99999.0>", false, 0), target.ErrNoProcess)
		require.ErrorIs(t, ask("nobody", false, 0), target.ErrNoProcess)
		r.stop()
		b.Await(t, agents, unloaded)

		never := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
		_, err := never.State(t.Context(), target.StateQuery{Node: b.Name, Process: "server"})
		require.ErrorContains(t, err, "helper module is not used")
		var h *target.HintError
		require.ErrorAs(t, err, &h)
	})
}

// TestStateOfTenMegabytes shows the top of a large state, of which next to
// nothing crosses the wire.
func TestStateOfTenMegabytes(t *testing.T) {
	t.Parallel()
	b := startOTP(t, "")
	b.MustEval(t, largeState)
	r := attach(t, nil, b)
	r.state(t, b, "machine", "") // loads the helper
	before := r.node.Peer(b.Name).Stats().BytesIn
	start := time.Now()
	s := r.state(t, b, "server", "")
	t.Logf("%d bytes of state in %v, %d bytes on the wire", s.Tree.Size, time.Since(start), r.node.Peer(b.Name).Stats().BytesIn-before)
	assert.Greater(t, s.Tree.Size, uint64(10_000_000))
	assert.Less(t, r.node.Peer(b.Name).Stats().BytesIn-before, int64(100_000))
	require.Len(t, s.Tree.Children, 4)
	sum := uint64(0)
	for _, c := range s.Tree.Children {
		sum += c.Size
	}
	assert.InDelta(t, s.Tree.Size, sum, 1000)
	page, err := r.State(t.Context(), target.StateQuery{Node: b.Name, Process: "server", Path: ".queue", Offset: 199_995, Timeout: 30 * time.Second})
	require.NoError(t, err)
	assert.Equal(t, ".queue[199996]", page.Tree.Children[0].Path)
	assert.Len(t, page.Tree.Children, 5)
	assert.Zero(t, page.Tree.More)

	// All that may be asked for stays within the bound too.
	before = r.node.Peer(b.Name).Stats().BytesIn
	_, err = r.State(t.Context(), target.StateQuery{Node: b.Name, Process: "server", Depth: 20, Width: 1000, MaxBytes: 64 << 10, Timeout: 30 * time.Second})
	require.NoError(t, err)
	assert.Less(t, r.node.Peer(b.Name).Stats().BytesIn-before, int64(100_000))
}
