package plugin

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/events"
)

func TestWhatAPluginMayDoBeforeItServes(t *testing.T) {
	for mode, tc := range map[string]struct {
		want  string
		fatal bool // no second attempt
	}{
		"exit":      {"it ended with exit status 3: no licence found", false},
		"garbage":   {`it is no plugin, for it printed "\x00\ufffdgarbage`, false},
		"text":      {`it is no plugin, for it printed "hello world"`, false},
		"hang":      {"it was not ready within 1s", false},
		"deaf":      {"it was not ready within 1s", false},
		"version":   {"it speaks version 99 of the plugin contract, and this debughost speaks 1", true},
		"core":      {"incompatible core API version", false},
		"tcp":       {"it listens on tcp 127.0.0.1:1 and not on a Unix socket", false},
		"netrpc":    {"unsupported plugin protocol", false},
		"liar":      {"it says that it is discovery-liar", true},
		"placement": {"it ended with exit status 1", false},
	} {
		t.Run(mode, func(t *testing.T) {
			h := newHarness(t, "discovery-test")
			h.mode("discovery-test", mode)
			h.settings.StartTimeout, h.settings.MaxRestarts = time.Second, 1
			h.apply(spec("local", "discovery-test", nil))
			failed := h.awaitEvent(0, events.PluginFailed)
			assert.Contains(t, strings.ReplaceAll(failed.Reason, `\xff`, `\ufffd`), tc.want)
			assert.Less(t, len(failed.Reason), 1000)
			assert.NotContains(t, failed.Reason, "signal: killed", "that was us")
			restarted := false
			for _, e := range h.bus.History(events.Filter{}) {
				restarted = restarted || e.Type == events.PluginRestarting
				assert.NotEqual(t, events.PluginExited, e.Type, "it never worked")
			}
			assert.Equal(t, !tc.fatal, restarted)
		})
	}
}

func TestFilesThatAreNotRun(t *testing.T) {
	h := newHarness(t)
	put := func(dir, name string, mode os.FileMode) {
		path := filepath.Join(h.dir, dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("no program"), 0o600))
		require.NoError(t, os.Chmod(path, mode))
	}
	put("", "discovery-plain", 0o644)
	put("", "discovery-open", 0o777)
	put("", "discovery-text", 0o755)
	put("loose", "discovery-loose", 0o755)
	require.NoError(t, os.Chmod(filepath.Join(h.dir, "loose"), 0o777))
	require.NoError(t, os.Symlink(filepath.Join(h.dir, "loose", "discovery-loose"), filepath.Join(h.dir, "discovery-link")))
	require.NoError(t, os.Mkdir(filepath.Join(h.dir, "discovery-dir"), 0o755))
	for name, want := range map[string]string{
		"discovery-absent": "it is in none of " + h.dir,
		"discovery-plain":  "is not executable",
		"discovery-open":   "lets everybody change it",
		"discovery-link":   "lets everybody replace programs there",
		"discovery-dir":    "is not a regular file",
		"../evil":          "not a plain name",
		"discovery-text":   "exec format error",
	} {
		since := h.bus.Last()
		h.settings.MaxRestarts = 0
		h.apply(spec("local", name, nil))
		failed := h.awaitEvent(since, events.PluginFailed)
		assert.Contains(t, failed.Reason, want, name)
	}
}

func TestChecksum(t *testing.T) {
	h := newHarness(t, "discovery-test")
	content, err := os.ReadFile(binary)
	require.NoError(t, err)
	good := spec("local", "discovery-test", nodes("a@b"))
	good.Checksum = fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	bad := good
	bad.Checksum = "sha256:" + strings.Repeat("00", 32)

	h.apply(bad)
	failed := h.awaitEvent(0, events.PluginFailed)
	assert.Contains(t, failed.Reason, "its checksum is "+good.Checksum)
	h.apply(good)
	h.awaitNodes("local", "a@b")
	// It is checked at every start.
	st := h.awaitStatus("local", Running)
	require.NoError(t, os.Remove(filepath.Join(h.dir, "discovery-test")))
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "discovery-test"), append(content, 0), 0o755))
	require.NoError(t, syscall.Kill(st.Pid, syscall.SIGKILL))
	failed = h.awaitEvent(failed.Seq, events.PluginFailed)
	assert.Contains(t, failed.Reason, "tampered")
}

func TestAPluginThatIsMissingForAMomentIsTriedAgain(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.settings.MaxRestarts, h.settings.RestartMax = 1000, 10*time.Millisecond
	h.apply(spec("local", "discovery-test", nodes("a@b")))
	h.awaitNodes("local", "a@b")
	st := h.awaitStatus("local", Running)
	path := filepath.Join(h.dir, "discovery-test")
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, syscall.Kill(st.Pid, syscall.SIGKILL))
	for since := uint64(0); ; {
		e := h.awaitEvent(since, events.PluginRestarting)
		if since = e.Seq; strings.Contains(e.Reason, "it is in none of") {
			break
		}
	}
	require.NoError(t, os.Rename(path+".old", path))
	h.awaitStatus("local", Running)
}

func TestARefusedConfigFailsWithAllItsProblems(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.apply(spec("local", "discovery-test", map[string]any{"nodes": "x", "wrong": 1}))
	failed := h.awaitEvent(0, events.PluginFailed)
	assert.Contains(t, failed.Reason, "topologies.local.config.nodes: ")
	assert.Contains(t, failed.Reason, "topologies.local.config.wrong: ")
	// A reload with a better one starts it.
	h.apply(spec("local", "discovery-test", nodes("a@b")))
	h.awaitNodes("local", "a@b")
}

func TestAFailedPluginIsStartedByAReload(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.mode("discovery-test", "exit")
	h.settings.MaxRestarts = 0
	same := spec("local", "discovery-test", nodes("a@b"))
	h.apply(same)
	h.awaitEvent(0, events.PluginFailed)
	_, _, err := h.Client("local")
	assert.ErrorContains(t, err, "failed")
	h.mode("discovery-test", "")
	h.apply(same)
	h.awaitNodes("local", "a@b")
}

func TestAPluginInheritsNothingSecret(t *testing.T) {
	t.Setenv("ERL_FLAGS", "-setcookie hunter2")
	t.Setenv("RELEASE_COOKIE", "hunter2")
	t.Setenv("ERL_EPMD_PORT", "4370")
	h := newHarness(t, "discovery-test")
	file := filepath.Join(h.dir, "env")
	h.apply(spec("local", "discovery-test", map[string]any{"nodes": []string{"a@b"}, "env_file": file}))
	h.awaitNodes("local", "a@b")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Contains(t, string(text), "stdin 0 EOF\n")
	assert.Contains(t, string(text), "ERL_EPMD_PORT=4370\n")
	assert.NotContains(t, string(text), "hunter2")
}
