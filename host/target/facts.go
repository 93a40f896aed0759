package target

import (
	"fmt"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/etf"
)

// facts are what stands out on a target, before anybody says whether it is
// wrong. Bytes and counts are as the target tells them.
type facts struct {
	node string
	rows *rowReader

	state       NodeState
	schedulers  uint64
	between     time.Duration // the two looks
	limits      []limitFact
	atomsBefore uint64
	modules     uint64      // loaded between the looks
	memory      *memoryFact // nil where the node does not count
	load        *loadFact   // nil where nobody looked
	queues      []changeFact
	growth      []changeFact
	binaries    []binaryFact
	tables      []tableFact
	supervisors []supervisorFact
	alone       []aloneFact
	dist        []distFact
	distLimit   uint64
	loggers     []loggerFact
	monitored   []monitorFact
	monitorTime time.Duration
	skipped     []string
}

type (
	// subject is a process or a port.
	subject struct{ pid, name, call string }

	limitFact struct {
		kind         string
		count, limit uint64
	}
	memoryFact struct{ total, before, binary uint64 }
	loadFact   struct {
		queue float64 // processes that wait for a scheduler, on the average
		used  float64 // share of all schedulers' time, of one at most; busy waiting counts
	}
	changeFact struct {
		subject
		now, before uint64
	}
	binaryFact struct {
		subject
		bytes, heap, freed uint64
		collected          bool
	}
	tableFact struct {
		id, name    string
		owner       subject
		now, before uint64
		looked      bool // before is known
		orphan      bool
	}
	supervisorFact struct {
		subject
		recent, within, most, period uint64
		child, childPid, app         string
		stuck                        bool // the child cannot be started
	}
	aloneFact struct {
		call, pid     string
		count, memory uint64
	}
	distFact struct {
		node  string
		bytes uint64
	}
	loggerFact struct {
		name, pid    string
		len, dropsAt uint64
	}
	monitorFact struct {
		subject
		kind    string
		count   uint64
		longest time.Duration
	}
)

// read takes the list of facts that look/1 of the helper module describes.
// Facts that are not known are of a newer module, and are left out.
func (f *facts) read(reply etf.Term) error {
	list, ok := etf.Elements(reply)
	if !ok {
		return f.bad("facts", reply)
	}
	readers := f.readers()
	for _, e := range list {
		kv, ok := e.(etf.Tuple)
		if !ok || len(kv) != 2 {
			return f.bad("facts", e)
		}
		read := readers[atom(kv[0])]
		if read == nil {
			continue
		}
		if err := read(kv[1]); err != nil {
			return err
		}
	}
	return nil
}

func (f *facts) bad(what string, t etf.Term) error {
	return fmt.Errorf("diagnose %s: read its %s: got %s", f.node, what, printed(t))
}

func (f *facts) readers() map[string]func(etf.Term) error {
	number := func(to *uint64) func(etf.Term) error {
		return func(t etf.Term) error { *to = count(t); return nil }
	}
	return map[string]func(etf.Term) error{
		"node":         f.readNode,
		"between":      func(t etf.Term) error { f.between = milliseconds(t); return nil },
		"atoms_before": number(&f.atomsBefore),
		"modules":      number(&f.modules),
		"dist_limit":   number(&f.distLimit),
		"memory":       f.readMemory,
		"load":         f.readLoad,
		"limits": listInto(f, "limits", 3, &f.limits, func(e etf.Tuple) limitFact {
			return limitFact{strings.ReplaceAll(atom(e[0]), "_", " "), count(e[1]), count(e[2])}
		}),
		"queues": listInto(f, "queues", 5, &f.queues, f.change),
		"growth": listInto(f, "growth", 5, &f.growth, f.change),
		"binaries": listInto(f, "binaries", 6, &f.binaries, func(e etf.Tuple) binaryFact {
			_, none := e[5].(etf.Atom)
			return binaryFact{f.subject(e), count(e[3]), count(e[4]), count(e[5]), !none}
		}),
		"tables": listInto(f, "tables", 8, &f.tables, func(e etf.Tuple) tableFact {
			_, none := e[6].(etf.Atom)
			return tableFact{text(e[0]), atom(e[1]), f.subject(e[2:]), count(e[5]), count(e[6]), !none, atom(e[7]) == "true"}
		}),
		"supervisors": f.readSupervisors,
		"alone":       f.readAlone,
		"dist": listInto(f, "dist", 2, &f.dist, func(e etf.Tuple) distFact {
			return distFact{atom(e[0]), count(e[1])}
		}),
		"logger": listInto(f, "logger", 4, &f.loggers, func(e etf.Tuple) loggerFact {
			return loggerFact{atom(e[0]), f.pid(e[1]), count(e[2]), count(e[3])}
		}),
		"apps": func(t etf.Term) error {
			var apps [][2]string
			err := listInto(f, "apps", 2, &apps, func(e etf.Tuple) [2]string { return [2]string{atom(e[0]), text(e[1])} })(t)
			f.state.Apps = make(map[string]string, len(apps))
			for _, a := range apps {
				f.state.Apps[a[0]] = a[1]
			}
			return err
		},
		"nodes": func(t etf.Term) error { f.state.Connected = atoms(t); return nil },
		"known": func(t etf.Term) error { f.state.Known = atoms(t); return nil },
	}
}

// listInto reads a list of tuples of n elements.
func listInto[T any](f *facts, what string, n int, to *[]T, one func(etf.Tuple) T) func(etf.Term) error {
	return func(t etf.Term) error {
		list, ok := etf.Elements(t)
		if !ok {
			return f.bad(what, t)
		}
		for _, e := range list {
			tuple, ok := e.(etf.Tuple)
			if !ok || len(tuple) != n {
				return f.bad(what, e)
			}
			*to = append(*to, one(tuple))
		}
		return nil
	}
}

// subject reads the first three elements: P, Name | [], Call | Text.
func (f *facts) subject(e etf.Tuple) subject {
	s := subject{pid: f.pid(e[0]), name: atom(e[1])}
	if b, ok := e[2].(etf.Binary); ok {
		s.call = string(b)
	} else {
		s.call = f.rows.mfa(e[2])
	}
	return s
}

func (f *facts) pid(t etf.Term) string {
	if pid, ok := t.(etf.Pid); ok {
		f.rows.note(pid)
	}
	return identifier(t)
}

func (f *facts) change(e etf.Tuple) changeFact {
	return changeFact{f.subject(e), count(e[3]), count(e[4])}
}

func (f *facts) readNode(t etf.Term) error {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 3 {
		return f.bad("release", t)
	}
	f.state.OTPRelease, f.schedulers = text(e[0]), max(1, count(e[1]))
	return nil
}

func (f *facts) readMemory(t etf.Term) error {
	if e, ok := t.(etf.Tuple); ok && len(e) == 3 {
		f.memory = &memoryFact{count(e[1]), count(e[1]), count(e[2])}
		f.memory.total = count(e[0])
		return nil
	}
	if atom(t) != "none" {
		return f.bad("memory", t)
	}
	f.skipped = append(f.skipped, "the node does not count its memory")
	return nil
}

func (f *facts) readLoad(t etf.Term) error {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 3 {
		return f.bad("load", t)
	}
	wall := float64(max(1, count(e[2]))) * float64(max(1, f.schedulers))
	f.load = &loadFact{queue: float64(count(e[0])) / 100, used: min(1, float64(count(e[1]))/wall)}
	return nil
}

func (f *facts) readSupervisors(t etf.Term) error {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 4 {
		return f.bad("supervisors", t)
	}
	if n := count(e[1]); n > 0 {
		f.skipped = append(f.skipped, fmt.Sprintf("%d of %d supervisors did not answer in time", n, count(e[0])))
	}
	if n := count(e[2]); n > 0 {
		f.skipped = append(f.skipped, fmt.Sprintf("%d supervisors are too large, or too many, to ask for their restarts", n))
	}
	return listInto(f, "supervisors", 10, &f.supervisors, func(e etf.Tuple) supervisorFact {
		return supervisorFact{
			subject: f.subject(e), recent: count(e[3]), within: count(e[4]), most: count(e[5]), period: count(e[6]),
			child: text(e[7]), childPid: f.pid(e[8]), stuck: atom(e[8]) == "restarting", app: atom(e[9]),
		}
	})(e[3])
}

func (f *facts) readAlone(t etf.Term) error {
	if atom(t) == "none" {
		return nil
	}
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 2 {
		return f.bad("processes that nobody supervises", t)
	}
	return listInto(f, "processes that nobody supervises", 4, &f.alone, func(e etf.Tuple) aloneFact {
		return aloneFact{call: f.rows.mfa(e[0]), count: count(e[1]), pid: f.pid(e[2]), memory: count(e[3])}
	})(e[1])
}

// readMonitor reads {ok, {Pid, Name} | none, [{P, Name, Call, Kind, Count, Longest}]}
// or {busy, {Pid, Name}}.
func (f *facts) readMonitor(t etf.Term, took time.Duration) error {
	e, ok := t.(etf.Tuple)
	if ok && len(e) == 2 && atom(e[0]) == "busy" {
		owner, ok := e[1].(etf.Tuple)
		if !ok || len(owner) != 2 {
			return f.bad("system monitor", t)
		}
		f.skipped = append(f.skipped, fmt.Sprintf("long garbage collections and schedules were not listened for: %s %s has the system monitor; --force takes it for that time and gives it back, and its owner may log that", identifier(owner[0]), atom(owner[1])))
		return nil
	}
	if !ok || len(e) != 3 {
		return f.bad("system monitor", t)
	}
	if owner, ok := e[1].(etf.Tuple); ok && len(owner) == 2 {
		f.skipped = append(f.skipped, fmt.Sprintf("%s %s had the system monitor before, has it again, and heard nothing for %v", identifier(owner[0]), atom(owner[1]), took))
	}
	f.monitorTime = took
	return listInto(f, "system monitor", 6, &f.monitored, func(e etf.Tuple) monitorFact {
		return monitorFact{f.subject(e), atom(e[3]), count(e[4]), milliseconds(e[5])}
	})(e[2])
}

func milliseconds(t etf.Term) time.Duration {
	return time.Duration(min(count(t), uint64(24*time.Hour/time.Millisecond))) * time.Millisecond
}

// atoms reads a list of atoms; what is none is left out.
func atoms(t etf.Term) []string {
	list, _ := etf.Elements(t)
	var out []string
	for _, e := range list {
		if a := atom(e); a != "" {
			out = append(out, a)
		}
	}
	return out
}
