package main

import (
	"fmt"
	"slices"

	controlpb "github.com/debughost/debughost/control/proto"
)

// drawTree draws a supervision tree as a table whose first column is a tree.
func (a *app) drawTree(root *controlpb.TreeNode) error {
	d := &drawing{grid: newGrid(
		column{name: "name", least: 30}, column{name: "pid"}, column{name: "kind", least: 12}, column{name: "restart", spare: 2},
		column{name: "memory", right: true, spare: 1}, column{name: "queue", right: true, dull: true}, column{name: "restarts", right: true, dull: true},
		column{name: "state", least: 16, dull: true},
	)}
	d.draw(root, "", "")
	if err := a.print(d.grid); err != nil {
		return err
	}
	if d.cut > 0 {
		a.note("processes that are not shown: %d; --children shows more of each supervisor", d.cut)
	}
	if d.deep > 0 {
		a.note("supervisors that were not asked for their children: %d; --depth goes deeper", d.deep)
	}
	if d.silent > 0 {
		a.note("supervisors that did not answer: %d; `debughost inspect NODE PID` shows what one waits for", d.silent)
	}
	return nil
}

// drawing is a tree in the making.
type drawing struct {
	grid              *grid
	cut, deep, silent uint64
}

// The columns that may stand out.
const (
	treeQueue    = 5
	treeRestarts = 6
	treeState    = 7
)

// draw adds an entry and what is below it. lead is what its own line begins with,
// below what those of its children do.
func (d *drawing) draw(n *controlpb.TreeNode, lead, below string) {
	cells := []string{lead + treeName(n), n.GetPid(), treeKind(n), n.GetRestart(), "", "", treeRestartsText(n), treeStateText(n)}
	if n.GetMemory() > 0 {
		cells[4], cells[treeQueue] = size(n.GetMemory()), decimal(n.GetMessageQueueLen())
	}
	d.grid.add(cells...)
	d.grid.lead = append(d.grid.lead, columns(lead))
	if n.GetMessageQueueLen() >= queueAlarm {
		d.grid.highlight(treeQueue)
	}
	if n.GetRestarts() > 0 || n.GetRecentRestarts() > 0 {
		d.grid.highlight(treeRestarts)
	}
	switch n.GetProblem() {
	case "":
	case "depth":
		d.deep++
	case "timeout":
		d.silent++
		d.grid.highlight(treeState)
	default:
		d.grid.highlight(treeState)
	}
	d.cut += n.GetCut()
	for i, c := range n.GetChildren() {
		if last := i == len(n.GetChildren())-1 && n.GetCut() == 0; last {
			d.draw(c, below+"└─ ", below+"   ")
		} else {
			d.draw(c, below+"├─ ", below+"│  ")
		}
	}
	if n.GetCut() > 0 {
		d.grid.add(fmt.Sprintf("%s└─ … %d more", below, n.GetCut()), "", "", "", "", "", "", "")
		d.grid.lead = append(d.grid.lead, 0)
	}
}

// treeName is how a person knows the process: what has no name goes by what it
// runs.
func treeName(n *controlpb.TreeNode) string {
	switch {
	case n.GetName() != "":
		return short(n.GetName())
	case n.GetModule() != "" && n.GetModule() != "dynamic":
		return short(n.GetModule())
	case n.GetInitialCall() != "":
		return short(n.GetInitialCall())
	}
	return n.GetPid()
}

// treeKind is one_for_one 3/5s of a supervisor: three restarts within five seconds
// are survived.
func treeKind(n *controlpb.TreeNode) string {
	switch {
	case n.GetUnsupervised():
		return "unsupervised"
	case n.GetStrategy() != "":
		return fmt.Sprintf("%s %d/%ds", n.GetStrategy(), n.GetIntensity(), n.GetPeriod())
	}
	return n.GetType()
}

func treeRestartsText(n *controlpb.TreeNode) string {
	switch seen, recent := n.GetRestarts(), n.GetRecentRestarts(); {
	case recent > 0:
		return fmt.Sprintf("%d +%d", seen, recent)
	case seen > 0:
		return decimal(seen)
	}
	return ""
}

// idle and hibernating are where processes of OTP, and of libraries that many
// systems have, wait for work.
var (
	idle = []string{
		"gen_server:loop/7", "gen_server:loop/5", "gen_statem:loop_receive/3", "gen_event:fetch_msg/6",
		"gen_server2:process_next_msg/1", "gen_batch_server:loop_wait/2", "ranch_conns_sup:loop/4",
	}
	hibernating = []string{"erlang:hibernate/3", "erlang:hibernate/0", "gen_server:loop_hibernate/4"}
)

var treeProblems = map[string]string{
	"timeout":          "does not answer",
	"depth":            "not asked",
	"too_large":        "too large to ask",
	"noproc":           "ended meanwhile",
	"starting":         "starting",
	"not_a_supervisor": "answers as no supervisor",
}

// treeStateText is what is out of the ordinary, or what the process is in.
func treeStateText(n *controlpb.TreeNode) string {
	switch problem := n.GetProblem(); {
	case problem != "" && treeProblems[problem] != "":
		return treeProblems[problem]
	case problem != "":
		return problem
	case n.GetCurrentFunction() == "":
		return n.GetStatus()
	case slices.Contains(hibernating, n.GetCurrentFunction()):
		if n.GetStrategy() != "" {
			return "" // as supervisors do that have little to do
		}
		return "hibernates"
	case n.GetStatus() == "waiting" && slices.Contains(idle, n.GetCurrentFunction()):
		return ""
	}
	text := n.GetStatus() + " in " + short(n.GetCurrentFunction())
	if n.GetParent() != "" {
		text += ", started by " + n.GetParent()
	}
	return text
}
