%% Faults in a sandbox's node: what its strategy calls, and what code calls that was
%% instrumented for dropping and delaying messages. Functions for the strategy return
%% {ok, Value} or {error, Text}.
%%
%% One process, registered as the module, holds the faults. It is there from the first
%% call on, and is linked only to processes of its own: one for each fault that does
%% something by itself. A process that one of these has suspended is resumed by the BEAM
%% when that ends.
%%
%% The BEAM has no hook between two processes, so that who sends is instrumented: the
%% abstract code of modules is compiled again with the functions below in the place of
%% `!` and its like (forms/2). What a fault does to messages is in a persistent term. A
%% process in a loop of OTP's never leaves it, so that the loops' modules stay as they
%% are: their replies go through gen, and their casts are taken where they are called.
%% Compiled by OTP 25, it runs on OTP 25 to 29.
-module(debughost_fault).

-export([inject/1, faults/0, clear/1, fresh/2, deliver/2]).
-export([send/2, send/3, send_nosuspend/2, send_nosuspend/3, cast/2, event/2, reply/2]).

%% {Holder, [Rule]}; no term: no rule.
-define(RULES, {?MODULE, rules}).
%% #{Module => {Md5 of the instrumented code, File, the code as it was}}
-define(CODE, {?MODULE, code}).
%% Of faults that act, and of those that have ended and are still shown.
-define(ACTIVE, 64).
-define(ENDED, 64).
%% Modules that are named which are not instrumented.
-define(NAMED, 200).
%% Copies of a message between two looks at who gets them.
-define(BATCH, 1000).
%% Milliseconds: between two tries to put code back, between two looks at a supervisor,
%% and that a process stays that delayed messages.
-define(RETRY, 1000).
-define(LOOK, 5).
-define(LINGER, 5000).
%% Without these nobody could clear a fault.
-define(NEEDED, [init, code_server, erl_prim_loader, erts_code_purger, kernel_sup, net_sup, net_kernel, auth, rex, ?MODULE]).

%% ------------------------------------------------------------- for the strategy

%% inject(Spec) -> the fault's id, and the code that it does not see.
%% Spec: fault => kill | suspend | drop | delay | fill | limit; process, from, to =>
%% {name, Binary} | {pid, Binary} | none; every, for, delay => milliseconds, 0: none;
%% count => 0: none; message => term.
inject(Spec) -> call({inject, Spec}).

faults() -> call(faults).

%% clear(0) is all of them. It says which code could not be put back yet.
clear(Id) -> call({clear, Id}).

%% fresh(N, Targets): for terms of another node's: a process that is no more, references
%% that nobody has, who the targets are, and whether Elixir runs here.
fresh(N, Targets) ->
    refusing(fun() ->
                     {Pid, Mon} = spawn_monitor(fun() -> ok end),
                     receive {'DOWN', Mon, process, Pid, _} -> ok end,
                     {ok, {Pid, [make_ref() || _ <- lists:seq(1, N)], [alive(target(T)) || T <- Targets], is_pid(whereis(elixir_sup))}}
             end).

deliver(Target, Messages) ->
    refusing(fun() ->
                     Pid = alive(target(Target)),
                     _ = [Pid ! M || M <- Messages],
                     {ok, length(Messages)}
             end).

call(Request) ->
    Pid = holder(),
    Mon = monitor(process, Pid),
    Pid ! {request, self(), Mon, Request},
    receive
        {Mon, Reply} -> demonitor(Mon, [flush]), Reply;
        {'DOWN', Mon, process, Pid, Why} -> {error, text("who holds the faults has ended: ~tP", [Why, 20])}
    end.

holder() ->
    case whereis(?MODULE) of
        undefined ->
            Caller = self(),
            {Pid, Mon} = spawn_monitor(fun() -> hold(Caller) end),
            receive
                {holds, Pid} -> demonitor(Mon, [flush]), Pid;
                {'DOWN', Mon, process, Pid, _} -> holder()
            end;
        Pid -> Pid
    end.

hold(Caller) ->
    try register(?MODULE, self()) of
        true ->
            group_leader(whereis(init), self()),
            process_flag(trap_exit, true),
            Caller ! {holds, self()},
            State = #{next => 1, faults => #{}, made => #{}},
            rules(State), % those of a holder that is no more
            loop(idle(State))
    catch
        error:badarg -> ok
    end.

%% ------------------------------------------------------------------- the holder

%% State: next id; faults by id; made, what instrumented/2 has made of modules: {md5 of
%% what it was made of, {ok, Beam} | plain | {uncovered, Text}}.
%% A fault: id, spec (with targets), hits, worker (none), timer (none), outcome (none).
loop(State) ->
    receive
        {request, From, Tag, Request} ->
            {Reply, New} = try answer(Request, State)
                           catch throw:{refused, Text} -> {{error, Text}, State}
                           end,
            From ! {Tag, Reply},
            loop(New);
        {finish, Id, Why} -> loop(finish(Id, Why, State));
        {'EXIT', Pid, Why} ->
            case [Id || #{id := Id, worker := W, outcome := none} <- faults(State), W =:= Pid] of
                [Id] -> loop(finish(Id, why(Why), State));
                [] -> loop(State)
            end;
        restore -> loop(idle(State));
        _ -> loop(State)
    end.

why({done, Text}) -> Text;
why(Why) -> text("it failed: ~tP", [Why, 20]).

faults(#{faults := Faults}) -> maps:values(Faults).

active(State) -> [F || #{outcome := none} = F <- faults(State)].

of_messages(State) -> [F || #{spec := #{fault := Kind}} = F <- active(State), Kind =:= drop orelse Kind =:= delay].

answer({inject, Spec0}, State) ->
    length(active(State)) < ?ACTIVE orelse refuse("~b faults act already: clear some", [?ACTIVE]),
    Spec = checked(Spec0),
    {Uncovered, #{next := Id, faults := Faults} = State1} = instrumented(Spec, State),
    Hits = atomics:new(1, []),
    Fault = #{id => Id, spec => Spec, hits => Hits, outcome => none,
              worker => case worker(Spec, Hits) of
                            none -> none;
                            Fun -> spawn_link(fun() -> exit({done, Fun()}) end)
                        end,
              timer => timer(Id, Spec)},
    State2 = kept(State1#{next := Id + 1, faults := Faults#{Id => Fault}}),
    rules(State2),
    {{ok, #{id => Id, uncovered => Uncovered}}, State2};
answer(faults, State) -> {{ok, [shown(F) || F <- lists:sort(fun(#{id := A}, #{id := B}) -> A =< B end, faults(State))]}, State};
answer({clear, 0}, State) ->
    cleared(lists:foldl(fun(#{id := Id}, S) -> finish(Id, <<"cleared">>, S) end, State, active(State)));
answer({clear, Id}, #{faults := Faults} = State) ->
    is_map_key(Id, Faults) orelse refuse("there is no fault ~b", [Id]),
    cleared(finish(Id, <<"cleared">>, State)).

%% Code that stays instrumented while a process runs what it was before.
cleared(State) ->
    Left = case of_messages(State) of
               [] -> [name(M) || M <- lists:sort(maps:keys(persistent_term:get(?CODE, #{})))];
               _ -> []
           end,
    {{ok, #{instrumented => Left}}, State}.

%% The time of a suspension is its own.
timer(Id, #{fault := Kind, for := For}) when For > 0, Kind =/= suspend ->
    erlang:send_after(For, self(), {finish, Id, <<"its time is over">>});
timer(_, _) -> none.

%% A fault that finishes while it does is over already.
finish(Id, Why, #{faults := Faults} = State) ->
    case Faults of
        #{Id := #{outcome := none, worker := Worker, timer := Timer, spec := Spec} = Fault} ->
            _ = [erlang:cancel_timer(Timer) || Timer =/= none],
            New = State#{faults := Faults#{Id := Fault#{outcome := Why}}},
            case Spec of
                #{fault := delay} -> flush(Worker), rules(New), Worker ! stop, idle(kept(New));
                #{fault := drop} -> rules(New), idle(kept(New));
                _ -> stopped(Worker), kept(New)
            end;
        _ -> State
    end.

%% What it has suspended is resumed when it is gone.
stopped(Worker) ->
    Mon = monitor(process, Worker),
    exit(Worker, kill),
    receive {'DOWN', Mon, process, Worker, _} -> ok end.

flush(Worker) ->
    Mon = monitor(process, Worker),
    Worker ! {flush, self(), Mon},
    receive
        {Mon, flushed} -> demonitor(Mon, [flush]);
        {'DOWN', Mon, process, Worker, _} -> ok
    end.

%% Of those that have ended the newest are kept.
kept(#{faults := Faults} = State) ->
    Ended = lists:sort([Id || #{id := Id, outcome := Why} <- faults(State), Why =/= none]),
    State#{faults := maps:without(lists:sublist(Ended, max(0, length(Ended) - ?ENDED)), Faults)}.

shown(#{id := Id, spec := #{fault := Kind} = Spec, hits := Hits, outcome := Why}) ->
    maps:merge(#{id => Id, fault => Kind, hits => atomics:get(Hits, 1), active => Why =:= none},
               maps:from_list([{outcome, Why} || Why =/= none]
                              ++ [{Key, label(T)} || Key <- [process, from, to], #{Key := T} <- [Spec], T =/= none]
                              ++ [{Shown, N} || {Key, Shown} <- [{every, every_ms}, {for, for_ms}, {delay, delay_ms}, {count, count}], #{Key := N} <- [Spec], N > 0])).

label({name, Name}) -> name(Name);
label(Pid) -> print(Pid).

%% checked(Spec): with targets in it, of which those that a fault begins with are there.
checked(#{fault := Kind, process := Process, from := From, to := To} = Spec) ->
    Ends = [target(T) || T <- [Process, From, To]],
    _ = [alive(T) || T <- Ends, T =/= none],
    [P | _] = Ends,
    Kind =/= suspend orelse needed(alive(P)),
    Kind =/= limit orelse supervises(alive(P)) orelse refuse("~ts is no supervisor", [label(P)]),
    maps:merge(Spec, maps:from_list(lists:zip([process, from, to], Ends))).

needed(Pid) ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> lists:member(Name, ?NEEDED) andalso refuse("~ts cannot be suspended: without it nobody could resume it", [name(Name)]);
        _ -> ok
    end.

supervises(Pid) ->
    case proc_lib:translate_initial_call(Pid) of
        {supervisor, _, _} -> true;
        {'Elixir.DynamicSupervisor', _, _} -> true;
        _ -> false
    end.

%% --------------------------------------------------------------------- targets

%% target(Given) -> {name, Atom} | Pid | none.
target(none) -> none;
target({name, Name}) ->
    try {name, binary_to_existing_atom(Name)}
    catch error:badarg -> refuse("no process is called ~ts", [name(Name)])
    end;
target({pid, Text}) ->
    try list_to_pid(binary_to_list(Text))
    catch error:badarg -> refuse("~ts is no process of this node", [Text])
    end.

alive(T) ->
    case pid(T) of
        none when is_pid(T) -> refuse("~ts is no more", [print(T)]);
        none -> refuse("no process is called ~ts", [label(T)]);
        Pid -> Pid
    end.

%% pid(Target): who that is now.
pid({name, Name}) ->
    case whereis(Name) of
        Pid when is_pid(Pid) -> Pid;
        _ -> none
    end;
pid(Pid) when node(Pid) =:= node() ->
    case is_process_alive(Pid) of
        true -> Pid;
        false -> none
    end;
pid(_) -> none.

%% -------------------------------------------------------------- faults that act

%% worker(Spec, Hits) -> what its process does to the end, which it tells; none.
worker(#{fault := kill, process := T, every := Every, count := Count}, Hits) ->
    fun() -> again(T, fun(P) -> exit(P, kill) end, Every, Count, Hits) end;
worker(#{fault := suspend, process := T, every := Every, for := For, count := Count}, Hits) ->
    fun() -> again(T, fun(P) -> pause(P, For) end, Every, Count, Hits) end;
worker(#{fault := fill, process := T, count := Count, message := Message}, Hits) ->
    Pid = alive(T),
    fun() -> fill(Pid, Message, Count, Hits) end;
worker(#{fault := limit, process := T, count := Count}, Hits) ->
    Pid = alive(T),
    fun() -> limit(Pid, monitor(process, Pid), Count, Hits) end;
worker(#{fault := delay, delay := Ms}, _) -> fun() -> later(Ms) end;
worker(#{fault := drop}, _) -> none.

%% again(...): every so often until it was done count times (0: for ever).
again(T, Act, Every, Count, Hits) ->
    Next = erlang:monotonic_time(millisecond) + Every,
    Done = case pid(T) of
               none -> atomics:get(Hits, 1);
               Pid -> Act(Pid), atomics:add_get(Hits, 1, 1)
           end,
    if
        Every =:= 0; Done =:= Count -> <<"done">>;
        true ->
            case is_pid(T) andalso not is_process_alive(T) of
                true -> <<"the process is no more">>;
                false ->
                    receive after max(0, Next - erlang:monotonic_time(millisecond)) -> ok end,
                    again(T, Act, Every, Count, Hits)
            end
    end.

pause(Pid, For) ->
    try erlang:suspend_process(Pid) of
        true ->
            receive after if For > 0 -> For; true -> infinity end -> ok end,
            erlang:resume_process(Pid)
    catch
        error:badarg -> true
    end.

fill(Pid, Message, Left, Hits) ->
    Batch = min(Left, ?BATCH),
    _ = [Pid ! Message || _ <- lists:seq(1, Batch)],
    ok = atomics:add(Hits, 1, Batch),
    case is_process_alive(Pid) of
        true when Left > Batch -> fill(Pid, Message, Left - Batch, Hits);
        true -> <<"done">>;
        false -> <<"the process is no more">>
    end.

limit(Sup, Mon, Count, Hits) ->
    case atomics:get(Hits, 1) of
        Count -> settled(Sup, Mon, Count);
        Killed ->
            case victim(Sup) of
                down -> down(Mon);
                none when Killed =:= 0 -> <<"the supervisor has no child that runs">>;
                none -> limit_wait(Sup, Mon, Count, Hits);
                Child ->
                    ChildMon = monitor(process, Child),
                    exit(Child, kill),
                    receive {'DOWN', ChildMon, process, Child, _} -> ok end,
                    ok = atomics:add(Hits, 1, 1),
                    limit_wait(Sup, Mon, Count, Hits)
            end
    end.

limit_wait(Sup, Mon, Count, Hits) ->
    receive {'DOWN', Mon, process, Sup, Why} -> gone(Why)
    after ?LOOK -> limit(Sup, Mon, Count, Hits)
    end.

%% It knows of the last child's end once it has answered.
settled(Sup, Mon, Count) ->
    case victim(Sup) of
        down -> down(Mon);
        _ ->
            receive {'DOWN', Mon, process, Sup, Why} -> gone(Why)
            after ?LOOK -> text("the supervisor stands after ~b", [Count])
            end
    end.

down(Mon) -> receive {'DOWN', Mon, process, _, Why} -> gone(Why) end.

gone(Why) -> text("the supervisor is down: ~tP", [Why, 20]).

%% The same one again and again, where there is.
victim(Sup) ->
    try supervisor:which_children(Sup) of
        Children ->
            Alive = lists:sort([{Type =:= supervisor, Id, P} || {Id, P, Type, _} <- Children, is_pid(P), is_process_alive(P)]),
            case Alive of
                [{_, _, P} | _] -> P;
                [] -> none
            end
    catch
        exit:_ -> down
    end.

%% Messages that wait, in the order that they came in: the delay is the same for all.
later(Ms) ->
    receive
        {later, At, To, Message} ->
            Wait = At + Ms - erlang:monotonic_time(millisecond),
            receive {flush, _, _} = Flush when Wait > 0 -> self() ! Flush, pass(To, Message), flushing()
            after max(0, Wait) -> pass(To, Message), later(Ms)
            end;
        {flush, _, _} = Flush -> self() ! Flush, flushing()
    end.

%% All that waits, and what still comes from who saw the fault, at once.
flushing() ->
    receive
        {later, _, To, Message} -> pass(To, Message), flushing();
        {flush, From, Tag} -> From ! {Tag, flushed}, flushing();
        stop -> lingering()
    end.

lingering() ->
    receive {later, _, To, Message} -> pass(To, Message), lingering()
    after ?LINGER -> <<"done">>
    end.

pass(To, Message) -> catch To ! Message.

%% ---------------------------------------- what instrumented code calls instead

send(To, Message) ->
    case caught(to(To), To, Message) of
        false -> To ! Message;
        true -> Message
    end.

send(To, Message, Options) ->
    case caught(to(To), To, Message) of
        false -> erlang:send(To, Message, Options);
        true -> ok
    end.

send_nosuspend(To, Message) ->
    case caught(to(To), To, Message) of
        false -> erlang:send_nosuspend(To, Message);
        true -> true
    end.

send_nosuspend(To, Message, Options) ->
    case caught(to(To), To, Message) of
        false -> erlang:send_nosuspend(To, Message, Options);
        true -> true
    end.

%% cast(Module, [To, Message]): of gen_server or gen_statem.
cast(Module, [To, Message] = Args) ->
    case caught(to(To), To, {'$gen_cast', Message}) of
        false -> apply(Module, cast, Args);
        true -> ok
    end.

event(To, Event) ->
    case caught(to(To), To, {notify, Event}) of
        false -> gen_event:notify(To, Event);
        true -> ok
    end.

%% As gen:reply/2, of which the alias does not say whose it is.
reply({To, [alias | Alias] = Tag}, Reply) when is_reference(Alias) -> reply(To, Alias, {Tag, Reply});
reply({To, [[alias | Alias] | _] = Tag}, Reply) when is_reference(Alias) -> reply(To, Alias, {Tag, Reply});
reply({To, Tag}, Reply) ->
    try reply(To, To, {Tag, Reply})
    catch _:_ -> ok
    end.

reply(Who, To, Message) ->
    caught(Who, To, Message) orelse (To ! Message),
    ok.

to(To) when is_pid(To) -> To;
to(To) when is_atom(To) -> whereis(To);
to({To, Node}) when Node =:= node(), is_atom(To) -> whereis(To);
to(_) -> undefined.

%% caught(Who, To, Message): whether a fault has taken it.
caught(Who, To, Message) when is_pid(Who) ->
    case persistent_term:get(?RULES, none) of
        none -> false;
        {Holder, Rules} -> caught(Rules, Holder, Who, To, Message)
    end;
caught(_, _, _) -> false.

caught([], _, _, _, _) -> false;
caught([{Id, From, Dest, Count, Hits, Worker} | Rules], Holder, Who, To, Message) ->
    case is(From, self()) andalso is(Dest, Who) andalso is_process_alive(Holder) of
        true ->
            case atomics:add_get(Hits, 1, 1) of
                N when Count > 0, N > Count ->
                    atomics:sub(Hits, 1, 1),
                    caught(Rules, Holder, Who, To, Message);
                N ->
                    _ = [Worker ! {later, erlang:monotonic_time(millisecond), if is_reference(To) -> To; true -> Who end, Message} || Worker =/= none],
                    _ = [Holder ! {finish, Id, <<"done">>} || N =:= Count],
                    true
            end;
        false -> caught(Rules, Holder, Who, To, Message)
    end.

is(none, _) -> true;
is({name, Name}, Pid) -> whereis(Name) =:= Pid;
is(Pid, Pid) -> true;
is(_, _) -> false.

%% The oldest fault comes first.
rules(State) ->
    case lists:sort([{Id, From, To, Count, Hits, Worker}
                     || #{id := Id, hits := Hits, worker := Worker, spec := #{from := From, to := To, count := Count}} <- of_messages(State)]) of
        [] -> persistent_term:erase(?RULES);
        Rules -> persistent_term:put(?RULES, {self(), Rules})
    end.

%% ------------------------------------------------------------------------- code

%% Modules of Elixir that send for who calls them, as gen does.
-define(ELIXIR, ['Elixir.GenServer', 'Elixir.Process', 'Elixir.Registry', 'Elixir.Task.Supervised']).
%% The applications that code of a sandbox is none of.
-define(SYSTEM, ["asn1", "common_test", "compiler", "crypto", "debugger", "dialyzer", "diameter", "edoc", "eldap", "erl_interface",
                 "erts", "et", "eunit", "ftp", "inets", "jinterface", "kernel", "megaco", "mnesia", "observer", "odbc", "os_mon",
                 "parsetools", "public_key", "reltool", "runtime_tools", "sasl", "snmp", "ssh", "ssl", "stdlib", "syntax_tools",
                 "tftp", "tools", "wx", "xmerl", "eex", "elixir", "ex_unit", "iex", "logger", "mix"]).

%% instrumented(Spec, State) -> {what is not, State}
instrumented(#{fault := Kind}, #{made := Made} = State) when Kind =:= drop; Kind =:= delay ->
    {Uncovered, Made1} = lists:foldl(fun({M, File}, {Us, Ms}) ->
                                             case instrument(M, File, Ms) of
                                                 {ok, Ms1} -> {Us, Ms1};
                                                 {{uncovered, Why}, Ms1} -> {[#{module => name(M), reason => Why} | Us], Ms1}
                                             end
                                     end, {[], Made}, candidates()),
    Named = lists:sublist(lists:reverse(Uncovered), ?NAMED),
    Rest = [#{module => text("~b more", [length(Uncovered) - ?NAMED]), reason => <<"likewise">>} || length(Uncovered) > ?NAMED],
    {Named ++ Rest, State#{made := Made1}};
instrumented(_, State) -> {[], State}.

%% Modules with a file, whether they are loaded or not, and loaded ones without (none).
candidates() ->
    Files = [{list_to_atom(filename:basename(File, ".beam")), File}
             || Dir <- code:get_path(), not system(Dir), File <- filelib:wildcard(filename:join(Dir, "*.beam"))],
    OfSystem = [{M, File} || M <- [gen | case whereis(elixir_sup) of undefined -> []; _ -> ?ELIXIR end], File <- [code:which(M)], is_list(File)],
    Known = maps:from_list(Files ++ OfSystem),
    Loaded = [{M, none} || {M, File} <- code:all_loaded(), not is_map_key(M, Known), File =/= preloaded, not (is_list(File) andalso system(filename:dirname(File)))],
    [{M, File} || {M, File} <- maps:to_list(Known) ++ Loaded, not lists:prefix("debughost", atom_to_list(M))].

%% system(Dir): is it an ebin of OTP's or of Elixir's?
system(Dir) ->
    case lists:reverse(filename:split(Dir)) of
        ["ebin", App | _] -> lists:member(hd(string:split(App, "-")), ?SYSTEM);
        _ -> false
    end.

instrument(_, none, Made) -> {{uncovered, <<"its code is in no file">>}, Made};
instrument(M, File, Made) ->
    try
        {ok, Bin} = file:read_file(File),
        {ok, {M, OnDisk}} = beam_lib:md5(Bin),
        Md5 = case erlang:module_loaded(M) of
                  true -> erlang:get_module_info(M, md5);
                  false -> OnDisk
              end,
        case persistent_term:get(?CODE, #{}) of
            #{M := {Md5, _, _}} -> {older(M), Made};
            _ when Md5 =/= OnDisk -> {{uncovered, <<"its code is another than in its file">>}, Made};
            Code ->
                What = case Made of
                           #{M := {Md5, Known}} -> Known;
                           _ -> instrumented_code(M, Bin)
                       end,
                Done = case What of
                           {ok, New} -> replace(M, File, Bin, New, Code);
                           plain -> ok;
                           {uncovered, _} -> What
                       end,
                {Done, Made#{M => {Md5, What}}}
        end
    catch
        Class:Why -> {{uncovered, text("~tp: ~tP", [Class, Why, 20])}, Made}
    end.

replace(M, File, Old, New, Code) ->
    case code:soft_purge(M) of
        false -> {uncovered, text("~ts run code of it that is older than what runs now, and would be killed", [users(M)])};
        true ->
            {ok, {M, Md5}} = beam_lib:md5(New),
            persistent_term:put(?CODE, Code#{M => {Md5, File, Old}}),
            case load(M, File, New) of
                ok -> older(M);
                {error, Why} ->
                    persistent_term:put(?CODE, Code),
                    {uncovered, text("~tP", [Why, 20])}
            end
    end.

%% A process in a loop that never leaves the module runs the code as it was.
older(M) ->
    case code:soft_purge(M) of
        true -> ok;
        false -> {uncovered, text("~ts still run the code as it was", [users(M)])}
    end.

users(M) ->
    Users = [print(P) || P <- processes(), erlang:check_process_code(P, M)],
    lists:join(", ", lists:sublist(Users, 10) ++ [text("~b more", [length(Users) - 10]) || length(Users) > 10]).

%% Nobody is killed: it fails when there is old code.
load(M, File, Bin) ->
    Sticky = code:is_sticky(M),
    _ = [code:unstick_mod(M) || Sticky],
    Loaded = code:atomic_load([{M, File, Bin}]),
    _ = [code:stick_mod(M) || Sticky],
    Loaded.

%% idle(State): puts the code back when no fault needs it, what cannot be yet later. Code
%% that was replaced meanwhile stays.
idle(State) ->
    case persistent_term:get(?CODE, #{}) of
        Code when map_size(Code) > 0 ->
            case of_messages(State) of
                [] -> restore(Code);
                _ -> ok
            end;
        _ -> ok
    end,
    State.

restore(Code) ->
    Left = maps:filter(fun(M, {Md5, File, Old}) ->
                               erlang:module_loaded(M) andalso erlang:get_module_info(M, md5) =:= Md5
                                   andalso not (code:soft_purge(M) andalso load(M, File, Old) =:= ok)
                       end, Code),
    _ = [code:soft_purge(M) || M <- maps:keys(Code)],
    case map_size(Left) of
        0 -> persistent_term:erase(?CODE);
        _ -> persistent_term:put(?CODE, Left), erlang:send_after(?RETRY, self(), restore)
    end.

%% instrumented_code(Module, Beam) -> {ok, Beam} | plain | {uncovered, Text}
instrumented_code(M, Bin) ->
    case abstract(M, Bin) of
        {ok, Forms, Options} ->
            New = forms(M, Forms),
            case lists:any(fun({attribute, _, on_load, _}) -> true; (_) -> false end, Forms) of
                _ when New =:= Forms -> plain;
                true -> {uncovered, <<"it has an on_load function">>};
                false -> compiled(New, Options)
            end;
        error -> {uncovered, <<"it has no debug_info">>}
    end.

abstract(M, Bin) ->
    case beam_lib:chunks(Bin, [debug_info]) of
        {ok, {M, [{debug_info, {debug_info_v1, Backend, Data}}]}} ->
            case Backend:debug_info(erlang_v1, M, Data, []) of
                {ok, Forms} -> {ok, Forms, options(Backend, Data)};
                {error, _} -> error
            end;
        _ -> error
    end.

%% Those that change what the abstract code means; it is transformed already.
options(erl_abstract_code, {_, Options}) ->
    [O || O <- Options, case O of
                            {K, _} -> lists:member(K, [inline, no_auto_import, inline_size, feature]);
                            _ -> lists:member(O, [inline, export_all, no_auto_import, nowarn_export_all])
                        end];
options(_, _) -> [].

compiled(Forms, Options) ->
    case code:ensure_loaded(compile) of
        {module, _} ->
            case compile:noenv_forms(Forms, [return_errors | Options]) of
                {ok, _, Bin} -> {ok, Bin};
                Other -> {uncovered, text("it does not compile: ~tP", [Other, 20])}
            end;
        {error, _} -> {uncovered, <<"the node has no compiler">>}
    end.

%% forms(Module, Forms): with what sends replaced.
forms(gen, Forms) -> [replying(F) || F <- forms(none, Forms)];
forms(_, Forms) -> [case F of
                        {function, _, _, _, _} -> walk(F);
                        _ -> F
                    end || F <- Forms].

replying({function, L, reply, 2, _}) ->
    Args = [{var, L, 'Client'}, {var, L, 'Reply'}],
    {function, L, reply, 2, [{clause, L, Args, [], [instead(L, reply, Args)]}]};
replying(F) -> F.

walk({op, L, '!', To, Message}) -> instead(L, send, [walk(To), walk(Message)]);
walk({call, L, {remote, _, {atom, _, M}, {atom, _, F}} = Name, Args}) ->
    New = walk(Args),
    case ours(M, F, length(Args)) of
        false -> {call, L, Name, New};
        cast -> instead(L, cast, [{atom, L, M}, lists:foldr(fun(A, Rest) -> {cons, L, A, Rest} end, {nil, L}, New)]);
        Ours -> instead(L, Ours, New)
    end;
walk({'fun', L, {function, {atom, _, M}, {atom, _, F}, {integer, LA, A}}} = Fun) ->
    case ours(M, F, A) of
        false -> Fun;
        cast -> Fun;
        Ours -> {'fun', L, {function, {atom, L, ?MODULE}, {atom, L, Ours}, {integer, LA, A}}}
    end;
walk(T) when is_tuple(T) -> list_to_tuple(walk(tuple_to_list(T)));
walk([H | T]) -> [walk(H) | walk(T)];
walk(T) -> T.

ours(erlang, send, A) when A =:= 2; A =:= 3 -> send;
ours(erlang, '!', 2) -> send;
ours(erlang, send_nosuspend, A) when A =:= 2; A =:= 3 -> send_nosuspend;
ours(gen_server, cast, 2) -> cast;
ours(gen_statem, cast, 2) -> cast;
ours(gen_event, notify, 2) -> event;
ours(_, _, _) -> false.

instead(L, F, Args) -> {call, L, {remote, L, {atom, L, ?MODULE}, {atom, L, F}}, Args}.

%% ------------------------------------------------------------------- the rest

refusing(Fun) ->
    try Fun() catch throw:{refused, Text} -> {error, Text} end.

-spec refuse(io:format(), [term()]) -> no_return().
refuse(Format, Args) -> throw({refused, text(Format, Args)}).

text(Format, Args) -> unicode:characters_to_binary(io_lib:format(Format, Args)).

%% Names as they are printed: Shop.Stock, shop_stock.
name(A) when is_atom(A) -> name(atom_to_binary(A));
name(<<"Elixir.", Rest/binary>>) -> Rest;
name(Text) -> Text.

print(P) -> list_to_binary(pid_to_list(P)).
