%% A companion of debughost_agent: ports and sockets.
-module(?AGENT).

-export([ports/1]).

-define(SLICE, 200).
%% Of a port's name, which may be a command line, so many characters are told.
-define(NAME, 1024).

%% ports(#{sort := bytes | queue | memory, limit := N, share := Percent}) -> {Total, [Row]}
%% Row: {Port | Id, Name, Kind, Owner, Input, Output, Queue, Memory, OsPid,
%%       Protocol, Local, Peer, [State], [{Counter, N}]}, highest first
%% Sockets are those of the module socket; their Id is a text.
ports(#{sort := Sort, limit := Limit, share := Share}) ->
    process_flag(max_heap_size, #{size => 8 * 1024 * 1024 + 64 * erlang:system_info(port_count),
                                  kill => true, error_logger => false}),
    All = erlang:ports() ++ sockets(),
    Ranked = lists:sort(ranked(All, Sort, ?SLICE, Share, erlang:monotonic_time(), [])),
    {length(Ranked), [R || {_, P} <- lists:sublist(Ranked, Limit), R <- row(P)]}.

%% Where the module was not loaded yet nobody has such a socket.
sockets() ->
    try erlang:module_loaded(socket) andalso socket:which_sockets() of
        false -> [];
        Sockets -> Sockets
    catch
        _:_ -> []
    end.

ranked([], _, _, _, _, Acc) -> Acc;
ranked(Ps, Sort, 0, Share, T0, Acc) ->
    ranked(Ps, Sort, ?SLICE, Share, ?HELPER:yield(T0, Share), Acc);
ranked([P | Ps], Sort, K, Share, T0, Acc) ->
    ranked(Ps, Sort, K - 1, Share, T0, case value(P, Sort) of
                                           none -> Acc;
                                           V -> [{-V, P} | Acc]
                                       end).

value(P, bytes) when is_port(P) ->
    case erlang:port_info(P, name) of
        {_, Name} -> both(value(P, input), value(P, output), traffic(P, element(2, kind(Name, none))));
        undefined -> none
    end;
value(P, queue) when is_port(P) -> value(P, queue_size);
value(P, Item) when is_port(P) ->
    case erlang:port_info(P, Item) of
        {_, V} -> V;
        undefined -> none
    end;
value(S, bytes) ->
    try socket:info(S) of
        #{counters := C} -> maps:get(read_byte, C, 0) + maps:get(write_byte, C, 0);
        #{} -> 0
    catch
        _:_ -> none
    end;
value(_, _) -> 0.

both(In, Out, Counters) when is_integer(In), is_integer(Out) -> received(In, Counters) + sent(Out, Counters);
both(_, _, _) -> none.

%% What a port counts as input is what it has sent to its owner: nothing of what
%% the owner of a passive socket has read. The driver of sockets counts it all.
received(In, Counters) -> max(In, proplists:get_value(recv_oct, Counters, 0)).
sent(Out, Counters) -> max(Out, proplists:get_value(send_oct, Counters, 0)).

traffic(_, none) -> [];
traffic(P, _) -> counters(P, [recv_oct, send_oct]).

counters(P, Names) ->
    case catch inet:getstat(P, Names) of
        {ok, C} when is_list(C) -> C;
        _ -> []
    end.

%% A list of one row, or of none when it was closed meanwhile.
row(P) when is_port(P) ->
    case erlang:port_info(P) of
        undefined -> [];
        Info ->
            Get = fun(K) -> proplists:get_value(K, Info) end,
            Name = Get(name),
            {Kind, Protocol} = kind(Name, Get(os_pid)),
            {Local, Peer, State, Counters} = network(P, Protocol),
            [{P, text(Name), Kind, Get(connected), received(Get(input), Counters), sent(Get(output), Counters), number(value(P, queue_size)),
              number(value(P, memory)), Get(os_pid), Protocol, Local, Peer, State, Counters}]
    end;
row(S) ->
    try
        Info = #{counters := C} = socket:info(S),
        [{id(S), <<>>, socket, maps:get(owner, Info, undefined), maps:get(read_byte, C, 0), maps:get(write_byte, C, 0), 0, 0,
          undefined, protocol(Info), address(catch socket:sockname(S)), address(catch socket:peername(S)),
          maps:get(rstates, Info, []) ++ (maps:get(wstates, Info, []) -- maps:get(rstates, Info, [])),
          [{K, V} || {K, V} <- maps:to_list(C), is_integer(V)]}]
    catch
        _:_ -> []
    end.

number(N) when is_integer(N) -> N;
number(_) -> 0.

kind("tcp_inet", _) -> {tcp, tcp};
kind("udp_inet", _) -> {udp, udp};
kind("sctp_inet", _) -> {sctp, sctp};
kind(_, OsPid) when is_integer(OsPid) -> {program, none};
kind(_, _) -> {driver, none}.

network(_, none) -> {<<>>, <<>>, [], []};
network(P, _) ->
    State = case catch prim_inet:getstatus(P) of {ok, S} when is_list(S) -> S; _ -> [] end,
    {address(catch inet:sockname(P)), address(catch inet:peername(P)), State, counters(P, inet:stats())}.

protocol(#{domain := local}) -> local;
protocol(#{protocol := P}) when is_atom(P) -> P;
protocol(_) -> none.

id(S) ->
    try list_to_binary(socket:to_list(S))
    catch _:_ -> iolist_to_binary(io_lib:format("~0p", [S]))
    end.

address({ok, #{family := local, path := Path}}) -> text(Path);
address({ok, #{addr := Addr, port := Port}}) -> address({ok, {Addr, Port}});
address({ok, {local, Path}}) -> text(Path);
address({ok, {Addr, Port}}) when is_tuple(Addr), is_integer(Port) ->
    case inet:ntoa(Addr) of
        {error, _} -> <<>>;
        Text when tuple_size(Addr) =:= 8 -> iolist_to_binary(["[", Text, "]:", integer_to_list(Port)]);
        Text -> iolist_to_binary([Text, ":", integer_to_list(Port)])
    end;
address(_) -> <<>>.

text(Text) ->
    case unicode:characters_to_binary(string:slice(Text, 0, ?NAME)) of
        Bin when is_binary(Bin) -> Bin;
        _ -> <<>>
    end.
