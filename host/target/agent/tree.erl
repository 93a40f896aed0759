%% A companion of debughost_agent: applications and their supervision trees.
%%
%% A tree is read from what supervisors have in their state, each asked once, by a
%% process of its own that ends with the answer: one that hangs costs its branch,
%% and a late answer goes nowhere. Where the state is unknown (supervisors that
%% are not OTP's), which_children is asked.
-module(?AGENT).

-export([apps/1, tree/1, job/2]).

%% Processes looked at between two yields.
-define(SLICE, 100).
%% Supervisors that are asked at the same time.
-define(JOBS, 8).
%% The largest supervisor, in bytes, whose children are asked for: they are copied.
-define(COPY, 64 * 1024 * 1024).
%% The largest child id, in bytes, that is sent as it is.
-define(ID, 512).

%% ------------------------------------------------------------- applications

%% apps(Share) -> {ok, [{App, Vsn, Description, State, StartType, Processes, Memory}]}
%% State: running, starting, loaded, loading. StartType: [] where it is not started.
%% The processes of an application have its master as group leader.
apps(Share) ->
    quiet(),
    {States, Types} = states(),
    Loaded = application_controller:loaded_applications(),
    Masters = maps:from_list([{M, App} || {App, _, _} <- Loaded, M <- master(App)]),
    Count = fun(P, Acc) ->
                    case process_info(P, [group_leader, memory]) of
                        [{_, M}, {_, Bytes}] when is_map_key(M, Masters) ->
                            {N, Sum} = maps:get(M, Acc, {0, 0}),
                            Acc#{M => {N + 1, Sum + Bytes}};
                        _ -> Acc
                    end
            end,
    Counts = walk(Count, #{}, Share, infinity),
    {ok, [begin
              {N, Sum} = case master(App) of
                             [M] -> maps:get(M, Counts, {0, 0});
                             [] -> {0, 0}
                         end,
              {App, text(Vsn), text(Desc), maps:get(App, States, state(App)), maps:get(App, Types, []), N, Sum}
          end || {App, Desc, Vsn} <- lists:sort(Loaded)]}.

%% An application controller that is busy is not waited for long.
states() ->
    try gen_server:call(application_controller, info, 1000) of
        Info ->
            Of = fun(Key, State) -> [{element(1, A), State} || A <- proplists:get_value(Key, Info, [])] end,
            {maps:from_list(Of(loading, loading) ++ Of(starting, starting) ++ Of(running, running)),
             maps:from_list(proplists:get_value(started, Info, []) ++ [{A, T} || {A, T, _, _} <- proplists:get_value(starting, Info, [])])}
    catch
        exit:_ -> {#{}, #{}}
    end.

state(App) ->
    case master(App) of
        [] -> loaded;
        _ -> running
    end.

master(App) ->
    case application_controller:get_master(App) of
        M when is_pid(M) -> [M];
        _ -> []
    end.

text(Chars) ->
    try unicode:characters_to_binary(Chars) of
        B when is_binary(B) -> binary:part(B, 0, min(byte_size(B), 1000));
        _ -> <<>>
    catch
        error:_ -> <<>>
    end.

%% --------------------------------------------------------------------- tree

%% tree(#{app := Name | all, depth := N, children := N, rows := N, each := Ms,
%%        until := Ms, unsupervised := Bool, share := Percent}) ->
%%     {ok, [{App, Master | [], StartType, [Row], {Total, [Row]}}]} | {error, Why}
%% Row: {Depth, Id, Pid | undefined | restarting, worker | supervisor | process,
%%       Restart, Shutdown, Module, Info, Sup}, in the order of a walk down the tree.
%% Info: {Name | [], Memory, QueueLen, Status, MFA, MFA, Label | [], Parent} or [].
%% Sup: {Strategy, Intensity, Period, Restarts, Total, Shown, Problem} or [].
%% The last are processes of the application outside of its tree.
tree(#{app := App, until := Ms, rows := Max} = Q0) ->
    quiet(),
    Q = Q0#{until := now_ms() + Ms, keyed => keyed()},
    case chosen(App) of
        {error, _} = E -> E;
        Apps ->
            S0 = #{todo => queue:new(), busy => #{}, under => #{}, known => #{}, left => Max, breath => 0, t0 => erlang:monotonic_time()},
            S1 = lists:foldl(fun({A, [M], _}, S) -> later({top, A}, top, M, 0, S);
                                (_, S) -> S
                             end, S0, Apps),
            S = ask(Q, S1),
            Loose = loose(Q, Apps, S),
            {ok, [{A, M, Type, rows({top, A}, S), maps:get(M, Loose, {0, []})} || {A, Ms1, Type} <- Apps, M <- first(Ms1)]}
    end.

first([]) -> [[]];
first(L) -> L.

chosen(all) ->
    {_, Types} = states(),
    [{A, [M], maps:get(A, Types, [])} || {A, _, _} <- lists:sort(application_controller:loaded_applications()), M <- master(A)];
chosen(Name) ->
    try binary_to_existing_atom(Name, utf8) of
        App ->
            Loaded = lists:keymember(App, 1, application_controller:loaded_applications()),
            {States, Types} = states(),
            case {maps:get(App, States, state(App)), Loaded} of
                {loaded, true} -> {error, not_running};
                {_, false} -> {error, unknown};
                _ -> [{App, master(App), maps:get(App, Types, [])}]
            end
    catch
        error:badarg -> {error, unknown}
    end.

later(Key, Kind, Pid, Depth, #{todo := Todo} = S) -> S#{todo := queue:in({Key, Kind, Pid, Depth}, Todo)}.

%% ask has jobs ask supervisors, and more as their answers name more.
ask(#{each := Each, children := Max, until := Until, share := Share} = Q, #{busy := Busy, todo := Todo} = S) ->
    Jobs = case Share < 100 of true -> 1; false -> ?JOBS end,
    case queue:out(Todo) of
        {{value, {Key, Kind, Pid, Depth}}, Rest} when map_size(Busy) < Jobs ->
            Job = {Kind, Pid, max(1, min(Each, Until - now_ms())), Max},
            {_, Mon} = spawn_opt(?MODULE, job, [Job, ?HELPER:meter()], job_options()),
            ask(Q, S#{todo := Rest, busy := Busy#{Mon => {Key, Kind, Pid, Depth}}});
        {empty, _} when map_size(Busy) =:= 0 ->
            S;
        _ ->
            receive
                {'DOWN', Mon, process, _, Answer} when is_map_key(Mon, Busy) ->
                    {{Key, Kind, Pid, Depth}, Busy1} = maps:take(Mon, Busy),
                    S1 = answered(Key, Kind, Pid, Depth, answer(Answer), Q, S#{busy := Busy1}),
                    ask(Q, S1#{t0 := ?HELPER:yield(maps:get(t0, S1), Share)})
            end
    end.

job_options() ->
    [monitor, {message_queue_data, off_heap}, {max_heap_size, #{size => 24 * 1024 * 1024, kill => true, error_logger => false}}].

answer({done, A}) -> A;
answer(killed) -> {problem, too_large};
answer(_) -> {problem, noproc}.

%% The top supervisor of an application is one row.
answered(Key, top, _, _, {top, Pid, Mod}, Q, S) ->
    put_rows(Key, none, [{Mod, Pid, worker, [], infinity, Mod}], 1, 0, Q, S);
answered(Key, top, _, _, {problem, Why}, _, #{under := Under} = S) ->
    S#{under := Under#{Key => {{[], 0, 0, 0, 0, 0, Why}, []}}};
answered(Key, sup, Pid, Depth, {Sup, Children, Total, Problem}, Q, #{known := Known} = S) ->
    put_rows(Key, {Sup, Problem}, Children, Total, Depth, Q, S#{known := Known#{Pid => sup}});
answered(Key, sup, _, _, {problem, Why}, _, #{under := Under} = S) ->
    S#{under := Under#{Key => {{[], 0, 0, 0, 0, 0, Why}, []}}}.

put_rows(Key, Sup, Children, Total, Depth, Q, #{left := Left, under := Under} = S) ->
    Some = lists:sublist(Children, Left),
    {Rows, S1} = lists:mapfoldl(fun(C, Acc) -> put_row(C, Depth + 1, Q, Acc) end, S#{left := Left - length(Some)}, Some),
    Props = case Sup of
                none -> [];
                {{Strategy, Intensity, Period, Restarts}, Problem} ->
                    {Strategy, Intensity, Period, Restarts, Total, length(Some), Problem}
            end,
    S1#{under := Under#{Key => {Props, Rows}}}.

put_row({Id, Pid, Type0, Restart, Shutdown, Mod}, Depth, #{depth := Deepest} = Q, #{known := Known} = S0) ->
    S1 = breathe(Q, S0),
    Info = info(Pid, Q),
    Type = case supervises(Type0, Info) of true -> supervisor; false -> worker end,
    Row = {id(Id), Pid, Type, Restart, Shutdown, Mod, Info},
    if
        Type =:= worker; Info =:= []; is_map_key(Pid, Known) ->
            {{Row, []}, S1#{known := note(Pid, other, Known)}};
        Depth >= Deepest ->
            {{Row, {[], 0, 0, 0, 0, 0, depth}}, S1#{known := note(Pid, sup, Known)}};
        true ->
            {{Row, {key, Pid}}, later(Pid, sup, Pid, Depth, S1#{known := note(Pid, sup, Known)})}
    end.

note(Pid, What, Known) when is_pid(Pid), not is_map_key(Pid, Known) -> Known#{Pid => What};
note(_, _, Known) -> Known.

breathe(#{share := Share}, #{t0 := T0, breath := N} = S) when N >= ?SLICE -> S#{breath := 0, t0 := ?HELPER:yield(T0, Share)};
breathe(_, #{breath := N} = S) -> S#{breath := N + 1}.

supervises(supervisor, _) -> true;
supervises(_, {_, _, _, _, _, Call, _, _}) -> supervises(Call);
supervises(_, _) -> false.

%% Whether what began so answers which_children. Others must not be asked: many a
%% server ends when it gets a call that it does not know.
supervises({ranch_conns_sup, _, _}) -> true;
supervises({M, _, _}) -> erlang:function_exported(M, which_children, 1) andalso erlang:function_exported(M, count_children, 1);
supervises(_) -> false.

%% rows(Key, S) -> [Row], the deepest last
rows(Key, #{under := Under} = S) ->
    {Problem, Rows} = maps:get(Key, Under, {[], []}),
    case {Rows, Problem} of
        {[], {_, _, _, _, _, _, _}} -> [{1, [], undefined, supervisor, [], [], [], [], Problem}];
        _ -> lists:append([down(R, 1, S) || R <- Rows])
    end.

down({{Id, Pid, Type, Restart, Shutdown, Mod, Info}, Sup0}, Depth, #{under := Under} = S) ->
    {Sup, Rows} = case Sup0 of
                      {key, Key} -> maps:get(Key, Under, {[], []});
                      _ -> {Sup0, []}
                  end,
    [{Depth, Id, Pid, Type, Restart, Shutdown, Mod, Info, Sup} | lists:append([down(R, Depth + 1, S) || R <- Rows])].

%% ------------------------------------------------------- asking a supervisor

%% job(Job, Meter): ends with the answer as its reason, within its own time.
job(Job, Meter) ->
    ?HELPER:meter(Meter),
    Answer = do(Job),
    ?HELPER:charge(),
    exit({done, Answer}).

do({top, Master, Ms, _}) ->
    {P, Mon} = spawn_monitor(fun() -> exit({child, application_master:get_child(Master)}) end),
    receive
        {'DOWN', Mon, process, _, {child, {Pid, Mod}}} when is_pid(Pid) -> {top, Pid, Mod};
        {'DOWN', Mon, process, _, {child, _}} -> {problem, starting}; % or it runs a function only
        {'DOWN', Mon, process, _, _} -> {problem, noproc}
    after Ms ->
        exit(P, kill),
        {problem, timeout}
    end;
do({sup, Sup, Ms, Max}) ->
    case process_info(Sup, [memory, initial_call]) of
        undefined -> {problem, noproc};
        [{_, Bytes}, {_, Init}] ->
            case {began(Sup, Init, Bytes), Bytes > ?COPY} of
                {bridge, _} -> linked(Sup, Max, []);
                {plain, _} -> linked(Sup, Max, not_a_supervisor);
                {other, true} -> {problem, too_large};
                {Began, Large} ->
                    case Began =:= foreign orelse ready(Sup, now_ms() + Ms) of
                        false -> linked(Sup, Max, timeout);
                        true when Large -> counted(Sup, Ms);
                        true -> asked(Sup, Began, Ms, Max)
                    end
            end
    end.

%% ready(Sup, Until): waits until it is not in the middle of something that it waits
%% for, such as the start of a child. One that hangs is not sent anything: nobody
%% would take it out of its mailbox.
ready(Sup, Until) ->
    case process_info(Sup, [status, current_function]) of
        [{_, waiting}, {_, {M, F, _}}] when M =/= gen_server, M =/= sys, {M, F} =/= {erlang, hibernate} ->
            case now_ms() < Until of
                true -> receive after 5 -> ready(Sup, Until) end;
                false -> false
            end;
        [{_, suspended}, _] -> false;
        _ -> true
    end.

%% supervisor: answers which_children. foreign: so does it, not being a gen_server.
%% other: one of OTP's processes at least,
%% which tell their state. bridge: of one process, which is its link. plain: must
%% not be sent anything.
began(Sup, Init, Bytes) ->
    Entries = case keyed() of
                  true ->
                      case process_info(Sup, [{dictionary, '$initial_call'}, {dictionary, '$process_label'}]) of
                          undefined -> [];
                          Es -> Es
                      end;
                  false -> []
              end,
    {Call, _} = entries(Sup, Init, Entries, Bytes),
    case {supervises(Call), Init} of
        {true, _} when element(1, Call) =:= ranch_conns_sup -> foreign;
        {true, _} -> supervisor;
        {false, _} when element(1, Call) =:= supervisor_bridge -> bridge;
        {false, {proc_lib, init_p, _}} -> other;
        _ -> plain
    end.

asked(Sup, Began, Ms, Max) ->
    try read(sys:get_state(Sup, Ms), Max) of
        {_, _, _, _} = Answer -> Answer;
        unknown -> listed(Sup, Began, Ms, Max)
    catch
        exit:{timeout, _} -> linked(Sup, Max, timeout);
        exit:_ -> {problem, noproc};
        error:_ -> listed(Sup, Began, Ms, Max)
    end.

%% #state{} of supervisor: name, strategy, children, dynamics, intensity, period,
%% restarts, …, module, args, in OTP 25 to 29.
read(S, Max) when is_tuple(S), tuple_size(S) > 9, element(1, S) =:= state ->
    Props = {element(3, S), element(6, S), element(7, S), recent(element(8, S), element(7, S))},
    case {element(3, S), element(4, S), element(5, S)} of
        {simple_one_for_one, {[_], Template}, {_, Pids}} when is_map(Template), is_map(Pids) ->
            {Props, alike(Template, keys(Pids, Max)), map_size(Pids), []};
        {simple_one_for_one, {[_], Template}, {sets, Pids}} when is_map(Template) ->
            {Props, alike(Template, lists:sublist(sets:to_list(Pids), Max)), sets:size(Pids), []};
        {simple_one_for_one, _, _} -> unknown;
        {_, {Ids, Children}, _} when is_list(Ids), is_map(Children) ->
            {Props, [child(maps:get(Id, Children)) || Id <- lists:sublist(lists:reverse(Ids), Max)], length(Ids), []};
        _ -> unknown
    end;
read(#{'__struct__' := 'Elixir.DynamicSupervisor', children := Children, strategy := Strategy,
       max_restarts := Intensity, max_seconds := Period, restarts := Restarts}, Max) when is_map(Children) ->
    Some = pairs(Children, Max),
    {{Strategy, Intensity, Period, recent(Restarts, Period)}, [dynamic(C) || C <- Some], map_size(Children), []};
read(_, _) -> unknown.

%% The children of a simple_one_for_one: one specification for all.
alike(Template, Pids) ->
    [C] = maps:values(Template),
    {_, _, Type, Restart, Shutdown, Mod} = child(C),
    [{undefined, alive(P), Type, Restart, Shutdown, Mod} || P <- Pids].

%% #child{}: pid, id, mfargs, restart, significant, shutdown, type, modules. Some
%% supervisors that were copied from OTP's have no significant.
child({child, Pid, Id, _, Restart, _, Shutdown, Type, Mods}) when Type =:= worker; Type =:= supervisor ->
    {Id, alive(Pid), Type, Restart, Shutdown, module(Mods)};
child({child, Pid, Id, _, Restart, Shutdown, Type, Mods}) when Type =:= worker; Type =:= supervisor ->
    {Id, alive(Pid), Type, restart(Restart), Shutdown, module(Mods)}.

%% Some of those have restarts that wait for a while: {transient, Seconds}.
restart({Restart, _}) -> Restart;
restart(Restart) -> Restart.

dynamic({_, {restarting, {_, Restart, Shutdown, Type, Mods}}}) -> {undefined, restarting, Type, Restart, Shutdown, module(Mods)};
dynamic({Pid, {_, Restart, Shutdown, Type, Mods}}) -> {undefined, Pid, Type, Restart, Shutdown, module(Mods)}.

alive(Pid) when is_pid(Pid) -> Pid;
alive({restarting, _}) -> restarting;
alive(restarting) -> restarting;
alive(_) -> undefined.

module([M | _]) when is_atom(M) -> M;
module(_) -> dynamic.

recent(Times, Period) when is_list(Times), is_integer(Period) ->
    Now = erlang:monotonic_time(second),
    length([T || T <- Times, is_integer(T), Now - T =< Period]);
recent(_, _) -> 0.

keys(Map, Max) -> [K || {K, _} <- pairs(Map, Max)].

pairs(Map, Max) -> pairs1(maps:next(maps:iterator(Map)), Max).

pairs1({K, V, I}, Max) when Max > 0 -> [{K, V} | pairs1(maps:next(I), Max - 1)];
pairs1(_, _) -> [].

%% A supervisor whose state says nothing to us. Its children say less of themselves.
listed(Sup, other, _, Max) ->
    linked(Sup, Max, not_a_supervisor);
listed(Sup, _, Ms, Max) ->
    try gen_server:call(Sup, which_children, Ms) of
        Children when is_list(Children) ->
            {{[], 0, 0, 0},
             [{Id, alive(P), Type, [], [], module(Mods)} || {Id, P, Type, Mods} <- lists:sublist(lists:reverse(Children), Max)],
             length(Children), []};
        _ -> {problem, not_a_supervisor}
    catch
        exit:{timeout, _} -> linked(Sup, Max, timeout);
        exit:_ -> {problem, noproc}
    end.

%% One that does not answer: those of its links that it has started.
linked(Sup, Max, Problem) ->
    case process_info(Sup, links) of
        {_, Links} ->
            Pids = [P || P <- Links, is_pid(P), node(P) =:= node(), process_info(P, parent) =:= {parent, Sup}],
            {{[], 0, 0, 0}, [{undefined, P, worker, [], [], []} || P <- lists:sublist(Pids, Max)], length(Pids), Problem};
        undefined -> {problem, noproc}
    end.

%% One with too many children to copy.
counted(Sup, Ms) ->
    try gen_server:call(Sup, count_children, Ms) of
        #{active := N} -> {{[], 0, 0, 0}, [], N, too_large};
        L when is_list(L) -> {{[], 0, 0, 0}, [], proplists:get_value(active, L, 0), too_large};
        _ -> {problem, not_a_supervisor}
    catch
        exit:{timeout, _} -> {problem, timeout};
        exit:_ -> {problem, noproc}
    end.

%% ------------------------------------------------- processes outside of a tree

%% loose(Q, Apps, S) -> #{Master => {Total, [Row]}}
loose(#{unsupervised := false}, _, _) -> #{};
loose(#{children := Max, share := Share, until := Until} = Q, Apps, #{known := Known}) ->
    Masters = maps:from_list([{M, A} || {A, [M], _} <- Apps]),
    walk(fun(P, Acc) ->
                 case process_info(P, group_leader) of
                     {_, M} when is_map_key(M, Masters), P =/= M, not is_map_key(P, Known) ->
                         case outside(P, M, Known, 20) of
                             true -> outside(P, M, Max, Q, Acc);
                             false -> Acc
                         end;
                     _ -> Acc
                 end
         end, #{}, Share, Until).

outside(P, M, Max, Q, Acc) ->
    case {maps:get(M, Acc, {0, []}), info(P, Q)} of
        {_, []} -> Acc;
        {{N, Rows}, Info} when N < Max -> Acc#{M => {N + 1, [{1, [], P, process, [], [], [], Info, []} | Rows]}};
        {{N, Rows}, _} -> Acc#{M => {N + 1, Rows}}
    end.

%% Those that a supervisor has started belong to it, also where it has too many to
%% list, or started them since; and so does what is below one that was not asked.
outside(_, _, _, 0) -> true;
outside(P, M, Known, Depth) ->
    case process_info(P, parent) of
        {_, M} -> Depth < 20; % the starter of the application
        {_, Parent} when is_pid(Parent), node(Parent) =:= node() ->
            case Known of
                #{Parent := sup} -> false;
                #{Parent := other} -> true;
                _ -> outside(Parent, M, Known, Depth - 1)
            end;
        _ -> true
    end.

%% ------------------------------------------------------------ a process, an id

info(P, #{keyed := Keyed}) when is_pid(P), node(P) =:= node() ->
    Items = [registered_name, memory, message_queue_len, status, current_function, initial_call, parent],
    Keys = [{dictionary, '$initial_call'}, {dictionary, '$process_label'}],
    case process_info(P, case Keyed of true -> Items ++ Keys; false -> Items end) of
        [{_, Name}, {_, Mem}, {_, Len}, {_, Status}, {_, Cur}, {_, Init}, {_, Parent} | Entries] ->
            {Call, Label} = entries(P, Init, Entries, Mem),
            {Name, Mem, Len, Status, Cur, Call, id(Label), Parent};
        undefined -> []
    end;
info(_, _) -> [].

entries(_, Init, [{_, Call}, {_, Label}], _) -> {call(Call, Init), label(Label)};
entries(P, {proc_lib, init_p, _} = Init, [], Mem) when Mem =< ?COPY ->
    case process_info(P, dictionary) of
        {_, D} -> {call(proplists:get_value('$initial_call', D), Init), []};
        undefined -> {Init, []}
    end;
entries(_, Init, _, _) -> {Init, []}.

call({M, F, A}, _) when is_atom(M), is_atom(F), is_integer(A) -> {M, F, A};
call({M, F, A}, _) when is_atom(M), is_atom(F), is_list(A) -> {M, F, length(A)};
call(_, Init) -> Init.

label(undefined) -> [];
label(Label) -> Label.

keyed() ->
    try process_info(self(), {dictionary, '$initial_call'}) of
        _ -> true
    catch
        error:badarg -> false
    end.

%% A term for reading: of a large one the small parts.
id(Id) -> id(Id, 3).

id(Id, _) when is_atom(Id); is_number(Id); is_pid(Id) -> Id;
id(B, _) when is_binary(B), byte_size(B) > ?ID -> binary:copy(binary:part(B, 0, ?ID));
id(Id, Depth) ->
    case erlang:external_size(Id) =< ?ID of
        true -> Id;
        false when is_tuple(Id), Depth > 0 ->
            list_to_tuple([id(E, Depth - 1) || E <- lists:sublist(tuple_to_list(Id), 8)]);
        false -> '...'
    end.

%% ------------------------------------------------------------ walking, budget

%% walk(Fun, Acc, Share, Until): over every process, Share percent of a scheduler
%% at most, until the time is Until.
walk(Fun, Acc, Share, Until) ->
    T0 = erlang:monotonic_time(),
    case erlang:function_exported(erlang, processes_iterator, 0) of
        true -> iterate(erlang:processes_iterator(), Fun, Acc, ?SLICE, Share, Until, T0);
        false -> list(processes(), Fun, Acc, ?SLICE, Share, Until, T0)
    end.

list([P | Ps], Fun, Acc, K, Share, Until, T0) when K > 0 ->
    list(Ps, Fun, Fun(P, Acc), K - 1, Share, Until, T0);
list([], _, Acc, _, _, _, _) -> Acc;
list(Ps, Fun, Acc, _, Share, Until, T0) ->
    case now_ms() < Until of
        true -> list(Ps, Fun, Acc, ?SLICE, Share, Until, ?HELPER:yield(T0, Share));
        false -> Acc
    end.

iterate(Iter, Fun, Acc, K, Share, Until, T0) when K > 0 ->
    case erlang:processes_next(Iter) of
        {P, Next} -> iterate(Next, Fun, Fun(P, Acc), K - 1, Share, Until, T0);
        none -> Acc
    end;
iterate(Iter, Fun, Acc, _, Share, Until, T0) ->
    case now_ms() < Until of
        true -> iterate(Iter, Fun, Acc, ?SLICE, Share, Until, ?HELPER:yield(T0, Share));
        false -> Acc
    end.

now_ms() -> erlang:monotonic_time(millisecond).

quiet() ->
    Words = 8 * 1024 * 1024 + 8 * erlang:system_info(process_count),
    process_flag(max_heap_size, #{size => Words, kill => true, error_logger => false}).
