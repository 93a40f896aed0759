package node_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// rivalModule does on a BEAM node what the benchmarks do here, against the
// same target, so that both can be measured in turns in one run.
const rivalModule = `-module(rival).
-export([calls/2, crowd/3, mixed/3]).
calls(Node, N) ->
  [begin T = erlang:monotonic_time(nanosecond), erpc:call(Node, erlang, node, []), erlang:monotonic_time(nanosecond) - T end || _ <- lists:seq(1, N)].
crowd(Node, K, N) ->
  S = self(),
  T = erlang:monotonic_time(nanosecond),
  [spawn_link(fun() -> [erpc:call(Node, erlang, node, []) || _ <- lists:seq(1, N)], S ! done end) || _ <- lists:seq(1, K)],
  [receive done -> ok end || _ <- lists:seq(1, K)],
  erlang:monotonic_time(nanosecond) - T.
mixed(Node, K, Size) ->
  S = self(),
  Small = spawn_link(fun() -> small(Node, 0, S) end),
  [spawn_link(fun() -> B = erpc:call(Node, raise, big, [Size]), S ! {done, byte_size(B)} end) || _ <- lists:seq(1, K)],
  [receive {done, _} -> ok end || _ <- lists:seq(1, K)],
  Small ! stop,
  receive {small, Worst} -> Worst end.
small(Node, Worst, S) ->
  receive stop -> S ! {small, Worst} after 0 ->
    T = erlang:monotonic_time(nanosecond), erpc:call(Node, erlang, node, []), small(Node, max(Worst, erlang:monotonic_time(nanosecond) - T), S) end.
`

func eachRelease(b *testing.B, f func(b *testing.B, otp string)) {
	for _, otp := range erltest.Releases() {
		b.Run("otp"+otp, func(b *testing.B) { f(b, otp) })
	}
}

// rivals starts a target, a BEAM node that calls it, and a Peer that does.
func rivals(b *testing.B, otp string) (target, rival *erltest.Beam, p *node.Peer) {
	target = erltest.Start(b, erltest.Options{OTP: otp})
	target.LoadModule(b, "raise", raiseModule)
	rival = erltest.Start(b, erltest.Options{OTP: otp, Cookie: target.Cookie, EPMD: target.EPMD})
	rival.LoadModule(b, "rival", rivalModule)
	_, p = connect(b, target)
	return target, rival, p
}

// BenchmarkRoundTrip compares an erpc of ours with that of a BEAM node, in
// turns. Each operation is a block of calls on both sides.
func BenchmarkRoundTrip(b *testing.B) {
	eachRelease(b, func(b *testing.B, otp string) {
		const block = 500
		target, rival, p := rivals(b, otp)
		var ours, beams []time.Duration
		call := func() {
			start := time.Now()
			_, err := p.Call(b.Context(), "erlang", "node")
			require.NoError(b, err)
			ours = append(ours, time.Since(start))
		}
		theirs := func() {
			raw, err := rival.EvalETF(fmt.Sprintf("rival:calls('%s', %d)", target.Name, block))
			require.NoError(b, err)
			list, err := etf.Decode(raw, etf.Limits{})
			require.NoError(b, err)
			elems, _ := etf.Elements(list)
			for _, e := range elems {
				beams = append(beams, time.Duration(e.(etf.Int)))
			}
		}
		for range block { // warm up
			call()
		}
		theirs()
		ours, beams = nil, nil
		for b.Loop() {
			for range block {
				call()
			}
			theirs()
		}
		slices.Sort(ours)
		slices.Sort(beams)
		b.ReportMetric(micros(ours[len(ours)/2]), "p50-µs")
		b.ReportMetric(micros(ours[len(ours)*99/100]), "p99-µs")
		b.ReportMetric(micros(beams[len(beams)/2]), "beam-p50-µs")
		b.ReportMetric(micros(beams[len(beams)*99/100]), "beam-p99-µs")
		b.ReportMetric(float64(ours[len(ours)/2])/float64(beams[len(beams)/2]), "p50-ratio")
	})
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// BenchmarkSmallBesideLarge is the slowest small call while three answers of
// 20 MB come in, of ours and of a BEAM node, in turns; medians over the
// operations.
func BenchmarkSmallBesideLarge(b *testing.B) {
	eachRelease(b, func(b *testing.B, otp string) {
		const size = 20 << 20
		target, rival, p := rivals(b, otp)
		var ours, beams []time.Duration
		for b.Loop() {
			done := make(chan struct{})
			var worst time.Duration
			var small sync.WaitGroup
			small.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					start := time.Now()
					if _, err := p.Call(b.Context(), "erlang", "node"); err != nil {
						b.Error(err)
						return
					}
					worst = max(worst, time.Since(start))
				}
			})
			g := new(errgroup.Group)
			for range 3 {
				g.Go(func() error { _, err := p.CallRaw(b.Context(), "raise", "big", etf.Int(size)); return err })
			}
			require.NoError(b, g.Wait())
			close(done)
			small.Wait()
			ours = append(ours, worst)

			beams = append(beams, duration(b, rival, fmt.Sprintf("rival:mixed('%s', 3, %d)", target.Name, size)))
		}
		slices.Sort(ours)
		slices.Sort(beams)
		b.ReportMetric(micros(ours[len(ours)/2])/1000, "worst-ms")
		b.ReportMetric(micros(beams[len(beams)/2])/1000, "beam-worst-ms")
	})
}

// BenchmarkCall is one call after the other, with its allocations.
func BenchmarkCall(b *testing.B) {
	beam := erltest.Start(b, erltest.Options{})
	_, p := connect(b, beam)
	b.ReportAllocs()
	for b.Loop() {
		_, err := p.Call(b.Context(), "erlang", "node")
		require.NoError(b, err)
	}
}

// BenchmarkCrowd has 100 callers that make 100 calls each, of ours and of a
// BEAM node, in turns.
func BenchmarkCrowd(b *testing.B) {
	eachRelease(b, func(b *testing.B, otp string) {
		const callers, calls = 100, 100
		target, rival, p := rivals(b, otp)
		var ours, beams time.Duration
		for b.Loop() {
			start := time.Now()
			g := new(errgroup.Group)
			for range callers {
				g.Go(func() error {
					for range calls {
						if _, err := p.Call(b.Context(), "erlang", "node"); err != nil {
							return err
						}
					}
					return nil
				})
			}
			require.NoError(b, g.Wait())
			ours += time.Since(start)
			beams += duration(b, rival, fmt.Sprintf("rival:crowd('%s', %d, %d)", target.Name, callers, calls))
		}
		n := time.Duration(b.N * callers * calls)
		b.ReportMetric(micros(ours/n), "µs/call")
		b.ReportMetric(micros(beams/n), "beam-µs/call")
	})
}

// duration evaluates an expression whose value is a number of nanoseconds.
func duration(b *testing.B, beam *erltest.Beam, expr string) time.Duration {
	ns, err := beam.Eval(expr)
	require.NoError(b, err)
	d, err := time.ParseDuration(ns + "ns")
	require.NoError(b, err)
	return d
}

// BenchmarkCallLarge is the throughput of one large answer.
func BenchmarkCallLarge(b *testing.B) {
	const size = 20 << 20
	beam := erltest.Start(b, erltest.Options{})
	beam.LoadModule(b, "raise", raiseModule)
	_, p := connect(b, beam)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		_, err := p.CallRaw(b.Context(), "raise", "big", etf.Int(size))
		require.NoError(b, err)
	}
}
