%% What a sandbox's node runs beside the user's code: it is the node's EPMD, and
%% brings the system up. It is loaded by the node itself at its start, by
%% `-epmd_module debughost_sandbox -s debughost_sandbox boot`.
%%
%% The directory in DEBUGHOST_SANDBOX has the files `cookie` and `spec`, and gets
%% `port` once the node listens, and then `ready`. When the system cannot be brought
%% up, the node prints why and ends with 1.
%% Compiled by OTP 25, it runs on OTP 25 to 29.
-module(debughost_sandbox).

-export([start_link/0, register_node/2, register_node/3, listen_port_please/2, port_please/2, port_please/3, address_please/3, names/0, names/1]).
-export([boot/0]).

%% Milliseconds between two looks at a script.
-define(LOOK, 100).

%% ------------------------------------------------------------------- as EPMD
%% Nobody finds the node but who was told its port, and it finds nobody.

start_link() -> ignore.

register_node(Name, Port) -> register_node(Name, Port, inet).

register_node(_, Port, _) ->
    ok = write("port", integer_to_list(Port)),
    {ok, rand:uniform(16#fffffff)}.

listen_port_please(_, _) -> {ok, 0}.

port_please(_, _) -> noport.
port_please(_, _, _) -> noport.

address_please(_, _, _) -> {error, nxdomain}.

names() -> {ok, []}.
names(_) -> {ok, []}.

%% ------------------------------------------------------------------- as boot

boot() ->
    {ok, Cookie} = file:read_file(path("cookie")),
    _ = [true = erlang:set_cookie(node(), binary_to_atom(Cookie)) || is_alive()],
    _ = spawn(fun up/0),
    ok.

%% up(): a script may be a program that goes on, so that the system counts as up when
%% the script has ended, or has done nothing but wait for a while. Applications and the
%% start without a script are waited for, and so are the compiler of a script's modules,
%% which is a process of its own, and the code server.
up() ->
    {ok, [Spec]} = file:consult(path("spec")),
    Up = self(),
    {Pid, Mon} = spawn_monitor(fun() -> bring(Up, Spec) end),
    receive
        {program, Pid} -> watch(Pid, Mon, Spec, none, 0);
        {done, Pid} -> ready(Spec), ended(Pid, Mon);
        {'DOWN', Mon, process, Pid, Reason} -> failed(Reason)
    end.

watch(Pid, Mon, #{patience := Patience} = Spec, Last, Quiet) when Quiet * ?LOOK >= Patience ->
    case process_info(Pid, current_function) of % it is woken to say so
        {_, {M, _, _}} ->
            case lists:member(M, [elixir_erl_compiler, 'Elixir.Module.ParallelChecker', code_server, erl_prim_loader]) of
                true -> watch(Pid, Mon, Spec, Last, 0);
                false -> ready(Spec), ended(Pid, Mon)
            end;
        undefined -> watch(Pid, Mon, Spec, Last, 0) % what it ended of is on its way
    end;
watch(Pid, Mon, Spec, Last, Quiet) ->
    receive
        {done, Pid} -> ready(Spec), ended(Pid, Mon);
        {'DOWN', Mon, process, Pid, Reason} -> failed(Reason)
    after ?LOOK ->
        case process_info(Pid, [status, reductions]) of
            [{status, waiting}, _] = Last -> watch(Pid, Mon, Spec, Last, Quiet + 1);
            Now -> watch(Pid, Mon, Spec, Now, 0)
        end
    end.

%% A program that fails is no system any more; what ran a script to its end stays.
ended(Pid, Mon) ->
    receive
        {done, Pid} -> ended(Pid, Mon);
        {'DOWN', Mon, process, Pid, Reason} -> failed(Reason)
    end.

%% States that are to be put back are there before anybody is told.
ready(#{states := none}) -> ok = write("ready", "");
ready(#{states := {Name, Module}}) ->
    case debughost_code:restore(path(Name), Module) of
        {ok, _} ->
            ok = file:delete(path(Name)),
            ok = write("ready", "");
        {error, Text} -> failed({states, Text})
    end.

failed({Class, Reason, Stack}) ->
    io:put_chars(standard_error, [print(Class, Reason, Stack), $\n]),
    erlang:halt(1);
failed({states, Text}) ->
    io:format(standard_error, "put the states back: ~ts~n", [Text]),
    erlang:halt(1);
failed(Reason) ->
    io:format(standard_error, "what brings the system up has ended: ~tp~n", [Reason]),
    erlang:halt(1).

bring(Up, #{apps := Apps, script := Script, start := Start}) ->
    try
        ok = providers(Apps),
        _ = [error(not_distributed) || not is_alive()],
        _ = [{ok, _} = application:ensure_all_started(A) || A <- Apps],
        _ = [Up ! {program, self()} || Script =/= none],
        script(Script),
        start(Start)
    of
        _ ->
            process_flag(trap_exit, true),
            Up ! {done, self()},
            stay()
    catch
        Class:Reason:Stack -> exit({Class, Reason, Stack})
    end.

%% A release of Elixir may have providers of its configuration, such as a runtime.exs,
%% which are asked at each start, before its applications are there. Where the system
%% is to start anew with what they say, this process ends with it, and only then is the
%% node distributed.
providers([elixir | _]) ->
    {ok, _} = application:ensure_all_started(elixir),
    case application:get_env(elixir, config_provider_init) of
        {ok, _} -> 'Elixir.Config.Provider':boot(), ok;
        undefined -> ok
    end;
providers(_) -> ok.

%% What a script has started with a link, such as a supervisor, would end with the
%% process that ran it.
stay() -> receive _ -> stay() end.

script(none) -> ok;
script(File) -> 'Elixir.Code':require_file(File).

start(<<>>) -> ok;
start(Text) ->
    case elixir() of
        true -> 'Elixir.Code':eval_string(Text);
        false ->
            {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Text, "."])),
            {ok, Exprs} = erl_parse:parse_exprs(Tokens),
            erl_eval:exprs(Exprs, [])
    end.

elixir() -> lists:keymember(elixir, 1, application:which_applications()).

print(Class, Reason, Stack) ->
    case elixir() of
        true -> 'Elixir.Exception':format(Class, Reason, Stack);
        false -> io_lib:format("** ~tp: ~tp~n~tp", [Class, Reason, Stack])
    end.

path(Name) -> filename:join(os:getenv("DEBUGHOST_SANDBOX"), Name).

%% A file is there as a whole or not at all. As EPMD this is called before the file
%% server is there.
write(Name, Text) ->
    ok = prim_file:write_file(path(Name ++ ".new"), Text),
    prim_file:rename(path(Name ++ ".new"), path(Name)).
