package target_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

const noHandler = "[]"

// Each filter is applied on the target.
func TestLogFilters(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, nil, b)
		pid := b.MustEval(t, `L = fun L() -> receive {log, F, Level, Text} -> logger:log(Level, Text), F ! ok, L() end end,
			P = spawn(L), register(talker, P), Q = spawn(L), register('Elixir.My.Talker', Q),
			K = spawn(fun() -> group_leader(application_controller:get_master(kernel), self()), L() end), register(kernel_talker, K),
			list_to_binary(pid_to_list(P))`)
		pid = pid[len(`<<"`) : len(pid)-len(`">>`)]
		say := func(who, level, text string) {
			t.Helper()
			b.MustEval(t, fmt.Sprintf(`%s ! {log, self(), %s, "%s"}, receive ok -> ok end`, who, level, text))
		}
		for _, c := range []struct {
			q    target.LogQuery
			want []string
		}{
			{target.LogQuery{Process: pid}, []string{"t"}},
			{target.LogQuery{Process: "talker"}, []string{"t"}},
			{target.LogQuery{Process: "My.Talker"}, []string{"m"}},
			{target.LogQuery{Process: "nobody at all"}, nil},
			{target.LogQuery{Application: "kernel"}, []string{"k"}},
			{target.LogQuery{Application: "no such application"}, nil},
			{target.LogQuery{Level: "warning"}, []string{"w"}},
			{target.LogQuery{Level: "debug"}, []string{"t", "m", "k", "w"}},
		} {
			l, stop := r.follow(t, c.q, 1)
			last, stopLast := r.follow(t, target.LogQuery{Level: "emergency"}, 1)
			say("talker", "notice", "t")
			say("'Elixir.My.Talker'", "notice", "m")
			say("kernel_talker", "notice", "k")
			b.MustEval(t, `logger:warning("w"), logger:debug("d"), logger:emergency("end")`)
			last.message(t, "end") // all before it has been sent
			stop()
			stopLast()
			got := []string{}
			for _, e := range l.events {
				if e.Message != "end" && (c.q.Level != "" || e.Message != "w") {
					got = append(got, e.Message)
				}
			}
			assert.ElementsMatch(t, c.want, got, "%+v", c.q)
			assert.Equal(t, c.q.Application == "no such application" || c.q.Level == "debug" || c.q.Level == "", l.started[0].Note != "", "%+v", l.started)
		}
		b.Await(t, handlers, noHandler)
	})
}

// The level of the logger is lowered for the one who asks, and put back, unless
// somebody else has changed it.
func TestLogLevelIsPutBack(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, nil, b)
		const level = `maps:get(level, logger:get_primary_config())`
		b.MustEval(t, `logger:set_primary_config(level, error)`)
		l, stop := r.follow(t, target.LogQuery{Level: "info", SetLevel: true}, 1)
		assert.Equal(t, target.LogStart{Node: b.Name, Primary: "info", Lowered: true}, l.started[0])
		_, stop2 := r.follow(t, target.LogQuery{Level: "debug", SetLevel: true}, 1)
		assert.Equal(t, "debug", b.MustEval(t, level))
		b.MustEval(t, `logger:info("heard")`)
		l.message(t, "heard")
		stop2()
		stop()
		b.Await(t, level, "error")

		_, stop = r.follow(t, target.LogQuery{Level: "debug", SetLevel: true}, 1)
		b.MustEval(t, `logger:set_primary_config(level, alert)`)
		stop()
		b.Await(t, handlers, noHandler)
		assert.Equal(t, "alert", b.MustEval(t, level))

		// Neither does the end of all of ours leave it changed.
		b.MustEval(t, `logger:set_primary_config(level, error)`)
		_, _ = r.follow(t, target.LogQuery{Level: "debug", SetLevel: true}, 1)
		b.MustEval(t, `[exit(whereis(N), kill) || N <- registered(), lists:prefix("debughost", atom_to_list(N))]`)
		r.stop()
		b.Await(t, agents, unloaded)
		assert.Equal(t, "error", b.MustEval(t, level))
		assert.Equal(t, noHandler, b.MustEval(t, handlers))
	})
}

// What is ours leaves the target however the following ends, and whoever logs
// meanwhile is not harmed.
func TestLogsLeaveNothing(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp})
		b.MustEval(t, `logger:remove_handler(default)`)
		// They log as fast as they can; one that is killed is missed in the end.
		const busy = `length([P || {busy, P} <- ets:tab2list(busy), is_process_alive(P)])`
		b.MustEval(t, `spawn(fun() -> busy = ets:new(busy, [named_table, public, bag]), receive after infinity -> ok end end)`)
		b.Await(t, `ets:whereis(busy) =/= undefined`, "true")
		b.MustEval(t, `[ets:insert(busy, {busy, spawn(fun() -> (fun L() -> logger:notice("busy ~p", [self()]), L() end)() end)}) || _ <- lists:seq(1, 3)]`)
		for _, end := range []struct {
			name string
			do   func(r *rig, stop func())
		}{
			{"detach", func(r *rig, _ func()) { r.stop() }},
			{"connection lost", func(r *rig, _ func()) { b.MustEval(t, `[erlang:disconnect_node(N) || N <- nodes(hidden)]`) }},
			{"server killed", func(r *rig, stop func()) {
				b.MustEval(t, `[exit(whereis(N), kill) || N <- registered(), lists:suffix("logs", lists:droplast(re:replace(atom_to_list(N), "_[0-9a-f]{8}$", "x", [{return, list}])))]`)
				stop()
				r.stop()
			}},
			{"keeper killed", func(r *rig, stop func()) {
				b.MustEval(t, `[exit(whereis(N), kill) || N <- registered(), lists:prefix("debughost", atom_to_list(N)), length(atom_to_list(N)) < 30]`)
				stop()
				r.stop()
			}},
		} {
			r := attach(t, nil, b)
			l, stop := r.follow(t, target.LogQuery{}, 1)
			l.await(t, func() bool { return len(l.events) > 50 && l.dropped > 0 })
			if end.name == "connection lost" {
				r.SetFound("test", nil)
				r.Forget("test")
			}
			end.do(r, stop)
			b.Await(t, handlers, noHandler)
			b.Await(t, agents, unloaded)
			r.stop()
			require.Equal(t, "3", b.MustEval(t, busy), end.name)
		}
		require.NotContains(t, b.Log(), "removed_failing")
		require.NotContains(t, b.Log(), "undef")
	})
}

// Of a flood the follower gets its share, and a count of all else.
func TestLogFlood(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		b.MustEval(t, `logger:remove_handler(default)`)
		r := attach(t, nil, b)
		l, _ := r.follow(t, target.LogQuery{Rate: 50}, 1)
		most, _ := r.follow(t, target.LogQuery{Rate: target.MaxLogRate}, 1)
		// Several at once, while tokens are handed out.
		b.MustEval(t, `[receive {'DOWN', M, _, _, normal} -> ok end ||
			{_, M} <- [spawn_monitor(fun() -> [logger:notice("flood ~p", [I]) || I <- lists:seq(1, 50000)] end) || _ <- lists:seq(1, 4)]]`)
		for _, l := range []*logged{l, most} {
			l.await(t, func() bool { return uint64(len(l.events))+l.dropped >= 200000 })
			assert.Equal(t, uint64(200000), uint64(len(l.events))+l.dropped)
			assert.NotZero(t, l.dropped)
		}
		assert.Less(t, len(l.events), 4000)
		assert.GreaterOrEqual(t, len(l.events), 50)
		b.Await(t, `{_, Q} = process_info(whereis(hd(`+handlers+`)), message_queue_len), Q`, "0")
	})
}

// Events arrive in the order in which a process logged them, and one that comes
// alone at once.
func TestLogOrderAndLatency(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		b.MustEval(t, `logger:remove_handler(default)`)
		r := attach(t, nil, b)
		l, _ := r.follow(t, target.LogQuery{Rate: target.MaxLogRate}, 1)
		var alone, last []float64 // in milliseconds
		for range 20 {            // what else the machine does may hold up some of them
			l.mu.Lock()
			l.events, l.arrived = nil, nil
			l.mu.Unlock()
			b.MustEval(t, `receive after 60 -> ok end, [logger:notice("~p", [I]) || I <- lists:seq(0, 9)]`)
			l.await(t, func() bool { return len(l.events) == 10 })
			for i, e := range l.events {
				require.Equal(t, strconv.Itoa(i), e.Message)
			}
			alone = append(alone, 1000*l.arrived[0].Sub(l.events[0].Time).Seconds())
			last = append(last, 1000*l.arrived[9].Sub(l.events[9].Time).Seconds())
		}
		t.Logf("alone after %.1f ms, the last of ten after %.1f", quantile(alone, 0.5), quantile(last, 0.5))
		assert.Less(t, quantile(alone, 0.5), 20.0) // less than the pause
		assert.Less(t, quantile(last, 0.5), 100.0)
	})
}

// What a reader that stands still has no room for is counted, also when nothing is
// logged after it.
func TestLogsOfSlowReader(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	b.MustEval(t, `logger:remove_handler(default), flooder`)
	r := attach(t, nil, b)
	l, _ := r.follow(t, target.LogQuery{Rate: target.MaxLogRate, Process: "flooder"}, 1)
	other, _ := r.follow(t, target.LogQuery{Level: "emergency"}, 1)
	l.mu.Lock()
	unlock := sync.OnceFunc(l.mu.Unlock)
	defer unlock()
	// 16 MB are sent to it, and 8 MB may wait.
	b.MustEval(t, `T = lists:duplicate(8000, $x),
		{_, M} = spawn_monitor(fun() -> register(flooder, self()), [begin logger:notice(T), I rem 8 =:= 0 andalso receive after 1 -> ok end end || I <- lists:seq(1, 2000)] end),
		receive {'DOWN', M, _, _, normal} -> ok end`)
	b.Await(t, `{_, Q} = process_info(whereis(hd(`+handlers+`)), message_queue_len), Q`, "0")
	b.MustEval(t, `logger:emergency("end")`)
	other.message(t, "end") // all before it has been sent
	unlock()
	l.await(t, func() bool { return uint64(len(l.events))+l.dropped >= 2000 })
	assert.Equal(t, uint64(2000), uint64(len(l.events))+l.dropped)
	assert.Greater(t, len(l.events), 500)
	assert.Greater(t, l.dropped, uint64(500))
}

// A node that comes is followed, one that restarts too; one that does not answer
// is told of.
func TestLogsOfNodesThatComeAndGo(t *testing.T) {
	t.Parallel()
	b, other := erltest.Start(t, erltest.Options{}), erltest.Start(t, erltest.Options{})
	r := newRig(t, cookies(b, other))
	r.SetFound("test", found(t, b))
	r.await(t, b.Name, target.Attached)
	l, _ := r.follow(t, target.LogQuery{}, 1)
	r.SetFound("test", found(t, b, other))
	l.await(t, func() bool { return len(l.started) == 2 })
	other.MustEval(t, `logger:notice("here")`)
	assert.Equal(t, other.Name, l.message(t, "here").Node)
	b.Kill()
	l.await(t, func() bool { return len(l.failed) == 1 })
	assert.ErrorIs(t, l.failed[0].Err, target.ErrNotAttached)
	require.NoError(t, b.Restart(t.Context()))
	r.SetFound("test", found(t, b, other))
	l.await(t, func() bool { return len(l.started) == 3 })
	b.MustEval(t, `logger:notice("back")`)
	l.message(t, "back")
}

func TestLogsOfFrozenNode(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	r := attach(t, func(c *target.Config) { c.CallTimeout = 200 * time.Millisecond }, b)
	require.NoError(t, b.Freeze())
	l, _ := r.follow(t, target.LogQuery{}, 0)
	l.await(t, func() bool { return len(l.failed) > 0 })
	assert.ErrorIs(t, l.failed[0].Err, target.ErrTimeout)
	require.NoError(t, b.Thaw())
	l.await(t, func() bool { return len(l.started) == 1 })
}

func TestLogsWithoutAgent(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
	l, _ := r.follow(t, target.LogQuery{}, 0)
	l.await(t, func() bool { return len(l.failed) == 1 })
	assert.ErrorContains(t, l.failed[0].Err, "the helper module is not used")
}

// Crash reports are kept when somebody follows, once, and told to those who ask
// later.
func TestKeptReports(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	b.LoadModule(t, "crasher", crasher)
	r := attach(t, nil, b)
	l, stop := r.follow(t, target.LogQuery{}, 1)
	_, stop2 := r.follow(t, target.LogQuery{Level: "error"}, 1)
	begin := time.Now().Add(-time.Minute)
	b.MustEval(t, `{ok, P} = crasher:start(shop_cart), unlink(P), gen_server:cast(P, {boom, oops}), logger:error("no crash")`)
	l.await(t, func() bool { return len(l.events) == 3 })
	stop()
	stop2()
	kept := func(q target.LogQuery) []target.LogEvent {
		t.Helper()
		out := &logged{}
		require.NoError(t, r.Logs(t.Context(), q, out))
		return out.events
	}
	require.Len(t, kept(target.LogQuery{}), 2)
	pid := kept(target.LogQuery{})[0].Pid
	assert.Len(t, kept(target.LogQuery{Process: "shop_cart", Since: begin}), 2)
	assert.Len(t, kept(target.LogQuery{Process: pid, Nodes: []string{b.Name}}), 2)
	assert.Empty(t, kept(target.LogQuery{Process: "other"}))
	assert.Empty(t, kept(target.LogQuery{Nodes: []string{"other@h"}}))
	assert.Empty(t, kept(target.LogQuery{Level: "alert"}))
	assert.Empty(t, kept(target.LogQuery{Application: "kernel"}))
	assert.Empty(t, kept(target.LogQuery{Since: time.Now().Add(time.Hour)}))
	for _, q := range []target.LogQuery{{Level: "loud"}, {Rate: -1}, {Rate: 1 << 20}, {Process: "<9.9>"}} {
		assert.ErrorIs(t, r.Logs(t.Context(), q, &logged{}), target.ErrBadQuery)
	}
	var broken brokenSink
	assert.ErrorIs(t, r.Logs(t.Context(), target.LogQuery{}, broken), errBroken)
	done := make(chan error, 1)
	go func() { done <- r.Logs(t.Context(), target.LogQuery{Follow: true}, broken) }()
	assert.ErrorIs(t, <-done, errBroken)
}

var errBroken = fmt.Errorf("the reader has gone")

type brokenSink struct{}

func (brokenSink) Event(target.LogEvent) error   { return errBroken }
func (brokenSink) Started(target.LogStart) error { return errBroken }
func (brokenSink) Dropped(string, uint64) error  { return errBroken }
func (brokenSink) Failed(target.NodeError) error { return errBroken }

// Too many followers of one node are refused, and told so.
func TestTooManyFollowLogs(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, nil, b)
	for range 16 {
		r.follow(t, target.LogQuery{}, 1)
	}
	l, _ := r.follow(t, target.LogQuery{}, 0)
	l.await(t, func() bool { return len(l.failed) == 1 })
	assert.ErrorContains(t, l.failed[0].Err, "too many")
}
