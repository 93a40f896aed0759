package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// wholes answers questions about nodes as a whole.
type wholes struct {
	control.Questions // what a test does not ask
	m                 *member
	tree              *target.TreeNode
	systems           map[string]target.System
	failed            []target.NodeError
}

// serveWholes starts a member that answers them.
func serveWholes(t *testing.T, w *wholes) *member {
	w.m = &member{targets: []target.Info{{Node: "shop@db1", State: target.Attached}}}
	w.m.options = func(o *control.Options) { o.Questions = w }
	return serve(t, w.m)
}

func (w *wholes) Tree(_ context.Context, q target.TreeQuery) (*target.TreeNode, error) {
	w.m.note(q)
	return w.tree, w.m.acted
}

func (w *wholes) System(_ context.Context, q target.SystemQuery, out target.Answers[target.System]) {
	w.m.note(q)
	for _, n := range []string{"shop@db1", "cart@db2"} {
		if s, ok := w.systems[n]; ok {
			out.Answer(n, s)
		}
	}
	for _, f := range w.failed {
		out.Failed(f)
	}
}

func (w *wholes) Apps(_ context.Context, q target.AppsQuery, out target.Answers[[]target.App]) {
	w.m.note(q)
	out.Answer("shop@db1", []target.App{
		{Name: "kernel", Version: "9.2", Description: "ERTS  CXC 138 10", State: "running", StartType: "permanent", Processes: 40, Memory: 1_200_000},
		{Name: "shop", Version: "0.1.0", Description: "evil\x1b[2J, \"quoted\"", State: "loaded"},
	})
	for _, f := range w.failed {
		out.Failed(f)
	}
}

func (w *wholes) Env(_ context.Context, q target.EnvQuery) (target.Env, error) {
	w.m.note(q)
	return target.Env{Node: "shop@db1", App: q.App, Total: 3, Entries: []target.KeyValue{
		{Key: "Elixir.Shop.Repo", Value: "[\n  password: :\"**redacted**\"\n]"}, {Key: ":limit", Value: "3", Truncated: true},
	}}, w.m.acted
}

// shopTree has one of everything.
func shopTree() *target.TreeNode {
	worker := func(name, pid string) *target.TreeNode {
		return &target.TreeNode{Name: name, ID: name, Pid: pid, Type: "worker", Restart: "permanent", Shutdown: "5000", Module: "shop",
			InitialCall: "shop:init/1", Status: "waiting", Memory: 2800, CurrentFunction: "gen_server:loop/7"}
	}
	carts := worker("Elixir.Shop.Carts", "<0.12.0>")
	carts.Type, carts.Strategy, carts.Intensity, carts.Period, carts.Recent, carts.Restarts = "supervisor", "one_for_one", 3, 5, 2, 4
	carts.CurrentFunction, carts.Total = "gen_server:loop_hibernate/4", 102
	nameless := worker("", "<0.13.0>")
	nameless.ID, nameless.Restart, nameless.MessageQueueLen, nameless.CurrentFunction = "", "temporary", 182_311, "prim_inet:recv0/3"
	plain := worker("", "<0.14.0>")
	plain.ID, plain.Module, plain.CurrentFunction = "", "dynamic", "erlang:hibernate/3"
	carts.Children = []*target.TreeNode{nameless, plain}
	stuck := worker("stuck", "<0.15.0>")
	stuck.Type, stuck.Problem, stuck.CurrentFunction = "supervisor", "timeout", "proc_lib:sync_start_link/2"
	deep := worker("deep", "<0.16.0>")
	deep.Type, deep.Problem = "supervisor", "depth"
	dead := &target.TreeNode{Name: "dead", ID: "dead", Type: "worker", Restart: "transient", Shutdown: "brutal_kill", Module: "dead", Status: "terminated"}
	restarted := worker("first", "<0.17.0>")
	restarted.Restarts = 1
	sup := worker("shop_sup", "<0.11.0>")
	sup.Type, sup.Strategy, sup.Intensity, sup.Period, sup.Total, sup.Restart = "supervisor", "rest_for_one", 1, 60, 5, ""
	sup.Children = []*target.TreeNode{restarted, carts, stuck, deep, dead}
	loose := &target.TreeNode{Pid: "<0.18.0>", Type: "process", InitialCall: "erlang:apply/2", Status: "running", Memory: 900,
		CurrentFunction: "shop:evil\x1b[2J/0", Unsupervised: true, Parent: "<0.17.0>"}
	odd := &target.TreeNode{Pid: "<0.19.0>", Type: "process", Unsupervised: true, Problem: "new"}
	return &target.TreeNode{Name: "shop", Pid: "<0.10.0>", Type: "application", Restart: "permanent", Total: 1, Children: []*target.TreeNode{sup, loose, odd}}
}

func TestTree(t *testing.T) {
	m := serveWholes(t, &wholes{tree: shopTree()})
	golden(t, "tree-table", m.do("tree", "shop@db1", "shop"))
	assert.Equal(t, target.TreeQuery{Node: "shop@db1", App: "shop", Children: 25}, m.last())
	golden(t, "tree-json", m.do("tree", "shop@db1", "shop", "-o", "json"))
	assert.Equal(t, target.TreeQuery{Node: "shop@db1", App: "shop"}, m.last())
	golden(t, "tree-csv", m.do("tree", "shop@db1", "--supervised", "--depth", "3", "--children", "7", "--timeout", "3s", "-o", "csv"))
	assert.Equal(t, target.TreeQuery{Node: "shop@db1", Depth: 3, Children: 7, Supervised: true, Timeout: 3 * time.Second}, m.last())
	tty := func(a *app) { a.outTTY, a.width = true, func() int { return 110 } }
	golden(t, "tree-terminal", commandWith(tty, "--addr", m.addr, "tree", "shop@db1", "shop"))

	m.acted = &target.HintError{Err: target.ErrNoApp, Hint: "try another"}
	r := m.do("tree", "shop@db1", "none")
	assert.Equal(t, result{exitFailed, "", "debughost: read the supervision tree of shop@db1: no such application\nhint: try another\n"}, r)
	for _, args := range [][]string{{"tree"}, {"tree", "a", "b", "c"}, {"tree", "a", "--depth", "1000"}, {"tree", "a", "--children", "1000000"}} {
		assert.Equal(t, exitUsage, m.do(args...).code, args)
	}
}

func TestApps(t *testing.T) {
	w := &wholes{failed: []target.NodeError{{Node: "mail@db2", Err: hinted("no answer in time", "wait")}}}
	m := serveWholes(t, w)
	golden(t, "apps-table", m.do("apps"))
	golden(t, "apps-json", m.do("apps", "-o", "json"))
	golden(t, "apps-csv", m.do("apps", "-o", "csv"))
	golden(t, "apps-env-table", m.do("apps", "--env", "shop@db1", "shop"))
	golden(t, "apps-env-json", m.do("apps", "--env", "shop@db1", "shop", "-o", "json"))
	golden(t, "apps-env-csv", m.do("apps", "--env", "shop@db1", "shop", "-o", "csv", "--syntax", "elixir", "--max-bytes", "99"))
	assert.Equal(t, target.EnvQuery{App: "shop", InspectQuery: target.InspectQuery{Node: "shop@db1", MaxBytes: 99, Elixir: true}}, m.last())
	for _, args := range [][]string{{"apps", "--env"}, {"apps", "--env", "a"}, {"apps", "--env", "a", "b", "c"}, {"apps", "--env", "a", "b", "--syntax", "lisp"}} {
		assert.Equal(t, exitUsage, m.do(args...).code, args)
	}
}

func TestHelpOfWholes(t *testing.T) {
	for _, name := range []string{"tree", "apps", "system"} {
		assert.Contains(t, command(name, "--help").out, "Examples:\n  debughost "+name)
	}
}

func TestCompleteApps(t *testing.T) {
	defer func(was time.Duration) { completionTime = was }(completionTime)
	completionTime = time.Minute
	m := serveWholes(t, &wholes{})
	assert.Equal(t, []string{"shop@db1"}, completions(m, "tree", ""))
	assert.Equal(t, []string{"shop"}, completions(m, "tree", "shop@db1", "s"))
	assert.Empty(t, completions(m, "tree", "shop@db1", "shop", ""))
	assert.Equal(t, []string{"kernel", "shop"}, completions(m, "apps", "--env", "shop@db1", ""))
	assert.Equal(t, []string{"shop@db1"}, completions(m, "apps", ""))
	assert.Equal(t, []string{"shop@db1"}, completions(m, "system", ""))
}

func shopSystem() target.System {
	return target.System{
		OTPRelease: "27", Version: "15.2", ElixirVersion: "1.18.3", Architecture: "x86_64-pc-linux-gnu", EmuFlavor: "jit", OSPid: "4711",
		Uptime: 26 * time.Hour, LogicalProcessors: 8, LogicalProcessorsAvailable: 4, Schedulers: 8, SchedulersOnline: 2,
		DirtyCPUSchedulers: 8, DirtyIOSchedulers: 10, Modules: 900, RunQueues: []uint64{1, 0, 2}, QueueLimit: 1 << 20,
		Memory:     []target.MemoryUse{{Name: "total", Value: 2_000_000_000}, {Name: "processes", Value: 1_500_000_000}, {Name: "code", Value: 40_000_000}},
		Allocators: []target.Allocator{{Name: "binary_alloc", Blocks: 100_000_000, Carriers: 900_000_000}, {Name: "ets_alloc", Blocks: 1, Carriers: 2}},
		Limits:     []target.Limit{{Name: "process", Used: 250_000, Limit: 262_144}, {Name: "atom", Used: 20_000, Limit: 1_048_576}, {Name: "file_descriptor", Used: 100, Limit: 100}},
		Nodes: []target.Neighbour{
			{Name: "cart@db2", Queue: 700_000, Input: 5000, Output: 70}, {Name: "debughost-1@db1", Hidden: true},
			{Name: "tls@db3", Queue: 12, Messages: true},
		},
		Window: 200 * time.Millisecond, Busy: []float64{0.95, 0.04999}, BusyTotal: 0.5, DirtyCPU: 0.001, DirtyIO: 1,
		Activity: []target.Rate{{Name: "reductions", Value: 12_345_678}, {Name: "garbage_collections", Value: 40}, {Name: "bytes_reclaimed", Value: 1e9}, {Name: "input", Value: 3}},
	}
}

func TestSystem(t *testing.T) {
	w := &wholes{systems: map[string]target.System{"shop@db1": shopSystem(), "cart@db2": {OTPRelease: "25", RunQueues: []uint64{0}}}}
	m := serveWholes(t, w)
	golden(t, "system-table", m.do("system"))
	assert.Equal(t, target.SystemQuery{Window: 200 * time.Millisecond}, m.last())
	golden(t, "system-csv", m.do("system", "-o", "csv"))
	golden(t, "system-json", m.do("system", "-o", "json"))
	delete(w.systems, "cart@db2")
	golden(t, "system-one", m.do("system", "shop@db1", "--window", "5s", "--timeout", "3s"))
	assert.Equal(t, target.SystemQuery{Window: 5 * time.Second, Ask: target.Ask{Nodes: []string{"shop@db1"}, Timeout: 3 * time.Second}}, m.last())
	tty := func(a *app) { a.outTTY, a.width = true, func() int { return 100 } }
	golden(t, "system-terminal", commandWith(tty, "--addr", m.addr, "system", "shop@db1"))
	w.failed = []target.NodeError{{Node: "mail@db2", Err: hinted("no answer in time", "wait")}}
	r := m.do("system", "shop@db1", "mail@db2")
	assert.Equal(t, exitPartial, r.code)
	w.systems = nil
	assert.Equal(t, exitFailed, m.do("system").code)
	for _, args := range [][]string{{"system", "--window", "-1s"}, {"system", "--window", "2m"}} {
		assert.Equal(t, exitUsage, m.do(args...).code, args)
	}
}

// Who waits for work is not worth a word, also in libraries that are not OTP's.
func TestTreeStateOfIdle(t *testing.T) {
	state := func(function, status string) string {
		return treeStateText(&controlpb.TreeNode{CurrentFunction: function, Status: status})
	}
	for _, f := range []string{"gen_server:loop/7", "gen_server2:process_next_msg/1", "gen_batch_server:loop_wait/2", "ranch_conns_sup:loop/4"} {
		assert.Empty(t, state(f, "waiting"), f)
		assert.Equal(t, "suspended in "+f, state(f, "suspended"))
	}
	assert.Equal(t, "waiting in prim_inet:accept0/3", state("prim_inet:accept0/3", "waiting"))
}
