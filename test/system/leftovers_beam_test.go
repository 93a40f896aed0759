package system

// fingerprint is a module that tells all of a node that asking may change, as lists
// of terms by kind; base/0 remembers it, and changes/1 tells what differs since, as
// [{Kind, Gone, New}]. OTP's own modules that a question had loaded, and atoms, are
// left out: the runtime never unloads the ones nor frees the others.
//
// With attached, what a debughost that nobody asks has on a node is left out too: its
// connection, the helper's modules and its one process.
const fingerprint = `
-module(fingerprint).
-export([start/0, base/0, changes/1, frames/0]).

start() ->
    _ = code:ensure_loaded(trace),
    Self = self(),
    spawn(fun() -> register(fingerprint, self()), Self ! started, keep(none) end),
    receive started -> ok end.

keep(Base) ->
    receive
        {{base, New}, From} -> From ! {self(), ok}, keep(New);
        {get, From} -> From ! {self(), Base}, keep(Base)
    end.

ask(What) ->
    P = whereis(fingerprint),
    Mon = monitor(process, P),
    P ! {What, self()},
    receive {P, A} -> demonitor(Mon, [flush]), A; {'DOWN', Mon, process, _, Why} -> exit(Why) end.

base() -> ask({base, take(all)}).

changes(Mode) ->
    Base = ask(get),
    Now = take(Mode),
    [{K, Was -- Is, Is -- Was} || {{K, Was}, {K, Is}} <- lists:zip(Base, Now), lists:sort(Was) =/= lists:sort(Is)].

take(Mode) ->
    Ps = [P || P <- processes(), P =/= self(), P =/= whereis(fingerprint), Mode =:= all orelse not keeper(P)],
    [{modules, [M || M <- erlang:loaded(), not otp(M), Mode =:= all orelse not ours(M)]},
     {old_code, [M || M <- erlang:loaded(), erlang:check_old_code(M)]},
     {names, [N || N <- registered(), Mode =:= all orelse not ours(N)]},
     {processes, lists:append([process(P, Mode) || P <- Ps])},
     {frames, [F || {_, F} <- frames()]},
     {ports, [N || P <- erlang:ports(), {name, N} <- [erlang:port_info(P, name)]] -- ["tcp_inet" || Mode =:= attached, _ <- nodes(connected)]},
     {tables, [N || T <- ets:all(), N <- [ets:info(T, name)], N =/= undefined]},
     {persistent_terms, [K || {K, _} <- persistent_term:get(), Mode =:= all orelse not handler(K)]},
     {logger, [{primary, logger:get_primary_config()}, {proxy, logger:get_proxy_config()}, {levels, logger:get_module_level()} | logger:get_handler_config()]},
     {trace, [{P, Flags} || P <- [new_processes, new_ports | Ps], {flags, [_ | _] = Flags} <- [erlang:trace_info(P, flags)]] ++ sessions()},
     {functions_traced, [F || F <- [{erlang, send, 2}, {gen_server, call, 2}], {traced, T} <- [erlang:trace_info(F, traced)], T =/= false]},
     {system_monitor, [erlang:system_monitor()]},
     {system_profile, [erlang:system_profile()]},
     {scheduler_wall_time, [statistics(scheduler_wall_time) =/= undefined]},
     {system_info, [{I, erlang:system_info(I)} || I <- [fullsweep_after, min_heap_size, min_bin_vheap_size, max_heap_size, multi_scheduling,
         schedulers_online, dirty_cpu_schedulers_online, scheduler_bind_type, trace_control_word, process_limit]]},
     {nodes, [N || Mode =:= all, N <- nodes(connected)]},
     {connections, [C || Mode =:= all, C <- erlang:system_info(dist_ctrl)]},
     {applications, [A || {A, _, _} <- application:which_applications()]},
     {applications_loaded, [A || {A, _, _} <- application:loaded_applications()]},
     {environment, [{A, K, V} || {A, _, _} <- application:loaded_applications(), {K, V} <- application:get_all_env(A)]},
     {os_environment, os:getenv()},
     {code_path, code:get_path()},
     {hidden_terms, [ets:info(fixture_rows, size), ets:info(fixture_rows, safe_fixed_monotonic_time)]}].

sessions() ->
    case erlang:function_exported(trace, session_info, 1) of
        true -> [S || S <- trace:session_info(all)];
        false -> []
    end.

%% What runs, what it is tied to, and what it was told to be.
process(P, Mode) ->
    case process_info(P, [registered_name, initial_call, trap_exit, priority, max_heap_size, message_queue_data, message_queue_len,
                          error_handler, group_leader, suspending, links, monitors, monitored_by, dictionary]) of
        undefined -> [];
        [{_, Name}, _, Trap, Prio, {_, Heap}, Data, Len, Handler, {_, Leader}, Susp, {_, Links}, {_, Mons}, {_, By}, {_, Dict}] ->
            Ties = {length(mine(Links, Mode)), length(mine([M || {process, M} <- Mons], Mode)), length(mine(By, Mode))},
            Stopped = process_info(P, status) =:= {status, suspended},
            [{proc_lib:translate_initial_call(P), Name, Trap, Prio, maps:with([size], Heap), Data, Len, Handler, node(Leader) =:= node(), Susp,
              Stopped, case busy(Name) of true -> any; false -> Ties end, lists:sort([K || {K, _} <- Dict, not is_reference(K)])}
             || Mode =:= all orelse not connection(P)]
    end.

%% These change by themselves, and with each connection.
busy(Name) -> lists:member(Name, [code_server, net_kernel, erts_code_purger, kernel_sup, net_sup]).

mine(Ps, attached) -> [P || P <- Ps, not keeper(P), not is_pid(P) orelse node(P) =:= node()];
mine(Ps, all) -> Ps.

keeper(P) when is_pid(P), node(P) =:= node() ->
    case process_info(P, registered_name) of
        {_, Name} when is_atom(Name) -> ours(Name) andalso nomatch =:= re:run(atom_to_list(Name), "_.*_.*_");
        _ -> false
    end;
keeper(_) -> false.

connection(P) ->
    case process_info(P, current_function) of
        {_, {dist_util, _, _}} -> true;
        {_, {inet_tcp_dist, _, _}} -> true;
        _ -> false
    end.

%% What the logger keeps of a handler, until the helper leaves.
handler({logger_config, {'$handler_config$', Id}}) -> ours(Id);
handler(_) -> false.

ours(Name) -> lists:prefix("debughost", atom_to_list(Name)).

otp(M) ->
    case code:which(M) of
        File when is_list(File) -> lists:prefix(code:root_dir(), File);
        preloaded -> true;
        _ -> false
    end.

%% frames() -> [{Pid, {Module, Function}}]: where our code is being run, that of the
%% keeper left out.
frames() ->
    [{P, {M, F}} || P <- processes(), not keeper(P), {_, Stack} <- [process_info(P, current_stacktrace)], {M, F, _, _} <- Stack, ours(M)].
`

// fixture is what is asked about.
const fixture = `
-module(fixture).
-export([start/0, init/1, handle_call/3, handle_cast/2, idle/0]).

start() ->
    Self = self(),
    spawn(fun() ->
        fixture_rows = ets:new(fixture_rows, [named_table, public]),
        [ets:insert(fixture_rows, {N, N}) || N <- lists:seq(1, 100000)],
        register(fixture_owner, self()),
        {ok, _} = supervisor:start_link({local, fixture_sup}, ?MODULE, sup),
        Self ! started,
        idle()
    end),
    receive started -> ok end,
    [register(N, spawn(?MODULE, idle, [])) || N <- [fixture_held, fixture_named, fixture_flagged]],
    {ok, _} = gen_server:start({local, fixture_busy}, ?MODULE, worker, []),
    gen_server:cast(fixture_busy, busy),
    [spawn(?MODULE, idle, []) || _ <- lists:seq(1, 10000)],
    ok = mnesia:start(),
    {atomic, ok} = mnesia:create_table(fixture_table, []),
    true.

init(sup) -> {ok, {#{}, [#{id => worker, start => {gen_server, start_link, [{local, fixture_worker}, ?MODULE, worker, []]}}]}};
init(worker) -> {ok, #{items => lists:seq(1, 100)}}.

handle_call(_, _, S) -> {reply, ok, S}.

handle_cast(busy, S) -> receive free -> {noreply, S} end.

idle() -> receive stop -> ok; _ -> idle() end.
`
