package plugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk/plugintest/badplugin"
)

// TestTheBundledPlugins runs discovery-epmd as it is installed, as a link to
// the file that holds all bundled plugins.
func TestTheBundledPlugins(t *testing.T) {
	epmd := erltest.StartFakeEPMD(t)
	epmd.Setenv(t)
	epmd.Set("shop", 1)
	h := newHarness(t)
	build := exec.Command("go", "build", "-o", filepath.Join(h.dir, "debughost-plugins"), "../../plugins")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, os.Symlink("debughost-plugins", filepath.Join(h.dir, "discovery-epmd")))
	h.apply(spec("local", "discovery-epmd", map[string]any{"host": "db1", "poll_interval": "50ms", "linger": "0s"}))
	h.awaitNodes("local", "shop@db1")
	epmd.Set("blog", 2)
	h.awaitAnswer("both", func(a answer) bool { return len(a.nodes) == 2 })
	epmd.Remove("shop")
	h.awaitNodes("local", "blog@db1")
	epmd.Close()
	h.awaitAnswer("EPMD is gone", func(a answer) bool { return a.err != nil })
	st := h.awaitStatus("local", Running)
	require.NoError(t, syscall.Kill(st.Pid, syscall.SIGKILL))
	h.awaitEvent(h.awaitEvent(0, events.PluginExited).Seq, events.PluginStarted)
	h.stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.answers {
		assert.NotNil(t, a.err, "while EPMD is down, what was found stays: %v", a.nodes)
	}
}

// TestEveryDefectCostsItsPluginOnly runs each of the SDK's bad plugins beside
// a good one.
func TestEveryDefectCostsItsPluginOnly(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	// What the host notices. The other defects do it no harm, or show only in
	// what it does not ask for.
	notices := map[string]events.Type{
		"silent": events.PluginFailed, "exit": events.PluginFailed, "chatter": events.PluginFailed,
		"version": events.PluginFailed, "name": events.PluginFailed, "kind": events.PluginFailed,
		"schema": events.PluginFailed, "deafmute": events.PluginFailed,
		"die": events.PluginExited, "flood": events.PluginExited,
		"hang": events.DiscoveryFailed, "garbage": events.DiscoveryFailed, "nothing": events.DiscoveryFailed,
		"oversize": events.DiscoveryFailed, "ends": events.DiscoveryFailed,
	}
	for name := range badplugin.Defects {
		defect, ok := strings.CutPrefix(name, "discovery-bad-")
		if !ok {
			continue // the host only starts them so far
		}
		t.Run(defect, func(t *testing.T) {
			h := newHarness(t, "discovery-test")
			require.NoError(t, os.Symlink(exe, filepath.Join(h.dir, name)))
			h.settings.StartTimeout, h.settings.MaxRestarts = 2*time.Second, 0
			h.settings.HealthInterval, h.settings.StopTimeout = 5*time.Millisecond, 200*time.Millisecond
			h.apply(spec("bad", name, nil), spec("good", "discovery-test", nodes("a@b")))
			h.awaitNodes("good", "a@b")
			want := events.PluginStarted
			if notice := notices[defect]; notice != "" {
				want = notice
			}
			for since := uint64(0); ; {
				e := h.awaitEvent(since, want)
				if since = e.Seq; e.Topology == "bad" {
					t.Log(e.Reason)
					break
				}
			}
			var pids []int
			for _, st := range h.Status() {
				if st.Pid != 0 {
					pids = append(pids, st.Pid)
				}
			}
			assert.NotEmpty(t, pids)
			assert.Equal(t, Running, h.awaitStatus("good", Running).State)
			h.stop()
			for _, pid := range pids {
				assert.False(t, alive(pid))
			}
		})
	}
}
