package target

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/debughost/debughost/erl/etf"
)

// dictionary shows the process dictionary, and reads from it what proc_lib put
// there: the real initial call and the ancestors.
func (in *inspection) dictionary(ctx context.Context) {
	entries, total, err := in.readDictionary(ctx)
	if err != nil {
		in.missing("dictionary", err)
		return
	}
	if total > len(entries) {
		in.missing("dictionary", fmt.Sprintf("%d of %d entries are shown", len(entries), total))
	}
	for _, entry := range entries {
		e, ok := entry.(etf.Tuple)
		if !ok || len(e) != 2 {
			continue
		}
		switch atom(e[0]) {
		case "$initial_call":
			if call := in.initialCall(e[1]); call != "" {
				in.out.InitialCall = call
			}
		case "$ancestors":
			in.out.Ancestors = in.refs("ancestors", e[1])
		case "$callers":
			in.out.Callers = in.refs("callers", e[1])
		}
		key, _ := in.format(e[0])
		value, cut := in.format(e[1])
		in.out.Dictionary = append(in.out.Dictionary, KeyValue{Key: key, Value: value, Truncated: cut})
	}
	sortedByKey(in.out.Dictionary)
}

// initialCall reads {M, F, Arity} or {M, F, Args}.
func (in *inspection) initialCall(t etf.Term) string {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 3 {
		return ""
	}
	arity := e[2]
	if args, ok := etf.Elements(arity); ok {
		arity = etf.Int(len(args))
	}
	return in.t.rows(in.link).mfa(etf.Tuple{e[0], e[1], arity})
}

func (in *inspection) readDictionary(ctx context.Context) (entries []etf.Term, total int, err error) {
	if in.out.Memory > in.mayCopy() {
		return nil, 0, fmt.Errorf("not read: the process has %d MB, and reading would copy part of it; --force reads it", in.out.Memory>>20)
	}
	reply, err := in.t.agentCall(ctx, in.link, "dictionary", in.pid, etf.Int(maxEntries), etf.Int(cutTerms), etf.Int(in.mayCopy()))
	if errors.Is(err, errNoAgent) {
		return in.plainContent(ctx, "dictionary", maxEntries)
	}
	if err != nil {
		return nil, 0, err
	}
	return counted(reply)
}

// mayCopy is how large a process may be, in bytes, for its content to be copied
// within the target.
func (in *inspection) mayCopy() uint64 {
	if in.q.Force {
		return 1 << 40
	}
	return agentCopy
}

// counted reads {ok, Total, List}.
func counted(reply etf.Term) ([]etf.Term, int, error) {
	e, ok := reply.(etf.Tuple)
	if !ok {
		return nil, 0, fmt.Errorf("%w: it has ended", ErrNoProcess)
	}
	if len(e) == 3 && atom(e[0]) == "refused" {
		return nil, 0, fmt.Errorf("not read: the process has %d MB, and reading would copy its %d messages; --force reads them", count(e[2])>>20, count(e[1]))
	}
	if len(e) != 3 || atom(e[0]) != "ok" {
		return nil, 0, fmt.Errorf("got %s", printed(reply))
	}
	list, ok := etf.Elements(e[2])
	if !ok {
		return nil, 0, fmt.Errorf("got %s", printed(reply))
	}
	return list, int(count(e[1])), nil
}

// plainContent reads one item whole, from a process that is small enough.
func (in *inspection) plainContent(ctx context.Context, item etf.Atom, limit int) ([]etf.Term, int, error) {
	if in.out.Memory > plainCopy {
		return nil, 0, fmt.Errorf("not read: the process has %d MB, and the helper module that would cut them is not used on this target", in.out.Memory>>20)
	}
	info, err := in.t.processInfo(ctx, in.link, in.pid, []etf.Atom{"binary"})
	if err != nil {
		return nil, 0, err
	}
	held := uint64(0) // beside its memory, and copied over the wire
	binaries, _ := etf.Elements(info["binary"])
	for _, b := range binaries {
		if e, ok := b.(etf.Tuple); ok && len(e) == 3 {
			held += count(e[1])
		}
	}
	if held > plainCopy {
		return nil, 0, fmt.Errorf("not read: the process refers to %d MB of binaries, and the helper module that would cut them is not used on this target", held>>20)
	}
	info, err = in.t.processInfo(ctx, in.link, in.pid, []etf.Atom{item})
	if err != nil {
		return nil, 0, err
	}
	list, _ := etf.Elements(info[item])
	return list[:min(limit, len(list))], len(list), nil
}

// messages shows the oldest messages of the queue, when they were asked for.
func (in *inspection) messages(ctx context.Context) {
	if in.q.Messages <= 0 || in.out.MessageQueueLen == 0 {
		return
	}
	reply, err := in.t.agentCall(ctx, in.link, "messages", in.pid, etf.Int(in.q.Messages), etf.Int(cutTerms), etf.Int(in.mayCopy()))
	var list []etf.Term
	var total int
	switch {
	case errors.Is(err, errNoAgent):
		list, total, err = in.plainContent(ctx, "messages", in.q.Messages)
	case err == nil:
		list, total, err = counted(reply)
	}
	if err != nil {
		in.missing("messages", err)
		return
	}
	in.out.MessagesTotal = uint64(total)
	for _, m := range list {
		value, cut := in.format(m)
		in.out.Messages = append(in.out.Messages, KeyValue{Value: value, Truncated: cut})
	}
}

// extra asks for what only some releases tell, or only the helper can sum up.
func (in *inspection) extra(ctx context.Context) {
	if release, _ := strconv.Atoi(in.t.releaseText()); release >= 27 {
		label, err := in.t.call(ctx, in.link, "proc_lib", "get_label", in.pid)
		switch {
		case err != nil:
			in.missing("label", err)
		case atom(label) != "undefined":
			in.out.Label, _ = in.format(label)
		}
	}
	in.binaries(ctx)
}

func (t *target) releaseText() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.release
}
