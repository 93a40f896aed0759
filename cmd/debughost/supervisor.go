package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) supervisorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "supervisor",
		Short: "Have a supervisor of a node terminate or restart a child",
		Long: `Have a supervisor of a node terminate a child, without restarting it, or start it
again. This does not count as a restart, of which a supervisor makes only so many.
(What debughost itself keeps running is ` + "`debughost child`" + `.)

A child is named by its id in the supervisor, in Erlang's or Elixir's syntax, by its
pid or by its registered name.`,
		Example: `  debughost supervisor terminate shop@db1 Shop.Supervisor Shop.Mailer
  debughost supervisor restart shop@db1 Shop.Supervisor Shop.Mailer`,
		Args: subcommandOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.supervised("terminate", "Have a supervisor terminate a child and not restart it",
			`Have a supervisor terminate a child, and not restart it until it is told to. A child
without which the node ends is refused unless --force is given. The call is written to
the audit log.`,
			`  debughost supervisor terminate shop@db1 Shop.Supervisor Shop.Mailer
  debughost supervisor terminate shop@db1 Shop.Workers '<0.123.0>'`,
			func(ctx context.Context, c *control.Client, req *controlpb.ChildRequest) (*controlpb.ActResponse, error) {
				return c.Acts.TerminateChild(ctx, req)
			}),
		a.supervised("restart", "Have a supervisor start a child again",
			`Have a supervisor start a child that was terminated, or terminate one that runs and
start it again. A temporary child, and one of a dynamic supervisor, is forgotten when
it is terminated, and is therefore refused. The call is written to the audit log.`,
			`  debughost supervisor restart shop@db1 Shop.Supervisor Shop.Mailer`,
			func(ctx context.Context, c *control.Client, req *controlpb.ChildRequest) (*controlpb.ActResponse, error) {
				return c.Acts.RestartChild(ctx, req)
			}),
	)
	return cmd
}

func (a *app) supervised(name, about, long, example string, do func(context.Context, *control.Client, *controlpb.ChildRequest) (*controlpb.ActResponse, error)) *cobra.Command {
	req := &controlpb.ChildRequest{}
	cmd := &cobra.Command{
		Use:               name + " NODE SUPERVISOR CHILD",
		Short:             about,
		Long:              long,
		Example:           example,
		Args:              exactArgs("NODE", "SUPERVISOR", "CHILD"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeProcess,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Node, req.Process, req.Child, req.Timeout = args[0], args[1], args[2], a.targetTimeout()
			return a.acting(cmd, func(ctx context.Context, c *control.Client) (*controlpb.ActResponse, error) {
				return do(ctx, c, req)
			})
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "also a child without which the node ends")
	return cmd
}
