package target_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// BenchmarkLogs has a target log 10,000 lines a second, with its own handler
// writing them, while it counts as fast as it can on each scheduler: how much less
// does it count while somebody follows? Runs with and without take turns; the
// figure is the median of their ratios.
func BenchmarkLogs(b *testing.B) {
	node := erltest.Start(b, erltest.Options{})
	r := attach(b, nil, node)
	count := func() float64 {
		out := node.MustEval(b, `
			Logger = spawn_link(fun() -> (fun L(0, _) -> ok; L(N, At) ->
					[logger:notice("order ~p of ~ts: paid", [N, <<"shop">>]) || _ <- lists:seq(1, 100)],
					receive after max(0, At - erlang:monotonic_time(millisecond)) -> ok end, L(N - 1, At + 10) end)
				(200, erlang:monotonic_time(millisecond) + 10) end),
			Me = self(),
			Ps = [spawn_link(fun() -> Me ! {self(), (fun C(N) -> case erlang:monotonic_time(millisecond) of T when T < End -> C(N + length(lists:seq(1, 50))); _ -> N end end)(0)} end)
				|| End <- [erlang:monotonic_time(millisecond) + 2000], _ <- lists:seq(1, erlang:system_info(schedulers_online))],
			lists:sum([receive {P, N} -> N end || P <- Ps])`)
		n, err := strconv.ParseFloat(out, 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	var ratios []float64
	events, dropped := 0, uint64(0)
	for b.Loop() {
		bare := count()
		l, stop := r.follow(b, target.LogQuery{}, 1)
		followed := count()
		stop()
		again := count()
		events, dropped = len(l.events), l.dropped
		ratios = append(ratios, followed/((bare+again)/2))
	}
	slices.Sort(ratios)
	b.ReportMetric(100*(1-ratios[len(ratios)/2]), "%slower")
	b.ReportMetric(float64(events), "lines")
	b.ReportMetric(float64(dropped), "left-out")
}

// BenchmarkLogLine tells what a line costs the process that logs, in microseconds:
// with the node's own handler alone, and with ours beside it, which is over its
// rate nearly always.
func BenchmarkLogLine(b *testing.B) {
	node := erltest.Start(b, erltest.Options{})
	r := attach(b, nil, node)
	line := func() float64 {
		out := node.MustEval(b, `{T, _} = timer:tc(fun() -> (fun L(0) -> ok; L(N) -> logger:notice("order ~p of ~ts: paid", [N, <<"shop">>]), L(N - 1) end)(5000) end), T`)
		n, err := strconv.ParseFloat(out, 64)
		if err != nil {
			b.Fatal(err)
		}
		return n / 5000
	}
	measure := func() (bare, followed float64) {
		var bares, alls []float64
		for range 5 {
			bares = append(bares, line())
			_, stop := r.follow(b, target.LogQuery{}, 1)
			alls = append(alls, line())
			stop()
			node.Await(b, handlers, noHandler)
		}
		slices.Sort(bares)
		slices.Sort(alls)
		return bares[len(bares)/2], alls[len(alls)/2]
	}
	for b.Loop() {
		bare, followed := measure()
		b.ReportMetric(bare, "µs/line")
		b.ReportMetric(followed, "µs/line-followed")
		node.MustEval(b, `{ok, C} = logger:get_handler_config(default), persistent_term:put(was, C), logger:remove_handler(default)`)
		bare, followed = measure()
		b.ReportMetric(bare, "µs/line-no-handler")
		b.ReportMetric(followed, "µs/line-followed-alone")
		node.MustEval(b, `C = persistent_term:get(was), logger:add_handler(default, maps:get(module, C), maps:without([id, module], C))`)
	}
}

// BenchmarkLogCost tells what a line costs the node, in processor time of its OS
// process, whatever else the machine does: with the node's own handler alone,
// beyond that for a line that the follower is not sent, for one that it is, and for
// one that a handler which does nothing gets. From these comes what 10,000 lines a second with a follower of the default rate
// take, in percent of one processor. What is ours is measured without the node's
// own handler, whose cost differs from run to run by more. Runs take turns; the
// figures are medians.
func BenchmarkLogCost(b *testing.B) {
	for _, otp := range erltest.Releases() {
		b.Run("otp"+otp, func(b *testing.B) {
			node := erltest.Start(b, erltest.Options{OTP: otp, Args: []string{"+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"}})
			node.LoadModule(b, "lines", lines)
			r := attach(b, nil, node)
			var own, alone, nothing, leftOut, most, sent []float64
			own = append(own, costOfLines(b, node, 200, 10)) // the default handler does not keep up with more
			node.MustEval(b, "logger:remove_handler(default)")
			followed := func(rate, bursts, pause int) (µs float64, events int) {
				l, stop := r.follow(b, target.LogQuery{Rate: rate}, 1)
				µs = costOfLines(b, node, bursts, pause)
				stop()
				node.Await(b, handlers, noHandler)
				return µs, len(l.events)
			}
			costOfLines(b, node, 500, 0)
			for b.Loop() {
				for range 4 {
					alone = append(alone, costOfLines(b, node, 500, 0))
					µs, _ := followed(1, 500, 0)
					leftOut = append(leftOut, µs)
					node.MustEval(b, "logger:add_handler(lines, lines, #{level => info, filter_default => log, filters => []})")
					nothing = append(nothing, costOfLines(b, node, 500, 0))
					node.MustEval(b, "logger:remove_handler(lines)")
				}
				bare := costOfLines(b, node, 200, 10)
				µs, n := followed(target.MaxLogRate, 200, 10)
				most = append(most, µs-bare)
				sent = append(sent, float64(n)/20000)
			}
			perLine := quantile(leftOut, 0.5) - quantile(alone, 0.5)
			perSent := (quantile(most, 0.5) - perLine) / quantile(sent, 0.5)
			b.ReportMetric(own[0], "µs/line")
			b.ReportMetric(quantile(nothing, 0.5)-quantile(alone, 0.5), "µs/line-any-handler")
			b.ReportMetric(perLine, "µs/line-left-out")
			b.ReportMetric(perSent, "µs/line-sent")
			b.ReportMetric((10000*perLine+target.DefaultLogRate*perSent)/1e6*100, "%of-a-scheduler")
		})
	}
}

// costOfLines logs bursts of a hundred lines, with a pause in milliseconds between
// their beginnings, and tells the processor time of each, in microseconds.
func costOfLines(b *testing.B, node *erltest.Beam, bursts, pause int) float64 {
	b.Helper()
	before := processorTime(b, node.OSPid())
	node.MustEval(b, fmt.Sprintf(`lines:write(%d, %d)`, bursts, pause))
	return float64((processorTime(b, node.OSPid()) - before).Nanoseconds()) / 1000 / float64(100*bursts)
}

// lines is compiled, since what is evaluated costs more than the logger does. It
// is a handler too, which does nothing.
const lines = `
-module(lines).
-export([write/2, log/2]).
log(_, _) -> ok.
write(N, Pause) ->
    {P, M} = spawn_monitor(fun() -> write(N, Pause, erlang:monotonic_time(millisecond)) end),
    receive {'DOWN', M, _, P, normal} -> ok end.
write(0, _, _) -> ok;
write(N, Pause, At) ->
    [logger:notice("order ~p of ~ts: paid", [I, <<"shop">>]) || I <- lists:seq(1, 100)],
    receive after max(0, At + Pause - erlang:monotonic_time(millisecond)) -> write(N - 1, Pause, At + Pause) end.
`
