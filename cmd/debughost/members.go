package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// memberJSON is a member in JSON; its keys are a contract.
type memberJSON struct {
	Name    string     `json:"name"`
	State   string     `json:"state"`
	Since   *time.Time `json:"since"`
	Address string     `json:"address"`
	Version string     `json:"version"`
	Targets uint32     `json:"targets"` // that it is to attach to
	Quorum  bool       `json:"quorum"`  // it is among the majority

	Children uint32 `json:"children"` // that are assigned to it
	Draining bool   `json:"draining"` // it takes no children
}

func (a *app) membersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "Show the debughosts of the cluster and their states",
		Long: `Show the debughosts of the cluster, as the one that is asked sees them:

  alive        it answers
  suspect      it missed a probe, others are asking it
  unreachable  its connection broke and cannot be made again; the verdict is due
  dead         the members agree that it does not answer; it is tried again
  left         it said goodbye

A dead member is waited for, and counts for the quorum, until it is back or an
operator forgets it (debughost forget). One that is draining takes no children
(debughost drain).`,
		Example: `  debughost members
  debughost members -o json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), a.members)
		},
	}
}

func (a *app) members(ctx context.Context, c *control.Client) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Cluster.ListMembers(ctx, &controlpb.ListMembersRequest{})
	if err != nil {
		return err
	}
	switch a.output {
	case asJSON:
		l := newJSONList(a.out)
		l.begin("members")
		for _, m := range res.GetMembers() {
			if err := l.item(memberRow(m)); err != nil {
				return err
			}
		}
		return l.close()
	case asCSV:
		header := []string{"name", "state", "since", "address", "version", "targets", "quorum", "children", "draining"}
		return a.writeCSV(header, func(write func(...string) error) error {
			for _, m := range res.GetMembers() {
				r := memberRow(m)
				if err := write(r.Name, r.State, timeCell(r.Since), r.Address, r.Version, decimal(uint64(r.Targets)), strconv.FormatBool(r.Quorum), decimal(uint64(r.Children)), strconv.FormatBool(r.Draining)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return a.memberTable(res.GetMembers())
}

func memberRow(m *controlpb.ClusterMember) memberJSON {
	return memberJSON{
		Name: m.GetName(), State: m.GetState(), Since: timeRow(m.GetSince()), Address: m.GetAddress(),
		Version: m.GetVersion(), Targets: m.GetTargets(), Quorum: m.GetQuorum(),
		Children: m.GetChildren(), Draining: m.GetDraining(),
	}
}

func timeCell(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

func (a *app) memberTable(members []*controlpb.ClusterMember) error {
	g := newGrid(
		column{name: "name", least: 12}, column{name: "state"}, column{name: "since", right: true},
		column{name: "address", least: 12}, column{name: "version", least: 8},
		column{name: "targets", right: true}, column{name: "children", right: true}, column{name: "quorum"},
	)
	minority := false
	for _, m := range members {
		quorum := "no"
		if m.GetQuorum() {
			quorum = "yes"
		}
		since := ""
		if m.GetSince() != nil {
			since = age(a.now().Sub(m.GetSince().AsTime()))
		}
		state := m.GetState()
		if m.GetDraining() {
			state += ", draining"
		}
		g.add(m.GetName(), state, since, m.GetAddress(), m.GetVersion(), decimal(uint64(m.GetTargets())), decimal(uint64(m.GetChildren())), quorum)
		if m.GetState() != "alive" && m.GetState() != "left" {
			g.highlight(1)
		}
		minority = minority || m.GetSelf() && !m.GetQuorum()
	}
	if err := g.write(a.out, a.width(), a.colors()); err != nil {
		return err
	}
	if minority {
		a.note("this member sees no majority: it answers for what it sees, and refuses what needs a quorum")
	}
	return nil
}

func (a *app) leaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "Have the running debughost leave its cluster, and end",
		Long: `Have the running debughost say goodbye to the other members, and end. They do not
wait for it any more, it does not count for the quorum, and others attach to its
targets. It comes back when it is started again.`,
		Example:     `  debughost leave`,
		Args:        exactArgs(),
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Cluster.Leave(ctx, &controlpb.LeaveRequest{})
				if err != nil {
					return err
				}
				if a.output == asJSON {
					return writeJSON(a.out, map[string]any{"left": res.GetMember()})
				}
				_, err = fmt.Fprintf(a.out, "%s left the cluster\n", sane(res.GetMember()))
				return err
			})
		},
	}
}

func (a *app) forgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget MEMBER",
		Short: "Take a member that is gone for good off the list",
		Long: `Take a member that will not come back off the list, on all members: it is not
tried any more, does not count for the quorum, and what it had registered is
dropped. A member that runs is not forgotten: stop it first.`,
		Example:           `  debughost forget db3`,
		Args:              exactArgs("MEMBER"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				if _, err := c.Cluster.ForgetMember(ctx, &controlpb.ForgetMemberRequest{Member: args[0]}); err != nil {
					return err
				}
				if a.output == asJSON {
					return writeJSON(a.out, map[string]any{"forgotten": args[0]})
				}
				_, err := fmt.Fprintf(a.out, "%s is forgotten\n", sane(args[0]))
				return err
			})
		},
	}
}
