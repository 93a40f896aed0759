package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest/badplugin"
)

// binary is testdata/discovery-test, built.
var binary string

// TestMain lets the test binary be one of the SDK's bad plugins, or the host
// that is killed.
func TestMain(m *testing.M) {
	if badplugin.Main(os.Args[0]) {
		return
	}
	if dir := os.Getenv("DEBUGHOST_TEST_HOST"); dir != "" {
		beHost(dir)
		return
	}
	dir, err := os.MkdirTemp("", "host-plugin-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "discovery-test")
	build := exec.Command("go", "build", "-o", binary, "./testdata/discovery-test")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait of a test.
const patience = 20 * time.Second

func settings(dirs ...string) config.Plugins {
	return config.Plugins{
		Dirs: dirs, StartTimeout: 10 * time.Second,
		HealthInterval: time.Second, HealthTimeout: 5 * time.Second, StopTimeout: 3 * time.Second,
		RestartMin: 10 * time.Millisecond, RestartMax: 50 * time.Millisecond,
		MaxRestarts: 3, RestartWindow: time.Minute,
	}
}

// answer is a call of a callback.
type answer struct {
	topology string
	nodes    []string
	err      error
	removed  bool
}

// harness is a Manager in a test.
type harness struct {
	*Manager
	t        *testing.T
	dir      string // where its plugins are
	settings config.Plugins
	bus      *events.Bus
	logs     *logtest.Hook
	stop     func()

	mu      sync.Mutex
	answers []answer
	woken   chan struct{}
}

// newHarness runs a Manager whose plugins are the names given, each a link to
// the test plugin. Its processes are gone when the test is over.
func newHarness(t *testing.T, plugins ...string) *harness {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dh-") // t.TempDir is too long for sockets
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &harness{t: t, dir: dir, settings: settings(dir), bus: events.New(events.Options{}), woken: make(chan struct{}, 1)}
	for _, name := range plugins {
		require.NoError(t, os.Symlink(binary, filepath.Join(dir, name)))
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.TraceLevel)
	h.logs = logtest.NewLocal(log)
	h.Manager = New(Options{
		SocketDir: filepath.Join(dir, "s"), Log: log, Events: h.bus,
		OnNodes: func(topology string, nodes []sdk.Node) {
			names := []string{}
			for _, n := range nodes {
				names = append(names, n.Name)
			}
			h.note(answer{topology: topology, nodes: names})
		},
		OnDiscoveryError: func(topology string, err error) {
			if err == nil {
				err = errNone
			}
			h.note(answer{topology: topology, err: err})
		},
		OnRemoved: func(topology string) { h.note(answer{topology: topology, removed: true}) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			assert.NoError(t, err)
		case <-time.After(patience):
			t.Error("the manager does not stop")
		}
		left, _ := filepath.Glob(filepath.Join(dir, "s", "*"))
		assert.Empty(t, left, "sockets are left")
	})
	t.Cleanup(h.stop)
	return h
}

var errNone = errors.New("no error any more")

func (h *harness) note(a answer) {
	h.mu.Lock()
	h.answers = append(h.answers, a)
	h.mu.Unlock()
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

// mode decides what a plugin does before it serves.
func (h *harness) mode(plugin, mode string) {
	require.NoError(h.t, os.WriteFile(filepath.Join(h.dir, plugin+".mode"), []byte(mode), 0o600))
}

func spec(topology, plugin string, cfg map[string]any) Spec {
	if cfg == nil {
		cfg = map[string]any{}
	}
	section, err := json.Marshal(cfg)
	if err != nil {
		panic(err)
	}
	return Spec{Topology: topology, Plugin: plugin, Kind: sdk.KindDiscovery, Config: section}
}

func nodes(names ...string) map[string]any { return map[string]any{"nodes": names} }

func (h *harness) apply(specs ...Spec) { h.Apply(h.settings, specs) }

// awaitAnswer waits for a callback that fits.
func (h *harness) awaitAnswer(what string, fits func(answer) bool) answer {
	h.t.Helper()
	deadline := time.After(patience)
	for {
		h.mu.Lock()
		for n, a := range h.answers {
			if fits(a) {
				h.answers = h.answers[n+1:]
				h.mu.Unlock()
				return a
			}
		}
		h.mu.Unlock()
		select {
		case <-h.woken:
		case <-deadline:
			h.t.Fatalf("no answer: %s\nevents: %s\nstatus: %+v", what, h.history(), h.Status())
		}
	}
}

func (h *harness) awaitNodes(topology string, names ...string) {
	h.t.Helper()
	h.awaitAnswer(fmt.Sprint(topology, names), func(a answer) bool {
		return a.topology == topology && a.err == nil && !a.removed && strings.Join(a.nodes, " ") == strings.Join(names, " ")
	})
}

// awaitEvent waits for an event of a type after the one numbered since.
func (h *harness) awaitEvent(since uint64, want events.Type) events.Event {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for e := range h.bus.Subscribe(ctx, since) {
		if e.Type == want {
			return e
		}
	}
	h.t.Fatalf("no event %s\nevents: %s\nstatus: %+v", want, h.history(), h.Status())
	return events.Event{}
}

// awaitStatus waits until the topology's only plugin is in a state.
func (h *harness) awaitStatus(topology string, want State) Status {
	h.t.Helper()
	var last []Status
	require.Eventuallyf(h.t, func() bool {
		last = nil
		for _, st := range h.Status() {
			if st.Topology == topology {
				last = append(last, st)
			}
		}
		return len(last) == 1 && last[0].State == want
	}, patience, 2*time.Millisecond, "topology %s does not become %s", topology, want)
	return last[0]
}

func (h *harness) history() string {
	var b strings.Builder
	for _, e := range h.bus.History(events.Filter{}) {
		fmt.Fprintf(&b, "\n%d %s %s/%s %s %v", e.Seq, e.Type, e.Topology, e.Plugin, e.Reason, e.Fields)
	}
	return b.String()
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	if pid <= 0 || syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	require.Positive(t, pid)
	require.Eventually(t, func() bool { return !alive(pid) }, patience, time.Millisecond, "process %d is still there", pid)
}
