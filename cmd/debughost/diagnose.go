package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// findingJSON is a finding in JSON; its keys are a contract.
type findingJSON struct {
	Severity string `json:"severity"`
	Node     string `json:"node"`
	Kind     string `json:"kind"`
	Subject  string `json:"subject"`
	Evidence string `json:"evidence"`
	Next     string `json:"next"`
}

// diagnoseTime is how long a diagnosis may take beside its window, as the member
// has it.
const diagnoseTime = 25 * time.Second

type diagnoseFlags struct {
	window, monitor time.Duration
	limit           uint32
	deep, gc, force bool
}

func (a *app) diagnoseCommand() *cobra.Command {
	f := &diagnoseFlags{}
	cmd := &cobra.Command{
		Use:   "diagnose [NODE…]",
		Short: "Look for what is wrong with nodes, worst first",
		Long: `Look at the nodes that are named, or at all, for what usually goes wrong, and tell
what was found, worst first, each with its evidence and the command to try next.

It looks for mailboxes that grow, supervisors that keep restarting children,
memory and tables that grow, small processes that keep large binaries, tables of
processes that nobody looks after, limits that are near, atoms that are made all
the time, waiting for schedulers, log handlers and connections that do not keep
up, and nodes that disagree about who is connected or what version they run.
Each node is looked at twice, --window apart.

Without further flags nothing on a node is changed. --gc collects the garbage of
the processes that keep the most binaries. --monitor takes the node's system
monitor for a while, to hear of long garbage collections and schedules; one that a
process of the node's own has is left alone, unless --force is given, and then given
back. From OTP 28 on debughost has one of its own and takes nobody's.`,
		Example: `  debughost diagnose
  debughost diagnose shop@db1 --window 10s --deep
  debughost diagnose shop@db1 --monitor 30s
  debughost diagnose -o json | jq -r '.findings[] | select(.severity=="critical").next'`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			switch {
			case f.window <= 0 || f.window > time.Minute:
				return usagef("window %v is not between 0 and 1m", f.window)
			case f.force && f.monitor == 0:
				return usagef("--force says from whom --monitor may take the system monitor, and there is no --monitor")
			case f.monitor < 0 || f.monitor > 10*time.Minute:
				return usagef("monitor %v is not between 0 and 10m", f.monitor)
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.diagnose(ctx, c, nodes, f)
			})
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.window, "window", time.Second, "time between the two looks, at most 1m")
	fl.BoolVar(&f.deep, "deep", false, "also look for processes that nobody supervises")
	fl.BoolVar(&f.gc, "gc", false, "collect the garbage of the processes that keep the most binaries, and tell what that freed")
	fl.DurationVar(&f.monitor, "monitor", 0, "listen for so long to the system monitor, at most 10m")
	fl.BoolVar(&f.force, "force", false, "with --monitor: take the system monitor also from a process that has it, for that time")
	fl.Uint32Var(&f.limit, "limit", 10, "findings of each kind and node, at most 100")
	return cmd
}

func (a *app) diagnose(ctx context.Context, c *control.Client, nodes []string, f *diagnoseFlags) error {
	usual := diagnoseTime
	if a.timeout > 0 {
		usual = a.timeout
	}
	ctx, cancel := context.WithTimeout(ctx, usual+f.window+f.monitor+grace)
	defer cancel()
	req := &controlpb.DiagnoseRequest{
		Nodes: nodes, Window: durationpb.New(f.window), Limit: f.limit, Deep: f.deep, Gc: f.gc, Timeout: a.targetTimeout(),
	}
	ask := c.Findings.Diagnose
	if f.gc || f.monitor > 0 {
		ask = c.Findings.Probe
		req.Monitor, req.Force = durationpb.New(f.monitor), f.force
	}
	res, err := ask(ctx, req)
	if err != nil {
		return err
	}
	err = a.printFindings(res)
	for _, facts := range res.GetFacts() {
		for _, s := range facts.GetSkipped() {
			a.note("%s: %s", sane(facts.GetNode()), sane(s))
		}
	}
	return err
}

func (a *app) printFindings(res *controlpb.DiagnoseResponse) error {
	l := listing[findingJSON]{
		plural: "findings", errors: res.GetErrors(),
		header: []string{"severity", "node", "kind", "subject", "evidence", "next"},
		csv: func(f findingJSON) []string {
			return []string{f.Severity, f.Node, f.Kind, f.Subject, f.Evidence, f.Next}
		},
	}
	for _, f := range control.RankFindings(res) {
		l.rows = append(l.rows, findingJSON{
			Severity: f.GetSeverity(), Node: f.GetNode(), Kind: f.GetKind(), Subject: f.GetSubject(), Evidence: f.GetEvidence(), Next: f.GetNext(),
		})
	}
	well := len(res.GetFacts())
	switch {
	case well == 1:
		l.note = "nothing found: the node looks well"
	case well > 1:
		l.note = fmt.Sprintf("nothing found: %d nodes look well", well)
	default:
		l.note = "no node is attached: see `debughost targets`"
	}
	if a.output == table {
		if err := a.findingsText(l.rows); err != nil {
			return err
		}
		if len(l.rows) == 0 && (well > 0 || len(l.errors) == 0) {
			a.note("%s", l.note)
		}
		a.printNodeErrors(nodeErrorRows(l.errors))
	} else if err := printListing(a, l); err != nil && !errors.Is(err, errPrinted) && !errors.Is(err, errPartial) {
		return err
	}
	switch {
	case len(l.errors) == 0:
		return nil
	case well == 0:
		return errPrinted
	}
	return errPartial
}

// findingsText prints each finding as a few lines: its sentences are too long
// for a table.
func (a *app) findingsText(rows []findingJSON) error {
	out := bufio.NewWriter(a.out)
	const indent = "          "
	for _, f := range rows {
		severity := fmt.Sprintf("%-9s", f.Severity)
		if a.colors() && f.Severity == "critical" {
			severity = "\x1b[1;31m" + severity + "\x1b[0m"
		}
		fmt.Fprintf(out, "%s %s  %s  %s\n", severity, sane(f.Node), f.Kind, sane(short(f.Subject)))
		fmt.Fprintf(out, "%s%s\n%s%s\n", indent, sane(strings.ReplaceAll(f.Evidence, "Elixir.", "")), indent, sane(f.Next))
	}
	return out.Flush()
}
