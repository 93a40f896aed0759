package control

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine answers with what a test puts in; a nil func is not expected.
type fakeEngine struct {
	targets   []target.Info
	processes func(context.Context, target.ProcessQuery, target.Sink) error
	inspect   func(context.Context, target.InspectQuery) (target.ProcessDetail, error)
	kill      func(context.Context, target.KillQuery) (target.KillResult, error)
	status    Status
	plugins   []Plugin
	reload    func(context.Context) error
	bus       *events.Bus
}

var _ Engine = (*fakeEngine)(nil)

func (f *fakeEngine) Targets() []target.Info { return f.targets }
func (f *fakeEngine) Processes(ctx context.Context, q target.ProcessQuery, s target.Sink) error {
	return f.processes(ctx, q, s)
}
func (f *fakeEngine) Inspect(ctx context.Context, q target.InspectQuery) (target.ProcessDetail, error) {
	return f.inspect(ctx, q)
}
func (f *fakeEngine) Kill(ctx context.Context, q target.KillQuery) (target.KillResult, error) {
	return f.kill(ctx, q)
}
func (f *fakeEngine) Status() Status                   { return f.status }
func (f *fakeEngine) Plugins() []Plugin                { return f.plugins }
func (f *fakeEngine) Reload(ctx context.Context) error { return f.reload(ctx) }
func (f *fakeEngine) Events() *events.Bus {
	if f.bus == nil {
		f.bus = events.New(events.Options{Member: "m1"})
	}
	return f.bus
}

// socketDir is a directory with a path short enough for sockets.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dh")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serving is a server at work.
type serving struct {
	path   string
	server *Server
	log    *logtest.Hook
	stop   func() error // ends it and returns what Run did
}

func serve(t testing.TB, e Engine, o Options) *serving {
	t.Helper()
	if o.Socket == "" {
		o.Socket = filepath.Join(socketDir(t), "api.sock")
	}
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	o.Log = log
	s := NewServer(e, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		cancel()
		t.Fatalf("server did not start: %v", err)
	}
	stopped := false
	sv := &serving{path: o.Socket, server: s, log: hook}
	sv.stop = func() error {
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if !stopped {
			require.NoError(t, sv.stop())
		}
	})
	return sv
}

func (s *serving) dial(t testing.TB) *Client {
	t.Helper()
	c, err := Dial(testContext(t), s.path)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// testContext is long enough for any test and ends before the test's own limit.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func requireCode(t *testing.T, err error, code Code) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, "error: %v", err)
	return e
}
