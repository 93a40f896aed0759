package target

import (
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/etf"
)

// logReader reads what the companion sends of one target's log to one follower.
type logReader struct {
	rows  *rowReader
	print etf.PrintOptions
	sent  uint64 // events, as the target counts them, up to the last message that was read
	left  uint64 // events that were wanted and not sent
}

// message reads {logs, Sent, Left, Events}. lost are the events that were left out
// since the last message: by the target, those of messages that did not arrive
// here, and what cannot be read of this one. A message that cannot be read at all
// is not ok, and its events are lost with the next one.
func (r *logReader) message(term etf.Term) (events []LogEvent, lost uint64, ok bool) {
	t, _ := term.(etf.Tuple)
	if len(t) != 4 || atom(t[0]) != "logs" {
		return nil, 0, false
	}
	list, ok := etf.Elements(t[3])
	if !ok {
		return nil, 0, false
	}
	for _, e := range list {
		if e, ok := e.(etf.Tuple); ok && len(e) == 11 && atom(e[0]) == "log" {
			events = append(events, r.event(e))
		}
	}
	sent, left := count(t[1]), count(t[2])
	lost = more(sent, r.sent+uint64(len(events))) + more(left, r.left)
	r.sent, r.left = sent, left
	return events, lost, true
}

// more is how much a counter of the target's is above what is known of it.
func more(now, known uint64) uint64 { return now - min(now, known) }

// event reads {log, Time, Level, Pid, Name, Application, MFA, {File, Line}, Text,
// Kind, [{Key, Value}]}. What one of them should not be is left empty: metadata
// is whatever the one who logs has put there.
func (r *logReader) event(t etf.Tuple) LogEvent {
	e := LogEvent{
		Node: r.rows.node, Level: atom(t[2]), RegisteredName: named(t[4]), Application: named(t[5]), MFA: r.rows.mfa(t[6]),
	}
	if us, ok := t[1].(etf.Int); ok {
		e.Time = time.UnixMicro(int64(us)).UTC()
	}
	if !slices.Contains(LogLevels, e.Level) {
		e.Level = "notice"
	}
	if pid, ok := t[3].(etf.Pid); ok {
		e.Pid = pidText(pid)
		if string(pid.Node) == r.rows.node {
			r.rows.note(pid)
		} else {
			e.Pid = etf.FormatPid(pid)
		}
	}
	if where, ok := t[7].(etf.Tuple); ok && len(where) == 2 {
		if file := text(where[0]); file != "none" {
			e.File, e.Line = file, count(where[1])
		}
	}
	if b, ok := t[8].(etf.Binary); ok {
		e.Message = string(b)
	}
	if kind := atom(t[9]); kind != "" && kind != "none" {
		e.Report = r.report(kind, t[10])
	}
	return e
}

// named reads a name that may be missing.
func named(t etf.Term) string {
	if a := atom(t); a != "none" && a != "undefined" && a != "nil" {
		return a
	}
	return ""
}

func (r *logReader) report(kind string, fields etf.Term) *LogReport {
	out := &LogReport{Kind: kind}
	list, _ := etf.Elements(fields)
	for _, f := range list {
		kv, ok := f.(etf.Tuple)
		if !ok || len(kv) != 2 {
			continue
		}
		if key := atom(kv[0]); kind == "report" || !r.known(out, key, kv[1]) {
			text, cut := etf.FormatCut(kv[1], r.print)
			if key == "" {
				key = etf.Format(kv[0], r.print)
			}
			out.Fields = append(out.Fields, KeyValue{Key: key, Value: text, Truncated: cut})
		}
	}
	slices.SortStableFunc(out.Fields, func(a, b KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// known takes a value that reports have in common.
func (r *logReader) known(out *LogReport, key string, v etf.Term) bool {
	switch key {
	case "name":
		if n := r.printed(v); n != "[]" && n != "none" && n != ":none" {
			out.Name = n
		}
	case "class":
		out.Class = atom(v)
	case "reason":
		out.Reason = r.printed(v)
	case "state":
		out.State = r.printed(v)
	case "last_message":
		out.LastMessage = r.printed(v)
	case "child":
		out.Child = r.printed(v)
	case "child_pid":
		out.ChildPid = r.printed(v)
		if pid, ok := v.(etf.Pid); ok {
			out.ChildPid = pidText(pid)
		}
	case "ancestors":
		list, _ := etf.Elements(v)
		for _, a := range list {
			if pid, ok := a.(etf.Pid); ok && string(pid.Node) == r.rows.node {
				out.Ancestors = append(out.Ancestors, pidText(pid))
			} else {
				out.Ancestors = append(out.Ancestors, r.printed(a))
			}
		}
	case "stack":
		list, _ := etf.Elements(v)
		for _, f := range list {
			if fr := frame(r.rows, f); fr.Function != "" {
				out.Stack = append(out.Stack, fr)
			}
		}
	default:
		return false
	}
	return true
}

// printed is a term in the syntax of the target. A name that is an atom stands
// as it is, and what Elixir's Logger had printed already stays.
func (r *logReader) printed(t etf.Term) string {
	switch t := t.(type) {
	case etf.Tuple:
		if len(t) == 2 && atom(t[0]) == "$text" {
			return text(t[1])
		}
	}
	return etf.Format(t, r.print)
}
