package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) startChildCommand() *cobra.Command {
	f := &specFlags{}
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "start ID [-f SPEC.toml] [-- COMMAND…]",
		Short: "Give debughost something to keep running",
		Long: `Give debughost something to keep running, on the member that a placement strategy
chooses, under an id of its own. The answer comes once the spec is sure to survive
the member that has taken it; --wait waits until it runs.

What is to be run comes from a file (-f), from flags and from the command behind --,
the later over the earlier. It runs with the rights of debughost, in an environment
with nothing of debughost's in it. The call is written to the audit log, with the names
of --env and without the values.`,
		Example: `  debughost child start web --memory 512MB -- /opt/web/bin/web --port 8080
  debughost child start -f web.toml
  debughost child start nightly --restart temporary --env DB_PASSWORD -- /opt/nightly
  debughost child start probe --label zone=a --apart web --max-restarts 10/1m --wait 10s -- ./probe`,
		Annotations: map[string]string{noCSV: "yes"},
		Args:        childSpecArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := f.spec(a, cmd, args)
			if err != nil {
				return err
			}
			return a.actOnChild(cmd, wait, childAct{until: []string{"running", "exited"}}, func(ctx context.Context, c *control.Client) (*controlpb.ChildResponse, error) {
				return c.Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: spec})
			})
		},
	}
	f.add(a, cmd)
	waitFlag(cmd, &wait, "running")
	return cmd
}

// childSpecArgs wants an id at most, and a command only behind --.
func childSpecArgs(cmd *cobra.Command, args []string) error {
	n := len(args)
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		n = dash
	}
	if n > 1 {
		return usagef("%s: one argument too many: %q (a command goes behind --)", cmd.Name(), args[1])
	}
	return nil
}

// specFlags say on the command line what a spec file says.
type specFlags struct {
	file, strategy, restart, maxRestarts, placement, handoff string
	memory, disk, dir, near                                  string
	labels, env, apart                                       []string
	cpus                                                     float64
	processes, files                                         uint32
	shutdown                                                 time.Duration
	planned                                                  bool // nothing is started: a command may be missing
}

func (f *specFlags) add(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "spec in TOML; - is the standard input")
	fl.StringVar(&f.strategy, "strategy", "process", "sandbox strategy")
	fl.StringVar(&f.restart, "restart", "permanent", "permanent: always; transient: when it ended abnormally; temporary: never")
	fl.StringVar(&f.maxRestarts, "max-restarts", "3/5s", "so many restarts in so long, then it has failed")
	fl.DurationVar(&f.shutdown, "shutdown", 5*time.Second, "from the request to end to the kill")
	fl.StringVar(&f.placement, "placement", "", "placement strategy (default the configured one)")
	fl.StringArrayVar(&f.labels, "label", nil, "NAME=VALUE that the member has to have; may be repeated")
	fl.StringVar(&f.near, "near", "", "only on the machine of this node")
	fl.StringArrayVar(&f.apart, "apart", nil, "not on the member of this child; may be repeated")
	fl.StringVar(&f.memory, "memory", "", "most memory, such as 512MB")
	fl.Float64Var(&f.cpus, "cpus", 0, "most processors: 0.5 is half of one")
	fl.Uint32Var(&f.processes, "processes", 0, "most processes at one time")
	fl.Uint32Var(&f.files, "files", 0, "most open files of each process")
	fl.StringVar(&f.disk, "disk", "", "most space in its own directory, such as 1GB")
	fl.StringArrayVar(&f.env, "env", nil, "NAME=VALUE for its environment, or NAME for the value that it has here; may be repeated")
	fl.StringVar(&f.dir, "dir", "", "its working directory (default one of its own)")
	fl.StringVar(&f.handoff, "handoff", "none", "what it takes along when it moves: none or snapshot")
	_ = cmd.MarkFlagFilename("file", "toml")
	_ = cmd.MarkFlagDirname("dir")
	complete(cmd, "strategy", sandboxStrategies...)
	complete(cmd, "placement", placementStrategies...)
	complete(cmd, "restart", "permanent", "transient", "temporary")
	complete(cmd, "handoff", "none", "snapshot")
	_ = cmd.RegisterFlagCompletionFunc("near", forFlag(a.completeNodes(-1)))
	_ = cmd.RegisterFlagCompletionFunc("apart", forFlag(a.completeChildren))
}

// given tells whether the command line says anything of a spec but its id.
func (f *specFlags) given(cmd *cobra.Command, args []string) bool {
	for _, name := range []string{"file", "strategy", "restart", "max-restarts", "shutdown", "placement", "label", "near", "apart", "memory",
		"cpus", "processes", "files", "disk", "env", "dir", "handoff"} {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return cmd.ArgsLenAtDash() >= 0 && len(args) > cmd.ArgsLenAtDash()
}

// spec is the file's with what the command line says over it.
func (f *specFlags) spec(a *app, cmd *cobra.Command, args []string) (*controlpb.ChildSpec, error) {
	spec, config := &controlpb.ChildSpec{}, map[string]any{}
	if f.file != "" {
		var err error
		if spec, config, err = readSpecFile(a.in, f.file); err != nil {
			return nil, err
		}
	}
	before, command := args, []string(nil)
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		before, command = args[:dash], args[dash:]
	}
	if len(before) > 0 {
		if spec.GetId() != "" && spec.GetId() != before[0] {
			return nil, usagef("%s: the id is %q, and %q in %s", cmd.Name(), before[0], spec.GetId(), f.file)
		}
		spec.Id = before[0]
	}
	if spec.GetId() == "" {
		return nil, usagef("%s: ID is missing", cmd.Name())
	}
	if err := f.over(cmd, spec); err != nil {
		return nil, err
	}
	if err := f.overConfig(cmd, config, command); err != nil {
		return nil, err
	}
	if spec.GetStrategy() == "process" && !f.planned && config["command"] == nil {
		return nil, usagef("%s: the command is missing: write it behind --, or as command in [config] of the file", cmd.Name())
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // commands have <, > and &
	if err := enc.Encode(config); err != nil {
		return nil, usagef("%s: config cannot be written as JSON: %v", cmd.Name(), err)
	}
	spec.Config = strings.TrimSuffix(text.String(), "\n")
	return spec, nil
}

// over puts flags into a spec: those that were given, and defaults where the file
// says nothing.
func (f *specFlags) over(cmd *cobra.Command, s *controlpb.ChildSpec) error {
	given := cmd.Flags().Changed
	text := func(flag, value string, field *string) {
		if given(flag) || *field == "" {
			*field = value
		}
	}
	text("strategy", f.strategy, &s.Strategy)
	text("restart", f.restart, &s.Restart)
	text("placement", f.placement, &s.Placement)
	text("handoff", f.handoff, &s.Handoff)
	text("near", f.near, &s.Near)
	if given("shutdown") || s.ShutdownTimeout == nil {
		s.ShutdownTimeout = durationpb.New(f.shutdown)
	}
	if given("max-restarts") {
		most, in, err := parseRestarts(f.maxRestarts)
		if err != nil {
			return usagef("%s: max-restarts %v", cmd.Name(), err)
		}
		s.MaxRestarts, s.MaxRestartsIn = most, in
	}
	if given("label") {
		labels, err := pairs(f.labels)
		if err != nil {
			return usagef("%s: label %v", cmd.Name(), err)
		}
		s.Constraints = maps.Clone(s.GetConstraints())
		if s.Constraints == nil {
			s.Constraints = map[string]string{}
		}
		maps.Copy(s.Constraints, labels)
	}
	if given("apart") {
		s.Apart = slices.Clone(f.apart)
	}
	return f.overLimits(cmd, s)
}

func (f *specFlags) overLimits(cmd *cobra.Command, s *controlpb.ChildSpec) error {
	given := cmd.Flags().Changed
	l := s.GetLimits()
	if l == nil {
		l = &controlpb.ChildLimits{}
	}
	for flag, to := range map[string]struct {
		text  string
		field *uint64
	}{"memory": {f.memory, &l.Memory}, "disk": {f.disk, &l.Disk}} {
		if !given(flag) {
			continue
		}
		n, err := parseSize(to.text)
		if err != nil {
			return usagef("%s: %s %v", cmd.Name(), flag, err)
		}
		*to.field = n
	}
	if given("cpus") {
		if !(f.cpus >= 0) { // not NaN either
			return usagef("%s: cpus %v is no number of processors", cmd.Name(), f.cpus)
		}
		l.Cpus = f.cpus
	}
	if given("processes") {
		l.Processes = f.processes
	}
	if given("files") {
		l.OpenFiles = f.files
	}
	s.Limits = l
	return nil
}

// overConfig puts command, environment and working directory into a config, under the
// names that sandbox-process has for them.
func (f *specFlags) overConfig(cmd *cobra.Command, config map[string]any, command []string) error {
	if len(command) > 0 {
		config["command"] = command
	}
	if f.dir != "" {
		config["dir"] = f.dir
	}
	if len(f.env) == 0 {
		return nil
	}
	env, ok := config["env"].(map[string]any)
	if !ok && config["env"] != nil {
		return usagef("%s: env in the file is no table, and --env cannot be put into it", cmd.Name())
	}
	env = maps.Clone(env)
	if env == nil {
		env = map[string]any{}
	}
	for _, e := range f.env {
		name, value, ok := strings.Cut(e, "=")
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				return usagef("%s: env %q: there is no such variable here; NAME=VALUE sets one", cmd.Name(), name)
			}
		}
		if name == "" {
			return usagef("%s: env %q has no name", cmd.Name(), e)
		}
		env[name] = value
	}
	config["env"] = env
	return nil
}

func pairs(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range list {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", p)
		}
		out[name] = value
	}
	return out, nil
}

// parseRestarts reads 3/5s, or 3 alone. On the wire 0 is the default, and less than
// that is none.
func parseRestarts(text string) (int32, *durationpb.Duration, error) {
	count, span, both := strings.Cut(text, "/")
	n, err := strconv.ParseUint(count, 10, 31)
	if err != nil || n > 1_000_000 {
		return 0, nil, fmt.Errorf("%q is not COUNT/TIME, such as 3/5s", text)
	}
	var in *durationpb.Duration
	if both {
		d, err := time.ParseDuration(span)
		if err != nil || d <= 0 {
			return 0, nil, fmt.Errorf("%q is not COUNT/TIME, such as 3/5s", text)
		}
		in = durationpb.New(d)
	}
	return noneBelowZero(int32(n)), in, nil
}

func noneBelowZero(n int32) int32 {
	if n == 0 {
		return -1
	}
	return n
}
