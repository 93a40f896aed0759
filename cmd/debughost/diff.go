package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) diffCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "diff A [B]",
		Short: "Compare two snapshots, or one with the nodes as they are now",
		Long: `Compare two files that ` + "`debughost snapshot`" + ` wrote, or one with the nodes as they
are now: what grew, what is new and what is gone, by initial call, process and
table, and the limits, memory and versions of each node. In each kind what grew
most comes first.

A snapshot lists the largest only. What is in one list and not in the other is
new or gone where that list is whole; where it is cut, it has risen into the list
or fallen out of it.`,
		Example: `  debughost diff before.snapshot after.snapshot
  debughost diff before.snapshot                # with now
  debughost diff a.snapshot b.snapshot -o json | jq '.changes[] | select(.kind=="table")'`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("diff: the snapshot A is missing")
			case len(args) > 2:
				return usagef("diff: one argument too many: %q", args[2])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			if limit < 0 {
				return usagef("limit %d is negative", limit)
			}
			before, err := readSnapshotFile(files[0])
			if err != nil {
				return err
			}
			if len(files) == 2 {
				after, err := readSnapshotFile(files[1])
				if err != nil {
					return err
				}
				return a.diff(before, after, nil, limit)
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				var nodes []string
				for _, n := range before.nodes {
					nodes = append(nodes, n.GetNode())
				}
				after, errs, err := a.takeSnapshot(ctx, c, nodes, 0)
				if err != nil {
					return err
				}
				return a.diff(before, after, errs, limit)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "changes of each kind, 0 for all")
	return cmd
}

func (a *app) diff(before, after *snapshot, errs []*controlpb.NodeError, limit int) error {
	failed := map[string]bool{}
	for _, e := range errs {
		failed[e.GetNode()] = true
	}
	all := compareSnapshots(before, after, failed)
	rows, cut := atMost(all, limit)
	l := listing[change]{
		plural: "changes", rows: rows, errors: errs, answered: len(after.nodes), note: "nothing has changed",
		header: []string{"node", "kind", "subject", "measure", "state", "before", "after", "change"},
		csv: func(c change) []string {
			return []string{c.Node, c.Kind, c.Subject, c.Measure, c.State, plain(c.Before), plain(c.After), fmt.Sprint(c.Change)}
		},
		grid: []column{
			{name: "node", least: 12, dull: true}, {name: "kind"}, {name: "subject", least: 20}, {name: "measure"},
			{name: "before", right: true}, {name: "after", right: true}, {name: "change"},
		},
		cells: func(c change) []string {
			return []string{c.Node, c.Kind, strings.ReplaceAll(short(c.Subject), " Elixir.", " "), c.Measure, c.amountText(c.Before), c.amountText(c.After), c.changeText()}
		},
	}
	err := printListing(a, l)
	if cut > 0 {
		a.note("%d smaller changes are not shown: --limit 0 shows all", cut)
	}
	if a.output == table && !before.taken.IsZero() && !after.taken.IsZero() {
		a.note("%s to %s, %s", before.taken.Format(time.RFC3339), after.taken.Format(time.RFC3339), age(after.taken.Sub(before.taken)))
	}
	return err
}

// atMost keeps limit changes of each kind and measure, and tells how many it left
// out. Half of those that it keeps are the last ones: what shrank most.
func atMost(all []change, limit int) (kept []change, cut int) {
	if limit == 0 {
		return all, 0
	}
	type group struct{ kind, measure string }
	size := map[group]int{}
	for _, c := range all {
		size[group{c.Kind, c.Measure}]++
	}
	seen := map[group]int{}
	for _, c := range all {
		g := group{c.Kind, c.Measure}
		i := seen[g]
		seen[g]++
		if shrank := limit / 2; i < limit-shrank || i >= size[g]-shrank {
			kept = append(kept, c)
		} else {
			cut++
		}
	}
	return kept, cut
}

func plain(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
