package target

import (
	"slices"
	"sync"

	"github.com/debughost/debughost/erl/etf"
)

const (
	// maxReports and maxReportBytes bound the crash reports that are kept of all
	// targets together.
	maxReports     = 200
	maxReportBytes = 4 << 20
)

// keptReports are the last crash reports of targets that somebody followed. Its
// zero value is ready for use.
type keptReports struct {
	mu    sync.Mutex
	all   []LogEvent // oldest first
	bytes int
}

// keep keeps a crash report; those who follow the same target have the same.
func (k *keptReports) keep(e LogEvent) {
	if !e.Report.crash() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.all {
		if o.Node == e.Node && o.Time.Equal(e.Time) && o.Pid == e.Pid && o.Report.Kind == e.Report.Kind {
			return
		}
	}
	k.all = append(k.all, e)
	k.bytes += e.size()
	for len(k.all) > maxReports || k.bytes > maxReportBytes {
		k.bytes -= k.all[0].size()
		k.all = slices.Delete(k.all, 0, 1)
	}
}

// size is about what an event takes in memory.
func (e *LogEvent) size() int {
	n := 512 + len(e.Message)
	if r := e.Report; r != nil {
		n += len(r.Reason) + len(r.State) + len(r.LastMessage) + 100*len(r.Stack)
		for _, f := range r.Fields {
			n += len(f.Key) + len(f.Value)
		}
		for _, a := range r.Ancestors {
			n += len(a)
		}
	}
	return n
}

// since returns the reports that a query asks for.
func (k *keptReports) since(q LogQuery) []LogEvent {
	f := &logFollow{q: q}
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []LogEvent
	for _, e := range k.all {
		if !e.Time.Before(q.Since) && f.names(e.Node) && e.wanted(q) {
			out = append(out, e)
		}
	}
	return out
}

// wanted tells whether an event is one that the query asks for, as the companion
// does on the target.
func (e *LogEvent) wanted(q LogQuery) bool {
	process := q.Process == "" || samePid(q.Process, e.Pid) ||
		e.RegisteredName != "" && slices.Contains(registeredNames(q.Process), e.RegisteredName)
	return process && (q.Application == "" || q.Application == e.Application) &&
		slices.Index(LogLevels, e.Level) <= slices.Index(LogLevels, q.Level)
}

// samePid tells whether a text that may be a pid is that pid.
func samePid(text, pid string) bool {
	id, serial, err := etf.ParsePid(text)
	return err == nil && pidText(etf.Pid{ID: id, Serial: serial}) == pid
}
