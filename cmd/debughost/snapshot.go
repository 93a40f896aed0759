package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// snapshotTime is how long a snapshot of a node may take, as the member has it.
const snapshotTime = 15 * time.Second

// snapshotBatch is how many nodes are asked at once: what they answer is one
// message.
const snapshotBatch = 20

type snapshotJSON struct {
	File  string   `json:"file"`
	Taken string   `json:"taken"`
	Nodes []string `json:"nodes"`
	Bytes int      `json:"bytes"`
}

func (a *app) snapshotCommand() *cobra.Command {
	var file string
	var limit uint32
	cmd := &cobra.Command{
		Use:   "snapshot [NODE…]",
		Short: "Write what nodes are at this moment to a file, to be compared later",
		Long: `Write the processes, tables, memory, limits and application versions of the nodes
that are named, or of all, to a compressed file, which ` + "`debughost diff`" + ` compares
with another one or with the nodes as they are then.

Of processes it holds how many there are of each initial call and what they take
together, and the highest by memory, message queue and reductions; of tables the
largest. It never holds what is in a process or a table. The file is for you
alone to read (mode 0600), and an existing file is never written over.`,
		Example: `  debughost snapshot
  debughost snapshot shop@db1 -f before.snapshot
  debughost diff before.snapshot                # what has changed since`,
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				s, errs, err := a.takeSnapshot(ctx, c, nodes, limit)
				if err != nil {
					return err
				}
				return a.saveSnapshot(s, errs, cmp.Or(file, "debughost-"+s.taken.Format("20060102T150405Z")+".snapshot"))
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&file, "file", "f", "", "file to write (default debughost-TIME.snapshot in the current directory)")
	fl.Uint32Var(&limit, "limit", 100, "processes by each measure, and tables, of each node; at most 1000")
	return cmd
}

// takeSnapshot asks the nodes, or all that are known.
func (a *app) takeSnapshot(ctx context.Context, c *control.Client, nodes []string, limit uint32) (*snapshot, []*controlpb.NodeError, error) {
	s := &snapshot{taken: a.now().UTC().Truncate(time.Second)}
	if len(nodes) == 0 {
		res, err := c.Targets.ListTargets(ctx, &controlpb.ListTargetsRequest{})
		if err != nil {
			return nil, nil, err
		}
		for _, t := range res.GetTargets() {
			if t.GetState() != "gone" {
				nodes = append(nodes, t.GetNode())
			}
		}
	}
	var errs []*controlpb.NodeError
	for batch := range slices.Chunk(nodes, snapshotBatch) {
		err := func() error {
			ctx, cancel := a.within(ctx, snapshotTime)
			defer cancel()
			res, err := c.Findings.TakeSnapshot(ctx, &controlpb.TakeSnapshotRequest{Nodes: batch, Limit: limit, Timeout: a.targetTimeout()})
			s.nodes = append(s.nodes, res.GetSnapshots()...)
			errs = append(errs, res.GetErrors()...)
			return err
		}()
		if err != nil {
			return nil, nil, err
		}
	}
	return s, errs, nil
}

func (a *app) saveSnapshot(s *snapshot, errs []*controlpb.NodeError, file string) error {
	failed := nodeErrorRows(errs)
	done := snapshotJSON{File: file, Taken: s.taken.Format(time.RFC3339), Nodes: []string{}}
	for _, n := range s.nodes {
		done.Nodes = append(done.Nodes, n.GetNode())
	}
	if len(s.nodes) > 0 {
		n, err := s.write(file, thisVersion().Version)
		if err != nil {
			return err
		}
		done.Bytes = n
	}
	switch {
	case a.output == asJSON:
		answer := struct {
			Snapshot *snapshotJSON   `json:"snapshot"` // null where nothing was written
			Errors   []nodeErrorJSON `json:"errors"`
		}{Errors: append([]nodeErrorJSON{}, failed...)}
		if len(s.nodes) > 0 {
			answer.Snapshot = &done
		}
		if err := writeJSON(a.out, answer); err != nil {
			return err
		}
	case len(s.nodes) > 0:
		nodes := "1 node"
		if n := len(s.nodes); n > 1 {
			nodes = fmt.Sprintf("%d nodes", n)
		}
		fmt.Fprintf(a.out, "wrote %s: %s, %s\n", sane(file), nodes, size(uint64(done.Bytes)))
	case len(failed) == 0:
		a.note("no node is known: nothing was written; see `debughost targets`")
		return errPrinted
	}
	if a.output != asJSON {
		a.printNodeErrors(failed)
	}
	switch {
	case len(s.nodes) == 0:
		return errPrinted
	case len(failed) > 0:
		return errPartial
	}
	return nil
}
