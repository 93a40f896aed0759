#!/usr/bin/env escript
%% The real node's side of golden_test.go. The golden files were written by
%%
%%   for otp in 25 27 29; do
%%     $DEBUGHOST_OTP/$otp/bin/escript testdata/golden.escript write testdata/otp$otp
%%   done
%%
%% write DIR         writes the golden files
%% echo IN OUT       IN holds a list of binaries; OUT becomes the list of
%%                   term_to_binary(binary_to_term(B)), or of `badarg`, for each
%% same IN           exits 0 if IN holds a list of {A, B} where each
%%                   binary_to_term(A) =:= binary_to_term(B)
-module(golden).
-mode(compile).

main(["write", Dir]) ->
    {ok, _} = net_kernel:start(golden@localhost, #{name_domain => shortnames, dist_listen => false}),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    [ok = file:write_file(filename:join(Dir, Name ++ ".etf"), Bin) || {Name, Bin} <- golden()];
main(["echo", In, Out]) ->
    {ok, Bin} = file:read_file(In),
    Echo = fun(B) -> try term_to_binary(binary_to_term(B)) catch error:badarg -> badarg end end,
    ok = file:write_file(Out, term_to_binary([Echo(B) || B <- binary_to_term(Bin)]));
main(["same", In]) ->
    {ok, Bin} = file:read_file(In),
    case [A || {A, B} <- binary_to_term(Bin), binary_to_term(A) =/= binary_to_term(B)] of
        [] -> ok;
        Different -> io:format("~p~n", [Different]), halt(1)
    end.

golden() ->
    Static = [{Name, term_to_binary(Term)} || {Name, Term} <- terms()],
    %% The encodings that other options and older releases choose.
    Atoms = proplists:get_value("atoms", terms()),
    Floats = proplists:get_value("floats", terms()),
    Old = [{"atoms_latin1", term_to_binary([A || A <- Atoms, is_latin1(A)], [{minor_version, 1}])},
           {"atoms_utf8", term_to_binary(Atoms, [{minor_version, 2}])},
           {"floats_text", term_to_binary(Floats, [{minor_version, 0}])},
           {"compressed", term_to_binary(lists:seq(1, 2000), [compressed])},
           {"compressed9", term_to_binary(lists:duplicate(3000, {ok, <<"again">>}), [{compressed, 9}])}],
    Static ++ Old ++ native_record().

terms() ->
    Big = 1 bsl 2040,
    [{"atoms", [a, '', 'hello world', 'Elixir.Shop', list_to_atom("\xe5\xe4\xf6"), list_to_atom([1000, 128512]),
                list_to_atom(lists:duplicate(255, $x)), list_to_atom(lists:duplicate(255, 16#e9)),
                list_to_atom(lists:duplicate(255, 128512))]},
     {"integers", [0, 1, 255, 256, -1, -255, 2147483647, -2147483648, 2147483648, -2147483649,
                   (1 bsl 63) - 1, -(1 bsl 63), 1 bsl 63, -(1 bsl 63) - 1, 1 bsl 64, 1 bsl 70,
                   Big - 1, Big, -Big, (1 bsl 20000) + 12345]},
     {"floats", [0.0, 1.5, -1.5, 3.141592653589793, 1.0e300, -1.0e-300, 5.0e-324, 1.7976931348623157e308]},
     {"binaries", [<<>>, <<"hello">>, <<0, 255>>, binary:copy(<<"0123456789">>, 100)]},
     {"bitstrings", [<<1:1>>, <<5:3>>, <<255, 127:7>>, <<"abc", 1:2>>]},
     {"strings", ["", "hello", [0, 255], lists:duplicate(1000, $s)]},
     {"lists", [[], [1, 2, 300], [a, [b, [c, []]]], [[], [[]]]]},
     {"improper", [[a | b], [1, 2, 3 | 4], [a | <<"tail">>], [[x | y] | {z}]]},
     {"tuples", [{}, {a}, {1, {2, {3}}}, list_to_tuple(lists:seq(1, 255)), list_to_tuple(lists:seq(1, 256))]},
     {"maps", [#{}, #{a => 1}, #{<<"key">> => "value", 1 => 2, 1.0 => 3, {t, 1} => [], #{k => v} => #{}, [l] => 1 bsl 70}]},
     {"large_map", maps:from_list([{I, I * I} || I <- lists:seq(1, 100)])},
     {"exports", [fun lists:map/2, fun erlang:self/0]},
     %% With what the node itself says about them, to compare with.
     {"pids", [{P, pid_to_list(P)} || P <- [self(), whereis(init), spawn(fun() -> ok end)]]},
     {"ports", [{P, erlang:port_to_list(P)} || P <- erlang:ports()]},
     {"refs", [{R, erlang:ref_to_list(R)} || R <- [make_ref(), alias(), monitor(process, self())]]},
     {"creation", erlang:system_info(creation)},
     {"funs", [{F, maps:from_list(erlang:fun_info(F))} || F <- funs()]}].

funs() ->
    X = {free, <<"variable">>, [1, 2, 3]},
    Y = make_ref(),
    [fun() -> ok end, fun(A) -> {A, X} end, fun(A, B) -> {A, B, X, Y} end].

is_latin1(Atom) -> lists:all(fun(C) -> C < 256 end, atom_to_list(Atom)).

%% Native records are new in OTP 29, whose syntax older releases cannot compile.
native_record() ->
    case erlang:function_exported(records, module_info, 0) orelse code:ensure_loaded(records) of
        {error, _} -> [];
        _ ->
            Record = fun(Name, Fields, Exported) ->
                apply(records, create, [shop, Name, Fields, #{is_exported => Exported}])
            end,
            [{"records", term_to_binary([Record(order, [{id, 1}, {lines, [<<"a">>]}, {parent, Record(none, [], false)}], true)])}]
    end.
