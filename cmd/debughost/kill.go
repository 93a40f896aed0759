package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// killJSON says what was done; its keys are OTP's names where OTP has one.
type killJSON struct {
	Node           string `json:"node"`
	Pid            string `json:"pid"`
	RegisteredName string `json:"registered_name"`
	Reason         string `json:"reason"`
	Alive          bool   `json:"alive"`
}

func (a *app) killCommand() *cobra.Command {
	req := &controlpb.KillProcessRequest{}
	cmd := &cobra.Command{
		Use:   "kill NODE PID|NAME",
		Short: "End one process with an exit signal",
		Long: `Send one process an exit signal. Without --reason it is kill, which no process
survives and no process hears: its links get killed. A process that traps exits
receives any other reason as a message, and may live on.

What would take the node down (a process of the emulator or the kernel, the top
supervisor of a permanent application, a child of a supervisor that has no restart
left) is refused unless --force is given. The call
is written to the audit log. A process that is not there is an error: noproc.`,
		Example: `  debughost kill shop@db1 '<0.123.0>'
  debughost kill shop@db1 My.Worker --reason shutdown
  debughost kill shop@db1 my_worker --reason '{shutdown, by_hand}'`,
		Args:              exactArgs("NODE", "PID|NAME"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeProcess,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Node, req.Process, req.Timeout = args[0], args[1], a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.kill(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&req.Reason, "reason", "r", "kill", "exit reason: a term in Erlang or Elixir syntax")
	fl.BoolVar(&req.Force, "force", false, "also end what would take the node down")
	return cmd
}

func (a *app) kill(ctx context.Context, c *control.Client, req *controlpb.KillProcessRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Processes.KillProcess(ctx, req)
	if err != nil {
		return err
	}
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"done": killJSON{
			res.GetNode(), res.GetPid(), res.GetRegisteredName(), res.GetReason(), res.GetAlive(),
		}})
	}
	who := res.GetPid()
	if res.GetRegisteredName() != "" {
		who += " (" + short(res.GetRegisteredName()) + ")"
	}
	if res.GetAlive() {
		_, err = fmt.Fprintf(a.out, "sent exit reason %s to %s on %s; it is still alive\n",
			sane(res.GetReason()), sane(who), sane(res.GetNode()))
		if res.GetReason() == "normal" {
			a.note("an exit signal with reason normal ends no process; --reason shutdown, or kill, does")
			return err
		}
		a.note("it traps exits, or has not got to it yet; --reason kill can't be trapped")
		return err
	}
	_, err = fmt.Fprintf(a.out, "ended %s on %s with reason %s\n", sane(who), sane(res.GetNode()), sane(res.GetReason()))
	return err
}
