package target_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// borrowed is a supervisor that was made after OTP's and went its own way, as
// RabbitMQ's supervisor2: a state that is one shorter, restarts that wait, children
// of a simple_one_for_one in a set of the old form.
const borrowed = `
-module(borrowed).
-export([start/0, start_link/2, init/1, handle_call/3, handle_cast/2, handle_info/2, which_children/1, count_children/1]).
start() ->
    ok = application:load({application, lent, [{vsn, "1"}, {mod, {lent, []}}]}),
    application:start(lent).
start_link(Name, Kind) -> gen_server:start_link({local, Name}, ?MODULE, {Name, Kind}, []).
which_children(S) -> gen_server:call(S, which_children).
count_children(S) -> gen_server:call(S, count_children).
init({Name, Kind}) ->
    process_flag(trap_exit, true),
    {Strategy, Children, Dynamics} = kind(Kind),
    Now = erlang:monotonic_time(second),
    {ok, {state, {local, Name}, Strategy, Children, Dynamics, 10, 5, [Now, Now], 0, lent, [Kind]}}.
kind(plain) ->
    {one_for_one, {[slow], #{slow => child(kid(), slow, {transient, 1})}}, undefined};
kind(simple) ->
    Set = {set, 2, 16, 16, 8, 80, 48, {[], [], [], [], [], [], [], [], [], [], [], [], [], [], [], []},
           {{[], [], [kid()], [], [], [], [], [kid()], [], [], [], [], [], [], [], []}}},
    {simple_one_for_one, {[one], #{one => child(undefined, one, temporary)}}, {sets, Set}}.
child(Pid, Id, Restart) -> {child, Pid, Id, {?MODULE, kid, []}, Restart, 500, worker, [lent_worker]}.
kid() -> spawn_link(fun() -> receive stop -> ok end end).
handle_call(_, _, S) -> {reply, [], S}.
handle_cast(_, S) -> {noreply, S}.
handle_info(_, S) -> {noreply, S}.
`

// lent is the application that uses it.
const lent = `
-module(lent).
-behaviour(application).
-behaviour(supervisor).
-export([start/2, stop/1, init/1]).
start(_, _) -> supervisor:start_link({local, lent_sup}, ?MODULE, []).
stop(_) -> ok.
init([]) -> {ok, {#{}, [#{id => K, type => supervisor, start => {borrowed, start_link, [K, K]}} || K <- [plain, simple]]}}.
`

// A supervisor that is not OTP's is one all the same: in trees, states and
// findings.
func TestSupervisorMadeAfterOTPs(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp})
		b.LoadModule(t, "borrowed", borrowed)
		b.LoadModule(t, "lent", lent)
		b.MustEval(t, "ok = borrowed:start()")
		r := attach(t, nil, b)

		root, err := r.Tree(t.Context(), target.TreeQuery{Node: b.Name, App: "lent", Timeout: 30 * time.Second})
		require.NoError(t, err)
		plain := at(t, root, "lent_sup", "plain")
		assert.Equal(t, "one_for_one", plain.Strategy)
		assert.EqualValues(t, 2, plain.Recent)
		assert.Equal(t, "transient", at(t, plain, "slow").Restart)
		simple := at(t, root, "lent_sup", "simple")
		assert.Equal(t, "simple_one_for_one", simple.Strategy)
		assert.EqualValues(t, 10, simple.Intensity)
		require.Len(t, simple.Children, 2)
		assert.Equal(t, "temporary", simple.Children[0].Restart)

		s := r.state(t, b, "plain", "")
		assert.Equal(t, "borrowed", s.Behaviour)
		assert.Equal(t, "lent", s.Module)
		assert.Contains(t, tree(s.Tree), " {3} strategy atom one_for_one\n")
		assert.Contains(t, tree(s.Tree), " {10} module atom lent\n {11} args list [plain]\n")
		s = r.state(t, b, "kernel_sup", "")
		assert.Contains(t, tree(s.Tree), " module atom kernel\n")
		assert.Equal(t, "kernel", r.state(t, b, "kernel_sup", "#module").Text)

		d := r.diagnoseOne(t, target.DiagnoseQuery{Window: 50 * time.Millisecond})
		found := findings(d, target.KindRestarts, "plain <")
		require.Len(t, found, 1)
		assert.Contains(t, found[0].Evidence, "2 restarts in the last 60 s")
		assert.Equal(t, "debughost tree "+b.Name+" lent", found[0].Next)
	})
}

// gs2 is a process with the state of a gen_server2, and texts of all lengths.
const gs2 = `
-module(gen_server2).
-export([start/0, loop/1, system_continue/3, system_terminate/4, system_get_state/1]).
start() -> proc_lib:start(?MODULE, loop, [self()]).
loop(Parent) -> register(second, self()), proc_lib:init_ack(Parent, {ok, self()}), next(Parent).
next(Parent) -> receive {system, From, Req} -> sys:handle_system_msg(Req, From, Parent, ?MODULE, [], Parent) end.
system_continue(Parent, _, _) -> next(Parent).
system_terminate(Reason, _, _, _) -> exit(Reason).
system_get_state(P) ->
    Path = lists:append(lists:duplicate(30, "/var/lib/there")),
    {ok, {gs2_state, P, second, {mine, Path, [{dir, Path}], [1, 2, 3 | lists:duplicate(500, 7)], Path ++ [now]}, lent, hibernate, undefined, {queue}, [], x, y, z, z}}.
`

// The parts of a gen_server2 have names, and a text that is cut is still a text.
func TestStateOfServer2(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp})
		b.LoadModule(t, "gen_server2", gs2)
		b.MustEval(t, "{ok, _} = gen_server2:start()")
		r := attach(t, nil, b)
		s := r.state(t, b, "second", "#state")
		assert.Equal(t, "gen_server2", s.Behaviour)
		assert.Equal(t, "{4}", s.Path)
		text := tree(s.Tree)
		assert.NotContains(t, text, "47,118,97", "a text as numbers")
		assert.Contains(t, text, ` string "/var/lib/there/var/lib`)
		assert.Contains(t, text, ` list [{dir,"/var/lib/there/var/lib`)
		assert.Contains(t, text, ` list [1,2,3,7,7`)
		assert.True(t, s.Tree.Truncated)
		whole := r.state(t, b, "second", "")
		assert.Contains(t, tree(whole.Tree), " {5} module atom lent\n")
		assert.NotContains(t, tree(whole.Tree), "47,118,97")
	})
}
