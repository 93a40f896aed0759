package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// childAct is the command of an act on one child.
type childAct struct {
	use, about, long, example string
	args                      cobra.PositionalArgs
	complete                  completer
	do                        func(ctx context.Context, c *control.Client, args []string) (*controlpb.ChildResponse, error)
	until                     []string // the states that --wait waits for
	several                   bool     // the arguments are ids, each of which it is done to
	moves                     bool     // it may come to nothing, with the child as it was
}

func (a *app) childActCommand(act childAct) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: act.use, Short: act.about, Long: act.long, Example: act.example, Args: act.args,
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: act.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			if act.several && len(args) > 1 {
				return a.actOnSeveral(cmd, wait, act, args)
			}
			return a.actOnChild(cmd, wait, act, func(ctx context.Context, c *control.Client) (*controlpb.ChildResponse, error) {
				return act.do(ctx, c, args)
			})
		},
	}
	waitFlag(cmd, &wait, act.until[0])
	return cmd
}

func waitFlag(cmd *cobra.Command, wait *time.Duration, state string) {
	cmd.Flags().DurationVar(wait, "wait", 0, "wait so long for it to be "+state+"; it is an error if it is not by then")
}

func checkWait(cmd *cobra.Command, wait time.Duration) error {
	if wait < 0 || wait > control.MaxTTL {
		return usagef("%s: wait %v is not between 0 and %v", cmd.Name(), wait, control.MaxTTL)
	}
	return nil
}

// actOnSeveral does the same to several children, and waits for each if that is
// wanted.
func (a *app) actOnSeveral(cmd *cobra.Command, wait time.Duration, act childAct, ids []string) error {
	if err := checkWait(cmd, wait); err != nil {
		return err
	}
	return a.toSeveral(cmd, ids, func(ctx context.Context, c *control.Client, id string) (*controlpb.Child, error) {
		acting, cancel := a.within(ctx, answerTime)
		defer cancel()
		res, err := act.do(acting, c, []string{id})
		if err != nil || wait == 0 {
			return res.GetChild(), err
		}
		return a.awaitChild(ctx, c, res.GetChild(), wait, act)
	})
}

// actOnChild does something to a child, waits if that is wanted, and says what came
// of it.
func (a *app) actOnChild(cmd *cobra.Command, wait time.Duration, act childAct, do func(context.Context, *control.Client) (*controlpb.ChildResponse, error)) error {
	if err := checkWait(cmd, wait); err != nil {
		return err
	}
	return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
		acting, cancel := a.within(ctx, answerTime)
		defer cancel()
		res, err := do(acting, c)
		if err != nil {
			return err
		}
		if wait == 0 {
			return a.printChild(res.GetChild())
		}
		return a.waitForChild(ctx, c, res.GetChild(), wait, act)
	})
}

// waitForChild waits for a child and prints what it is then.
func (a *app) waitForChild(ctx context.Context, c *control.Client, child *controlpb.Child, wait time.Duration, act childAct) error {
	child, err := a.awaitChild(ctx, c, child, wait, act)
	if child == nil {
		return err
	}
	return cmp.Or(a.printChild(child), err)
}

// awaitChild returns what a child is in the end; with an error where that is not
// what is waited for.
func (a *app) awaitChild(ctx context.Context, c *control.Client, child *controlpb.Child, wait time.Duration, act childAct) (*controlpb.Child, error) {
	until := act.until
	ctx, cancel := context.WithTimeout(ctx, wait+grace)
	defer cancel()
	res, err := c.Children.WaitChild(ctx, &controlpb.WaitChildRequest{
		Id: child.GetId(), Epoch: child.GetEpoch(), Timeout: durationpb.New(wait), States: append(slices.Clone(until), "failed"),
	})
	if err != nil {
		return nil, err
	}
	if act.moves && res.GetReached() && res.GetChild().GetEpoch() > child.GetEpoch() {
		if err := notMoved(ctx, c, child, res.GetChild()); err != nil {
			return res.GetChild(), err
		}
	}
	if slices.Contains(until, res.GetChild().GetState()) && res.GetReached() {
		return res.GetChild(), nil
	}
	e := &control.Error{
		Code:  control.Timeout,
		Cause: fmt.Sprintf("wait for child %s: it is not %s after %v", child.GetId(), until[0], wait),
		Hint:  fmt.Sprintf("`debughost child show %s` tells its history, `debughost child logs %[1]s` what it printed", child.GetId()),
	}
	if res.GetReached() {
		e.Code, e.Cause = control.Failed, fmt.Sprintf("wait for child %s: it has failed", child.GetId())
	}
	return res.GetChild(), e
}

// notMoved tells whether a child runs where it did because the move that was asked for
// has failed.
func notMoved(ctx context.Context, c *control.Client, asked, now *controlpb.Child) error {
	res, err := c.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: now.GetId()})
	if err != nil {
		return nil // what is known is told
	}
	for _, e := range slices.Backward(res.GetHistory()) {
		if e.GetWhat() == "not_moved" && e.GetEpoch() > asked.GetEpoch() && e.GetEpoch() <= now.GetEpoch() {
			return &control.Error{
				Code:  control.Failed,
				Cause: fmt.Sprintf("move child %s: it goes on where it was: %s", now.GetId(), e.GetReason()),
				Hint:  fmt.Sprintf("`debughost child show %s` tells its history; `debughost child restart` starts it without the state that it has", now.GetId()),
			}
		}
	}
	return nil
}

func (a *app) stopChildCommand() *cobra.Command {
	return a.childActCommand(childAct{
		use: "stop ID…", about: "End children, and keep their specs",
		long: `End children and keep their specs: ` + "`debughost child restart`" + ` starts them again. Each is
asked to end, and killed after its shutdown timeout. Of several each is reported, and the
exit code is that of the worst. The call is written to the audit log.`,
		example: `  debughost child stop web
  debughost child stop web worker --wait 30s`,
		args: someArgs("ID"), complete: a.completeAllChildren, until: []string{"stopped", "exited"}, several: true,
		do: func(ctx context.Context, c *control.Client, args []string) (*controlpb.ChildResponse, error) {
			return c.Children.StopChild(ctx, &controlpb.StopChildRequest{Id: args[0]})
		},
	})
}

func (a *app) restartChildCommand() *cobra.Command {
	return a.childActCommand(childAct{
		use: "restart ID…", about: "Start children again, whatever state they are in",
		long: `Start children again: one that runs is ended first, one that was stopped, has ended or
has failed is started with a clean count of restarts. Of several each is reported, and the
exit code is that of the worst. The call is written to the audit log.`,
		example: `  debughost child restart web
  debughost child restart web worker --wait 30s`,
		args: someArgs("ID"), complete: a.completeAllChildren, until: []string{"running", "exited"}, several: true,
		do: func(ctx context.Context, c *control.Client, args []string) (*controlpb.ChildResponse, error) {
			return c.Children.RestartChild(ctx, &controlpb.RestartChildRequest{Id: args[0]})
		},
	})
}

func (a *app) moveChildCommand() *cobra.Command {
	return a.childActCommand(childAct{
		use: "move ID [MEMBER]", about: "Have a child run on another member",
		long: `Have a child run on MEMBER, or on whichever other one its placement strategy chooses.
It is ended where it runs before it is started there. With the handoff snapshot it goes
on where it runs until it has begun there with the state that it has; when that cannot
be, it stays, and --wait fails and says why. The call is written to the audit log.`,
		example: `  debughost child move web db2
  debughost child move web --wait 1m`,
		args: optionalArgs(1, "ID", "MEMBER"),
		complete: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return a.completeChildren(cmd, args, prefix)
			case 1:
				return a.completeMembers(cmd, nil, prefix)
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		until: []string{"running", "exited"}, moves: true,
		do: func(ctx context.Context, c *control.Client, args []string) (*controlpb.ChildResponse, error) {
			req := &controlpb.MoveChildRequest{Id: args[0]}
			if len(args) > 1 {
				req.Member = args[1]
			}
			return c.Children.MoveChild(ctx, req)
		},
	})
}

func (a *app) removeChildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID…",
		Short: "End children, and forget them with their specs, logs and files",
		Long: `End children and forget them: their specs, their history, their logs and the files in
their own directories. Of several each is reported, and the exit code is that of the
worst. The call is written to the audit log.`,
		Example: `  debughost child remove web
  debughost child list old- -o json | jq -r '.children[].id' | xargs debughost child remove`,
		Args:              someArgs("ID"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeAllChildren,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return a.toSeveral(cmd, args, func(ctx context.Context, c *control.Client, id string) (*controlpb.Child, error) {
					return nil, a.removeChild(ctx, c, id)
				})
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				if err := a.removeChild(ctx, c, args[0]); err != nil {
					return err
				}
				if a.output == asJSON {
					return writeJSON(a.out, map[string]any{"removed": args[0]})
				}
				return a.printOutcome(args[0], childOutcome{})
			})
		},
	}
}

func (a *app) removeChild(ctx context.Context, c *control.Client, id string) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	_, err := c.Children.RemoveChild(ctx, &controlpb.RemoveChildRequest{Id: id})
	return err
}
