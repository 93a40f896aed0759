package target

import (
	"cmp"
	"context"
	_ "embed" // a companion's source and compiled module
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/system.erl
var systemSource []byte

//go:embed agent/system.beam
var systemBeam []byte

var systemModule = newCompanion("system", systemSource, systemBeam)

// MaxSystemWindow bounds SystemQuery.Window.
const MaxSystemWindow = time.Minute

// maxLists bounds what one target says of its schedulers, queues and neighbours.
const maxLists = 4096

// SystemQuery asks for nodes as a whole.
type SystemQuery struct {
	Ask
	// Window is how long schedulers, reductions, collections and input and output
	// are looked at; 0 leaves them out. At most MaxSystemWindow.
	Window time.Duration
}

// System is a node as a whole. Names are OTP's; what a node does not tell is zero.
type System struct {
	OTPRelease    string
	Version       string // of ERTS
	ElixirVersion string // empty where Elixir is not loaded
	Architecture  string
	EmuFlavor     string // jit or emu
	OSPid         string
	Uptime        time.Duration

	LogicalProcessors, LogicalProcessorsAvailable  uint64
	Schedulers, SchedulersOnline                   uint64
	DirtyCPUSchedulers, DirtyIOSchedulers, Modules uint64

	RunQueues  []uint64    // of each scheduler, then those of dirty CPU and dirty IO schedulers
	Memory     []MemoryUse // bytes, by kind as erlang:memory() has them
	Allocators []Allocator
	Limits     []Limit
	Nodes      []Neighbour
	// QueueLimit is how many bytes may wait for another node before who sends to
	// it is suspended.
	QueueLimit uint64

	Window    time.Duration // that was looked at; 0 with no activity below
	Activity  []Rate        // reductions, garbage_collections, … a second
	Busy      []float64     // 0 to 1, of each scheduler that is online
	BusyTotal float64       // their mean
	DirtyCPU  float64       // the mean of the dirty CPU schedulers
	DirtyIO   float64
}

// MemoryUse is memory of one kind, in bytes, by the name that OTP has for it.
type MemoryUse struct {
	Name  string
	Value uint64
}

// Rate is how much of something there was a second.
type Rate struct {
	Name  string
	Value float64
}

// Allocator is what one of the runtime's allocators has from the operating
// system, and what of it is used. A low use in much memory is fragmentation.
type Allocator struct {
	Name             string
	Blocks, Carriers uint64 // bytes
}

// Limit is a table of the runtime that cannot grow.
type Limit struct {
	Name        string // process, port, atom, ets, file_descriptor
	Used, Limit uint64
}

// Share is how full the table is, 0 to 1 or, where ets_limit is only a hint to
// the runtime, more.
func (l Limit) Share() float64 { return float64(l.Used) / float64(max(l.Limit, 1)) }

// Neighbour is a node that this one is connected to.
type Neighbour struct {
	Name          string
	Hidden        bool
	Queue         uint64 // bytes that wait to be sent; with TLS the messages that wait
	Messages      bool   // Queue counts messages
	Input, Output uint64 // bytes since the connection was made; 0 with TLS
}

// System tells how nodes are as a whole.
func (m *Manager) System(ctx context.Context, q SystemQuery, out Answers[System]) {
	q.Window = min(max(q.Window, 0), MaxSystemWindow)
	if q.Timeout > 0 {
		q.Timeout += q.Window
	}
	each(ctx, m, q.Ask, q.Window, out, func(ctx context.Context, t *target, link *node.Peer) (System, error) {
		reply, err := t.companionCall(ctx, link, systemModule, "system", etf.Int(q.Window/time.Millisecond))
		if err == errNoAgent {
			reply, err = t.plainSystem(ctx, link)
		}
		if err != nil {
			return System{}, err
		}
		return parseSystem(link, reply)
	})
}

// plainKeys are what erlang:system_info/1 tells in plain calls.
var plainKeys = []etf.Atom{
	"otp_release", "version", "system_architecture", "logical_processors", "logical_processors_available",
	"schedulers", "schedulers_online", "dirty_cpu_schedulers", "dirty_io_schedulers", "dist_buf_busy_limit",
	"process_count", "process_limit", "port_count", "port_limit", "atom_count", "atom_limit", "ets_count", "ets_limit",
}

// plainSystem does without the helper: what can be asked without a window, and
// without changing anything on the node.
func (t *target) plainSystem(ctx context.Context, link *node.Peer) (etf.Term, error) {
	keys := make(etf.List, len(plainKeys))
	for i, k := range plainKeys {
		keys[i] = k
	}
	reply, err := t.call(ctx, link, "lists", "map", etf.Export{Module: "erlang", Function: "system_info", Arity: 1}, keys)
	if err != nil {
		return nil, err
	}
	values, ok := etf.Elements(reply)
	if !ok || len(values) != len(plainKeys) {
		return nil, fmt.Errorf("ask %s of itself: got %s", link.Name(), printed(reply))
	}
	var out etf.Map
	at := map[etf.Atom]etf.Term{}
	for i, v := range values {
		at[plainKeys[i]] = v
		out = append(out, etf.Pair{Key: plainKeys[i], Value: v})
	}
	var limits etf.List
	for _, what := range []etf.Atom{"process", "port", "atom", "ets"} {
		limits = append(limits, etf.Tuple{what, at[what+"_count"], at[what+"_limit"]})
	}
	out = append(out, etf.Pair{Key: etf.Atom("limits"), Value: limits})
	for _, ask := range []struct {
		key, module, function string
		args                  []etf.Term
	}{
		{"memory", "erlang", "memory", nil},
		{"run_queues", "erlang", "statistics", []etf.Term{etf.Atom("run_queue_lengths_all")}},
		{"os_pid", "os", "getpid", nil},
	} {
		v, err := t.call(ctx, link, ask.module, ask.function, ask.args...)
		if err != nil {
			return nil, err
		}
		out = append(out, etf.Pair{Key: etf.Atom(ask.key), Value: v})
	}
	return out, nil
}

// parseSystem reads the map that the companion, or plainSystem, makes.
func parseSystem(link *node.Peer, reply etf.Term) (System, error) {
	m, ok := reply.(etf.Map)
	if !ok {
		return System{}, fmt.Errorf("ask %s of itself: got %s", link.Name(), printed(reply))
	}
	at := map[string]etf.Term{}
	for _, kv := range m {
		at[atom(kv.Key)] = kv.Value
	}
	s := System{
		OTPRelease: text(at["otp_release"]), Version: text(at["version"]), ElixirVersion: unlessUndefined(at["elixir"]),
		Architecture: text(at["system_architecture"]), EmuFlavor: unlessUndefined(at["emu_flavor"]), OSPid: text(at["os_pid"]),
		Uptime:            time.Duration(min(count(at["uptime"]), 1<<43)) * time.Millisecond,
		LogicalProcessors: count(at["logical_processors"]), LogicalProcessorsAvailable: count(at["logical_processors_available"]),
		Schedulers: count(at["schedulers"]), SchedulersOnline: count(at["schedulers_online"]),
		DirtyCPUSchedulers: count(at["dirty_cpu_schedulers"]), DirtyIOSchedulers: count(at["dirty_io_schedulers"]),
		Modules: count(at["modules"]), QueueLimit: count(at["dist_buf_busy_limit"]),
		Window: time.Duration(min(count(at["window"]), 1<<40)) * time.Microsecond,
	}
	for _, n := range some(at["run_queues"]) {
		s.RunQueues = append(s.RunQueues, count(n))
	}
	for _, e := range some(at["memory"]) {
		if kv, ok := e.(etf.Tuple); ok && len(kv) == 2 {
			s.Memory = append(s.Memory, MemoryUse{atom(kv[0]), count(kv[1])})
		}
	}
	for _, e := range triples(at["allocators"]) {
		s.Allocators = append(s.Allocators, Allocator{Name: atom(e[0]), Blocks: count(e[1]), Carriers: count(e[2])})
	}
	slices.SortStableFunc(s.Allocators, func(a, b Allocator) int { return cmp.Compare(b.Carriers, a.Carriers) })
	for _, e := range triples(at["limits"]) {
		if l := (Limit{Name: atom(e[0]), Used: count(e[1]), Limit: count(e[2])}); l.Limit > 0 {
			s.Limits = append(s.Limits, l)
		}
	}
	for _, e := range some(at["nodes"]) {
		if n, ok := e.(etf.Tuple); ok && len(n) == 6 {
			s.Nodes = append(s.Nodes, Neighbour{
				Name: atom(n[0]), Hidden: atom(n[1]) == "hidden", Messages: atom(n[2]) == "process",
				Queue: count(n[3]), Input: count(n[4]), Output: count(n[5]),
			})
		}
	}
	s.activity(at["counters"], count(at["wordsize"]))
	s.busy(triples(at["schedulers_busy"]))
	return s, nil
}

// activity reads how much the counters grew within the window.
func (s *System) activity(counters etf.Term, wordSize uint64) {
	seconds := s.Window.Seconds()
	if seconds <= 0 {
		return
	}
	for _, kv := range some(counters) {
		e, ok := kv.(etf.Tuple)
		if !ok || len(e) != 2 {
			continue
		}
		r := Rate{atom(e[0]), float64(count(e[1])) / seconds}
		if r.Name == "words_reclaimed" {
			r = Rate{"bytes_reclaimed", r.Value * float64(wordSize)}
		}
		s.Activity = append(s.Activity, r)
	}
}

// busy reads {Id, Active, Total}: first the schedulers, those that are not online
// too, then as many dirty CPU schedulers, then those for IO.
func (s *System) busy(all []etf.Tuple) {
	share := func(e etf.Tuple) float64 { return min(float64(count(e[1]))/float64(max(count(e[2]), 1)), 1) }
	mean := func(list []etf.Tuple) float64 {
		var sum float64
		for _, e := range list {
			sum += share(e)
		}
		return sum / float64(max(len(list), 1))
	}
	n := int(min(s.Schedulers, uint64(len(all))))
	for _, e := range all[:min(n, int(min(s.SchedulersOnline, maxLists)))] {
		s.Busy = append(s.Busy, share(e))
		s.BusyTotal += share(e)
	}
	s.BusyTotal /= float64(max(len(s.Busy), 1))
	dirty := all[n:]
	cpu := min(len(dirty), int(min(s.DirtyCPUSchedulers, maxLists)))
	s.DirtyCPU, s.DirtyIO = mean(dirty[:cpu]), mean(dirty[cpu:])
}

// some are the elements of a list that is no longer than it may be.
func some(t etf.Term) []etf.Term {
	list, _ := etf.Elements(t)
	return list[:min(len(list), maxLists)]
}

func triples(t etf.Term) []etf.Tuple {
	var out []etf.Tuple
	for _, e := range some(t) {
		if tr, ok := e.(etf.Tuple); ok && len(tr) == 3 {
			out = append(out, tr)
		}
	}
	return out
}

// unlessUndefined is text that OTP has undefined for where there is none.
func unlessUndefined(t etf.Term) string {
	if s := text(t); s != "undefined" {
		return s
	}
	return ""
}

// String is 17 of 262144.
func (l Limit) String() string {
	return strconv.FormatUint(l.Used, 10) + " of " + strconv.FormatUint(l.Limit, 10)
}
