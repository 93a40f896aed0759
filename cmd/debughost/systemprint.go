package main

import (
	"bufio"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	controlpb "github.com/debughost/debughost/control/proto"
)

const (
	nearShare  = 0.8       // of a table's limit
	looseUse   = 0.5       // of an allocator's memory, less than which is pointed out
	looseBytes = 100 << 20 // in allocators of this size
)

// nearLimits says what of a node is near a limit, in words.
func nearLimits(s systemJSON) []string {
	var out []string
	for _, l := range s.Limits {
		if l.Share >= nearShare {
			out = append(out, fmt.Sprintf("%s %s", strings.ReplaceAll(l.Name, "_", " "), percent(l.Share)))
		}
	}
	for _, a := range s.Allocators {
		if a.Carriers >= looseBytes && a.Usage < looseUse {
			out = append(out, fmt.Sprintf("%s uses %s of %s", a.Name, percent(a.Usage), size(a.Carriers)))
		}
	}
	for _, n := range s.Nodes {
		if !n.Messages && s.DistBufBusyLimit > 0 && n.Queue >= s.DistBufBusyLimit/2 {
			out = append(out, fmt.Sprintf("%s wait for %s", size(n.Queue), n.Name))
		}
	}
	return out
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// round leaves four digits behind the point: more is noise.
func round(f float64) float64 { return math.Round(f*1e4) / 1e4 }

func percent(f float64) string {
	if f > 0 && f < 0.1 {
		return strconv.FormatFloat(100*f, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(100*f, 'f', 0, 64) + " %"
}

var systemHeader = []string{
	"node", "otp_release", "erts_version", "elixir_version", "uptime", "memory", "scheduler_utilization", "run_queue",
	"reductions_per_second", "processes", "ports", "atoms", "ets", "file_descriptors", "nodes", "modules", "near",
}

func systemCSV(s systemJSON) []string {
	busy, reductions := "", ""
	if s.Activity != nil {
		busy, reductions = decimalFloat(s.Activity.SchedulerUtilization), decimalFloat(s.Activity.Rates["reductions"])
	}
	cells := []string{
		s.Node, s.OTPRelease, s.ERTSVersion, s.ElixirVersion, decimalFloat(s.Uptime), decimal(s.Memory["total"]), busy, decimal(s.RunQueue), reductions,
	}
	for _, name := range []string{"process", "port", "atom", "ets", "file_descriptor"} {
		cells = append(cells, decimal(s.used(name)))
	}
	return append(cells, strconv.Itoa(len(s.Nodes)), decimal(s.Modules), strings.Join(s.Near, "; "))
}

func decimalFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (s *systemJSON) used(limit string) uint64 {
	for _, l := range s.Limits {
		if l.Name == limit {
			return l.Used
		}
	}
	return 0
}

func systemCells(s systemJSON) []string {
	busy, reductions := "", ""
	if s.Activity != nil {
		busy, reductions = percent(s.Activity.SchedulerUtilization), short1000(s.Activity.Rates["reductions"])
	}
	return []string{
		s.Node, s.OTPRelease, s.ElixirVersion, uptime(s), size(s.Memory["total"]), busy, decimal(s.RunQueue), reductions,
		decimal(s.used("process")), strconv.Itoa(len(s.Nodes)), strings.Join(s.Near, ", "),
	}
}

func uptime(s systemJSON) string {
	if s.Uptime == 0 {
		return ""
	}
	return age(time.Duration(s.Uptime * float64(time.Second)))
}

// short1000 is a count with a unit of a thousand each: 12 k, 3.4 M.
func short1000(f float64) string {
	return strings.TrimSpace(strings.TrimSuffix(size(uint64(max(f, 0))), "B"))
}

// printSystem writes all of one node.
func (a *app) printSystem(p *controlpb.System) error {
	s := systemRow(p)
	w := &detailWriter{Writer: bufio.NewWriter(a.out)}
	w.fact("node", s.Node)
	release := s.OTPRelease + ", ERTS " + s.ERTSVersion
	if s.EmuFlavor != "" {
		release += " (" + s.EmuFlavor + ")"
	}
	w.fact("otp_release", release)
	w.fact("elixir", s.ElixirVersion)
	w.fact("architecture", s.SystemArchitecture)
	w.fact("os_pid", s.OSPid)
	w.fact("uptime", uptime(s))
	w.fact("processors", fmt.Sprintf("%d, %d available", s.LogicalProcessors, s.LogicalProcessorsAvailable))
	w.fact("schedulers", fmt.Sprintf("%d of %d online, %d dirty CPU, %d dirty IO", s.SchedulersOnline, s.Schedulers, s.DirtyCPUSchedulers, s.DirtyIOSchedulers))
	w.fact("run_queue", fmt.Sprintf("%d %v", s.RunQueue, s.RunQueues))
	w.fact("code", fmt.Sprintf("%d modules, %s", s.Modules, size(s.Memory["code"])))
	if act := s.Activity; act != nil {
		w.fact("window", fmt.Sprintf("%.3g s", act.Window))
		var each []string
		for _, b := range act.Schedulers {
			each = append(each, percent(b))
		}
		w.fact("busy", fmt.Sprintf("%s (%s), dirty CPU %s, dirty IO %s", percent(act.SchedulerUtilization), strings.Join(each, ", "), percent(act.DirtyCPU), percent(act.DirtyIO)))
		for _, r := range p.GetActivity().GetRates() {
			text := short1000(r.GetValue()) + "/s"
			switch r.GetName() {
			case "bytes_reclaimed", "input", "output":
				text = size(uint64(r.GetValue())) + "/s"
			}
			w.fact(strings.TrimPrefix(r.GetName(), "garbage_"), text)
		}
	}
	for i, n := range s.Near {
		name := ""
		if i == 0 {
			name = "near its limit"
		}
		text := sane(n)
		if a.colors() {
			text = "\x1b[1;31m" + text + "\x1b[0m"
		}
		w.raw(name, text)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return a.systemTables(p, s)
}

// systemTables writes the lists of one node below the facts.
func (a *app) systemTables(p *controlpb.System, s systemJSON) error {
	limits := newGrid(column{name: "limit"}, column{name: "used", right: true}, column{name: "of", right: true}, column{name: "share", right: true})
	for _, l := range s.Limits {
		limits.add(l.Name, decimal(l.Used), decimal(l.Limit), percent(l.Share))
		if l.Share >= nearShare {
			limits.highlight(3)
		}
	}
	memory := newGrid(column{name: "memory"}, column{name: "bytes", right: true}, column{name: "share", right: true})
	for _, m := range p.GetMemory() {
		memory.add(m.GetName(), size(m.GetValue()), percent(share(m.GetValue(), s.Memory["total"])))
	}
	allocators := newGrid(column{name: "allocator"}, column{name: "held", right: true}, column{name: "used", right: true}, column{name: "share", right: true})
	for _, x := range s.Allocators {
		allocators.add(x.Name, size(x.Carriers), size(x.Blocks), percent(x.Usage))
		if x.Carriers >= looseBytes && x.Usage < looseUse {
			allocators.highlight(3)
		}
	}
	nodes := newGrid(column{name: "connected node", least: 16}, column{name: "kind"}, column{name: "queue", right: true}, column{name: "input", right: true}, column{name: "output", right: true})
	for _, n := range s.Nodes {
		kind, queue := "visible", size(n.Queue)
		if n.Hidden {
			kind = "hidden"
		}
		if n.Messages {
			queue = decimal(n.Queue) + " messages"
		}
		nodes.add(n.Name, kind, queue, size(n.Input), size(n.Output))
	}
	for _, g := range []*grid{limits, memory, allocators, nodes} {
		if len(g.rows) == 0 {
			continue
		}
		fmt.Fprintln(a.out)
		if err := g.write(a.out, a.width(), a.colors()); err != nil {
			return err
		}
	}
	return nil
}
