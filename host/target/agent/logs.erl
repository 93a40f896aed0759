%% A companion of debughost_agent: follows the logger while somebody does.
%%
%% A handler of the logger, whose id is this module's name, is there as long as
%% the server is, and that as long as it has followers. All its work is done by its
%% filter, which lets nothing through: what the logger does for a handler between
%% filters and log/2 costs more than to leave a line out. In the process that logs
%% that is one atomic operation for each follower that wants the event, and only
%% for those that their followers have room for a bounded copy and a send. All else
%% is the server's: it formats, cuts, and sends to followers, several events at once
%% where they come fast: a message of its own costs half as much again as an event.
%%
%% It goes in this order: the handler first, then the server, and then, when the
%% agent sees that nobody is in filter/2 any more, the module. So the logger never
%% finds a handler without code, and no process that logs is purged.
-module(?AGENT).

-export([follow/2, leave/0, log/2, filter/2, server/2, loop/1]).

%% Between two times that followers get new tokens, in milliseconds.
-define(TICK, 100).
%% Between two messages to a follower, in milliseconds; an event that comes later
%% than that is sent at once.
-define(PAUSE, 25).
%% What is held for the end of a pause; see weight/1.
-define(HELD, 64).
%% Followers of one node.
-define(MOST, 16).
%% Subterms of one event, and of one value in it, that are looked at.
-define(EVENT, 6000).
-define(VALUE, 1500).
%% What a report's own callback gets to make a text of it, in milliseconds.
-define(CALLBACK, 500).
%% Bytes of an event's text.
-define(TEXT, 8192).

%% ------------------------------------------------------------------ followers

%% follow(Host, Spec) -> {ok, Server, Primary, Ours, Application} | {error, Reason}
%% Spec: #{level := Level, rate := N, application => Bin, pid => Pid, names => [Bin],
%%         set_level => true}
%% Host is sent {logs, Sent, Left, Events} until it ends: how many events it has been
%% sent so far, with these, and how many were left out; so it sees how many were in
%% a message that it has dropped. On {sums, Host} it is told where it stands. Primary
%% is the level of the logger, below which no handler hears of anything, and Ours
%% tells whether that was set for followers; Application tells whether that runs.
follow(Host, Spec) -> follow(Host, Spec, 5).

follow(_, _, 0) -> {error, busy};
follow(Host, Spec, Tries) ->
    Server = case whereis(?MODULE) of
                 undefined ->
                     {Pid, Start} = spawn_monitor(?MODULE, server, [self(), ?HELPER:meter()]),
                     receive
                         {Pid, ready} -> demonitor(Start, [flush]), Pid;
                         {'DOWN', Start, process, Pid, _} -> Pid
                     end;
                 Pid -> Pid
             end,
    Mon = monitor(process, Server),
    Server ! {follow, self(), Mon, Host, Spec},
    receive
        {Mon, Reply} -> demonitor(Mon, [flush]), Reply;
        {'DOWN', Mon, process, _, _} -> follow(Host, Spec, Tries - 1)
    end.

%% leave() -> ok, once neither handler nor server are there.
leave() ->
    case whereis(?MODULE) of
        undefined -> ok;
        Server ->
            Mon = monitor(process, Server),
            exit(Server, kill),
            receive {'DOWN', Mon, process, _, _} -> ok end
    end,
    unhandle(),
    forget().

%% forget(): the logger keeps a term for each handler that there ever was, which is
%% undefined once it was removed, and is read as if it were not there. Erasing it
%% makes the emulator look through the processes, as the purge of the module does
%% anyway: so it is done once, with that.
forget() ->
    Key = {logger_config, {'$handler_config$', ?MODULE}},
    case persistent_term:get(Key, none) of
        undefined -> _ = persistent_term:erase(Key), ok;
        _ -> ok
    end.

%% unhandle() puts the level back, if nobody else has changed it, and removes the
%% handler. What is to be put back is kept in the handler, which a killed server
%% leaves behind.
unhandle() ->
    case logger:get_handler_config(?MODULE) of
        {ok, #{config := #{level := Set}}} -> put_back(Set);
        _ -> ok
    end,
    _ = logger:remove_handler(?MODULE),
    ok.

put_back({Was, Ours}) ->
    #{level := Is} = logger:get_primary_config(),
    _ = [logger:set_primary_config(level, Was) || lists:member(Is, Ours)],
    ok;
put_back(none) -> ok.

%% ---------------------------------------------- in the process that logs

filter(#{level := Level, msg := Msg, meta := Meta}, {Server, Fs}) ->
    case admitted(Fs, number(Level), Meta) of
        [] -> stop;
        To -> Server ! {log, To, Level, event(Msg), meta(Meta)}, stop
    end.

%% A handler has to have it; the filter keeps everything from it.
log(_, _) -> ok.

%% What the tokens are below zero is how many events found none.
admitted([{Mon, Tokens, Least, What} | Fs], N, Meta) when N =< Least ->
    case wanted(What, Meta) andalso atomics:sub_get(Tokens, 1, 1) of
        Left when is_integer(Left), Left >= 0 -> [Mon | admitted(Fs, N, Meta)];
        _ -> admitted(Fs, N, Meta)
    end;
admitted([_ | Fs], N, Meta) -> admitted(Fs, N, Meta);
admitted([], _, _) -> [].

wanted({App, Who}, Meta) -> from(App, Meta) andalso by(Who, Meta).

from(all, _) -> true;
from({_, Master}, #{gl := Master}) -> true;
from({App, _}, #{application := App}) -> true;
from(_, _) -> false.

by(all, _) -> true;
by(Pid, #{pid := Pid}) -> true;
by({names, Names}, #{pid := Pid}) -> lists:any(fun(Name) -> whereis(Name) =:= Pid end, Names);
by(_, _) -> false.

number(emergency) -> 0;
number(alert) -> 1;
number(critical) -> 2;
number(error) -> 3;
number(warning) -> 4;
number(notice) -> 5;
number(info) -> 6;
number(_) -> 7.

%% What the server needs, copied up to a bound: the state in a report may be huge.
meta(Meta) ->
    Kept = maps:with([time, pid, gl, mfa, file, line, application, error_logger, crash_reason, registered_name, ancestors], Meta),
    Cut = maps:map(fun(_, V) -> cut(V, ?VALUE) end, Kept),
    case Meta of
        #{report_cb := Callback} when is_function(Callback) ->
            case erlang:fun_info(Callback, env) of
                {env, []} -> (named(Cut))#{report_cb => Callback};
                _ -> named(Cut)
            end;
        _ -> named(Cut)
    end.

named(#{registered_name := _} = Meta) -> Meta;
named(#{pid := Pid} = Meta) when Pid =:= self() ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> Meta#{registered_name => Name};
        _ -> Meta
    end;
named(Meta) -> Meta.

event({string, _} = Msg) -> cut(Msg, ?TEXT);
event({report, Report}) -> {report, report(Report)};
event(Msg) -> cut(Msg, ?EVENT).

%% Each value of a report has a bound of its own, so that a large state does not
%% take the place of the reason. The shape stays, for the report's own callback.
report(Report) ->
    {Cut, _} = values(Report, ?EVENT, 3),
    Cut.

values(Map, Left, Depth) when is_map(Map), Depth > 0, map_size(Map) =< 64 ->
    maps:fold(fun(K, V, {Acc, L}) ->
                      {K1, L1} = cut1(K, L),
                      {V1, L2} = values(V, L1, Depth - 1),
                      {Acc#{K1 => V1}, L2}
              end, {#{}, Left}, Map);
values([{_, _} | _] = List, Left, Depth) when Depth > 0 -> pairs(List, Left, Depth, 64, []);
values([[{_, _} | _] | _] = List, Left, Depth) when Depth > 0 -> pairs(List, Left, Depth, 8, []);
values(Term, Left, _) ->
    Room = min(Left, ?VALUE),
    {Cut, Left1} = cut1(Term, Room),
    {Cut, Left - (Room - Left1)}.

pairs([{K, V} | Rest], Left, Depth, N, Acc) when N > 0 ->
    {K1, Left1} = cut1(K, Left),
    {V1, Left2} = values(V, Left1, Depth - 1),
    pairs(Rest, Left2, Depth, N - 1, [{K1, V1} | Acc]);
pairs([Other | Rest], Left, Depth, N, Acc) when N > 0 ->
    {Other1, Left1} = values(Other, Left, Depth - 1),
    pairs(Rest, Left1, Depth, N - 1, [Other1 | Acc]);
pairs([], Left, _, _, Acc) -> {lists:reverse(Acc), Left};
pairs(_, Left, _, _, Acc) -> {lists:reverse(Acc, ['...']), Left}.

%% cut(Term, Max): at most about Max subterms of it; '...' stands for the rest.
%% Lists stay lists, and texts texts.
cut(Term, Max) ->
    {Cut, _} = cut1(Term, Max),
    Cut.

cut1(Term, Left) when Left =< 0, not is_atom(Term), not is_pid(Term) -> {'...', 0};
cut1(Bits, Left) when is_bitstring(Bits), byte_size(Bits) > 4096 ->
    <<Head:4096/binary, _/bitstring>> = Bits,
    {<<Head/binary, "...">>, Left - 65};
cut1(Bits, Left) when is_bitstring(Bits) -> {Bits, Left - 1 - byte_size(Bits) div 64};
cut1(Fun, Left) when is_function(Fun) ->
    case erlang:fun_info(Fun, env) of
        {env, []} -> {Fun, Left - 1};
        _ -> {'#Fun', Left - 1} % what it holds may be anything
    end;
cut1(I, Left) when is_integer(I), I > 1 bsl 4096; is_integer(I), I < -(1 bsl 4096) -> {'...', Left - 1};
cut1([_ | _] = List, Left) -> cut_list(List, Left - 1, []);
cut1(Tuple, Left) when is_tuple(Tuple), tuple_size(Tuple) > 0, tuple_size(Tuple) =< Left ->
    {Es, Left1} = cut_list(tuple_to_list(Tuple), Left - 1, []),
    {list_to_tuple(Es), Left1};
cut1(Tuple, Left) when is_tuple(Tuple), tuple_size(Tuple) > 0 -> {{element(1, Tuple), '...'}, Left - 2};
cut1(Map, Left) when is_map(Map) -> cut_map(maps:next(maps:iterator(Map)), Left - 1, #{});
cut1(Term, Left) -> {Term, Left - 1}.

cut_list([H | T], Left, Acc) when Left > 0 ->
    {H1, Left1} = cut1(H, Left),
    cut_list(T, Left1, [H1 | Acc]);
cut_list([], Left, Acc) -> {lists:reverse(Acc), Left};
cut_list([H | _], Left, Acc) when is_integer(H) -> {lists:reverse(Acc, "..."), Left};
cut_list([_ | _], Left, Acc) -> {lists:reverse(Acc, ['...']), Left};
cut_list(Tail, Left, Acc) ->
    {Tail1, Left1} = cut1(Tail, Left),
    {lists:reverse(Acc, Tail1), Left1}.

cut_map({K, V, Next}, Left, Acc) when Left > 0 ->
    {K1, Left1} = cut1(K, Left),
    {V1, Left2} = cut1(V, Left1),
    cut_map(maps:next(Next), Left2, Acc#{K1 => V1});
cut_map(none, Left, Acc) -> {Acc, Left};
cut_map(_, Left, Acc) -> {Acc#{'...' => '...'}, Left}.

%% ------------------------------------------------------------------- the server

%% Its work is counted for the debughost that followed first.
server(From, Meter) ->
    ?HELPER:meter(Meter),
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    process_flag(message_queue_data, off_heap),
    process_flag(trap_exit, true), % of those who format
    try register(?MODULE, self()) of
        true -> ok
    catch
        error:badarg -> exit(raced)
    end,
    unhandle(), % that of a server which was killed
    From ! {self(), ready},
    _ = erlang:send_after(?TICK, self(), tick),
    %% Who asked for it follows now, or has gone.
    ?MODULE:loop(#{followers => #{}, level => none, ticks => 0, weight => 0, pause => false}).

%% Followers: #{Monitor => #{host, tokens, rate, least, want, held, sent, left, told}}
%% held are events to be sent, the last one first; sent and left count events, told
%% is the left that the host was told last.
loop(#{followers := Fs, ticks := Ticks} = S) when map_size(Fs) =:= 0, Ticks > 50 ->
    stop(S);
loop(#{followers := Fs} = S) ->
    receive
        {follow, From, Ref, Host, Spec} ->
            {Reply, S1} = followed(Host, Spec, S),
            From ! {Ref, Reply},
            ?MODULE:loop(S1);
        {log, To, Level, Msg, Meta} ->
            ?MODULE:loop(told(To, formatted(Level, Msg, Meta), S));
        paused ->
            ?MODULE:loop(flush(S#{pause := false}));
        {sums, Host} ->
            ?MODULE:loop(flush(S#{followers := maps:map(fun(_, F) -> asked(Host, F) end, Fs)}));
        tick ->
            _ = erlang:send_after(?TICK, self(), tick),
            ?HELPER:charge(),
            ?MODULE:loop(tick(S));
        {'DOWN', Mon, process, _, _} ->
            case maps:remove(Mon, Fs) of
                Fs1 when map_size(Fs1) =:= 0 -> stop(S);
                Fs1 -> ?MODULE:loop(renew(S#{followers := Fs1}))
            end;
        _ ->
            ?MODULE:loop(S)
    end.

stop(_) ->
    unhandle(),
    unregister(?MODULE).

followed(_, _, #{followers := Fs} = S) when map_size(Fs) >= ?MOST -> {{error, too_many}, S};
followed(Host, #{level := Level, rate := Rate} = Spec, #{followers := Fs} = S) ->
    Tokens = atomics:new(1, []),
    atomics:put(Tokens, 1, Rate),
    Want = want(Spec),
    S1 = S#{followers := Fs#{?HELPER:watch(Host) => #{host => Host, tokens => Tokens, rate => Rate, least => number(Level), want => Want,
                                                      held => [], sent => 0, left => 0, told => 0}}},
    S2 = case Spec of
             #{set_level := true} -> lowered(Level, S1);
             _ -> S1
         end,
    S3 = renew(S2),
    _ = [logger:set_primary_config(level, Level) || S2 =/= S1],
    case logger:get_handler_config(?MODULE) of
        {ok, _} ->
            #{level := Primary} = logger:get_primary_config(),
            {App, _} = refreshed(Want),
            {{ok, self(), Primary, maps:get(level, S3) =/= none, App =:= all orelse is_pid(element(2, App))}, S3};
        {error, Reason} ->
            {{error, Reason}, S3}
    end.

%% lowered(Level, S): the logger's own level is to be Level. What it was is known
%% to the handler before, so that it is put back whatever happens.
lowered(Level, #{level := Set} = S) ->
    #{level := Is} = logger:get_primary_config(),
    case {logger:compare_levels(Level, Is), Set} of
        {lt, none} -> S#{level := {Is, [Level]}};
        {lt, {Was, Ours}} -> S#{level := {Was, [Level | Ours]}};
        _ -> S
    end.

%% want(Spec) -> {all | {app, Bin}, all | Pid | {names, [Bin]}}
want(Spec) ->
    App = case Spec of #{application := A} -> {app, A}; _ -> all end,
    Who = case Spec of
              #{pid := Pid} -> Pid;
              #{names := Names} -> {names, Names};
              _ -> all
          end,
    {App, Who}.

%% refreshed(Want): as the handler compares it. An application that starts again
%% has another master.
refreshed({App, Who}) -> {refresh_app(App), refresh_who(Who)}.

refresh_app(all) -> all;
refresh_app({app, Bin}) ->
    case existing(Bin) of
        none -> {none, none};
        App ->
            try application_controller:get_master(App) of
                Pid when is_pid(Pid) -> {App, Pid};
                _ -> {App, none}
            catch _:_ -> {App, none}
            end
    end.

refresh_who({names, Bins}) -> {names, [Name || Bin <- Bins, (Name = existing(Bin)) =/= none]};
refresh_who(Who) -> Who.

existing(Bin) ->
    try binary_to_existing_atom(Bin, utf8) catch error:_ -> none end.

%% renew(S) brings the handler in line with the followers.
renew(#{followers := Fs, level := Set} = S) ->
    Rows = [{Mon, Tokens, Least, refreshed(Want)} || {Mon, #{tokens := Tokens, least := Least, want := Want}} <- maps:to_list(Fs)],
    Least = lists:max([L || {_, _, L, _} <- Rows]),
    Config = #{level => level(Least), filter_default => stop, filters => [{?MODULE, {fun ?MODULE:filter/2, {self(), Rows}}}], config => #{level => Set}},
    case S of
        #{config := Config} -> ok;
        #{config := _} -> _ = logger:update_handler_config(?MODULE, Config);
        _ -> _ = logger:add_handler(?MODULE, ?MODULE, Config)
    end,
    S#{config => Config}.

level(N) -> element(N + 1, {emergency, alert, critical, error, warning, notice, info, debug}).

%% tick(S): new tokens, what was left out, and once a second who is meant.
tick(#{followers := Fs, ticks := Ticks} = S) ->
    Fs1 = maps:map(fun(_, #{tokens := Tokens, rate := Rate, left := Left} = F) ->
                           F#{left := Left + refill(Tokens, Rate, max(1, Rate * ?TICK div 1000))}
                   end, Fs),
    S1 = flush(S#{followers := Fs1, ticks := Ticks + 1}),
    case Ticks rem 10 of
        0 when map_size(Fs1) > 0 -> renew(S1);
        _ -> S1
    end.

%% refill(Tokens, Most, New) -> how many events found none.
%% Others take some meanwhile. Where there were none left each of them counts, so
%% that only the exchanged value is exact.
refill(Tokens, Most, New) ->
    case atomics:get(Tokens, 1) of
        Left when Left > 0 ->
            case atomics:compare_exchange(Tokens, 1, Left, min(Most, Left + New)) of
                ok -> 0;
                _ -> refill(Tokens, Most, New)
            end;
        _ ->
            -atomics:exchange(Tokens, 1, New)
    end.

%% told(To, Event, S): the event goes to followers now, if none was sent anything a
%% short while ago, or else with those that come until the end of that.
told(To, Event, #{followers := Fs, weight := Weight, pause := Pause} = S) ->
    S1 = S#{followers := lists:foldl(fun(Mon, Acc) -> held(Mon, Event, Acc) end, Fs, To), weight := Weight + weight(Event)},
    case S1 of
        #{weight := W} when Pause, W < ?HELD -> S1;
        _ -> flush(S1)
    end.

held(Mon, Event, Fs) ->
    case Fs of
        #{Mon := #{held := Held} = F} -> Fs#{Mon := F#{held := [Event | Held]}};
        _ -> Fs
    end.

%% weight(Event): of those that are text alone about what they take in kB, if that is
%% more than one. A report may have large values beside its text.
weight({log, _, _, _, _, _, _, _, Text, none, _}) -> 1 + byte_size(Text) bsr 10;
weight(_) -> 8.

asked(Host, #{host := Host} = F) -> F#{told := none};
asked(_, F) -> F.

%% flush(S) sends what is held, and what was left out.
flush(#{followers := Fs, pause := Pause} = S) ->
    case lists:any(fun due/1, maps:values(Fs)) of
        true ->
            _ = [erlang:send_after(?PAUSE, self(), paused) || not Pause],
            S#{followers := maps:map(fun(_, F) -> flushed(F) end, Fs), weight := 0, pause := true};
        false ->
            S#{weight := 0}
    end.

due(#{held := [], left := Left, told := Left}) -> false;
due(_) -> true.

%% What the connection has no room for is left out.
flushed(#{host := Host, held := Held, sent := Sent, left := Left} = F) ->
    N = length(Held),
    case due(F) andalso send(Host, {logs, Sent + N, Left, lists:reverse(Held)}) of
        true -> F#{held := [], sent := Sent + N, told := Left};
        false -> F#{held := [], left := Left + N}
    end.

send(Host, Msg) -> erlang:send(Host, Msg, [noconnect, nosuspend]) =:= ok.

%% ------------------------------------------------------------------ the events

%% {log, Time, Level, Pid, Name, Application, MFA, {File, Line}, Text, Kind, [{Key, Value}]}
formatted(Level, Msg, Meta) ->
    Text = text(Msg, Meta),
    {Kind, Fields} = try shape(Msg, Meta, Text) catch _:_ -> {none, []} end,
    {log, maps:get(time, Meta, 0), Level, maps:get(pid, Meta, none), maps:get(registered_name, Meta, none),
     application(Meta), maps:get(mfa, Meta, none), {maps:get(file, Meta, none), maps:get(line, Meta, 0)},
     Text, Kind, Fields}.

application(#{application := App}) -> App;
application(#{gl := Leader}) when is_pid(Leader), node(Leader) =:= node() ->
    try application_controller:get_application(Leader) of
        {ok, App} -> App;
        _ -> none
    catch _:_ -> none
    end;
application(_) -> none.

text(Msg, #{report_cb := _} = Meta) ->
    case guarded(fun() -> binary(chars(Msg, Meta)) end) of
        {ok, Text} -> Text;
        error -> plain(Msg)
    end;
text(Msg, Meta) ->
    try binary(chars(Msg, Meta)) catch _:_ -> plain(Msg) end.

plain(Msg) -> binary(io_lib:format("~0tp", [Msg], [{chars_limit, ?TEXT}])).

binary(Chars) ->
    case unicode:characters_to_binary(Chars) of
        Bin when is_binary(Bin) -> trimmed(Bin);
        {_, Good, _} -> trimmed(<<Good/binary, "...">>)
    end.

%% guarded(F) -> {ok, Result} | error: the callback of a report is anybody's code.
guarded(F) ->
    Me = self(),
    Ref = make_ref(),
    Limit = #{size => 4 * 1024 * 1024, kill => true, error_logger => false},
    P = spawn_opt(fun() -> Me ! {Ref, try {ok, F()} catch _:_ -> error end} end, [link, {max_heap_size, Limit}]),
    receive
        {Ref, Result} -> Result;
        {'EXIT', P, _} -> error
    after ?CALLBACK ->
        exit(P, kill),
        error
    end.

chars({string, Chars}, _) -> Chars;
chars({report, Report}, #{report_cb := Callback}) when is_function(Callback, 2) ->
    Callback(Report, #{depth => 30, chars_limit => ?TEXT, single_line => false});
chars({report, Report}, #{report_cb := Callback}) when is_function(Callback, 1) ->
    {Format, Args} = Callback(Report),
    io_lib:format(Format, Args, [{chars_limit, ?TEXT}]);
chars({report, Report}, _) ->
    {Format, Args} = logger:format_report(Report),
    io_lib:format(Format, Args, [{chars_limit, ?TEXT}]);
chars({Format, Args}, _) ->
    io_lib:format(Format, Args, [{chars_limit, ?TEXT}]).

trimmed(Text) when byte_size(Text) > ?TEXT ->
    case unicode:characters_to_binary(binary:part(Text, 0, ?TEXT)) of
        {_, Good, _} -> <<Good/binary, "...">>;
        Good -> <<Good/binary, "...">>
    end;
trimmed(Text) ->
    %% string:trim/1 takes longer than all else that makes the text.
    case Text =:= <<>> orelse visible(binary:first(Text)) andalso visible(binary:last(Text)) of
        true -> Text;
        false -> string:trim(Text)
    end.

visible(Byte) -> Byte > $\s andalso Byte < 127.

%% shape(Msg, Meta, Text) -> {Kind, [{Key, Value}]}
%% Keys that reports of one kind have in common: name, class, reason, stack,
%% state, last_message, ancestors, child, child_pid.
shape({report, #{label := {proc_lib, crash}, report := [Info | _]}}, _, _) when is_list(Info) ->
    {Class, Reason, Stack} = proplists:get_value(error_info, Info, {exit, unknown, []}),
    Rest = [KV || {K, _} = KV <- Info, K =/= error_info, K =/= registered_name, K =/= ancestors],
    {crash, [{name, proplists:get_value(registered_name, Info, [])}, {class, Class} | reason(Reason, Stack)]
         ++ [{ancestors, proplists:get_value(ancestors, Info, [])} | Rest]};
shape({report, #{label := {gen_statem, terminate}, reason := {Class, Reason, Stack}} = R}, _, _) ->
    Last = case R of
               #{queue := [Event | _]} -> [{last_message, Event}];
               _ -> []
           end,
    {terminate, [{class, Class} | reason(Reason, Stack)] ++ Last ++ rest(R, [label, reason, queue])};
shape({report, #{label := {_, terminate}, reason := Reason} = R}, _, _) ->
    {terminate, reason(Reason) ++ rest(R, [label, reason])};
shape({report, #{label := {supervisor, progress}, report := Info}}, _, _) ->
    {progress, supervised(Info)};
shape({report, #{label := {supervisor, _}, report := Info}}, _, _) ->
    {supervisor, reason(proplists:get_value(reason, Info, unknown)) ++ supervised(Info)};
shape({report, #{label := {_, terminating}, report := #{reason := Reason} = R}}, _, _) ->
    {terminate, reason(Reason) ++ rest(R, [reason])};
shape({report, #{label := {_, progress}, report := Info}}, _, _) when is_list(Info) ->
    {progress, Info};
shape({report, #{label := Label, report := Info}}, _, _) when is_list(Info) ->
    {report, [{label, Label} | pairs(Info)]};
shape({report, R}, _, _) when is_map(R) -> {report, maps:to_list(R)};
shape({report, R}, _, _) when is_list(R) -> {report, pairs(R)};
%% Elixir's Logger makes a text of a report before any handler sees it.
shape({string, _}, #{crash_reason := {Reason, Stack}} = Meta, Text) ->
    {terminate, reason(Reason, Stack) ++ parts(Text) ++ maps:to_list(maps:with([ancestors], Meta))};
%% The emulator's own, of a process that nothing caught.
shape({_, [Pid | More]}, #{error_logger := #{emulator := true}}, _) when is_pid(Pid), More =/= [] ->
    {crash, reason(lists:last(More))};
shape(_, _, _) -> {none, []}.

rest(Map, Without) -> maps:to_list(maps:without(Without, Map)).

pairs(List) -> [KV || {_, _} = KV <- List].

reason({Reason, [{_, _, _, _} | _] = Stack}) -> reason(Reason, Stack);
reason(Reason) -> [{reason, Reason}].

reason(Reason, [_ | _] = Stack) -> [{reason, Reason}, {stack, Stack}];
reason(Reason, _) -> [{reason, Reason}].

supervised(Info) ->
    Child = case proplists:get_value(offender, Info, proplists:get_value(started, Info, [])) of
                L when is_list(L) -> L;
                _ -> []
            end,
    Id = proplists:get_value(id, Child, proplists:get_value(name, Child, none)),
    [{name, case proplists:get_value(supervisor, Info, none) of {local, Name} -> Name; Name -> Name end}]
        ++ [{context, C} || {errorContext, C} <- Info]
        ++ [{child, Id} || Id =/= none]
        ++ [{child_pid, P} || {pid, P} <- Child]
        ++ [{child_call, M} || {mfargs, M} <- Child].

parts(Text) ->
    part(Text, <<"\nLast message">>, last_message) ++ part(Text, <<"\nState: ">>, state).

%% "Last message: Term" and "Last message (from #PID<0.1.0>): Term"
part(Text, Begin, Key) ->
    case binary:split(Text, Begin) of
        [_, After] ->
            [Line | _] = binary:split(After, <<"\n">>),
            case {Key, binary:split(Line, <<": ">>)} of
                {last_message, [_, Value]} -> [{Key, {'$text', Value}}];
                _ -> [{Key, {'$text', Line}}]
            end;
        _ -> []
    end.
