package main

import (
	"strconv"
	"time"

	controlpb "github.com/debughost/debughost/control/proto"
)

func costRow(c *controlpb.TargetCost) *costJSON {
	if c == nil {
		return nil
	}
	return &costJSON{
		Since: timeRow(c.GetSince()), Calls: c.GetCalls(), Failed: c.GetFailed(), TimedOut: c.GetTimedOut(),
		CallTime: c.GetCallTime().AsDuration().Seconds(), Received: c.GetReceived(), Sent: c.GetSent(),
		Reductions: c.GetReductions(), Rows: c.GetRows(), LogEvents: c.GetLogEvents(), LogDropped: c.GetLogDropped(),
		GarbageCollections: c.GetGarbageCollections(), Slowed: c.GetSlowed(), Cut: c.GetCut(),
	}
}

// costTable prints what debughost has cost the targets. One whose cost is not
// known has empty cells: it was never attached to, or its member does not answer.
func (a *app) costTable(targets []*controlpb.Target) error {
	cols := []column{{name: "node", least: 16}, {name: "owner", least: 8}}
	for _, name := range []string{"since", "calls", "failed", "late", "received", "sent", "reductions", "rows", "slowed", "cut"} {
		cols = append(cols, column{name: name, right: true})
	}
	g := newGrid(cols...)
	for _, t := range targets {
		c := t.GetCost()
		if c == nil {
			g.add(t.GetNode(), t.GetOwner(), "", "", "", "", "", "", "", "", "", "")
			continue
		}
		g.add(t.GetNode(), t.GetOwner(), age(a.now().Sub(c.GetSince().AsTime())), decimal(c.GetCalls()), decimal(c.GetFailed()),
			decimal(c.GetTimedOut()), size(c.GetReceived()), size(c.GetSent()), decimal(c.GetReductions()), decimal(c.GetRows()),
			decimal(c.GetSlowed()), decimal(c.GetCut()))
	}
	if len(targets) == 0 {
		a.note("no node was found yet; `debughost status` tells where it looks")
		return nil
	}
	return g.write(a.out, a.width(), a.colors())
}

func (a *app) costCSV(targets []*controlpb.Target) error {
	header := []string{
		"node", "owner", "since", "calls", "failed", "timed_out", "call_time", "received", "sent", "reductions", "rows",
		"log_events", "log_dropped", "garbage_collections", "slowed", "cut",
	}
	return a.writeCSV(header, func(write func(...string) error) error {
		for _, t := range targets {
			cells := []string{t.GetNode(), t.GetOwner()}
			if c := t.GetCost(); c != nil {
				cells = append(cells,
					c.GetSince().AsTime().Format(time.RFC3339Nano), decimal(c.GetCalls()), decimal(c.GetFailed()), decimal(c.GetTimedOut()),
					strconv.FormatFloat(c.GetCallTime().AsDuration().Seconds(), 'f', 3, 64), decimal(c.GetReceived()), decimal(c.GetSent()),
					decimal(c.GetReductions()), decimal(c.GetRows()), decimal(c.GetLogEvents()), decimal(c.GetLogDropped()),
					decimal(c.GetGarbageCollections()), decimal(c.GetSlowed()), decimal(c.GetCut()))
			} else {
				cells = append(cells, make([]string, len(header)-len(cells))...)
			}
			if err := write(cells...); err != nil {
				return err
			}
		}
		return nil
	})
}
