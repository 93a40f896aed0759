package sandboxbeam

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
)

// faultShop has the servers shop_a, shop_b and shop_c, which do what they are told to by
// calls and keep what else they get; the supervisors shop_sup and shop_weak with the
// servers shop_child and shop_frail; and shop_sink, which receives nothing.
const faultShop = `-module(shop).
-behaviour(gen_server).
-export([start/0, tell/2, got/1, start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2]).
start() ->
    [{ok, _} = gen_server:start({local, N}, ?MODULE, [], []) || N <- [shop_a, shop_b, shop_c]],
    register(shop_sink, spawn(timer, sleep, [infinity])),
    [begin {ok, P} = supervisor:start_link({local, S}, ?MODULE, {I, C}), unlink(P) end || {S, I, C} <- [{shop_sup, 1000, shop_child}, {shop_weak, 3, shop_frail}]].
tell(Who, What) -> gen_server:call(Who, {tell, What}, infinity).
got(Who) -> gen_server:call(Who, got, infinity).
start_link(Name) -> gen_server:start_link({local, Name}, ?MODULE, [], []).
init({Intensity, Child}) -> {ok, {#{intensity => Intensity, period => 3600}, [#{id => Child, start => {?MODULE, start_link, [Child]}}]}};
init(_) -> {ok, []}.
handle_call({tell, {cast, To, M}}, _, S) -> {reply, gen_server:cast(To, M), S};
handle_call({tell, {send, To, M}}, _, S) -> To ! M, {reply, ok, S};
handle_call({tell, {send3, To, M}}, _, S) -> {reply, erlang:send(To, M, [noconnect]), S};
handle_call({tell, {nosuspend, To, M}}, _, S) -> {reply, erlang:send_nosuspend(To, M), S};
handle_call({tell, {statem, To, M}}, _, S) -> {reply, gen_statem:cast(To, M), S};
handle_call({tell, {notify, To, M}}, _, S) -> {reply, gen_event:notify(To, M), S};
handle_call({tell, {node, To, M}}, _, S) -> F = fun erlang:send/2, F({To, node()}, M), {reply, ok, S};
handle_call({tell, {each, To, N}}, _, S) -> lists:foreach(fun(M) -> To ! M end, lists:seq(1, N)), {reply, ok, S};
handle_call({tell, {call, To, M, Timeout}}, _, S) -> {reply, try gen_server:call(To, {keep, M}, Timeout) catch exit:{timeout, _} -> timeout end, S};
handle_call({keep, M}, _, S) -> {reply, kept, S ++ [M]};
handle_call(got, _, S) -> {reply, S, []}.
handle_cast(M, S) -> {noreply, S ++ [M]}.
handle_info({notify, M}, S) -> {noreply, S ++ [M]};
handle_info({_, kept}, S) -> {noreply, S};
handle_info(M, S) -> {noreply, S ++ [M]}.
`

// faultShopElixir is the part of it that sends, in Elixir.
const faultShopElixir = `defmodule Shop do
  use Application
  def start(_, _), do: Supervisor.start_link([{Registry, keys: :unique, name: Shop.Names} | for(n <- [:shop_a, :shop_b, :shop_c], do: Supervisor.child_spec({Shop.Server, n}, id: n))], strategy: :one_for_one)
  def tell(who, what), do: GenServer.call(who, {:tell, what}, :infinity)
  def got(who), do: GenServer.call(who, :got, :infinity)
end
defmodule Shop.Server do
  use GenServer
  def start_link(name), do: GenServer.start_link(__MODULE__, [], name: name)
  def init(s) do
    {_, name} = Process.info(self(), :registered_name)
    {:ok, _} = Registry.register(Shop.Names, name, nil)
    {:ok, s}
  end
  def handle_call({:tell, {:via, to, m}}, _, s), do: {:reply, GenServer.cast({:via, Registry, {Shop.Names, to}}, m), s}
  def handle_call({:tell, {:cast, to, m}}, _, s), do: {:reply, GenServer.cast(to, m), s}
  def handle_call({:tell, {:send, to, m}}, _, s), do: (send(to, m); {:reply, :ok, s})
  def handle_call({:tell, {:send3, to, m}}, _, s), do: {:reply, Process.send(to, m, [:noconnect]), s}
  def handle_call({:tell, {:each, to, n}}, _, s), do: (Enum.each(1..n, &send(to, &1)); {:reply, :ok, s})
  def handle_call({:tell, {:call, to, m, timeout}}, from, s) do
    try do
      GenServer.reply(from, GenServer.call(to, {:keep, m}, timeout))
    catch
      :exit, {:timeout, _} -> GenServer.reply(from, :timeout)
    end
    {:noreply, s}
  end
  def handle_call({:keep, m}, _, s), do: {:reply, :kept, s ++ [m]}
  def handle_call(:got, _, s), do: {:reply, s, []}
  def handle_cast(m, s), do: {:noreply, s ++ [m]}
  def handle_info({_, :kept}, s), do: {:noreply, s}
  def handle_info(m, s), do: {:noreply, s ++ [m]}
end
`

type shownFault struct {
	ID      int
	Fault   string
	Process string
	Hits    int
	Active  bool
	Outcome string
}

type injected struct {
	ID        int
	Uncovered []struct{ Module, Reason string }
}

// operate does one operation, and reads its output into out.
func (s *Strategy) operate(t *testing.T, id, operation string, out any, in string, args ...any) {
	t.Helper()
	got, err := s.Operate(t.Context(), id, operation, fmt.Appendf(nil, in, args...))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(got, out), "%s", got)
}

func (s *Strategy) injects(t *testing.T, id, in string, args ...any) injected {
	t.Helper()
	var out injected
	s.operate(t, id, "inject", &out, in, args...)
	return out
}

// clears returns the modules that stay instrumented for now.
func (s *Strategy) clears(t *testing.T, id string, fault int) []string {
	t.Helper()
	var out struct{ Instrumented []string }
	s.operate(t, id, "clear", &out, `{"id": %d}`, fault)
	return out.Instrumented
}

// seen is what faults shows of one.
func (s *Strategy) seen(t *testing.T, id string, fault int) shownFault {
	t.Helper()
	var out struct{ Faults []shownFault }
	s.operate(t, id, "faults", &out, "")
	for _, f := range out.Faults {
		if f.ID == fault {
			return f
		}
	}
	t.Fatalf("there is no fault %d in %+v", fault, out.Faults)
	return shownFault{}
}

func eventually(t *testing.T, what func() bool, why string) {
	t.Helper()
	require.Eventually(t, what, patienceOfTests, 20*time.Millisecond, why)
}

func faultModule(t *testing.T, s *Strategy, id, otp, text string) {
	t.Helper()
	source := write(t, filepath.Join(t.TempDir(), "shop.erl"), text)
	_, err := s.sandbox(t, id, map[string]any{"source": source, "otp": otp, "start": "shop:start()"})
	require.NoError(t, err)
}

// info is an item of a registered process.
func (s *Strategy) info(t *testing.T, id, name, item string) string {
	t.Helper()
	pid, err := s.rpc(t.Context(), id, "erlang", "whereis", etf.Atom(name))
	require.NoError(t, err)
	require.IsType(t, etf.Pid{}, pid, name)
	got, err := s.rpc(t.Context(), id, "erlang", "process_info", pid, etf.Atom(item))
	require.NoError(t, err)
	return etf.Format(got.(etf.Tuple)[1], etf.PrintOptions{})
}

func TestFaultsThatAct(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			faultModule(t, s, "f", otp, faultShop)
			pid := func(name string) string { return s.call(t, "f", "erlang", "whereis", etf.Atom(name)) }
			over := func(id int, outcome string) int {
				eventually(t, func() bool { return !s.seen(t, "f", id).Active }, "it ends")
				got := s.seen(t, "f", id)
				require.Contains(t, got.Outcome, outcome)
				return got.Hits
			}

			was := pid("shop_child")
			once := s.injects(t, "f", `{"fault": "kill", "process": "shop_child"}`)
			require.Equal(t, 1, over(once.ID, "done"))
			eventually(t, func() bool { p := pid("shop_child"); return p != was && p != "undefined" }, "another is in its place")
			often := s.injects(t, "f", `{"fault": "kill", "process": "shop_child", "every_ms": 10, "count": 3}`)
			require.Equal(t, 3, over(often.ID, "done"))
			timed := s.injects(t, "f", `{"fault": "kill", "process": "shop_child", "every_ms": 10, "for_ms": 50}`)
			over(timed.ID, "its time is over")
			require.NotEqual(t, "undefined", pid("shop_sup"))

			status := func() bool { return s.info(t, "f", "shop_b", "status") == "suspended" }
			stands := s.injects(t, "f", `{"fault": "suspend", "process": "shop_b"}`)
			eventually(t, status, "it stands")
			require.True(t, s.seen(t, "f", stands.ID).Active)
			s.clears(t, "f", stands.ID)
			require.False(t, status(), "it was resumed")
			require.Equal(t, "cleared", s.seen(t, "f", stands.ID).Outcome)
			short := s.injects(t, "f", `{"fault": "suspend", "process": "shop_b", "for_ms": 5, "every_ms": 10, "count": 3}`)
			require.Equal(t, 3, over(short.ID, "done"))
			held := s.injects(t, "f", `{"fault": "suspend", "process": "shop_b"}`)
			eventually(t, status, "it stands")
			require.True(t, s.seen(t, "f", held.ID).Active)
			s.call(t, "f", "erlang", "apply", etf.Export{Module: "erlang", Function: "exit", Arity: 2}, etf.List{s.term(t, "f", "debughost_fault"), etf.Atom("kill")})
			eventually(t, func() bool { return !status() }, "it is resumed when nobody holds the faults any more")

			fill := s.injects(t, "f", `{"fault": "fill", "process": "shop_sink", "count": 2500, "message": "{order, #{1 => \"tea\"}}"}`)
			require.Equal(t, 2500, over(fill.ID, "done"))
			require.Equal(t, "2500", s.info(t, "f", "shop_sink", "message_queue_len"))

			limit := s.injects(t, "f", `{"fault": "limit", "process": "shop_weak"}`)
			require.Equal(t, 4, over(limit.ID, "the supervisor is down: shutdown"))
			require.Equal(t, "undefined", pid("shop_weak"))
			limit = s.injects(t, "f", `{"fault": "limit", "process": "shop_sup", "count": 5}`)
			require.Equal(t, 5, over(limit.ID, "the supervisor stands after 5"))

			for in, want := range map[string]string{
				`{"fault": "suspend", "process": "code_server"}`: "code_server cannot be suspended",
				`{"fault": "limit", "process": "shop_a"}`:        "shop_a is no supervisor",
				`{"fault": "kill", "process": "Shop.Nobody"}`:    "no process is called Shop.Nobody",
				`{"fault": "kill", "process": "<0.32000.0>"}`:    "<0.32000.0> is no more",
			} {
				_, err := s.Operate(t.Context(), "f", "inject", []byte(in))
				require.ErrorContains(t, err, want)
			}
			_, err := s.Operate(t.Context(), "f", "clear", []byte(`{"id": 99}`))
			require.ErrorContains(t, err, "there is no fault 99")
			testDeliver(t, s)
		})
	}
}

// term is who has a name.
func (s *Strategy) term(t *testing.T, id, name string) etf.Term {
	t.Helper()
	pid, err := s.rpc(t.Context(), id, "erlang", "whereis", etf.Atom(name))
	require.NoError(t, err)
	return pid
}

// Messages of each way to send are dropped and delayed between the two that the fault
// names and no others, and when it is cleared the code is what it was.
func TestFaultsOfMessages(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		for kind, module := range map[string]etf.Atom{"erlang": "shop", "elixir": "Elixir.Shop"} {
			t.Run("otp"+otp+kind, func(t *testing.T) {
				t.Parallel()
				s := strategy(t, "")
				ways := []string{"cast", "send", "send3", "nosuspend", "statem", "notify", "node"}
				if kind == "elixir" {
					ways = []string{"cast", "send", "send3", "via"}
				}
				if kind == "erlang" {
					faultModule(t, s, "f", otp, faultShop)
				} else {
					_, err := s.sandbox(t, "f", map[string]any{"source": project(t, faultShopElixir), "otp": otp})
					require.NoError(t, err)
				}
				tell := func(who string, what ...etf.Term) string {
					return s.call(t, "f", string(module), "tell", etf.Atom(who), etf.Tuple(what))
				}
				got := func(who string) string { return s.call(t, "f", string(module), "got", etf.Atom(who)) }
				md5 := func() string {
					all := []string{}
					for _, m := range []etf.Atom{module, "gen", "gen_server"} {
						all = append(all, s.call(t, "f", "erlang", "get_module_info", m, etf.Atom("md5")))
					}
					if kind == "elixir" {
						for _, m := range []etf.Atom{"Elixir.Shop.Server", "Elixir.GenServer"} {
							all = append(all, s.call(t, "f", "erlang", "get_module_info", m, etf.Atom("md5")))
						}
					}
					return strings.Join(all, " ")
				}
				a := func(name string) etf.Term { return etf.Atom(name) }
				before := md5()
				servers := []string{s.call(t, "f", "erlang", "whereis", a("shop_a")), s.call(t, "f", "erlang", "whereis", a("shop_b"))}

				drop := s.injects(t, "f", `{"fault": "drop", "from": "shop_a", "to": "shop_b"}`)
				require.Empty(t, drop.Uncovered)
				require.NotEqual(t, before, md5())
				for _, way := range ways {
					tell("shop_a", a(way), a("shop_b"), a(way))
				}
				tell("shop_a", a("send"), s.term(t, "f", "shop_b"), a("by_pid"))
				require.Equal(t, "timeout", tell("shop_a", a("call"), a("shop_b"), a("call"), etf.Int(50)))
				for _, way := range ways {
					tell("shop_c", a(way), a("shop_b"), a(way))
					tell("shop_a", a(way), a("shop_c"), a(way))
				}
				all := "[" + strings.Join(ways, ",") + "]"
				require.Equal(t, all, got("shop_b"), "of shop_c")
				require.Equal(t, all, got("shop_c"), "of shop_a")
				require.Equal(t, len(ways)+2, s.seen(t, "f", drop.ID).Hits)
				s.clears(t, "f", drop.ID)
				require.Equal(t, "kept", tell("shop_a", a("call"), a("shop_b"), a("again"), a("infinity")))
				require.Equal(t, "[again]", got("shop_b"))

				replies := s.injects(t, "f", `{"fault": "drop", "from": "shop_b", "to": "shop_a", "count": 1}`)
				require.Equal(t, "timeout", tell("shop_a", a("call"), a("shop_b"), a("unanswered"), etf.Int(50)))
				require.Equal(t, "[unanswered]", got("shop_b"), "it was handled, and another's reply came")
				require.Equal(t, "kept", tell("shop_a", a("call"), a("shop_b"), a("answered"), a("infinity")), "it was one")
				require.Equal(t, shownFault{ID: replies.ID, Fault: "drop", Hits: 1, Outcome: "done"}, s.seen(t, "f", replies.ID))
				require.Equal(t, "[answered]", got("shop_b"))

				// Delayed messages keep their order, also when they are let go.
				late := s.injects(t, "f", `{"fault": "delay", "to": "shop_b", "from": "shop_a", "delay_ms": 3600000}`)
				tell("shop_a", a("each"), a("shop_b"), etf.Int(9))
				tell("shop_a", a("cast"), a("shop_b"), a("end"))
				require.Equal(t, "[]", got("shop_b"))
				require.Equal(t, 10, s.seen(t, "f", late.ID).Hits)
				s.clears(t, "f", 0)
				tell("shop_a", a("send"), a("shop_b"), a("after"))
				require.Equal(t, "[1,2,3,4,5,6,7,8,9,'end','after']", got("shop_b"))

				s.injects(t, "f", `{"fault": "delay", "from": "shop_b", "to": "shop_a", "delay_ms": 300}`)
				began := time.Now()
				require.Equal(t, "kept", tell("shop_a", a("call"), a("shop_b"), a("slow"), a("infinity")))
				require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
				s.injects(t, "f", `{"fault": "delay", "to": "shop_c", "from": "shop_a", "delay_ms": 300}`)
				began = time.Now()
				tell("shop_a", a("cast"), a("shop_c"), a("slow"))
				eventually(t, func() bool { return s.info(t, "f", "shop_c", "message_queue_len") == "0" && got("shop_c") == "[slow]" }, "it comes")
				require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)

				s.clears(t, "f", 0)
				eventually(t, func() bool { return md5() == before }, "the code is as it was")
				require.Equal(t, servers, []string{s.call(t, "f", "erlang", "whereis", a("shop_a")), s.call(t, "f", "erlang", "whereis", a("shop_b"))}, "nobody was killed")
				ended := s.injects(t, "f", `{"fault": "drop", "to": "shop_b", "for_ms": 20}`)
				eventually(t, func() bool { return !s.seen(t, "f", ended.ID).Active && md5() == before }, "it ends by itself")
			})
		}
	}
}

// A process that never leaves its module's code is named, and lives.
func TestFaultsOfLoops(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	faultModule(t, s, "f", erltest.Releases()[0], `-module(shop).
-export([start/0, ask/1]).
start() -> register(shop_loop, spawn(fun loop/0)), register(shop_sink, spawn(timer, sleep, [infinity])).
ask(M) -> shop_sink ! M, erlang:get_module_info(?MODULE, md5).
loop() -> receive stop -> ok; M -> shop_sink ! M, loop() end.
`)
	before := s.call(t, "f", "shop", "ask", etf.Atom("one"))
	for range 2 {
		got := s.injects(t, "f", `{"fault": "drop", "to": "shop_sink"}`)
		require.Len(t, got.Uncovered, 1)
		require.Equal(t, "shop", got.Uncovered[0].Module)
		require.Regexp(t, `^<0\.\d+\.0> still run the code as it was$`, got.Uncovered[0].Reason)
		require.NotEqual(t, before, s.call(t, "f", "shop", "ask", etf.Atom("dropped")))
		require.Equal(t, []string{"shop"}, s.clears(t, "f", got.ID))
	}
	s.call(t, "f", "shop", "ask", etf.Atom("two"))
	require.Equal(t, "2", s.info(t, "f", "shop_sink", "message_queue_len"))
	require.NotEqual(t, before, s.call(t, "f", "erlang", "get_module_info", etf.Atom("shop"), etf.Atom("md5")), "it cannot be put back yet")
	s.call(t, "f", "erlang", "send", etf.Atom("shop_loop"), etf.Atom("stop"))
	eventually(t, func() bool {
		return s.call(t, "f", "erlang", "get_module_info", etf.Atom("shop"), etf.Atom("md5")) == before
	}, "it is put back when the loop has ended")
}

// Messages as inspect prints them, of Erlang and of Elixir, with what there is of another
// node in them.
func testDeliver(t *testing.T, s *Strategy) {
	got := func() string { return s.call(t, "f", "shop", "got", etf.Atom("shop_b")) }
	deliver := func(in Delivery) Delivered {
		raw, err := json.Marshal(in)
		require.NoError(t, err)
		var out Delivered
		s.operate(t, "f", "deliver", &out, "%s", raw)
		return out
	}
	out := deliver(Delivery{Process: "shop_b", Messages: []string{
		`{order, #{id => 1, who => "Zoë", items => [<<"tea">>, 'Green Tea', 1.5]}}`, `cut(`, `{f, #Fun<shop.1.2>}`, `{'$gen_cast', cast}`, `[a|...`,
	}})
	require.Equal(t, 2, out.Delivered)
	require.Len(t, out.Skipped, 3)
	require.Equal(t, "cut(", out.Skipped[0].Message)
	for _, skipped := range out.Skipped {
		require.NotEmpty(t, skipped.Reason)
	}
	require.Empty(t, out.Replaced)
	require.Equal(t, `[{order,#{id => 1,items => [<<"tea">>,'Green Tea',1.5],who => [90,111,235]}},cast]`, strings.NewReplacer(`"Zoë"`, "[90,111,235]").Replace(got()))

	require.Equal(t, 2, deliver(Delivery{Process: "shop_b", Messages: []string{`{:order, %{id: 1, who: "Zoë"}, Shop.Tea}`, `{"a"}`}}).Delivered)
	require.Equal(t, `[{order,#{id => 1,who => <<"Zoë"/utf8>>},'Elixir.Shop.Tea'},{<<"a">>}]`, got(), "what is ambiguous is as the rest is")
	deliver(Delivery{Process: "shop_b", Messages: []string{`{"a"}`}, Syntax: "elixir"})
	require.Equal(t, `[{<<"a">>}]`, got())

	out = deliver(Delivery{Process: "shop_b", Map: map[string]string{"<0.12.0>": "shop_c"}, Messages: []string{
		`{'$gen_call', {<0.99.0>, [alias|#Ref<0.1.2.3>]}, {keep, {call, <0.12.0>, <0.98.0>, #Ref<0.4.2.3>, #Ref<0.4.2.3>, #Port<0.5>}}}`, `{#PID<0.12.0>, #Reference<0.1.2.3>}`,
	}})
	require.Equal(t, []string{"#Port<0.5>", "#Ref<0.1.2.3>", "#Ref<0.4.2.3>", "<0.98.0>", "<0.99.0>"}, out.Replaced)
	require.Equal(t, 2, out.Delivered)
	list, err := s.rpc(t.Context(), "f", "shop", "got", etf.Atom("shop_b"))
	require.NoError(t, err)
	c := s.term(t, "f", "shop_c")
	call := list.(etf.List)[0].(etf.Tuple)
	require.Equal(t, c, call[1])
	alive, err := s.rpc(t.Context(), "f", "erlang", "is_process_alive", call[2])
	require.NoError(t, err)
	require.Equal(t, etf.Atom("false"), alive)
	require.Equal(t, call[3], call[4])
	require.IsType(t, etf.Ref{}, call[3])
	require.IsType(t, etf.Port{}, call[5])
	second := list.(etf.List)[1].(etf.Tuple)
	require.Equal(t, c, second[0])
	require.NotEqual(t, call[3], second[1])

	for in, want := range map[string]string{
		`{"process": "shop_none", "messages": ["a"]}`:                             "no process is called shop_none",
		`{"messages": ["a"]}`:                                                     "process: which one?",
		`{"process": "shop_b", "messages": ["a"], "syntax": "lisp"}`:              `"lisp" is neither erlang nor elixir`,
		`{"process": "shop_b", "messages": ["a"], "map": {"x": "shop_c"}}`:        `"x" is no pid`,
		`{"process": "shop_b", "messages": ["a"], "map": {"<0.1.0>": "nobody_"}}`: "no process is called nobody_",
	} {
		_, err := s.Operate(t.Context(), "f", "deliver", []byte(in))
		require.ErrorContains(t, err, want)
	}
}

func TestFaultProblems(t *testing.T) {
	for in, want := range map[string]string{
		`{"fault": "burn"}`: `fault: "burn" is none of kill`,
		`{"fault": "kill"}`: "process: which one?",
		`{"fault": "kill", "process": "a", "from": "b"}`:                      "from: kill does not take it",
		`{"fault": "kill", "process": "a", "count": 3}`:                       "every_ms: more than once needs it",
		`{"fault": "kill", "process": "a", "for_ms": 3}`:                      "every_ms: for a time needs it",
		`{"fault": "kill", "process": "a", "every_ms": 9}`:                    "every_ms: 9 is not between 10",
		`{"fault": "kill", "process": "a", "for_ms": -1}`:                     "for_ms: -1 is not between 0",
		`{"fault": "kill", "process": "a b"}`:                                 "process: ",
		`{"fault": "kill", "process": "<x>"}`:                                 "process: ",
		`{"fault": "suspend", "process": "a", "every_ms": 50}`:                "for_ms: has to be less than every_ms",
		`{"fault": "drop"}`:                                                   "to: name who sends",
		`{"fault": "delay", "to": "a"}`:                                       "delay_ms: for how long?",
		`{"fault": "fill", "process": "a"}`:                                   "count: how many",
		`{"fault": "fill", "process": "a", "count": 1000001}`:                 "count: 1000001 is not between 0 and 1000000",
		`{"fault": "fill", "process": "a", "count": 1, "message": "("}`:       "message: ",
		`{"fault": "fill", "process": "a", "count": 1, "message": "<0.1.0>"}`: "message: ",
		`{"fault": "drop", "to": "a", "delay_ms": 3}`:                         "delay_ms: drop does not take it",
	} {
		f, err := input[Fault]([]byte(in))
		require.NoError(t, err)
		_, err = f.check()
		require.ErrorContains(t, err, want, in)
	}
}
