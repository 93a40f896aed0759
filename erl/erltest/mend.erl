%% Removes what the node has got since this was first evaluated: applications,
%% processes, modules. Then tells what the node is like, as far as a test may
%% change it so that a later one would notice.
Own = self(),
Root = code:root_dir(),
Applications = fun() -> lists:sort([A || {A, _, _} <- application:loaded_applications()]) end,
Processes = fun() -> lists:sort(processes() -- [Own]) end,
Modules = fun() -> lists:sort([M || {M, File} <- code:all_loaded(), is_list(File), not lists:prefix(Root, File)]) end,
case persistent_term:get(erltest_mend, none) of
  none ->
    persistent_term:put(erltest_mend, {Applications(), Processes(), Modules()});
  {As, Ps, Ms} ->
    [begin application:stop(A), application:unload(A) end || A <- Applications() -- As],
    [exit(P, kill) || P <- Processes() -- Ps],
    [begin code:purge(M), code:delete(M), code:purge(M) end || M <- Modules() -- Ms],
    %% Who was killed above may have been removing code, and no list has what is old.
    [code:purge(M) || M <- lists:usort(erlang:loaded()), erlang:check_old_code(M)]
end,
Process = fun(P) ->
  case process_info(P, [priority, trap_exit, links, monitors, group_leader, registered_name, garbage_collection, status]) of
    undefined -> gone;
    Info ->
      [case Item of
         {status, S} -> S =:= suspended;
         {garbage_collection, G} -> lists:keydelete(minor_gcs, 1, G);
         {K, L} when K =:= links; K =:= monitors -> {K, lists:sort(L)};
         _ -> Item
       end || Item <- Info]
  end
end,
Depth = erlang:system_flag(backtrace_depth, 8), % is read by setting it
erlang:system_flag(backtrace_depth, Depth),
Flag = fun(F) -> try erlang:system_info(F) catch _:_ -> none end end,
[{processes, [{P, Process(P)} || P <- Processes()]},
 {modules, Modules()},
 {applications, Applications(), lists:sort([A || {A, _, _} <- application:which_applications()])},
 {names, lists:sort(registered())},
 {tables, lists:sort([{ets:info(T, name), ets:info(T, owner)} || T <- ets:all()])},
 {ports, lists:sort([erlang:port_info(P, name) || P <- erlang:ports()])},
 {nodes, nodes(connected), erlang:get_cookie()},
 {environment, [{A, lists:sort(application:get_all_env(A))} || A <- [kernel, stdlib]]},
 {logger, logger:get_config()},
 {terms, maps:get(count, persistent_term:info())},
 {monitor, erlang:system_monitor(), erlang:system_profile(), statistics(scheduler_wall_time) =:= undefined},
 {trace, erlang:trace_info(new, flags), erlang:trace_info(new_processes, flags)},
 {depth, Depth},
 {flags, [{F, Flag(F)} || F <- [schedulers_online, dirty_cpu_schedulers_online, multi_scheduling, fullsweep_after,
   min_heap_size, min_bin_vheap_size, max_heap_size, trace_control_word, time_offset]]}]
