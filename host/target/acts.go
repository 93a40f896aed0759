package target

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
)

// ActKind is something that an operator does to a process.
type ActKind string

// The kinds of acts beside kill.
const (
	ActSend           ActKind = "send"
	ActCollect        ActKind = "garbage_collect"
	ActSuspend        ActKind = "suspend"
	ActResume         ActKind = "resume"
	ActFlag           ActKind = "process_flag"
	ActTerminateChild ActKind = "terminate_child"
	ActRestartChild   ActKind = "restart_child"
)

// Verb is how an error calls the act; what it is done to goes behind it.
func (k ActKind) Verb() string {
	switch k {
	case ActSend:
		return "send to"
	case ActCollect:
		return "collect garbage of"
	case ActSuspend:
		return "suspend"
	case ActResume:
		return "resume"
	case ActFlag:
		return "set a flag of"
	case ActTerminateChild:
		return "terminate a child of"
	case ActRestartChild:
		return "restart a child of"
	}
	return string(k)
}

// Act asks for one act on one process.
type Act struct {
	Kind    ActKind
	Node    string
	Process string // as in InspectQuery; the supervisor, of acts on a child
	Term    string // what to send: a literal term in Erlang's or Elixir's syntax
	Elixir  bool   // read Term in Elixir's syntax first
	// ElixirGuess reads it so where the target runs Elixir.
	ElixirGuess bool
	Flag        string // trap_exit, priority, …
	Value       string // of the flag
	Child       string // an id in either syntax, a pid or a registered name
	Force       bool   // also what may take the node down, and atoms that the node does not have
	Timeout     time.Duration
}

// Done says exactly what was done. Fields that are not of its kind are empty.
type Done struct {
	Kind            ActKind
	Node            string
	Pid             string
	RegisteredName  string
	Message         string // as sent
	MessageQueueLen uint64 // afterwards
	MemoryBefore    uint64 // bytes
	MemoryAfter     uint64
	Status          string // afterwards: suspended, waiting, running, …
	Flag            string
	Value           string
	Was             string // the flag's value before
	Child           string // its id
	ChildPid        string // that was terminated; empty where it did not run
	NewPid          string // that was started
}

// act is one that is under way.
type act struct {
	Act
	t     *target
	link  *node.Peer
	pid   etf.Pid
	tried string // verb and object
	out   Done
}

// actItems are what an act needs to know of a process.
var actItems = append([]etf.Atom{"memory", "message_queue_len", "status"}, vitalItems...)

// Act does what an operator asks for, unless that may take the node down.
func (m *Manager) Act(ctx context.Context, q Act) (Done, error) {
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return Done{}, err
	}
	pid, err := t.process(ctx, link, q.Process, !q.Force)
	if err != nil {
		return Done{}, err
	}
	info, err := t.processInfo(ctx, link, pid, actItems)
	if err != nil {
		return Done{}, err
	}
	t.shown.note(pid)
	a := &act{Act: q, t: t, link: link, pid: pid, tried: fmt.Sprintf("%s %s on %s", q.Kind.Verb(), pidText(pid), link.Name())}
	a.out = Done{Kind: q.Kind, Node: link.Name(), Pid: pidText(pid), RegisteredName: atom(info["registered_name"])}
	if err := a.run(ctx, info); err != nil {
		return Done{}, err
	}
	m.cfg.Publish(events.Event{
		Type: events.ProcessActed, Node: a.out.Node, Member: m.cfg.Member, Reason: a.out.what(),
		Fields: map[string]string{"act": string(q.Kind), "pid": a.out.Pid, "registered_name": a.out.RegisteredName},
	})
	return a.out, nil
}

func (a *act) run(ctx context.Context, info map[etf.Atom]etf.Term) error {
	switch a.Kind {
	case ActSend:
		return a.guarded(ctx, info, a.send)
	case ActCollect:
		return a.collect(ctx, info)
	case ActSuspend:
		return a.guarded(ctx, info, a.suspend)
	case ActResume:
		return a.resume(ctx, info)
	case ActFlag:
		return a.guarded(ctx, info, a.flag)
	case ActTerminateChild, ActRestartChild:
		return a.child(ctx)
	}
	return fmt.Errorf("%s: %w: there is no such act", a.tried, ErrBadQuery)
}

// guarded does something unless the node may not do without the process.
func (a *act) guarded(ctx context.Context, info map[etf.Atom]etf.Term, do func(context.Context) error) error {
	if !a.Force {
		why, err := a.t.vital(ctx, a.link, a.pid, info)
		if err := refused(a.tried, why, err); err != nil {
			return err
		}
	}
	return do(ctx)
}

// call is a plain call, whose error says what was tried.
func (a *act) call(ctx context.Context, module, function string, args ...etf.Term) (etf.Term, error) {
	reply, err := a.t.call(ctx, a.link, module, function, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.tried, err)
	}
	return reply, nil
}

// after notes what the process looks like now, if it is still there.
func (a *act) after(ctx context.Context) {
	if info, err := a.t.processInfo(ctx, a.link, a.pid, actItems); err == nil {
		a.out.MessageQueueLen, a.out.MemoryAfter, a.out.Status = count(info["message_queue_len"]), count(info["memory"]), atom(info["status"])
	}
}

// collect has the garbage of the process collected, which it is stopped for.
func (a *act) collect(ctx context.Context, info map[etf.Atom]etf.Term) error {
	a.out.MemoryBefore = count(info["memory"])
	a.t.cost.note(func(c *Cost) { c.Collections++ })
	reply, err := a.call(ctx, "erlang", "garbage_collect", a.pid)
	if err != nil {
		return err
	}
	if atom(reply) != "true" {
		return fmt.Errorf("%s: %w: it has ended", a.tried, ErrNoProcess)
	}
	a.after(ctx)
	return nil
}

// what tells a person what was done.
func (d Done) what() string {
	switch d.Kind {
	case ActSend:
		return "sent " + d.Message
	case ActCollect:
		return fmt.Sprintf("garbage collected: %d bytes before, %d after", d.MemoryBefore, d.MemoryAfter)
	case ActSuspend:
		return "suspended"
	case ActResume:
		return "resumed"
	case ActFlag:
		return fmt.Sprintf("%s set to %s, was %s", d.Flag, d.Value, d.Was)
	case ActTerminateChild:
		return fmt.Sprintf("child %s terminated %s", d.Child, d.ChildPid)
	case ActRestartChild:
		return fmt.Sprintf("child %s restarted as %s", d.Child, d.NewPid)
	}
	return string(d.Kind)
}

// send sends a literal term from a process of the same node.
func (a *act) send(ctx context.Context) error {
	term, err := a.term(ctx)
	if err != nil {
		return err
	}
	encoded, err := etf.Encode(term)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", a.tried, ErrBadQuery, err)
	}
	if !a.Force {
		// A message with an atom that the node does not have can match nothing
		// there, and the atom would never go away.
		if _, err := a.t.call(ctx, a.link, "erlang", "binary_to_term", etf.Binary(encoded), etf.List{etf.Atom("safe")}); isRemote(err) {
			return hint(fmt.Errorf("%s: %w: the node has no atom %s", a.tried, ErrBadQuery, a.unknownAtom(ctx, term)), "is it misspelt? --force makes it and sends the message")
		} else if err != nil {
			return fmt.Errorf("%s: %w", a.tried, err)
		}
	}
	if _, err := a.call(ctx, "erlang", "send", a.pid, term, etf.List{etf.Atom("noconnect")}); err != nil {
		return err
	}
	a.out.Message = etf.Format(term, etf.PrintOptions{Syntax: a.syntax(ctx), MaxBytes: 4096, Node: etf.Atom(a.link.Name())})
	a.after(ctx)
	return nil
}

func (a *act) syntax(ctx context.Context) etf.Syntax {
	return printOptions(ctx, a.t, a.link, InspectQuery{Elixir: a.Elixir, ElixirGuess: a.ElixirGuess}).Syntax
}

// term reads the message, in the likelier syntax first.
func (a *act) term(ctx context.Context) (etf.Term, error) {
	first, second := etf.Erlang, etf.Elixir
	if a.syntax(ctx) == etf.Elixir {
		first, second = second, first
	}
	term, err := etf.Parse(a.Term, first)
	if err != nil {
		var err2 error
		if term, err2 = etf.Parse(a.Term, second); err2 != nil {
			return nil, hint(fmt.Errorf("%s: read term %.80q: %w: %w", a.tried, a.Term, ErrBadQuery, err), "a message is a literal term: {reload, 3} or {:reload, 3}; in a shell it goes into quotes")
		}
	}
	return a.located(term)
}

// located makes pids without a node those of the target. One that no process
// there can have is an error.
func (a *act) located(t etf.Term) (etf.Term, error) {
	var err error
	each := func(t etf.Term) etf.Term {
		out, e := a.located(t)
		err = cmp.Or(err, e)
		return out
	}
	switch t := t.(type) {
	case etf.Pid:
		if t.Node != "" && t.Node != etf.Atom(a.link.Name()) {
			return t, nil
		}
		if !a.t.possible(t.ID, t.Serial) {
			return nil, fmt.Errorf("%s: %w: no process of this node can be %s", a.tried, ErrBadQuery, pidText(t))
		}
		return a.link.Pid(t.ID, t.Serial), nil
	case etf.List:
		for i := range t {
			t[i] = each(t[i])
		}
	case etf.Tuple:
		for i := range t {
			t[i] = each(t[i])
		}
	case etf.Map:
		for i := range t {
			t[i] = etf.Pair{Key: each(t[i].Key), Value: each(t[i].Value)}
		}
	}
	return t, err
}

// unknownAtom finds the first atom of a term that the node does not have.
func (a *act) unknownAtom(ctx context.Context, term etf.Term) string {
	for _, name := range atomsOf(term, nil) {
		if known, err := a.t.existingAtom(ctx, a.link, string(name)); err == nil && known == nil {
			return strconv.Quote(string(name))
		}
	}
	return "of those in it"
}

func atomsOf(t etf.Term, out []etf.Atom) []etf.Atom {
	switch t := t.(type) {
	case etf.Atom:
		return append(out, t)
	case etf.List:
		for _, e := range t {
			out = atomsOf(e, out)
		}
	case etf.Tuple:
		for _, e := range t {
			out = atomsOf(e, out)
		}
	case etf.ImproperList:
		for _, e := range t.Elems {
			out = atomsOf(e, out)
		}
		return atomsOf(t.Tail, out)
	case etf.Map:
		for _, p := range t {
			out = atomsOf(p.Value, atomsOf(p.Key, out))
		}
	}
	return out
}
