package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// beamStrategy is the strategy of the children that are sandboxes here.
const beamStrategy = "beam"

// sandboxTopology begins what names the target that is a sandbox; its name follows.
const sandboxTopology = "sandbox:"

// sandboxJSON is a sandbox in JSON; its keys are a contract.
type sandboxJSON struct {
	Name      string            `json:"name"`
	Node      string            `json:"node"`   // empty while there is none
	Member    string            `json:"member"` // empty while it is pending
	State     string            `json:"state"`  // of the child
	Reason    string            `json:"reason"`
	Version   string            `json:"version"`   // id of its bundle; empty: it has none
	Memory    uint64            `json:"memory"`    // bytes; 0: not known
	Uptime    float64           `json:"uptime"`    // seconds of the run that goes on
	Isolation map[string]string `json:"isolation"` // by what it is held, and shut in
}

func (a *app) sandboxRow(res *controlpb.GetChildResponse) sandboxJSON {
	c := res.GetChild()
	row := sandboxJSON{
		Name: c.GetId(), Node: c.GetNode(), Member: c.GetMember(), State: c.GetState(), Reason: c.GetReason(),
		Version: c.GetBundle(), Memory: c.GetMemory(), Isolation: map[string]string{},
	}
	if c.GetStarted() != nil && c.GetState() == "running" {
		row.Uptime = max(0, a.now().Sub(c.GetStarted().AsTime()).Seconds())
	}
	maps.Copy(row.Isolation, res.GetEnforced())
	return row
}

func (a *app) sandboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Start copies of a system that you may break, look at them, throw them away",
		Long: `A sandbox is a node of its own with your code in it: started on a member of the
cluster, held in limits, started again when it crashes, and attached to as any other
node. Its name does where a command wants a NODE.`,
		Example: `  debughost sandbox create shop --from ./shop --memory 512MB
  debughost sandbox create try --from fix.exs
  debughost ps shop
  debughost sandbox exec shop 'Shop.Cart.count()'
  debughost sandbox logs -f shop
  debughost sandbox reload shop                 # what was changed in ./shop
  debughost sandbox destroy shop
  debughost sandbox from shop@db1 --name bug7   # what a live node runs`,
		Annotations: map[string]string{noCSV: "yes"},
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.createSandboxCommand(), a.listSandboxesCommand(), a.showSandboxCommand(), a.sandboxLogsCommand(),
		a.sandboxExecCommand(), a.sandboxShellCommand(), a.stopSandboxCommand(), a.destroySandboxCommand(), a.sandboxTemplatesCommand(),
		a.sandboxFromCommand(), a.reloadSandboxCommand(), a.sandboxVersionsCommand(), a.sandboxDiffCommand(), a.rollbackSandboxCommand(),
		a.snapshotSandboxCommand(), a.restoreSandboxCommand(), a.moveSandboxCommand(), a.injectCommand(), a.replayCommand())
	return cmd
}

// findSandbox returns the child of a name, if it is a sandbox.
func (a *app) findSandbox(ctx context.Context, c *control.Client, name string) (*controlpb.GetChildResponse, error) {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: name})
	var fail *control.Error
	switch {
	case errors.As(err, &fail) && fail.Code == control.UnknownChild:
		return nil, &control.Error{Code: fail.Code, Cause: "there is no sandbox " + name, Hint: "`debughost sandbox list` tells what there is"}
	case err != nil:
		return nil, err
	case res.GetChild().GetStrategy() != beamStrategy:
		return nil, &control.Error{
			Code: control.Conflict, Cause: fmt.Sprintf("child %s is no sandbox: its strategy is %s", name, res.GetChild().GetStrategy()),
			Hint: "`debughost child` is for those",
		}
	}
	return res, nil
}

// nodeOfSandbox is the node of a sandbox that runs.
func (a *app) nodeOfSandbox(ctx context.Context, c *control.Client, name string) (string, error) {
	res, err := a.findSandbox(ctx, c, name)
	if err != nil {
		return "", err
	}
	if node := res.GetChild().GetNode(); node != "" {
		return node, nil
	}
	text := fmt.Sprintf("sandbox %s has no node: it is %s", name, res.GetChild().GetState())
	if res.GetChild().GetReason() != "" {
		text += ": " + res.GetChild().GetReason()
	}
	return "", &control.Error{Code: control.NotAttached, Cause: text, Hint: "`debughost sandbox show " + name + "` tells its history"}
}

func (a *app) listSandboxesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "Show the sandboxes of the cluster",
		Example: `  debughost sandbox list
  debughost sandbox list -o json | jq -r '.sandboxes[].node'`,
		Args:              optionalArgs(0, "PREFIX"),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &controlpb.ListChildrenRequest{Strategy: beamStrategy}
			if len(args) > 0 {
				req.Prefix = args[0]
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.listSandboxes(ctx, c, req)
			})
		},
	}
}

// listSandboxes asks of each sandbox the member that runs it.
func (a *app) listSandboxes(ctx context.Context, c *control.Client, req *controlpb.ListChildrenRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	stream, err := c.Children.ListChildren(ctx, req)
	if err != nil {
		return err
	}
	var all []*controlpb.GetChildResponse
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, child := range res.GetChildren() {
			all = append(all, &controlpb.GetChildResponse{Child: child})
		}
	}
	var asking sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range all {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			if res, err := c.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: all[i].GetChild().GetId()}); err == nil {
				all[i] = res // else what the list has
			}
		})
	}
	asking.Wait()
	l := listing[sandboxJSON]{
		plural: "sandboxes", note: "there are no sandboxes; `debughost sandbox create` makes one",
		header: []string{"name", "node", "member", "state", "version", "memory", "uptime", "reason"},
		csv: func(s sandboxJSON) []string {
			return []string{s.Name, s.Node, s.Member, s.State, s.Version, decimal(s.Memory), fmt.Sprintf("%.0f", s.Uptime), s.Reason}
		},
		grid: []column{
			{name: "name", least: 12}, {name: "node", least: 12}, {name: "member", least: 8}, {name: "state"},
			{name: "uptime", right: true}, {name: "memory", right: true}, {name: "reason", free: true},
		},
		cells: func(s sandboxJSON) []string {
			return []string{s.Name, s.Node, s.Member, s.State, uptimeText(s), memoryText(s), s.Reason}
		},
	}
	for _, res := range all {
		l.rows = append(l.rows, a.sandboxRow(res))
	}
	return printListing(a, l)
}

func uptimeText(s sandboxJSON) string {
	if s.Uptime == 0 {
		return ""
	}
	return age(time.Duration(s.Uptime * float64(time.Second)))
}

func memoryText(s sandboxJSON) string {
	if s.Memory == 0 {
		return ""
	}
	return size(s.Memory)
}

func (a *app) showSandboxCommand() *cobra.Command {
	return a.sandboxCommandOf(cobra.Command{
		Use: "show NAME", Short: "Show a sandbox: where it runs, by what it is held, and what happened to it",
		Example: `  debughost sandbox show shop`,
	}, func(context.Context, *control.Client, string) error { return nil })
}

// sandboxCommandOf is a command that does something to a sandbox and shows it then.
func (a *app) sandboxCommandOf(cmd cobra.Command, do func(ctx context.Context, c *control.Client, name string) error) *cobra.Command {
	cmd.Args, cmd.Annotations, cmd.ValidArgsFunction = exactArgs("NAME"), map[string]string{noCSV: "yes"}, a.completeSandboxes
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
			if _, err := a.findSandbox(ctx, c, args[0]); err != nil {
				return err
			}
			if err := do(ctx, c, args[0]); err != nil {
				return err
			}
			return a.showSandbox(ctx, c, args[0])
		})
	}
	return &cmd
}

func (a *app) showSandbox(ctx context.Context, c *control.Client, name string) error {
	res, err := a.findSandbox(ctx, c, name)
	if err != nil {
		return err
	}
	s := a.sandboxRow(res)
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"sandbox": s})
	}
	w := &detailWriter{Writer: bufio.NewWriter(a.out)}
	w.fact("sandbox", s.Name)
	w.fact("node", s.Node)
	w.fact("member", s.Member)
	w.fact("state", s.State)
	w.fact("reason", s.Reason)
	w.fact("version", shortVersion(s.Version))
	w.fact("memory", memoryText(s))
	w.fact("uptime", uptimeText(s))
	w.fact("limits", limitsText(res.GetSpec().GetLimits(), nil))
	for _, what := range slices.Sorted(maps.Keys(s.Isolation)) {
		w.fact("  "+what, s.Isolation[what])
	}
	if len(res.GetHistory()) > 0 {
		w.WriteByte('\n')
		if err := a.historyGrid(res.GetHistory()).write(w, a.width(), a.colors()); err != nil {
			return err
		}
	}
	if t := res.GetTrouble(); t != nil {
		a.note("%s does not tell of it, so this is what is known here: %s", sane(t.GetMember()), sane(t.GetError()))
	}
	return w.Flush()
}

func (a *app) sandboxLogsCommand() *cobra.Command {
	cmd := a.childLogsCommand()
	logs := cmd.RunE
	cmd.Use, cmd.Args, cmd.ValidArgsFunction = "logs NAME", exactArgs("NAME"), a.completeSandboxes
	cmd.Short = "Show what the compiler and the node of a sandbox printed, and follow it"
	cmd.Example = `  debughost sandbox logs shop --tail 100
  debughost sandbox logs -f shop`
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
			_, err := a.findSandbox(ctx, c, args[0])
			return err
		})
		if err != nil {
			return err
		}
		return logs(cmd, args)
	}
	return cmd
}

// moveSpare is how long a command waits for the node of a sandbox that is about to be
// attached to, as after a move.
const moveSpare = 5 * time.Second

// onSandbox makes of a command for a NODE one for a sandbox's NAME.
func (a *app) onSandbox(cmd *cobra.Command, use, short, example string) *cobra.Command {
	run := cmd.RunE
	cmd.Use, cmd.Short, cmd.Example, cmd.ValidArgsFunction = use, short, example, a.completeSandboxes
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args = slices.Clone(args)
		name, until := args[0], a.now().Add(moveSpare)
		for {
			err := a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) (err error) {
				args[0], err = a.nodeOfSandbox(ctx, c, name)
				return err
			})
			if err != nil {
				return err
			}
			err = run(cmd, args)
			var fail *control.Error
			late := errors.As(err, &fail) && (fail.Code == control.NotAttached || fail.Code == control.UnknownNode)
			if !late || a.now().After(until) {
				return err
			}
			select {
			case <-time.After(sandboxLook):
			case <-cmd.Context().Done():
				return err
			}
		}
	}
	return cmd
}

func (a *app) sandboxExecCommand() *cobra.Command {
	return a.onSandbox(a.evalCommand(), "exec NAME EXPR", "Evaluate an Elixir or Erlang expression in a sandbox", `  debughost sandbox exec shop 'Shop.Cart.count()'
  debughost sandbox exec shop --erlang 'erlang:memory(total)'`)
}

func (a *app) sandboxShellCommand() *cobra.Command {
	return a.onSandbox(a.remshCommand(), "remsh NAME", "Open the shell of a sandbox: IEx or Erlang's", `  debughost sandbox remsh shop`)
}

// stopTime covers the time that a sandbox has to end by itself, and the kill.
const stopTime = 20 * time.Second

func (a *app) stopSandboxCommand() *cobra.Command {
	return a.sandboxCommandOf(cobra.Command{
		Use: "stop NAME", Short: "End a sandbox, and keep what it is made of",
		Long: `End a sandbox and keep what it is made of: ` + "`debughost child restart`" + ` starts it
again. The call is written to the audit log.`,
		Example: `  debughost sandbox stop shop`,
	}, func(ctx context.Context, c *control.Client, name string) error {
		ctx, cancel := a.within(ctx, stopTime+grace)
		defer cancel()
		res, err := c.Children.StopChild(ctx, &controlpb.StopChildRequest{Id: name})
		if err != nil {
			return err
		}
		done, err := c.Children.WaitChild(ctx, &controlpb.WaitChildRequest{
			Id: name, Epoch: res.GetChild().GetEpoch(), Timeout: durationpb.New(stopTime), States: []string{"stopped", "exited", "failed"},
		})
		if err == nil && !done.GetReached() {
			err = &control.Error{
				Code: control.Timeout, Cause: fmt.Sprintf("stop sandbox %s: it is %s after %v", name, done.GetChild().GetState(), stopTime),
				Hint: "`debughost sandbox show " + name + "` tells its history",
			}
		}
		return err
	})
}

func (a *app) destroySandboxCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "destroy NAME",
		Short: "End a sandbox, and leave nothing of it",
		Long: `End a sandbox and forget it: its node, its files, its log, its history. The call is
written to the audit log.`,
		Example:           `  debughost sandbox destroy shop`,
		Args:              exactArgs("NAME"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				if _, err := a.findSandbox(ctx, c, args[0]); err != nil {
					return err
				}
				if err := a.removeChild(ctx, c, args[0]); err != nil {
					return err
				}
				if a.output == asJSON {
					return writeJSON(a.out, map[string]any{"destroyed": args[0]})
				}
				_, err := fmt.Fprintf(a.out, "sandbox %s is destroyed\n", sane(args[0]))
				return err
			})
		},
	}
}

// completeSandboxes offers the names of sandboxes.
func (a *app) completeSandboxes(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, prefix, func(ctx context.Context, c *control.Client, offer func(word, about string)) error {
		stream, err := c.Children.ListChildren(ctx, &controlpb.ListChildrenRequest{Prefix: prefix, Strategy: beamStrategy, Limit: 200})
		if err != nil {
			return err
		}
		for {
			res, err := stream.Recv()
			if err != nil {
				return err
			}
			for _, child := range res.GetChildren() {
				offer(child.GetId(), child.GetState())
			}
		}
	})
}
