%% A companion of debughost_agent: evaluates an expression in a process of its
%% own, and catches what it prints.
%%
%% A warden between the caller and that process is its group leader, ends it
%% after a time, and ends it when the caller is gone. What the expression itself
%% started lives on, as it would after a remote call.
-module(?AGENT).

-export([eval/3, warden/5, worker/5]).

%% Subterms of a value that cross the wire, and the bytes of one binary in it.
-define(SUBTERMS, 5000).
-define(BINARY, 65536).

%% eval(Language, Code, #{timeout := Ms, text := Bytes, heap := Words})
%%   -> {Outcome, Language, Value, Text, Cut, Output, Left}
%% Language: auto | erlang | elixir. Code: UTF-8.
%% Outcome: value | exception | timeout | killed
%% Text: the value or the exception as its language prints it, Cut whether it is
%% longer. Output: what was printed; Left: the bytes that were left out of it.
eval(Auto, Code, Limits) ->
    Language = language(Auto),
    {Warden, Mon} = spawn_monitor(?MODULE, warden, [self(), ?HELPER:meter(), Language, Code, Limits]),
    receive
        {Warden, Result} -> demonitor(Mon, [flush]), Result;
        {'DOWN', Mon, process, Warden, Reason} -> exit(Reason)
    end.

language(auto) ->
    case erlang:module_loaded('Elixir.Kernel') of
        true -> elixir;
        false -> erlang
    end;
language(elixir) ->
    case code:ensure_loaded('Elixir.Code') of
        {module, _} -> elixir;
        _ -> error(no_elixir)
    end;
language(erlang) ->
    erlang.

%% ------------------------------------------------------------------ warden

warden(Caller, Meter, Language, Code, #{timeout := Timeout, text := Bytes} = Limits) ->
    ?HELPER:meter(Meter),
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    Mon = monitor(process, Caller),
    {Worker, Down} = spawn_opt(?MODULE, worker, [self(), Meter, Language, Code, Limits], [monitor]),
    Timer = erlang:start_timer(Timeout, self(), timeout),
    {Outcome, Output, Left} = serve(#{caller => Mon, worker => Worker, down => Down, timer => Timer}, [], Bytes, 0),
    {Kind, Value, Text, Cut} = Outcome,
    ?HELPER:charge(),
    Caller ! {self(), {Kind, Language, Value, Text, Cut, iolist_to_binary(lists:reverse(Output)), Left}}.

%% serve(Ties, Output, Room, Left): Room is the bytes of output that are still kept.
serve(#{caller := Mon, worker := Worker, down := Down, timer := Timer} = Ties, Output, Room, Left) ->
    receive
        {io_request, From, As, Request} ->
            {Reply, Printed} = request(Request),
            From ! {io_reply, As, Reply},
            case byte_size(Printed) of
                Size when Size =< Room -> serve(Ties, [Printed | Output], Room - Size, Left);
                Size ->
                    Head = whole(binary:part(Printed, 0, Room)),
                    serve(Ties, [binary:copy(Head) | Output], 0, Left + Size - byte_size(Head))
            end;
        {Worker, Outcome} ->
            {Outcome, Output, Left};
        {'DOWN', Down, process, _, Reason} ->
            {{killed, [], text(io_lib:format("~0tP", [Reason, 20])), false}, Output, Left};
        {timeout, Timer, timeout} ->
            ?HELPER:charge(Worker),
            exit(Worker, kill),
            {{timeout, [], <<>>, false}, Output, Left};
        {'DOWN', Mon, process, _, _} ->
            ?HELPER:charge(Worker),
            exit(Worker, kill),
            ?HELPER:charge(),
            exit(normal);
        _ ->
            serve(Ties, Output, Room, Left)
    end.

%% request(IoRequest) -> {Reply, Printed}
request({put_chars, Encoding, Chars}) -> printed(fun() -> Chars end, Encoding);
request({put_chars, Encoding, M, F, A}) -> printed(fun() -> apply(M, F, A) end, Encoding);
request({put_chars, Chars}) -> request({put_chars, latin1, Chars});
request({put_chars, M, F, A}) -> request({put_chars, latin1, M, F, A});
request({requests, Requests}) -> requests(Requests, {ok, <<>>});
request({get_geometry, _}) -> {{error, enotsup}, <<>>};
request({setopts, _}) -> {ok, <<>>};
request(getopts) -> {[{binary, false}, {encoding, unicode}], <<>>};
request({Get, _, _}) when Get =:= get_line -> {eof, <<>>};
request({get_chars, _, _, _}) -> {eof, <<>>};
request({get_until, _, _, _, _, _}) -> {eof, <<>>};
request(_) -> {{error, request}, <<>>}.

requests([R | Rs], {ok, Before}) ->
    {Reply, Printed} = request(R),
    requests(Rs, {Reply, <<Before/binary, Printed/binary>>});
requests(_, Result) ->
    Result.

printed(Chars, Encoding) ->
    try unicode:characters_to_binary(Chars(), Encoding, unicode) of
        Bin when is_binary(Bin) -> {ok, Bin};
        _ -> {{error, put_chars}, <<>>}
    catch
        _:_ -> {{error, put_chars}, <<>>}
    end.

%% ------------------------------------------------------------------ worker

worker(Warden, Meter, Language, Code, #{heap := Words, text := Bytes}) ->
    process_flag(max_heap_size, #{size => Words, kill => true, error_logger => false}),
    group_leader(Warden, self()),
    Outcome = try evaluated(Language, Code) of
                  {value, Value} -> shown(Language, Value, Bytes);
                  {exception, Class, Reason, Stack} -> failed(Language, Class, Reason, Stack, Bytes)
              catch
                  Class:Reason:Stack -> failed(Language, Class, Reason, Stack, Bytes)
              end,
    ?HELPER:meter(Meter), % not before: its dictionary is the expression's
    ?HELPER:charge(),
    Warden ! {self(), Outcome}.

evaluated(erlang, Code) ->
    case erl_scan:string(unicode:characters_to_list(Code), {1, 1}) of
        {ok, Tokens, End} ->
            case erl_parse:parse_exprs(ended(Tokens, End)) of
                {ok, Exprs} ->
                    {value, Value, _} = erl_eval:exprs(Exprs, erl_eval:new_bindings(), {value, fun local/2}),
                    {value, Value};
                {error, Info} -> {exception, throw, {syntax, Info}, []}
            end;
        {error, Info, _} ->
            {exception, throw, {syntax, Info}, []}
    end;
evaluated(elixir, Code) ->
    Eval = fun() ->
                   try
                       {Value, _} = 'Elixir.Code':eval_string(Code, [], [{file, <<"eval">>}, {line, 1}]),
                       {value, Value}
                   catch
                       Class:Reason:Stack -> {exception, Class, Reason, Stack}
                   end
           end,
    %% Since 1.15 the compiler prints what is wrong to the node's standard error,
    %% and the exception says no more than that it did.
    case erlang:function_exported('Elixir.Code', with_diagnostics, 2) of
        true ->
            {Result, Diagnostics} = 'Elixir.Code':with_diagnostics([{log, false}], Eval),
            lists:foreach(fun diagnosed/1, Diagnostics),
            Result;
        false ->
            Eval()
    end.

diagnosed(#{severity := Severity, message := Message, position := Position}) ->
    io:put_chars([atom_to_binary(Severity, utf8), ": ", Message, "\n  eval:", place(Position), "\n"]);
diagnosed(_) ->
    ok.

place({Line, Column}) -> io_lib:format("~w:~w", [Line, Column]);
place(Line) -> io_lib:format("~w", [Line]).

ended(Tokens, End) ->
    case lists:reverse(Tokens) of
        [{dot, _} | _] -> Tokens;
        _ -> Tokens ++ [{dot, End}]
    end.

%% The commands of Erlang's shell.
local(F, Args) ->
    case [M || M <- [user_default, shell_default], exported(M, F, length(Args))] of
        [M | _] -> apply(M, F, Args);
        [] -> erlang:raise(error, undef, [{shell_default, F, Args, []}])
    end.

exported(M, F, Arity) ->
    _ = code:ensure_loaded(M),
    erlang:function_exported(M, F, Arity).

%% ---------------------------------------------------------------- printing

shown(Language, Value, Bytes) ->
    {Text, Cut} = short(show(Language, Value, Bytes), Bytes),
    {value, cut(Value, ?SUBTERMS), Text, Cut}.

show(elixir, Value, Bytes) ->
    'Elixir.Kernel':inspect(Value, [{pretty, true}, {width, 98}, {limit, max(50, Bytes div 8)}, {printable_limit, Bytes + 1}]);
show(erlang, Value, Bytes) ->
    io_lib:format("~tp", [Value], [{chars_limit, Bytes}]).

failed(Language, Class, Reason, Stack, Bytes) ->
    {Text, Cut} = short(banner(Language, Class, Reason, own(Stack)), Bytes),
    {exception, [], Text, Cut}.

banner(erlang, throw, {syntax, {Location, Module, What}}, []) ->
    ["** ", place(Location), ": ", Module:format_error(What)];
banner(erlang, Class, Reason, Stack) ->
    Format = fun(Term, Indent) -> io_lib:format("~." ++ integer_to_list(max(1, Indent)) ++ "tp", [Term], [{chars_limit, 4000}]) end,
    ["** ", erl_error:format_exception(Class, Reason, Stack, #{format_fun => Format, stack_trim_fun => fun(M, _, _) -> M =:= erl_eval end})];
banner(elixir, Class, Reason, Stack) ->
    Own = lists:reverse(lists:dropwhile(fun evaluator/1, lists:reverse(Stack))),
    string:trim('Elixir.Exception':format(Class, Reason, Own), trailing).

%% The frames of Elixir's evaluation.
evaluator(Frame) ->
    Module = element(1, Frame),
    lists:member(Module, [elixir, erl_eval, 'Elixir.Code', 'Elixir.Module.ParallelChecker'])
        orelse (Module =/= elixir_eval andalso lists:prefix("elixir_", atom_to_list(Module))).

%% The frames of what was evaluated: those of this module, and below, are ours.
own(Stack) -> lists:takewhile(fun(Frame) -> element(1, Frame) =/= ?MODULE end, Stack).

short(Chars, Bytes) ->
    case text(Chars) of
        Text when byte_size(Text) > Bytes -> {binary:copy(whole(binary:part(Text, 0, Bytes))), true};
        Text -> {Text, false}
    end.

text(Chars) ->
    case unicode:characters_to_binary(Chars) of
        Text when is_binary(Text) -> Text;
        _ -> <<"(what it prints is not Unicode)">>
    end.

%% whole(Bin): without half a character at the end.
whole(Bin) ->
    case unicode:characters_to_binary(Bin) of
        {incomplete, Head, _} -> Head;
        _ -> Bin
    end.

%% ----------------------------------------------------------------- cutting

%% What is left out of the value shows as the atom '...'.
cut(Term, Max) ->
    {Cut, _} = cut1(Term, Max),
    Cut.

cut1(_, Left) when Left =< 0 -> {'...', 0};
cut1(B, Left) when is_bitstring(B), bit_size(B) > 8 * ?BINARY -> {'...', Left - 1};
cut1(B, Left) when is_bitstring(B) -> {B, Left - 1 - bit_size(B) div 256};
cut1(F, Left) when is_function(F) -> {list_to_binary(erlang:fun_to_list(F)), Left - 1};
cut1(I, Left) when is_integer(I), (I > 1 bsl 8192 orelse I < -(1 bsl 8192)) -> {'...', Left - 1};
cut1([_ | _] = L, Left) -> cut_list(L, Left - 1, []);
cut1(T, Left) when is_tuple(T), tuple_size(T) =< Left ->
    {Es, Left1} = lists:mapfoldl(fun cut1/2, Left - 1, tuple_to_list(T)),
    {list_to_tuple(Es), Left1};
cut1(T, Left) when is_tuple(T) -> {'...', Left - 1};
cut1(M, Left) when is_map(M) -> cut_map(maps:next(maps:iterator(M)), Left - 1, []);
cut1(T, Left) -> {T, Left - 1}.

cut_list([H | T], Left, Acc) when Left > 0 ->
    {H1, Left1} = cut1(H, Left),
    cut_list(T, Left1, [H1 | Acc]);
cut_list([], Left, Acc) -> {lists:reverse(Acc), Left};
cut_list([_ | _], Left, Acc) -> {lists:reverse(Acc, ['...']), Left};
cut_list(Tail, Left, Acc) ->
    {Tail1, Left1} = cut1(Tail, Left),
    {lists:reverse(Acc, Tail1), Left1}.

cut_map({K, V, Iter}, Left, Acc) when Left > 0 ->
    {K1, Left1} = cut1(K, Left),
    {V1, Left2} = cut1(V, Left1),
    cut_map(maps:next(Iter), Left2, [{K1, V1} | Acc]);
cut_map(none, Left, Acc) -> {maps:from_list(Acc), Left};
cut_map(_, Left, Acc) -> {maps:from_list([{'...', '...'} | Acc]), Left}.
