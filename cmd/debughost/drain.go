package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// drainJSON says how far a drain is; its keys are a contract.
type drainJSON struct {
	Member   string      `json:"member"`
	Draining bool        `json:"draining"`
	Left     uint32      `json:"left"` // children that run there
	Children []childJSON `json:"children"`
}

func (a *app) drainCommand() *cobra.Command {
	req := &controlpb.DrainMemberRequest{}
	var noWait bool
	cmd := &cobra.Command{
		Use:   "drain MEMBER",
		Short: "Have the children of a member run elsewhere, before work on it",
		Long: `Have all children of a member run elsewhere, a few at a time, and no other be placed
there, until --undo. It waits until nothing runs there and shows what is left; Ctrl-C
ends the waiting and not the drain. A child that no other member may take stays
where it is, and says why. The call is written to the audit log.`,
		Example: `  debughost drain db2
  debughost drain db2 --no-wait
  debughost drain db2 --undo`,
		Args:              exactArgs("MEMBER"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Member = args[0]
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.drainMember(ctx, c, req, !noWait)
			})
		},
	}
	cmd.Flags().BoolVar(&req.Undo, "undo", false, "let children be placed there again")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until nothing runs there")
	return cmd
}

func (a *app) drainMember(ctx context.Context, c *control.Client, req *controlpb.DrainMemberRequest, wait bool) error {
	acting, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Children.DrainMember(acting, req)
	switch {
	case err != nil:
		return err
	case req.GetUndo():
		return a.drained(&controlpb.WatchDrainResponse{Left: res.GetChildren()}, req.GetMember(), "takes children again")
	case !wait:
		left := &controlpb.WatchDrainResponse{Draining: true, Left: res.GetChildren()}
		return a.drained(left, req.GetMember(), fmt.Sprintf("is being drained, %d children run there", res.GetChildren()))
	}
	if a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	return a.watchDrain(ctx, c, req.GetMember())
}

func (a *app) watchDrain(ctx context.Context, c *control.Client, member string) error {
	stream, err := c.Children.WatchDrain(ctx, &controlpb.WatchDrainRequest{Member: member})
	if err != nil {
		return err
	}
	var last *controlpb.WatchDrainResponse
	for {
		res, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return a.drainEnded(last, member)
		case err != nil:
			if last != nil {
				a.note("the drain of %s goes on: %s", sane(member), leftText(last))
			}
			return err
		}
		if last == nil || last.GetLeft() != res.GetLeft() || stuckText(last) != stuckText(res) {
			fmt.Fprintf(a.err, "%s: %s\n", sane(member), leftText(res))
		}
		last = res
	}
}

func (a *app) drainEnded(last *controlpb.WatchDrainResponse, member string) error {
	if last.GetLeft() > 0 || !last.GetDraining() {
		return &control.Error{
			Code: control.Conflict, Cause: fmt.Sprintf("drain member %s: somebody has undone it, %d children run there", member, last.GetLeft()),
		}
	}
	return a.drained(last, member, "is drained: no child runs there")
}

func (a *app) drained(d *controlpb.WatchDrainResponse, member, text string) error {
	if a.output != asJSON {
		_, err := fmt.Fprintf(a.out, "%s %s\n", sane(member), text)
		return err
	}
	row := drainJSON{Member: member, Draining: d.GetDraining(), Left: d.GetLeft(), Children: []childJSON{}}
	for _, c := range d.GetChildren() {
		row.Children = append(row.Children, childRow(c))
	}
	return writeJSON(a.out, map[string]any{"drain": row})
}

func leftText(d *controlpb.WatchDrainResponse) string {
	text := fmt.Sprintf("%d of %d children left", d.GetLeft(), d.GetOf())
	if stuck := stuckText(d); stuck != "" {
		text += " (" + stuck + ")"
	}
	return text
}

// stuckText tells why children are where they are, where that is known, of the first
// three.
func stuckText(d *controlpb.WatchDrainResponse) string {
	var parts []string
	for _, c := range d.GetChildren() {
		if c.GetReason() != "" && len(parts) < 3 {
			parts = append(parts, sane(c.GetId()+": "+c.GetReason()))
		}
	}
	return strings.Join(parts, "; ")
}
