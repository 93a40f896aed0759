package plugin

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
)

func TestAPluginRunsAndStops(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.apply(spec("local", "discovery-test", nodes("shop@db1", "blog@db1")))
	h.awaitNodes("local", "shop@db1", "blog@db1")

	st := h.awaitStatus("local", Running)
	assert.Equal(t, "discovery-test", st.Name)
	assert.Equal(t, sdk.KindDiscovery, st.Kind)
	assert.Equal(t, "1.2.3", st.Version)
	assert.Equal(t, filepath.Join(h.dir, "discovery-test"), st.Path)
	assert.True(t, alive(st.Pid))
	assert.Zero(t, st.Restarts)
	started := h.awaitEvent(0, events.PluginStarted)
	assert.Equal(t, strconv.Itoa(st.Pid), started.Fields["os_pid"])
	assert.Equal(t, "local", started.Topology)

	client, description, err := h.Client("local")
	require.NoError(t, err)
	assert.Equal(t, "discovery-test", description.Name)
	assert.NoError(t, client.Ping(t.Context()))

	began := time.Now()
	h.stop()
	assert.Less(t, time.Since(began), 2*time.Second, "it ends when asked to")
	assert.False(t, alive(st.Pid))
	assert.Equal(t, Stopped, h.Status()[0].State)
	h.awaitEvent(started.Seq, events.PluginStopped)
	for _, e := range h.bus.History(events.Filter{}) {
		assert.NotContains(t, []events.Type{events.PluginExited, events.PluginFailed, events.DiscoveryFailed}, e.Type, e.Reason)
	}
}

func TestAKilledPluginIsStartedAgain(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.apply(spec("local", "discovery-test", nodes("shop@db1")))
	h.awaitNodes("local", "shop@db1")
	first := h.awaitStatus("local", Running)

	began := time.Now()
	require.NoError(t, syscall.Kill(first.Pid, syscall.SIGKILL))
	exited := h.awaitEvent(0, events.PluginExited)
	t.Logf("exit noticed after %s", time.Since(began))
	assert.Equal(t, "it ended with signal: killed", exited.Reason)
	h.awaitEvent(exited.Seq, events.PluginRestarting)
	h.awaitEvent(exited.Seq, events.PluginStarted)
	second := h.awaitStatus("local", Running)
	assert.NotEqual(t, first.Pid, second.Pid)
	assert.Equal(t, 1, second.Restarts)
	assert.Empty(t, second.Reason)

	h.stop() // nothing more will come
	h.mu.Lock()
	defer h.mu.Unlock()
	assert.Empty(t, h.answers, "what was found stays, and the same answer is not told twice")
}

func TestAHangingPluginIsReplaced(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.settings.HealthInterval, h.settings.HealthTimeout, h.settings.StopTimeout = 20*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond
	h.apply(spec("local", "discovery-test", nodes("shop@db1")))
	h.awaitNodes("local", "shop@db1")
	first := h.awaitStatus("local", Running)
	require.NoError(t, syscall.Kill(first.Pid, syscall.SIGSTOP))
	exited := h.awaitEvent(0, events.PluginExited)
	assert.Equal(t, "it hangs: no sign of life for 300ms", exited.Reason)
	h.awaitEvent(exited.Seq, events.PluginStarted)
	awaitGone(t, first.Pid)
}

func TestAFloodingPluginFails(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.settings.MaxRestarts = 1
	h.apply(spec("local", "discovery-test", map[string]any{"answer": "flood"}))
	failed := h.awaitEvent(0, events.PluginFailed)
	assert.Contains(t, failed.Reason, "given up after 1 restarts within 1m0s: it floods")
	st := h.awaitStatus("local", Failed)
	assert.Zero(t, st.Pid)
	assert.Contains(t, st.Reason, "it floods")
	h.mu.Lock()
	assert.LessOrEqual(t, len(h.answers), 2*(answerBurst+answerRate))
	h.mu.Unlock()
}

func TestAnswers(t *testing.T) {
	isError := func(text string) func(answer) bool {
		return func(a answer) bool { return a.err != nil && strings.Contains(a.err.Error(), text) }
	}
	t.Run("an error, then a list", func(t *testing.T) {
		h := newHarness(t, "discovery-test")
		h.apply(spec("local", "discovery-test", map[string]any{"error": "EPMD is down", "then": []string{"a@b"}}))
		a := h.awaitAnswer("the error", isError("EPMD is down"))
		assert.Equal(t, "try again", sdk.Hint(a.err))
		h.awaitNodes("local", "a@b")
		h.awaitAnswer("recovery", isError(errNone.Error()))
		failed := h.awaitEvent(0, events.DiscoveryFailed)
		assert.Contains(t, failed.Reason, "EPMD is down (try again)")
		h.awaitEvent(failed.Seq, events.DiscoveryRecovered)
	})
	t.Run("a list with an error", func(t *testing.T) {
		h := newHarness(t, "discovery-test")
		h.apply(spec("local", "discovery-test", map[string]any{"nodes": []string{"a@b"}, "error": "db2 is down"}))
		h.awaitNodes("local", "a@b")
		h.awaitAnswer("the error", isError("db2 is down"))
	})
	t.Run("a stream that ends is opened again", func(t *testing.T) {
		h := newHarness(t, "discovery-test")
		h.apply(spec("local", "discovery-test", map[string]any{"answer": "end"}))
		h.awaitAnswer("the error", isError("the lookup broke"))
		st := h.awaitStatus("local", Running)
		assert.Zero(t, st.Restarts, "the process is fine")
	})
	t.Run("an error in ever new words", func(t *testing.T) {
		h := newHarness(t, "discovery-test")
		h.apply(spec("local", "discovery-test", map[string]any{"answer": "quarrel", "then": []string{"a@b"}}))
		h.awaitNodes("local")
		h.awaitNodes("local", "a@b")
		n := 0
		for _, e := range h.bus.History(events.Filter{}) {
			if e.Type == events.DiscoveryFailed {
				n++
			}
		}
		assert.Equal(t, 1, n)
	})
	t.Run("silence", func(t *testing.T) {
		h := newHarness(t, "discovery-test")
		h.settings.StartTimeout = time.Second
		h.apply(spec("local", "discovery-test", map[string]any{"answer": "never"}))
		h.awaitAnswer("silence", isError("it has not answered for 1s"))
		h.awaitStatus("local", Running)
	})
	t.Run("too many nodes", func(t *testing.T) {
		h := newHarness(t, "discovery-test")
		h.apply(spec("local", "discovery-test", map[string]any{"count": maxNodes + 1}))
		h.awaitAnswer("the error", isError("it names 10001 nodes at once"))
	})
	t.Run("a message beyond the limit", func(t *testing.T) {
		h := newHarness(t, "discovery-test")
		h.apply(spec("local", "discovery-test", map[string]any{"answer": "huge"}))
		h.awaitAnswer("the error", isError("larger than max"))
		h.awaitStatus("local", Running)
	})
}

func TestNoisyPluginsWorkAllTheSame(t *testing.T) {
	for _, output := range []string{"log", "stdout", "stderr", "fd1", "fd2"} {
		t.Run(output, func(t *testing.T) {
			h := newHarness(t, "discovery-test")
			h.apply(spec("local", "discovery-test", map[string]any{"nodes": []string{"a@b"}, "output": output}))
			h.awaitNodes("local", "a@b")
			st := h.awaitStatus("local", Running)
			client, _, err := h.Client("local")
			require.NoError(t, err)
			for range 20 {
				require.NoError(t, client.Ping(t.Context()))
			}
			assert.True(t, alive(st.Pid))
			h.stop()
			assert.Less(t, len(h.logs.AllEntries()), 3*logBurst)
		})
	}
}

func TestPanicIsExplained(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.settings.MaxRestarts = 0
	h.apply(spec("local", "discovery-test", map[string]any{"panic": true}))
	failed := h.awaitEvent(0, events.PluginFailed)
	assert.Contains(t, failed.Reason, "it ended with exit status 2: panic: out of cheese")
}

func TestAStubbornPluginAndItsChildrenAreKilled(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.settings.StopTimeout = 100 * time.Millisecond
	pidFile := filepath.Join(h.dir, "child")
	h.apply(spec("local", "discovery-test", map[string]any{"nodes": []string{"a@b"}, "stubborn": true, "child": pidFile}))
	h.awaitNodes("local", "a@b")
	st := h.awaitStatus("local", Running)
	text, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	child, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	require.True(t, alive(child))
	began := time.Now()
	h.stop()
	assert.Less(t, time.Since(began), 2*time.Second)
	assert.False(t, alive(st.Pid))
	awaitGone(t, child)
}

func TestStoppingDoesNotWaitForAStart(t *testing.T) {
	for _, mode := range []string{"hang", "deaf"} {
		h := newHarness(t, "discovery-test")
		h.mode("discovery-test", mode)
		h.settings.StartTimeout = time.Hour
		h.apply(spec("local", "discovery-test", nil))
		h.awaitStatus("local", Starting)
		began := time.Now()
		h.stop()
		assert.Less(t, time.Since(began), 5*time.Second, mode)
	}
}

func TestPluginLogsReachTheLog(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.apply(spec("local", "discovery-test", map[string]any{"nodes": []string{"a@b"}, "output": "log"}))
	h.awaitNodes("local", "a@b")
	var found *logrus.Entry
	require.Eventually(t, func() bool {
		for _, e := range h.logs.AllEntries() {
			if e.Message == "shouting" {
				found = e
				return true
			}
		}
		return false
	}, patience, time.Millisecond)
	assert.Equal(t, logrus.WarnLevel, found.Level)
	assert.Equal(t, "discovery-test", found.Data["plugin"])
	assert.Equal(t, "local", found.Data["topology"])
	assert.Equal(t, "0", found.Data["i"])
}

// beHost runs a Manager until it is killed, and prints the plugin's pid.
func beHost(dir string) {
	found := make(chan struct{}, 1)
	m := New(Options{SocketDir: filepath.Join(dir, "k"), OnNodes: func(string, []sdk.Node) { found <- struct{}{} }})
	m.Apply(settings(dir), []Spec{spec("local", "discovery-test", nodes("a@b"))})
	go func() {
		<-found
		fmt.Println(m.Status()[0].Pid)
	}()
	_ = m.Run(context.Background())
}

func TestPluginsDieWithAHostThatIsKilled(t *testing.T) {
	h := newHarness(t, "discovery-test")
	exe, err := os.Executable()
	require.NoError(t, err)
	host := exec.Command(exe)
	host.Env = append(os.Environ(), "DEBUGHOST_TEST_HOST="+h.dir)
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, host.Start())
	t.Cleanup(func() { _ = host.Process.Kill(); _ = host.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.True(t, alive(pid))

	began := time.Now()
	require.NoError(t, host.Process.Kill())
	awaitGone(t, pid)
	t.Logf("plugin gone %s after its host", time.Since(began))

	// The next host finds nothing of it.
	left, err := filepath.Glob(filepath.Join(h.dir, "k", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, left, "a killed host leaves its socket")
	require.NoError(t, New(Options{SocketDir: filepath.Join(h.dir, "k")}).prepare())
	left, err = filepath.Glob(filepath.Join(h.dir, "k", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestRunNeedsASocketDirectory(t *testing.T) {
	assert.ErrorContains(t, New(Options{}).Run(t.Context()), "no socket directory")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	assert.ErrorContains(t, New(Options{SocketDir: file}).Run(t.Context()), "make socket directory")
}

func TestRestarts(t *testing.T) {
	c := config.Plugins{RestartMin: 100 * time.Millisecond, RestartMax: time.Second, MaxRestarts: 6, RestartWindow: time.Minute}
	var r restarts
	now := time.Unix(1000, 0)
	for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		pause, ok := r.next(now, c)
		assert.True(t, ok)
		assert.LessOrEqual(t, pause, want)
		assert.GreaterOrEqual(t, pause, want*3/4)
	}
	_, ok := r.next(now, c)
	assert.False(t, ok)
	// A quiet window forgives.
	pause, ok := r.next(now.Add(61*time.Second), c)
	assert.True(t, ok)
	assert.LessOrEqual(t, pause, c.RestartMin)
}

func TestSpecs(t *testing.T) {
	got := Specs([]config.Topology{
		{Name: "local", Strategy: "discovery-epmd", Finds: config.FindsTargets, Config: []byte("{}"), Checksum: "sha256:x"},
		{Name: "peers", Strategy: "discovery-epmd", Finds: config.FindsMembers, Config: []byte("{}")},
	})
	want := []Spec{
		{Topology: "local", Plugin: "discovery-epmd", Kind: sdk.KindDiscovery, Config: []byte("{}"), Checksum: "sha256:x", Self: sdk.Self{Finds: sdk.RoleTarget}},
		{Topology: "peers", Plugin: "discovery-epmd", Kind: sdk.KindDiscovery, Config: []byte("{}"), Self: sdk.Self{Finds: sdk.RoleMember}},
	}
	assert.Equal(t, want, got)
	with := WithSelf(got, func(strategy string) sdk.Self {
		return sdk.Self{Member: "m", Secrets: []sdk.Secret{sdk.NewSecret([]byte("of " + strategy))}}
	})
	assert.Equal(t, want, got, "the given ones stay")
	want[1].Self = sdk.Self{Member: "m", Finds: sdk.RoleMember, Secrets: []sdk.Secret{sdk.NewSecret([]byte("of discovery-epmd"))}}
	assert.Equal(t, want, with, "secrets are for those that find members")
}

// BenchmarkStart measures how long a plugin takes from its selection to its
// first answer.
func BenchmarkStart(b *testing.B) {
	dir, err := os.MkdirTemp("/tmp", "dh-")
	require.NoError(b, err)
	defer os.RemoveAll(dir)
	require.NoError(b, os.Symlink(binary, filepath.Join(dir, "discovery-test")))
	found := make(chan struct{}, 1)
	for b.Loop() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		m := New(Options{SocketDir: filepath.Join(dir, "s"), OnNodes: func(string, []sdk.Node) { found <- struct{}{} }})
		m.Apply(settings(dir), []Spec{spec("local", "discovery-test", nodes("a@b"))})
		go func() { defer close(done); _ = m.Run(ctx) }()
		<-found
		b.StopTimer()
		cancel()
		<-done
		b.StartTimer()
	}
}
