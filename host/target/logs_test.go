package target_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// logged is a LogSink that keeps everything.
type logged struct {
	mu      sync.Mutex
	events  []target.LogEvent
	arrived []time.Time // of events
	started []target.LogStart
	dropped uint64
	failed  []target.NodeError
}

func (l *logged) Event(e target.LogEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.arrived = append(l.events, e), append(l.arrived, time.Now())
	return nil
}

func (l *logged) Started(s target.LogStart) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = append(l.started, s)
	return nil
}

func (l *logged) Dropped(_ string, n uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropped += n
	return nil
}

func (l *logged) Failed(e target.NodeError) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, e)
	return nil
}

// follow begins to follow, and returns once so many targets are followed.
func (r *rig) follow(t testing.TB, q target.LogQuery, targets int) (l *logged, stop func()) {
	t.Helper()
	l = &logged{}
	q.Follow = true
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Logs(ctx, q, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	l.await(t, func() bool { return len(l.started) >= targets })
	return l, stop
}

// await waits for what ok, which may read l, tells.
func (l *logged) await(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return ok()
	}, 30*time.Second, 5*time.Millisecond)
}

// event waits for an event that is wanted.
func (l *logged) event(t testing.TB, want func(target.LogEvent) bool) (e target.LogEvent) {
	t.Helper()
	ok := assert.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e = range l.events {
			if want(e) {
				return true
			}
		}
		return false
	}, 30*time.Second, 5*time.Millisecond)
	if !ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Fatalf("events are %+v, errors %+v", l.events, l.failed)
	}
	return e
}

func (l *logged) message(t testing.TB, text string) target.LogEvent {
	t.Helper()
	return l.event(t, func(e target.LogEvent) bool { return e.Message == text })
}

const handlers = `[H || H <- logger:get_handler_ids(), lists:prefix("debughost", atom_to_list(H))]`

func TestLogs(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp})
		r := attach(t, nil, b)
		b.MustEval(t, `logger:set_primary_config(level, info)`)
		l, stop := r.follow(t, target.LogQuery{}, 1)
		assert.Equal(t, "info", l.started[0].Primary)
		assert.Empty(t, l.started[0].Note)
		b.MustEval(t, `logger:debug("not this"), logger:info("one ~p", [{a, "b"}]), logger:error("two: ~ts", ["zwölf"]), logger:notice(#{what => "three", n => 3})`)
		e := l.message(t, `one {a,"b"}`)
		assert.Equal(t, b.Name, e.Node)
		assert.Equal(t, "info", e.Level)
		assert.Regexp(t, `^<0\.\d+\.\d+>$`, e.Pid)
		assert.WithinDuration(t, time.Now(), e.Time, time.Minute)
		assert.Nil(t, e.Report)
		assert.Equal(t, "error", l.message(t, "two: zwölf").Level)
		e = l.event(t, func(e target.LogEvent) bool { return e.Report != nil })
		assert.Equal(t, []target.KeyValue{{Key: "n", Value: "3"}, {Key: "what", Value: `"three"`}}, e.Report.Fields)
		assert.Equal(t, "{2,2}", loadedAgents(t, b))
		stop()
		b.Await(t, handlers, "[]")
		b.Await(t, agents, "{2,1}")
		assert.Empty(t, l.failed)
		assert.Zero(t, l.dropped)
		assert.Len(t, l.events, 3)
		r.stop()
		b.Await(t, agents, unloaded)
		require.NotContains(t, b.Log(), "removed_failing")
	})
}

const crasher = `-module(crasher).
-behaviour(gen_server).
-export([start/1, init/1, handle_call/3, handle_cast/2, handle_info/2]).
start(Name) -> gen_server:start_link({local, Name}, ?MODULE, #{secret => lists:seq(1, 3), big => lists:duplicate(3000, x)}, []).
init(S) -> {ok, S}.
handle_call(_, _, S) -> {reply, ok, S}.
handle_cast({boom, Why}, _) -> error(Why).
handle_info(_, S) -> {noreply, S}.
`

func TestLogsOfCrashes(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		b.LoadModule(t, "crasher", crasher)
		r := attach(t, nil, b)
		l, _ := r.follow(t, target.LogQuery{}, 1)
		b.MustEval(t, `{ok, P} = crasher:start(shop_cart), unlink(P), gen_server:cast(P, {boom, oops})`)
		kind := func(k string) target.LogEvent {
			return l.event(t, func(e target.LogEvent) bool { return e.Report != nil && e.Report.Kind == k })
		}
		e := kind("terminate")
		assert.Equal(t, "error", e.Level)
		assert.Equal(t, "shop_cart", e.RegisteredName)
		assert.Equal(t, "shop_cart", e.Report.Name)
		assert.Equal(t, "oops", e.Report.Reason)
		assert.Contains(t, e.Report.LastMessage, "{boom,oops}")
		assert.Contains(t, e.Report.State, "secret => [1,2,3]")
		assert.Contains(t, e.Report.State, "...")
		require.NotEmpty(t, e.Report.Stack)
		assert.Equal(t, "crasher:handle_cast/2", e.Report.Stack[0].Function)
		assert.NotZero(t, e.Report.Stack[0].Line)
		assert.Contains(t, e.Message, "Generic server shop_cart terminating")

		e = kind("crash")
		assert.Equal(t, "shop_cart", e.Report.Name)
		assert.Equal(t, "error", e.Report.Class)
		assert.Equal(t, "oops", e.Report.Reason)
		assert.NotEmpty(t, e.Report.Ancestors)
		assert.NotEmpty(t, e.Report.Stack)
		assert.Contains(t, e.Message, "crasher:init/1")

		l.mu.Lock()
		l.events = nil
		l.mu.Unlock()
		b.MustEval(t, `supervisor:start_child(kernel_safe_sup, #{id => cart, start => {crasher, start, [cart_two]}, restart => temporary}),
			gen_server:cast(cart_two, {boom, again})`)
		e = kind("supervisor")
		assert.Contains(t, e.Report.Name, "kernel_safe_sup")
		assert.Equal(t, "kernel", e.Application)
		assert.Equal(t, "cart", e.Report.Child)
		assert.Regexp(t, `^<0\.\d+\.\d+>$`, e.Report.ChildPid)
		assert.Contains(t, e.Report.Reason, "again")

		b.MustEval(t, `spawn(fun() -> error(plain) end)`)
		e = l.event(t, func(e target.LogEvent) bool { return e.Report != nil && e.Report.Reason == "plain" })
		assert.Equal(t, "crash", e.Report.Kind)
	})
}

// The callback of a report is code of others, and a message may not fit its format.
func TestLogsOfOddEvents(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		b.MustEval(t, `logger:remove_handler(default)`)
		r := attach(t, nil, b)
		l, _ := r.follow(t, target.LogQuery{}, 1)
		b.LoadModule(t, "odd", `-module(odd).
			-export([hangs/1, fails/1, grows/2, fine/2]).
			hangs(_) -> receive after infinity -> ok end.
			fails(_) -> error(no).
			grows(L, C) -> grows([L, L, L | L], C) ++ L.
			fine(#{n := N}, #{chars_limit := C}) when is_integer(C) -> [<<"fine ">>, integer_to_list(N), lists:duplicate(20000, $x)].`)
		b.MustEval(t, `[logger:notice(#{n => N}, #{report_cb => F}) || {N, F} <- [{1, fun odd:hangs/1}, {2, fun odd:fails/1}, {3, fun odd:grows/2}, {4, fun odd:fine/2}]],
			logger:notice(#{n => 5}, #{report_cb => (fun(Big) -> fun(_) -> {"~p", [Big]} end end)(lists:seq(1, 100000))}),
			logger:notice("~s ~s", [six]), logger:notice(lists:duplicate(30000, $s)), logger:notice("~p", [lists:seq(1, 100000)]),
			logger:notice("~ts", [binary:copy(<<"ü">>, 10000)]),
			logger:notice([{n, 7}, {deep, lists:foldl(fun(I, A) -> [{I, A}] end, [], lists:seq(1, 5000))}]),
			logger:notice("~p", [{1 bsl 20000, list_to_tuple(lists:seq(1, 50000)), [a | b], <<1:7>>, maps:from_list([{N, N} || N <- lists:seq(1, 50000)])}]),
			logger:notice("me ~p", [fun() -> l end], #{time => an_hour_ago, pid => nobody, mfa => x, file => 7, application => {a}, registered_name => 4}),
			logger:notice("\n  blank ~ts \t\r\n", ["ü"]), logger:notice(""), logger:notice("~ts~ts~ts", [[16#2028], "\x{a0}odd", [16#85]]),
			logger:notice("last")`)
		l.message(t, "last")
		l.mu.Lock()
		defer l.mu.Unlock()
		require.Len(t, l.events, 16)
		for i, text := range []string{"{report,#{n => 1}}", "{report,#{n => 2}}", "{report,#{n => 3}}", "fine 4xxx", "n: 5", `{"~s ~s",[six]}`, "ssss", "[1,2,3,"} {
			assert.Contains(t, l.events[i].Message, text)
		}
		for i, text := range []string{"blank ü", "", "\u00a0odd"} {
			assert.Equal(t, text, l.events[12+i].Message)
		}
		for _, e := range l.events {
			assert.Less(t, len(e.Message), 8300)
			assert.NotContains(t, e.Pid, "nobody")
		}
		assert.Zero(t, l.dropped)
	})
}

func TestLogsOfElixir(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Elixir: true})
		r := attach(t, nil, b)
		l, _ := r.follow(t, target.LogQuery{Level: "debug"}, 1)
		elixir := func(code string) {
			t.Helper()
			_, err := b.EvalElixir(code)
			require.NoError(t, err)
		}
		elixir(`require Logger; Logger.info("from Elixir", request_id: "r1")`)
		assert.Equal(t, "info", l.message(t, "from Elixir").Level)
		elixir(`{:ok, p} = Agent.start(fn -> %{cart: "full"} end, name: Shop.Cart); Agent.cast(p, fn _ -> raise "no room" end)`)
		e := l.event(t, func(e target.LogEvent) bool { return e.Report != nil && e.Report.Kind == "terminate" })
		assert.Contains(t, e.Report.Reason, "no room")
		assert.Contains(t, e.Report.Reason, "RuntimeError")
		assert.Equal(t, "Elixir.Shop.Cart", e.RegisteredName)
		assert.Equal(t, `%{cart: "full"}`, e.Report.State)
		assert.Contains(t, e.Report.LastMessage, ":cast")
		assert.NotEmpty(t, e.Report.Stack)
		elixir(`Task.start(fn -> exit(:gone) end)`)
		e = l.event(t, func(e target.LogEvent) bool { return e.Report != nil && e.Report.Reason == ":gone" })
		assert.Equal(t, "terminate", e.Report.Kind)
	})
}
