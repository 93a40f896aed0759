package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// timerJSON is who has how many timers, in JSON; its keys are a contract.
type timerJSON struct {
	Node      string `json:"node"`
	Owner     string `json:"owner"`
	OwnerName string `json:"owner_name"`
	Count     uint64 `json:"count"`
}

// timerTotalJSON is how many timers the timer server of a node keeps.
type timerTotalJSON struct {
	Node  string `json:"node"`
	Total uint64 `json:"total"`
}

func (a *app) timersCommand() *cobra.Command {
	req := &controlpb.ListTimersRequest{}
	cmd := &cobra.Command{
		Use:   "timers [NODE…]",
		Short: "Show who has timers in OTP's timer server",
		Long: `Show which processes have timers that repeat in OTP's timer server (timer:send_interval
and the like), and how many timers it keeps in all, with those that fire once.

The emulator's own timers (erlang:send_after, Process.send_after, and what
timer:send_after makes of it since OTP 25) are listed by no node.`,
		Example: `  debughost timers shop@db1
  debughost timers -o json`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			req.Nodes, req.Timeout = nodes, a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error { return a.timers(ctx, c, req) })
		},
	}
	cmd.Flags().Uint32Var(&req.Limit, "limit", 100, "owners of each node, 0 for 10000")
	return cmd
}

func (a *app) timers(ctx context.Context, c *control.Client, req *controlpb.ListTimersRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Resources.ListTimers(ctx, req)
	if err != nil {
		return err
	}
	l := listing[timerJSON]{
		plural: "timers", errors: res.GetErrors(), answered: len(res.GetAnswered()), note: "no process has a timer that repeats in the timer server",
		header:     []string{"node", "owner", "owner_name", "count"},
		csv:        func(t timerJSON) []string { return []string{t.Node, t.Owner, t.OwnerName, decimal(t.Count)} },
		grid:       []column{{name: "node", least: 12, dull: true}, {name: "owner"}, {name: "owner_name", least: 16}, {name: "count", right: true}},
		cells:      func(t timerJSON) []string { return []string{t.Node, t.Owner, short(t.OwnerName), decimal(t.Count)} },
		alsoPlural: "totals",
	}
	for _, t := range res.GetTimers() {
		l.rows = append(l.rows, timerJSON{t.GetNode(), t.GetOwner(), t.GetOwnerName(), t.GetCount()})
	}
	for _, t := range res.GetTotals() {
		l.also = append(l.also, timerTotalJSON{t.GetNode(), t.GetTotal()})
	}
	err = printListing(a, l)
	for _, t := range res.GetTotals() {
		a.note("the timer server of %s keeps %s, with those that fire once", sane(t.GetNode()), plural(t.GetTotal(), "timer"))
	}
	return err
}
