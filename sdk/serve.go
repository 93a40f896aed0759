package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"time"

	"github.com/debughost/debughost/sdk/internal/link"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// drainTimeout is how long methods have to return once their contexts ended.
// The host kills the process after two seconds.
const drainTimeout = 1500 * time.Millisecond

var logger atomic.Pointer[hclog.Logger]

// Logger is where a plugin logs: what is written to it appears in debughost's
// log with its level and fields, under the plugin's name. The standard log
// package leads there too. Nothing may be printed to standard output.
func Logger() hclog.Logger {
	if l := logger.Load(); l != nil {
		return *l
	}
	return hclog.NewNullLogger()
}

// Serve is the main of a plugin. It serves until the host is done or gone and
// then ends the process's main. When the program was started by hand, it says
// what it is and exits with status 1, as it does on a strategy that Describe
// tells wrong things about.
//
// An interrupt from the terminal is left to the host, which ends its plugins
// when it has put its house in order.
func Serve(strategy Strategy) {
	if err := serve(strategy, os.Stderr, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is Serve with the log's destination and with go-plugin's test mode.
func serve(strategy Strategy, stderr io.Writer, test *plugin.ServeTestConfig) error {
	info := strategy.Describe()
	d, err := describe(strategy, info)
	if err != nil {
		return fmt.Errorf("serve plugin: %w", err)
	}
	handshake := link.Handshake()
	if test == nil && os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		return fmt.Errorf("%s %s is a %s plugin of debughost, which starts it by itself.\n"+
			"Put the file into a directory that [plugins] dirs of the config names, and select it with strategy = %q", d.Name, d.Version, d.Kind, d.Name)
	}
	l := hclog.New(&hclog.LoggerOptions{
		Name:       d.Name,
		Level:      logLevel(os.Getenv(link.EnvLogLevel)),
		Output:     stderr,
		JSONFormat: true,
	})
	logger.Store(&l)
	log.SetFlags(0)
	log.SetOutput(l.StandardWriter(&hclog.StandardLoggerOptions{InferLevels: true}))
	if err := followHost(os.Getenv(link.EnvHostPID), func() { os.Exit(0) }); err != nil {
		return fmt.Errorf("serve plugin: %w", err)
	}
	var running calls
	set := plugin.PluginSet{link.Dispense: served{register: func(server *grpc.Server) { register(server, strategy, info, d) }}}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  handshake,
		VersionedPlugins: map[int]plugin.PluginSet{link.Version: set},
		Logger:           quiet{l.Named("go-plugin")},
		Test:             test,
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, serverOptions(&running)...)...)
		},
	})
	if left := running.wait(drainTimeout); left != nil {
		l.Error("methods ignore the end of their context", "methods", left)
	}
	if c, ok := strategy.(io.Closer); ok {
		if err := c.Close(); err != nil {
			return fmt.Errorf("close %s: %w", d.Name, err)
		}
	}
	return nil
}

func logLevel(s string) hclog.Level {
	if level := hclog.LevelFromString(s); level != hclog.NoLevel {
		return level
	}
	return hclog.Info
}

// quiet is a logger for go-plugin's own words, of which only errors matter.
type quiet struct{ hclog.Logger }

func (q quiet) Info(msg string, args ...any)  { q.Trace(msg, args...) }
func (q quiet) Debug(msg string, args ...any) { q.Trace(msg, args...) }

// served is the strategy as go-plugin wants it.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
}

func (s served) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	s.register(server)
	return nil
}

func (served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin is not a client; see package wire")
}

// pollParent is how often the parent's pid is looked at where the system
// cannot tell of its end.
const pollParent = 250 * time.Millisecond
