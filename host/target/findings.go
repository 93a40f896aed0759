package target

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity says how much a finding matters.
type Severity string

// The severities, worst first.
const (
	SeverityCritical Severity = "critical" // it ends badly, soon
	SeverityWarning  Severity = "warning"  // it is not as it should be
	SeverityInfo     Severity = "info"     // worth knowing
)

// The kinds of findings, in the order in which those of one severity are told.
const (
	KindLimit       = "limit"           // the node is near one of its limits
	KindRestarts    = "restart_loop"    // a supervisor keeps restarting children
	KindMailbox     = "mailbox"         // a process does not keep up with its messages
	KindLogger      = "logger_overload" // log events come faster than they are written
	KindAtoms       = "atom_growth"     // atoms are made all the time
	KindMemory      = "memory_growth"   // a process or the node grows fast
	KindBinaries    = "binary_leak"     // a small process keeps large binaries
	KindTableGrowth = "table_growth"    // a table grows fast
	KindOrphan      = "orphan_table"    // a table of a process that nobody looks after
	KindRunQueue    = "run_queue"       // processes wait for a scheduler
	KindBusy        = "scheduler_busy"  // the schedulers have no time left
	KindDist        = "dist_queue"      // data waits to be sent to another node
	KindLongGC      = "long_gc"
	KindSchedule    = "long_schedule" // somebody held a scheduler for long
	KindBusyPort    = "busy_port"     // a process had to wait for a port
	KindAlone       = "unsupervised"
	KindNetsplit    = "netsplit" // nodes that know each other are not connected
	KindVersions    = "versions" // connected nodes run different versions
)

var kindOrder = []string{
	KindLimit, KindRestarts, KindNetsplit, KindMailbox, KindLogger, KindAtoms, KindMemory, KindBinaries, KindTableGrowth,
	KindOrphan, KindRunQueue, KindBusy, KindDist, KindLongGC, KindSchedule, KindBusyPort, KindVersions, KindAlone,
}

// Finding is something that seems wrong.
type Finding struct {
	Severity Severity
	Kind     string
	Subject  string  // a process, table, limit, node
	Evidence string  // what was seen
	Next     string  // the command to try next
	Weight   float64 // orders findings of one severity and kind, heaviest first
}

// CompareFindings orders findings, worst first.
func CompareFindings(a, b Finding) int {
	rank := func(f Finding) int {
		return slices.Index([]Severity{SeverityCritical, SeverityWarning, SeverityInfo}, f.Severity)
	}
	kind := func(f Finding) int { return slices.Index(kindOrder, f.Kind) }
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(kind(a), kind(b)), cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Subject, b.Subject))
}

// What counts as wrong. Each is what a node that is well does not come near.
const (
	mailboxWaits    = 100       // messages, of a mailbox that grows
	mailboxLong     = 1000      // messages, of any mailbox
	mailboxCritical = 10_000    // messages, of a mailbox that grows
	mailboxRate     = 10        // messages a second
	growsFrom       = 32 << 20  // bytes: what is smaller may grow
	growsBy         = 1 << 20   // bytes a second
	growsShare      = 0.02      // of what it has
	nodeGrowsBy     = 64 << 20  // bytes between the looks
	bigShare        = 0.25      // of the node's memory
	bigBytes        = 256 << 20 // that matter to a node
	leakBytes       = 32 << 20
	leakTimes       = 10 // the heap
	orphanBytes     = 1 << 20
	orphanBig       = 64 << 20
	limitWarning    = 0.7
	limitCritical   = 0.9
	atomRate        = 100 // a second
	moduleAtoms     = 500 // that a module may bring along when it is loaded
	queueWarning    = 2   // waiting processes for each scheduler
	queueCritical   = 10
	busyShare       = 0.9
	distWarning     = 64 << 10 // bytes
	loggerWaits     = 100      // events
	manyAlone       = 1000
	pauseCritical   = time.Second
)

// judge says what of the facts is wrong, worst first.
func (f *facts) judge() []Finding {
	var out []Finding
	for _, part := range [][]Finding{
		f.nearLimits(), f.atoms(), f.restarts(), f.mailboxes(), f.overloaded(), f.grown(), f.leaks(), f.tableFindings(),
		f.loaded(), f.distribution(), f.pauses(), f.unsupervised(),
	} {
		out = append(out, part...)
	}
	slices.SortStableFunc(out, CompareFindings)
	return out
}

func (f *facts) nearLimits() (out []Finding) {
	for _, l := range f.limits {
		share := float64(l.count) / float64(max(1, l.limit))
		if share < limitWarning {
			continue
		}
		next := map[string]string{"processes": "debughost ps %s --window 1s", "ports": "debughost ports %s", "file descriptors": "debughost ports %s"}[l.kind]
		out = append(out, Finding{
			Severity: worse(share >= limitCritical, SeverityCritical, SeverityWarning), Kind: KindLimit, Subject: l.kind, Weight: share,
			Evidence: fmt.Sprintf("%d of at most %d, %.0f %%", l.count, l.limit, 100*share),
			Next:     fmt.Sprintf(cmp.Or(next, "debughost system %s"), ShellWord(f.node)),
		})
	}
	return out
}

func (f *facts) atoms() []Finding {
	for _, l := range f.limits {
		if l.kind != "atoms" || l.count <= f.atomsBefore || f.between <= 0 || f.atomsBefore == 0 {
			continue
		}
		grown := l.count - f.atomsBefore
		rate := float64(grown-min(grown, f.modules*moduleAtoms)) / f.between.Seconds()
		if rate < atomRate {
			continue
		}
		left := time.Duration(float64(l.limit-min(l.count, l.limit)) / rate * float64(time.Second))
		return []Finding{{
			Severity: worse(left < time.Hour, SeverityCritical, SeverityWarning), Kind: KindAtoms, Subject: "atoms", Weight: rate,
			Evidence: fmt.Sprintf("%.0f new atoms a second, never freed; at this rate the table is full in %s", rate, rough(left)),
			Next:     fmt.Sprintf("debughost ps %s --sort reductions --window 1s", ShellWord(f.node)),
		}}
	}
	return nil
}

func (f *facts) restarts() (out []Finding) {
	for _, s := range f.supervisors {
		severity := SeverityInfo
		switch {
		case s.stuck, s.most > 0 && s.within >= s.most:
			severity = SeverityCritical
		case s.recent > 1:
			severity = SeverityWarning
		}
		evidence := fmt.Sprintf("%s in the last %s", times(s.recent, "restart"), rough(time.Duration(max(60, s.period))*time.Second))
		switch {
		case s.within == 0:
		case s.period >= 60:
			evidence += fmt.Sprintf(", of which it survives %d", s.most)
		default:
			evidence += fmt.Sprintf(", %d within %d s, of which it survives %d", s.within, s.period, s.most)
		}
		switch {
		case s.stuck:
			evidence += fmt.Sprintf("; its child %s cannot be started", s.child)
		case s.child != "":
			evidence += fmt.Sprintf("; the last child started is %s %s", s.child, s.childPid)
		}
		out = append(out, Finding{
			Severity: severity, Kind: KindRestarts, Subject: s.String(), Evidence: evidence,
			Next: f.tree(s.app), Weight: float64(s.recent),
		})
	}
	return out
}

// tree is the command that draws the tree of an application, or of all.
func (f *facts) tree(app string) string {
	command := "debughost tree " + ShellWord(f.node)
	if app != "none" && app != "" {
		command += " " + ShellWord(app)
	}
	return command
}

func (f *facts) mailboxes() (out []Finding) {
	for _, q := range f.queues {
		rate := f.rate(q.now, q.before)
		grows := q.now >= mailboxWaits && rate >= mailboxRate
		if !grows && q.now < mailboxLong {
			continue
		}
		evidence := times(q.now, "message") + " wait"
		switch {
		case rate >= 1:
			evidence += fmt.Sprintf(", %.0f a second more", rate)
		case rate <= -1:
			evidence += fmt.Sprintf(", %.0f a second less", -rate)
		}
		out = append(out, Finding{
			Severity: worse(grows && q.now >= mailboxCritical, SeverityCritical, SeverityWarning), Kind: KindMailbox, Subject: q.String(),
			Evidence: evidence + runs(q.call), Next: f.inspect(q.subject) + " --messages 5", Weight: float64(q.now),
		})
	}
	return out
}

func (f *facts) overloaded() (out []Finding) {
	for _, l := range f.loggers {
		if l.len < loggerWaits {
			continue
		}
		evidence := fmt.Sprintf("%s wait to be written", times(l.len, "log event"))
		if l.len >= l.dropsAt {
			evidence += fmt.Sprintf("; from %d on they are dropped", l.dropsAt)
		}
		out = append(out, Finding{
			Severity: worse(l.len >= l.dropsAt, SeverityCritical, SeverityWarning), Kind: KindLogger, Subject: l.name + " " + l.pid,
			Evidence: evidence, Next: f.inspect(subject{pid: l.pid}) + " --messages 5", Weight: float64(l.len),
		})
	}
	return out
}

func (f *facts) grown() (out []Finding) {
	for _, g := range f.growth {
		if !f.grows(g.now, g.before) {
			continue
		}
		out = append(out, Finding{
			Severity: worse(f.big(g.now), SeverityCritical, SeverityWarning), Kind: KindMemory, Subject: g.String(), Weight: f.rate(g.now, g.before),
			Evidence: fmt.Sprintf("%s, %s a second more", sizeText(g.now), sizeText(uint64(f.rate(g.now, g.before)))) + runs(g.call),
			Next:     f.inspect(g.subject),
		})
	}
	if m := f.memory; m != nil && m.total > m.before && m.total-m.before >= nodeGrowsBy && f.grows(m.total, m.before) {
		out = append(out, Finding{
			Severity: SeverityWarning, Kind: KindMemory, Subject: "the node", Weight: f.rate(m.total, m.before),
			Evidence: fmt.Sprintf("%s, %s more than %s before, of which binaries have %s", sizeText(m.total), sizeText(m.total-m.before), rough(f.between), sizeText(m.binary)),
			Next:     fmt.Sprintf("debughost ps %s --sort memory --window 1s", ShellWord(f.node)),
		})
	}
	return out
}

func (f *facts) leaks() (out []Finding) {
	for _, b := range f.binaries {
		if b.bytes < leakBytes || b.bytes < leakTimes*b.heap {
			continue
		}
		evidence := fmt.Sprintf("it holds %s of binaries with a heap of %s", sizeText(b.bytes), sizeText(b.heap))
		next := fmt.Sprintf("debughost diagnose %s --gc", ShellWord(f.node))
		if b.collected {
			evidence += fmt.Sprintf("; collecting its garbage freed %s", sizeText(b.freed))
			next = f.inspect(b.subject)
		}
		out = append(out, Finding{
			Severity: worse(f.big(b.bytes), SeverityCritical, SeverityWarning), Kind: KindBinaries, Subject: b.String(),
			Evidence: evidence + runs(b.call), Next: next, Weight: float64(b.bytes),
		})
	}
	return out
}

func (f *facts) tableFindings() (out []Finding) {
	for _, t := range f.tables {
		name := t.name
		if t.id != t.name {
			name += " " + t.id
		}
		next := fmt.Sprintf("debughost ets %s", ShellWord(f.node))
		if t.looked && f.grows(t.now, t.before) {
			out = append(out, Finding{
				Severity: worse(f.big(t.now), SeverityCritical, SeverityWarning), Kind: KindTableGrowth, Subject: name, Next: next, Weight: f.rate(t.now, t.before),
				Evidence: fmt.Sprintf("%s, %s a second more; its owner is %s", sizeText(t.now), sizeText(uint64(f.rate(t.now, t.before))), t.owner),
			})
		}
		if t.orphan && t.now >= orphanBytes {
			out = append(out, Finding{
				Severity: worse(t.now >= orphanBig, SeverityWarning, SeverityInfo), Kind: KindOrphan, Subject: name, Next: f.inspect(t.owner), Weight: float64(t.now),
				Evidence: fmt.Sprintf("%s; its owner %s has no supervisor and no link, and there is no heir", sizeText(t.now), t.owner),
			})
		}
	}
	return out
}

func (f *facts) loaded() []Finding {
	if f.load == nil {
		return nil
	}
	each := f.load.queue / float64(max(1, f.schedulers))
	next := fmt.Sprintf("debughost ps %s --sort reductions --window 1s", ShellWord(f.node))
	used := fmt.Sprintf("the emulator used %.0f %% of the time of its %s", 100*f.load.used, times(f.schedulers, "scheduler"))
	switch {
	case each >= queueWarning:
		return []Finding{{
			Severity: worse(each >= queueCritical, SeverityCritical, SeverityWarning), Kind: KindRunQueue, Subject: "the node", Weight: each,
			Evidence: fmt.Sprintf("%.0f processes wait for a scheduler, on the average of ten looks; %s", f.load.queue, used), Next: next,
		}}
	case f.load.used >= busyShare && each >= 0.5:
		return []Finding{{Severity: SeverityWarning, Kind: KindBusy, Subject: "the node", Evidence: used + ", and processes wait", Next: next, Weight: f.load.used}}
	}
	return nil
}

func (f *facts) distribution() (out []Finding) {
	for _, d := range f.dist {
		if d.bytes < distWarning {
			continue
		}
		out = append(out, Finding{
			Severity: worse(f.distLimit > 0 && d.bytes >= f.distLimit, SeverityCritical, SeverityWarning), Kind: KindDist, Subject: d.node,
			Evidence: fmt.Sprintf("%s wait to be sent to it: it, or the network to it, is slow", sizeText(d.bytes)),
			Next:     "debughost targets", Weight: float64(d.bytes),
		})
	}
	return out
}

func (f *facts) pauses() (out []Finding) {
	kinds := map[string]string{"long_gc": KindLongGC, "long_schedule": KindSchedule, "busy_port": KindBusyPort, "busy_dist_port": KindBusyPort}
	for _, m := range f.monitored {
		kind, ok := kinds[m.kind]
		if !ok {
			continue
		}
		evidence := fmt.Sprintf("%s in %s, the longest of %d ms", times(m.count, "time"), rough(f.monitorTime), m.longest.Milliseconds())
		switch m.kind {
		case "busy_port":
			evidence = fmt.Sprintf("it had to wait for a port %s in %s", times(m.count, "time"), rough(f.monitorTime))
		case "busy_dist_port":
			evidence = fmt.Sprintf("it had to wait for the connection to another node %s in %s", times(m.count, "time"), rough(f.monitorTime))
		}
		out = append(out, Finding{
			Severity: worse(m.longest >= pauseCritical, SeverityCritical, SeverityWarning), Kind: kind, Subject: m.String(),
			Evidence: evidence + runs(m.call), Next: f.inspect(m.subject), Weight: m.longest.Seconds() + float64(m.count)/1e6,
		})
	}
	return out
}

func (f *facts) unsupervised() (out []Finding) {
	for _, a := range f.alone {
		out = append(out, Finding{
			Severity: worse(a.count >= manyAlone, SeverityWarning, SeverityInfo), Kind: KindAlone, Subject: a.call, Weight: float64(a.count),
			Evidence: fmt.Sprintf("%s with %s that nobody supervises or is linked to, such as %s", plural(a.count, "process", "processes"), sizeText(a.memory), a.pid),
			Next:     f.inspect(subject{pid: a.pid}),
		})
	}
	return out
}

// rate is how much a second there was between the looks.
func (f *facts) rate(now, before uint64) float64 {
	if f.between <= 0 {
		return 0
	}
	return (float64(now) - float64(before)) / f.between.Seconds()
}

func (f *facts) grows(now, before uint64) bool {
	return now >= growsFrom && f.rate(now, before) >= growsBy && float64(now)-float64(before) >= growsShare*float64(now)
}

// big tells whether so many bytes are a large part of the node's.
func (f *facts) big(n uint64) bool {
	return n >= bigBytes && f.memory != nil && float64(n) >= bigShare*float64(f.memory.total)
}

func (f *facts) inspect(s subject) string {
	if strings.HasPrefix(s.pid, "#Port") {
		return fmt.Sprintf("debughost ports %s", ShellWord(f.node))
	}
	return fmt.Sprintf("debughost inspect %s %s", ShellWord(f.node), ShellWord(cmp.Or(strings.TrimPrefix(s.name, "Elixir."), strings.Trim(s.pid, "<>"))))
}

func (s subject) String() string {
	if s.name != "" {
		return s.name + " " + s.pid
	}
	return s.pid
}

func runs(call string) string {
	if call == "" {
		return ""
	}
	return "; it runs " + call
}

func worse(is bool, then, otherwise Severity) Severity {
	if is {
		return then
	}
	return otherwise
}

func times(n uint64, what string) string { return plural(n, what, what+"s") }

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// sizeText prints a size with two digits or more, in powers of 1000.
func sizeText(n uint64) string {
	v := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if v < 999.5 {
			if v < 9.95 && unit != "B" {
				return fmt.Sprintf("%.1f %s", v, unit)
			}
			return fmt.Sprintf("%.0f %s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1f TB", v)
}

// rough prints a time span for a sentence.
func rough(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

// ShellWord quotes s so that a person can copy it into a shell.
func ShellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@._-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
