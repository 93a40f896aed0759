package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// childJSON is a child in JSON; its keys are a contract.
type childJSON struct {
	ID        string     `json:"id"`
	Strategy  string     `json:"strategy"`
	Member    string     `json:"member"` // empty while it is pending
	State     string     `json:"state"`
	Restarts  uint32     `json:"restarts"`
	Epoch     uint64     `json:"epoch"`
	Since     *time.Time `json:"since"`
	Reason    string     `json:"reason"`
	Started   *time.Time `json:"started"`
	OSPid     int64      `json:"os_pid"`
	Node      string     `json:"node"`
	Memory    *uint64    `json:"memory"`    // null in lists: its member is asked by `child show`
	Placement string     `json:"placement"` // empty: the configured one
	Restart   string     `json:"restart"`
}

func childRow(c *controlpb.Child) childJSON {
	return childJSON{
		ID: c.GetId(), Strategy: c.GetStrategy(), Member: c.GetMember(), State: c.GetState(), Restarts: c.GetRestarts(), Epoch: c.GetEpoch(),
		Since: timeRow(c.GetSince()), Reason: c.GetReason(), Started: timeRow(c.GetStarted()), OSPid: c.GetOsPid(), Node: c.GetNode(),
		Memory: memoryRow(c.GetMemory()), Placement: c.GetPlacement(), Restart: c.GetRestart(),
	}
}

func memoryRow(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}

func (a *app) childCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "child",
		Short: "Start, look after and move what debughost keeps running",
		Long: `A child is something that debughost keeps running on one of its members: it is
started again when it ends, and elsewhere when its member is lost or drained.

  pending   waits for a member; its reason says for what
  starting  a member was chosen, which starts it
  running
  backoff   it ended, and is started again soon
  moving    on its way to another member
  stopping  told to end
  stopped   by request; its spec is kept
  exited    it ended, and its restart type says that is all
  failed    it ended too often, or cannot be started; its reason says why

(A child of a supervisor on a node is ` + "`debughost supervisor`" + `.)`,
		Example: `  debughost child start web --memory 512MB -- /opt/web/bin/web --port 8080
  debughost child list
  debughost child show web
  debughost child logs -f web
  debughost child move web db2`,
		Annotations: map[string]string{noCSV: "yes"},
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.startChildCommand(), a.listChildrenCommand(), a.showChildCommand(), a.stopChildCommand(),
		a.restartChildCommand(), a.moveChildCommand(), a.removeChildCommand(), a.childLogsCommand())
	return cmd
}

func (a *app) listChildrenCommand() *cobra.Command {
	req := &controlpb.ListChildrenRequest{}
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "Show the children of the cluster, their members and states",
		Long: `Show the children of the cluster, those whose id begins with PREFIX or all. Any
member knows of all; one that is cut off says what it knew last.`,
		Example: `  debughost child list
  debughost child list --state failed
  debughost child list --member db2 -o json | jq -r '.children[].id'`,
		Args:              optionalArgs(0, "PREFIX"),
		ValidArgsFunction: a.completeChildren,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Prefix = args[0]
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.listChildren(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.State, "state", "", "only those in this state")
	fl.StringVar(&req.Member, "member", "", "only those that are assigned to this member")
	fl.StringVar(&req.Strategy, "strategy", "", "only those of this sandbox strategy")
	complete(cmd, "state", control.ChildStates()...)
	complete(cmd, "strategy", sandboxStrategies...)
	_ = cmd.RegisterFlagCompletionFunc("member", forFlag(a.completeMembers))
	return cmd
}

// Names of the strategies that come along, for the shell. Others do as well.
var (
	sandboxStrategies   = []string{"process", beamStrategy}
	placementStrategies = []string{"uniform", "quorum", "random", "resources"}
)

func (a *app) listChildren(ctx context.Context, c *control.Client, req *controlpb.ListChildrenRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	stream, err := c.Children.ListChildren(ctx, req)
	if err != nil {
		return err
	}
	var children []*controlpb.Child
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return a.printChildren(children)
		}
		if err != nil {
			return err
		}
		children = append(children, res.GetChildren()...)
	}
}

func (a *app) printChildren(children []*controlpb.Child) error {
	switch a.output {
	case asJSON:
		l := newJSONList(a.out)
		l.begin("children")
		for _, c := range children {
			if err := l.item(childRow(c)); err != nil {
				return err
			}
		}
		return l.close()
	case asCSV:
		header := []string{"id", "strategy", "member", "state", "restarts", "epoch", "since", "reason"}
		return a.writeCSV(header, func(write func(...string) error) error {
			for _, c := range children {
				r := childRow(c)
				if err := write(r.ID, r.Strategy, r.Member, r.State, decimal(uint64(r.Restarts)), decimal(r.Epoch), timeCell(r.Since), r.Reason); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if len(children) == 0 {
		a.note("there are no such children; `debughost child start` starts one")
		return nil
	}
	return a.childGrid(children).write(a.out, a.width(), a.colors())
}

func (a *app) childGrid(children []*controlpb.Child) *grid {
	const stateCol = 3
	g := newGrid(
		column{name: "id", least: 12}, column{name: "strategy"}, column{name: "member", least: 8}, column{name: "state"},
		column{name: "since", right: true}, column{name: "restarts", right: true}, column{name: "reason", free: true},
	)
	for _, c := range children {
		since := ""
		if c.GetSince() != nil {
			since = age(a.now().Sub(c.GetSince().AsTime()))
		}
		g.add(c.GetId(), c.GetStrategy(), c.GetMember(), c.GetState(), since, decimal(uint64(c.GetRestarts())), c.GetReason())
		switch c.GetState() {
		case "failed", "pending", "backoff":
			g.highlight(stateCol)
		}
	}
	return g
}

// printChild prints what an act made of a child.
func (a *app) printChild(c *controlpb.Child) error {
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"child": childRow(c)})
	}
	_, err := fmt.Fprintln(a.out, sane(childText(c)))
	return err
}

// childText is a child in one line.
func childText(c *controlpb.Child) string {
	text := fmt.Sprintf("child %s is %s", c.GetId(), c.GetState())
	switch {
	case c.GetMember() == "":
	case c.GetState() == "moving":
		text += " to " + c.GetMember()
	default:
		text += " on " + c.GetMember()
	}
	if c.GetReason() != "" {
		text += ": " + c.GetReason()
	}
	return text
}
