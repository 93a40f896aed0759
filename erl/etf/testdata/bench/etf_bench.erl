%% The BEAM's side of the benchmarks: how fast this release decodes and encodes
%% the term in a file. Started by bench_beam_test.go.
-module(etf_bench).
-export([main/1]).

%% Reads "decode" or "encode" lines from standard input and answers each with
%% the bytes per second of one round.
main([File]) ->
    {ok, Bin} = file:read_file(File),
    Term = binary_to_term(Bin),
    Ops = #{"decode\n" => fun() -> binary_to_term(Bin) end,
            "encode\n" => fun() -> term_to_binary(Term, [{minor_version, 2}]) end},
    serve(byte_size(Bin), Ops).

serve(Size, Ops) ->
    case io:get_line("") of
        eof -> halt();
        Line -> io:format("~b~n", [rate(Size, maps:get(Line, Ops))]), serve(Size, Ops)
    end.

%% The better of two ways, so that garbage collection cannot be held against
%% the BEAM: many times in one process, and once each in many fresh processes,
%% whose heaps are dropped and never collected.
rate(Size, Fun) ->
    N = max(2, 6000000 div Size), % as rate in bench_beam_test.go
    Loop = in_process(fun() -> loop(N, Fun) end),
    Fresh = lists:sum([in_process(Fun) || _ <- lists:seq(1, N)]),
    round(Size * N / (min(Loop, Fresh) / 1.0e9)).

loop(0, _) -> ok;
loop(N, Fun) -> Fun(), loop(N - 1, Fun).

%% The nanoseconds that Fun takes inside of a fresh process.
in_process(Fun) ->
    Self = self(),
    {Pid, Mon} = spawn_monitor(fun() ->
        T0 = erlang:monotonic_time(nanosecond),
        Fun(),
        Self ! {self(), erlang:monotonic_time(nanosecond) - T0}
    end),
    receive {Pid, Nanos} -> receive {'DOWN', Mon, _, _, _} -> Nanos end end.
