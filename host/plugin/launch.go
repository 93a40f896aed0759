package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"github.com/sirupsen/logrus"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/wire"
)

// running is a plugin that is configured and at work.
type running struct {
	*wire.Client
	description sdk.Description
	process     *process
	client      *plugin.Client
	protocol    plugin.ClientProtocol
}

// launch finds, verifies and starts the plugin, agrees on a version, checks
// who answers and hands over the config. On an error no process is left.
func (i *instance) launch() (*running, error) {
	path, err := find(i.spec.Plugin, i.m.searchDirs())
	if err != nil {
		return nil, permanent(err)
	}
	if err := verify(path, i.spec.Checksum); err != nil {
		return nil, permanent(err)
	}
	timeout := i.m.config().StartTimeout
	ctx, cancel := context.WithTimeoutCause(i.ctx, timeout, fmt.Errorf("it was not ready within %s", timeout))
	defer cancel()
	p := i.newClient(path, timeout)
	// Ending the process ends whatever waits for it.
	release := context.AfterFunc(ctx, p.process.kill)
	err = i.connect(ctx, p)
	release()
	if err == nil {
		return p, nil
	}
	switch unreachable := p.protocol == nil || errors.Is(err, sdk.ErrUnavailable); {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case unreachable && p.process.exitsWithin(ctx, exitGrace) && !p.process.wasKilled():
		err = p.process.exitError() // explains it better
	}
	p.stop(0)
	return nil, fmt.Errorf("start plugin %s: %w", path, err)
}

// startSpare keeps go-plugin's own limit out of the way: at ours the process is
// ended, and the error says what it did.
const startSpare = 5 * time.Second

// newClient prepares a process. It is started by connect.
func (i *instance) newClient(path string, timeout time.Duration) *running {
	level := logLevel(i.log)
	p := &running{process: newProcess(i.m.forker, path)}
	p.process.env = wire.Env(i.m.opts.Environ, level.String())
	output := newThrottle(p.process.exited)
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: wire.Plugins(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		GRPCDialOptions:  wire.DialOptions(),
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     timeout + startSpare,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: i.m.opts.SocketDir},
		Logger:           newLogger(i.log, level),
		SyncStdout:       output,
		SyncStderr:       output,
		// A runner of our own: go-plugin's hands on our standard input, and
		// knows neither process groups nor the parent-death signal.
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, socketDir string) (runner.Runner, error) {
			p.process.env = append(p.process.env, cmd.Env...)
			p.process.socketDir = socketDir
			return p.process, nil
		},
	})
	return p
}

func (i *instance) connect(ctx context.Context, p *running) error {
	var err error
	if p.protocol, err = p.client.Client(); err != nil {
		return p.process.explainHandshake(err)
	}
	raw, err := p.protocol.Dispense(wire.Name)
	if err != nil {
		return err
	}
	p.Client = raw.(*wire.Client)
	if p.description, err = p.Describe(ctx); err != nil {
		return err
	}
	switch d := p.description; {
	case d.Name != i.spec.Plugin:
		return permanent(fmt.Errorf("it says that it is %s (the name of its file must be its own)", d.Name))
	case d.Kind != i.spec.Kind:
		return permanent(fmt.Errorf("it is a %s plugin, and a %s plugin is needed here", d.Kind, i.spec.Kind))
	}
	section := i.spec.Config
	if len(section) == 0 {
		section = []byte("{}")
	}
	err = p.Configure(sdk.WithStateDir(ctx, i.spec.StateDir), section)
	var refused *sdk.ConfigError
	if errors.As(err, &refused) {
		lines := make([]string, len(refused.Problems))
		for n, problem := range refused.Problems {
			at := i.spec.section()
			if problem.Path != "" {
				at += "." + problem.Path
			}
			lines[n] = at + ": " + problem.Message
		}
		return permanent(fmt.Errorf("it refuses its configuration: %s", strings.Join(lines, "; ")))
	}
	return err
}

// explainHandshake says what is wrong with what the plugin printed first,
// where go-plugin's error does not.
func (p *process) explainHandshake(err error) error {
	line, printed := p.stdout.line()
	parts := strings.Split(line, "|")
	switch {
	case !printed:
		return err
	case len(parts) < 4:
		return fmt.Errorf("it is no plugin, for it printed %.100q", line)
	}
	version, notANumber := strconv.Atoi(parts[1])
	if _, ours := wire.Plugins()[version]; notANumber == nil && !ours {
		return permanent(fmt.Errorf("it speaks version %d of the plugin contract, and this debughost speaks %s (use a matching pair)", version, versions()))
	}
	return err
}

func versions() string {
	var out []string
	for v := range wire.Plugins() {
		out = append(out, strconv.Itoa(v))
	}
	return strings.Join(out, ", ")
}

// stop ends the process, gently for as long as timeout, and returns when
// nothing of it is left.
func (p *running) stop(timeout time.Duration) {
	defer os.RemoveAll(p.process.socketDir) // "" is no path
	var closed chan struct{}
	if p.protocol != nil && timeout > 0 {
		closed = make(chan struct{})
		go func() {
			defer close(closed)
			_ = p.protocol.Close() // asks it to end; blocks while it hangs
		}()
		p.process.exitsWithin(context.Background(), timeout)
	}
	p.process.kill()
	if p.process.started() {
		<-p.process.exited
	}
	p.client.Kill() // waits for go-plugin's goroutines
	if closed != nil {
		<-closed
	}
}

func logLevel(l logrus.FieldLogger) hclog.Level {
	level := logrus.InfoLevel
	switch l := l.(type) {
	case *logrus.Entry:
		level = l.Logger.GetLevel()
	case *logrus.Logger:
		level = l.GetLevel()
	}
	return hclogLevels[level]
}
