%% A companion of debughost_agent: what this node is at a moment, to be compared
%% with another moment. One walk over the processes and one over the tables,
%% which yield and honour the share; what is kept is bounded.
-module(?AGENT).

-export([take/1]).

-define(SLICE, 100).
%% Kinds of processes, and names of tables, that are told apart; more count as one.
-define(GROUPS, 5000).

%% take(#{limit := N, share := Percent}) -> [{Key, Value}]
%%   release   Text
%%   uptime    Ms
%%   memory    [{Kind, Bytes}]
%%   counts    [{Kind, Count}], limits the same
%%   apps      [{App, Vsn}], nodes [Node]
%%   groups    {Total, [{Call, Count, Memory, QueueLen, Reductions}]}
%%   processes [{P, Name | [], Call, Memory, QueueLen, Reductions}]
%%   tables    {Total, [{Name, Count, Size, Memory}]}
take(#{limit := N, share := Share}) ->
    quiet(),
    Items = items(),
    {Groups, Mem, Len, Red} = walk(processes(), fun(P, Acc) -> process(P, Items, Acc) end, {#{}, empty(N), empty(N), empty(N)}, Share),
    Tables = walk(ets:all(), fun table/2, #{}, Share),
    [{release, list_to_binary(erlang:system_info(otp_release))},
     {uptime, element(1, erlang:statistics(wall_clock))},
     {memory, try erlang:memory() catch error:notsup -> [] end},
     {counts, [{K, erlang:system_info(I)} || {K, I} <- [{processes, process_count}, {ports, port_count}, {atoms, atom_count}]]
          ++ [{tables, lists:sum([element(1, V) || V <- maps:values(Tables)])}, {modules, length(erlang:loaded())}]},
     {limits, [{K, erlang:system_info(I)} || {K, I} <- [{processes, process_limit}, {ports, port_limit}, {atoms, atom_limit}]]},
     {apps, [{App, unicode:characters_to_binary(Vsn)} || {App, _, Vsn} <- application:loaded_applications()]},
     {nodes, nodes()},
     {groups, cut(Groups, 2, 5 * N)},
     {processes, [R || P <- lists:usort(best(Mem) ++ best(Len) ++ best(Red)), R <- row(P, Items)]},
     {tables, cut(Tables, 3, N)}].

items() ->
    [initial_call, memory, message_queue_len, reductions] ++ [{dictionary, '$initial_call'} || keyed()].

keyed() ->
    try process_info(self(), {dictionary, '$initial_call'}) of
        _ -> true
    catch
        error:badarg -> false
    end.

process(P, Items, {Groups, Mem, Len, Red} = Acc) ->
    case process_info(P, Items) of
        [{_, Init}, {_, M}, {_, L}, {_, R} | Entry] ->
            {group(call(P, Init, M, Entry), {1, M, L, R}, Groups), keep(M, P, Mem), keep(L, P, Len), keep(R, P, Red)};
        undefined ->
            Acc
    end.

%% Before OTP 26.2 the whole dictionary is copied to know what runs behind
%% proc_lib: not that of a large process.
call(_, {proc_lib, init_p, _} = Init, _, [{_, Call}]) -> translated(Call, Init);
call(P, {proc_lib, init_p, _} = Init, Mem, []) when Mem < 1024 * 1024 ->
    case process_info(P, dictionary) of
        {_, D} -> translated(proplists:get_value('$initial_call', D), Init);
        undefined -> Init
    end;
call(P, {erlang, apply, 2} = Init, _, _) -> % of a fun: what it runs says more
    case process_info(P, current_function) of
        {_, {_, _, _} = Current} -> Current;
        _ -> Init
    end;
call(_, Init, _, _) -> Init.

translated({M, F, A}, _) when is_atom(M), is_atom(F), is_integer(A) -> {M, F, A};
translated({M, F, A}, _) when is_atom(M), is_atom(F), is_list(A) -> {M, F, length(A)};
translated(_, Init) -> Init.

group(Key, Values, Groups) ->
    case Groups of
        #{Key := Had} -> Groups#{Key := added(Had, Values)};
        _ when map_size(Groups) < ?GROUPS -> Groups#{Key => Values};
        #{other := Had} -> Groups#{other := added(Had, Values)};
        _ -> Groups#{other => Values}
    end.

added({A, B, C}, {D, E, F}) -> {A + D, B + E, C + F};
added({A, B, C, D}, {E, F, G, H}) -> {A + E, B + F, C + G, D + H}.

table(T, Tables) ->
    Info = [ets:info(T, I) || I <- [name, size, memory]],
    case lists:member(undefined, Info) of
        true -> Tables;
        false ->
            [Name, Size, Words] = Info,
            group(Name, {1, Size, Words * erlang:system_info(wordsize)}, Tables)
    end.

%% cut(Groups, By, N) -> {Total, [Row]}: the N with the most of their value By.
cut(Groups, By, N) ->
    Best = maps:fold(fun(Key, V, Acc) -> keep(element(By, V), [Key | tuple_to_list(V)], Acc) end, empty(N), Groups),
    {map_size(Groups), [list_to_tuple(R) || R <- best(Best)]}.

row(P, Items) ->
    case process_info(P, [registered_name | Items]) of
        [{_, Name}, {_, Init}, {_, M}, {_, L}, {_, R} | Entry] -> [{P, Name, call(P, Init, M, Entry), M, L, R}];
        undefined -> []
    end.

%% The N highest, as a set with its lowest value beside it.
empty(N) -> {N, -1, gb_sets:empty()}.

keep(V, _, {0, Low, _} = Best) when V =< Low -> Best;
keep(V, P, {0, _, Set}) ->
    {_, Set1} = gb_sets:take_smallest(gb_sets:add_element({V, P}, Set)),
    {Low, _} = gb_sets:smallest(Set1),
    {0, Low, Set1};
keep(V, P, {Room, _, Set}) ->
    Set1 = gb_sets:add_element({V, P}, Set),
    {Low, _} = gb_sets:smallest(Set1),
    {Room - 1, Low, Set1}.

best({_, _, Set}) -> [P || {_, P} <- lists:reverse(gb_sets:to_list(Set))].

walk(Es, Fun, Acc, Share) -> walk(Es, Fun, Acc, ?SLICE, Share, erlang:monotonic_time()).

walk([E | Es], Fun, Acc, K, Share, T0) when E =:= self() -> walk(Es, Fun, Acc, K, Share, T0);
walk([E | Es], Fun, Acc, K, Share, T0) when K > 0 -> walk(Es, Fun, Fun(E, Acc), K - 1, Share, T0);
walk([], _, Acc, _, _, _) -> Acc;
walk(Es, Fun, Acc, _, Share, T0) -> walk(Es, Fun, Acc, ?SLICE, Share, ?HELPER:yield(T0, Share)).

quiet() ->
    Words = 8 * 1024 * 1024 + 8 * erlang:system_info(process_count),
    process_flag(max_heap_size, #{size => Words, kill => true, error_logger => false}).
