%% A companion of debughost_agent: what a process is tied to, some steps away,
%% and the binaries that it holds.
-module(?AGENT).

-export([graph/4, binaries/2]).

%% The largest process, in bytes, whose whole dictionary is copied to know what
%% runs behind proc_lib, where one entry of it cannot be asked for.
-define(COPY, 64 * 1024 * 1024).

%% graph(Pid, Depth, Most, Wide) -> [{Pid, Step, Name | [], Call, Label, Memory,
%%     QueueLen, Left, [Link], [Monitor], [MonitoredBy]}]
%% The processes that can be reached from Pid over Depth links and monitors, at
%% most Most, nearest first. Of one that has more than Wide of a kind only so many
%% are followed and told, and how many are left out. Those of the last step
%% tell none.
graph(P, Depth, Most, Wide) ->
    process_flag(max_heap_size, #{size => 8 * 1024 * 1024, kill => true, error_logger => false}),
    steps([P], 0, Depth, Most - 1, Wide, #{P => true}, []).

steps([], _, _, _, _, _, Rows) -> lists:reverse(Rows);
steps(Ps, Step, Depth, Room, Wide, Seen, Rows) ->
    {Next, Room1, Seen1, Rows1} = step(Ps, Step, Step < Depth, Room, Wide, Seen, Rows, []),
    steps(Next, Step + 1, Depth, Room1, Wide, Seen1, Rows1).

step([], _, _, Room, _, Seen, Rows, Next) -> {lists:reverse(Next), Room, Seen, Rows};
step([P | Ps], Step, Follow, Room, Wide, Seen, Rows, Next) ->
    receive after 0 -> ok end,
    case row(P, Step, Follow, Wide) of
        [] ->
            step(Ps, Step, Follow, Room, Wide, Seen, Rows, Next);
        [Row] ->
            Near = lists:append([element(9, Row), element(10, Row), element(11, Row)]),
            {Room1, Seen1, Next1} = fresh(Near, Room, Seen, Next),
            step(Ps, Step, Follow, Room1, Wide, Seen1, [Row | Rows], Next1)
    end.

fresh([{process, {Name, Node}} | Near], Room, Seen, Next) when Node =:= node() ->
    fresh([whereis(Name) | Near], Room, Seen, Next);
fresh([{process, P} | Near], Room, Seen, Next) -> fresh([P | Near], Room, Seen, Next);
fresh([P | Near], Room, Seen, Next) when is_pid(P), node(P) =:= node(), Room > 0, not is_map_key(P, Seen) ->
    fresh(Near, Room - 1, Seen#{P => true}, [P | Next]);
fresh([_ | Near], Room, Seen, Next) -> fresh(Near, Room, Seen, Next);
fresh([], Room, Seen, Next) -> {Room, Seen, Next}.

row(P, Step, Follow, Wide) ->
    Ties = case Follow of
               true -> [links, monitors, monitored_by];
               false -> []
           end,
    {Items, Keyed} = items(),
    case process_info(P, [registered_name, memory, message_queue_len, initial_call | Items] ++ Ties) of
        undefined -> [];
        [{_, Name}, {_, Memory}, {_, Len}, {_, Initial} | Rest] ->
            {Entries, Tied} = lists:split(length(Items), Rest),
            {Call, Label} = case Keyed of
                                true -> [{_, C}, {_, L}] = Entries, {C, L};
                                false -> {started(P, Initial, Memory), undefined}
                            end,
            {Lists, Left} = lists:mapfoldl(fun({_, L}, Sum) -> narrow(L, Wide, Sum) end, 0, Tied),
            [Links, Monitors, By] = case Lists of [] -> [[], [], []]; _ -> Lists end,
            [{P, Step, Name, call(Initial, Call), label(Label), Memory, Len, Left, Links, Monitors, By}]
    end.

narrow(L, Wide, Sum) ->
    case length(L) of
        N when N > Wide -> {lists:sublist(L, Wide), Sum + N - Wide};
        _ -> {L, Sum}
    end.

%% Entries of a dictionary can be asked for since OTP 26.2.
items() ->
    try process_info(self(), {dictionary, '$initial_call'}) of
        _ -> {[{dictionary, '$initial_call'}, {dictionary, '$process_label'}], true}
    catch
        error:badarg -> {[], false}
    end.

started(P, {proc_lib, init_p, _}, Memory) when Memory < ?COPY ->
    case process_info(P, dictionary) of
        {_, D} -> proplists:get_value('$initial_call', D);
        undefined -> undefined
    end;
started(_, _, _) -> undefined.

call({proc_lib, init_p, _}, {M, F, A}) when is_atom(M), is_atom(F), is_integer(A) -> {M, F, A};
call({proc_lib, init_p, _}, {M, F, As}) when is_atom(M), is_atom(F), is_list(As) -> {M, F, length(As)};
call(Initial, _) -> Initial.

label(undefined) -> <<>>;
label(Label) -> unicode:characters_to_binary(io_lib:format("~0tP", [Label, 12])).

%% binaries(Pid, N) -> {Count, Bytes, [{Bytes, RefC, Times}]} | undefined
%% How many off-heap binaries it refers to and what they take, each counted once:
%% a thousand messages that were cut from one packet keep one binary. Then the N
%% largest, how many refer to each on the whole node, and how often it does itself.
binaries(P, N) ->
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    case process_info(P, binary) of
        undefined -> undefined;
        {_, Bs} ->
            Count = fun({Id, Bytes, RefC}, Acc) ->
                            maps:update_with(Id, fun({B, R, T}) -> {B, R, T + 1} end, {Bytes, RefC, 1}, Acc)
                    end,
            Held = lists:sort(maps:values(lists:foldl(Count, #{}, Bs))),
            {length(Held), lists:sum([B || {B, _, _} <- Held]), lists:sublist(lists:reverse(Held), N)}
    end.
