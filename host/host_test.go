package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/plugin"
	"github.com/debughost/debughost/host/store"
	"github.com/debughost/debughost/host/target"
)

// plugins is a directory with the bundled strategies.
var plugins string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "debughost-host")
	if err == nil {
		plugins = dir
		var out []byte
		out, err = exec.Command("go", "build", "-tags", "grpcnotrace", "-o", filepath.Join(dir, "discovery-epmd"), "../plugins/discovery-epmd").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("build discovery-epmd: %w\n%s", err, out)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// sharedLog is read while others write to it.
type sharedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fixture is a host in this process, with a configuration file that tests
// rewrite.
type fixture struct {
	*Host
	conf string
	log  *sharedLog
	stop func()
}

func start(t *testing.T, b *erltest.Beam, conf string) *fixture {
	t.Helper()
	b.EPMD.Setenv(t)
	f := &fixture{conf: filepath.Join(t.TempDir(), "config.toml"), log: &sharedLog{}}
	cookie := filepath.Join(t.TempDir(), "cookie")
	require.NoError(t, os.WriteFile(cookie, []byte(b.Cookie), 0o400))
	f.write(t, conf)
	data, err := os.MkdirTemp("", "dh")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(data) })
	log := logrus.New()
	log.SetOutput(f.log)
	f.Host, err = New(Options{
		Load: func() (*config.Config, error) {
			return config.Load(config.Sources{File: f.conf, Env: []string{
				"DEBUGHOST_PLUGINS_DIRS=" + plugins, "DEBUGHOST_TARGETS_COOKIE_FILE=" + cookie,
			}})
		},
		DataDir: data, Log: log,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) write(t *testing.T, conf string) {
	t.Helper()
	require.NoError(t, os.WriteFile(f.conf, []byte(conf), 0o600))
}

// await waits for an event of the type for which ok holds.
func (f *fixture) await(t *testing.T, typ events.Type, ok func(events.Event) bool) events.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for e := range f.Events().Subscribe(ctx, 0) {
		if e.Type == typ && (ok == nil || ok(e)) {
			return e
		}
	}
	t.Fatalf("no %s; events: %+v", typ, f.Events().History(events.Filter{}))
	return events.Event{}
}

type sink struct {
	rows   int
	failed []target.NodeError
}

func (s *sink) Rows(p []target.Process) error   { s.rows += len(p); return nil }
func (s *sink) Failed(e target.NodeError) error { s.failed = append(s.failed, e); return nil }

func TestHost(t *testing.T) {
	b := erltest.Start(t, erltest.Options{})
	f := start(t, b, "[member]\nname = \"m1\"\n[node]\nnames = \"long\"\n")
	f.await(t, events.TargetAttached, func(e events.Event) bool { return e.Node == b.Name })
	require.Equal(t, "m1", f.Member())
	require.Equal(t, filepath.Join(f.DataDir(), "api.sock"), f.Socket())

	infos := f.Targets()
	require.Len(t, infos, 1)
	require.Equal(t, target.Attached, infos[0].State)
	require.Equal(t, []string{"local"}, infos[0].Topologies)

	s := f.Status()
	require.Equal(t, "m1", s.Member)
	require.Regexp(t, `^debughost-[0-9a-f]{8}@.+\..+$`, s.Node)
	require.Equal(t, f.conf, s.ConfigFile)
	require.Empty(t, s.Warnings)
	require.Len(t, s.Topologies, 1)
	require.Equal(t, plugin.Running, s.Topologies[0].State)
	require.Equal(t, 1, s.Topologies[0].Nodes)
	require.NotZero(t, s.Topologies[0].Updated)
	require.Len(t, f.Plugins(), 1)

	var rows sink
	require.NoError(t, f.Processes(t.Context(), target.ProcessQuery{Limit: 3}, &rows))
	require.Equal(t, 3, rows.rows)
	d, err := f.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "init"})
	require.NoError(t, err)
	require.Equal(t, "init", d.RegisteredName)
	_, err = f.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: "init"})
	require.ErrorIs(t, err, target.ErrProtected)

	f.stop()
	b.Await(t, "nodes(hidden)", "[]")
	f.await(t, events.MemberStopping, nil)
	require.NotContains(t, f.log.String(), b.Cookie)
}

func TestReload(t *testing.T) {
	one := erltest.Start(t, erltest.Options{EPMD: erltest.StartEPMD(t)})
	two := erltest.Start(t, erltest.Options{EPMD: one.EPMD, Cookie: one.Cookie})
	f := start(t, one, "[targets]\nexclude = [\""+two.Name+"\"]\n")
	f.await(t, events.TargetAttached, func(e events.Event) bool { return e.Node == one.Name })

	// A topology that knows the node under its right name, beside the first.
	f.write(t, "[log]\nformat = \"json\"\n[topologies.list]\nstrategy = \"discovery-epmd\"\n[topologies.list.config]\nnodes = [\""+one.Name+"\"]\n")
	require.NoError(t, f.Reload(t.Context()))
	e := f.await(t, events.ConfigReloaded, nil)
	require.Equal(t, "list", e.Fields["added"])
	require.Equal(t, "local", e.Fields["removed"])
	require.Contains(t, e.Fields["changed"], "log.format")
	f.await(t, events.PluginStopped, nil)

	f.write(t, "[targets]\nmax_calls = 3\n[topologies.list]\nstrategy = \"discovery-epmd\"\n[topologies.list.config]\nnodes = [\""+one.Name+"\", \""+two.Name+"\"]\n")
	require.NoError(t, f.Reload(t.Context()))
	f.await(t, events.TargetAttached, func(e events.Event) bool { return e.Node == two.Name })
	e = f.await(t, events.ConfigReloaded, func(e events.Event) bool { return e.Fields["after_restart"] != "" })
	require.Equal(t, "targets.max_calls", e.Fields["after_restart"])

	f.write(t, "[targets]\nmax_calls = 3\nexclude = [\""+two.Name+"\"]\n[topologies.list]\nstrategy = \"discovery-epmd\"\n[topologies.list.config]\nnodes = [\""+one.Name+"\", \""+two.Name+"\"]\n")
	require.NoError(t, f.Reload(t.Context()))
	two.Await(t, "nodes(hidden)", "[]")
	require.Eventually(t, func() bool { return len(f.Targets()) == 1 }, 10*time.Second, time.Millisecond,
		"what is excluded is let go, once its connection has ended")
	require.Equal(t, one.Name, f.Targets()[0].Node)
	require.Equal(t, []string{"list"}, f.Targets()[0].Topologies, "whatever name it was found by first")

	f.write(t, "[targets]\nmax_calls = \"x\"\n")
	var problems *config.Problems
	require.ErrorAs(t, f.Reload(t.Context()), &problems)
	require.Contains(t, f.await(t, events.ConfigRejected, nil).Reason, "max_calls")
}

func TestDiscoveryError(t *testing.T) {
	epmd := erltest.StartEPMD(t)
	b := erltest.Start(t, erltest.Options{EPMD: epmd})
	f := start(t, b, "")
	f.await(t, events.TargetAttached, nil)
	epmd.Kill()
	f.await(t, events.DiscoveryFailed, nil)
	reason := f.Status().Topologies[0].Reason
	require.NotEmpty(t, reason)
	require.Equal(t, 1, f.Status().Topologies[0].Nodes, "the last answer stays")
	require.NoError(t, epmd.Restart())
	f.await(t, events.DiscoveryRecovered, nil)
	require.Empty(t, f.Status().Topologies[0].Reason)
}

func TestNewFails(t *testing.T) {
	broken := errors.New("broken")
	_, err := New(Options{Load: func() (*config.Config, error) { return nil, broken }, Log: logrus.New()})
	require.ErrorIs(t, err, broken)

	load := func() (*config.Config, error) { return config.Load(config.Sources{Env: []string{}}) }
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = New(Options{Load: load, DataDir: file, Log: logrus.New()})
	require.Error(t, err)

	dir := filepath.Join(t.TempDir(), "data")
	h, err := New(Options{Load: load, DataDir: dir, Log: logrus.New()})
	require.NoError(t, err)
	_, err = New(Options{Load: load, DataDir: dir, Log: logrus.New()})
	var inUse *store.InUseError
	require.ErrorAs(t, err, &inUse)
	require.NoError(t, h.Close())
}

func TestSocketAsConfigured(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "x.sock")
	h, err := New(Options{
		Load: func() (*config.Config, error) {
			return config.Load(config.Sources{Env: []string{"DEBUGHOST_API_SOCKET=" + socket, "DEBUGHOST_NODE_NAME=debughost-x@here"}})
		},
		DataDir: filepath.Join(t.TempDir(), "data"), Log: logrus.New(),
	})
	require.NoError(t, err)
	require.Equal(t, socket, h.Socket())
	require.Equal(t, "debughost-x@here", h.Status().Node)
	require.NoError(t, h.Close())
}

// TestUnwritableDataDir has a data directory that cannot even be made: the
// socket is elsewhere, and the status says where.
func TestUnwritableDataDir(t *testing.T) {
	h, err := New(Options{
		Load:    func() (*config.Config, error) { return config.Load(config.Sources{Env: []string{}}) },
		DataDir: "/proc/debughost", Log: logrus.New(),
	})
	require.NoError(t, err)
	require.Equal(t, "/proc/debughost", h.DataDir())
	require.NotEqual(t, h.DataDir(), filepath.Dir(h.Socket()))
	require.DirExists(t, filepath.Dir(h.Socket()))
	require.Contains(t, strings.Join(h.Status().Warnings, "\n"), "--addr "+h.Socket())
	require.NoError(t, h.Close())
	require.NoDirExists(t, filepath.Dir(h.Socket()))
}

func TestNodeName(t *testing.T) {
	for _, c := range []struct{ host, names, want string }{
		{"db1", "auto", "debughost-1f@db1"},
		{"db1.example.org", "auto", "debughost-1f@db1.example.org"},
		{"db1.example.org", "short", "debughost-1f@db1"},
		{"db1.example.org", "long", "debughost-1f@db1.example.org"},
		{"db1", "long", "debughost-1f@127.0.0.1"},
	} {
		require.Equal(t, "own@name", nodeName("own@name", c.host, c.names))
		require.Equal(t, c.want, nodeName("debughost-1f", c.host, c.names))
	}
}
