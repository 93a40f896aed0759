%% A companion of debughost_agent: which names are registered, and whose they are.
-module(?AGENT).

-export([names/2]).

%% The largest process, in bytes, whose whole dictionary is copied to know what
%% runs behind proc_lib, where one entry of it cannot be asked for.
-define(COPY, 64 * 1024 * 1024).

%% names(Text, Limit) -> {Total, [{Name, Pid | Port, Kind, Memory, QueueLen, Call}]}
%% Text: a lower-case binary that is a part of the name; <<>> for all.
%% The rows are in the order of names, at most Limit of Total.
names(Text, Limit) ->
    process_flag(max_heap_size, #{size => 8 * 1024 * 1024, kill => true, error_logger => false}),
    Names = lists:sort([N || N <- registered(), matches(N, Text)]),
    {length(Names), [R || N <- lists:sublist(Names, Limit), R <- row(N, whereis(N))]}.

matches(_, <<>>) -> true;
matches(Name, Text) -> string:find(string:lowercase(atom_to_binary(Name, utf8)), Text) =/= nomatch.

row(_, undefined) -> [];
row(Name, Port) when is_port(Port) ->
    case erlang:port_info(Port, memory) of
        {memory, Memory} -> [{Name, Port, port, Memory, 0, driver(Port)}];
        undefined -> []
    end;
row(Name, Pid) ->
    case process_info(Pid, [memory, message_queue_len, initial_call, dictionary_key()]) of
        [{memory, Memory}, {message_queue_len, Queue}, {initial_call, Call}, Entry] ->
            [{Name, Pid, process, Memory, Queue, initial(Pid, Call, Entry, Memory)}];
        undefined ->
            []
    end.

%% One entry of the dictionary can be asked for since OTP 26.2.
dictionary_key() ->
    try process_info(self(), {dictionary, '$initial_call'}) of
        _ -> {dictionary, '$initial_call'}
    catch
        error:badarg -> priority
    end.

initial(_, {proc_lib, init_p, _} = Call, {{dictionary, _}, Entry}, _) -> translated(Entry, Call);
initial(Pid, {proc_lib, init_p, _} = Call, _, Memory) when Memory < ?COPY ->
    case process_info(Pid, dictionary) of
        {_, D} -> translated(proplists:get_value('$initial_call', D), Call);
        undefined -> Call
    end;
initial(_, Call, _, _) -> Call.

translated({M, F, A}, _) when is_atom(M), is_atom(F), is_integer(A) -> {M, F, A};
translated({M, F, As}, _) when is_atom(M), is_atom(F), is_list(As) -> {M, F, length(As)};
translated(_, Call) -> Call.

driver(Port) ->
    case erlang:port_info(Port, name) of
        {name, Name} -> unicode:characters_to_binary(Name);
        undefined -> <<>>
    end.
