package target_test

// ill makes a node ill, one way by each function. A process that is to go on
// waits for its time: nothing of it outlives the test's node.
const ill = `
-module(ill).
-behaviour(supervisor).
-export([start/1, stop/0, init/1, child/1, lone/0, sleeper/0, spin/0, stay/1, collector/1]).

start(mailbox) ->
    P = spawn(?MODULE, sleeper, []),
    register(ill_mailbox, P),
    [P ! {message, I} || I <- lists:seq(1, 12000)],
    grower(fun() -> every(5, fun() -> [P ! {more, I} || I <- lists:seq(1, 20)] end) end);
start(memory) ->
    grower(fun() -> register(ill_memory, self()), grow(lists:seq(1, 3000000)) end);
start(binaries) ->
    spawn(fun() -> register(ill_binaries, self()), Held = [binary:copy(<<0>>, 1000000) || _ <- lists:seq(1, 50)], sleeper(), Held end);
start(garbage) ->
    spawn(fun() -> register(ill_garbage, self()), waste([binary:copy(<<0>>, 1000000) || _ <- lists:seq(1, 50)]), sleeper() end);
start(atoms) ->
    grower(fun() -> every(50, fun() -> [list_to_atom("ill_" ++ integer_to_list(erlang:unique_integer([positive]))) || _ <- lists:seq(1, 100)] end) end);
start(loop) ->
    detached(fun() -> supervisor:start_link({local, ill_loop_sup}, ?MODULE, {1000, 60, [loop]}) end);
start(edge) ->
    detached(fun() -> supervisor:start_link({local, ill_edge_sup}, ?MODULE, {2, 600, [quiet]}) end),
    [begin exit(pid(ill_edge_sup), kill), again(ill_edge_sup) end || _ <- [1, 2]];
start(orphan) ->
    spawn(fun() -> T = ets:new(ill_orphan, [public]), ets:insert(T, [{I, I} || I <- lists:seq(1, 50000)]), stay(T) end);
start(table) ->
    grower(fun() ->
        T = ets:new(ill_table, [named_table, public]),
        ets:insert(T, [{I, lists:seq(1, 50)} || I <- lists:seq(1, 40000)]),
        every(10, fun() -> ets:insert(T, [{erlang:unique_integer(), lists:seq(1, 50)} || _ <- lists:seq(1, 500)]) end)
    end);
start(busy) ->
    [spawn(?MODULE, spin, []) || _ <- lists:seq(1, 4 * erlang:system_info(schedulers_online))];
start(lone) ->
    [spawn(?MODULE, lone, []) || _ <- lists:seq(1, 1200)];
start(logger) ->
    spawn(fun() ->
        P = whereis(logger_std_h_default),
        erlang:suspend_process(P),
        [P ! {nothing, I} || I <- lists:seq(1, 1500)],
        sleeper()
    end).

%% The one process that grows, or has something grow, until stop/0.
grower(Fun) -> spawn(fun() -> put(grower, true), Fun() end), ok.
stop() ->
    [exit(P, kill) || P <- processes(), {_, D} <- [process_info(P, dictionary)], proplists:get_value(grower, D) =:= true].

every(Ms, Fun) -> Fun(), receive after Ms -> every(Ms, Fun) end.
grow(L) when length(L) < 30000000 -> receive after 50 -> grow(lists:seq(1, 150000) ++ L) end;
grow(L) -> stay(L).
waste(Held) -> true = length(Held) > 1.
stay(T) -> receive stop -> T end.
sleeper() -> receive stop -> ok end.
lone() -> receive stop -> ok end.
spin() -> spin().
collector(N) -> L = lists:seq(1, N), erlang:garbage_collect(), receive after 50 -> ok end, _ = hd(L), collector(N).

%% In a process that supervisors and tables may stay with, linked to another.
detached(Fun) ->
    From = self(),
    P = proc_lib:spawn(fun() -> Fun(), From ! {self(), ready}, sleeper() end),
    receive {P, ready} -> P end.

pid(Sup) -> [{_, P, _, _}] = supervisor:which_children(Sup), P.
again(Sup) -> case pid(Sup) of P when is_pid(P) -> ok; _ -> again(Sup) end.

init({Max, Period, Children}) ->
    {ok, {#{intensity => Max, period => Period}, [#{id => C, start => {?MODULE, child, [C]}} || C <- Children]}}.
child(loop) -> {ok, spawn_link(fun() -> receive after 30 -> exit(oops) end end)};
child(_) -> {ok, spawn_link(?MODULE, sleeper, [])}.
`

// dynamic has the name and the state of Elixir's DynamicSupervisor.
const dynamic = `
-module('Elixir.DynamicSupervisor').
-behaviour(gen_server).
-export([start/1, init/1, handle_call/3, handle_cast/2]).
start(Name) -> gen_server:start({local, Name}, ?MODULE, [], []).
init([]) ->
    Now = erlang:monotonic_time(second),
    {ok, #{max_restarts => 3, max_seconds => 5, restarts => [Now, Now],
           children => #{self() => {{ill, child, [x]}, permanent, 5000, worker, [ill]}}}}.
handle_call(_, _, S) -> {reply, ok, S}.
handle_cast(_, S) -> {noreply, S}.
`
