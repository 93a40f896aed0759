%% A companion of debughost_agent: what may be wrong with this node, as facts.
%%
%% It looks twice, a window apart, and keeps the few that stand out of each kind.
%% It judges nothing: that is done where the facts arrive. Nothing is copied
%% before its size is known, and every walk yields and honours the share.
-module(?AGENT).

-export([look/1, watch/1]).

%% Processes or tables looked at between two yields.
-define(SLICE, 100).
%% Tables beyond which growth is not looked at, supervisors beyond which no more are asked.
-define(TABLES, 50000).
-define(SUPERVISORS, 5000).
%% A supervisor of more bytes than this is not asked for its state, which is copied.
-define(STATE, 4 * 1024 * 1024).
%% How long all supervisors together may take to tell, ms.
-define(PATIENCE, 2000).
%% Bytes of off-heap binaries on the node below which nobody looks who holds them.
-define(BINARIES, 16 * 1024 * 1024).
%% Bytes of a process beside its heap (links, monitors) up to which its links are asked for.
-define(LINKS, 1024 * 1024).
%% The largest process that is asked for its dictionary.
-define(COPY, 64 * 1024 * 1024).
%% Groups of processes that nobody supervises.
-define(GROUPS, 1000).

%% look(#{window := Ms, limit := N, share := Percent, deep := Bool, gc := Bool}) -> [{Fact, Value}]
%%   node         {Release, SchedulersOnline, UptimeMs}
%%   between      Ms
%%   limits       [{Kind, Count, Limit}], atoms_before Count, modules New
%%   memory       {Total, TotalBefore, Binary}; none where the node does not count
%%   load         {MeanRunQueueTimes100, RuntimeMs, WallMs}
%%   queues       [{P, Name, Call, Len, LenBefore}]
%%   growth       [{P, Name, Call, Memory, MemoryBefore}]
%%   binaries     [{P, Name, Call, Bytes, HeapBytes, Freed | none}]
%%   tables       [{Table, Name, Owner, OwnerName, OwnerCall, Memory, MemoryBefore | none, Orphan}]
%%   supervisors  {Asked, Silent, TooLarge, [{P, Name, Call, Recent, WithinPeriod, Max, Period, Child, ChildPid, App | none}]}
%%   alone        {Total, [{Call, Count, Pid, Memory}]} | none
%%   dist         [{Node, QueuedBytes}], dist_limit Bytes
%%   logger       [{Name, P, Len, DropAt}]
%%   apps         [{App, Vsn}], nodes [Node], known [Node]
look(#{window := Window, limit := N, share := Share, deep := Deep, gc := GC}) ->
    quiet(),
    Pids = processes(),
    First = atomics:new(2 * max(1, length(Pids)), []),
    T0 = erlang:monotonic_time(millisecond),
    Total = total(), % makes some atoms when it is first called
    Atoms = erlang:system_info(atom_count),
    Modules = length(erlang:loaded()),
    _ = walk(Pids, fun(P, I) -> first(P, I, First) end, 1, Share),
    Tables = tables(Share),
    Load = load(max(1, T0 + Window - erlang:monotonic_time(millisecond))),
    Between = max(1, erlang:monotonic_time(millisecond) - T0),
    Binary = binary_total(),
    Look = {First, items(Binary >= ?BINARIES, Deep), erlang:system_info(wordsize), Deep},
    None = {1, empty(N), empty(N), empty(N), empty(N), {0, 0, []}, {0, #{}}},
    {_, Long, Fast, Grown, Held, Sups, Alone} = walk(Pids, fun(P, Acc) -> second(P, Acc, Look) end, None, Share),
    [{node, {list_to_binary(erlang:system_info(otp_release)), erlang:system_info(schedulers_online), element(1, erlang:statistics(wall_clock))}},
     {between, Between},
     {limits, limits()},
     {atoms_before, Atoms},
     {modules, max(0, length(erlang:loaded()) - Modules)},
     {memory, case Total of none -> none; _ -> {total(), Total, Binary} end},
     {load, Load},
     {queues, [R || {{Len, _, Len0}, P} <- lists:usort(best(Long) ++ [{{L, G, L0}, P} || {{G, L, L0}, P} <- best(Fast)]), R <- named(P, [Len, Len0])]},
     {growth, [R || {{_, M, M0}, P} <- best(Grown), R <- named(P, [M, M0])]},
     {binaries, [R || {{B, Heap}, P} <- best(Held), R <- named(P, [B, Heap, freed(P, B, GC)])]},
     {tables, largest(Tables, N, Share)},
     {supervisors, supervisors(Sups, N)},
     {alone, case Deep of true -> groups(Alone, N); false -> none end},
     {dist, dist()},
     {dist_limit, erlang:system_info(dist_buf_busy_limit)},
     {logger, loggers()},
     {apps, [{App, unicode:characters_to_binary(Vsn)} || {App, _, Vsn} <- application:loaded_applications()]},
     {nodes, nodes(connected)},
     {known, nodes(known) -- [node(), nonode@nohost]}].

%% ------------------------------------------------------------------ two looks

first(P, I, First) ->
    case process_info(P, [memory, message_queue_len]) of
        [{_, Mem}, {_, Len}] -> atomics:put(First, I, Mem), atomics:put(First, I + 1, Len);
        undefined -> atomics:put(First, I, -1)
    end,
    I + 2.

items(Binaries, Deep) ->
    [memory, message_queue_len, initial_call]
        ++ [{dictionary, '$initial_call'} || keyed()]
        ++ [total_heap_size || Binaries orelse Deep]
        ++ [garbage_collection_info || Binaries].

second(P, {I, _, _, _, _, _, _} = Acc, {First, Items, _, _} = Look) ->
    case atomics:get(First, I) =/= -1 andalso process_info(P, Items) of
        [{_, Mem}, {_, Len}, {_, Init} | Rest] ->
            seen(P, Mem, Len, Init, maps:from_list(Rest), Look, Acc);
        _ ->
            setelement(1, Acc, I + 2)
    end.

seen(P, Mem, Len, Init, Rest, {First, _, Word, Deep}, {I, Long, Fast, Grown, Held, Sups, Alone}) ->
    Mem0 = atomics:get(First, I),
    Len0 = atomics:get(First, I + 1),
    Heap = maps:get(total_heap_size, Rest, 0) * Word,
    {I + 2,
     best(Len > 0, {Len, Len - Len0, Len0}, P, Long),
     best(Len > Len0, {Len - Len0, Len, Len0}, P, Fast),
     best(Mem > Mem0, {Mem - Mem0, Mem, Mem0}, P, Grown),
     holds(P, Heap, Word, Rest, Held),
     case is_supervisor(P, Mem, Init, Rest) of
         true -> supervisor(P, Mem, Sups);
         false -> Sups
     end,
     case Deep andalso element(1, Init) =/= proc_lib andalso Mem - Heap < ?LINKS of
         true -> alone(P, Init, Mem, Alone);
         false -> Alone
     end}.

best(true, V, P, Best) -> keep(V, P, Best);
best(false, _, _, Best) -> Best.

%% The collector counts, for each process, the off-heap binaries that it refers
%% to: nothing has to be copied to know.
holds(P, Heap, Word, #{garbage_collection_info := Info}, Held) ->
    Bytes = (proplists:get_value(bin_vheap_size, Info, 0) + proplists:get_value(bin_old_vheap_size, Info, 0)) * Word,
    best(Bytes > 0, {Bytes, Heap}, P, Held);
holds(_, _, _, _, Held) ->
    Held.

freed(P, Before, true) when is_pid(P) ->
    Id = make_ref(),
    try erlang:garbage_collect(P, [{async, Id}]) of
        async ->
            receive {garbage_collect, Id, _} -> max(0, Before - held(P)) after 1000 -> none end;
        _ -> none
    catch
        error:_ -> none
    end;
freed(_, _, _) -> none.

held(P) ->
    case process_info(P, garbage_collection_info) of
        {_, Info} -> (proplists:get_value(bin_vheap_size, Info, 0) + proplists:get_value(bin_old_vheap_size, Info, 0)) * erlang:system_info(wordsize);
        undefined -> 0
    end.

%% --------------------------------------------------------------------- node

total() ->
    try erlang:memory(total) catch error:notsup -> none end.

binary_total() ->
    try erlang:memory(binary) catch error:notsup -> ?BINARIES end.

%% Ten looks at the run queues while the window passes.
load(Ms) ->
    {Runtime, _} = erlang:statistics(runtime),
    T0 = erlang:monotonic_time(millisecond),
    Sum = lists:sum([begin receive after max(1, Ms div 10) -> ok end, erlang:statistics(total_run_queue_lengths) end || _ <- lists:seq(1, 10)]),
    {Runtime1, _} = erlang:statistics(runtime),
    {Sum * 10, Runtime1 - Runtime, max(1, erlang:monotonic_time(millisecond) - T0)}.

%% Not of ETS: its limit is a hint to the runtime, and tables are made beyond it.
limits() ->
    [{K, erlang:system_info(C), erlang:system_info(L)}
     || {K, C, L} <- [{processes, process_count, process_limit}, {ports, port_count, port_limit}, {atoms, atom_count, atom_limit}]]
        ++ [{file_descriptors, Open, Most} || {Open, Most} <- ?HELPER:files()].

%% What waits to be sent to other nodes.
dist() ->
    [{Node, Bytes} || {Node, Ctrl} <- erlang:system_info(dist_ctrl), Bytes <- queued(Ctrl)].

queued(Port) when is_port(Port) ->
    case erlang:port_info(Port, queue_size) of
        {_, Bytes} -> [Bytes];
        undefined -> []
    end;
queued(_) -> [].

%% The processes behind logger's handlers, and Elixir's own of before 1.15.
loggers() ->
    Handlers = [{Id, handler(M, Id), maps:get(drop_mode_qlen, config(H), 200)} || #{id := Id, module := M} = H <- handlers()],
    [{Id, P, Len, Drop} || {Id, Name, Drop} <- Handlers ++ [{logger, logger, 1000}, {error_logger, error_logger, 1000}, {'Elixir.Logger', 'Elixir.Logger', 500}],
                           P <- [whereis(Name)], is_pid(P), {_, Len} <- [process_info(P, message_queue_len)]].

handlers() ->
    try logger:get_handler_config() catch error:_ -> [] end. % one was just removed

config(#{config := #{} = C}) -> C;
config(_) -> #{}.

handler(Module, Id) ->
    try list_to_existing_atom(lists:concat([Module, "_", Id]))
    catch error:_ -> undefined
    end.

%% -------------------------------------------------------------------- tables

%% What tables had at first, unless there are too many.
tables(Share) ->
    All = ets:all(),
    case length(All) > ?TABLES of
        true -> #{};
        false -> walk(All, fun(T, Acc) -> Acc#{T => words(T)} end, #{}, Share)
    end.

words(T) ->
    case ets:info(T, memory) of
        undefined -> 0;
        Words -> Words
    end.

%% The largest, and those that grew most.
largest(Before, N, Share) ->
    Look = fun(T, {Large, Grown}) ->
                   Now = words(T),
                   Then = maps:get(T, Before, Now),
                   {best(Now > 0, Now, T, Large), best(Now > Then, Now - Then, T, Grown)}
           end,
    {Large, Grown} = walk(ets:all(), Look, {empty(N), empty(N)}, Share),
    Word = erlang:system_info(wordsize),
    [{printed(T), ets:info(T, name), Owner, Name, Call, words(T) * Word, before(T, Before, Word), orphan(T, Owner)}
     || T <- lists:usort([T || {_, T} <- best(Large) ++ best(Grown)]),
        Owner <- [ets:info(T, owner)], is_pid(Owner), {_, Name, Call} <- named(Owner, [])].

before(T, Before, Word) ->
    case Before of
        #{T := Words} -> Words * Word;
        _ -> none
    end.

%% Whether the table ends with a process that nobody looks after, and no heir has it then.
orphan(T, Owner) ->
    ets:info(T, heir) =:= none andalso
        case process_info(Owner, [memory, total_heap_size, initial_call]) of
            [{_, Mem}, {_, Heap}, {_, Init}] when element(1, Init) =/= proc_lib ->
                Mem - Heap * erlang:system_info(wordsize) < ?LINKS andalso linkless(Owner, Init) =/= false;
            _ -> false
        end.

%% --------------------------------------------------------------- supervision

%% By how it began: what OTP 26.2 and later tell without a copy.
is_supervisor(_, _, {proc_lib, init_p, _}, #{{dictionary, '$initial_call'} := Call}) -> supervises(Call);
is_supervisor(P, Mem, {proc_lib, init_p, _}, _) when Mem < ?STATE ->
    case not keyed() andalso process_info(P, dictionary) of
        {_, D} -> supervises(proplists:get_value('$initial_call', D));
        _ -> false
    end;
is_supervisor(_, _, _, _) -> false.

supervises({M, _, _}) when M =:= supervisor; M =:= 'Elixir.DynamicSupervisor'; M =:= 'Elixir.Supervisor' -> true;
supervises({M, init, 1}) -> % supervisor2 and others that were made after OTP's
    erlang:function_exported(M, which_children, 1) andalso erlang:function_exported(M, count_children, 1);
supervises(_) -> false.

supervisor(_, Mem, {K, Large, Ps}) when Mem > ?STATE; K >= ?SUPERVISORS -> {K, Large + 1, Ps};
supervisor(P, Mem, {K, Large, Ps}) -> {K + 1, Large, [{Mem, P} | Ps]}.

supervisors({Asked, Large, Ps}, N) ->
    {Silent, Best} = ask(Ps, erlang:monotonic_time(millisecond) + ?PATIENCE, {0, empty(N)}),
    {Asked, Silent, Large,
     [R || {{Recent, Within, Max, Period, Newest}, P} <- best(Best), R <- named(P, [Recent, Within, Max, Period | Newest] ++ [application(P)])]}.

application(P) ->
    case application:get_application(P) of
        {ok, App} -> App;
        undefined -> none
    end.

%% A few at a time, so that their answers are never much together.
ask([], _, Acc) -> Acc;
ask(Ps, End, Acc) ->
    {Some, Rest} = batch(Ps, 50, ?STATE, []),
    Refs = [{R, P} || P <- Some, R <- [monitor(process, P, [{alias, reply_demonitor}])], begin P ! {system, {self(), [alias | R]}, get_state}, true end],
    ask(Rest, End, lists:foldl(fun(RP, A) -> answer(RP, End, A) end, Acc, Refs)).

batch([{Mem, P} | Ps], K, Left, Acc) when K > 0, Left > 0 -> batch(Ps, K - 1, Left - Mem, [P | Acc]);
batch(Ps, _, _, Acc) -> {Acc, Ps}.

answer({R, P}, End, {Silent, Best}) ->
    receive
        {[alias | R], {ok, State}} -> {Silent, restarts(State, P, Best)};
        {[alias | R], State} -> {Silent, restarts(State, P, Best)}; % before OTP 26
        {'DOWN', R, process, _, _} -> {Silent, Best}
    after max(0, End - erlang:monotonic_time(millisecond)) ->
            demonitor(R, [flush]),
            receive {[alias | R], _} -> ok after 0 -> ok end,
            {Silent + 1, Best}
    end.

%% #state{} of supervisor: name, strategy, children, dynamics, intensity,
%% period, restarts, in OTP 25 to 29; a map of Elixir's DynamicSupervisor.
restarts(S, P, Best) when is_tuple(S), tuple_size(S) > 8, element(1, S) =:= state ->
    restarts(element(8, S), element(6, S), element(7, S), {element(4, S), element(5, S)}, P, Best);
restarts(#{max_restarts := Max, max_seconds := Period, restarts := Times} = S, P, Best) ->
    restarts(Times, Max, Period, maps:get(children, S, none), P, Best);
restarts(_, _, Best) -> Best.

restarts(Times, Max, Period, Children, P, Best) when is_list(Times), is_integer(Max), is_integer(Period) ->
    Now = erlang:monotonic_time(second),
    Ages = [Now - T || T <- Times, is_integer(T)],
    case length([A || A <- Ages, A =< max(60, Period)]) of
        0 -> Best;
        Recent -> keep({Recent, length([A || A <- Ages, A =< Period]), Max, Period, newest(Children)}, P, Best)
    end;
restarts(_, _, _, _, _, Best) -> Best.

%% newest(Children) -> [Id, Pid | restarting | none]: who was started last, or cannot be.
newest({{_, Children}, Dynamics}) when map_size(Children) > 0 ->
    case Dynamics of
        {_, #{} = Pids} when map_size(Pids) > 0 -> [printed(element(3, hd(maps:values(Children)))), lists:max(maps:keys(Pids))];
        _ -> newest([{element(2, C), element(3, C)} || C <- maps:values(Children), is_tuple(C), tuple_size(C) > 3])
    end;
newest(#{} = Children) when map_size(Children) > 0 ->
    P = lists:max(maps:keys(Children)),
    case maps:get(P, Children) of
        {{M, F, _}, _, _, _, _} -> [printed({M, F}), P];
        _ -> [<<>>, P]
    end;
newest([_ | _] = Children) ->
    case [Id || {{restarting, _}, Id} <- Children] of
        [Id | _] -> [printed(Id), restarting];
        [] ->
            case lists:sort([C || {P, _} = C <- Children, is_pid(P)]) of
                [] -> [<<>>, none];
                Pids -> {P, Id} = lists:last(Pids), [printed(Id), P]
            end
    end;
newest(_) -> [<<>>, none].

%% Processes without links that are not proc_lib's, by what they run.
alone(P, Init, Mem, {Total, Groups} = Acc) ->
    case linkless(P, Init) of
        {true, Current} ->
            Call = case Init of {erlang, apply, 2} -> Current; _ -> Init end,
            case Groups of
                #{Call := {K, Of, Sum}} -> {Total + 1, Groups#{Call := {K + 1, Of, Sum + Mem}}};
                _ when map_size(Groups) < ?GROUPS -> {Total + 1, Groups#{Call => {1, P, Mem}}};
                _ -> {Total + 1, Groups}
            end;
        false ->
            Acc
    end.

%% linkless(Pid, InitialCall) -> {true, CurrentFunction} | false
%% The kernel has some of its own, which live as long as the node.
linkless(P, Init) ->
    case process_info(P, [links, current_function]) of
        [{_, []}, {_, {M, _, _} = Current}] when P =/= self() ->
            case erts_internal:is_system_process(P)
                orelse lists:member(M, [prim_file, socket_registry, rpc, erpc, erts_code_purger, erts_trace_cleaner, init])
                orelse lists:member(element(1, Init), [erpc, init, otp_ring0])
                orelse ours(M) of
                true -> false;
                false -> {true, Current}
            end;
        _ -> false
    end.

ours(M) -> lists:prefix("debughost_agent_", atom_to_list(M)).

groups({Total, Groups}, N) ->
    Best = maps:fold(fun(Call, {K, P, Mem}, Acc) -> keep({K, Mem}, {Call, P}, Acc) end, empty(N), Groups),
    {Total, [{Call, K, P, Mem} || {{K, Mem}, {Call, P}} <- best(Best)]}.

%% ------------------------------------------------------------ system monitor

%% watch(#{duration := Ms, long_gc := Ms, long_schedule := Ms, limit := N, force := Bool}) ->
%%     {ok, Took | none, [{P, Name, Call, Kind, Count, Longest}]} | {busy, Owner}
%% Took is whose system monitor it was meanwhile. A node has one before OTP 28;
%% then this one's is its own. One that somebody has is taken only by force: there
%% are those who look after it and log each second that it is not theirs.
watch(#{force := Force} = Spec) ->
    quiet(),
    case not own_monitor() andalso erlang:system_monitor() of
        {P, _} when not Force -> {busy, owner(P)};
        _ -> watching(Spec)
    end.

own_monitor() ->
    _ = code:ensure_loaded(trace),
    erlang:function_exported(trace, system, 3).

watching(#{duration := Duration, long_gc := GC, long_schedule := Schedule, limit := N}) ->
    Options = [{long_gc, GC}, {long_schedule, Schedule}, busy_port, busy_dist_port],
    T0 = erlang:monotonic_time(millisecond),
    {Took, End} = begin_watch(Options),
    Seen = collect(T0, T0 + Duration, #{}),
    End(),
    Best = maps:fold(fun({P, Kind}, {K, Longest}, Acc) -> keep({Longest, K}, {P, Kind}, Acc) end, empty(N), Seen),
    {ok, Took, [R || {{Longest, K}, {P, Kind}} <- best(Best), R <- named(P, [Kind, K, Longest])]}.

begin_watch(Options) ->
    case own_monitor() of
        true ->
            Session = trace:session_create(debughost, self(), []),
            _ = [case O of {K, V} -> trace:system(Session, K, V); K -> trace:system(Session, K, true) end || O <- Options],
            {none, fun() -> trace:session_destroy(Session) end};
        false ->
            {Warden, Took} = warden(Options),
            {Took, fun() -> Warden ! {self(), done}, receive {Warden, done} -> ok after 5000 -> ok end end}
    end.

%% The warden gives the system monitor back, when this is done or when this
%% process has ended. It runs no code of this module, so that it outlives it: when
%% debughost vanishes, the module is purged at once.
warden(Options) ->
    Self = self(),
    Program = "Old = (catch erlang:system_monitor(For, Options)),"
        "For ! {self(), Old},"
        "Ref = erlang:monitor(process, For),"
        "End = receive {For, done} -> done; {'DOWN', Ref, process, _, _} -> down end,"
        "case erlang:system_monitor() of"
        "    {Other, _} when Other =/= For -> left;"
        "    _ -> case Old of"
        "             {Pid, Opts} -> catch erlang:system_monitor(Pid, Opts);"
        "             _ -> erlang:system_monitor(undefined)"
        "         end "
        "end,"
        "For ! {self(), End}.",
    {ok, Tokens, _} = erl_scan:string(Program),
    {ok, Forms} = erl_parse:parse_exprs(Tokens),
    Warden = spawn(erl_eval, exprs, [Forms, [{'For', Self}, {'Options', Options}]]),
    Mon = monitor(process, Warden),
    receive
        {Warden, undefined} -> demonitor(Mon, [flush]), {Warden, none};
        {Warden, {Pid, _}} -> demonitor(Mon, [flush]), {Warden, owner(Pid)};
        {'DOWN', Mon, process, _, Reason} -> exit(Reason)
    end.

owner(P) when is_pid(P) ->
    case process_info(P, registered_name) of
        {_, Name} -> {P, Name};
        _ -> {P, []}
    end;
owner(P) -> {P, []}.

%% Of a collection that was under way when the monitor was set, the emulator does
%% not know when it began, and tells how long the node is up: what took longer than
%% this listens did not happen.
collect(T0, End, Seen) ->
    receive
        {monitor, P, Kind, Info} when map_size(Seen) < 1000; is_map_key({P, Kind}, Seen) ->
            Listened = erlang:monotonic_time(millisecond) - T0,
            case took(Info) of
                Ms when Ms > Listened -> collect(T0, End, Seen);
                Ms ->
                    {K, Longest} = maps:get({P, Kind}, Seen, {0, 0}),
                    collect(T0, End, Seen#{{P, Kind} => {K + 1, max(Longest, Ms)}})
            end;
        {monitor, _, _, _} ->
            collect(T0, End, Seen)
    after max(0, End - erlang:monotonic_time(millisecond)) ->
            Seen
    end.

took([{timeout, Ms} | _]) -> Ms;
took(_) -> 0.

%% ------------------------------------------------------------------- helpers

%% A list of one row {P, Name, Call | More}, or of none when it has ended.
named(P, More) when is_pid(P) ->
    Keys = [{dictionary, '$initial_call'} || keyed()],
    case node(P) =:= node() andalso process_info(P, [registered_name, initial_call, current_function, memory | Keys]) of
        [{_, Name}, {_, Init}, {_, Current}, {_, Mem} | Entry] -> [list_to_tuple([P, Name, call(Init, Current, entry(P, Init, Mem, Entry)) | More])];
        _ -> []
    end;
named(Port, More) ->
    case erlang:port_info(Port, name) of
        {_, Name} -> [list_to_tuple([Port, [], unicode:characters_to_binary(Name) | More])];
        undefined -> []
    end.

%% Before OTP 26.2 the whole dictionary is copied: not that of a large process.
entry(P, {proc_lib, init_p, _}, Mem, []) when Mem < ?COPY ->
    case process_info(P, dictionary) of
        {_, D} -> [E || {'$initial_call', {_, _, _}} = E <- D];
        undefined -> []
    end;
entry(_, _, _, Entry) -> Entry.

call({proc_lib, init_p, _}, _, [{_, {M, F, A}}]) when is_list(A) -> {M, F, length(A)};
call({proc_lib, init_p, _}, _, [{_, {M, F, A}}]) -> {M, F, A};
call({erlang, apply, 2}, Current, _) -> Current;
call(Init, _, _) -> Init.

printed(Name) when is_atom(Name) -> atom_to_binary(Name, utf8);
printed(Term) -> unicode:characters_to_binary(io_lib:format("~0tP", [Term, 12])).

keyed() ->
    try process_info(self(), {dictionary, '$initial_call'}) of
        _ -> true
    catch
        error:badarg -> false
    end.

%% The N highest, as a set with its lowest value beside it.
empty(N) -> {N, none, gb_sets:empty()}.

keep(V, _, {0, Low, _} = Best) when V =< Low -> Best;
keep(V, P, {0, _, Set}) ->
    {_, Set1} = gb_sets:take_smallest(gb_sets:add_element({V, P}, Set)),
    {Low, _} = gb_sets:smallest(Set1),
    {0, Low, Set1};
keep(V, P, {Room, _, Set}) ->
    Set1 = gb_sets:add_element({V, P}, Set),
    {Low, _} = gb_sets:smallest(Set1),
    {Room - 1, Low, Set1}.

best({_, _, Set}) -> lists:reverse(gb_sets:to_list(Set)).

walk(Es, Fun, Acc, Share) -> walk(Es, Fun, Acc, ?SLICE, Share, erlang:monotonic_time()).

walk([E | Es], Fun, Acc, K, Share, T0) when K > 0 -> walk(Es, Fun, Fun(E, Acc), K - 1, Share, T0);
walk([], _, Acc, _, _, _) -> Acc;
walk(Es, Fun, Acc, _, Share, T0) -> walk(Es, Fun, Acc, ?SLICE, Share, ?HELPER:yield(T0, Share)).

quiet() ->
    Words = 16 * 1024 * 1024 + 8 * erlang:system_info(process_count),
    process_flag(max_heap_size, #{size => Words, kill => true, error_logger => false}).
