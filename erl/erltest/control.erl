%% The control loop of a node, run by -eval: requests come on file descriptor 3
%% and answers go to 4, in frames with a length of four bytes. Each request is
%% evaluated by a process of its own. End of file halts the node.
%% Request: Id:32, Mode:8 (1 external format instead of text, 2 Elixir), source.
%% Answer:  Id:32, 0 for ok or 1 for an exception, result. Id 0 says: ready.
spawn(fun() ->
  P = open_port({fd,3,4}, [{packet,4}, binary, eof]),
  Text = fun(T) -> unicode:characters_to_binary(io_lib:format("~0tp", [T])) end,
  Eval = fun
    (Src, Mode) when Mode band 2 =:= 2 ->
      element(1, 'Elixir.Code':eval_string(Src));
    (Src, _) ->
      {ok, Ts, _} = erl_scan:string(unicode:characters_to_list(Src)),
      {ok, Es} = erl_parse:parse_exprs(Ts),
      {value, V, _} = erl_eval:exprs(Es, []),
      V
  end,
  Show = fun
    (V, Mode) when Mode band 1 =:= 1 -> term_to_binary(V);
    (V, Mode) when Mode band 2 =:= 2 -> 'Elixir.Kernel':inspect(V);
    (V, _) -> Text(V)
  end,
  Run = fun(<<Id:32, Mode, Src/binary>>) ->
    {Kind, Res} =
      try {0, Show(Eval(Src, Mode), Mode)}
      catch C:R:S -> {1, Text({C, R, S})} end,
    port_command(P, <<Id:32, Kind, Res/binary>>)
  end,
  port_command(P, <<0:32, 0, (atom_to_binary(node(), utf8))/binary>>),
  (fun Loop() ->
    receive
      {P, {data, D}} -> spawn(fun() -> Run(D) end), Loop();
      {P, eof} -> erlang:halt(0, [{flush, false}]);
      _ -> Loop()
    end
  end)()
end).
