package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// sandboxFlags say what a sandbox is to be made of and how it is to run.
type sandboxFlags struct {
	specFlags            // those that a child has too
	from, on, start, otp string
	set, apps, args      []string
	state                []string
	stateModule          string
	secrets, network     bool
	wait, compile        time.Duration
}

// usualSandboxWait covers a compiler that has much to do.
const usualSandboxWait = 6 * time.Minute

func (a *app) createSandboxCommand() *cobra.Command {
	f := &sandboxFlags{}
	cmd := &cobra.Command{
		Use:   "create NAME [--from DIR|FILE|TEMPLATE]",
		Short: "Start a node of its own with your code in it",
		Long: `Start a node of its own with your code in it: the directory of a Mix or rebar3 project
or of a release, an .exs or .erl file, or what a template says; without --from the
template empty. It is packed here, without _build, .git and node_modules, sent to the
member and compiled where the sandbox runs, within the limits; and the node is attached to
as any other.

The command returns when that is done. When it cannot be, what the compiler printed is
shown and nothing of the sandbox is left. The call is written to the audit log, with the
names of --env and without the values.`,
		Example: `  debughost sandbox create shop --from ./shop --memory 512MB --start 'Shop.Demo.run()'
  debughost sandbox create try --from fix.exs --otp 27
  debughost sandbox create scratch --on db2
  debughost sandbox create shop --from ./shop --state Shop.Stock    # goes along when it moves
  debughost sandbox create shop --from mix --set dir=./shop --set env=test`,
		Args:              exactArgs("NAME"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWait(cmd, f.wait); err != nil {
				return err
			}
			spec, from, err := f.sandboxSpec(a, cmd, args[0])
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.createSandbox(ctx, c, spec, from, f)
			})
		},
	}
	f.addRun(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "empty", "a directory, a file or a template: what it is made of")
	fl.StringArrayVar(&f.set, "set", nil, "NAME=VALUE of a parameter of the template; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("from", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		all, _ := a.templates()
		var out []cobra.Completion
		for _, t := range all {
			out = append(out, cobra.CompletionWithDesc(sane(t.Name), sane(t.About)))
		}
		return out, cobra.ShellCompDirectiveDefault // and files
	})
	return cmd
}

// addRun adds what says how a sandbox is to run, whatever it is made of.
func (f *sandboxFlags) addRun(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.on, "on", "", "on this member and on no other (default the one that the placement strategy chooses)")
	fl.StringVar(&f.memory, "memory", "", "most memory, such as 512MB")
	fl.Float64Var(&f.cpus, "cpus", 0, "most processors: 0.5 is half of one")
	fl.Uint32Var(&f.processes, "processes", 0, "most processes of the operating system at one time")
	fl.StringVar(&f.disk, "disk", "", "most space in its own directory, such as 1GB")
	fl.StringVar(&f.start, "start", "", "expression to evaluate once the node is up")
	fl.StringVar(&f.otp, "otp", "", "OTP release, such as 27: one that the strategy's section otp names")
	fl.StringArrayVar(&f.env, "env", nil, "NAME=VALUE for its environment and the compiler's, or NAME for the value that it has here; may be repeated")
	fl.StringArrayVar(&f.args, "arg", nil, "argument for the emulator; may be repeated")
	fl.StringArrayVar(&f.apps, "app", nil, "application to start, where no project says which; may be repeated")
	fl.StringArrayVar(&f.state, "state", nil, "registered name of a process whose state goes along when the sandbox moves; may be repeated")
	fl.StringVar(&f.stateModule, "state-module", "", "module whose snapshot/0 and restore/1 take state along")
	fl.BoolVar(&f.network, "network", false, "the compiler may use the network")
	fl.DurationVar(&f.compile, "compile-timeout", 0, "when the compiler is stopped (default 5m)")
	fl.StringArrayVar(&f.labels, "label", nil, "NAME=VALUE that the member has to have; may be repeated")
	fl.StringVar(&f.restart, "restart", "permanent", "permanent: always; transient: when it ended abnormally; temporary: never")
	fl.DurationVar(&f.wait, "wait", usualSandboxWait, "wait so long for it to run and to be attached to")
	complete(cmd, "restart", "permanent", "transient", "temporary")
	_ = cmd.RegisterFlagCompletionFunc("on", forFlag(a.completeMembers))
}

// sandboxSpec is what to start, but for its bundle, and of what that is made.
func (f *sandboxFlags) sandboxSpec(a *app, cmd *cobra.Command, name string) (*controlpb.ChildSpec, origin, error) {
	spec, config, from, err := f.source(a)
	if err == nil {
		spec, err = f.completeSpec(cmd, name, spec, config)
	}
	return spec, from, err
}

// completeSpec puts flags over a spec and its config.
func (f *sandboxFlags) completeSpec(cmd *cobra.Command, name string, spec *controlpb.ChildSpec, config map[string]any) (*controlpb.ChildSpec, error) {
	spec.Id, f.strategy = name, beamStrategy
	spec.Strategy = beamStrategy
	if err := f.over(cmd, spec); err != nil {
		return nil, err
	}
	if spec.GetHandoff() == "" {
		spec.Handoff = "snapshot"
	}
	spec.ShutdownTimeout = orDuration(spec.GetShutdownTimeout(), 5*time.Second)
	if f.on != "" {
		if spec.Constraints == nil {
			spec.Constraints = map[string]string{}
		}
		spec.Constraints["member"] = f.on
	}
	if err := f.overConfig(cmd, config, nil); err != nil {
		return nil, err
	}
	for flag, to := range map[string]struct {
		key   string
		value any
	}{
		"start": {"start", f.start}, "otp": {"otp", f.otp}, "app": {"apps", f.apps}, "arg": {"args", f.args},
		"state": {"state", f.state}, "state-module": {"state_module", f.stateModule}, "network": {"network", f.network},
	} {
		if cmd.Flags().Changed(flag) {
			config[to.key] = to.value
		}
	}
	if cmd.Flags().Changed("compile-timeout") {
		if f.compile < time.Second {
			return nil, usagef("%s: compile-timeout %v is less than a second", cmd.Name(), f.compile)
		}
		config["compile_timeout"] = f.compile.String()
		if !cmd.Flags().Changed("wait") {
			f.wait = max(f.wait, f.compile+time.Minute)
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, usagef("%s: config cannot be written as JSON: %v", cmd.Name(), err)
	}
	spec.Config = string(text)
	return spec, nil
}

func orDuration(d *durationpb.Duration, usual time.Duration) *durationpb.Duration {
	if d.AsDuration() > 0 {
		return d
	}
	return durationpb.New(usual)
}

// source is what --from names: a path, or else a template.
func (f *sandboxFlags) source(a *app) (spec *controlpb.ChildSpec, config map[string]any, from origin, err error) {
	spec, config = &controlpb.ChildSpec{}, map[string]any{}
	fail := func(err error) (*controlpb.ChildSpec, map[string]any, origin, error) { return nil, nil, origin{}, err }
	from.path = f.from
	if _, err := os.Stat(f.from); err != nil || !strings.ContainsAny(f.from, "./") { // a name alone is a template, if there is one
		t, all, err := a.template(f.from)
		switch {
		case err != nil:
			return fail(err)
		case t != nil:
			given, err := pairs(f.set)
			if err != nil {
				return fail(usagef("create: set %v", err))
			}
			var text []byte
			if from, text, err = t.fill(given); err != nil {
				return fail(err)
			}
			if spec, config, err = parseSpec("template "+t.Name, text); err != nil {
				return fail(err)
			}
		default:
			if _, err := os.Stat(f.from); err != nil {
				return fail(usagef("create: from %q: there is no such file or directory, and no such template: there are %s", f.from, strings.Join(all, ", ")))
			}
			if len(f.set) > 0 {
				return fail(usagef("create: --set is for templates, and %s is a path", f.from))
			}
		}
	} else if len(f.set) > 0 {
		return fail(usagef("create: --set is for templates, and %s is a path", f.from))
	}
	if from.path == "" {
		return spec, config, from, nil
	}
	if from.path, err = filepath.Abs(from.path); err != nil {
		return fail(fmt.Errorf("create: from: %w", err))
	}
	info, err := os.Stat(from.path)
	if err != nil {
		return fail(fmt.Errorf("create: from: %w", err))
	}
	if !info.IsDir() {
		config["source"] = filepath.Base(from.path)
	}
	return spec, config, from, nil
}

// template finds a template, nil for none, and the names of all.
func (a *app) template(name string) (*sandboxTemplate, []string, error) {
	all, err := a.templates()
	var names []string
	for _, t := range all {
		names = append(names, t.Name)
	}
	if i := slices.Index(names, name); i >= 0 {
		return &all[i], names, cmp.Or(err, all[i].Err)
	}
	return nil, names, err
}

// createSandbox starts a sandbox and shows it when it is attached to. Of one that does
// not come to that, nothing is left.
func (a *app) createSandbox(ctx context.Context, c *control.Client, spec *controlpb.ChildSpec, from origin, f *sandboxFlags) error {
	if from.path != "" || from.node != "" {
		if err := a.nameIsFree(ctx, c, spec.GetId()); err != nil {
			return err
		}
	}
	if err := a.bundled(ctx, c, from, takeOptions{states: f.state, secrets: f.secrets}, spec); err != nil {
		return err
	}
	return a.startSandbox(ctx, c, spec, f.wait)
}

// nameIsFree looks before much is sent: who has the name in the end, the member says.
func (a *app) nameIsFree(ctx context.Context, c *control.Client, name string) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: name})
	var fail *control.Error
	switch {
	case errors.As(err, &fail) && fail.Code == control.UnknownChild:
		return nil
	case err != nil:
		return err
	}
	return &control.Error{
		Code: control.Conflict, Cause: fmt.Sprintf("create sandbox %s: there is a child of that name: it is %s", name, res.GetChild().GetState()),
		Hint: "choose another name, or `debughost sandbox destroy` removes it",
	}
}

// startSandbox starts what has its bundle.
func (a *app) startSandbox(ctx context.Context, c *control.Client, spec *controlpb.ChildSpec, wait time.Duration) error {
	usual := answerTime
	if spec.GetBundle() != "" || spec.GetSeed() != "" { // which go to another member first
		usual = uploadTime
	}
	starting, cancel := a.within(ctx, usual)
	res, err := c.Children.StartChild(starting, &controlpb.StartChildRequest{Spec: spec})
	late := starting.Err() != nil
	cancel()
	var fail *control.Error
	if errors.As(err, &fail) && fail.Code == control.Unconfirmed { // it is there
		a.note("%s", saneLines(fail.Cause))
		looking, cancel := a.within(ctx, answerTime)
		var there *controlpb.GetChildResponse
		there, err = c.Children.GetChild(looking, &controlpb.GetChildRequest{Id: spec.GetId()})
		cancel()
		res = &controlpb.ChildResponse{Child: there.GetChild()}
	}
	if err != nil {
		if late {
			a.note("sandbox %s may have been started; `debughost sandbox destroy` removes it", sane(spec.GetId()))
		}
		return err
	}
	err = a.awaitSandbox(ctx, c, res.GetChild(), wait)
	if errors.Is(err, errEnded) {
		return err
	}
	if err != nil {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime+grace) // also after Ctrl-C
		defer cancel()
		if _, left := c.Children.RemoveChild(cleaning, &controlpb.RemoveChildRequest{Id: spec.GetId()}); left != nil {
			a.note("what there is of sandbox %s is not removed yet: %s; `debughost sandbox destroy` removes it", sane(spec.GetId()), saneLines(left.Error()))
		}
		return err
	}
	return a.showSandbox(ctx, c, spec.GetId())
}

// overwrite shows a line on a terminal until the next; an empty one is none.
func (a *app) overwrite(line string) {
	if a.errTTY {
		fmt.Fprintf(a.err, "\r\x1b[K%s", sane(line))
	}
}

// awaitSandbox waits until a sandbox runs and its node is attached to. It fails with
// the first start that does: the same sources will not compile the next time.
func (a *app) awaitSandbox(ctx context.Context, c *control.Client, child *controlpb.Child, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer a.overwrite("")
	name := child.GetId()
	for {
		changed, stop := context.WithTimeout(ctx, time.Second)
		_, err := c.Children.WaitChild(changed, &controlpb.WaitChildRequest{
			Id: name, Epoch: child.GetEpoch(), Timeout: durationpb.New(sandboxLook), States: []string{"running", "exited", "failed", "stopped"},
		})
		stop()
		if err != nil && ctx.Err() == nil && changed.Err() == nil && !isUnknownChild(err) {
			return err
		}
		res, err := c.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: name})
		switch {
		case isUnknownChild(err):
			return fmt.Errorf("create sandbox %s: %w: it was destroyed", name, errEnded)
		case err == nil && res.GetChild().GetState() == "stopped":
			return fmt.Errorf("create sandbox %s: %w: it was stopped", name, errEnded)
		case err == nil:
			child = res.GetChild()
			err = a.startError(ctx, c, res)
		}
		attached := false
		if err == nil && child.GetState() == "running" {
			attached, err = isAttached(ctx, c, child)
		}
		switch {
		case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
			return ctx.Err()
		case ctx.Err() != nil:
			text := fmt.Sprintf("create sandbox %s: it is %s after %v", name, child.GetState(), wait)
			if child.GetReason() != "" {
				text += ": " + child.GetReason()
			}
			return &control.Error{Code: control.Timeout, Cause: text, Hint: "--wait waits longer"}
		case err != nil || attached:
			return err
		}
		doing := child.GetReason()
		if a.errTTY && doing == "" && child.GetState() == "starting" {
			doing = a.lastLine(ctx, c, name)
		}
		a.overwrite(strings.TrimSuffix(child.GetState()+": "+doing, ": "))
		if child.GetState() == "running" {
			select {
			case <-ctx.Done():
			case <-time.After(sandboxAgain):
			}
		}
	}
}

func isUnknownChild(err error) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == control.UnknownChild
}

// errEnded says that a sandbox that was to start has been ended by somebody.
var errEnded = errors.New("somebody has ended it meanwhile")

// sandboxLook is how long a change of state is waited for until the history is looked
// at, sandboxAgain the pause between two looks at a target.
const (
	sandboxLook  = 300 * time.Millisecond
	sandboxAgain = 50 * time.Millisecond
)

// startError is why a sandbox does not come to run; nil: it may yet.
func (a *app) startError(ctx context.Context, c *control.Client, res *controlpb.GetChildResponse) error {
	child := res.GetChild()
	for _, e := range slices.Backward(res.GetHistory()) {
		if e.GetWhat() == "not_started" || e.GetWhat() == "exited" {
			text := "it ended: " + e.GetReason()
			if e.GetWhat() == "not_started" {
				text = cmp.Or(a.failedStart(ctx, c, child.GetId()), e.GetReason())
			}
			return &control.Error{
				Code: control.Failed, Cause: fmt.Sprintf("create sandbox %s: %s", child.GetId(), text),
				Hint: "nothing of it is left; `debughost child start` with the strategy beam keeps one that fails, with its log",
			}
		}
	}
	if slices.Contains([]string{"exited", "failed"}, child.GetState()) {
		return &control.Error{Code: control.Failed, Cause: strings.TrimSuffix(fmt.Sprintf("create sandbox %s: it is %s: %s", child.GetId(), child.GetState(), child.GetReason()), ": ")}
	}
	return nil
}

// failedStart is all that was said of a start that failed, the compiler's output
// included, of which the history has the beginning; empty: it cannot be read.
func (a *app) failedStart(ctx context.Context, c *control.Client, name string) string {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	stream, err := c.Children.ReadChildLog(ctx, &controlpb.ReadChildLogRequest{Id: name})
	if err != nil {
		return ""
	}
	var lines []string
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return strings.Join(lines, "\n")
		}
		if err != nil {
			return ""
		}
		for _, line := range res.GetLines() {
			if line.GetStream() != "start" { // it runs by now, or has
				return ""
			}
			lines = append(lines, string(line.GetLine()))
		}
	}
}

// lastLine is what the compiler of a sandbox has printed last; empty: nothing yet.
func (a *app) lastLine(ctx context.Context, c *control.Client, name string) (line string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := c.Children.ReadChildLog(ctx, &controlpb.ReadChildLogRequest{Id: name, Tail: 1})
	if err != nil {
		return ""
	}
	for {
		res, err := stream.Recv()
		if err != nil {
			return line
		}
		for _, l := range res.GetLines() {
			line = cutEnd(strings.TrimSpace(string(l.GetLine())), 60)
		}
	}
}

// isAttached tells whether the node of a sandbox is. Where it cannot be, the error
// says why.
func isAttached(ctx context.Context, c *control.Client, child *controlpb.Child) (bool, error) {
	res, err := c.Targets.ListTargets(ctx, &controlpb.ListTargetsRequest{})
	if err != nil {
		return false, err
	}
	for _, t := range res.GetTargets() {
		if t.GetNode() != child.GetNode() || child.GetNode() == "" {
			continue
		}
		if t.GetState() == "refused" {
			return false, &control.Error{Code: control.Failed, Cause: fmt.Sprintf("attach to sandbox %s: %s", child.GetId(), t.GetReason()), Hint: t.GetHint()}
		}
		return t.GetState() == "attached", nil
	}
	return false, nil
}
