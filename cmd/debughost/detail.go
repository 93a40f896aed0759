package main

import (
	"bufio"
	"fmt"
	"strings"

	controlpb "github.com/debughost/debughost/control/proto"
)

// printDetail writes one process for a person: facts first, then lists.
func (a *app) printDetail(p *controlpb.ProcessDetail, req *controlpb.InspectProcessRequest) error {
	w := &detailWriter{Writer: bufio.NewWriter(a.out)}
	w.fact("node", p.GetNode())
	w.fact("pid", p.GetPid())
	w.fact("registered_name", short(p.GetRegisteredName()))
	w.fact("label", p.GetLabel())
	w.fact("status", p.GetStatus())
	w.fact("initial_call", short(p.GetInitialCall()))
	w.fact("current_function", short(p.GetCurrentFunction()))
	queue := decimal(p.GetMessageQueueLen())
	if p.GetMessageQueueLen() >= queueAlarm && a.colors() {
		queue = "\x1b[1;31m" + queue + "\x1b[0m"
	}
	w.raw("message_queue_len", queue)
	w.fact("memory", size(p.GetMemory()))
	w.fact("reductions", decimal(p.GetReductions()))
	w.fact("priority", p.GetPriority())
	w.fact("trap_exit", fmt.Sprint(p.GetTrapExit()))
	w.fact("error_handler", short(p.GetErrorHandler()))
	w.fact("parent", refText(p.GetParent()))
	w.fact("group_leader", refText(p.GetGroupLeader()))
	w.fact("heap_size", decimal(p.GetHeapSize())+" words")
	w.fact("total_heap_size", decimal(p.GetTotalHeapSize())+" words")
	w.fact("stack_size", decimal(p.GetStackSize())+" words")
	w.fact("garbage_collection", gcText(p))
	w.fact("binaries", binariesText(p))
	if n := p.GetSuspendingCount(); n > 0 {
		w.fact("suspending", fmt.Sprintf("%d processes", n))
	}

	w.refs("ancestors", p.GetAncestors())
	w.refs("callers", p.GetCallers())
	w.refs("links", p.GetLinks())
	w.refs("monitors", p.GetMonitors())
	w.refs("monitored_by", p.GetMonitoredBy())
	w.list("largest binaries", len(p.GetLargestBinaries()), "", func(i int) string {
		h := p.GetLargestBinaries()[i]
		return fmt.Sprintf("%s, refc %d, %s here", size(h.GetSize()), h.GetRefc(), times(h.GetTimes()))
	})
	w.list("current_stacktrace", len(p.GetCurrentStacktrace()), "", func(i int) string {
		return frameText(p.GetCurrentStacktrace()[i])
	})
	w.list("dictionary", len(p.GetDictionary()), "", func(i int) string {
		e := p.GetDictionary()[i]
		return e.GetKey() + ": " + valueText(e)
	})
	w.list("messages", len(p.GetMessages()), fmt.Sprintf(" of %d, oldest first", p.GetMessageQueueLen()), func(i int) string {
		return valueText(p.GetMessages()[i])
	})
	w.list("missing", len(p.GetMissing()), "", func(i int) string { return p.GetMissing()[i] })
	if err := w.Flush(); err != nil {
		return err
	}
	if p.GetMessageQueueLen() > 0 && req.GetMessages() == 0 {
		a.note("%d messages wait; --messages 3 shows the oldest three", p.GetMessageQueueLen())
	}
	return nil
}

type detailWriter struct{ *bufio.Writer }

// fact writes a line, or nothing where nothing is known.
func (w *detailWriter) fact(name, value string) {
	if value != "" {
		w.raw(name, sane(value))
	}
}

func (w *detailWriter) raw(name, value string) { fmt.Fprintf(w, "%-18s  %s\n", name, value) }

// list writes a heading and indented items, or nothing without items. An item
// may have several lines.
func (w *detailWriter) list(name string, n int, more string, item func(int) string) {
	if n == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s (%d%s)\n", name, n, more)
	for i := range n {
		fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(saneLines(item(i)), "\n", "\n    "))
	}
}

func (w *detailWriter) refs(name string, refs []*controlpb.ProcessRef) {
	w.list(name, len(refs), "", func(i int) string { return refText(refs[i]) })
}

// refText is <0.1.2> My.Worker at other@host (gen_server:init_it/6).
func refText(r *controlpb.ProcessRef) string {
	if r == nil {
		return ""
	}
	var parts []string
	for _, s := range []string{r.GetPid(), short(r.GetRegisteredName())} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if r.GetNode() != "" {
		parts = append(parts, "at "+r.GetNode())
	}
	if r.GetInitialCall() != "" {
		parts = append(parts, "("+short(r.GetInitialCall())+")")
	}
	return strings.Join(parts, " ")
}

func frameText(f *controlpb.Frame) string {
	if f.GetFile() == "" {
		return short(f.GetFunction())
	}
	return fmt.Sprintf("%s  %s:%d", short(f.GetFunction()), f.GetFile(), f.GetLine())
}

func valueText(e *controlpb.Entry) string {
	if e.GetTruncated() {
		return e.GetValue() + " … (cut)"
	}
	return e.GetValue()
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return decimal(n) + " times"
}

// binariesText says that the binaries are not a part of the memory above.
func binariesText(p *controlpb.ProcessDetail) string {
	if p.GetBinaryCount() == 0 {
		return ""
	}
	return fmt.Sprintf("%d, %s beside its memory", p.GetBinaryCount(), size(p.GetBinaryBytes()))
}

func gcText(p *controlpb.ProcessDetail) string {
	most := "no max_heap_size"
	if p.GetMaxHeapSize() > 0 {
		most = fmt.Sprintf("max_heap_size %d words", p.GetMaxHeapSize())
	}
	return fmt.Sprintf("minor_gcs %d, fullsweep_after %d, min_heap_size %d words, %s",
		p.GetMinorGcs(), p.GetFullsweepAfter(), p.GetMinHeapSize(), most)
}
