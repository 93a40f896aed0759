%% A companion of debughost_agent: the group leader of a remote shell.
%%
%% The node runs its own shell, Erlang's or IEx, in a process whose group leader
%% speaks Erlang's I/O protocol with it and a few messages with debughost, which
%% passes them on to a person's terminal. When the host's mailbox is gone the
%% shell and what it evaluates are ended, and so does this process.
%%
%%   to the host                              from the host
%%   {output, Bin}                            {ack, Bytes}
%%   {read, Kind, Prompt, More}               {line, Bin}, interrupt
%%   {completions, Id, Insert, [Bin]}         {complete, Id, Bin}
%%   {ended, Reason}                          {size, Columns, Rows}, goodbye
%%
%% each as {Leader, Msg} and {Host, Msg}. Kind: expression | line | password. More: the
%% request goes on after a line that did not suffice.
-module(?AGENT).

-export([start/4, leader/6, run/2, complete/5]).

%% Bytes of output that are under way before the host has to acknowledge some;
%% bytes of one message; of one request, the rest of which is cut.
-define(WINDOW, 131072).
-define(CHUNK, 32768).
-define(MOST, 1048576).
%% A line that was typed ahead is not kept beyond this many characters.
-define(AHEAD, 262144).
-define(MATCHES, 200).
-define(COMPLETION_MS, 3000).

-record(s, {host, mon, shell, language, started = [], size, expand = false, binary = false, echo = true,
            buf = [], read = none, later = [], out = 0}).
-record(read, {from, as, kind, prompt, collect, state = start, encoding}).

%% start(Agent, Host, Language, {Columns, Rows}) -> {ok, Leader, Language} | {error, no_elixir}
%% Language: auto | erlang | elixir. Columns 0: no terminal.
start(Agent, Host, Auto, Size) ->
    case language(Auto) of
        none ->
            {error, no_elixir};
        Language ->
            {Leader, Mon} = spawn_monitor(?MODULE, leader, [self(), ?HELPER:meter(), Agent, Host, Language, Size]),
            receive
                {Leader, ready} -> demonitor(Mon, [flush]), {ok, Leader, Language};
                {'DOWN', Mon, process, Leader, Reason} -> {error, Reason}
            end
    end.

language(erlang) -> erlang;
language(Wanted) ->
    case Wanted =:= elixir orelse erlang:module_loaded('Elixir.Kernel') of
        true ->
            case code:ensure_loaded('Elixir.IEx.Server') of
                {module, _} -> elixir;
                _ when Wanted =:= auto -> erlang;
                _ -> none
            end;
        false -> erlang
    end.

leader(From, Meter, Agent, Host, Language, Size) ->
    ?HELPER:meter(Meter),
    process_flag(trap_exit, true),
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    Mon = ?HELPER:watch(Host),
    %% The modules stay until this process has cleared up.
    {ok, _, _} = Agent:attach(self()),
    Started = needed(Language),
    Shell = spawn_opt(?MODULE, run, [self(), Language], [link]),
    From ! {self(), ready},
    %% Elixir expects lines as binaries of its terminals, Erlang as lists.
    loop(#s{host = Host, mon = Mon, shell = Shell, language = Language, started = Started, size = Size, binary = Language =:= elixir}).

needed(erlang) -> [];
needed(elixir) ->
    {ok, Started} = application:ensure_all_started(iex),
    Started.

%% The shell's process has a frame of this module at its bottom, so that it can't
%% outlive the module.
run(Leader, Language) ->
    group_leader(Leader, self()),
    _ = case Language of
            erlang -> shell:server(true, false);
            elixir -> 'Elixir.IEx.Server':run([])
        end,
    ok.

%% ------------------------------------------------------------------- turns

%% While much output is under way nobody's requests are looked at, so that those
%% who print wait.
loop(#s{out = Out} = S) when Out >= ?WINDOW ->
    Host = S#s.host,
    Mon = S#s.mon,
    Shell = S#s.shell,
    receive
        {Host, goodbye} -> gone(S);
        {Host, Msg} -> loop(told(Msg, S));
        {'DOWN', Mon, process, _, _} -> gone(S);
        {'EXIT', Shell, Reason} -> ended(Reason, S)
    end;
loop(S) ->
    Host = S#s.host,
    Mon = S#s.mon,
    Shell = S#s.shell,
    receive
        {io_request, From, As, Request} when is_pid(From) ->
            ?HELPER:charge(),
            loop(asked(From, As, Request, S));
        {Host, goodbye} -> gone(S);
        {Host, Msg} -> loop(told(Msg, S));
        {'DOWN', Mon, process, _, _} -> gone(S);
        {'EXIT', Shell, Reason} -> ended(Reason, S);
        {late, Id, Pid} ->
            case is_process_alive(Pid) of
                true -> exit(Pid, kill), tell({completions, Id, <<>>, []}, S);
                false -> ok
            end,
            loop(S);
        _ -> loop(S)
    end.

%% The shell has ended by itself.
ended(Reason, S) ->
    tell({ended, text(io_lib:format("~0tP", [Reason, 20]))}, S),
    put_back(S).

%% Nobody is there any more.
gone(#s{shell = Shell} = S) ->
    Evaluator = evaluator(Shell),
    Ended = [begin exit(P, kill), monitor(process, P) end || P <- [Shell, Evaluator], is_pid(P)],
    _ = [receive {'DOWN', Mon, process, _, _} -> ok after 1000 -> ok end || Mon <- Ended],
    put_back(S).

evaluator(Shell) ->
    case process_info(Shell, dictionary) of
        {dictionary, Dictionary} -> proplists:get_value(evaluator, Dictionary);
        undefined -> undefined
    end.

%% IEx was started for this shell: it is stopped again, unless somebody else is
%% in it by now. The process that does so has no code of this module.
put_back(#s{started = []}) -> ok;
put_back(#s{started = Apps, shell = Shell}) ->
    Others = case whereis('Elixir.IEx.Broker') of
                 undefined -> [];
                 Broker -> element(2, process_info(Broker, monitors))
             end,
    case Others -- [{process, Shell}] of
        [] -> spawn(lists, foreach, [fun application:stop/1, lists:reverse(Apps)]), ok;
        _ -> ok
    end.

tell(Msg, #s{host = Host}) -> ?HELPER:tell(Host, {self(), Msg}).

%% ------------------------------------------------------------ from the host

told({ack, Bytes}, #s{out = Out} = S) -> S#s{out = max(0, Out - Bytes)};
told({line, Bin}, S) ->
    Chars = case unicode:characters_to_list(Bin) of
                L when is_list(L) -> L;
                _ -> "\n"
            end,
    case S#s.buf of
        Buf when length(Buf) > ?AHEAD -> S;
        Buf -> feed(S#s{buf = Buf ++ Chars})
    end;
told(interrupt, #s{read = #read{kind = expression}} = S) -> next(reply({error, interrupted}, S#s{buf = []}));
told(interrupt, #s{read = #read{}, shell = Shell} = S) ->
    exit(Shell, interrupt),
    next(reply({error, interrupted}, S#s{buf = []}));
told(interrupt, #s{shell = Shell} = S) -> exit(Shell, interrupt), S#s{buf = []};
told({size, Columns, Rows}, S) -> S#s{size = {Columns, Rows}};
told({complete, Id, Before}, S) ->
    Pid = spawn(?MODULE, complete, [self(), S#s.host, Id, Before, {S#s.language, S#s.shell}]),
    _ = erlang:send_after(?COMPLETION_MS, self(), {late, Id, Pid}),
    S;
told(_, S) -> S.

%% ------------------------------------------------------------ the I/O protocol

asked(From, As, Request, S) ->
    case expression(input(Request), S) of
        #read{} = Read when S#s.read =:= none -> feed(S#s{read = Read#read{from = From, as = As}});
        #read{} = Read when length(S#s.later) < 1000 -> S#s{later = S#s.later ++ [Read#read{from = From, as = As}]};
        #read{} -> From ! {io_reply, As, {error, terminated}}, S;
        none ->
            {Reply, S1} = request(Request, S),
            case Reply of
                {read, Read} -> asked(From, As, Read, S1);
                _ -> From ! {io_reply, As, Reply}, S1
            end
    end.

%% Which requests wait for a line.
input({get_line, Prompt}) -> input({get_line, latin1, Prompt});
input({get_line, Encoding, Prompt}) -> #read{kind = line, prompt = Prompt, encoding = Encoding, collect = {collect_line, []}};
input({get_chars, Prompt, N}) -> input({get_chars, latin1, Prompt, N});
input({get_chars, Encoding, Prompt, N}) when is_integer(N), N >= 0 ->
    #read{kind = line, prompt = Prompt, encoding = Encoding, collect = {collect_chars, N}};
input({get_until, Prompt, M, F, A}) -> input({get_until, latin1, Prompt, M, F, A});
input({get_until, Encoding, Prompt, M, F, A}) when is_list(A) ->
    #read{kind = expression, prompt = Prompt, encoding = Encoding, collect = {get_until, {M, F, A}}};
input({get_password, Encoding}) -> #read{kind = password, prompt = [], encoding = Encoding, collect = password};
input(_) -> none.

%% Before Elixir 1.15, IEx read its expressions as lines.
expression(#read{kind = line} = R, #s{language = elixir}) ->
    case prompt(R) of
        <<"iex", _/binary>> -> R#read{kind = expression};
        <<"...", _/binary>> -> R#read{kind = expression};
        _ -> R
    end;
expression(R, _) -> R.

request({put_chars, Encoding, Chars}, S) -> print(fun() -> Chars end, Encoding, S);
request({put_chars, Encoding, M, F, A}, S) -> print(fun() -> apply(M, F, A) end, Encoding, S);
request({put_chars, Chars}, S) -> request({put_chars, latin1, Chars}, S);
request({put_chars, M, F, A}, S) -> request({put_chars, latin1, M, F, A}, S);
request({get_geometry, columns}, #s{size = {C, _}} = S) when C > 0 -> {C, S};
request({get_geometry, rows}, #s{size = {_, R}} = S) when R > 0 -> {R, S};
request({get_geometry, _}, S) -> {{error, enotsup}, S};
request(getopts, S) ->
    {[{expand_fun, S#s.expand}, {echo, S#s.echo}, {binary, S#s.binary}, {encoding, unicode}, {terminal, element(1, S#s.size) > 0}], S};
request({setopts, Options}, S) when is_list(Options) -> {ok, lists:foldl(fun option/2, S, Options)};
request({requests, Requests}, S) when is_list(Requests) -> requests(Requests, {ok, S});
request(_, S) -> {{error, request}, S}.

%% The last of several may wait for a line.
requests([Last], {ok, S}) ->
    case input(Last) of
        none -> request(Last, S);
        _ -> {{read, Last}, S}
    end;
requests([R | Rs], {Reply, S}) when Reply =/= error, not (is_tuple(Reply) andalso element(1, Reply) =:= error) ->
    requests(Rs, request(R, S));
requests(_, Result) -> Result.

option({expand_fun, F}, S) when is_function(F) -> S#s{expand = F};
option({echo, B}, S) when is_boolean(B) -> S#s{echo = B};
option({binary, B}, S) when is_boolean(B) -> S#s{binary = B};
option(binary, S) -> S#s{binary = true};
option(list, S) -> S#s{binary = false};
option(_, S) -> S.

print(Chars, Encoding, S) ->
    try unicode:characters_to_binary(Chars(), Encoding, unicode) of
        Bin when is_binary(Bin), byte_size(Bin) > ?MOST ->
            Left = integer_to_binary(byte_size(Bin) - ?MOST),
            {ok, output(<<(binary:part(Bin, 0, ?MOST))/binary, "\n... (", Left/binary, " bytes more)\n">>, S)};
        Bin when is_binary(Bin) -> {ok, output(Bin, S)};
        _ -> {{error, put_chars}, S}
    catch
        _:_ -> {{error, put_chars}, S}
    end.

output(<<>>, S) -> S;
output(Bin, S) when byte_size(Bin) > ?CHUNK ->
    %% No chunk ends in the middle of a character.
    Whole = case unicode:characters_to_binary(binary:part(Bin, 0, ?CHUNK)) of
                {incomplete, W, _} -> W;
                W -> W
            end,
    Size = byte_size(Whole),
    output(binary:part(Bin, Size, byte_size(Bin) - Size), output1(Whole, S));
output(Bin, S) -> output1(Bin, S).

output1(Bin, #s{out = Out} = S) ->
    tell({output, binary:copy(Bin)}, S),
    S#s{out = Out + byte_size(Bin)}.

%% ------------------------------------------------------------------- reading

%% feed(S): gives the request that waits what was typed, or asks for a line.
feed(#s{read = none} = S) -> S;
feed(#s{read = #read{} = R, buf = []} = S) ->
    Prompt = prompt(R),
    tell({read, R#read.kind, Prompt, R#read.state =/= start orelse more(R, Prompt)}, S),
    S;
feed(#s{read = #read{collect = password}, buf = Buf} = S) ->
    {Line, Rest} = lists:splitwith(fun(C) -> C =/= $\n end, Buf),
    next(reply(cast(Line, S), S#s{buf = lists:nthtail(min(1, length(Rest)), Rest)}));
feed(#s{read = #read{collect = {Collect, Args}, state = State, encoding = Encoding} = R, buf = Buf} = S) ->
    try io_lib:Collect(State, cast(Buf, S), Encoding, Args) of
        {stop, Result, Rest} -> next(reply(Result, S#s{buf = chars(Rest)}));
        {'EXIT', _} -> next(reply({error, {io_lib, Collect}}, S#s{buf = []}));
        More -> feed(S#s{read = R#read{state = More}, buf = []})
    catch
        _:_ -> next(reply({error, {io_lib, Collect}}, S#s{buf = []}))
    end.

cast(Chars, #s{binary = true}) -> unicode:characters_to_binary(Chars);
cast(Chars, _) -> Chars.

chars(Rest) when is_binary(Rest) -> unicode:characters_to_list(Rest);
chars(Rest) when is_list(Rest) -> Rest;
chars(_) -> [].

reply(Reply, #s{read = #read{from = From, as = As}} = S) ->
    From ! {io_reply, As, Reply},
    S#s{read = none}.

next(#s{later = [R | Later]} = S) -> feed(S#s{read = R, later = Later});
next(S) -> S.

more(#read{kind = expression}, <<"...", _/binary>>) -> true;
more(_, _) -> false.

prompt(#read{prompt = Prompt, encoding = Encoding}) ->
    try text(io_lib:format_prompt(Prompt, Encoding))
    catch _:_ -> <<"> ">>
    end.

text(Chars) ->
    case unicode:characters_to_binary(Chars) of
        Bin when is_binary(Bin) -> Bin;
        _ -> <<>>
    end.

%% --------------------------------------------------------------- completion

complete(Leader, Host, Id, Before, Shell) ->
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    Reversed = lists:reverse(unicode:characters_to_list(Before)),
    {Insert, Matches} = try expand(Shell, Reversed) of
                            {yes, Text, Found} -> {text(Text), words(Found)};
                            {no, _, Found} -> {<<>>, words(Found)};
                            _ -> {<<>>, []}
                        catch
                            _:_ -> {<<>>, []}
                        end,
    ?HELPER:tell(Host, {Leader, {completions, Id, Insert, lists:sublist(Matches, ?MATCHES)}}).

%% IEx.Autocomplete looks for the shell of the node's own terminal, unless told.
expand({elixir, Shell}, Reversed) -> 'Elixir.IEx.Autocomplete':expand(Reversed, Shell);
expand({erlang, _}, Reversed) ->
    _ = code:ensure_loaded(edlin_expand),
    case erlang:function_exported(edlin_expand, expand, 2) of
        true -> edlin_expand:expand(Reversed, []);
        false -> edlin_expand:expand(Reversed)
    end.

%% Matches are strings, {String, _}, or since OTP 26 sections of these.
words(Found) -> lists:flatmap(fun word/1, Found).

word(#{elems := Elems}) -> words(Elems);
word({Word, Options}) when is_list(Options) -> [<<(text(Word))/binary, (text(proplists:get_value(ending, [O || O <- Options, is_tuple(O)], "")))/binary>>];
word({Word, _}) -> word(Word);
word(Word) when is_list(Word); is_binary(Word) -> [text(Word)];
word(_) -> [].
