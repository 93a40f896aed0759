package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

const (
	// maxRefs bounds the links, monitors and monitoring processes that are
	// shown with their names.
	maxRefs = 500
	// maxEntries bounds the dictionary entries shown.
	maxEntries = 200
	// plainCopy is the largest process, in bytes, whose dictionary or messages
	// are read whole, where the helper module may not cut them on the target.
	plainCopy = 8 << 20
	// agentCopy is the same with the helper module: process_info still copies
	// them within the target.
	agentCopy = 64 << 20
	// cutTerms is how many subterms of one entry or message cross the wire.
	cutTerms = 2000
)

// detailItems are the process_info items that are safe on any process: none
// copies what the process holds.
var detailItems = []etf.Atom{
	"registered_name", "memory", "reductions", "message_queue_len", "current_function", "initial_call", "status",
	"group_leader", "parent", "links", "monitors", "monitored_by", "trap_exit", "error_handler", "priority",
	"heap_size", "total_heap_size", "stack_size", "garbage_collection", "suspending", "current_stacktrace",
}

// Inspect asks for everything that process_info tells of one process without
// harm. What the node did not tell is listed with its cause, not an error.
func (m *Manager) Inspect(ctx context.Context, q InspectQuery) (ProcessDetail, error) {
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return ProcessDetail{}, err
	}
	pid, err := t.process(ctx, link, q.Process, false)
	if err != nil {
		return ProcessDetail{}, err
	}
	info, err := t.processInfo(ctx, link, pid, detailItems)
	if err != nil {
		return ProcessDetail{}, err
	}
	in := &inspection{t: t, link: link, pid: pid, self: link.Name(), q: q, print: printOptions(ctx, t, link, q)}
	in.base(info)
	in.dictionary(ctx)
	in.messages(ctx)
	in.extra(ctx)
	in.names(ctx)
	return in.out, nil
}

// processInfo returns the items of one process by name.
func (t *target) processInfo(ctx context.Context, link *node.Peer, pid etf.Pid, items []etf.Atom) (map[etf.Atom]etf.Term, error) {
	list := make(etf.List, len(items))
	for i, item := range items {
		list[i] = item
	}
	reply, err := t.call(ctx, link, "erlang", "process_info", pid, list)
	if err != nil {
		return nil, err
	}
	pairs, ok := etf.Elements(reply)
	if !ok {
		return nil, hint(fmt.Errorf("find %s on %s: %w: it has ended", pidText(pid), link.Name(), ErrNoProcess), "`debughost ps %s` lists those that are alive", link.Name())
	}
	info := make(map[etf.Atom]etf.Term, len(pairs))
	for _, p := range pairs {
		if e, ok := p.(etf.Tuple); ok && len(e) == 2 {
			if key, ok := e[0].(etf.Atom); ok {
				info[key] = e[1]
			}
		}
	}
	return info, nil
}

// printOptions chooses the syntax: that of the query, or the target's own.
func printOptions(ctx context.Context, t *target, link *node.Peer, q InspectQuery) etf.PrintOptions {
	o := etf.PrintOptions{Syntax: etf.Erlang, MaxDepth: 12, MaxBytes: q.MaxBytes, Node: etf.Atom(link.Name())}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 4096
	}
	if q.Elixir {
		o.Syntax = etf.Elixir
	} else if q.ElixirGuess {
		if loaded, err := t.call(ctx, link, "erlang", "module_loaded", etf.Atom("Elixir.Kernel")); err == nil && loaded == etf.Term(etf.Atom("true")) {
			o.Syntax = etf.Elixir
		}
	}
	return o
}

// inspection gathers the detail of one process.
type inspection struct {
	t     *target
	link  *node.Peer
	pid   etf.Pid
	self  string // the target's name
	q     InspectQuery
	print etf.PrintOptions
	out   ProcessDetail
}

func (in *inspection) missing(what string, cause any) {
	in.out.Missing = append(in.out.Missing, fmt.Sprintf("%s: %v", what, cause))
}

// base fills in what one call of process_info told.
func (in *inspection) base(info map[etf.Atom]etf.Term) {
	rows := in.t.rows(in.link)
	rows.note(in.pid)
	out := &in.out
	out.Node, out.Pid = in.link.Name(), pidText(in.pid)
	out.RegisteredName = atom(info["registered_name"])
	out.Memory, out.Reductions, out.MessageQueueLen = count(info["memory"]), count(info["reductions"]), count(info["message_queue_len"])
	out.CurrentFunction, out.InitialCall = rows.mfa(info["current_function"]), rows.mfa(info["initial_call"])
	out.Status, out.Priority, out.ErrorHandler = atom(info["status"]), atom(info["priority"]), atom(info["error_handler"])
	out.TrapExit = atom(info["trap_exit"]) == "true"
	out.HeapSize, out.TotalHeapSize, out.StackSize = count(info["heap_size"]), count(info["total_heap_size"]), count(info["stack_size"])
	out.MessagesTotal = out.MessageQueueLen
	if list, ok := etf.Elements(info["suspending"]); ok {
		out.SuspendingCount = uint64(len(list))
	}
	out.GroupLeader, out.Parent = in.ref(info["group_leader"]), in.ref(info["parent"])
	out.Links = in.refs("links", info["links"])
	out.Monitors = in.refs("monitors", info["monitors"])
	out.MonitoredBy = in.refs("monitored_by", info["monitored_by"])
	in.collector(info["garbage_collection"])
	frames, _ := etf.Elements(info["current_stacktrace"])
	for _, f := range frames {
		out.CurrentStacktrace = append(out.CurrentStacktrace, frame(rows, f))
	}
}

func (in *inspection) collector(t etf.Term) {
	pairs, _ := etf.Elements(t)
	for _, p := range pairs {
		e, ok := p.(etf.Tuple)
		if !ok || len(e) != 2 {
			continue
		}
		switch atom(e[0]) {
		case "min_heap_size":
			in.out.MinHeapSize = count(e[1])
		case "fullsweep_after":
			in.out.FullsweepAfter = count(e[1])
		case "minor_gcs":
			in.out.MinorGCs = count(e[1])
		case "max_heap_size":
			if m, ok := e[1].(etf.Map); ok {
				for _, kv := range m {
					if atom(kv.Key) == "size" {
						in.out.MaxHeapSize = count(kv.Value)
					}
				}
			}
		}
	}
}

// frame reads {M, F, Arity | Args, [{file, F}, {line, L}]}.
func frame(rows *rowReader, t etf.Term) Frame {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 4 {
		return Frame{}
	}
	arity := e[2]
	if args, ok := etf.Elements(arity); ok {
		arity = etf.Int(len(args))
	}
	f := Frame{Function: rows.mfa(etf.Tuple{e[0], e[1], arity})}
	where, _ := etf.Elements(e[3])
	for _, w := range where {
		if kv, ok := w.(etf.Tuple); ok && len(kv) == 2 {
			switch atom(kv[0]) {
			case "file":
				f.File = text(kv[1])
			case "line":
				f.Line = count(kv[1])
			}
		}
	}
	return f
}

// refs reads pids, ports, {process, Pid}, {process, {Name, Node}}, {port, Port}.
func (in *inspection) refs(what string, t etf.Term) []ProcessRef {
	list, _ := etf.Elements(t)
	if len(list) > maxRefs {
		in.missing(what, fmt.Sprintf("%d of %d are shown", maxRefs, len(list)))
		list = list[:maxRefs]
	}
	out := make([]ProcessRef, 0, len(list))
	for _, e := range list {
		if r := in.ref(e); r.Kind != "" {
			out = append(out, r)
		}
	}
	return out
}

func (in *inspection) ref(t etf.Term) ProcessRef {
	switch e := t.(type) {
	case etf.Pid:
		r := ProcessRef{Kind: "process", Pid: pidText(e)}
		if string(e.Node) == in.self {
			in.t.shown.note(e)
		} else {
			r.Node = string(e.Node)
		}
		return r
	case etf.Port:
		r := ProcessRef{Kind: "port", Pid: "#Port<0." + strconv.FormatUint(e.ID, 10) + ">"}
		if string(e.Node) != in.self {
			r.Node = string(e.Node)
		}
		return r
	case etf.Atom:
		if e == "undefined" {
			return ProcessRef{}
		}
		return ProcessRef{Kind: "name", RegisteredName: string(e)}
	case etf.Tuple:
		if len(e) != 2 {
			return ProcessRef{}
		}
		if kind := atom(e[0]); kind == "process" || kind == "port" {
			return in.ref(e[1])
		}
		r := ProcessRef{Kind: "name", RegisteredName: atom(e[0])}
		if node := atom(e[1]); node != in.self {
			r.Node = node
		}
		return r
	}
	return ProcessRef{}
}

func atom(t etf.Term) string {
	a, _ := t.(etf.Atom)
	return string(a)
}

// names looks up the registered name and the initial call of the local
// processes that this one is tied to, all in one call.
func (in *inspection) names(ctx context.Context) {
	out := &in.out
	var refs []*ProcessRef
	add := func(r *ProcessRef) {
		if r.Kind == "process" && r.Node == "" {
			refs = append(refs, r)
		}
	}
	self := ProcessRef{Kind: "process", Pid: out.Pid}
	if out.InitialCall == "proc_lib:init_p/5" { // its dictionary was not read
		refs = append(refs, &self)
		defer func() { out.InitialCall = cmp.Or(self.InitialCall, out.InitialCall) }()
	}
	add(&out.GroupLeader)
	add(&out.Parent)
	for _, list := range [][]ProcessRef{out.Ancestors, out.Callers, out.Links, out.Monitors, out.MonitoredBy} {
		for i := range list {
			add(&list[i])
		}
	}
	if len(refs) == 0 {
		return
	}
	pids := make([]etf.Term, len(refs))
	for i, r := range refs {
		id, serial, err := etf.ParsePid(r.Pid)
		if err != nil {
			return
		}
		pids[i] = etf.Pid{Node: in.pid.Node, ID: id, Serial: serial, Creation: in.pid.Creation}
	}
	named, err := in.lookUp(ctx, pids)
	if err != nil {
		in.missing("names of links and monitors", err)
		return
	}
	rows := in.t.rows(in.link)
	for i, n := range named {
		if e, ok := n.(etf.Tuple); ok && len(e) == 2 { // else it has ended since
			refs[i].RegisteredName = atom(e[0])
			refs[i].InitialCall = rows.mfa(e[1])
		}
	}
}

// lookUp returns {Name | [], InitialCall} for each pid, or another term for one
// that has ended. Behind proc_lib the initial call is the real one only with
// the helper module.
func (in *inspection) lookUp(ctx context.Context, pids []etf.Term) ([]etf.Term, error) {
	reply, err := in.t.agentCall(ctx, in.link, "names", etf.List(pids))
	if err == nil {
		named, ok := etf.Elements(reply)
		if !ok || len(named) != len(pids) {
			return nil, fmt.Errorf("got %s", printed(reply))
		}
		return named, nil
	}
	if !errors.Is(err, errNoAgent) {
		return nil, err
	}
	infos, err := in.t.processInfos(ctx, in.link, pids, etf.List{etf.Atom("registered_name"), etf.Atom("initial_call")})
	for i, info := range infos {
		if values := tuples(info); len(values) == 2 {
			infos[i] = etf.Tuple{values[0][1], values[1][1]}
		}
	}
	return infos, err
}

// format prints one term, and tells whether it is cut.
func (in *inspection) format(t etf.Term) (string, bool) {
	return etf.FormatCut(t, in.print)
}

// sortedByKey puts a dictionary in an order that a person can read.
func sortedByKey(kv []KeyValue) {
	slices.SortFunc(kv, func(a, b KeyValue) int { return compareNodes(a.Key, b.Key) })
}
