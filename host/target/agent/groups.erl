%% A companion of debughost_agent: process groups of pg and entries of Elixir's
%% Registry; and the timers of OTP's timer server.
-module(?AGENT).

-export([groups/1, timers/1]).

%% Groups or entries looked at between two yields.
-define(SLICE, 100).
%% Entries of one registry that are looked at in one question.
-define(SCAN, 200000).
%% A group of more members has none of them told.
-define(COPY, 10000).
%% Subterms of a key that cross the wire.
-define(KEY, 200).

%% ------------------------------------------------------------------- groups

%% groups(#{scopes := [Bin], text := Bin, limit := N, members := N, share := Percent})
%%   -> {[Scope], [Group]}
%% Scope: {pg | registry, Name, Owner, unique | duplicate, [Size of a partition], Seen}
%% Group: {pg | registry, Scope, Key, Count, LocalCount, [Pid]}, largest first
%% scopes: the names of those that are wanted, [] for all. text: a lower-case
%% part of the key as it prints, <<>> for all. Seen: of the Sizes so many were
%% looked at.
groups(#{scopes := Names, limit := Limit} = Spec) ->
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    Wanted = fun(Name) -> Names =:= [] orelse lists:member(atom_to_binary(Name, utf8), Names) end,
    Found = [pg(Name, Pid, Spec) || {Name, Pid} <- scopes(), Wanted(Name)]
        ++ [registry(R, Spec) || {Name, _, _, _} = R <- registries(), Wanted(Name)],
    {Scopes, Groups} = lists:unzip(Found),
    Largest = lists:sublist(lists:sort(fun larger/2, lists:append(Groups)), Limit),
    {Scopes, [cut_key(members(G, Spec)) || G <- Largest]}.

larger(A, B) -> {-element(4, A), element(2, A), element(3, A)} =< {-element(4, B), element(2, B), element(3, B)}.

%% A scope of pg is a process and a table of one name. Since OTP 29 the process is
%% that of a module that pg is built on.
scopes() ->
    [{Name, Pid} || Name <- lists:sort(registered()), Pid <- [whereis(Name)], is_pid(Pid),
                    ets:info(Name, owner) =:= Pid,
                    lists:member(initial(Pid), [{pg, init, 1}, {data_publisher, init, 1}])].

initial(Pid) ->
    try process_info(Pid, {dictionary, '$initial_call'}) of
        {_, Call} -> Call;
        undefined -> undefined
    catch
        error:badarg -> % before OTP 26.2
            case process_info(Pid, dictionary) of
                {_, D} -> proplists:get_value('$initial_call', D);
                undefined -> undefined
            end
    end.

%% pg's table has {Group, AllMembers, LocalMembers}: the members are counted
%% where they are, and not copied.
pg(Name, Pid, #{limit := Limit} = Spec) ->
    Count = [{{'$1', '$2', '$3'}, [{is_list, '$2'}, {is_list, '$3'}],
              [{{pg, {const, Name}, '$1', {length, '$2'}, {length, '$3'}, []}}]}],
    Keep = fun({_, _, Key, _, _, _} = G, {N, Gs}) ->
                   case wanted(Key, Spec) of
                       true when N >= 2 * Limit -> {Limit + 1, [G | lists:sublist(lists:sort(fun larger/2, Gs), Limit)]};
                       true -> {N + 1, [G | Gs]};
                       false -> {N, Gs}
                   end
           end,
    {Seen, {_, Groups}} = scan(Name, Count, Keep, fun(_) -> false end, {0, []}, Spec),
    {{pg, Name, Pid, duplicate, [size_of(Name)], Seen}, Groups}.

members({pg, Scope, Key, Count, Local, _} = G, #{members := N}) when N > 0, Count =< ?COPY ->
    try setelement(6, G, lists:sublist(pg:get_members(Scope, Key), N))
    catch _:_ -> {pg, Scope, Key, Count, Local, []}
    end;
members(G, _) -> G.

%% A Registry of Elixir is a named table with its kind under -2, the whole of it
%% under -1, and each partition's tables under its number, or in -2 for only one.
registries() ->
    case erlang:module_loaded('Elixir.Registry') of
        false -> [];
        true -> lists:sort([R || T <- ets:all(), is_atom(T), R <- registry_of(T)])
    end.

registry_of(T) ->
    try
        public = ets:info(T, protection),
        set = ets:info(T, type),
        1 = ets:info(T, keypos),
        true = ets:member(T, -1),
        [{Kind, Partitions}] = ets:select(T, [{{-2, {'$1', '$2', '_'}}, [{is_integer, '$2'}], [{{'$1', '$2'}}]}]),
        [{T, ets:info(T, owner), keys(Kind), [K || K <- partitions(T, min(Partitions, 1024)), is_reference(K)]}]
    catch
        _:_ -> []
    end.

keys(unique) -> unique;
keys(duplicate) -> duplicate;
keys({duplicate, _}) -> duplicate.

partitions(T, 1) -> ets:select(T, [{{-2, {'_', '_', '$1'}}, [], ['$1']}, {{0, '$1', '_'}, [], ['$1']}]);
partitions(T, N) -> lists:append([ets:select(T, [{{I, '$1', '_'}, [], ['$1']}]) || I <- lists:seq(0, N - 1)]).

%% Its entries are {Key, {Pid, Value}}, or {{Key, Pid, Counter}, Value} in an
%% ordered table. Values are not copied.
registry({Name, Owner, Keys, Tables}, #{limit := Limit, members := M} = Spec) ->
    Add = fun({Key, Pid}, Gs) ->
                  case Gs of
                      #{Key := {Count, Pids}} -> Gs#{Key := {Count + 1, add(Pid, Pids, M, Count)}};
                      _ ->
                          case map_size(Gs) < Limit andalso wanted(Key, Spec) of
                              true -> Gs#{Key => {1, add(Pid, [], M, 0)}};
                              false -> Gs
                          end
                  end
          end,
    %% Further entries of a key that is unique will not come.
    Full = fun(Gs) -> Keys =:= unique andalso map_size(Gs) >= Limit end,
    {Seen, Groups} =
        lists:foldl(fun(T, {Seen, Gs}) ->
                            {S, Gs1} = scan(T, entries(T), Add, Full, Gs, Spec),
                            {Seen + S, Gs1}
                    end, {0, #{}}, Tables),
    {{registry, Name, Owner, Keys, [size_of(T) || T <- Tables], Seen},
     [{registry, Name, Key, Count, Count, lists:reverse(Pids)} || {Key, {Count, Pids}} <- maps:to_list(Groups)]}.

entries(T) ->
    case ets:info(T, type) of
        ordered_set -> [{{{'$1', '$2', '_'}, '_'}, [{is_pid, '$2'}], [{{'$1', '$2'}}]}];
        _ -> [{{'$1', {'$2', '_'}}, [{is_pid, '$2'}], [{{'$1', '$2'}}]}]
    end.

add(Pid, Pids, Most, Have) when Have < Most -> [Pid | Pids];
add(_, Pids, _, _) -> Pids.

size_of(T) ->
    case ets:info(T, size) of
        undefined -> 0;
        N -> N
    end.

%% scan(Table, MatchSpec, Fun, Full, Acc, Spec) -> {Seen, Acc}, until Full(Acc)
scan(T, Match, Fun, Full, Acc, #{share := Share}) ->
    try scan(ets:select(T, Match, ?SLICE), Fun, Full, Acc, 0, Share, erlang:monotonic_time())
    catch error:badarg -> {0, Acc} % gone, or not as it looks
    end.

scan({Found, Cont}, Fun, Full, Acc, Seen, Share, T0) when Seen < ?SCAN ->
    Acc1 = lists:foldl(Fun, Acc, Found),
    Seen1 = Seen + length(Found),
    case Full(Acc1) of
        true -> {Seen1, Acc1};
        false ->
            T1 = ?HELPER:yield(T0, Share),
            Next = try ets:select(Cont) catch error:badarg -> '$end_of_table' end,
            scan(Next, Fun, Full, Acc1, Seen1, Share, T1)
    end;
scan(_, _, _, Acc, Seen, _, _) ->
    {Seen, Acc}.

wanted(_, #{text := <<>>}) -> true;
wanted(Key, #{text := Text}) ->
    case unicode:characters_to_binary(io_lib:format("~0tP", [Key, 40])) of
        Bin when is_binary(Bin) -> string:find(string:lowercase(Bin), Text) =/= nomatch;
        _ -> false
    end.

%% A key that is large is told by its beginning, as a text.
cut_key({Kind, Scope, Key, Count, Local, Pids}) ->
    case erts_debug:flat_size(Key) > ?KEY orelse is_binary(Key) andalso byte_size(Key) > 4 * ?KEY of
        false -> {Kind, Scope, {key, Key}, Count, Local, Pids};
        true -> {Kind, Scope, {text, iolist_to_binary(string:slice(printed(Key), 0, 4 * ?KEY))}, Count, Local, Pids}
    end.

printed(Key) when is_binary(Key), byte_size(Key) > 4 * ?KEY -> printed(binary:part(Key, 0, 4 * ?KEY));
printed(Key) -> unicode:characters_to_binary(io_lib:format("~0tP", [Key, ?KEY])).

%% ------------------------------------------------------------------- timers

%% timers(Limit) -> absent | {Size, [{Owner, Count}]}
%% Size: the timers that OTP's timer server keeps. Those that repeat have an
%% owner, whom the server monitors: itself up to OTP 25, and later by a process
%% for each, which monitors both.
timers(Limit) ->
    process_flag(max_heap_size, #{size => 8 * 1024 * 1024, kill => true, error_logger => false}),
    case whereis(timer_server) of
        undefined -> absent;
        Server ->
            {monitors, Monitors} = process_info(Server, monitors),
            Owners = lists:foldl(fun({process, P}, Acc) ->
                                         maps:update_with(owner(P, Server), fun(N) -> N + 1 end, 1, Acc);
                                    (_, Acc) -> Acc
                                 end, #{}, Monitors),
            Counts = lists:sort(fun({P, N}, {Q, M}) -> {-N, P} =< {-M, Q} end, maps:to_list(Owners)),
            {lists:sum([size_of(T) || T <- ets:all(), ets:info(T, owner) =:= Server]), lists:sublist(Counts, Limit)}
    end.

owner(P, Server) when node(P) =:= node() ->
    case process_info(P, monitors) of
        {monitors, Ms} ->
            case lists:member({process, Server}, Ms) of
                true -> case [Q || {process, Q} <- Ms, Q =/= Server] of [Q] -> Q; _ -> P end;
                false -> P
            end;
        undefined -> P
    end;
owner(P, _) -> P.
