package plugintest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/wire"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// process is one running plugin.
type process struct {
	*wire.Client
	plugin Plugin
	client *plugin.Client
	conn   plugin.ClientProtocol
	cmd    *exec.Cmd
	dir    string // of its sockets
	stderr *tail  // all that it prints, but for the handshake
}

// start launches the plugin and connects. The caller calls stop.
func start(ctx context.Context, p Plugin, options ...grpc.DialOption) (*process, error) {
	dir, err := os.MkdirTemp("", "plugintest")
	if err != nil {
		return nil, fmt.Errorf("make directory for sockets: %w", err)
	}
	s := &process{plugin: p, dir: dir, stderr: &tail{}, cmd: exec.Command(p.Path)}
	if p.hosted {
		s.cmd = exec.Command("sh", "-c", hosting, p.Path, s.pidFile())
	}
	s.cmd.Env = append(p.environ(), plugin.EnvUnixSocketDir+"="+dir)
	s.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: wire.Plugins(),
		GRPCDialOptions:  append(wire.DialOptions(), options...),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		Cmd:              s.cmd,
		Stderr:           s.stderr,
		SyncStdout:       s.stderr,
		SyncStderr:       s.stderr,
		Logger:           hclog.NewNullLogger(),
		StartTimeout:     p.StartTimeout,
	})
	err = within(ctx, p.StartTimeout+p.Timeout, "start plugin", func(ctx context.Context) error {
		if s.conn, err = s.client.Client(); err != nil {
			return err
		}
		raw, err := s.conn.Dispense(wire.Name)
		if err != nil {
			return err
		}
		s.Client = raw.(*wire.Client)
		return s.Ping(ctx)
	})
	if err != nil {
		s.stop() // all that it printed has been read then
		return nil, s.explain(err)
	}
	return s, nil
}

// Dial starts the plugin, configures it, and returns the host's end of it, for
// what only the plugin's own tests can ask. The caller calls stop.
func Dial(ctx context.Context, p Plugin) (client *wire.Client, stop func(), err error) {
	s, err := start(ctx, p.withDefaults())
	if err != nil {
		return nil, nil, err
	}
	if err := s.configure(ctx, s.plugin.Config); err != nil {
		s.stop()
		return nil, nil, err
	}
	return s.Client, s.stop, nil
}

func (p Plugin) environ() []string {
	return append(wire.Env(os.Environ(), "debug"), p.Env...)
}

func (s *process) configure(ctx context.Context, config string) error {
	return within(ctx, s.plugin.Timeout, "configure with "+shorten(config), func(ctx context.Context) error {
		return s.Configure(sdk.WithStateDir(ctx, s.plugin.stateDir), []byte(config))
	})
}

// answers checks that the process is there and serves.
func (s *process) answers(ctx context.Context, after string) error {
	err := within(ctx, s.plugin.Timeout, "ask again after "+after, func(ctx context.Context) error {
		_, err := s.Describe(ctx)
		return err
	})
	return s.explain(err)
}

// explain adds what the process printed last.
func (s *process) explain(err error) error {
	if out := s.stderr.String(); err != nil && out != "" {
		return fmt.Errorf("%w\nit printed last: %s", err, out)
	}
	return err
}

// end asks the process to end and tells how long that took.
func (s *process) end(ctx context.Context, patience time.Duration) (time.Duration, error) {
	began := time.Now()
	go s.conn.Close()
	for !s.client.Exited() {
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return 0, err
		}
		if took := time.Since(began); took > patience {
			return took, fmt.Errorf("end plugin: it still runs after %v", patience)
		}
	}
	return time.Since(began), nil
}

// stop ends the process, whatever state it is in, and waits for that.
func (s *process) stop() {
	if s.conn != nil {
		_, _ = s.end(context.Background(), 200*time.Millisecond)
	}
	s.kill()
}

func (s *process) kill() {
	if s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
	}
	s.client.Kill()
	_ = os.RemoveAll(s.dir)
}

// tail keeps the end of what is written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	const keep = 64 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > keep {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-keep:]...)
	}
	return len(p), nil
}

// String is as much of it as a person wants to read.
func (t *tail) String() string {
	const most = 2 << 10
	all := strings.TrimSpace(t.all())
	return all[max(len(all)-most, 0):]
}

func (t *tail) all() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

func shorten(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%s… (%d bytes)", s[:60], len(s))
	}
	return s
}

// kindOf is the kind that the plugin reports, or "".
func kindOf(ctx context.Context, p Plugin) sdk.Kind {
	s, err := start(ctx, p)
	if err != nil {
		return ""
	}
	defer s.stop()
	d, _ := s.Describe(ctx)
	return d.Kind
}

// started is a check on a plugin that was started for it.
func started(check func(context.Context, *process) error) func(context.Context, Plugin) error {
	return func(ctx context.Context, p Plugin) error {
		s, err := start(ctx, p)
		if err != nil {
			return err
		}
		defer s.stop()
		return check(ctx, s)
	}
}

// withConfig is a check on a plugin that was started and configured for it.
func withConfig(check func(context.Context, *process) error) func(context.Context, Plugin) error {
	return started(func(ctx context.Context, s *process) error {
		if err := s.configure(ctx, s.plugin.Config); err != nil {
			return err
		}
		return check(ctx, s)
	})
}
