package target_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// diagnose asks all targets of the rig.
func (r *rig) diagnose(t testing.TB, q target.DiagnoseQuery) (map[string]target.Diagnosis, []target.NodeError) {
	t.Helper()
	all, failed := map[string]target.Diagnosis{}, []target.NodeError{}
	r.Diagnose(t.Context(), q, target.Answers[target.Diagnosis]{
		Answer: func(node string, d target.Diagnosis) { all[node] = d },
		Failed: func(f target.NodeError) { failed = append(failed, f) },
	})
	return all, failed
}

// one asks about the only target, whatever the machine does meanwhile.
func (r *rig) diagnoseOne(t testing.TB, q target.DiagnoseQuery) target.Diagnosis {
	t.Helper()
	q.Timeout = 30 * time.Second
	all, failed := r.diagnose(t, q)
	require.Empty(t, failed)
	require.Len(t, all, 1)
	for _, d := range all {
		return d
	}
	panic("unreachable")
}

func TestDiagnoseHealthy(t *testing.T) {
	t.Parallel()
	for _, never := range []bool{false, true} {
		erltest.Each(t, func(t *testing.T, otp string) {
			b := erltest.Borrow(t, otp)
			r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
			d := r.diagnoseOne(t, target.DiagnoseQuery{Deep: true, GC: true, Window: 200 * time.Millisecond})
			assert.Empty(t, d.Findings)
			assert.Equal(t, otp, d.State.OTPRelease)
			assert.Contains(t, d.State.Apps, "kernel")
			assert.Equal(t, []string{r.node.Name()}, d.State.Connected)
			r.stop()
			b.Await(t, agents, unloaded)
		})
	}
}

// startIll starts a node with these illnesses.
func startIll(t testing.TB, otp string, args []string, what ...string) *erltest.Beam {
	t.Helper()
	b := erltest.Start(t, erltest.Options{OTP: otp, Args: append(args, "-kernel", "logger_level", "none")})
	b.LoadModule(t, "ill", ill)
	for _, w := range what {
		b.MustEval(t, "ill:start("+w+")")
	}
	return b
}

// found looks for findings of a kind whose subject begins so.
func findings(d target.Diagnosis, kind, subject string) []target.Finding {
	var out []target.Finding
	for _, f := range d.Findings {
		if f.Kind == kind && strings.HasPrefix(f.Subject, subject) {
			out = append(out, f)
		}
	}
	return out
}

// ail waits until the target has a finding, and returns it: an illness may take
// its time to show, or to become as severe as wanted, on a busy machine.
func (r *rig) ail(t testing.TB, q target.DiagnoseQuery, kind, subject string, wanted ...target.Severity) target.Finding {
	t.Helper()
	var last target.Diagnosis
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		last = r.diagnoseOne(t, q)
		if found := findings(last, kind, subject); len(found) > 0 && (len(wanted) == 0 || found[0].Severity == wanted[0]) {
			return found[0]
		}
	}
	t.Fatalf("no finding %s of %q; there are %+v", kind, subject, last.Findings)
	return target.Finding{}
}

// TestDiagnoseIll makes a node ill in one way after the other, and finds each.
func TestDiagnoseIll(t *testing.T) {
	t.Parallel()
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		b := startIll(t, otp, nil)
		r := attach(t, nil, b)
		q := target.DiagnoseQuery{Window: 500 * time.Millisecond}
		for _, c := range []struct {
			ill, kind, subject string
			severity           target.Severity
			evidence, nextSays string
		}{
			{"mailbox", target.KindMailbox, "ill_mailbox <", target.SeverityCritical, `^\d{5} messages wait, \d+ a second more; it runs ill:sleeper/0$`, "inspect NODE ill_mailbox --messages 5"},
			{"memory", target.KindMemory, "ill_memory <", "", `^\d+ MB, .* a second more; it runs `, "inspect NODE ill_memory"},
			{"binaries", target.KindBinaries, "ill_binaries <", target.SeverityWarning, `^it holds \d\d MB of binaries with a heap of`, "diagnose NODE --gc"},
			{"atoms", target.KindAtoms, "atoms", target.SeverityCritical, `^\d+ new atoms a second, never freed; at this rate the table is full in`, "ps NODE --sort reductions --window 1s"},
			{"loop", target.KindRestarts, "ill_loop_sup <", target.SeverityWarning, `^\d+ restarts in the last 60 s, of which it survives 1000; the last child started is loop`, "tree NODE"},
			{"edge", target.KindRestarts, "ill_edge_sup <", target.SeverityCritical, `^2 restarts in the last 10 min, of which it survives 2; the last child started is quiet <0\.\d+\.0>$`, "tree NODE"},
			{"orphan", target.KindOrphan, "ill_orphan #Ref<", target.SeverityInfo, `MB; its owner <0\.\d+\.0> has no supervisor and no link, and there is no heir$`, "inspect NODE 0."},
			{"table", target.KindTableGrowth, "ill_table", "", `^\d+ MB, .* a second more; its owner is <0\.`, "ets NODE"},
			{"lone", target.KindAlone, "ill:lone/0", target.SeverityWarning, `^1200 processes with .* that nobody supervises or is linked to, such as <0\.`, "inspect NODE 0."},
			{"busy", target.KindRunQueue, "the node", "", `^\d+ processes wait for a scheduler, .*; the emulator used`, "ps NODE --sort reductions"},
		} {
			q.Deep = c.kind == target.KindAlone
			b.MustEval(t, "ill:start("+c.ill+")")
			var f target.Finding
			if c.severity != "" {
				f = r.ail(t, q, c.kind, c.subject, c.severity)
			} else {
				f = r.ail(t, q, c.kind, c.subject)
			}
			b.MustEval(t, "ill:stop()")
			assert.Regexp(t, c.evidence, f.Evidence)
			assert.True(t, strings.HasPrefix(f.Next, "debughost "+strings.ReplaceAll(c.nextSays, "NODE", b.Name)), f.Next)
		}
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

// An Elixir supervisor is asked as OTP's, and one that hangs costs a timeout.
func TestDiagnoseSupervisors(t *testing.T) {
	t.Parallel()
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		b := startIll(t, otp, nil)
		b.LoadModule(t, "Elixir.DynamicSupervisor", dynamic)
		b.MustEval(t, `[{ok, _} = 'Elixir.DynamicSupervisor':start(N) || N <- [ill_dynamic, ill_hangs]]`)
		b.MustEval(t, `begin spawn(fun() -> erlang:suspend_process(whereis(ill_hangs)), register(ill_done, self()), ill:sleeper() end), ok end`)
		b.Await(t, `is_pid(whereis(ill_done))`, "true")
		r := attach(t, nil, b)
		d := r.diagnoseOne(t, target.DiagnoseQuery{Window: 50 * time.Millisecond})
		assert.Regexp(t, `1 of \d+ supervisors did not answer in time`, fmt.Sprint(d.Skipped))
		found := findings(d, target.KindRestarts, "ill_dynamic <")
		require.Len(t, found, 1)
		assert.Regexp(t, `^2 restarts in the last 60 s(, 2 within 5 s, of which it survives 3)?; the last child started is {ill,child} <0\.\d+\.0>$`, found[0].Evidence)
		b.MustEval(t, `exit(whereis(ill_done), kill)`)
		b.Await(t, `element(2, process_info(whereis(ill_hangs), message_queue_len))`, "0")
	})
}

// What a diagnosis can collect is told, and only when asked.
func TestDiagnoseGarbage(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startIll(t, otp, nil, "garbage")
		b.Await(t, "catch process_info(whereis(ill_garbage), current_function)", "{current_function,{ill,sleeper,0}}")
		r := attach(t, nil, b)
		q := target.DiagnoseQuery{Window: 100 * time.Millisecond}
		f := r.ail(t, q, target.KindBinaries, "ill_garbage <")
		assert.NotContains(t, f.Evidence, "freed")
		q.GC = true
		f = r.ail(t, q, target.KindBinaries, "ill_garbage <")
		assert.Regexp(t, `; collecting its garbage freed \d\d MB`, f.Evidence)
		assert.Equal(t, "debughost inspect "+b.Name+" ill_garbage", f.Next)
		q.GC = false
		assert.Empty(t, findings(r.diagnoseOne(t, q), target.KindBinaries, ""))
	})
}

// A node near its limits, with a logger that does not keep up.
func TestDiagnoseFull(t *testing.T) {
	t.Parallel()
	for _, never := range []bool{false, true} {
		b := startIll(t, "", []string{"+P", "1024"}, "logger")
		b.MustEval(t, "[spawn(ill, lone, []) || _ <- lists:seq(1, 800)]")
		r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
		d := r.diagnoseOne(t, target.DiagnoseQuery{Window: 100 * time.Millisecond})
		full := findings(d, target.KindLimit, "processes")
		require.Len(t, full, 1)
		assert.Equal(t, target.SeverityWarning, full[0].Severity)
		assert.Regexp(t, `^8\d\d of at most 1024, 8\d %$`, full[0].Evidence)
		if never {
			assert.Contains(t, fmt.Sprint(d.Skipped), "without the helper")
			assert.Len(t, findings(d, target.KindMailbox, "logger_std_h_default <"), 1, "%+v", d)
			continue
		}
		logger := findings(d, target.KindLogger, "default <")
		require.Len(t, logger, 1, "%+v", d)
		assert.Equal(t, target.SeverityCritical, logger[0].Severity)
		assert.Equal(t, "1500 log events wait to be written; from 200 on they are dropped", logger[0].Evidence)
	}
}

// Files and sockets are one of a node's limits, that of its operating system's process.
func TestDiagnoseFiles(t *testing.T) {
	t.Parallel()
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Prefix: []string{"/bin/sh", "-c", `ulimit -n 512 && exec "$@"`, "sh"}})
		b.MustEval(t, `register(opener, spawn(fun() -> [{ok, _} = prim_file:open("/dev/null", [read]) || _ <- lists:seq(1, 400)], receive stop -> ok end end))`)
		b.Await(t, `process_info(whereis(opener), status)`, "{status,waiting}")
		r := attach(t, nil, b)
		near := findings(r.diagnoseOne(t, target.DiagnoseQuery{Window: 50 * time.Millisecond}), target.KindLimit, "file descriptors")
		require.Len(t, near, 1)
		assert.Regexp(t, `^4\d\d of at most 512, [89]\d %$`, near[0].Evidence)
		assert.Equal(t, "debughost ports "+b.Name, near[0].Next)
	})
}

// A frozen node keeps what others send to it waiting there.
func TestDiagnoseDistribution(t *testing.T) {
	t.Parallel()
	a, b := startIll(t, "", nil), startIll(t, "", nil)
	a.MustEval(t, "pong = begin erlang:set_cookie('"+b.Name+"', '"+b.Cookie+"'), net_adm:ping('"+b.Name+"') end")
	r := attach(t, nil, a)
	require.NoError(t, b.Freeze())
	defer b.Thaw()
	a.MustEval(t, "[spawn(fun() -> {nobody, '"+b.Name+"'} ! binary:copy(<<0>>, 20000000) end) || _ <- [1, 2, 3]]")
	f := r.ail(t, target.DiagnoseQuery{Window: 100 * time.Millisecond}, target.KindDist, b.Name)
	assert.Contains(t, f.Evidence, "wait to be sent to it")
	d := r.diagnoseOne(t, target.DiagnoseQuery{Window: 100 * time.Millisecond})
	assert.ElementsMatch(t, []string{b.Name, r.node.Name()}, d.State.Connected)
	assert.Contains(t, d.State.Known, b.Name)
}

// Of a collection that was under way when it began to listen, the emulator tells how
// long the node is up.
func TestDiagnoseMonitorBogus(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		if strings.Compare(otp, "28") >= 0 {
			t.Skip("who listens cannot be seen from outside")
		}
		b := startIll(t, otp, nil)
		r := attach(t, nil, b)
		done := make(chan target.Diagnosis)
		go func() {
			var got target.Diagnosis
			r.Diagnose(t.Context(), target.DiagnoseQuery{Window: 50 * time.Millisecond, Monitor: 3 * time.Second}, target.Answers[target.Diagnosis]{
				Answer: func(_ string, d target.Diagnosis) { got = d },
				Failed: func(target.NodeError) {},
			})
			done <- got
		}()
		b.Await(t, `is_tuple(erlang:system_monitor())`, "true")
		b.MustEval(t, `begin {L, _} = erlang:system_monitor(),
			L ! {monitor, whereis(kernel_sup), long_gc, [{timeout, 4000000}]}, timer:sleep(100),
			L ! {monitor, whereis(code_server), long_gc, [{timeout, 77}]} end`)
		d := <-done
		assert.Empty(t, findings(d, target.KindLongGC, "kernel_sup <"))
		require.Len(t, findings(d, target.KindLongGC, "code_server <"), 1)
		assert.Contains(t, findings(d, target.KindLongGC, "code_server <")[0].Evidence, "77 ms")
	})
}

// The system monitor goes back to whom it was taken from: after the time, when
// the caller gives up, and when the connection is lost.
func TestDiagnoseMonitor(t *testing.T) {
	t.Parallel()
	const sessions = `case code:ensure_loaded(trace) =/= ok andalso erlang:function_exported(trace, system, 3) of true -> length(trace:session_info(all)); false -> 1 end`
	const theirs = `erlang:system_monitor() =:= {whereis(sysmon), [{long_gc, 10000}]}`
	const ours = `{` + sessions + `, ` + theirs + `} =/= {1, true}`
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		b := startIll(t, otp, nil)
		b.MustEval(t, `begin register(sysmon, spawn(ill, sleeper, [])), erlang:system_monitor(whereis(sysmon), [{long_gc, 10000}]) end`)
		b.MustEval(t, `persistent_term:put(before, processes())`)
		b.MustEval(t, `register(ill_collector, spawn(ill, collector, [4000000]))`)
		r := attach(t, nil, b)
		q := target.DiagnoseQuery{Window: 50 * time.Millisecond, Monitor: time.Second}
		if d := r.diagnoseOne(t, q); strings.Compare(otp, "28") < 0 {
			assert.Contains(t, fmt.Sprint(d.Skipped), "sysmon has the system monitor; --force takes it")
			assert.Equal(t, "true", b.MustEval(t, theirs))
		}
		q.Force = true
		f := r.ail(t, q, target.KindLongGC, "ill_collector <")
		assert.Regexp(t, `^\d+ times? in 1s, the longest of \d+ ms; it runs ill:collector/1$`, f.Evidence)
		b.Await(t, ours, "false")
		d := r.diagnoseOne(t, q)
		if strings.Compare(otp, "28") < 0 {
			assert.Contains(t, fmt.Sprint(d.Skipped), "sysmon had the system monitor before, has it again")
		} else {
			assert.Empty(t, d.Skipped)
		}
		b.MustEval(t, `exit(whereis(ill_collector), kill)`)

		q.Monitor = 10 * time.Minute
		begin := func() (cancel func(), done chan []target.NodeError) {
			ctx, cancel := context.WithCancel(t.Context())
			done = make(chan []target.NodeError, 1)
			go func() {
				var failed []target.NodeError
				r.Diagnose(ctx, q, target.Answers[target.Diagnosis]{
					Answer: func(string, target.Diagnosis) {},
					Failed: func(f target.NodeError) { failed = append(failed, f) },
				})
				done <- failed
			}()
			b.Await(t, ours, "true")
			return cancel, done
		}
		cancel, done := begin()
		cancel()
		require.Len(t, <-done, 1)
		b.Await(t, ours, "false")

		cancel, done = begin()
		defer cancel()
		b.MustEval(t, `erlang:disconnect_node(hd(nodes(hidden)))`)
		require.Len(t, <-done, 1)
		b.Await(t, ours, "false")
		r.stop()
		b.Await(t, agents, unloaded)
		b.Await(t, `processes() -- [self() | persistent_term:get(before)]`, "[]")
	})
}

// A target that does not answer, or goes, costs its own answer.
func TestDiagnoseSilent(t *testing.T) {
	t.Parallel()
	well, frozen, gone := startIll(t, "", nil), startIll(t, "", nil), startIll(t, "", nil)
	r := attach(t, nil, well, frozen, gone)
	require.NoError(t, frozen.Freeze())
	defer frozen.Thaw()
	done := make(chan struct{})
	// The time is what a node that is well may need on a busy machine.
	q := target.DiagnoseQuery{Ask: target.Ask{Timeout: 10 * time.Second}, Window: 3 * time.Second}
	var all map[string]target.Diagnosis
	var failed []target.NodeError
	go func() {
		defer close(done)
		all, failed = r.diagnose(t, q)
	}()
	gone.Kill()
	<-done
	assert.Contains(t, all, well.Name)
	require.Len(t, failed, 2)
	for _, f := range failed {
		if f.Node == frozen.Name {
			assert.ErrorIs(t, f.Err, target.ErrTimeout)
		}
	}
}
