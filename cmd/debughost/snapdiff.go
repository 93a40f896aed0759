package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	controlpb "github.com/debughost/debughost/control/proto"
)

// change is one difference between two snapshots; its JSON keys are a contract.
type change struct {
	Node    string `json:"node"`
	Kind    string `json:"kind"`    // node, app, limit, memory, count, processes, process, table
	Subject string `json:"subject"` // initial call, name of a table, …
	Measure string `json:"measure"` // memory, count, message_queue_len, size, version, uptime
	State   string `json:"state"`   // changed, new, gone; risen, fallen: it was, or is, too small to be listed; restarted
	Before  any    `json:"before"`  // a number or a version; null where it is not known
	After   any    `json:"after"`
	Change  int64  `json:"change"` // of numbers
}

// changeKinds is the order of a diff.
var changeKinds = []string{"node", "app", "limit", "memory", "count", "processes", "process", "table"}

// compareSnapshots tells what differs, what grew most first in each kind.
// Nodes of which the second tells an error are left out.
func compareSnapshots(before, after *snapshot, failed map[string]bool) []change {
	was := map[string]*controlpb.NodeSnapshot{}
	for _, n := range before.nodes {
		was[n.GetNode()] = n
	}
	var out []change
	for _, b := range after.nodes {
		a := was[b.GetNode()]
		delete(was, b.GetNode())
		if a == nil {
			out = append(out, change{Node: b.GetNode(), Kind: "node", Subject: b.GetNode(), State: "new"})
			continue
		}
		out = append(out, compareNodes(a, b)...)
	}
	for name := range was {
		if !failed[name] {
			out = append(out, change{Node: name, Kind: "node", Subject: name, State: "gone"})
		}
	}
	slices.SortStableFunc(out, func(a, b change) int {
		return cmp.Or(
			cmp.Compare(slices.Index(changeKinds, a.Kind), slices.Index(changeKinds, b.Kind)),
			cmp.Compare(measureRank(a.Measure), measureRank(b.Measure)), cmp.Compare(b.Change, a.Change),
			cmp.Compare(a.Node, b.Node), cmp.Compare(a.Subject, b.Subject))
	})
	return out
}

// measureRank puts bytes, messages and counts in an order: they do not compare.
func measureRank(m string) int {
	return slices.Index([]string{"memory", "message_queue_len", "count", "size"}, m)
}

// row is what a list of a snapshot says of one subject, by measure.
type row struct {
	subject string
	values  []uint64
}

func compareNodes(a, b *controlpb.NodeSnapshot) []change {
	d := &nodeDiff{node: b.GetNode()}
	restarted := d.restarted(a, b)
	if a.GetOtpRelease() != b.GetOtpRelease() {
		d.add(change{Kind: "app", Subject: "OTP", Measure: "version", State: "changed", Before: a.GetOtpRelease(), After: b.GetOtpRelease()})
	}
	d.apps(a.GetApps(), b.GetApps())
	d.amounts("limit", "count", a.GetLimits(), b.GetLimits())
	d.amounts("memory", "memory", a.GetMemory(), b.GetMemory())
	d.amounts("count", "count", a.GetCounts(), b.GetCounts())
	groups := func(n *controlpb.NodeSnapshot) (rows []row) {
		for _, g := range n.GetGroups() {
			rows = append(rows, row{g.GetInitialCall(), []uint64{g.GetMemory(), g.GetMessageQueueLen(), g.GetCount()}})
		}
		return rows
	}
	d.rows("processes", []string{"memory", "message_queue_len", "count"}, groups(a), groups(b),
		uint64(len(a.GetGroups())) < a.GetGroupsTotal(), uint64(len(b.GetGroups())) < b.GetGroupsTotal())
	tables := func(n *controlpb.NodeSnapshot) (rows []row) {
		for _, t := range n.GetTables() {
			rows = append(rows, row{t.GetName(), []uint64{t.GetMemory(), t.GetSize(), t.GetCount()}})
		}
		return rows
	}
	d.rows("table", []string{"memory", "size", "count"}, tables(a), tables(b),
		uint64(len(a.GetTables())) < a.GetTablesTotal(), uint64(len(b.GetTables())) < b.GetTablesTotal())
	if !restarted { // else a pid is another process
		d.processes(a, b)
	}
	return d.out
}

// nodeDiff gathers the differences of one node.
type nodeDiff struct {
	node string
	out  []change
}

func (d *nodeDiff) add(c change) {
	c.Node = d.node
	d.out = append(d.out, c)
}

// restarted tells whether the node began after the first snapshot.
func (d *nodeDiff) restarted(a, b *controlpb.NodeSnapshot) bool {
	began := func(n *controlpb.NodeSnapshot) time.Time {
		return n.GetTaken().AsTime().Add(-time.Duration(min(n.GetUptimeMs(), 1<<42)) * time.Millisecond)
	}
	if began(b).Sub(began(a)) < 5*time.Second { // clocks differ a little
		return false
	}
	up := func(n *controlpb.NodeSnapshot) string {
		return age(time.Duration(min(n.GetUptimeMs(), 1<<42)) * time.Millisecond)
	}
	d.add(change{Kind: "node", Subject: d.node, Measure: "uptime", State: "restarted", Before: up(a), After: up(b)})
	return true
}

func (d *nodeDiff) apps(a, b map[string]string) {
	for _, app := range slices.Sorted(maps.Keys(a)) {
		switch v, ok := b[app]; {
		case !ok:
			d.add(change{Kind: "app", Subject: app, Measure: "version", State: "gone", Before: a[app]})
		case v != a[app]:
			d.add(change{Kind: "app", Subject: app, Measure: "version", State: "changed", Before: a[app], After: v})
		}
	}
	for _, app := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[app]; !ok {
			d.add(change{Kind: "app", Subject: app, Measure: "version", State: "new", After: b[app]})
		}
	}
}

func (d *nodeDiff) amounts(kind, measure string, a, b []*controlpb.NamedValue) {
	list := func(all []*controlpb.NamedValue) (rows []row) {
		for _, v := range all {
			rows = append(rows, row{v.GetName(), []uint64{v.GetValue()}})
		}
		return rows
	}
	d.rows(kind, []string{measure}, list(a), list(b), false, false)
}

// rows compares two lists, which are cut by their first measure: what is not in
// such a list had at most what its last row has, and only the rest is growth.
func (d *nodeDiff) rows(kind string, measures []string, a, b []row, aCut, bCut bool) {
	was := map[string][]uint64{}
	for _, r := range a {
		was[r.subject] = r.values
	}
	for _, r := range b {
		before, ok := was[r.subject]
		delete(was, r.subject)
		if !ok {
			d.only(change{Kind: kind, Subject: r.subject, State: "new"}, measures, r.values, a, aCut)
			continue
		}
		for i, m := range measures {
			if before[i] != r.values[i] {
				d.add(numbers(change{Kind: kind, Subject: r.subject, Measure: m, State: "changed"}, &before[i], &r.values[i]))
			}
		}
	}
	for subject, before := range was {
		d.only(change{Kind: kind, Subject: subject, State: "gone"}, measures, before, b, bCut)
	}
}

// only tells of what is in one list and not in the other.
func (d *nodeDiff) only(c change, measures []string, values []uint64, other []row, cut bool) {
	gone := c.State == "gone"
	if cut {
		c.State = map[bool]string{false: "risen", true: "fallen"}[gone]
		measures = measures[:1]
	}
	for i, m := range measures {
		c.Measure = m
		least := uint64(0)
		if cut {
			least = smallest(other)
		}
		if values[i] <= least {
			continue
		}
		if gone {
			c = numbers(c, &values[i], nil)
			c.Change += int64(min(least, 1<<62))
		} else {
			c = numbers(c, nil, &values[i])
			c.Change -= int64(min(least, 1<<62))
		}
		d.add(c)
	}
}

// smallest is the first measure of a list's last row.
func smallest(rows []row) uint64 {
	if len(rows) == 0 {
		return 0
	}
	least := rows[0].values[0]
	for _, r := range rows {
		least = min(least, r.values[0])
	}
	return least
}

// processes compares those that are in both: which others there are, the lists do
// not tell.
func (d *nodeDiff) processes(a, b *controlpb.NodeSnapshot) {
	was := map[string]*controlpb.SnapshotProcess{}
	for _, p := range a.GetProcesses() {
		was[p.GetPid()] = p
	}
	for _, p := range b.GetProcesses() {
		before := was[p.GetPid()]
		if before == nil {
			continue
		}
		subject := p.GetPid() + " " + cmp.Or(p.GetRegisteredName(), p.GetInitialCall())
		for _, m := range []struct {
			measure       string
			before, after uint64
		}{{"memory", before.GetMemory(), p.GetMemory()}, {"message_queue_len", before.GetMessageQueueLen(), p.GetMessageQueueLen()}} {
			if m.before != m.after {
				d.add(numbers(change{Kind: "process", Subject: subject, Measure: m.measure, State: "changed"}, &m.before, &m.after))
			}
		}
	}
}

// numbers fills in what is known of before and after.
func numbers(c change, before, after *uint64) change {
	var a, b int64
	if before != nil {
		a, c.Before = int64(min(*before, 1<<62)), *before
	}
	if after != nil {
		b, c.After = int64(min(*after, 1<<62)), *after
	}
	c.Change = b - a
	return c
}

// amountText prints before or after.
func (c *change) amountText(v any) string {
	switch v := v.(type) {
	case uint64:
		if c.Measure == "memory" {
			return size(v)
		}
		return decimal(v)
	case string:
		return v
	}
	return ""
}

// changeText prints the growth with its sign, and with its share of what was.
func (c *change) changeText() string {
	before, known := c.Before.(uint64)
	if _, isNumber := c.After.(uint64); !isNumber && !known {
		return c.State
	}
	sign, n := "+", uint64(max(c.Change, 0))
	if c.Change < 0 {
		sign, n = "-", uint64(-c.Change)
	}
	text := sign + c.amountText(n)
	switch {
	case c.State != "changed":
		return text + " " + c.State
	case before > 0 && n >= before/100:
		return text + fmt.Sprintf(" %s%.0f %%", sign, 100*float64(n)/float64(before))
	}
	return text
}
