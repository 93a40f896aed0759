%% A companion of debughost_agent: processes that are held, each by one here that
%% lives no longer than the debughost which asked for it.
-module(?AGENT).

-export([suspend/2, resume/1, hold/3]).

%% suspend(Pid, Host) -> {ok, Holder} | undefined | {error, Reason}
%% The emulator resumes Pid when the holder ends, which it does when it is told
%% to, when Host is gone (detached, killed or lost with the network), when Pid has
%% ended, and when this module is purged.
suspend(P, Host) ->
    {Holder, Mon} = spawn_monitor(?MODULE, hold, [self(), P, Host]),
    receive
        {Holder, held} -> Holder ! {self(), keep}, demonitor(Mon, [flush]), {ok, Holder};
        {'DOWN', Mon, process, Holder, noproc} -> undefined;
        {'DOWN', Mon, process, Holder, Reason} -> {error, Reason}
    end.

hold(Asked, P, Host) ->
    %% The caller may be given up while it waits for a process that is busy
    %% where it cannot be stopped.
    Waits = monitor(process, Asked),
    Lives = ?HELPER:watch(Host),
    Ends = monitor(process, P),
    try erlang:suspend_process(P, [asynchronous]) of
        _ -> stopped(P, [Waits, Lives, Ends])
    catch
        error:badarg -> exit(noproc)
    end,
    Asked ! {self(), held},
    receive
        {Asked, keep} -> demonitor(Waits, [flush]);
        {'DOWN', Waits, process, _, _} -> exit(normal)
    end,
    receive
        {resume, From, Ref} ->
            erlang:resume_process(P),
            From ! {Ref, resumed};
        {'DOWN', _, process, _, _} ->
            ok
    end.

%% It is not stopped before it has come to where it can be.
stopped(P, Monitors) ->
    case process_info(P, status) of
        {status, suspended} -> ok;
        undefined -> exit(noproc);
        _ ->
            receive
                {'DOWN', Mon, process, _, _} when Mon =:= hd(Monitors) -> exit(normal);
                {'DOWN', _, process, _, _} -> exit(noproc)
            after 1 -> stopped(P, Monitors)
            end
    end.

%% resume(Holder) -> resumed | gone
resume(Holder) ->
    Mon = monitor(process, Holder),
    Holder ! {resume, self(), Mon},
    receive
        {Mon, resumed} -> demonitor(Mon, [flush]), resumed;
        {'DOWN', Mon, process, Holder, _} -> gone
    end.
