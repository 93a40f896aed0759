#!/usr/bin/env escript
%% Writes the golden file of a release: escript golden.escript otp27.txt
main([Out]) ->
  Ref = binary_to_term(<<131,90,3:16,119,12,"go@localhost",7:32,1:32,2:32,3:32>>),
  Line = fun(Name, M, F, A) ->
    {_, Mon} = spawn_monitor(erpc, execute_call, [Ref, M, F, A]),
    receive {'DOWN', Mon, _, _, R} -> <<131, B/binary>> = term_to_binary(R), [Name, " ", [io_lib:format("~2.16.0b", [X]) || <<X>> <= B], "\n"] end
  end,
  file:write_file(Out, [
    Line("return", erlang, list_to_tuple, [[ok, 1]]),
    Line("error", nosuch, f, [1]),
    Line("exit", erlang, exit, [bye]),
    Line("throw", erlang, throw, [bye]),
    begin {P, M} = spawn_monitor(erpc, execute_call, [Ref, timer, sleep, [infinity]]), exit(P, kill), receive {'DOWN', M, _, _, R} -> <<131, B/binary>> = term_to_binary(R), ["signal ", [io_lib:format("~2.16.0b", [X]) || <<X>> <= B], "\n"] end end
  ]).
