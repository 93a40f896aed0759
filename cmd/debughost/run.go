package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/config"
)

// runOptions are what `run` was given.
type runOptions struct {
	Sources config.Sources // to load, and on a reload to load again
	DataDir string
	Addr    string           // of the socket; empty: as the configuration says
	Reload  <-chan os.Signal // each asks to read the configuration again
	Version control.Version
	Stderr  io.Writer // for the log
}

// runner runs a member until ctx ends and has left nothing behind when it
// returns.
type runner func(ctx context.Context, o runOptions) error

// shownFlags are the keys whose flags the help lists.
var shownFlags = map[string]string{
	"log.level":           "trace, debug, info, warn or error",
	"log.format":          "text or json",
	"member.name":         "name of this debughost in its cluster (default the host's name)",
	"member.labels":       "NAME=VALUE that placement may ask for; may be repeated",
	"cluster.bind":        "host:port for other members, UDP and TCP",
	"cluster.join":        "host:port of another member; may be repeated",
	"cluster.key_file":    "file with the key that all members share (see `debughost keygen`)",
	"cluster.profile":     "how soon a silent member counts as dead: fast, lan, local or wan",
	"node.name":           "Erlang node name under which it attaches",
	"targets.cookie_file": "file with the cookie of the nodes (default ~/.erlang.cookie)",
	"targets.agent":       "auto, or never to load no helper module into nodes",
}

func (a *app) runCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run debughost: find nodes, attach to them, and answer the other commands",
		Long: `Run debughost in the foreground, until SIGTERM or Ctrl-C.

Without a configuration it attaches, as a hidden node, to every node that this
machine's EPMD knows, with the cookie of ~/.erlang.cookie. Nothing of the nodes is
changed, and nothing stays behind in them.

Settings come from the built-in defaults, the configuration file, the environment
(DEBUGHOST_LOG_LEVEL for log.level) and flags (--log-level), the later over the
earlier. Every key of config.toml that has one value is a flag too; see
` + "`debughost config print`" + `. SIGHUP reads the configuration again.`,
		Example: `  debughost run
  debughost run --config /etc/debughost/config.toml --log-format json
  debughost run --targets-cookie-file /etc/shop/cookie --log-level debug
  debughost run --name a --cluster-bind 10.0.0.1:7946 --cluster-key-file cluster.key
  debughost run --name b --join 10.0.0.1:7946 --cluster-key-file cluster.key`,
		Args:        exactArgs(),
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends it at once
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			return a.host(ctx, runOptions{
				Sources: config.Sources{File: file, Flags: cmd.Flags()},
				DataDir: dir,
				Addr:    a.givenAddress(),
				Reload:  reload,
				Version: thisVersion(),
				Stderr:  a.err,
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&file, "config", "", "configuration file (env DEBUGHOST_CONFIG; default /etc/debughost/config.toml if it exists)")
	_ = cmd.MarkFlagFilename("config", "toml")
	for _, key := range config.Keys() {
		name := config.FlagName(key)
		if config.IsList(key) {
			fl.StringSlice(name, nil, shownFlags[key])
		} else {
			fl.String(name, "", shownFlags[key])
		}
		if shownFlags[key] == "" {
			_ = fl.MarkHidden(name)
		}
	}
	short := map[string]string{} // by the name that the rule gives
	for _, key := range config.Keys() {
		short[config.LongFlagName(key)] = config.FlagName(key)
	}
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(cmp.Or(short[name], name))
	})
	complete(cmd, "profile", "fast", "lan", "local", "wan")
	_ = cmd.MarkFlagFilename("cluster-key-file")
	complete(cmd, "log-level", "trace", "debug", "info", "warn", "error")
	complete(cmd, "log-format", "text", "json")
	complete(cmd, "targets-agent", "auto", "never")
	_ = cmd.MarkFlagFilename("targets-cookie-file")
	return cmd
}
