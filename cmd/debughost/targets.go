package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// targetJSON is a target in JSON; its keys are a contract.
type targetJSON struct {
	Node       string `json:"node"`
	State      string `json:"state"`
	Reason     string `json:"reason"`
	OTPRelease string `json:"otp_release"`
	Owner      string `json:"owner"`
	// Topologies are those that name it; sandbox:ID is the child of that id.
	Topologies []string `json:"topologies"`

	Cost *costJSON `json:"cost,omitempty"` // not of targets that were never attached to, or whose member did not answer
}

// costJSON is what a member has cost its target; its keys are a contract.
type costJSON struct {
	Since              *time.Time `json:"since"`
	Calls              uint64     `json:"calls"`
	Failed             uint64     `json:"failed"`
	TimedOut           uint64     `json:"timed_out"`
	CallTime           float64    `json:"call_time"` // seconds
	Received           uint64     `json:"received"`  // bytes
	Sent               uint64     `json:"sent"`      // bytes
	Reductions         uint64     `json:"reductions"`
	Rows               uint64     `json:"rows"`
	LogEvents          uint64     `json:"log_events"`
	LogDropped         uint64     `json:"log_dropped"`
	GarbageCollections uint64     `json:"garbage_collections"`
	Slowed             uint64     `json:"slowed"`
	Cut                uint64     `json:"cut"`
}

func (a *app) targetsCommand() *cobra.Command {
	var cost bool
	cmd := &cobra.Command{
		Use:   "targets",
		Short: "Show the nodes that were found, and whether debughost is attached to them",
		Long: `Show every node that discovery named, and its state:

  discovered   found; no attempt to attach was made yet
  connecting   an attempt is under way
  attached     connected; its processes can be listed
  unreachable  the last attempt got no answer; it is tried again
  refused      the node said no (its cookie is another, or it is too old);
               it is tried again, slowly
  gone         it was attached, its connection closed, and nothing finds it now

With --cost, what debughost has cost each of them since it attached: calls, and
those of them that failed or were too late; bytes that the node sent and was sent;
the work of the helper's processes on the node, in reductions; rows of answers;
how often the budget ([targets] max_calls, bytes_per_second) had a question wait,
and how often it cut an answer (max_rows). It is what the member that owns the
target knows; in JSON it is always there.`,
		Example: `  debughost targets
  debughost targets --cost
  debughost targets -o json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.targets(ctx, c, cost)
			})
		},
	}
	cmd.Flags().BoolVar(&cost, "cost", false, "what debughost has cost each of them")
	return cmd
}

func (a *app) targets(ctx context.Context, c *control.Client, cost bool) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Targets.ListTargets(ctx, &controlpb.ListTargetsRequest{Costs: cost || a.output == asJSON})
	if err != nil {
		return err
	}
	switch a.output {
	case asJSON:
		l := newJSONList(a.out)
		l.begin("targets")
		for _, t := range res.GetTargets() {
			if err := l.item(targetRow(t)); err != nil {
				return err
			}
		}
		return l.close()
	case asCSV:
		if cost {
			return a.costCSV(res.GetTargets())
		}
		header := []string{"node", "state", "reason", "otp_release", "owner"}
		return a.writeCSV(header, func(write func(...string) error) error {
			for _, t := range res.GetTargets() {
				r := targetRow(t)
				if err := write(r.Node, r.State, r.Reason, r.OTPRelease, r.Owner); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if cost {
		return a.costTable(res.GetTargets())
	}
	return a.targetTable(res.GetTargets())
}

func targetRow(t *controlpb.Target) targetJSON {
	return targetJSON{
		Node: t.GetNode(), State: t.GetState(), Reason: t.GetReason(),
		OTPRelease: t.GetOtpRelease(), Owner: t.GetOwner(),
		Topologies: append([]string{}, t.GetTopologies()...), Cost: costRow(t.GetCost()),
	}
}

// targetTable prints the targets, and below them each hint once.
func (a *app) targetTable(targets []*controlpb.Target) error {
	g := newGrid(
		column{name: "node", least: 16}, column{name: "state"}, column{name: "otp_release"},
		column{name: "owner", least: 8}, column{name: "since", right: true}, column{name: "reason", free: true},
	)
	var hints []string
	hinted := map[string]bool{}
	for _, t := range targets {
		g.add(t.GetNode(), t.GetState(), t.GetOtpRelease(), t.GetOwner(), a.sinceText(t), t.GetReason())
		if t.GetState() == "refused" || t.GetState() == "unreachable" {
			g.highlight(1)
		}
		if h := t.GetHint(); h != "" && !hinted[h] {
			hinted[h] = true
			hints = append(hints, t.GetNode()+": "+h)
		}
	}
	if err := g.write(a.out, a.width(), a.colors()); err != nil {
		return err
	}
	for _, h := range hints {
		a.hint(h)
	}
	if len(targets) == 0 {
		a.note("no node was found yet; `debughost status` tells where it looks")
	}
	return nil
}

func (a *app) sinceText(t *controlpb.Target) string {
	if t.GetSince() == nil {
		return ""
	}
	return age(a.now().Sub(t.GetSince().AsTime()).Truncate(time.Second))
}
