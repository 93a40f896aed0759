package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// usualChildren is how many children of each supervisor are drawn unless
// --children says more.
const usualChildren = 25

func (a *app) treeCommand() *cobra.Command {
	req := &controlpb.GetTreeRequest{}
	cmd := &cobra.Command{
		Use:   "tree NODE [APP]",
		Short: "Draw the supervision tree of an application, or of all",
		Long: `Draw who supervises whom on a node, in one application or in all that run: each
supervisor with its strategy and how many restarts within how long it survives,
each child with its restart type, memory, message queue and what it is doing.

A supervisor that does not answer within half a second is marked, and drawn with the
processes that are linked to it; the rest of the tree is not kept waiting.
Processes of an application that no supervisor has started are drawn last, as
unsupervised; to find them, the node looks at all of its processes, unless
--supervised leaves them out.

RESTARTS are two numbers. The first is how often this debughost saw another process
in that place than when it drew the tree before; a second draws from the supervisor's
own memory: its restarts within its last period.`,
		Example: `  debughost tree shop@db1 shop
  debughost tree shop@db1 --depth 2
  debughost tree shop@db1 shop -o json | jq '.. | objects | select(.problem? == "timeout") | .name'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return exactArgs("NODE", "APP")(cmd, args)
			}
			return exactArgs("NODE")(cmd, args)
		},
		ValidArgsFunction: a.completeApp,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Node, req.Timeout = args[0], a.targetTimeout()
			if len(args) == 2 {
				req.Application = args[1]
			}
			if a.output != table && !cmd.Flags().Changed("children") {
				req.Children = 0
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.tree(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.Uint32Var(&req.Depth, "depth", 0, "levels of supervisors; 0 for all")
	fl.Uint32Var(&req.Children, "children", usualChildren, "children of each supervisor, 0 for all, which -o json and -o csv have by default; 30000 processes are the most in one answer")
	fl.BoolVar(&req.Supervised, "supervised", false, "leave out processes outside of the tree")
	return cmd
}

func (a *app) tree(ctx context.Context, c *control.Client, req *controlpb.GetTreeRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Systems.GetTree(ctx, req)
	if err != nil {
		return err
	}
	switch a.output {
	case asJSON:
		return writeJSON(a.out, map[string]any{"tree": treeRow(res.GetTree())})
	case asCSV:
		return a.writeCSV(treeHeader, func(write func(...string) error) error {
			return treeCSV(res.GetTree(), 0, write)
		})
	}
	return a.drawTree(res.GetTree())
}

// treeJSON is an entry of a tree in JSON; its keys are a contract.
type treeJSON struct {
	Name            string     `json:"name"`
	ID              string     `json:"id"`
	Pid             string     `json:"pid"`
	Type            string     `json:"type"`
	Restart         string     `json:"restart"`
	Shutdown        string     `json:"shutdown"`
	Module          string     `json:"module"`
	InitialCall     string     `json:"initial_call"`
	Status          string     `json:"status"`
	Memory          uint64     `json:"memory"`
	MessageQueueLen uint64     `json:"message_queue_len"`
	CurrentFunction string     `json:"current_function"`
	Restarts        uint64     `json:"restarts"` // seen by debughost
	Unsupervised    bool       `json:"unsupervised"`
	Parent          string     `json:"parent,omitempty"`
	Strategy        string     `json:"strategy,omitempty"`
	Intensity       *uint64    `json:"intensity,omitempty"`
	Period          *uint64    `json:"period,omitempty"`
	RecentRestarts  *uint64    `json:"recent_restarts,omitempty"` // within the last period
	Total           uint64     `json:"total"`                     // children that there are
	Cut             uint64     `json:"cut"`                       // that are not here
	Problem         string     `json:"problem,omitempty"`
	Children        []treeJSON `json:"children"`
}

func treeRow(n *controlpb.TreeNode) treeJSON {
	r := treeJSON{
		Name: n.GetName(), ID: n.GetId(), Pid: n.GetPid(), Type: n.GetType(), Restart: n.GetRestart(), Shutdown: n.GetShutdown(),
		Module: n.GetModule(), InitialCall: n.GetInitialCall(), Status: n.GetStatus(), Memory: n.GetMemory(),
		MessageQueueLen: n.GetMessageQueueLen(), CurrentFunction: n.GetCurrentFunction(), Restarts: n.GetRestarts(),
		Unsupervised: n.GetUnsupervised(), Parent: n.GetParent(), Strategy: n.GetStrategy(), Total: n.GetTotal(), Cut: n.GetCut(),
		Problem: n.GetProblem(), Children: make([]treeJSON, 0, len(n.GetChildren())),
	}
	if n.GetStrategy() != "" {
		r.Intensity, r.Period, r.RecentRestarts = &n.Intensity, &n.Period, &n.RecentRestarts
	}
	for _, c := range n.GetChildren() {
		r.Children = append(r.Children, treeRow(c))
	}
	return r
}

var treeHeader = []string{
	"depth", "name", "id", "pid", "type", "restart", "shutdown", "module", "initial_call", "status", "memory", "message_queue_len",
	"current_function", "restarts", "unsupervised", "parent", "strategy", "intensity", "period", "recent_restarts", "total", "cut", "problem",
}

// treeCSV writes a row for each entry, in the order of a walk down the tree.
func treeCSV(n *controlpb.TreeNode, depth uint64, write func(...string) error) error {
	err := write(decimal(depth), n.GetName(), n.GetId(), n.GetPid(), n.GetType(), n.GetRestart(), n.GetShutdown(), n.GetModule(),
		n.GetInitialCall(), n.GetStatus(), decimal(n.GetMemory()), decimal(n.GetMessageQueueLen()), n.GetCurrentFunction(),
		decimal(n.GetRestarts()), yes(n.GetUnsupervised()), n.GetParent(), n.GetStrategy(), decimal(n.GetIntensity()), decimal(n.GetPeriod()),
		decimal(n.GetRecentRestarts()), decimal(n.GetTotal()), decimal(n.GetCut()), n.GetProblem())
	for _, c := range n.GetChildren() {
		if err == nil {
			err = treeCSV(c, depth+1, write)
		}
	}
	return err
}
