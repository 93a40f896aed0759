package target_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// ends is what monitors announced.
type ends struct {
	mu  sync.Mutex
	all []string
}

func (e *ends) down(pid string) func(string) {
	return func(reason string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, pid+" "+reason)
	}
}

func (e *ends) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.all...)
}

func (e *ends) await(t *testing.T, want ...string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(e.list()) >= len(want) }, 60*time.Second, 5*time.Millisecond, "want %v", want)
	require.ElementsMatch(t, want, e.list())
}

// spawn starts a process that ends with the term that it is sent.
func spawn(t *testing.T, b *erltest.Beam) string {
	t.Helper()
	return strings.Trim(b.MustEval(t, `pid_to_list(spawn(fun() -> receive {stop, R} -> exit(R) end end))`), `"`)
}

func stop(t *testing.T, b *erltest.Beam, pid, reason string) {
	t.Helper()
	b.MustEval(t, fmt.Sprintf(`list_to_pid("%s") ! {stop, %s}, ok`, pid, reason))
}

func TestMonitorPid(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp})
		r := attach(t, nil, b)
		creation := r.Targets()[0].Creation
		var e ends
		one, two, three, four := spawn(t, b), spawn(t, b), spawn(t, b), spawn(t, b)
		cancels := map[string]func(){}
		for _, pid := range []string{one, two, three, four} {
			cancel, err := r.MonitorPid(t.Context(), b.Name, pid, creation, e.down(pid))
			require.NoError(t, err)
			cancels[pid] = cancel
		}
		stop(t, b, one, "{shutdown, done}")
		e.await(t, one+" {shutdown,done}")
		stop(t, b, two, "noconnection") // its own reason, the connection is up
		e.await(t, one+" {shutdown,done}", two+" noproc")

		cancels[three]()
		stop(t, b, three, "kill")
		_, err := r.MonitorPid(t.Context(), b.Name, three, 0, e.down(three))
		if err == nil { // it has not got to it yet
			b.Await(t, fmt.Sprintf(`is_process_alive(list_to_pid("%s"))`, three), "false")
		}
		b.Await(t, fmt.Sprintf(`is_process_alive(list_to_pid("%s"))`, three), "false")
		_, err = r.MonitorPid(t.Context(), b.Name, three, 0, e.down(three))
		require.ErrorIs(t, err, target.ErrNoProcess)
		_, err = r.MonitorPid(t.Context(), b.Name, four, creation+1, e.down(four))
		require.ErrorIs(t, err, target.ErrNoProcess)
		_, err = r.MonitorPid(t.Context(), b.Name, "nonsense", 0, e.down(four))
		require.ErrorIs(t, err, target.ErrBadQuery)
		_, err = r.MonitorPid(t.Context(), "no@such", four, 0, e.down(four))
		require.ErrorIs(t, err, target.ErrNoTarget)

		b.Kill()
		r.SetFound("test", nil) // gone for good
		require.Eventually(t, func() bool { return strings.Contains(strings.Join(e.list(), ";"), four+" the node is gone") }, 60*time.Second, 5*time.Millisecond)
		_, err = r.MonitorPid(t.Context(), b.Name, four, 0, e.down(four))
		require.ErrorIs(t, err, target.ErrNotAttached)
	})
}

// TestMonitorOutlivesConnection has the connection end and come again: with the
// same node, and with one that has restarted.
func TestMonitorOutlivesConnection(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	r := attach(t, nil, b)
	var e ends
	one, two, three := spawn(t, b), spawn(t, b), spawn(t, b)
	for _, pid := range []string{one, two, three} {
		_, err := r.MonitorPid(t.Context(), b.Name, pid, 0, e.down(pid))
		require.NoError(t, err)
	}
	was := r.node.Peer(b.Name)
	b.MustEval(t, fmt.Sprintf(`exit(list_to_pid("%s"), kill), [erlang:disconnect_node(N) || N <- nodes(hidden)], ok`, one))
	<-was.Done()
	require.Eventually(t, func() bool { p := r.node.Peer(b.Name); return p != nil && p != was }, 30*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool { return len(e.list()) == 1 }, 30*time.Second, 5*time.Millisecond)
	require.Contains(t, []string{one + " noproc", one + " killed"}, e.list()[0])
	stop(t, b, two, "bye")
	require.Eventually(t, func() bool { return len(e.list()) == 2 }, 30*time.Second, 5*time.Millisecond)
	require.Contains(t, []string{two + " bye", two + " noproc"}, e.list()[1])

	b.Kill()
	require.NoError(t, b.Restart(t.Context()))
	r.SetFound("test", found(t, b))
	require.Eventually(t, func() bool { return len(e.list()) == 3 }, 30*time.Second, 5*time.Millisecond)
	require.Contains(t, []string{three + " the node has restarted", three + " the node is gone"}, e.list()[2])
}

// TestMonitorHandedOver says nothing to the monitors of a target that is another
// member's now.
func TestMonitorHandedOver(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	o := newOwners(b.Name)
	r := newRig(t, func(c *target.Config) { cookies(b)(c); o.use(c) })
	r.SetFound("test", found(t, b))
	r.await(t, b.Name, target.Attached)
	var e ends
	one := spawn(t, b)
	_, err := r.MonitorPid(t.Context(), b.Name, one, 0, e.down(one))
	require.NoError(t, err)
	o.set(b.Name, false)
	r.Recheck()
	b.Await(t, "nodes(hidden)", "[]")
	o.set(b.Name, true)
	r.Recheck()
	require.Eventually(t, func() bool { return r.Targets()[0].State == target.Attached }, 30*time.Second, 5*time.Millisecond)
	require.Empty(t, e.list())
	stop(t, b, one, "done")
	require.Eventually(t, func() bool { return len(e.list()) == 1 }, 30*time.Second, 5*time.Millisecond)
	require.Contains(t, []string{one + " done", one + " noproc"}, e.list()[0], "noproc, if it ended before it was monitored again")
}

func TestResolvePid(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, nil, b)
	want := strings.Trim(b.MustEval(t, `pid_to_list(whereis(init))`), `"`)
	for _, text := range []string{"init", want, "#PID" + want} {
		pid, creation, err := r.ResolvePid(t.Context(), b.Name, text)
		require.NoError(t, err, text)
		require.Equal(t, want, pid)
		require.Equal(t, r.Targets()[0].Creation, creation)
	}
	_, _, err := r.ResolvePid(t.Context(), b.Name, "nobody_has_this_name")
	require.ErrorIs(t, err, target.ErrNoProcess)
	_, _, err = r.ResolvePid(t.Context(), "no@such", "init")
	require.ErrorIs(t, err, target.ErrNoTarget)
}
