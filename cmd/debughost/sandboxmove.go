package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) moveSandboxCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "move NAME [MEMBER]",
		Short: "Have a sandbox run on another member, with the state that it has",
		Long: `Have a sandbox run on MEMBER, or on whichever other one its placement strategy chooses,
with its code, its config and the states that its --state and --state-module name. The old
node runs until the new one does; when that cannot be, it goes on as it was, and the
command fails and says why. The call is written to the audit log.`,
		Example: `  debughost sandbox move shop db2
  debughost sandbox move shop`,
		Args: optionalArgs(1, "NAME", "MEMBER"), Annotations: map[string]string{noCSV: "yes"},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return a.completeSandboxes(cmd, args, prefix)
			case 1:
				return a.completeMembers(cmd, nil, prefix)
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWait(cmd, wait); err != nil {
				return err
			}
			req := &controlpb.MoveChildRequest{Id: args[0]}
			if len(args) > 1 {
				req.Member = args[1]
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				if _, err := a.findSandbox(ctx, c, args[0]); err != nil {
					return err
				}
				return a.moveSandbox(ctx, c, req, wait)
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", usualSandboxWait, "wait so long for it to run there, and to be attached to")
	return cmd
}

func (a *app) moveSandbox(ctx context.Context, c *control.Client, req *controlpb.MoveChildRequest, wait time.Duration) error {
	began := time.Now()
	moving, cancel := a.within(ctx, answerTime)
	res, err := c.Children.MoveChild(moving, req)
	cancel()
	if err != nil {
		return err
	}
	a.overwrite("moving…")
	defer a.overwrite("")
	child, err := a.awaitChild(ctx, c, res.GetChild(), wait, childAct{until: []string{"running", "exited", "stopped"}, moves: true})
	for err == nil && child.GetState() == "running" {
		var attached bool
		if attached, err = isAttached(ctx, c, child); attached || err != nil {
			break
		}
		if time.Since(began) > wait {
			err = &control.Error{Code: control.Timeout, Cause: fmt.Sprintf("move sandbox %s: it runs on %s, and is not attached to after %v", req.GetId(), child.GetMember(), wait), Hint: "`debughost targets` says why"}
			break
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(sandboxAgain):
		}
	}
	a.overwrite("")
	if err == nil && child.GetState() != "running" {
		err = &control.Error{Code: control.Failed, Cause: fmt.Sprintf("move sandbox %s: it is %s: %s", req.GetId(), child.GetState(), child.GetReason()), Hint: "`debughost sandbox show` tells its history"}
	}
	if err != nil {
		return err
	}
	took := time.Since(began)
	if a.output == asJSON {
		found, err := a.findSandbox(ctx, c, req.GetId())
		if err != nil {
			return err
		}
		return writeJSON(a.out, map[string]any{"sandbox": a.sandboxRow(found), "took": took.Seconds()})
	}
	_, err = fmt.Fprintf(a.out, "sandbox %s runs on %s as %s, %s later\n", sane(req.GetId()), sane(child.GetMember()), sane(child.GetNode()), took.Round(10*time.Millisecond))
	return err
}

// fault is a kind of fault, and what it wants to know.
type fault struct {
	name, about string
	args        []string // beside NAME and FAULT
	flags       []string // that it has
}

var faults = []fault{
	{"kill", "kill a process: once, so often, or again and again", []string{"PROCESS"}, []string{"every", "for", "count"}},
	{"suspend", "stop a process for a while, or again and again", []string{"PROCESS"}, []string{"every", "for", "count"}},
	{"drop", "lose the messages from one process to another", []string{"FROM", "TO"}, []string{"for", "count"}},
	{"delay", "have the messages from one process to another come later", []string{"FROM", "TO"}, []string{"by", "for", "count"}},
	{"fill", "put many messages into a mailbox", []string{"PROCESS"}, []string{"count", "message"}},
	{"limit", "kill children of a supervisor until it gives up", []string{"SUPERVISOR"}, []string{"for", "count"}},
}

// faultRequest is the input of the operation inject.
type faultRequest struct {
	Fault   string `json:"fault"`
	Process string `json:"process,omitempty"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	EveryMS int64  `json:"every_ms,omitempty"`
	ForMS   int64  `json:"for_ms,omitempty"`
	Count   uint32 `json:"count,omitempty"`
	DelayMS int64  `json:"delay_ms,omitempty"`
	Message string `json:"message,omitempty"`
}

// anyProcess stands for whichever process, of the two of a fault between processes.
const anyProcess = "any"

type injectFlags struct {
	every, span, by time.Duration
	count           uint32
	message, clear  string
	list            bool
}

func (a *app) injectCommand() *cobra.Command {
	f := &injectFlags{}
	long := `Have something go wrong in a sandbox:

`
	for _, k := range faults {
		long += fmt.Sprintf("  %-22s %s\n", joinArgs(k), k.about)
	}
	long += `
A process is a registered name, such as Shop.Stock or shop_stock, or a pid; of FROM and TO
one may be any. Each fault ends when its time or its count is over, when it is cleared, and with the sandbox's run.
Faults are for sandboxes: no target is touched. The call is written to the audit log.`
	cmd := &cobra.Command{
		Use:   "inject NAME FAULT PROCESS [PROCESS] | inject NAME --list | inject NAME --clear ID",
		Short: "Have something go wrong in a sandbox",
		Long:  long,
		Example: `  debughost sandbox inject shop kill Shop.Stock --every 1s --for 30s
  debughost sandbox inject shop delay Shop.Cart Shop.Stock --by 200ms
  debughost sandbox inject shop drop Shop.Cart Shop.Stock --count 3
  debughost sandbox inject shop fill Shop.Mailer --count 100000
  debughost sandbox inject shop limit Shop.Supervisor
  debughost sandbox inject shop --list
  debughost sandbox inject shop --clear all`,
		Args: optionalArgs(1, "NAME", "FAULT", "PROCESS", "PROCESS"), Annotations: map[string]string{noCSV: "yes"},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 1 {
				var out []cobra.Completion
				for _, k := range faults {
					out = append(out, cobra.CompletionWithDesc(k.name, k.about))
				}
				return out, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeSandboxes(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			do, err := f.request(a, cmd, args)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				if _, err := a.findSandbox(ctx, c, args[0]); err != nil {
					return err
				}
				return do(ctx, c)
			})
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.every, "every", 0, "again and again, this far apart")
	fl.DurationVar(&f.span, "for", 0, "end after this time")
	fl.DurationVar(&f.by, "by", 0, "how much later messages come")
	fl.Uint32Var(&f.count, "count", 0, "so many times, or so many messages")
	fl.StringVar(&f.message, "message", "", "term that fills a mailbox, in Erlang syntax")
	fl.BoolVar(&f.list, "list", false, "show the faults that are at work")
	fl.StringVar(&f.clear, "clear", "", "end the fault with this id, or all")
	complete(cmd, "clear", "all")
	return cmd
}

func joinArgs(k fault) string {
	out := k.name
	for _, arg := range k.args {
		out += " " + arg
	}
	return out
}

// request is what the command line asks for: a fault, the list of them, or an end.
func (f *injectFlags) request(a *app, cmd *cobra.Command, args []string) (func(context.Context, *control.Client) error, error) {
	name := args[0]
	switch {
	case f.list && f.clear != "":
		return nil, usagef("inject: either --list or --clear")
	case (f.list || f.clear != "") && len(args) > 1:
		return nil, usagef("inject: with --list and --clear there is no FAULT")
	case f.list:
		return func(ctx context.Context, c *control.Client) error { return a.listFaults(ctx, c, name) }, nil
	case f.clear != "":
		var id uint64
		if f.clear != "all" {
			if n, err := fmt.Sscan(f.clear, &id); n != 1 || err != nil || id == 0 || fmt.Sprint(id) != f.clear {
				return nil, usagef("inject: clear %q is neither all nor the id of a fault", f.clear)
			}
		}
		return func(ctx context.Context, c *control.Client) error { return a.clearFaults(ctx, c, name, id) }, nil
	}
	req, err := f.fault(cmd, args[1:])
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c *control.Client) error { return a.inject(ctx, c, name, req) }, nil
}

func (f *injectFlags) fault(cmd *cobra.Command, args []string) (*faultRequest, error) {
	if len(args) == 0 {
		return nil, usagef("inject: FAULT is missing")
	}
	for _, k := range faults {
		if k.name != args[0] {
			continue
		}
		if err := exactArgs(append([]string{"FAULT"}, k.args...)...)(cmd, args); err != nil {
			return nil, err
		}
		for _, flag := range []string{"every", "for", "by", "count", "message"} {
			if cmd.Flags().Changed(flag) && !slices.Contains(k.flags, flag) {
				return nil, usagef("inject: --%s is not of the fault %s", flag, k.name)
			}
		}
		for flag, d := range map[string]time.Duration{"every": f.every, "for": f.span, "by": f.by} {
			if d < 0 || cmd.Flags().Changed(flag) && d < time.Millisecond {
				return nil, usagef("inject: %s %v is less than a millisecond", flag, d)
			}
		}
		req := &faultRequest{
			Fault: k.name, EveryMS: f.every.Milliseconds(), ForMS: f.span.Milliseconds(), DelayMS: f.by.Milliseconds(), Count: f.count, Message: f.message,
		}
		if len(k.args) == 2 {
			if req.From = args[1]; req.From == anyProcess {
				req.From = ""
			}
			if req.To = args[2]; req.To == anyProcess {
				req.To = ""
			}
			if req.From+req.To == "" {
				return nil, usagef("inject: of FROM and TO only one may be any")
			}
		} else {
			req.Process = args[1]
		}
		switch {
		case k.name == "delay" && f.by == 0:
			return nil, usagef("inject: delay wants --by, such as --by 200ms")
		case k.name == "fill" && f.count == 0:
			return nil, usagef("inject: fill wants --count, such as --count 100000")
		}
		return req, nil
	}
	names := ""
	for _, k := range faults {
		names += ", " + k.name
	}
	return nil, usagef("inject: there is no fault %q; there are %s", args[0], names[2:])
}

func (a *app) inject(ctx context.Context, c *control.Client, name string, req *faultRequest) error {
	var raw json.RawMessage
	if err := a.operate(ctx, c, name, "inject", req, &raw); err != nil {
		return err
	}
	var all any // what is not known here, too
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	var done struct {
		ID        uint64   `json:"id"`
		Uncovered []string `json:"uncovered"`
	}
	if err := json.Unmarshal(raw, &done); err != nil {
		return fmt.Errorf("inject a fault into %s: it answers %.100s: %w", name, raw, err)
	}
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"fault": all})
	}
	if _, err := fmt.Fprintf(a.out, "fault %d is at work in %s: %s\n", done.ID, sane(name), sane(faultText(*req))); err != nil {
		return err
	}
	if n := len(done.Uncovered); n > 0 {
		a.note("what these modules send is not covered, since they have no debug_info or their old code runs: %s", sane(strings.Join(done.Uncovered, ", ")))
	}
	return nil
}

// faultText is kill Shop.Stock, drop Shop.Cart to Shop.Stock.
func faultText(r faultRequest) string {
	out := r.Fault + " " + r.Process
	if r.Process == "" {
		out = r.Fault + " " + cmp.Or(r.From, anyProcess) + " to " + cmp.Or(r.To, anyProcess)
	}
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	if r.DelayMS > 0 {
		out += fmt.Sprintf(" by %v", ms(r.DelayMS))
	}
	if r.EveryMS > 0 {
		out += fmt.Sprintf(" every %v", ms(r.EveryMS))
	}
	if r.Count > 0 {
		out += fmt.Sprintf(" %d times", r.Count)
	}
	if r.ForMS > 0 {
		out += fmt.Sprintf(" for %v", ms(r.ForMS))
	}
	return out
}

// faultJSON is a fault that is at work, as the strategy tells it.
type faultJSON struct {
	ID   uint64 `json:"id"`
	Hits uint64 `json:"hits"` // how often it struck
	faultRequest
}

func (a *app) listFaults(ctx context.Context, c *control.Client, name string) error {
	var all struct {
		Faults []json.RawMessage `json:"faults"`
	}
	if err := a.operate(ctx, c, name, "faults", struct{}{}, &all); err != nil {
		return err
	}
	if a.output == asJSON {
		rows := []any{}
		for _, raw := range all.Faults {
			var row any
			if err := json.Unmarshal(raw, &row); err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return writeJSON(a.out, map[string]any{"faults": rows})
	}
	g := newGrid(column{name: "id", right: true}, column{name: "fault", free: true}, column{name: "hits", right: true})
	for _, raw := range all.Faults {
		var f faultJSON
		if err := json.Unmarshal(raw, &f); err != nil {
			return fmt.Errorf("list faults of %s: it answers %.100s: %w", name, raw, err)
		}
		g.add(decimal(f.ID), faultText(f.faultRequest), decimal(f.Hits))
	}
	if len(all.Faults) == 0 {
		a.note("no fault is at work in %s", sane(name))
		return nil
	}
	return a.print(g)
}

func (a *app) clearFaults(ctx context.Context, c *control.Client, name string, id uint64) error {
	if err := a.operate(ctx, c, name, "clear", map[string]uint64{"id": id}, new(any)); err != nil {
		return err
	}
	what := fmt.Sprintf("fault %d is", id)
	if id == 0 {
		what = "all faults are"
	}
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"cleared": id}) // 0: all
	}
	_, err := fmt.Fprintf(a.out, "%s over in %s\n", what, sane(name))
	return err
}
