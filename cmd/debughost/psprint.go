package main

import (
	"fmt"
	"slices"
	"strconv"
)

// queueAlarm is the message queue length from which a process is pointed out:
// one that keeps up with its work has next to none.
const queueAlarm = 1000

// printRanking writes the answer, and turns errors of targets into the exit code.
func (a *app) printRanking(r *ranking, f *psFlags) error {
	var err error
	switch a.output {
	case asJSON:
		err = a.rankingJSON(r)
	case asCSV:
		err = a.rankingCSV(r, f)
	default:
		err = a.rankingTable(r, f)
	}
	if err != nil {
		return err
	}
	if a.output != asJSON {
		a.printNodeErrors(r.errors)
	}
	switch {
	case len(r.errors) == 0:
		return nil
	case r.answered == 0 && len(r.rows) == 0:
		return errPrinted
	}
	return errPartial
}

// printNodeErrors tells every error, and then each advice once: many targets
// often fail for one reason.
func (a *app) printNodeErrors(errs []nodeErrorJSON) {
	var hints []string
	for _, e := range errs {
		a.complain(e.text(), "")
		if e.hint != "" && !slices.Contains(hints, e.hint) {
			hints = append(hints, e.hint)
		}
	}
	for _, h := range hints {
		a.hint(h)
	}
}

func (a *app) rankingJSON(r *ranking) error {
	l := newJSONList(a.out)
	l.begin("processes")
	for i := range r.rows {
		if err := l.item(&r.rows[i]); err != nil {
			return err
		}
	}
	l.begin("errors")
	for i := range r.errors {
		if err := l.item(&r.errors[i]); err != nil {
			return err
		}
	}
	return l.close()
}

func (a *app) rankingCSV(r *ranking, f *psFlags) error {
	header := []string{
		"node", "pid", "registered_name", "memory", "reductions", "message_queue_len",
		"current_function", "initial_call", "status",
	}
	if f.window > 0 {
		header = append(header, "rate")
	}
	return a.writeCSV(header, func(write func(...string) error) error {
		for i := range r.rows {
			p := &r.rows[i]
			cells := []string{
				p.Node, p.Pid, p.RegisteredName, decimal(p.Memory), decimal(p.Reductions),
				decimal(p.MessageQueueLen), p.CurrentFunction, p.InitialCall, p.Status,
			}
			if f.window > 0 {
				cells = append(cells, strconv.FormatFloat(*p.Rate, 'f', -1, 64))
			}
			if err := write(cells...); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *app) rankingTable(r *ranking, f *psFlags) error {
	const queue = 5
	cols := []column{
		{name: "node", least: 12, dull: true}, {name: "pid"}, {name: "registered_name", least: 16},
		{name: "memory", right: true}, {name: "reductions", right: true, spare: 1}, {name: "message_queue_len", right: true},
		{name: "current_function", least: 20}, {name: "initial_call", least: 20, spare: 2}, {name: "status", spare: 3},
	}
	if f.window > 0 {
		cols = append(cols, column{name: "rate", right: true})
	}
	g := newGrid(cols...)
	var worst *processJSON
	for i := range r.rows {
		p := &r.rows[i]
		cells := []string{
			p.Node, p.Pid, short(p.RegisteredName), size(p.Memory), decimal(p.Reductions),
			decimal(p.MessageQueueLen), short(p.CurrentFunction), short(p.InitialCall), p.Status,
		}
		if f.window > 0 {
			cells = append(cells, rateText(f.sort, *p.Rate))
		}
		g.add(cells...)
		if p.MessageQueueLen >= queueAlarm {
			g.highlight(queue)
			if worst == nil || p.MessageQueueLen > worst.MessageQueueLen {
				worst = p
			}
		}
	}
	if err := a.print(g); err != nil {
		return err
	}
	switch {
	case worst != nil:
		a.note("%s has %d messages waiting: it gets more than it handles; look at some with\n      debughost inspect %s %s --messages 3",
			sane(processText(worst)), worst.MessageQueueLen, shellWord(worst.Node), shellWord(worst.Pid))
	case len(r.rows) == 0 && len(r.errors) == 0 && r.answered == 0:
		a.note("no node is attached; `debughost targets` tells why")
	case len(r.rows) == 0 && len(r.errors) == 0:
		a.note("no process matches")
	}
	return nil
}

func processText(p *processJSON) string {
	if p.RegisteredName == "" {
		return p.Pid
	}
	return p.Pid + " (" + short(p.RegisteredName) + ")"
}

func rateText(sort string, rate float64) string {
	switch {
	case sort == "memory" && rate < 0:
		return "-" + size(uint64(-rate)) + "/s"
	case sort == "memory":
		return size(uint64(rate)) + "/s"
	}
	return fmt.Sprintf("%.0f/s", rate)
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
