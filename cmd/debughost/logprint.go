package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	controlpb "github.com/debughost/debughost/control/proto"
)

// maxLogFrames and maxLogText bound what a crash report takes of a terminal;
// JSON has all of it.
const (
	maxLogFrames = 8
	maxLogText   = 600 // bytes of one term
)

// printLog writes an event for a person: a line, and below it the rest of a
// message of several lines, or the facts of a crash.
func (a *app) printLog(w io.Writer, e *controlpb.LogEvent) error {
	when := e.GetTime().AsTime().In(a.now().Location()).Format("2006-01-02 15:04:05.000")
	who := strings.Join(strings.Fields(e.GetPid()+" "+short(e.GetRegisteredName())), " ")
	first, rest := e.GetMessage(), ""
	var facts []string
	switch e.GetReport().GetKind() {
	case "crash", "terminate", "supervisor":
		first, facts = crashText(e.GetReport())
	default:
		first, rest, _ = strings.Cut(first, "\n")
	}
	var b strings.Builder
	level := fmt.Sprintf("%-9s", e.GetLevel())
	if color := levelColor(e.GetLevel()); color != "" && a.colors() {
		level = color + level + "\x1b[0m"
	}
	fmt.Fprintf(&b, "%s  %s  %s", when, level, sane(e.GetNode()))
	if who != "" {
		fmt.Fprintf(&b, "  %s", sane(who))
	}
	if first != "" {
		fmt.Fprintf(&b, "  %s", sane(first))
	}
	b.WriteByte('\n')
	for _, l := range facts {
		fmt.Fprintf(&b, "    %s\n", sane(l))
	}
	if rest = strings.TrimRight(rest, " \n"); rest != "" {
		for l := range strings.SplitSeq(dedent(rest), "\n") {
			b.WriteString(strings.TrimRight("    "+sane(l), " ") + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func levelColor(level string) string {
	switch level {
	case "emergency", "alert", "critical", "error":
		return "\x1b[1;31m"
	case "warning":
		return "\x1b[33m"
	}
	return ""
}

// crashText is a crash report as a headline and facts.
func crashText(r *controlpb.LogReport) (first string, facts []string) {
	switch r.GetKind() {
	case "supervisor":
		first = "supervisor " + short(r.GetName()) + ": child " + short(r.GetChild())
		if r.GetChildPid() != "" {
			first += " (" + r.GetChildPid() + ")"
		}
		first += ": " + oneLine(r.GetReason())
	case "terminate":
		first = "terminated: " + oneLine(r.GetReason())
	default:
		first = "crashed: " + oneLine(r.GetReason())
	}
	fact := func(name, value string) {
		if value != "" {
			facts = append(facts, fmt.Sprintf("%-13s %s", name, oneLine(value)))
		}
	}
	for i, f := range r.GetStack() {
		name := ""
		if i == 0 {
			name = "stack"
		}
		if i == maxLogFrames {
			fact(name, fmt.Sprintf("… %d more", len(r.GetStack())-i))
			break
		}
		facts = append(facts, fmt.Sprintf("%-13s %s", name, frameText(f)))
	}
	fact("last_message", r.GetLastMessage())
	fact("state", r.GetState())
	fact("ancestors", strings.Join(r.GetAncestors(), ", "))
	for _, f := range r.GetFields() {
		switch f.GetKey() { // the rest is numbers, and longer than they are worth here
		case "context", "initial_call", "function", "module", "child_call":
			fact(f.GetKey(), f.GetValue())
		}
	}
	return first, facts
}

// oneLine is a printed term on one line, cut where it is long.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) <= maxLogText {
		return s
	}
	n := maxLogText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + " …"
}

// dedent takes away the indentation that all lines have.
func dedent(s string) string {
	lines := strings.Split(s, "\n")
	least := len(s)
	for _, l := range lines {
		if text := strings.TrimLeft(l, " "); text != "" {
			least = min(least, len(l)-len(text))
		}
	}
	for i, l := range lines {
		lines[i] = strings.TrimRight(l[min(least, len(l)):], " ")
	}
	return strings.Join(lines, "\n")
}
