%% A companion of debughost_agent: the node as a whole.
-module(?AGENT).

-export([system/1]).

%% system(Window) -> #{…}: versions, sizes, limits, and what was done within
%% Window milliseconds (nothing of that with 0).
%%
%% The time of schedulers is counted while somebody has that switched on. The
%% runtime keeps who has, and switches it off with the last of them: so also when
%% this process is killed, and not where others have it on.
system(Window) ->
    process_flag(max_heap_size, #{size => 8 * 1024 * 1024, kill => true, error_logger => false}),
    maps:merge(within(Window), #{
        otp_release => info(otp_release),
        version => info(version),
        elixir => elixir(),
        system_architecture => info(system_architecture),
        emu_flavor => info(emu_flavor),
        os_pid => os:getpid(),
        uptime => erlang:convert_time_unit(erlang:monotonic_time() - info(start_time), native, millisecond),
        wordsize => info(wordsize),
        logical_processors => info(logical_processors),
        logical_processors_available => info(logical_processors_available),
        schedulers => info(schedulers),
        schedulers_online => info(schedulers_online),
        dirty_cpu_schedulers => info(dirty_cpu_schedulers),
        dirty_io_schedulers => info(dirty_io_schedulers),
        run_queues => erlang:statistics(run_queue_lengths_all),
        memory => erlang:memory(),
        allocators => [A || Name <- info(alloc_util_allocators), A <- allocator(Name)],
        limits => [{process, info(process_count), info(process_limit)}, {port, info(port_count), info(port_limit)},
                   {atom, info(atom_count), info(atom_limit)}, {ets, info(ets_count), info(ets_limit)}]
                  ++ [{file_descriptor, Open, Most} || {Open, Most} <- ?HELPER:files()],
        nodes => nodes_known(),
        dist_buf_busy_limit => info(dist_buf_busy_limit),
        modules => length(erlang:loaded())
    }).

info(Item) ->
    try erlang:system_info(Item) of
        V -> V
    catch
        error:badarg -> undefined
    end.

elixir() ->
    case application:get_key(elixir, vsn) of
        {ok, Vsn} -> Vsn;
        undefined -> undefined
    end.

%% ------------------------------------------------------------------- a window

within(0) -> #{window => 0};
within(Window) ->
    Was = erlang:system_flag(scheduler_wall_time, true),
    S0 = lists:sort(erlang:statistics(scheduler_wall_time_all)),
    C0 = counters(),
    T0 = erlang:monotonic_time(microsecond),
    receive after Window -> ok end,
    S1 = lists:sort(erlang:statistics(scheduler_wall_time_all)),
    C1 = counters(),
    T1 = erlang:monotonic_time(microsecond),
    _ = [erlang:system_flag(scheduler_wall_time, false) || is_boolean(Was)],
    #{window => T1 - T0,
      schedulers_busy => [{Id, A1 - A0, max(1, B1 - B0)} || {{Id, A0, B0}, {Id, A1, B1}} <- lists:zip(S0, S1)],
      counters => [{K, B - A} || {{K, A}, {K, B}} <- lists:zip(C0, C1)]}.

counters() ->
    {Reductions, _} = erlang:statistics(reductions),
    {Collections, Words, _} = erlang:statistics(garbage_collection),
    {Switches, _} = erlang:statistics(context_switches),
    {{input, In}, {output, Out}} = erlang:statistics(io),
    [{reductions, Reductions}, {garbage_collections, Collections}, {words_reclaimed, Words},
     {context_switches, Switches}, {input, In}, {output, Out}].

%% ----------------------------------------------------------------- allocators

%% allocator(Name) -> [{Name, Blocks, Carriers}], bytes. Carriers are what the
%% allocator has from the system, blocks what is used of them.
allocator(Name) ->
    erlang:yield(),
    case erlang:system_info({allocator_sizes, Name}) of
        Instances when is_list(Instances) ->
            {Blocks, Carriers} = lists:foldl(fun instance/2, {0, 0}, Instances),
            [{Name, Blocks, Carriers}];
        false -> []
    end.

instance({instance, _, Kinds}, Sums) ->
    lists:foldl(fun({Kind, Props}, Sum) when Kind =:= mbcs; Kind =:= mbcs_pool; Kind =:= sbcs -> sizes(Props, Sum);
                   (_, Sum) -> Sum
                end, Sums, Kinds).

sizes(Props, {Blocks, Carriers}) ->
    Used = [element(2, Size) || {blocks, Types} <- Props, {_, Sizes} <- Types, Size <- Sizes, element(1, Size) =:= size],
    Held = [element(2, P) || P <- Props, element(1, P) =:= carriers_size],
    {Blocks + lists:sum(Used), Carriers + lists:sum(Held)}.

%% ---------------------------------------------------------------- other nodes

%% nodes_known() -> [{Node, visible | hidden, Kind, Queue, In, Out}]
%% Queue: bytes that wait in the connection's port, or the messages of its process
%% where that is one (TLS). In and Out: bytes, of a port.
nodes_known() ->
    Ctrl = maps:from_list(info(dist_ctrl)),
    [connection(N, visible, Ctrl) || N <- nodes(visible)] ++ [connection(N, hidden, Ctrl) || N <- nodes(hidden)].

connection(Node, Kind, Ctrl) ->
    case Ctrl of
        #{Node := Port} when is_port(Port) ->
            {Node, Kind, port, item(Port, queue_size), item(Port, input), item(Port, output)};
        #{Node := Pid} when is_pid(Pid) ->
            case process_info(Pid, message_queue_len) of
                {_, N} -> {Node, Kind, process, N, 0, 0};
                undefined -> {Node, Kind, process, 0, 0, 0}
            end;
        _ -> {Node, Kind, [], 0, 0, 0}
    end.

item(Port, Item) ->
    case erlang:port_info(Port, Item) of
        {_, N} -> N;
        undefined -> 0
    end.
