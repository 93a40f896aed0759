%% The helper that debughost loads into a target when a question needs it.
%%
%% It ranks and filters processes where they live, so that only the rows asked
%% for cross the wire. It is not a server that stays: a keeper process monitors
%% each debughost that uses the module, and when the last of them is gone
%% (detached, killed, or lost with the network) it deletes and purges the
%% module and ends. Nothing here starts by itself, writes, or logs.
%%
%% Companions are further modules, each for a kind of questions, that are loaded
%% when first needed and go when this one does. Their names begin with its name.
%%
%% The module's name carries a hash of this file (the build passes it as AGENT),
%% so that debughosts of two versions never replace each other's code.
%% Compiled by OTP 25, it runs on OTP 25 to 29.
-module(?AGENT).

-export([attach/1, detach/1, sweep/0, extend/2, keeper/2, keep/1, run/4, meter/0, meter/1, charge/0, charge/1, yield/2, watch/1, tell/2, top/1, table/3, half/4, hold/2, dictionary/4, messages/4, names/1, escalation/1, files/0]).

%% Processes looked at between two yields. At 1 to 3 µs each, a slice holds a
%% scheduler for a fifth of a millisecond.
-define(SLICE, 100).
%% Rows in one message of a table: about 50 kB, so that a tick or a small answer
%% on the same connection waits for one of these at most.
-define(CHUNK, 400).
%% Processes ranked beyond those asked for, in place of some that end meanwhile.
-define(SPARE, 20).
%% Chunks under way before the reader has to acknowledge one.
-define(WINDOW, 4).
%% The key in a process's dictionary of what its reductions are counted in.
-define(METER, '$debughost_meter').
%% Milliseconds for which long work has low priority, and the key of when it began.
-define(MODEST, 500).
-define(BEGAN, '$debughost_began').

%% ---------------------------------------------------------------- lifetime

%% attach(Host) -> {ok, Keeper, Meter}
%% Host is a process of the debughost; while it lives the module stays. Meter is
%% what the work for it is counted in, see run/4.
attach(Host) -> attach(Host, 5).

attach(_Host, 0) -> {error, busy};
attach(Host, Tries) ->
    case whereis(?MODULE) of
        undefined ->
            {Pid, Mon} = spawn_monitor(?MODULE, keeper, [self(), Host]),
            receive
                {Pid, Meter} -> demonitor(Mon, [flush]), {ok, Pid, Meter};
                {'DOWN', Mon, process, Pid, _} -> attach(Host, Tries - 1)
            end;
        Keeper ->
            Mon = monitor(process, Keeper),
            Keeper ! {attach, self(), Mon, Host},
            receive
                {Mon, Meter} -> demonitor(Mon, [flush]), {ok, Keeper, Meter};
                {'DOWN', Mon, process, Keeper, _} -> attach(Host, Tries - 1)
            end
    end.

%% detach(Host) -> ok, once the keeper has let go of Host; if Host was the last,
%% the keeper has ended, and the module with it.
detach(Host) ->
    case whereis(?MODULE) of
        undefined -> ok;
        Keeper -> Keeper ! {detach, Host}, ok
    end.

%% sweep() -> true: removes the module when its keeper was killed.
sweep() ->
    try register(?MODULE, self()) of
        true -> leave()
    catch
        error:badarg -> false
    end.

%% extend(Name, Beam) -> ok | {error, Reason}: loads a companion, unless it is
%% there. The keeper does it, so that it cannot be leaving meanwhile.
extend(Name, Beam) ->
    case whereis(?MODULE) of
        undefined ->
            {error, gone};
        Keeper ->
            Mon = monitor(process, Keeper),
            Keeper ! {extend, self(), Mon, Name, Beam},
            receive
                {Mon, Result} -> demonitor(Mon, [flush]), Result;
                {'DOWN', Mon, process, Keeper, _} -> {error, gone}
            end
    end.

load(Name, Beam) ->
    case erlang:module_loaded(Name) of
        true -> ok;
        false ->
            case code:load_binary(Name, atom_to_list(Name) ++ ".erl", Beam) of
                {module, _} -> ok;
                Error -> Error
            end
    end.

keeper(From, Host) ->
    try register(?MODULE, self()) of
        true ->
            Meter = counters:new(1, []),
            From ! {self(), Meter},
            ?MODULE:keep(#{watch(Host) => {Host, Meter}})
    catch
        error:badarg -> exit(raced)
    end.

%% Each turn is a call by name, so that the keeper runs the current code, not
%% old code that a purge would kill it for.
keep(Hosts) when map_size(Hosts) =:= 0 -> leave();
keep(Hosts) ->
    receive
        {attach, From, Ref, Host} ->
            case lists:keyfind(Host, 1, maps:values(Hosts)) of
                {_, Meter} ->
                    From ! {Ref, Meter},
                    ?MODULE:keep(Hosts);
                false ->
                    Meter = counters:new(1, []),
                    From ! {Ref, Meter},
                    ?MODULE:keep(Hosts#{watch(Host) => {Host, Meter}})
            end;
        {extend, From, Ref, Name, Beam} ->
            From ! {Ref, load(Name, Beam)},
            ?MODULE:keep(Hosts);
        {detach, Host} ->
            ?MODULE:keep(maps:filter(fun(Mon, {H, _}) -> H =/= Host orelse not demonitor(Mon, [flush]) end, Hosts));
        {'DOWN', Mon, process, _, _} ->
            ?MODULE:keep(maps:remove(Mon, Hosts));
        _ ->
            ?MODULE:keep(Hosts)
    end.

%% The name is given up by the end of this process only: who attaches while the code
%% is being removed waits for that, and begins anew.
leave() ->
    put(leaving, true),
    remove().

%% The last call is a tail call out of this module, so that the purge finds no
%% frame of it on this process's stack and lets it finish. erlang:loaded() has old
%% code too, which is all that is left of a companion whose removal somebody killed.
remove() ->
    Prefix = atom_to_list(?MODULE) ++ "_",
    _ = [unload(M) || M <- lists:usort(erlang:loaded()), lists:prefix(Prefix, atom_to_list(M))],
    _ = code:purge(?MODULE),
    _ = code:delete(?MODULE),
    code:purge(?MODULE).

%% A companion that has leave/0 is run by others' processes. It is called first,
%% to end that, and the code is purged when none is in it any more: a purge would
%% kill them.
unload(M) ->
    Leaves = erlang:function_exported(M, leave, 0),
    _ = [catch M:leave() || Leaves],
    _ = code:purge(M),
    _ = code:delete(M),
    _ = [vacate(M, 50) || Leaves],
    code:purge(M).

vacate(_, 0) -> false;
vacate(M, Tries) ->
    case code:soft_purge(M) of
        true -> true;
        false -> receive after 20 -> vacate(M, Tries - 1) end
    end.

%% watch(Host) -> Mon: a monitor of a process of the debughost.
%% tell(Host, Msg): a message to it.
%% Neither has the node look for a debughost that has gone, as a monitor or a message
%% would: that takes time, and starts a port program to resolve names, which stays.
watch(Host) ->
    case node(Host) =:= node() orelse lists:member(node(Host), nodes(connected)) of
        true -> monitor(process, Host);
        false ->
            Mon = make_ref(),
            self() ! {'DOWN', Mon, process, Host, noconnection},
            Mon
    end.

tell(Host, Msg) -> erlang:send(Host, Msg, [noconnect]), ok.

%% -------------------------------------------------------------- what it costs

%% run(Meter, Module, Function, Args) -> {Result, Reductions}
%% Calls the function and adds to Meter the reductions that it took; the result
%% comes with all there were so far. A function that walks charges as it goes, so
%% that one which is killed is missing its last slice only, and the next question
%% tells of it.
run(Meter, Module, Function, Args) ->
    meter(Meter),
    Result = try apply(Module, Function, Args) after charge() end,
    {Result, total(Meter)}.

%% A meter whose keeper has ended counts no more, which is no error of a question.
total(Meter) ->
    try counters:get(Meter, 1)
    catch error:badarg -> 0
    end.

%% meter() -> what the reductions of this process are counted in, or none, to be
%% given to the processes that it starts: each calls meter(Meter), and charge/0 in
%% the end.
meter() ->
    case get(?METER) of
        {Meter, _} -> Meter;
        undefined -> none
    end.

meter(none) -> ok;
meter(Meter) -> put(?METER, {Meter, 0}), ok.

%% charge() -> ok: adds what this process has done since it last did.
charge() ->
    case get(?METER) of
        {Meter, Before} ->
            {reductions, Now} = process_info(self(), reductions),
            put(?METER, {Meter, Now}),
            add(Meter, Now - Before);
        undefined -> ok
    end.

%% charge(Pid) -> ok: adds what Pid has done, which has no meter and is to be killed.
charge(Pid) ->
    case {process_info(Pid, reductions), meter()} of
        {{reductions, N}, Meter} when Meter =/= none -> add(Meter, N);
        _ -> ok
    end.

add(Meter, N) ->
    try counters:add(Meter, 1, N)
    catch error:badarg -> ok
    end.

%% ----------------------------------------------------------------- ranking

%% top(Spec) -> {ok, Seen, [Row]}, highest first.
%% Spec: #{sort := Item, limit := N, window := Ms, share := Percent,
%%         text => Bin, pid => Pid, function => Bin, application => Bin}
%% Row: {Pid, Name | [], Memory, Reductions, QueueLen, MFA, MFA, Status, Rate}
top(#{sort := Sort, limit := N, window := 0, share := Share} = Spec) ->
    quiet(),
    Match = matcher(Spec),
    {Seen, Best} = fold(fun(P, Acc) -> rank(P, Sort, Match, Acc) end, {0, empty(N + ?SPARE)}, Share),
    {ok, Seen, rows(best(Best), 0, N, items())};
top(#{sort := Sort, limit := N, window := Window, share := Share} = Spec) ->
    quiet(),
    Pids = matching(matcher(Spec), Share),
    %% The first look of a million processes is kept as eight bytes each outside
    %% of the heap. Both looks go in the same order, so that what lies between
    %% them is the same for each.
    Values = atomics:new(max(1, length(Pids)), []),
    T0 = erlang:monotonic_time(millisecond),
    Look = fun(P, I) ->
                   case value(P, Sort, all) of
                       none -> atomics:put(Values, I, -1);
                       V -> atomics:put(Values, I, V)
                   end,
                   I + 1
           end,
    _ = walk(Pids, Look, 1, ?SLICE, Share, erlang:monotonic_time()),
    receive after max(0, T0 + Window - erlang:monotonic_time(millisecond)) -> ok end,
    Between = max(1, erlang:monotonic_time(millisecond) - T0),
    Again = fun(P, {I, Acc}) -> {I + 1, grown(P, Sort, atomics:get(Values, I), Acc)} end,
    {_, {Seen, Best}} = walk(Pids, Again, {1, {0, empty(N + ?SPARE)}}, ?SLICE, Share, erlang:monotonic_time()),
    {ok, Seen, rows(best(Best), Between, N, items())}.

matching(all, _) -> processes();
matching(Match, Share) ->
    lists:reverse(fold(fun(P, Acc) ->
                               case matches(P, Match) of
                                   true -> [P | Acc];
                                   false -> Acc
                               end
                       end, [], Share)).

value(P, Sort, all) ->
    case process_info(P, Sort) of
        {_, V} -> V;
        undefined -> none
    end;
value(P, Sort, Match) ->
    case matches(P, Match) of
        true -> value(P, Sort, all);
        false -> none
    end.

rank(P, Sort, Match, {Seen, Best} = Acc) ->
    case value(P, Sort, Match) of
        none -> Acc;
        V -> {Seen + 1, keep(V, P, Best)}
    end.

grown(_, _, -1, Acc) -> Acc;
grown(P, Sort, V0, {Seen, Best} = Acc) ->
    case process_info(P, Sort) of
        {_, V} -> {Seen + 1, keep(max(V - V0, 0), P, Best)};
        undefined -> Acc
    end.

%% The N highest, as a set with its lowest value beside it: nearly every process
%% costs one comparison.
empty(N) -> {N, -1, gb_sets:empty()}.

keep(V, _, {0, Low, _} = Best) when V =< Low -> Best;
keep(V, P, {0, _, Set}) ->
    {_, Set1} = gb_sets:take_smallest(gb_sets:add_element({V, P}, Set)),
    {Low, _} = gb_sets:smallest(Set1),
    {0, Low, Set1};
keep(V, P, {1, _, Set}) ->
    Set1 = gb_sets:add_element({V, P}, Set),
    {Low, _} = gb_sets:smallest(Set1),
    {0, Low, Set1};
keep(V, P, {Room, Low, Set}) ->
    {Room - 1, Low, gb_sets:add_element({V, P}, Set)}.

best({_, _, Set}) -> lists:reverse(gb_sets:to_list(Set)).

%% ---------------------------------------------------------- the whole table

%% table(Host, Ref, Spec) -> {ok, Sent}
%% Sends {Ref, Worker, [Row]} to Host, unranked, and waits for {Ref, ack} so that
%% no more than WINDOW chunks of each worker are under way: neither this node nor
%% the connection ever holds the table.
table(Host, Ref, Spec) ->
    Table = {Host, Ref, Spec, self()},
    case two(Spec) of
        true ->
            Source = holder(),
            Helper = spawn_link(?MODULE, half, [self(), meter(), Table, Source]),
            Sent = part(Table, Source),
            receive {Helper, More} -> {ok, Sent + More} end;
        false ->
            {ok, part(Table, source())}
    end.

%% Most of a row's cost is waiting for the process to tell its memory: two
%% workers that wait in turns take little more of the node than one. Where the
%% share is less than a scheduler, or there is but one, there is one worker; and
%% where an iterator, which two cannot share, saves holding a very long list.
two(#{share := Share}) ->
    Share >= 100 andalso erlang:system_info(schedulers_online) > 1
        andalso (not iterator() orelse erlang:system_info(process_count) < 300000).

half(Parent, Meter, Table, Source) ->
    meter(Meter),
    Sent = part(Table, Source),
    charge(),
    Parent ! {self(), Sent}.

%% part(Table, Source) -> rows sent
part({Host, Ref, Spec, Asked}, Source) ->
    quiet(),
    _ = watch(Host),
    Match = matcher(Spec),
    Items = items(),
    Put = fun(P, Acc) when P =:= Asked -> Acc;
             (P, {K, Rows, Sent, Out} = Acc) ->
                  case (Match =:= all orelse matches(P, Match)) andalso row(P, Items) of
                      [Row] when K + 1 =:= ?CHUNK ->
                          Out1 = room(Ref, Out),
                          tell(Host, {Ref, self(), [Row | Rows]}),
                          {0, [], Sent + ?CHUNK, Out1 + 1};
                      [Row] ->
                          {K + 1, [Row | Rows], Sent, Out};
                      _ ->
                          Acc
                  end
          end,
    {K, Rows, Sent, Out} = fold(Source, Put, {0, [], 0, 0}, maps:get(share, Spec)),
    tell(Host, {Ref, self(), Rows}),
    drain(Ref, Out + 1),
    Sent + K.

room(Ref, Out) when Out >= ?WINDOW -> room(Ref, acked(Ref, Out));
room(Ref, Out) -> receive {Ref, ack} -> room(Ref, Out - 1) after 0 -> Out end.

drain(_, 0) -> ok;
drain(Ref, Out) -> drain(Ref, acked(Ref, Out)).

%% A reader that is gone will not acknowledge.
acked(Ref, Out) ->
    receive
        {Ref, ack} -> Out - 1;
        {'DOWN', _, process, _, _} -> exit(normal)
    end.

%% ------------------------------------------------------------------- a row

rows([{V, P} | Best], Between, N, Items) when N > 0 ->
    case row(P, Items) of
        [R] -> [rated(R, V, Between) | rows(Best, Between, N - 1, Items)];
        [] -> rows(Best, Between, N, Items)
    end;
rows(_, _, _, _) -> [].

rated(Row, _, 0) -> Row;
rated(Row, V, Between) -> setelement(9, Row, V * 1000 / Between).

%% OTP 26.2 and later give one entry of a dictionary without a copy of the rest,
%% and in the same call.
items() ->
    Items = [registered_name, memory, reductions, message_queue_len, current_function, initial_call, status],
    case keyed() of
        true -> Items ++ [{dictionary, '$initial_call'}];
        false -> Items
    end.

keyed() ->
    try process_info(self(), {dictionary, '$initial_call'}) of
        _ -> true
    catch
        error:badarg -> false
    end.

%% A list of one row, or of none when the process is gone.
row(P, Items) ->
    case process_info(P, Items) of
        [{_, Name}, {_, Mem}, {_, Red}, {_, Len}, {_, Cur}, {_, Init}, {_, Status} | Entry] ->
            [{P, Name, Mem, Red, Len, Cur, initial(P, Init, Entry), Status, 0}];
        undefined ->
            []
    end.

%% Behind proc_lib, the function that it was asked to run.
initial(_, {proc_lib, init_p, _} = Init, [{_, Call}]) ->
    translated(Call, Init);
initial(P, {proc_lib, init_p, _} = Init, []) ->
    case process_info(P, dictionary) of
        {_, D} -> translated(proplists:get_value('$initial_call', D), Init);
        undefined -> Init
    end;
initial(_, Init, _) ->
    Init.

translated({M, F, A}, _) when is_atom(M), is_atom(F), is_integer(A) -> {M, F, A};
translated({M, F, A}, _) when is_atom(M), is_atom(F), is_list(A) -> {M, F, length(A)};
translated(_, Init) -> Init.

%% names([Pid]) -> [{Name | [], MFA} | undefined], in order
names(Ps) ->
    Keys = case keyed() of
               true -> [{dictionary, '$initial_call'}];
               false -> []
           end,
    [case process_info(P, [registered_name, initial_call | Keys]) of
         [{_, Name}, {_, Init} | Entry] -> {Name, initial(P, Init, Entry)};
         undefined -> undefined
     end || P <- Ps].

%% ----------------------------------------------------------------- filters

matcher(Spec) ->
    case [{K, filter(K, V)} || {K, V} <- maps:to_list(Spec),
                               lists:member(K, [text, pid, function, application])] of
        [] -> all;
        Filters -> Filters
    end.

filter(application, Name) ->
    %% The processes of an application have its master as group leader.
    try application_controller:get_master(binary_to_existing_atom(Name, utf8)) of
        Pid when is_pid(Pid) -> Pid;
        _ -> none
    catch
        error:badarg -> none
    end;
filter(pid, Pid) -> Pid;
filter(_, Text) ->
    Keys = case keyed() of
               true -> [{dictionary, '$initial_call'}, {dictionary, '$process_label'}];
               false -> []
           end,
    {string:lowercase(Text), [current_function, initial_call | Keys]}.

matches(P, Filters) -> lists:all(fun(F) -> match(P, F) end, Filters).

match(P, {pid, Pid}) ->
    P =:= Pid;
match(P, {application, Master}) ->
    process_info(P, group_leader) =:= {group_leader, Master};
match(P, {function, {Text, Keys}}) ->
    case process_info(P, Keys) of
        [{_, Cur}, {_, Init} | Entries] -> match_functions(P, Cur, Init, Entries, Text);
        undefined -> false
    end;
match(P, {text, {Text, Keys}}) ->
    case process_info(P, [registered_name | Keys]) of
        [{_, Name}, {_, Cur}, {_, Init} | Entries] ->
            match_memo(Name, Text) orelse match_functions(P, Cur, Init, Entries, Text)
                orelse match_label(Entries, Text);
        undefined -> false
    end.

match_functions(P, Cur, Init, Entries, Text) ->
    match_memo(Cur, Text) orelse match_memo(initial(P, Init, lists:sublist(Entries, 1)), Text).

match_label([_, {_, Label}], Text) when Label =/= undefined ->
    found(unicode:characters_to_binary(io_lib:format("~0tP", [Label, 20])), Text);
match_label(_, _) ->
    false.

%% A node has few names and functions and many processes: each is compared once.
match_memo(Key, Text) ->
    case get({Key, Text}) of
        undefined ->
            Found = found(printed(Key), Text),
            put({Key, Text}, Found),
            Found;
        Found ->
            Found
    end.

printed({M, F, A}) ->
    <<(atom_to_binary(M, utf8))/binary, ":", (atom_to_binary(F, utf8))/binary, "/", (integer_to_binary(A))/binary>>;
printed(Name) when is_atom(Name) -> atom_to_binary(Name, utf8);
printed(_) -> <<>>.

found(Printed, Text) -> binary:match(string:lowercase(Printed), Text) =/= nomatch.

%% ----------------------------------------------------------- walking, budget

%% fold(Fun, Acc, Share): over every process but this one, giving the scheduler
%% back after each slice, so that the walk takes Share percent of one scheduler
%% at most.
fold(Fun, Acc, Share) -> fold(source(), Fun, Acc, Share).

fold(Holder, Fun, Acc, Share) when is_pid(Holder) ->
    pull(Holder, Fun, Acc, Share, erlang:monotonic_time());
fold(Iter, Fun, Acc, Share) ->
    iterate(Iter, Fun, Acc, ?SLICE, Share, erlang:monotonic_time()).

%% Where the pids come from: an iterator (OTP 28 and later), or a holder of the
%% list of all of them.
source() ->
    case iterator() of
        true -> erlang:processes_iterator();
        false -> holder()
    end.

iterator() -> erlang:function_exported(erlang, processes_iterator, 0).

holder() ->
    Holder = spawn_opt(?MODULE, hold, [self(), meter()], [link, {min_heap_size, 4 * erlang:system_info(process_count) + 10000}]),
    receive {Holder, ready} -> Holder end.

%% The list of a million processes is 16 MB. In the heap of a worker, which makes
%% garbage all the time, it would be copied again and again and be there thrice.
%% The holder's heap has room for the list and for the slices that it gives
%% away, so that it is never collected.
hold(Parent, Meter) ->
    meter(Meter),
    Pids = processes(),
    Parent ! {self(), ready},
    give(Pids).

give(Pids) ->
    receive
        {next, From} ->
            From ! {self(), lists:sublist(Pids, ?SLICE)},
            charge(),
            give(drop(Pids, ?SLICE))
    end.

drop([_ | Ps], N) when N > 0 -> drop(Ps, N - 1);
drop(Ps, _) -> Ps.

pull(Holder, Fun, Acc, Share, T0) ->
    Holder ! {next, self()},
    receive
        {Holder, []} -> Acc;
        {Holder, Ps} -> pull(Holder, Fun, each(Ps, Holder, Fun, Acc), Share, yield(T0, Share))
    end.

each([P | Ps], Holder, Fun, Acc) when P =:= Holder; P =:= self() -> each(Ps, Holder, Fun, Acc);
each([P | Ps], Holder, Fun, Acc) -> each(Ps, Holder, Fun, Fun(P, Acc));
each([], _, _, Acc) -> Acc.

walk([P | Ps], Fun, Acc, K, Share, T0) when P =:= self() ->
    walk(Ps, Fun, Acc, K, Share, T0);
walk([P | Ps], Fun, Acc, K, Share, T0) when K > 0 ->
    walk(Ps, Fun, Fun(P, Acc), K - 1, Share, T0);
walk([], _, Acc, _, _, _) ->
    Acc;
walk(Ps, Fun, Acc, _, Share, T0) ->
    walk(Ps, Fun, Acc, ?SLICE, Share, yield(T0, Share)).

iterate(Iter, Fun, Acc, K, Share, T0) when K > 0 ->
    case erlang:processes_next(Iter) of
        {P, Next} when P =:= self() -> iterate(Next, Fun, Acc, K, Share, T0);
        {P, Next} -> iterate(Next, Fun, Fun(P, Acc), K - 1, Share, T0);
        none -> Acc
    end;
iterate(Iter, Fun, Acc, _, Share, T0) ->
    iterate(Iter, Fun, Acc, ?SLICE, Share, yield(T0, Share)).

%% yield(T0, Share) -> T1: gives the scheduler back after a slice of work that began
%% at T0, and rests for as long as the share asks for once that is a millisecond.
yield(T0, Share) ->
    charge(),
    modest(),
    Worked = erlang:convert_time_unit(erlang:monotonic_time() - T0, native, microsecond),
    case Worked * (100 - Share) div (Share * 1000) of
        Rest when Rest > 0 ->
            receive after Rest -> ok end,
            erlang:monotonic_time();
        _ ->
            erlang:yield(),
            T0
    end.

%% A process of the node that becomes runnable behind this one would wait for one
%% slice after another. Work of more than a slice lets them go before it, but not
%% for ever: a node that is always busy is the one whose answer is waited for.
modest() ->
    Now = erlang:monotonic_time(millisecond),
    case get(?BEGAN) of
        undefined -> put(?BEGAN, Now), process_flag(priority, low);
        Began when is_integer(Began), Now - Began > ?MODEST -> put(?BEGAN, over), process_flag(priority, normal);
        _ -> ok
    end.

%% The worker's own limit: a defect here may cost its answer, never the node.
quiet() -> quiet(0).

quiet(Copied) ->
    Words = 8 * 1024 * 1024 + 8 * erlang:system_info(process_count) + Copied div 2,
    process_flag(max_heap_size, #{size => Words, kill => true, error_logger => false}).

%% -------------------------------------------------------------- open files

%% files() -> [{Open, Most}]: how many files and sockets of this operating system's
%% process are open. Empty where there is no /proc to count them in; how many there
%% may be is the runtime's word.
files() ->
    Max = [N || Set <- erlang:system_info(check_io), is_list(Set), {max_fds, N} <- Set],
    case {Max, prim_file:list_dir("/proc/self/fd")} of
        {[N | _], {ok, Open}} -> [{length(Open), N}];
        _ -> []
    end.

%% -------------------------------------------------------------- supervision

%% escalation(Pid) -> [Sup]: the supervisors that would end one after the other
%% if Pid did now, because each has reached its restart limit.
escalation(P) ->
    quiet(),
    escalation(P, 20).

escalation(_, 0) -> [];
escalation(P, Depth) ->
    case parent(P) of
        Sup when is_pid(Sup), node(Sup) =:= node() ->
            case at_limit(Sup, P) of
                true -> [Sup | escalation(Sup, Depth - 1)];
                false -> []
            end;
        _ -> []
    end.

parent(P) ->
    Ancestors = case keyed() of
                    true -> process_info(P, {dictionary, '$ancestors'});
                    false ->
                        case process_info(P, dictionary) of
                            {_, D} -> {ancestors, proplists:get_value('$ancestors', D)};
                            undefined -> undefined
                        end
                end,
    case Ancestors of
        {_, [Name | _]} when is_atom(Name) -> whereis(Name);
        {_, [Pid | _]} -> Pid;
        _ -> undefined
    end.

%% Asked of supervisors only, known by how they began: sys:get_state costs any
%% other process a message that it may not understand.
at_limit(Sup, P) ->
    case lists:member(initial(Sup), [supervisor, 'Elixir.DynamicSupervisor', 'Elixir.Supervisor']) of
        true ->
            try sys:get_state(Sup, 500) of
                S -> counts(S, P) andalso exhausted(S)
            catch
                exit:_ -> false
            end;
        false -> false
    end.

initial(Sup) ->
    case process_info(Sup, initial_call) of
        {_, Init} -> element(1, initial(Sup, Init, []));
        undefined -> undefined
    end.

%% #state{} of supervisor: name, strategy, children, dynamics, intensity,
%% period, restarts, in OTP 25 to 29.
exhausted(S) when is_tuple(S), tuple_size(S) > 8, element(1, S) =:= state ->
    exhausted(element(6, S), element(7, S), element(8, S));
exhausted(#{max_restarts := Max, max_seconds := Period, restarts := Restarts}) ->
    exhausted(Max, Period, Restarts);
exhausted(_) -> false.

exhausted(Max, Period, Restarts) when is_integer(Max), is_integer(Period), is_list(Restarts) ->
    Now = erlang:monotonic_time(second),
    length([T || T <- Restarts, is_integer(T), Now - T =< Period]) >= Max;
exhausted(_, _, _) -> false.

%% Whether the end of the child counts: not for a temporary one.
counts(#{children := Children}, P) when is_map(Children) ->
    case Children of
        #{P := {_, Restart, _, _, _}} -> Restart =/= temporary;
        _ -> true
    end;
counts(S, P) when is_tuple(S), tuple_size(S) > 8 ->
    case element(4, S) of
        {_, Children} when is_map(Children) ->
            case [element(5, C) || C <- maps:values(Children), is_tuple(C), tuple_size(C) > 5, element(2, C) =:= P orelse element(2, C) =:= undefined] of
                [Restart | _] -> Restart =/= temporary;
                [] -> true
            end;
        _ -> true
    end;
counts(_, _) -> true.

%% ------------------------------------------------------- terms, cut for reading

%% dictionary(Pid, MaxEntries, Max, Limit) -> {ok, Total, [{Key, Value}]} | undefined
%% messages(Pid, N, Max, Limit) -> {ok, Total, [Term]} | {refused, Total, Bytes} | undefined
%% Max is the number of subterms kept of each; what is left out shows as '...'.
%% Limit is the size in bytes of a process that may be copied for this.
dictionary(P, Entries, Max, Limit) ->
    quiet(Limit),
    case process_info(P, dictionary) of
        {_, D} -> {ok, length(D), [{cut(K, Max), cut(V, Max)} || {K, V} <- lists:sublist(D, Entries)]};
        undefined -> undefined
    end.

%% process_info copies the whole queue, so one of more than Limit bytes is not read.
messages(P, N, Max, Limit) ->
    quiet(Limit),
    case process_info(P, [message_queue_len, memory]) of
        undefined -> undefined;
        [{_, Len}, {_, Bytes}] when Bytes > Limit -> {refused, Len, Bytes};
        [{_, _}, {_, _}] ->
            case process_info(P, messages) of
                {_, Ms} -> {ok, length(Ms), [cut(M, Max) || M <- lists:sublist(Ms, N)]};
                undefined -> undefined
            end
    end.

cut(Term, Max) ->
    {Cut, _} = cut1(Term, Max),
    Cut.

cut1(_, Left) when Left =< 0 -> {'...', 0};
cut1(B, Left) when is_bitstring(B), bit_size(B) > 8 * 4096 ->
    <<Head:4096/binary, _/bitstring>> = B,
    {binary:copy(Head), Left - 1};
cut1(F, Left) when is_function(F) ->
    case erts_debug:flat_size(F) > 1000 of
        true -> {'...', Left - 1};
        false -> {F, Left - 1}
    end;
cut1(I, Left) when is_integer(I), (I > 1 bsl 8192 orelse I < -(1 bsl 8192)) ->
    {'...', Left - 1};
cut1([_ | _] = L, Left) -> cut_list(L, Left - 1, []);
cut1(T, Left) when is_tuple(T), tuple_size(T) =< Left ->
    {Es, Left1} = cut_elems(tuple_to_list(T), Left - 1, []),
    {list_to_tuple(Es), Left1};
cut1(T, Left) when is_tuple(T) ->
    {Es, _} = cut_elems([element(I, T) || I <- lists:seq(1, Left)], Left - 1, []),
    {list_to_tuple(Es ++ ['...']), 0};
cut1(M, Left) when is_map(M) -> cut_map(maps:next(maps:iterator(M)), Left - 1, []);
cut1(T, Left) -> {T, Left - 1}.

cut_list([H | T], Left, Acc) when Left > 0 ->
    {H1, Left1} = cut1(H, Left),
    cut_list(T, Left1, [H1 | Acc]);
cut_list([], Left, Acc) -> {lists:reverse(Acc), Left};
cut_list([_ | _], Left, Acc) -> {lists:reverse(Acc, '...'), Left};
cut_list(Tail, Left, Acc) ->
    {Tail1, Left1} = cut1(Tail, Left),
    {lists:reverse(Acc, Tail1), Left1}.

cut_elems([E | Es], Left, Acc) ->
    {E1, Left1} = cut1(E, Left),
    cut_elems(Es, Left1, [E1 | Acc]);
cut_elems([], Left, Acc) -> {lists:reverse(Acc), Left}.

cut_map({K, V, Iter}, Left, Acc) when Left > 0 ->
    {K1, Left1} = cut1(K, Left),
    {V1, Left2} = cut1(V, Left1),
    cut_map(maps:next(Iter), Left2, [{K1, V1} | Acc]);
cut_map(none, Left, Acc) -> {maps:from_list(Acc), Left};
cut_map(_, Left, Acc) -> {maps:from_list([{'...', '...'} | Acc]), Left}.
