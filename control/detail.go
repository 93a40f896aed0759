package control

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// maxDetail bounds the printed terms, references and names of one answer, in
// bytes: a process may have millions of links or dictionary entries.
const maxDetail = 8 << 20

func detailPB(d target.ProcessDetail) *controlpb.ProcessDetail {
	b := &budget{left: maxDetail}
	p := &controlpb.ProcessDetail{
		Node:              clean(d.Node),
		Pid:               clean(d.Pid),
		RegisteredName:    clean(d.RegisteredName),
		Label:             clean(d.Label),
		Memory:            d.Memory,
		Reductions:        d.Reductions,
		MessageQueueLen:   max(d.MessageQueueLen, d.MessagesTotal),
		CurrentFunction:   clean(d.CurrentFunction),
		InitialCall:       clean(d.InitialCall),
		Status:            clean(d.Status),
		GroupLeader:       refPB(d.GroupLeader),
		Parent:            refPB(d.Parent),
		TrapExit:          d.TrapExit,
		ErrorHandler:      clean(d.ErrorHandler),
		Priority:          clean(d.Priority),
		HeapSize:          d.HeapSize,
		TotalHeapSize:     d.TotalHeapSize,
		StackSize:         d.StackSize,
		MinHeapSize:       d.MinHeapSize,
		FullsweepAfter:    d.FullsweepAfter,
		MinorGcs:          d.MinorGCs,
		MaxHeapSize:       d.MaxHeapSize,
		SuspendingCount:   d.SuspendingCount,
		BinaryCount:       d.Binaries,
		BinaryBytes:       d.BinaryBytes,
		CurrentStacktrace: framesPB(d.CurrentStacktrace),
		Messages:          entriesPB(b, "messages", d.Messages),
		Dictionary:        entriesPB(b, "dictionary", d.Dictionary),
		Ancestors:         refsPB(b, "ancestors", d.Ancestors),
		Callers:           refsPB(b, "callers", d.Callers),
		Links:             refsPB(b, "links", d.Links),
		Monitors:          refsPB(b, "monitors", d.Monitors),
		MonitoredBy:       refsPB(b, "monitored_by", d.MonitoredBy),
	}
	for _, h := range d.LargestBinaries {
		p.LargestBinaries = append(p.LargestBinaries, &controlpb.HeldBinary{Size: h.Size, Refc: h.RefC, Times: h.Times})
	}
	p.Missing = append(cleanAll(d.Missing), b.missing...)
	return p
}

// budget cuts lists where an answer would become too large, and says so.
type budget struct {
	left    int
	missing []string
}

// take returns how many of n things fit.
func (b *budget) take(what string, n int, size func(int) int) int {
	for i := range n {
		s := size(i) + 16
		if s > b.left {
			b.missing = append(b.missing, fmt.Sprintf("%s: %d of %d are left out, the answer is too large", what, n-i, n))
			return i
		}
		b.left -= s
	}
	return n
}

func refPB(r target.ProcessRef) *controlpb.ProcessRef {
	if r == (target.ProcessRef{}) {
		return nil
	}
	return &controlpb.ProcessRef{
		Kind:           clean(r.Kind),
		Pid:            clean(r.Pid),
		Node:           clean(r.Node),
		RegisteredName: clean(r.RegisteredName),
		InitialCall:    clean(r.InitialCall),
	}
}

func refsPB(b *budget, what string, refs []target.ProcessRef) []*controlpb.ProcessRef {
	n := b.take(what, len(refs), func(i int) int {
		r := refs[i]
		return len(r.Kind) + len(r.Pid) + len(r.Node) + len(r.RegisteredName) + len(r.InitialCall)
	})
	var out []*controlpb.ProcessRef
	for _, r := range refs[:n] {
		out = append(out, refPB(r))
	}
	return out
}

func entriesPB(b *budget, what string, entries []target.KeyValue) []*controlpb.Entry {
	n := b.take(what, len(entries), func(i int) int { return len(entries[i].Key) + len(entries[i].Value) })
	var out []*controlpb.Entry
	for _, e := range entries[:n] {
		out = append(out, &controlpb.Entry{Key: clean(e.Key), Value: clean(e.Value), Truncated: e.Truncated})
	}
	return out
}

func framesPB(frames []target.Frame) []*controlpb.Frame {
	var out []*controlpb.Frame
	for _, f := range frames {
		out = append(out, &controlpb.Frame{Function: clean(f.Function), File: clean(f.File), Line: f.Line})
	}
	return out
}

func cleanAll(in []string) []string {
	var out []string
	for _, s := range in {
		out = append(out, clean(s))
	}
	return out
}

// timePB maps the zero time to no time.
func timePB(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
