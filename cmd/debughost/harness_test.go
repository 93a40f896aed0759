package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	// What the user has set must not decide a test.
	for _, name := range []string{"DEBUGHOST_ADDR", "DEBUGHOST_DATA_DIR", "DEBUGHOST_CONFIG", "NO_COLOR", "COLUMNS"} {
		os.Unsetenv(name)
	}
	goleak.VerifyTestMain(m)
}

// noon is when every test happens.
var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// member is a control server with an engine made of a test's answers.
type member struct {
	addr string
	bus  *events.Bus
	now  func() time.Time

	targets []target.Info
	rows    []target.Process
	failed  []target.NodeError
	whole   error // of the whole question
	detail  target.ProcessDetail
	killed  target.KillResult
	acted   error // of inspect, kill and reload
	status  control.Status
	plugins []control.Plugin
	options func(*control.Options) // of the server; may be nil

	mu    sync.Mutex
	asked []any // the queries that came in
}

func (m *member) note(q any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, q)
}

// last is the latest query.
func (m *member) last() any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.asked) == 0 {
		return nil
	}
	return m.asked[len(m.asked)-1]
}

func (m *member) Targets() []target.Info { return m.targets }

func (m *member) Processes(_ context.Context, q target.ProcessQuery, s target.Sink) error {
	m.note(q)
	if m.whole != nil {
		return m.whole
	}
	for _, f := range m.failed {
		if err := s.Failed(f); err != nil {
			return err
		}
	}
	return s.Rows(m.rows)
}

func (m *member) Inspect(_ context.Context, q target.InspectQuery) (target.ProcessDetail, error) {
	m.note(q)
	return m.detail, m.acted
}

func (m *member) Kill(_ context.Context, q target.KillQuery) (target.KillResult, error) {
	m.note(q)
	return m.killed, m.acted
}

func (m *member) Status() control.Status       { return m.status }
func (m *member) Plugins() []control.Plugin    { return m.plugins }
func (m *member) Reload(context.Context) error { m.note("reload"); return m.acted }
func (m *member) Events() *events.Bus          { return m.bus }

// serve starts m; it is stopped at the end of the test.
func serve(t *testing.T, m *member) *member {
	t.Helper()
	dir, err := os.MkdirTemp("", "dh")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m.addr = filepath.Join(dir, "api.sock")
	m.now = func() time.Time { return noon }
	m.bus = events.New(events.Options{Member: "m1", Now: func() time.Time { return m.now() }})
	o := control.Options{Socket: m.addr, Version: thisVersion()}
	if m.options != nil {
		m.options(&o)
	}
	s := control.NewServer(m, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatalf("server did not start: %v", err)
	}
	return m
}

// result is what a command did.
type result struct {
	code     int
	out, err string
}

// do runs a command against m.
func (m *member) do(args ...string) result {
	return command(append([]string{"--addr", m.addr}, args...)...)
}

func command(args ...string) result { return commandWith(func(*app) {}, args...) }

// commandWith lets a test change the app before it runs.
func commandWith(change func(*app), args ...string) result {
	var out, err bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &err)
	a.now = func() time.Time { return noon }
	change(a)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	code := a.run(ctx, args)
	return result{code, out.String(), err.String()}
}

// golden compares everything that a command did with a file.
func golden(t *testing.T, name string, r result) {
	t.Helper()
	got := fmt.Sprintf("%s--- stderr\n%s--- exit %d\n", r.out, r.err, r.code)
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

// shop is a member with something of everything.
func shop(t *testing.T) *member {
	return serve(t, &member{
		targets: []target.Info{
			{Node: "shop@db1", State: target.Attached, OTPRelease: "27", Owner: "m1", Since: noon.Add(-90 * time.Second), Topologies: []string{"local"}},
			{Node: "cart@db2", State: target.Refused, Reason: "wrong cookie", Hint: "set [targets] cookie_file", Owner: "m1", Since: noon.Add(-49 * time.Hour)},
			{Node: "mail@db2", State: target.Refused, Reason: "wrong cookie", Hint: "set [targets] cookie_file", Owner: "m1"},
		},
		rows: []target.Process{
			{
				Node: "shop@db1", Pid: "<0.123.0>", RegisteredName: "Elixir.Shop.Orders", Memory: 48_213_008, Reductions: 120_345,
				MessageQueueLen: 182_311, CurrentFunction: "Elixir.Shop.Orders:handle_cast/2", InitialCall: "Elixir.Shop.Orders:init/1", Status: "running",
			},
			{
				Node: "shop@db1", Pid: "<0.50.0>", RegisteredName: "code_server", Memory: 831_328, Reductions: 187_414,
				CurrentFunction: "code_server:loop/1", InitialCall: "erlang:apply/2", Status: "waiting",
			},
			{
				Node: "shop@db1", Pid: "<0.9.0>", Memory: 900, Reductions: 1, MessageQueueLen: 2,
				CurrentFunction: "evil\x1b[2J:\u202eloop/1", InitialCall: "a,b:\"c\"/0", Status: "garbage_collecting",
			},
		},
		failed: []target.NodeError{
			{Node: "mail@db2", Err: hinted("mail@db2 is not attached (refused: wrong cookie)", "set [targets] cookie_file")},
			{Node: "cart@db2", Err: hinted("no answer in time", "set [targets] cookie_file")},
		},
		status: control.Status{
			Member: "m1", Node: "debughost-1a2b3c4d@db1", Started: noon.Add(-3*time.Hour - 2*time.Minute), DataDir: "/var/lib/debughost",
			Topologies: []control.Topology{
				{Name: "local", Strategy: "discovery-epmd", State: "running", Nodes: 3, Updated: noon.Add(-2 * time.Second)},
				{Name: "prod", Strategy: "discovery-x", State: "failing", Reason: "EPMD of db9: no answer"},
			},
			Warnings: []string{"the data directory is read-only"},
		},
		plugins: []control.Plugin{
			{Name: "discovery-epmd", Kind: "discovery", State: "running", Version: "v0.1.0", OSPid: 4711, Since: noon.Add(-time.Hour)},
			{Name: "discovery-x", Kind: "discovery", State: "failed", Reason: "exit status 1, five times", Restarts: 5},
		},
	})
}

func hinted(text, hint string) error { return &target.HintError{Err: errors.New(text), Hint: hint} }
