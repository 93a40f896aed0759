package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/target"
)

// depths answers questions about one process with what a test gives.
type depths struct {
	control.Questions
	m     *member
	state target.ProcessState
	graph target.Graph
	done  target.Done
}

func (d *depths) State(_ context.Context, q target.StateQuery) (target.ProcessState, error) {
	d.m.note(q)
	return d.state, d.m.acted
}

func (d *depths) Graph(_ context.Context, q target.GraphQuery) (target.Graph, error) {
	d.m.note(q)
	return d.graph, d.m.acted
}

func (d *depths) Act(_ context.Context, a target.Act) (target.Done, error) {
	d.m.note(a)
	done := d.done
	done.Kind, done.Node, done.Pid, done.RegisteredName = a.Kind, "shop@db1", "<0.1.0>", "Elixir.A"
	return done, d.m.acted
}

func serveDepths(t *testing.T, d *depths) *member {
	d.m = &member{}
	d.m.options = func(o *control.Options) { o.Questions = d }
	return serve(t, d.m)
}

func shopState() target.ProcessState {
	items := target.StateNode{Kind: "list", Key: "items", Path: ".items", Size: 9_600_000, Text: "[%{id: 1}, ...]", Truncated: true, More: 99_998, Children: []target.StateNode{
		{Kind: "map", Path: ".items[1]", Size: 96, Text: "%{id: 1}", Children: []target.StateNode{{Kind: "integer", Key: ":id", Path: ".items[1].id", Size: 8, Text: "1"}}},
		{Kind: "binary", Path: ".items[2]", Size: 4096, Text: "\"evil\x1b[2J", Truncated: true},
	}}
	return target.ProcessState{
		Node: "shop@db1", Pid: "<0.123.0>", RegisteredName: "Elixir.Shop.Orders", Behaviour: "GenServer", Module: "Elixir.Shop.Orders",
		InitialCall: "Elixir.Shop.Orders:init/1", Memory: 12_000_000, MessageQueueLen: 3, Text: "%Shop.State{items: [...]}", Truncated: true,
		Tree: target.StateNode{Kind: "struct", Size: 9_700_000, Text: "%Shop.State{items: [...]}", Truncated: true, Children: []target.StateNode{
			items,
			{Kind: "atom", Key: ":name", Path: ".name", Size: 8, Text: ":orders"},
			{Kind: "tuple", Key: "{\"a long key\", ...", Size: 40, Text: "{1, 2}"},
		}},
	}
}

func TestState(t *testing.T) {
	d := &depths{state: shopState()}
	m := serveDepths(t, d)
	golden(t, "state-table", m.do("state", "shop@db1", "Shop.Orders"))
	golden(t, "state-json", m.do("state", "shop@db1", "Shop.Orders", ".x[1]", "--depth", "1", "--width", "5", "--offset", "2", "--force", "-o", "json"))
	assert.Equal(t, target.StateQuery{Node: "shop@db1", Process: "Shop.Orders", Path: ".x[1]", Depth: 1, Width: 5, Offset: 2, MaxBytes: 4096, Force: true, ElixirGuess: true}, m.last())
	narrow := commandWith(func(a *app) { a.width = func() int { return 60 } }, "--addr", m.addr, "state", "shop", "A")
	for line := range strings.SplitSeq(narrow.out, "\n") {
		assert.LessOrEqual(t, columns(line), 60, line)
	}

	d.state = target.ProcessState{Behaviour: "gen_statem", Tree: target.StateNode{Kind: "tuple", Truncated: true, Text: "{a,...}", Children: []target.StateNode{
		{Kind: "atom", Key: "state", Path: "{1}", Text: "locked", Size: 8}, {Kind: "map", Key: "data", Path: "{2}", Text: "#{}", Size: 32},
	}}}
	assert.Contains(t, m.do("state", "a", "b").out, "  #state      8 B  locked\n  #data      32 B  #{}\n")
	d.state.Behaviour = "Phoenix.LiveView"
	assert.Contains(t, m.do("state", "a", "b").err, ".socket.assigns")
	m.acted = &target.HintError{Err: fmt.Errorf("show the state of <0.1.0> on a: %w: it does not handle system messages", target.ErrNoState), Hint: "do x"}
	assert.Equal(t, result{exitFailed, "", "debughost: show the state of <0.1.0> on a: no state to show: it does not handle system messages\nhint: do x\n"}, m.do("state", "a", "b"))
}

func TestInspectGraph(t *testing.T) {
	proc := func(pid, name string) target.ProcessRef {
		return target.ProcessRef{Kind: "process", Pid: pid, RegisteredName: name, InitialCall: "Elixir.Shop:init/1"}
	}
	d := &depths{graph: target.Graph{
		Node: "shop@db1",
		Nodes: []target.GraphNode{
			{ID: "<0.1.0>", Ref: proc("<0.1.0>", "Elixir.Shop.Orders"), Label: "orders", Memory: 1200, MessageQueueLen: 3},
			{ID: "<0.2.0>", Ref: proc("<0.2.0>", ""), Step: 1, Memory: 10},
			{ID: "#Port<0.4>", Ref: target.ProcessRef{Kind: "port", Pid: "#Port<0.4>"}, Step: -1},
			{ID: "far@x@y", Ref: target.ProcessRef{Kind: "name", RegisteredName: "far", Node: "x@y"}, Step: -1},
		},
		Edges: []target.GraphEdge{
			{From: "<0.1.0>", To: "<0.2.0>", Kind: "link"}, {From: "#Port<0.4>", To: "<0.1.0>", Kind: "link"},
			{From: "<0.1.0>", To: "far@x@y", Kind: "monitor"}, {From: "<0.2.0>", To: "<0.1.0>", Kind: "monitor"},
		},
		LeftOut: 5,
	}}
	m := serveDepths(t, d)
	golden(t, "graph-table", m.do("inspect", "shop@db1", "Shop.Orders", "--graph"))
	golden(t, "graph-json", m.do("inspect", "shop@db1", "Shop.Orders", "--graph", "--depth", "2", "-o", "json"))
	assert.Equal(t, target.GraphQuery{Node: "shop@db1", Process: "Shop.Orders", Depth: 2}, m.last())
	m.acted = target.ErrNoProcess
	assert.Equal(t, exitFailed, m.do("inspect", "a", "b", "--graph").code)
}

func TestActs(t *testing.T) {
	d := &depths{}
	m := serveDepths(t, d)
	after := target.Done{Status: "waiting", MessageQueueLen: 2}
	for i, c := range []struct {
		args string
		done target.Done
		out  string
		want target.Act
	}{
		{"send shop A {:hi,1} --syntax elixir --force", target.Done{Message: "{:hi, 1}", Status: "waiting", MessageQueueLen: 2}, "sent {:hi, 1} to <0.1.0> (A) on shop@db1; 2 messages wait there\n", target.Act{Kind: target.ActSend, Term: "{:hi,1}", Elixir: true, Force: true}},
		{"gc shop A", target.Done{MemoryBefore: 2_000_000, MemoryAfter: 1000}, "collected garbage of <0.1.0> (A) on shop@db1: memory 1.0 kB, was 2.0 MB\n", target.Act{Kind: target.ActCollect}},
		{"suspend shop A --force", target.Done{Status: "suspended"}, "suspended <0.1.0> (A) on shop@db1; it is suspended, and 0 messages wait\n", target.Act{Kind: target.ActSuspend, Force: true}},
		{"resume shop A", after, "resumed <0.1.0> (A) on shop@db1; it is waiting, and 2 messages wait\n", target.Act{Kind: target.ActResume}},
		{"flag shop A priority high", target.Done{Flag: "priority", Value: "high", Was: "normal"}, "set priority of <0.1.0> (A) on shop@db1 to high; it was normal\n", target.Act{Kind: target.ActFlag, Flag: "priority", Value: "high"}},
		{"supervisor terminate shop A kid", target.Done{Child: "kid", ChildPid: "<0.2.0>"}, "terminated child kid of <0.1.0> (A) on shop@db1: <0.2.0>\n", target.Act{Kind: target.ActTerminateChild, Child: "kid"}},
		{"supervisor terminate shop A kid", target.Done{Child: "kid"}, "terminated child kid of <0.1.0> (A) on shop@db1: it was being restarted\n", target.Act{Kind: target.ActTerminateChild, Child: "kid"}},
		{"supervisor restart shop A kid --force", target.Done{Child: "kid", ChildPid: "<0.2.0>", NewPid: "<0.3.0>"}, "restarted child kid of <0.1.0> (A) on shop@db1: <0.3.0>, was <0.2.0>\n", target.Act{Kind: target.ActRestartChild, Child: "kid", Force: true}},
		{"supervisor restart shop A kid", target.Done{Child: "kid"}, "restarted child kid of <0.1.0> (A) on shop@db1: ignored, was terminated\n", target.Act{Kind: target.ActRestartChild, Child: "kid"}},
	} {
		d.done = c.done
		r := m.do(append(strings.Fields(c.args), "--timeout", "3s")...)
		assert.Equal(t, result{exitDone, c.out, ""}, r, c.args)
		c.want.Node, c.want.Process, c.want.Timeout = "shop", "A", 3*time.Second
		assert.Equal(t, c.want, m.last())
		golden(t, fmt.Sprintf("act-%d-json", i), m.do(append(strings.Fields(c.args), "-o", "json")...))
	}
	m.acted = fmt.Errorf("suspend <0.1.0> on a: %w", target.ErrConflict)
	assert.Equal(t, exitFailed, m.do("suspend", "a", "b").code)
	for args, want := range map[string]string{
		"send a b": "TERM is missing", "flag a b c": "VALUE is missing", "supervisor terminate a b": "CHILD is missing", "state a": "PID|NAME is missing",
		"state a b c d": "one argument too many", "state a b --syntax lisp": "none of auto", "send a b c --syntax lisp": "none of auto",
		"inspect a b --depth 3": "--depth is of --graph", "supervisor dance": "unknown command", "gc a b -o csv": "no rows",
	} {
		r := m.do(strings.Fields(args)...)
		assert.Equal(t, exitUsage, r.code, args)
		assert.Contains(t, r.err, want)
	}
}
