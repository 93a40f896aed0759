package target_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/target"
)

// meter runs on the target beside the questions: what a question costs the
// node's own work is a ping loop of a millisecond, and its memory.
const meter = `
-module(meter).
-export([crowd/1, floor/0, start/0, stop/0, observer/1]).

crowd(N) ->
    [proc_lib:spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, N)],
    erlang:garbage_collect(),
    erlang:system_info(process_count).

timed(F) ->
    {P, M} = spawn_monitor(fun() ->
        T0 = erlang:monotonic_time(microsecond), F(), exit({took, erlang:monotonic_time(microsecond) - T0}) end),
    receive {'DOWN', M, _, P, {took, T}} -> T end.

%% A fold over process_info that keeps nothing, with the seven columns of a row.
floor() ->
    Items = [registered_name, memory, reductions, message_queue_len, current_function, initial_call, status],
    timed(fun() -> lists:foldl(fun(P, A) -> process_info(P, Items), A end, ok, processes()) end).

start() ->
    Echo = spawn(fun echo/0),
    register(meter, spawn(fun() -> process_flag(priority, normal), T = erlang:memory(total), ping(Echo, 0, T, T) end)), ok.
stop() ->
    meter ! {stop, self()}, receive {meter, Worst, Grown} -> {Worst, Grown} end.
echo() -> receive {ping, P} -> P ! pong, echo(); stop -> ok end.
ping(Echo, Worst, Base, Peak) ->
    T0 = erlang:monotonic_time(microsecond),
    receive {stop, P} -> Echo ! stop, P ! {meter, Worst, Peak - Base} after 1 ->
        Echo ! {ping, self()}, receive pong -> ok end,
        T = erlang:monotonic_time(microsecond) - T0 - 1000,
        ping(Echo, max(T, Worst), Base, max(Peak, erlang:memory(total)))
    end.

%% Has observer_backend on Node send its table here; µs until it is complete:
%% the chunks and the end of the call come from one process, in this order.
observer(Node) ->
    timed(fun() -> erpc:call(Node, observer_backend, procs_info, [self()]), true = received(0) > 100 end).
received(N) -> receive {procs_info, _, L} -> received(N + length(L)) after 0 -> N end.
`

// sizes are the process counts to measure at: DEBUGHOST_BENCH_SIZES, or 100 k.
func sizes() []int {
	var out []int
	for s := range strings.SplitSeq(os.Getenv("DEBUGHOST_BENCH_SIZES"), ",") {
		if n, err := strconv.Atoi(s); err == nil {
			out = append(out, n)
		}
	}
	if out == nil {
		out = []int{100_000}
	}
	return out
}

func eachCrowd(b *testing.B, f func(b *testing.B, beam *erltest.Beam, r *rig)) {
	for _, otp := range erltest.Releases() {
		for _, n := range sizes() {
			b.Run(fmt.Sprintf("otp%s/%d", otp, n), func(b *testing.B) {
				beam := erltest.Start(b, erltest.Options{OTP: otp, Args: []string{"+P", "4000000"}})
				beam.LoadModule(b, "meter", meter)
				beam.MustEval(b, fmt.Sprintf("meter:crowd(%d)", n))
				f(b, beam, attach(b, nil, beam))
			})
		}
	}
}

// disturbed runs f while the node's ping loop and small calls on the same
// connection go on.
type disturbance struct {
	ping, call time.Duration // the worst of each
	grown      int64         // bytes, peak over what was before
}

func (d *disturbance) during(b *testing.B, beam *erltest.Beam, peer *node.Peer, f func()) {
	beam.MustEval(b, "meter:start()")
	ctx, cancel := context.WithCancel(context.Background())
	worst := make(chan time.Duration)
	go func() {
		var w time.Duration
		for ctx.Err() == nil {
			t := time.Now()
			if _, err := peer.Call(ctx, "erlang", "node"); err == nil {
				w = max(w, time.Since(t))
			}
		}
		worst <- w
	}()
	f()
	cancel()
	d.call = max(d.call, <-worst)
	var ping, grown int64
	out := beam.MustEval(b, "meter:stop()")
	_, err := fmt.Sscanf(out, "{%d,%d}", &ping, &grown)
	require.NoError(b, err, out)
	d.ping = max(d.ping, time.Duration(ping)*time.Microsecond)
	d.grown = max(d.grown, grown)
}

func (d *disturbance) report(b *testing.B) {
	b.ReportMetric(float64(d.ping.Microseconds())/1000, "worst-ping-ms")
	b.ReportMetric(float64(d.call.Microseconds())/1000, "worst-call-ms")
	b.ReportMetric(float64(d.grown)/1e6, "target-MB")
}

func micros(b *testing.B, s string) time.Duration {
	n, err := strconv.Atoi(s)
	require.NoError(b, err, s)
	return time.Duration(n) * time.Microsecond
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// count keeps nothing of an answer.
type count struct{ rows int }

func (c *count) Rows(p []target.Process) error   { c.rows += len(p); return nil }
func (c *count) Failed(e target.NodeError) error { return e.Err }

func ask(b *testing.B, r *rig, q target.ProcessQuery) int {
	var c count
	q.Timeout = time.Minute
	require.NoError(b, r.Processes(context.Background(), q, &c))
	return c.rows
}

// BenchmarkTop asks for the top 20, in turn with the floor: a local fold over
// process_info on the same node.
func BenchmarkTop(b *testing.B) {
	eachCrowd(b, func(b *testing.B, beam *erltest.Beam, r *rig) {
		for _, sort := range []target.Sort{target.ByMemory, target.ByReductions, target.ByMessageQueueLen} {
			b.Run(string(sort), func(b *testing.B) {
				peer := r.node.Peer(beam.Name)
				ask(b, r, target.ProcessQuery{Sort: sort, Limit: 20})
				var ours, floor []time.Duration
				var d disturbance
				for b.Loop() {
					floor = append(floor, micros(b, beam.MustEval(b, "meter:floor()")))
					t := time.Now()
					require.Equal(b, 20, ask(b, r, target.ProcessQuery{Sort: sort, Limit: 20}))
					ours = append(ours, time.Since(t))
					d.during(b, beam, peer, func() { ask(b, r, target.ProcessQuery{Sort: sort, Limit: 20}) })
				}
				b.ReportMetric(median(ours), "ours-ms")
				b.ReportMetric(median(floor), "floor-ms")
				b.ReportMetric(median(ours)/median(floor), "ours/floor")
				d.report(b)
			})
		}
	})
}

// BenchmarkTable asks for all rows, in turn with observer_backend on the same
// node, received by another BEAM node.
func BenchmarkTable(b *testing.B) {
	eachCrowd(b, func(b *testing.B, beam *erltest.Beam, r *rig) {
		watcher := erltest.Start(b, erltest.Options{OTP: beam.OTP, Cookie: beam.Cookie, EPMD: beam.EPMD, Hidden: true})
		watcher.LoadModule(b, "meter", meter)
		require.Equal(b, "true", watcher.MustEval(b, fmt.Sprintf("net_kernel:connect_node('%s')", beam.Name)))
		all := micros(b, beam.MustEval(b, "erlang:system_info(process_count)"))
		peer := r.node.Peer(beam.Name)
		ask(b, r, target.ProcessQuery{Limit: 0})
		var ours, theirs []time.Duration
		var d disturbance
		for b.Loop() {
			theirs = append(theirs, micros(b, watcher.MustEval(b, fmt.Sprintf("meter:observer('%s')", beam.Name))))
			t := time.Now()
			require.InDelta(b, int(all.Microseconds()), ask(b, r, target.ProcessQuery{Limit: 0}), 100)
			ours = append(ours, time.Since(t))
			d.during(b, beam, peer, func() { ask(b, r, target.ProcessQuery{Limit: 0}) })
		}
		b.ReportMetric(median(ours), "ours-ms")
		b.ReportMetric(median(theirs), "observer-ms")
		b.ReportMetric(median(ours)/median(theirs), "ours/observer")
		d.report(b)
	})
}
