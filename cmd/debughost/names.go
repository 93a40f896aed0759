package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// nameJSON is a registered name in JSON; its keys are a contract.
type nameJSON struct {
	Node            string `json:"node"`
	Name            string `json:"name"`
	Kind            string `json:"kind"`
	Pid             string `json:"pid"`
	Memory          uint64 `json:"memory"`
	MessageQueueLen uint64 `json:"message_queue_len"`
	InitialCall     string `json:"initial_call"`
}

// usualNames is how many names of each node are shown unless --limit says more.
const usualNames = 1000

func (a *app) namesCommand() *cobra.Command {
	req := &controlpb.ListNamesRequest{}
	cmd := &cobra.Command{
		Use:   "names [NODE…]",
		Short: "Show the registered names of nodes, and whose they are",
		Long: `Show the names that processes and ports are registered under, of the nodes that are
named or of all.`,
		Example: `  debughost names shop@db1
  debughost names --filter cache
  debughost names -o json | jq -r '.names[].name' | sort | uniq -c`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			req.Nodes, req.Timeout = nodes, a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.names(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Filter, "filter", "", "only names that contain this, in upper or lower case")
	fl.Uint32Var(&req.Limit, "limit", usualNames, "names of each node, 0 for 10000")
	return cmd
}

func (a *app) names(ctx context.Context, c *control.Client, req *controlpb.ListNamesRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Nodes.ListNames(ctx, req)
	if err != nil {
		return err
	}
	l := listing[nameJSON]{
		plural: "names", errors: res.GetErrors(), answered: len(res.GetTotals()), note: "no name matches",
		header: []string{"node", "name", "kind", "pid", "memory", "message_queue_len", "initial_call"},
		csv: func(n nameJSON) []string {
			return []string{n.Node, n.Name, n.Kind, n.Pid, decimal(n.Memory), decimal(n.MessageQueueLen), n.InitialCall}
		},
		grid: []column{
			{name: "node", least: 12, dull: true}, {name: "name", least: 16}, {name: "pid"}, {name: "memory", right: true},
			{name: "message_queue_len", right: true}, {name: "initial_call", least: 16},
		},
		cells: func(n nameJSON) []string {
			return []string{n.Node, short(n.Name), n.Pid, size(n.Memory), decimal(n.MessageQueueLen), short(n.InitialCall)}
		},
	}
	shown := map[string]uint64{}
	for _, n := range res.GetNames() {
		shown[n.GetNode()]++
		l.rows = append(l.rows, nameJSON{
			Node: n.GetNode(), Name: n.GetName(), Kind: n.GetKind(), Pid: n.GetPid(), Memory: n.GetMemory(),
			MessageQueueLen: n.GetMessageQueueLen(), InitialCall: n.GetInitialCall(),
		})
	}
	err = printListing(a, l)
	for _, t := range res.GetTotals() {
		if t.GetTotal() > shown[t.GetNode()] && shown[t.GetNode()] == uint64(req.GetLimit()) {
			a.note("%s has %d such names, %d are shown: --limit shows more, --filter searches", t.GetNode(), t.GetTotal(), shown[t.GetNode()])
		}
	}
	return err
}
