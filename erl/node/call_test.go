package node_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// raiseModule has one function for each way in which a call can end.
const raiseModule = `-module(raise).
-export([error/1, exit/1, throw/1, undef/0, kill/0, print/0, ask/0, sleeper/1, big/1]).
error(R) -> erlang:error(R).
exit(R) -> erlang:exit(R).
throw(R) -> erlang:throw(R).
undef() -> nosuch:thing(1, 2), ok.
kill() -> exit(self(), kill), receive after infinity -> ok end.
print() -> io:format("hello ~p~n", [self()]), ok.
ask() -> io:get_line("> ").
sleeper(Name) -> register(Name, self()), receive after infinity -> ok end.
big(N) -> binary:copy(binary:copy(<<7>>, 1024), N div 1024).
`

// starter starts one node with the module raise for all subtests of a release.
func starter(t *testing.T, otp string) *erltest.Beam {
	b := erltest.Start(t, erltest.Options{OTP: otp})
	b.LoadModule(t, "raise", raiseModule)
	return b
}

func TestCallOutcomes(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := starter(t, otp)
		n, p := connect(t, b)
		ctx := within(t)

		got, err := p.Call(ctx, "erlang", "list_to_tuple", etf.List{atom("a"), etf.Float(1.5), etf.Map{{Key: etf.Tuple{}, Value: etf.Binary("x")}}})
		require.NoError(t, err)
		require.True(t, etf.Equal(etf.Tuple{atom("a"), etf.Float(1.5), etf.Map{{Key: etf.Tuple{}, Value: etf.Binary("x")}}}, got), "got %v", got)

		for _, tc := range []struct {
			m, f   string
			args   []etf.Term
			class  node.Class
			reason etf.Term
			text   string
		}{
			{"raise", "error", []etf.Term{atom("oops")}, node.ClassError, atom("oops"), "call raise:error/1 on " + b.Name + ": error: oops in raise:error/1"},
			{"raise", "exit", []etf.Term{etf.Tuple{atom("bye"), etf.Int(1)}}, node.ClassExit, etf.Tuple{atom("bye"), etf.Int(1)}, "exit: {bye,1}"},
			{"raise", "throw", []etf.Term{atom("ball")}, node.ClassThrow, atom("ball"), "throw: ball"},
			{"raise", "kill", nil, node.ClassSignal, atom("killed"), "ended by an exit signal: killed"},
			{"raise", "undef", nil, node.ClassError, atom("undef"), "undefined function nosuch:thing/2"},
			{"nosuch", "f", []etf.Term{etf.Int(1)}, node.ClassError, atom("undef"), "call nosuch:f/1 on " + b.Name + ": undefined function nosuch:f/1"},
			{"erlang", "+", []etf.Term{etf.Int(1), atom("a")}, node.ClassError, atom("badarith"), "error: badarith in erlang:'+'/2"},
		} {
			_, err := p.Call(ctx, tc.m, tc.f, tc.args...)
			var ce *node.CallError
			require.ErrorAs(t, err, &ce, "%s:%s", tc.m, tc.f)
			require.Equal(t, tc.class, ce.Class)
			require.True(t, etf.Equal(tc.reason, ce.Reason), "reason %v", ce.Reason)
			require.Contains(t, err.Error(), tc.text)
			require.Equal(t, tc.m == "nosuch", ce.Undefined())
			require.Equal(t, b.Name, ce.Node)
		}

		// What prints goes on, and its text goes nowhere.
		got, err = p.Call(ctx, "raise", "print")
		require.NoError(t, err)
		require.Equal(t, atom("ok"), got)
		got, err = p.Call(ctx, "raise", "ask")
		require.NoError(t, err)
		require.True(t, etf.Equal(etf.Tuple{atom("error"), atom("enotsup")}, got), "got %v", got)

		raw, err := p.CallRaw(ctx, "erlang", "list_to_binary", etf.List{etf.Int(7), etf.Int(7), etf.Int(7)})
		require.NoError(t, err)
		require.Equal(t, []byte{109, 0, 0, 0, 3, 7, 7, 7}, raw)

		_, err = p.Call(ctx, "erlang", "node", etf.Atom(strings.Repeat("x", 300)))
		require.ErrorContains(t, err, "call erlang:node/1")
		require.NotErrorIs(t, err, node.ErrNodeDown)

		require.Zero(t, p.Pending())
		require.Equal(t, node.Stats{}, n.Stats())
		require.NotContains(t, b.Log(), "hello")
	})
}

func TestCallConcurrent(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := starter(t, otp)
		_, p := connect(t, b)
		g, ctx := errgroup.WithContext(within(t))
		for i := range 1000 {
			g.Go(func() error {
				got, err := p.Call(ctx, "erlang", "-", etf.Int(i), etf.Int(1))
				if err == nil && got != etf.Int(i-1) {
					err = fmt.Errorf("call %d answered %v", i, got)
				}
				return err
			})
		}
		require.NoError(t, g.Wait())
		require.Zero(t, p.Pending())
	})
}

func TestCallCancelKillsWorker(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := starter(t, otp)
		n, p := connect(t, b)
		ctx, cancel := context.WithCancel(within(t))
		ended := make(chan error, 1)
		go func() {
			_, err := p.Call(ctx, "raise", "sleeper", atom("victim"))
			ended <- err
		}()
		b.Await(t, "is_pid(whereis(victim))", "true")
		cancel()
		err := <-ended
		require.ErrorIs(t, err, context.Canceled)
		b.Await(t, "whereis(victim)", "undefined")

		before := b.MustEval(t, "length(processes())")
		ctx, cancel = context.WithTimeout(within(t), 50*time.Millisecond)
		defer cancel()
		_, err = p.Call(ctx, "timer", "sleep", atom("infinity"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		b.Await(t, "length(processes())", before)
		require.Zero(t, p.Pending())
		require.Zero(t, n.Stats().LateReplies)

		// A context that has ended already costs nothing.
		_, err = p.Call(ctx, "erlang", "halt")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, p.Err())
	})
}

// A call that was given up before the node said which process runs it is
// killed when the node does.
func TestCallAbandonedBeforeReply(t *testing.T) {
	checkLeaks(t)
	b := starter(t, "")
	_, p := connect(t, b)
	require.NoError(t, b.Freeze())
	ctx, cancel := context.WithCancel(within(t))
	g := new(errgroup.Group)
	for i := range 100 {
		g.Go(func() error {
			_, err := p.Call(ctx, "raise", "sleeper", etf.Atom(fmt.Sprintf("s%d", i)))
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("got %w", err)
			}
			return nil
		})
	}
	require.Eventually(t, func() bool { return p.Pending() == 100 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, g.Wait())
	require.Equal(t, 100, p.Pending())
	require.NoError(t, b.Thaw())
	b.Await(t, "[N || P <- processes(), {registered_name, [$s | _] = N} <- [process_info(P, registered_name)]]", "[]")
	require.Eventually(t, func() bool { return p.Pending() == 0 }, 10*time.Second, time.Millisecond)
	_, err := p.Call(within(t), "erlang", "node")
	require.NoError(t, err)
	b.Await(t, "[P || P <- processes(), {current_function, {raise, _, _}} <- [process_info(P, current_function)]]", "[]")
}

// While large answers come in, small calls go on.
func TestCallLargeAndSmall(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := starter(t, otp)
		_, p := connect(t, b)
		const size = 20 << 20
		ctx := within(t)
		g := new(errgroup.Group)
		for range 6 {
			g.Go(func() error {
				raw, err := p.CallRaw(ctx, "raise", "big", etf.Int(size))
				if err == nil && len(raw) != size+5 {
					err = fmt.Errorf("%d bytes", len(raw))
				}
				return err
			})
		}
		done := make(chan struct{})
		var worst time.Duration
		var count int
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				start := time.Now()
				_, err := p.Call(ctx, "erlang", "node")
				if err != nil {
					t.Error(err)
					return
				}
				worst, count = max(worst, time.Since(start)), count+1
			}
		})
		start := time.Now()
		require.NoError(t, g.Wait())
		total := time.Since(start)
		close(done)
		wg.Wait()
		t.Logf("6 answers of 20 MB in %v; meanwhile %d small calls, the slowest took %v", total, count, worst)
		// Behind all of them there would be two: one before, one after. How
		// long they take is the benchmark's matter.
		require.Greater(t, count, 3)
	})
}

func TestSpawnErrors(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := starter(t, otp)
		_, p := connect(t, b)
		_, err := p.Spawn(within(t), "erlang", "node", nil, node.SpawnOptions{Opts: etf.List{atom("nonsense")}})
		var se *node.SpawnError
		require.ErrorAs(t, err, &se)
		require.Equal(t, etf.Atom("badopt"), se.Reason)
		require.ErrorContains(t, err, "spawn erlang:node/0 on "+b.Name)
		require.Zero(t, p.Pending())
	})
}

func TestCallSystemLimit(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{Args: []string{"+P", "1024"}})
	_, p := connect(t, b)
	// A process that fills every place that becomes free.
	b.MustEval(t, `spawn(fun Fill() -> catch [spawn(timer, sleep, [infinity]) || _ <- lists:seq(1, 10000)],
		receive after 1 -> Fill() end end)`)
	var se *node.SpawnError
	var err error
	require.Eventually(t, func() bool {
		_, err = p.Call(within(t), "erlang", "node")
		return errors.As(err, &se)
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, etf.Atom("system_limit"), se.Reason)
	require.ErrorContains(t, err, "process table is full")
}

// An answer that is too large costs its own call only.
func TestCallAnswerTooLarge(t *testing.T) {
	checkLeaks(t)
	b := starter(t, "")
	n := startNode(t, node.Config{Dist: dist.Config{MaxMessage: 1 << 20}})
	p := reach(t, n, b)
	_, err := p.Call(within(t), "raise", "big", etf.Int(2<<20))
	require.ErrorIs(t, err, dist.ErrTooLarge)
	require.Equal(t, atom(b.Name), mustCall(t, p, "erlang", "node"))
	raw, err := p.CallRaw(within(t), "raise", "big", etf.Int(1<<19))
	require.NoError(t, err)
	require.Len(t, raw, 1<<19+5)
}
