%% The code of a sandbox's node while it runs, and the state of its processes: what its
%% strategy calls. Each function returns {ok, Value} or {error, Text}, and what one does
%% goes on to its end when who called it is gone.
%% Compiled by OTP 25, it runs on OTP 25 to 29.
-module(debughost_code).

-export([versions/1, reload/1, paths/1, states/1, snapshot/3, restore/2]).

%% Milliseconds: that a process has for a system message, and for a code_change; that
%% processes have to leave a function, or to get a name.
-define(ANSWER, 5000).
-define(CHANGE, 30000).
-define(LEAVE, 2000).
-define(NAMED, 5000).
%% That a call is waited for: it goes on then, and nobody knows to what end.
-define(WHOLE, 50000).
%% Bytes of one process's state in a snapshot.
-define(STATE, 64 * 1024 * 1024).

%% ------------------------------------------------------------------ versions

%% versions(Dir): the modules of a directory, by the hash of their code.
versions(Dir) -> alone(fun() -> {ok, maps:map(fun(_, {Md5, _}) -> hex(Md5) end, beams(Dir))} end).

%% beams(Dir) -> #{Module => {Md5, File}}
beams(Dir) ->
    maps:from_list([begin
                        Path = unicode:characters_to_list(filename:join(Dir, File)),
                        case beam_lib:md5(Path) of
                            {ok, {Module, Md5}} -> {Module, {Md5, Path}};
                            {error, beam_lib, Why} -> refuse("~ts is no module: ~tP", [File, Why, 20])
                        end
                    end || File <- filelib:wildcard("lib/*/ebin/*.beam", unicode:characters_to_list(Dir))]).

%% paths(Dir): puts the directories of modules that are new on the code path.
paths(Dir) ->
    Ebins = [unicode:characters_to_list(filename:join(Dir, Ebin)) || Ebin <- filelib:wildcard("lib/*/ebin", unicode:characters_to_list(Dir))],
    ok = code:add_pathsa(Ebins -- code:get_path()),
    {ok, []}.

%% ------------------------------------------------------------------- reload

%% reload(#{build, next}): the modules in the directory next take the place of those in
%% build, of which the node runs. Processes whose callbacks are in a module that changes
%% are suspended, have their code_change called, and go on. When one of these fails, all
%% is as it was.
reload(#{build := Build, next := Next}) ->
    alone(fun() ->
                  change(try plan(beams(Build), beams(Next), text_of(Next), text_of(Build))
                         catch error:Why -> refuse("~tP", [Why, 50]) % nothing was done yet
                         end)
          end).

text_of(Path) -> unicode:characters_to_list(Path).

%% What there is to be done about which module. What is new, and what was not loaded yet,
%% is loaded too: a code_change may call it.
plan(Old, New, Next, Build) ->
    Changed = lists:sort([{M, File} || {M, {Md5, File}} <- maps:to_list(New), is_map_key(M, Old) orelse loaded(M), Md5 =/= running(M, Old)]),
    Added = lists:sort([{M, File} || {M, {_, File}} <- maps:to_list(New), not is_map_key(M, Old), not loaded(M)]),
    Final = fun(File) -> Build ++ lists:nthtail(length(Next), File) end,
    #{load => [{M, Final(File), read(File), before(M, Old)} || {M, File} <- Changed] ++
          [{M, Final(File), read(File), none} || {M, File} <- Added],
      changed => [#{module => name(M), was => hex(running(M, Old)), is => hex(element(1, map_get(M, New)))} || {M, _} <- Changed],
      added => [M || {M, _} <- Added],
      removed => lists:sort(maps:keys(Old) -- maps:keys(New))}.

loaded(M) -> erlang:module_loaded(M).

running(M, Old) ->
    case loaded(M) of
        true -> erlang:get_module_info(M, md5);
        false -> element(1, map_get(M, Old))
    end.

%% The code that runs, for the way back.
before(M, Old) ->
    case Old of
        #{M := {_, File}} -> {File, read(File)};
        _ ->
            case code:get_object_code(M) of
                {M, Bin, File} -> {File, Bin};
                error -> refuse("the code of ~ts that runs is nowhere on disk: it could not be put back", [name(M)])
            end
    end.

read(File) ->
    {ok, Bin} = file:read_file(File),
    Bin.

change(#{load := Load, changed := Changed, added := Added, removed := Removed}) ->
    Modules = [M || {M, _, _, _} <- Load],
    _ = [cleared(M) || M <- Modules ++ Removed],
    Users = all_users(Modules, []),
    Done =
        try
            Saved = [{User, Vsn, state(User)} || {_, M, _} = User <- Users, Vsn <- [vsn(M)]],
            Late = load([{M, File, Bin} || {M, File, Bin, _} <- Load]),
            try
                _ = [within(?CHANGE, fun() -> load_one(T) end) || T <- Late],
                [changed(S) || S <- Saved]
            catch
                throw:{refused, Why} ->
                    back(Load, Saved, Why)
            end
        after
            resume(Users)
        end,
    _ = [code:delete(M) || M <- Removed, loaded(M)],
    _ = [code:soft_purge(M) || M <- Modules],
    {ok, #{loaded => Changed, added => [name(M) || M <- Added], removed => [name(M) || M <- Removed],
           processes => [#{pid => print(P), module => name(M), code_change => C} || {{P, M, _}, C} <- lists:zip(Users, Done)]}}.

%% Only two versions of a module can be there.
cleared(M) ->
    case purged(M, ?LEAVE) of
        true -> ok;
        false -> refuse("~ts run code of ~ts that is older than what runs now, and would be killed", [pids(M), name(M)])
    end.

purged(M, Left) ->
    case code:soft_purge(M) of
        false when Left > 0 -> timer:sleep(50), purged(M, Left - 50);
        Purged -> Purged
    end.

pids(M) -> lists:join(", ", [print(P) || P <- processes(), erlang:check_process_code(P, M)]).

%% load(Modules) -> those that are still to be loaded one by one. When one of the others
%% cannot be loaded, none is.
load(Modules) ->
    case code:atomic_load(Modules) of
        ok -> [];
        {error, Errors} ->
            case [E || {_, Why} = E <- Errors, Why =/= on_load_not_allowed] of
                [] ->
                    {Late, Now} = lists:partition(fun({M, _, _}) -> lists:keymember(M, 1, Errors) end, Modules),
                    ok = code:atomic_load(Now),
                    Late;
                [{M, Why} | _] -> refuse("load ~ts: ~tp", [name(M), Why])
            end
    end.

load_one({M, File, Bin}) ->
    case code:load_binary(M, File, Bin) of
        {module, M} -> ok;
        {error, Why} -> refuse("load ~ts: ~tp", [name(M), Why])
    end.

%% ------------------------------------------------------- processes and their code

%% users(Modules) -> [{Pid, Module, Behaviour}], the OTP processes whose callbacks are
%% in one of them.
users(Modules) -> [{P, M, B} || P <- processes(), P =/= self(), {M, B} <- callback(P), lists:member(M, Modules)].

%% all_users(Modules, Users): suspends them, and those that were started meanwhile.
all_users(Modules, Users) ->
    case [U || {P, _, _} = U <- users(Modules), not lists:keymember(P, 1, Users)] of
        [] -> Users;
        New -> all_users(Modules, suspend(New, lists:reverse(Users)))
    end.

callback(P) ->
    case {behaviour(P), initial(P)} of
        {none, _} -> [];
        {gen_event, _} -> [{case H of {M, _} -> M; M -> M end, gen_event} || H <- handlers(P)];
        {_, {supervisor, M, _}} -> [{M, supervisor}];
        {B, {M, _, _}} -> [{M, B}];
        _ -> []
    end.

initial(P) ->
    try proc_lib:translate_initial_call(P) catch _:_ -> none end.

handlers(P) ->
    try [case Id of false -> M; _ -> {M, Id} end || {M, Id, _} <- sys:get_state(P, ?ANSWER)] catch _:_ -> [] end.

%% behaviour(P): whose loop a process is in; one that sleeps is taken for a server. Of one
%% that is so deep in other code that its loop cannot be seen, what its module says.
behaviour(P) ->
    case process_info(P, current_stacktrace) of
        {_, Frames} ->
            Known = [M || {M, _, _, _} <- Frames, lists:member(M, [gen_server, gen_statem, gen_event])],
            Sleeps = [hibernate || {erlang, hibernate, _, _} <- Frames],
            hd(Known ++ [gen_server || _ <- Sleeps] ++ [declared(P) || length(Frames) >= 8] ++ [none]);
        undefined -> none
    end.

declared(P) ->
    case initial(P) of
        {supervisor, _, _} -> gen_server;
        {M, init, 1} ->
            Says = try M:module_info(attributes) catch _:_ -> [] end,
            All = lists:append([B || {Key, B} <- Says, lists:member(Key, [behaviour, behavior])]),
            hd([gen_server || B <- All, lists:member(B, [gen_server, 'Elixir.GenServer'])] ++ [gen_statem || gen_statem <- All] ++ [none]);
        _ -> none
    end.

suspend(Users) -> suspend(Users, []).

suspend([], Done) -> lists:reverse(Done);
suspend([{P, M, _} = User | Rest], Done) ->
    try lists:keymember(P, 1, Done) orelse sys:suspend(P, ?ANSWER) of
        _ -> suspend(Rest, [User | Done])
    catch
        exit:_ ->
            case is_process_alive(P) of
                false -> suspend(Rest, Done);
                true ->
                    resume([User | Done]),
                    refuse("~ts (~ts) does not answer within ~b s: it cannot be suspended", [print(P), name(M), ?ANSWER div 1000])
            end
    end.

%% One that did not answer may have got the message all the same: the next one undoes it.
resume(Users) -> _ = [P ! {system, {self(), make_ref()}, resume} || P <- lists:usort([P || {P, _, _} <- Users])], ok.

state({P, M, _}) ->
    try {state, sys:get_state(P, ?ANSWER)}
    catch exit:Why -> refuse("~ts (~ts) does not tell its state: ~tP", [print(P), name(M), Why, 20])
    end.

vsn(M) ->
    case proplists:get_value(vsn, M:module_info(attributes)) of
        [Vsn] -> Vsn;
        Vsn -> Vsn
    end.

%% changed(Saved) -> whether the process had its code_change called.
changed({{P, M, B}, Vsn, _}) ->
    Has = case B of
              supervisor -> true;
              gen_statem -> erlang:function_exported(M, code_change, 4);
              _ -> erlang:function_exported(M, code_change, 3)
          end,
    try Has andalso sys:change_code(P, M, Vsn, [], ?CHANGE) of
        false -> false;
        ok -> true;
        {error, Why} -> refuse("code_change of ~ts for ~ts failed: ~tP", [name(M), print(P), Why, 50])
    catch
        exit:Why -> refuse("code_change of ~ts for ~ts failed: ~tP", [name(M), print(P), Why, 50])
    end.

%% back(Load, Saved, Why): the old code, and the old states. What cannot be put back leaves
%% open what runs.
-spec back(list(), list(), term()) -> no_return().
back(Load, Saved, Why) ->
    Stuck = [M || {M, _, _, _} <- Load, not purged(M, ?LEAVE)],
    Code = Stuck =:= [] andalso
        try
            _ = [load_one(T) || T <- load([{M, File, Bin} || {M, _, _, {File, Bin}} <- Load])],
            lists:all(fun(M) -> code:delete(M) andalso code:soft_purge(M) end, [M || {M, _, _, none} <- Load])
        catch _:_ -> false
        end,
    States = [P || {{P, _, B}, _, {state, State}} <- Saved, not put_back(P, B, State)],
    case {Code, States} of
        {true, []} -> refuse("~ts; all is as it was", [Why]);
        {true, _} -> torn("~ts; the old code runs again, and the states of ~ts could not be put back", [Why, [[print(P), $ ] || P <- States]]);
        {false, _} when Stuck =/= [] ->
            torn("~ts; the new code of ~ts stays, since ~ts still run the old one and would be killed",
                 [Why, lists:join(", ", [name(S) || S <- Stuck]), pids(hd(Stuck))]);
        {false, _} -> torn("~ts; the old code could not be loaded again", [Why])
    end.

put_back(P, B, State) ->
    try put_state(P, B, State) of _ -> true
    catch _:_ -> not is_process_alive(P)
    end.

put_state(P, gen_event, Handlers) ->
    sys:replace_state(P, fun({M, Id, State}) ->
                                 case [S || {M1, Id1, S} <- Handlers, M1 =:= M, Id1 =:= Id] of
                                     [Saved | _] -> {M, Id, Saved};
                                     [] -> {M, Id, State}
                                 end
                         end, ?ANSWER);
put_state(P, _, State) -> sys:replace_state(P, fun(_) -> State end, ?ANSWER).

%% ---------------------------------------------------------------- snapshots

%% states(Names) -> the bytes that the state of each process has.
states(Names) ->
    alone(fun() -> {ok, [#{process => Name, bytes => byte_size(Bin)} || {Name, Bin} <- cut(Names)]} end).

%% snapshot(Names, Module, File): the states of processes at one moment, and what the
%% module's snapshot/0 says (none: there is no module), into a file.
snapshot(Names, Module, File) ->
    alone(fun() ->
                  States = cut(Names),
                  Own = case Module of none -> none; _ -> {own, within(?CHANGE, fun() -> module_snapshot(atom(Module)) end)} end,
                  ok = file:write_file(File, term_to_binary(#{version => 1, states => States, own => Own})),
                  {ok, [#{process => Name, bytes => byte_size(Bin)} || {Name, Bin} <- States]}
          end).

module_snapshot(M) ->
    try M:snapshot()
    catch _:Why -> refuse("~ts:snapshot/0 failed: ~tP", [name(M), Why, 50])
    end.

cut(Names) ->
    Users = suspend([{P, Name, gen(P, Name)} || Name <- lists:usort(Names), P <- [named(Name, 0)]]),
    try [{Name, packed(Name, State)} || {_, Name, _} = User <- Users, {state, State} <- [state(User)]]
    after resume(Users)
    end.

packed(Name, State) ->
    case erlang:external_size(State) of
        Size when Size > ?STATE -> refuse("the state of ~ts has ~b bytes, and may have ~b", [Name, Size, ?STATE]);
        _ -> term_to_binary(State)
    end.

gen(P, Name) ->
    case behaviour(P) of
        none -> refuse("~ts is no gen_server, gen_statem or gen_event", [Name]);
        B -> B
    end.

%% named(Name, Wait): the process of a name as it is printed.
named(Name, Wait) ->
    try whereis(binary_to_existing_atom(full(Name))) of
        P when is_pid(P) -> P;
        _ when Wait > 0 -> timer:sleep(20), named(Name, Wait - 20);
        _ -> refuse("no process is called ~ts", [Name])
    catch
        error:badarg when Wait > 0 -> timer:sleep(20), named(Name, Wait - 20);
        error:badarg -> refuse("no process is called ~ts", [Name])
    end.

%% restore(File, Module): puts the states of a snapshot, or of what was taken from a
%% node ([{Name, State}]), into the processes of those names.
restore(File, Module) ->
    alone(fun() ->
                  case try binary_to_term(read(File)) catch error:_ -> refuse("it is no snapshot", []) end of
                      #{version := 1, states := States, own := Own} ->
                          put_states([{Name, binary_to_term(Bin)} || {Name, Bin} <- States]),
                          case {Own, Module} of
                              {{own, Term}, Module} when Module =/= none -> within(?CHANGE, fun() -> module_restore(atom(Module), Term) end);
                              _ -> ok
                          end,
                          {ok, length(States)};
                      States when is_list(States) -> put_states(States), {ok, length(States)};
                      _ -> refuse("it is no snapshot that this version can read", [])
                  end
          end).

put_states(States) ->
    Users = suspend([{P, Name, gen(P, Name)} || {Name, _} <- States, P <- [named(Name, ?NAMED)]]),
    try _ = [put_state(P, B, State) || {P, Name, B} <- Users, {_, State} <- [lists:keyfind(Name, 1, States)]]
    catch exit:Why -> refuse("put a state back: ~tP", [Why, 30])
    after resume(Users)
    end.

module_restore(M, Term) ->
    try M:restore(Term)
    catch _:Why -> refuse("~ts:restore/1 failed: ~tP", [name(M), Why, 50])
    end.

%% ------------------------------------------------------------------- the rest

%% alone(Fun): runs it to its end whatever becomes of the caller, one at a time.
alone(Fun) ->
    {Pid, Mon} = spawn_monitor(fun() ->
                                       exit(try register(?MODULE, self()) of
                                                true -> {done, try Fun() catch throw:{refused, Text} -> {error, Text}; throw:{torn, Text} -> {torn, Text} end}
                                            catch error:badarg -> {done, {error, <<"it is busy with another of these">>}}
                                            end)
                               end),
    receive
        {'DOWN', Mon, process, Pid, {done, Reply}} -> Reply;
        {'DOWN', Mon, process, Pid, Why} -> {torn, text("~tP", [Why, 50])}
    after ?WHOLE ->
            demonitor(Mon, [flush]),
            {torn, text("it takes longer than ~b s, and goes on", [?WHOLE div 1000])}
    end.

%% within(Time, Fun): what Fun returns, unless it takes longer.
within(Time, Fun) ->
    {Pid, Mon} = spawn_monitor(fun() -> exit({done, try {ok, Fun()} catch throw:{refused, Text} -> {refused, Text} end}) end),
    receive
        {'DOWN', Mon, process, Pid, {done, {ok, Value}}} -> Value;
        {'DOWN', Mon, process, Pid, {done, {refused, Text}}} -> throw({refused, Text});
        {'DOWN', Mon, process, Pid, Why} -> refuse("~tP", [Why, 50])
    after Time ->
            exit(Pid, kill),
            demonitor(Mon, [flush]),
            refuse("there is no answer within ~b s", [Time div 1000])
    end.

-spec refuse(io:format(), [term()]) -> no_return().
refuse(Format, Args) -> throw({refused, text(Format, Args)}).

-spec torn(io:format(), [term()]) -> no_return().
torn(Format, Args) -> throw({torn, text(Format, Args)}).

text(Format, Args) -> unicode:characters_to_binary(io_lib:format(Format, Args)).

%% Names as they are printed: Shop.Stock, shop_stock. No binary is put together here
%% but by functions: newer releases do not load what OTP 25 compiles for that.
name(A) when is_atom(A) ->
    case atom_to_list(A) of
        "Elixir." ++ Rest -> unicode:characters_to_binary(Rest);
        Text -> unicode:characters_to_binary(Text)
    end;
name(Text) -> Text.

full(Name) ->
    case unicode:characters_to_list(Name) of
        "Elixir." ++ _ -> Name;
        [C | _] when C >= $A, C =< $Z -> iolist_to_binary(["Elixir.", Name]);
        _ -> Name
    end.

atom(Name) -> binary_to_atom(full(Name)).

print(P) -> list_to_binary(pid_to_list(P)).

hex(Bin) -> list_to_binary([io_lib:format("~2.16.0b", [B]) || B <- binary_to_list(Bin)]).
