package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Children that go too far are stopped at their limit, and say why; one beside them
// notices nothing.
func TestChildrenAtTheirLimits(t *testing.T) {
	h := newHome(t, "", "")
	p := h.ping(t)
	bomb := word()
	for _, c := range []struct {
		id, script, state, reason string
		args                      []string
	}{
		{"eats", `x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done`, "exited", "uses more than 48 MB of memory", []string{"--memory", "48MB"}},
		{"forks", `bomb() { bomb | sleep ` + bomb + ` & }; bomb; while :; do sleep 1; done`, "exited", "has more than 30 processes", []string{"--processes", "30"}},
		{"fills", `while :; do i=$((i+1)); head -c 500000 /dev/zero > f$i; done`, "exited", "uses more than 8 MB of disk", []string{"--disk", "8MB"}},
		{"writes", `exec head -c 100000000 /dev/zero > one`, "exited", "writes a file of more than 4 MB, its limit of disk", []string{"--disk", "4MB"}},
		{"crashes", `exit 3`, "failed", "ended more than 3 times within 5s, the last time: exited with code 3", []string{"--restart", "permanent"}},
	} {
		t.Run(c.id, func(t *testing.T) {
			args := append([]string{"--restart", "temporary"}, c.args...)
			h.run(t, c.id, append(args, "--", "sh", "-c", c.script)...)
			got := h.await(t, c.id, c.state)
			require.Equal(t, c.reason, got.Reason)
			last := got.History[len(got.History)-1]
			require.Equal(t, "exited", got.History[2].What, got.what())
			require.NotEmpty(t, last.Reason)
			p.goesOn(t)
		})
	}
	require.Empty(t, processes(bomb))

	h.run(t, "absent", "--", "/no/such/program")
	require.Contains(t, h.await(t, "absent", "failed").Reason, "it cannot be started: call Sandbox.Create: create absent: run /no/such/program: no such file")

	h.run(t, "deaf", "--shutdown", "300ms", "--", "sh", "-c", `trap "" TERM; while :; do sleep 0.2; done`)
	h.await(t, "deaf", "running")
	h.Exit(t, 0, "child", "stop", "deaf", "--wait", "20s")
	deaf := h.await(t, "deaf", "stopped")
	stopped := deaf.History[len(deaf.History)-1]
	require.Equal(t, "stopped", stopped.What)
	require.Equal(t, "did not end within 300ms of SIGTERM and was killed", stopped.Reason)
	require.Equal(t, 9, stopped.Exit.Signal)

	p.goesOn(t)
	h.leavesNothing(t)
}

// A child that floods its log runs on; what is kept is bounded, and says what is
// missing.
func TestChildFloodsItsLog(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", "[sandbox.process]\nlog_size = 300000\nlog_rate = 50000\n")
	p := h.ping(t)
	h.run(t, "floods", "--", "sh", "-c", "yes the same again")
	h.await(t, "floods", "running")
	h.Eventually(t, func() error {
		out, _, err := h.Try("child", "logs", "floods")
		if err == nil {
			err = mentions(out, "are missing here: it prints more than 50 kB a second")
		}
		return err
	})
	p.goesOn(t)
	var total int64
	files, err := filepath.Glob(filepath.Join(h.Dir, "sandboxes", "*", "children", "floods", "log.*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			total += info.Size()
		}
	}
	require.Less(t, total, int64(400_000))
	require.Zero(t, h.await(t, "floods", "running").Restarts)
	h.leavesNothing(t)
}
