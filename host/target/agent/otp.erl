%% A companion of debughost_agent: the state of processes that know OTP's system
%% messages, as a tree that is cut here, and what only such a process can change
%% of itself.
-module(?AGENT).

-export([state/2, flag/4]).

%% Levels of a term that are copied to print it.
-define(DEEP, 12).

%% ---------------------------------------------------------------- asking

%% state(Pid, Spec) -> {ok, Info, [Step], Text, Node} | {large, Bytes} |
%%     {no_system_messages, Info} | {no_answer, Info} | {failed, Info, Text} |
%%     {no_part, Info, Nth, Kind} | undefined
%% Spec: #{path := [Step], depth := N, width := N, offset := N, room := Bytes,
%%         text := Bytes, timeout := Ms, limit := Bytes, force := Bool}
%% Info: {Behaviour, Module, Call, Memory, QueueLen, Status, CurrentFunction}
%% Node: {Kind, Bytes, Head, Cut, Count, [{Step, Node, Label | none}]}; the list may
%% be shorter than Count. Bytes counts what is shared each time, and binaries.
state(P, #{limit := Limit} = Spec) ->
    quiet(Limit),
    case process_info(P, memory) of
        undefined -> undefined;
        {_, Bytes} when Bytes > Limit -> {large, Bytes};
        {_, _} -> known(P, info(P), Spec)
    end.

known(_, undefined, _) -> undefined;
known(P, {Behaviour, _, _, _, _, _, _} = Info, #{force := Force, timeout := Timeout} = Spec) ->
    case Behaviour =/= none orelse Force of
        false -> {no_system_messages, Info};
        true ->
            try sys:get_state(P, Timeout) of
                State -> part(State, named(State, Info), Spec)
            catch
                exit:{timeout, _} -> no_answer(P, Info);
                exit:{noproc, _} -> undefined;
                exit:{{nodedown, _}, _} -> undefined;
                exit:{Reason, _} -> {failed, Info, said(Reason)};
                _:Reason -> {failed, Info, said(Reason)}
            end
    end.

%% What it does when it has not answered tells more than what it did before.
no_answer(P, Info) ->
    case info(P) of
        undefined -> undefined;
        Now -> {no_answer, setelement(1, Now, element(1, Info))}
    end.

said(Reason) -> unicode:characters_to_binary(io_lib:format("~0tP", [Reason, 20])).

info(P) ->
    case process_info(P, [memory, message_queue_len, status, current_function, current_stacktrace, initial_call]) of
        [{_, Memory}, {_, Len}, {_, Status}, {_, Current}, {_, Stack}, {_, Initial}] ->
            Call = call(P, Initial),
            {behaviour([M || {M, _, _, _} <- Stack], Call), module(Call), Call, Memory, Len, Status, Current};
        undefined ->
            undefined
    end.

%% What runs a fun says nothing of whose callbacks it runs.
module({M, _, _}) when M =:= erlang; M =:= proc_lib -> [];
module({M, _, _}) -> M.

%% Behind proc_lib, the function that it was asked to run.
call(P, {proc_lib, init_p, _} = Initial) ->
    Entry = try process_info(P, {dictionary, '$initial_call'}) of
                {_, E} -> E;
                undefined -> undefined
            catch
                error:badarg -> %% before OTP 26.2
                    case process_info(P, dictionary) of
                        {_, D} -> proplists:get_value('$initial_call', D);
                        undefined -> undefined
                    end
            end,
    case Entry of
        {M, F, A} when is_atom(M), is_atom(F), is_integer(A) -> {M, F, A};
        {M, F, As} when is_atom(M), is_atom(F), is_list(As) -> {M, F, length(As)};
        _ -> Initial
    end;
call(_, Initial) -> Initial.

%% behaviour([Module on the stack], Call) -> Behaviour | none
%% Who handles system messages has a module that sys calls back. In the mailbox
%% of another process such a message would lie for good, or be taken for
%% something else. A process that hibernates has no stack, a busy one may have one
%% that is deeper than it tells: those are known by what they were started as.
behaviour(Stack, {M, F, A}) ->
    Began = case {M, F, A} of
                {supervisor, _, 1} -> [gen_server];
                {_, init, 1} -> [loop(B) || B <- behaviours(M)] ++ [M];
                _ -> [M]
            end,
    case [L || L <- serving(Stack) ++ Began, erlang:function_exported(L, system_continue, 3)] of
        [Loop | _] -> Loop;
        [] -> none
    end.

%% Without the frames of a call that it waits for: those are of a client.
serving([M | _] = Stack) when M =:= gen; M =:= proc_lib ->
    lists:dropwhile(fun(L) -> lists:member(L, [gen, proc_lib, gen_server, gen_statem, gen_event]) end, Stack);
serving(Stack) -> Stack.

behaviours(M) ->
    Said = try M:module_info(attributes) of
               As -> lists:append([Bs || {K, Bs} <- As, K =:= behaviour orelse K =:= behavior])
           catch
               error:undef -> []
           end,
    Said ++ [gen_server || erlang:function_exported(M, handle_call, 3)] ++ [gen_statem || erlang:function_exported(M, callback_mode, 0)].

loop('Elixir.GenServer') -> gen_server;
loop('Elixir.Supervisor') -> gen_server;
loop(supervisor) -> gen_server;
loop(B) -> B.

%% What is more than a gen_server, and whose callbacks it runs: often only the
%% state tells, since many of these put another initial call in the place of
%% their own.
named(State, {gen_server, _, {supervisor, _, 1}, _, _, _, _} = Info) when is_tuple(State), tuple_size(State) > 8 ->
    called(supervisor, element(tuple_size(State) - 1, State), Info);
named(State, {gen_server, M, {M, init, 1}, _, _, _, _} = Info) when is_tuple(State), tuple_size(State) > 8, element(1, State) =:= state ->
    case erlang:function_exported(M, which_children, 1) andalso erlang:function_exported(M, count_children, 1) of
        true -> called(M, element(tuple_size(State) - 1, State), Info); %% made after OTP's, as supervisor2
        false -> plain(State, Info)
    end;
named(#{'__struct__' := S, mod := M}, Info) -> called(S, M, Info); %% DynamicSupervisor, GenStage, ConsumerSupervisor
named(#{socket := #{'__struct__' := 'Elixir.Phoenix.LiveView.Socket', view := M}}, Info) ->
    called('Elixir.Phoenix.LiveView', M, Info);
named(#{'__struct__' := 'Elixir.Phoenix.Socket', channel := M}, Info) ->
    called('Elixir.Phoenix.Channel', M, Info);
named(State, Info) -> plain(State, Info).

plain(_, {gen_server, M, {M, F, A}, _, _, _, _} = Info) ->
    Agent = erlang:module_loaded('Elixir.Agent.Server') andalso {F, A} =/= {init, 1}
        andalso not erlang:function_exported(M, handle_call, 3),
    case Agent of
        true -> called('Elixir.Agent', M, Info);
        false ->
            case lists:member('Elixir.GenServer', behaviours(M)) of
                true -> called('Elixir.GenServer', M, Info);
                false -> Info
            end
    end;
plain(_, Info) -> Info.

called(Behaviour, M, Info) when is_atom(Behaviour), is_atom(M) -> setelement(1, setelement(2, Info, M), Behaviour);
called(_, _, Info) -> Info.

%% ------------------------------------------------------------- its parts

part(State, {Behaviour, _, _, _, _, _, _} = Info, #{path := Path, text := Text} = Spec) ->
    Names = names(Behaviour, State),
    case open(Path, State, Names, 1, []) of
        {ok, Term, Taken} ->
            Inner = case Path of [] -> Names; _ -> [] end,
            {ok, Info, Taken, head(Term, Text), root(Term, Inner, Spec)};
        {error, Nth, Term} ->
            {no_part, Info, Nth, kind(Term)}
    end.

%% What the elements of a state that is a tuple are called.
names(gen_server2, S) when is_tuple(S), tuple_size(S) > 9, element(1, S) =:= gs2_state ->
    [record, parent, name, state, module, time, timeout_state, queue, debug];
names(gen_statem, {_, _}) -> [state, data];
names(B, S) when is_tuple(S), tuple_size(S) > 9, element(1, S) =:= state, B =/= gen_server ->
    case B =:= supervisor orelse erlang:function_exported(B, which_children, 1) of
        %% What is in between depends on the release.
        true -> [record, name, strategy, children, dynamics, intensity, period, restarts]
                    ++ lists:duplicate(tuple_size(S) - 10, none) ++ [module, args];
        false -> []
    end;
names(_, _) -> [].

%% A step is {key, [Encoded]}, of which the first that the map has is meant,
%% {index, N, [Encoded]} for a list or a map, {element, N}, or {field, Name}. Keys
%% are encoded, so that a term that nobody has here makes no new atom. It ends
%% with the steps as they were taken, and those of a map with its key.
open([], Term, _, _, Taken) -> {ok, Term, lists:reverse(Taken)};
open([Step | Path], Term, Names, Nth, Taken) ->
    case step(Step, Term, Names) of
        {ok, As, Next} -> open(Path, Next, [], Nth + 1, [As | Taken]);
        error -> {error, Nth, Term}
    end.

step({element, N}, T, _) when is_tuple(T), N > 0, N =< tuple_size(T) -> {ok, {e, N}, element(N, T)};
step({index, N, _}, [_ | _] = L, _) -> nth(N, L);
step({index, _, Keys}, M, _) when is_map(M) -> key(Keys, M);
step({key, Keys}, M, _) when is_map(M) -> key(Keys, M);
step({key, Keys}, [_ | _] = L, _) -> property(Keys, L);
step({field, Name}, T, Names) when is_tuple(T) ->
    case [I || {I, N} <- lists:zip(lists:seq(1, length(Names)), Names), atom_to_binary(N, utf8) =:= Name] of
        [I | _] -> {ok, {e, I}, element(I, T)};
        [] -> error
    end;
step({field, Name}, M, _) when is_map(M) -> key([term_to_binary(A) || A <- existing(Name)], M);
step(_, _, _) -> error.

existing(Name) ->
    try [binary_to_existing_atom(Name, utf8)] catch error:_ -> [] end.

nth(N, L) when N > 0 -> forth(N, L, N);
nth(N, L) when N < 0 ->
    try length(L) of
        Len when Len + N >= 0 -> forth(Len + N + 1, L, Len + N + 1);
        _ -> error
    catch
        error:badarg -> error %% improper
    end;
nth(_, _) -> error.

forth(1, [X | _], N) -> {ok, {i, N}, X};
forth(K, [_ | L], N) -> forth(K - 1, L, N);
forth(_, _, _) -> error.

key([Encoded | Keys], M) ->
    try binary_to_term(Encoded, [safe]) of
        K when is_map_key(K, M) -> {ok, {k, K, false}, maps:get(K, M)};
        _ -> key(Keys, M)
    catch
        error:badarg -> key(Keys, M)
    end;
key([], _) -> error.

%% A keyword list is opened as a map is.
property([Encoded | Keys], L) ->
    try lists:keyfind(binary_to_term(Encoded, [safe]), 1, L) of
        {K, V} -> {ok, {k, K, false}, V};
        _ -> property(Keys, L)
    catch
        error:_ -> property(Keys, L)
    end;
property([], _) -> error.

%% -------------------------------------------------------------- the tree

root(Term, Names, #{depth := Depth, width := Width, offset := Offset, room := Room}) ->
    node(Term, Names, Depth, Width, Offset, Room).

%% node(Term, Names, Depth, Width, Offset, Room) -> Node
%% Each part of a term is looked at once. Room is about how many bytes the node
%% may take on the wire, with what is below it.
node(Term, Names, Depth, Width, Offset, Room) ->
    Kind = kind(Term),
    Own = case is_container(Kind) andalso Depth > 0 of
              true -> min(160, Room div 4);
              false -> min(400, Room)
          end,
    Head = head(Term, Own),
    Left = Room - Own,
    Fit = min(Width, Left div 60),
    case is_container(Kind) andalso Depth > 0 andalso Fit > 0 of
        true ->
            Each = Left div few(Term, Fit) - 30,
            Put = fun(Step, T, Label) -> {Step, node(T, [], Depth - 1, Width, 0, Each), Label} end,
            {Bytes, Count, Parts} = parts(Term, Names, Offset, Fit, Put),
            {Kind, 8 + Bytes, Head, Head =/= Term, Count, Parts};
        false ->
            {Kind, 8 + bytes(Term, 0), Head, Head =/= Term, count(Kind, Term), []}
    end.

%% How many parts there are, if these are less than Most; at least one.
few(T, Most) when is_tuple(T) -> max(1, min(Most, tuple_size(T)));
few(M, Most) when is_map(M) -> max(1, min(Most, map_size(M)));
few([_ | L], Most) when Most > 1 -> 1 + few(L, Most - 1);
few(_, _) -> 1.

is_container(list) -> true;
is_container(tuple) -> true;
is_container(map) -> true;
is_container(struct) -> true;
is_container(_) -> false.

kind(T) when is_atom(T) -> atom;
kind([]) -> list;
kind([_ | _] = L) ->
    case text(L, 64) of
        true -> string;
        false -> list
    end;
kind(T) when is_tuple(T) -> tuple;
kind(#{'__struct__' := M}) when is_atom(M) -> struct;
kind(T) when is_map(T) -> map;
kind(T) when is_binary(T) -> binary;
kind(T) when is_bitstring(T) -> bitstring;
kind(T) when is_integer(T) -> integer;
kind(T) when is_float(T) -> float;
kind(T) when is_pid(T) -> pid;
kind(T) when is_port(T) -> port;
kind(T) when is_reference(T) -> reference;
kind(T) when is_function(T) -> 'fun';
kind(_) -> record. %% native, of OTP 29

%% A list that begins with characters is taken for a text.
text(_, 0) -> true;
text([], _) -> true;
text([C | L], N) when is_integer(C), C >= 32, C < 16#D800, (C < 127 orelse C > 159) -> text(L, N - 1);
text([C | L], N) when C >= 9, C =< 13, is_integer(C) -> text(L, N - 1);
text(_, _) -> false.

count(list, L) -> long(L, 0);
count(tuple, T) -> tuple_size(T);
count(map, M) -> map_size(M);
count(struct, M) -> map_size(M) - 1;
count(_, _) -> 0.

long([_ | L], N) -> long(L, N + 1);
long([], N) -> N;
long(_, N) -> N + 1.

%% parts(Term, Names, Offset, Fit, Put) -> {Bytes, Count, [{Step, Node, Label}]}
%% Fit parts after the first Offset are put into nodes, the rest is measured.
parts(L, _, Offset, Fit, Put) when is_list(L) -> list_parts(L, 1, Offset, Fit, Put, 0, []);
parts(T, Names, Offset, Fit, Put) when is_tuple(T) ->
    tuple_parts(T, 1, Names, Offset, Fit, Put, 8, []);
parts(M, _, Offset, Fit, Put) ->
    Shown = maps:remove('__struct__', M),
    %% The keys of a map of a usual size are in order, those of a large one as
    %% they come.
    Next = case map_size(M) =< 1000 of
               true -> lists:keysort(1, maps:to_list(Shown));
               false -> maps:next(maps:iterator(Shown))
           end,
    {Bytes, Parts} = map_parts(Next, 1, Offset, Fit, Put, 24 + 16 * (map_size(M) - map_size(Shown)), []),
    {Bytes, map_size(Shown), Parts}.

list_parts([H | T], I, Offset, Fit, Put, Bytes, Acc) when I > Offset, Fit > 0 ->
    {_, {_, Size, _, _, _, _}, _} = Part = Put({i, I}, H, none),
    list_parts(T, I + 1, Offset, Fit - 1, Put, Bytes + 8 + Size, [Part | Acc]);
list_parts([H | T], I, Offset, Fit, Put, Bytes, Acc) ->
    list_parts(T, I + 1, Offset, Fit, Put, bytes(H, Bytes + 16), Acc);
list_parts([], I, _, _, _, Bytes, Acc) -> {Bytes, I - 1, lists:reverse(Acc)};
list_parts(Tail, I, _, _, _, Bytes, Acc) -> {bytes(Tail, Bytes), I, lists:reverse(Acc)}.

tuple_parts(T, I, _, _, _, _, Bytes, Acc) when I > tuple_size(T) -> {Bytes, tuple_size(T), lists:reverse(Acc)};
tuple_parts(T, I, Names, Offset, Fit, Put, Bytes, Acc) when I > Offset, Fit > 0 ->
    {_, {_, Size, _, _, _, _}, _} = Part = Put({e, I}, element(I, T), label(I, Names)),
    tuple_parts(T, I + 1, Names, Offset, Fit - 1, Put, Bytes + Size, [Part | Acc]);
tuple_parts(T, I, Names, Offset, Fit, Put, Bytes, Acc) ->
    tuple_parts(T, I + 1, Names, Offset, Fit, Put, bytes(element(I, T), Bytes + 8), Acc).

label(I, Names) when I =< length(Names) -> lists:nth(I, Names);
label(_, _) -> none.

map_parts([{K, V} | Next], I, Offset, Fit, Put, Bytes, Acc) -> map_part(K, V, Next, I, Offset, Fit, Put, Bytes, Acc);
map_parts({K, V, Iter}, I, Offset, Fit, Put, Bytes, Acc) -> map_part(K, V, maps:next(Iter), I, Offset, Fit, Put, Bytes, Acc);
map_parts(_, _, _, _, _, Bytes, Acc) -> {Bytes, lists:reverse(Acc)}.

map_part(K, V, Next, I, Offset, Fit, Put, Bytes, Acc) when I > Offset, Fit > 0 ->
    Key = head(K, 200),
    {_, {_, Size, _, _, _, _}, _} = Part = Put({k, Key, Key =/= K}, V, none),
    map_parts(Next, I + 1, Offset, Fit - 1, Put, bytes(K, Bytes + 8) + Size, [Part | Acc]);
map_part(K, V, Next, I, Offset, Fit, Put, Bytes, Acc) ->
    map_parts(Next, I + 1, Offset, Fit, Put, bytes(V, bytes(K, Bytes + 16)), Acc).

%% bytes(Term, Sum) -> Sum and what the term takes beside its own word. Written
%% out, since the functions that measure whole terms do not let others run.
bytes([H | T], Sum) -> bytes(T, bytes(H, Sum + 16));
bytes(T, Sum) when is_tuple(T) -> elements(T, tuple_size(T), Sum + 8);
bytes(M, Sum) when is_map(M) -> entries(maps:next(maps:iterator(M)), Sum + 24);
bytes(B, Sum) when is_bitstring(B) -> Sum + 24 + byte_size(B);
bytes(F, Sum) when is_function(F) ->
    case erlang:fun_info(F, type) of
        {type, local} -> bytes(element(2, erlang:fun_info(F, env)), Sum + 32);
        {type, external} -> Sum
    end;
bytes(T, Sum) when is_atom(T); T =:= [] -> Sum;
bytes(T, Sum) -> Sum + 8 * erts_debug:flat_size(T).

elements(_, 0, Sum) -> Sum;
elements(T, I, Sum) -> elements(T, I - 1, bytes(element(I, T), Sum + 8)).

entries({K, V, Iter}, Sum) -> entries(maps:next(Iter), bytes(V, bytes(K, Sum + 16)));
entries(none, Sum) -> Sum.

%% ----------------------------------------------------- terms, cut for reading

%% head(Term, Bytes): so much of a term, counted about as it is encoded; what is
%% left out is '...'.
head(Term, Bytes) -> element(1, cut(Term, Bytes, ?DEEP)).

cut(_, Left, Deep) when Left =< 0; Deep =:= 0 -> {'...', 0};
cut(A, Left, _) when is_atom(A) -> {A, Left - 8};
cut(B, Left, _) when is_binary(B), byte_size(B) > Left + 8 ->
    {whole(binary:part(B, 0, Left)), 0};
cut(B, Left, _) when is_bitstring(B), byte_size(B) > Left + 8 ->
    {whole(binary:part(B, 0, Left)), 0};
cut(B, Left, _) when is_bitstring(B) -> {B, Left - 5 - byte_size(B)};
cut([_ | _] = L, Left, Deep) ->
    case text(L, 64) of
        true -> cut_text(L, Left - 3, L, Left, Deep, []);
        false -> cut_list(L, Left, Deep, [])
    end;
cut(T, Left, Deep) when is_tuple(T) -> cut_tuple(T, 1, Left - 2, Deep, []);
cut(M, Left, Deep) when is_map(M), map_size(M) =< 32 ->
    cut_map(first('__struct__', lists:keysort(1, maps:to_list(M))), Left - 5, Deep, []);
cut(M, Left, Deep) when is_map(M) -> cut_map(maps:next(maps:iterator(M)), Left - 5, Deep, []);
cut(T, Left, _) when is_integer(T); is_float(T) ->
    case 8 * erts_debug:flat_size(T) of
        N when N > 400 -> {'...', Left - 8};
        N -> {T, Left - 5 - N}
    end;
cut(T, Left, _) when is_pid(T); is_port(T); is_reference(T) -> {T, Left - 30};
cut(T, Left, _) ->
    case bytes(T, 0) of
        N when N > 400 -> {'...', Left - 8};
        N -> {T, Left - 40 - N}
    end.

%% Half a character at the end would make a text look like none.
whole(B) ->
    case unicode:characters_to_binary(B) of
        {incomplete, Good, _} -> binary:copy(Good);
        _ -> binary:copy(B)
    end.

%% A text that is cut must stay one, or it is printed as a list of numbers.
cut_text([C | T], Left, L, All, Deep, Acc) when Left > 0, is_integer(C), C >= 0, C =< 16#10FFFF ->
    cut_text(T, Left - 1, L, All, Deep, [C | Acc]);
cut_text([], Left, _, _, _, Acc) -> {lists:reverse(Acc), Left};
cut_text([C | _], Left, _, _, _, Acc) when Left =< 0, is_integer(C) -> {lists:reverse(Acc, "..."), 0};
cut_text(_, _, L, All, Deep, _) -> cut_list(L, All, Deep, []). %% it only began as one

cut_list([H | T], Left, Deep, Acc) when Left > 0 ->
    {H1, Left1} = cut(H, Left - 1, Deep - 1),
    cut_list(T, Left1, Deep, [H1 | Acc]);
cut_list([], Left, _, Acc) -> {lists:reverse(Acc), Left};
cut_list([_ | _], Left, _, Acc) -> {lists:reverse(Acc, ['...']), Left};
cut_list(Tail, Left, Deep, Acc) ->
    {Tail1, Left1} = cut(Tail, Left, Deep - 1),
    {lists:reverse(Acc, Tail1), Left1}.

cut_tuple(T, I, Left, _, Acc) when I > tuple_size(T) -> {list_to_tuple(lists:reverse(Acc)), Left};
cut_tuple(T, I, Left, Deep, Acc) when Left > 0 ->
    {E, Left1} = cut(element(I, T), Left, Deep - 1),
    cut_tuple(T, I + 1, Left1, Deep, [E | Acc]);
cut_tuple(_, _, Left, _, Acc) -> {list_to_tuple(lists:reverse(Acc, ['...'])), Left}.

cut_map([{K, V} | Next], Left, Deep, Acc) when Left > 0 -> cut_entry(K, V, Next, Left, Deep, Acc);
cut_map({K, V, Iter}, Left, Deep, Acc) when Left > 0 -> cut_entry(K, V, maps:next(Iter), Left, Deep, Acc);
cut_map(End, Left, _, Acc) when End =:= []; End =:= none -> {maps:from_list(Acc), Left};
cut_map(_, Left, _, Acc) -> {maps:from_list([{'...', '...'} | Acc]), Left}.

cut_entry(K, V, Next, Left, Deep, Acc) ->
    {K1, Left1} = cut(K, Left, Deep - 1),
    {V1, Left2} = cut(V, Left1, Deep - 1),
    cut_map(Next, Left2, Deep, [{K1, V1} | Acc]).

%% The name of a struct is worth more than its first field.
first(K, Pairs) ->
    case lists:keytake(K, 1, Pairs) of
        {value, Pair, Rest} -> [Pair | Rest];
        false -> Pairs
    end.

%% ---------------------------------------------------------------- changing

%% flag(Pid, Flag, Value, Spec) -> {ok, Was} | {large, Bytes} |
%%     {no_system_messages, Info} | {no_answer, Info} | {failed, Info, Text} | undefined
%% A process flag that only the process itself can set: it does, when it comes to
%% the system message, and its state stays as it is.
flag(P, Flag, Value, #{timeout := Timeout, limit := Limit}) ->
    quiet(Limit),
    case {process_info(P, memory), info(P)} of
        {undefined, _} -> undefined;
        {_, undefined} -> undefined;
        {{_, Bytes}, _} when Bytes > Limit -> {large, Bytes};
        {_, {none, _, _, _, _, _, _} = Info} -> {no_system_messages, Info};
        {_, Info} ->
            Self = self(),
            Ref = make_ref(),
            Set = fun(State) -> Self ! {Ref, process_flag(Flag, Value)}, State end,
            try sys:replace_state(P, Set, Timeout) of
                _ -> receive {Ref, Was} -> {ok, Was} after 0 -> {failed, Info, <<"it has no state to change">>} end
            catch
                exit:{timeout, _} -> no_answer(P, Info);
                exit:{noproc, _} -> undefined;
                _:Reason -> {failed, Info, said(Reason)}
            end
    end.

%% The worker's own limit, above what it may copy: a defect here may cost its
%% answer, never the node.
quiet(Copied) ->
    process_flag(max_heap_size, #{size => 8 * 1024 * 1024 + Copied div 2, kill => true, error_logger => false}).
