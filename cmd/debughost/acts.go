package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// doneJSON says what was done; its keys are OTP's names where OTP has one.
type doneJSON struct {
	Node            string  `json:"node"`
	Pid             string  `json:"pid"`
	RegisteredName  string  `json:"registered_name"`
	Act             string  `json:"act"`
	Message         string  `json:"message,omitempty"`
	MessageQueueLen *uint64 `json:"message_queue_len,omitempty"`
	MemoryBefore    uint64  `json:"memory_before,omitempty"`
	MemoryAfter     uint64  `json:"memory_after,omitempty"`
	Status          string  `json:"status,omitempty"`
	Flag            string  `json:"flag,omitempty"`
	Value           string  `json:"value,omitempty"`
	Was             string  `json:"was,omitempty"`
	Child           string  `json:"child,omitempty"`
	ChildPid        string  `json:"child_pid,omitempty"`
	NewPid          string  `json:"new_pid,omitempty"`
}

// did prints what was done.
func (a *app) did(d *controlpb.ActResponse, err error) error {
	if err != nil {
		return err
	}
	if a.output == asJSON {
		row := doneJSON{
			Node: d.GetNode(), Pid: d.GetPid(), RegisteredName: d.GetRegisteredName(), Act: d.GetAct(), Message: d.GetMessage(),
			MemoryBefore: d.GetMemoryBefore(), Flag: d.GetFlag(), Value: d.GetValue(),
			Was: d.GetWas(), Child: d.GetChild(), ChildPid: d.GetChildPid(), NewPid: d.GetNewPid(),
		}
		if d.GetMemoryBefore() > 0 {
			row.MemoryAfter = d.GetMemoryAfter()
		}
		if d.GetStatus() != "" {
			n := d.GetMessageQueueLen()
			row.MessageQueueLen, row.Status = &n, d.GetStatus()
		}
		return writeJSON(a.out, map[string]any{"done": row})
	}
	who := d.GetPid()
	if d.GetRegisteredName() != "" {
		who += " (" + short(d.GetRegisteredName()) + ")"
	}
	_, err = fmt.Fprintln(a.out, saneLines(didText(d, who+" on "+d.GetNode())))
	return err
}

func didText(d *controlpb.ActResponse, who string) string {
	switch d.GetAct() {
	case "send":
		return fmt.Sprintf("sent %s to %s; %d messages wait there", d.GetMessage(), who, d.GetMessageQueueLen())
	case "garbage_collect":
		return fmt.Sprintf("collected garbage of %s: memory %s, was %s", who, size(d.GetMemoryAfter()), size(d.GetMemoryBefore()))
	case "suspend":
		return fmt.Sprintf("suspended %s; it is %s, and %d messages wait", who, d.GetStatus(), d.GetMessageQueueLen())
	case "resume":
		return fmt.Sprintf("resumed %s; it is %s, and %d messages wait", who, d.GetStatus(), d.GetMessageQueueLen())
	case "process_flag":
		return fmt.Sprintf("set %s of %s to %s; it was %s", d.GetFlag(), who, d.GetValue(), d.GetWas())
	case "terminate_child":
		return strings.TrimSpace(fmt.Sprintf("terminated child %s of %s: %s", d.GetChild(), who, orElse(d.GetChildPid(), "it was being restarted")))
	case "restart_child":
		return fmt.Sprintf("restarted child %s of %s: %s, was %s", d.GetChild(), who, orElse(d.GetNewPid(), "ignored"), orElse(d.GetChildPid(), "terminated"))
	}
	return fmt.Sprintf("%s: %s", d.GetAct(), who)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// acting runs one act, and prints what it did.
func (a *app) acting(cmd *cobra.Command, do func(context.Context, *control.Client) (*controlpb.ActResponse, error)) error {
	return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
		ctx, cancel := a.within(ctx, answerTime)
		defer cancel()
		return a.did(do(ctx, c))
	})
}

func (a *app) sendCommand() *cobra.Command {
	req := &controlpb.SendMessageRequest{}
	cmd := &cobra.Command{
		Use:   "send NODE PID|NAME TERM",
		Short: "Send a message to one process",
		Long: `Send a process a message: a literal term in Elixir syntax where the node runs
Elixir, else in Erlang syntax; what one cannot read the other is tried for. The
process hears it as any message: a gen_server in handle_info.

A message with an atom that the node does not have is refused unless --force is
given: nothing there could match it, and it would stay in the node's table. So is
one to a process that the node may not do without. The call is written to the audit
log.`,
		Example: `  debughost send shop@db1 Shop.Cache '{:reload, "prices"}'
  debughost send shop@db1 '<0.123.0>' stop --syntax erlang`,
		Args:              exactArgs("NODE", "PID|NAME", "TERM"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeProcess,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSyntax(cmd, req.GetSyntax()); err != nil {
				return err
			}
			req.Node, req.Process, req.Term, req.Timeout = args[0], args[1], args[2], a.targetTimeout()
			return a.acting(cmd, func(ctx context.Context, c *control.Client) (*controlpb.ActResponse, error) {
				return c.Acts.SendMessage(ctx, req)
			})
		},
	}
	cmd.Flags().StringVar(&req.Syntax, "syntax", "auto", "of the term: auto, erlang or elixir")
	cmd.Flags().BoolVar(&req.Force, "force", false, "also what may take the node down, and atoms that it does not have")
	complete(cmd, "syntax", "auto", "erlang", "elixir")
	return cmd
}

func (a *app) gcCommand() *cobra.Command {
	return a.processAct("gc", "Collect the garbage of one process",
		`Have the garbage of a process collected, all of it. The process stands still
meanwhile, which takes about a second for each gigabyte. The call is written to the
audit log.`,
		`  debughost gc shop@db1 Shop.Orders
  debughost gc shop@db1 '<0.123.0>' -o json`, "",
		func(ctx context.Context, c *control.Client, req *controlpb.ActRequest) (*controlpb.ActResponse, error) {
			return c.Acts.CollectGarbage(ctx, req)
		})
}

func (a *app) suspendCommand() *cobra.Command {
	return a.processAct("suspend", "Stop one process until it is resumed",
		`Stop a process where it is. Its messages wait, and so does whoever calls it. It goes
on when it is resumed, and by itself when debughost detaches from the node, ends, is
killed or is cut off.

What the node may not do without is refused unless --force is given. The call is
written to the audit log.`,
		`  debughost suspend shop@db1 Shop.Mailer
  debughost resume shop@db1 Shop.Mailer`, "also suspend what the node may not do without",
		func(ctx context.Context, c *control.Client, req *controlpb.ActRequest) (*controlpb.ActResponse, error) {
			return c.Acts.SuspendProcess(ctx, req)
		})
}

func (a *app) resumeCommand() *cobra.Command {
	return a.processAct("resume", "Let a suspended process go on",
		`Let a process go on that debughost has suspended. One that somebody else on the node
has suspended is theirs to resume.`,
		`  debughost resume shop@db1 Shop.Mailer`, "",
		func(ctx context.Context, c *control.Client, req *controlpb.ActRequest) (*controlpb.ActResponse, error) {
			return c.Acts.ResumeProcess(ctx, req)
		})
}

// processAct is the command of an act that needs no more than the process.
func (a *app) processAct(name, about, long, example, force string, do func(context.Context, *control.Client, *controlpb.ActRequest) (*controlpb.ActResponse, error)) *cobra.Command {
	req := &controlpb.ActRequest{}
	cmd := &cobra.Command{
		Use:               name + " NODE PID|NAME",
		Short:             about,
		Long:              long,
		Example:           example,
		Args:              exactArgs("NODE", "PID|NAME"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeProcess,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Node, req.Process, req.Timeout = args[0], args[1], a.targetTimeout()
			return a.acting(cmd, func(ctx context.Context, c *control.Client) (*controlpb.ActResponse, error) {
				return do(ctx, c, req)
			})
		},
	}
	if force != "" {
		cmd.Flags().BoolVar(&req.Force, "force", false, force)
	}
	return cmd
}

func (a *app) flagCommand() *cobra.Command {
	req := &controlpb.SetProcessFlagRequest{}
	cmd := &cobra.Command{
		Use:   "flag NODE PID|NAME FLAG VALUE",
		Short: "Set a process flag of one process",
		Long: `Set a process flag, and say what it was before. It stays set.

OTP lets another process set save_calls alone. The other flags a process sets itself:
it is asked to through sys, so that they can be set of a gen_server, gen_statem,
supervisor and the like, and not of a process that knows no system messages. This
goes for the priority, too.

Flags: ` + strings.Join(control.ProcessFlags(), ", ") + `. Heap sizes are in words.
A max_heap_size that the process is above already would end it, and is refused unless
--force is given, as is what the node may not do without. The call is written to the
audit log.`,
		Example: `  debughost flag shop@db1 Shop.Mailer message_queue_data off_heap
  debughost flag shop@db1 Shop.Mailer priority high
  debughost flag shop@db1 '<0.123.0>' save_calls 50`,
		Args:        exactArgs("NODE", "PID|NAME", "FLAG", "VALUE"),
		Annotations: map[string]string{noCSV: "yes"},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 2 {
				return cobra.FixedCompletions(control.ProcessFlags(), cobra.ShellCompDirectiveNoFileComp)(cmd, args, prefix)
			}
			return a.completeProcess(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Node, req.Process, req.Flag, req.Value, req.Timeout = args[0], args[1], args[2], args[3], a.targetTimeout()
			return a.acting(cmd, func(ctx context.Context, c *control.Client) (*controlpb.ActResponse, error) {
				return c.Acts.SetProcessFlag(ctx, req)
			})
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "also what may end the process or the node")
	return cmd
}
