// Package target attaches to BEAM nodes and answers questions about their
// processes. A Manager holds one connection per target, reconnects with
// backoff, and fans a question out to all of them in parallel, each with a
// deadline of its own, so that one dead node never hides the others.
//
// It does not find nodes (discovery plugins do, through Manager.SetFound), and
// it knows nothing of the control API above it.
//
//	m := target.New(target.Config{Node: n, Cookie: cookies.For, Publish: bus.Publish})
//	go m.Run(ctx)
//	m.SetFound("local", []target.Found{{Node: "shop@db1"}})
//	err := m.Processes(ctx, target.ProcessQuery{Sort: target.ByMemory, Limit: 20}, sink)
package target

import "time"

// State is where a target is in its life.
type State string

const (
	// Discovered: a strategy named the node; no attempt to attach was made yet.
	Discovered State = "discovered"
	// Connecting: an attempt is under way.
	Connecting State = "connecting"
	// Attached: the distribution connection is up.
	Attached State = "attached"
	// Unreachable: the last attempt failed in the network (no such name, no
	// answer, EPMD does not know the node); it is tried again with backoff.
	Unreachable State = "unreachable"
	// Refused: the node answered and said no (wrong cookie, not allowed, too
	// old); it is tried again, slowly.
	Refused State = "refused"
	// Gone: it was attached, its connection closed, and nothing finds it now.
	Gone State = "gone"
)

// Info describes one target.
type Info struct {
	Node       string // full name, shop@db1
	State      State
	Reason     string // why it is in this state, for a person; empty when attached
	Hint       string // what the person can do about it; may be empty
	OTPRelease string // "27"; empty until attached
	Owner      string // the member that is attached to it, by name
	Since      time.Time
	Topologies []string // which topologies name it
	Creation   uint32   // the incarnation that is attached
	Agent      string   // "loaded", "never" (forbidden), "refused: …", or "" (not needed yet)
	Cost       Cost     // by the member that tells it
}

// Sort is a key by which processes are ranked, highest first. The values are
// OTP's own names of process_info items.
type Sort string

const (
	ByMemory          Sort = "memory"            // bytes
	ByReductions      Sort = "reductions"        // count since the process started
	ByMessageQueueLen Sort = "message_queue_len" // messages
)

// ProcessQuery asks for ranked processes.
type ProcessQuery struct {
	Nodes       []string      // full names, or the part before @ where it is unambiguous; empty means every target
	Sort        Sort          // default ByMemory
	Window      time.Duration // > 0 ranks by the growth of Sort a second over this time
	Filter      string        // substring of the registered name, label, current or initial function, or the pid; case-insensitive
	Function    string        // substring of the current or initial function, as mod:fun/arity
	Application string        // name of an application whose processes are wanted
	Limit       int           // rows in the answer; 0 means all, and then the rows come unranked
	Offset      int           // rows to skip of the ranking, for paging; needs Limit > 0
	Timeout     time.Duration // for each target, Window not counted; default 5 s, of a whole table between two parts
}

// Process is one row of a ranking. Its fields carry OTP's names.
type Process struct {
	Node            string
	Pid             string // <0.123.0>
	RegisteredName  string // empty when it has none; Elixir.My.Worker unabridged
	Memory          uint64 // bytes
	Reductions      uint64
	MessageQueueLen uint64
	CurrentFunction string // mod:fun/arity
	InitialCall     string // mod:fun/arity, behind proc_lib the real one
	Status          string
	Rate            float64 // growth of the sort key a second; only with ProcessQuery.Window
}

// NodeError says why one target has no rows, or not all of them.
type NodeError struct {
	Node string
	Err  error
}

// Sink takes the parts of an answer as they arrive. Its methods are called by
// one goroutine at a time. A returned error ends the query.
type Sink interface {
	Rows([]Process) error
	Failed(NodeError) error
}

// InspectQuery asks for one process.
type InspectQuery struct {
	Node        string
	Process     string // <0.1.2>, #PID<0.1.2>, 0.1.2, or a registered name: my_worker, My.Worker, Elixir.My.Worker
	Messages    int    // how many messages to show; 0 shows none
	MaxBytes    int    // where each printed term is cut; default 4096
	Elixir      bool   // print terms in Elixir syntax instead of Erlang's
	ElixirGuess bool   // print in Elixir syntax where the target runs Elixir
	Force       bool   // read dictionary and messages of a large process too, which copies them on the target
	Timeout     time.Duration
}

// ProcessRef names another process, port or name that a process is tied to.
type ProcessRef struct {
	Kind           string // process, port, name
	Pid            string // <0.1.2>, #Port<0.3>
	Node           string // where it lives, when that is another node
	RegisteredName string
	InitialCall    string
}

// Frame is one entry of a stack trace.
type Frame struct {
	Function string // mod:fun/arity
	File     string
	Line     uint64
}

// KeyValue is one printed entry of a process dictionary or a message.
type KeyValue struct {
	Key, Value string
	Truncated  bool
}

// ProcessDetail is all of process_info that is safe to ask for.
type ProcessDetail struct {
	Process
	Label             string // OTP 27 and later
	GroupLeader       ProcessRef
	Parent            ProcessRef // OTP 25 and later; empty when unknown
	Ancestors         []ProcessRef
	Callers           []ProcessRef // for whom it works, as Elixir's Task notes it
	Links             []ProcessRef
	Monitors          []ProcessRef
	MonitoredBy       []ProcessRef
	TrapExit          bool
	ErrorHandler      string
	Priority          string
	HeapSize          uint64 // words
	TotalHeapSize     uint64 // words
	StackSize         uint64 // words
	MinHeapSize       uint64 // words
	FullsweepAfter    uint64
	MinorGCs          uint64
	MaxHeapSize       uint64 // words; 0 means no limit
	SuspendingCount   uint64
	Binaries          uint64 // off-heap binaries referred to, each counted once
	BinaryBytes       uint64 // their size, which is not part of Memory
	LargestBinaries   []HeldBinary
	CurrentStacktrace []Frame
	Dictionary        []KeyValue
	Messages          []KeyValue // only Value is set
	MessagesTotal     uint64
	Missing           []string // items that the node did not tell, with the cause
}

// KillQuery ends one process.
type KillQuery struct {
	Node    string
	Process string // as in InspectQuery
	Reason  string // a literal Erlang or Elixir term; default kill
	Force   bool   // also what would take the node down
	Timeout time.Duration
}

// KillResult says exactly what was done.
type KillResult struct {
	Node           string
	Pid            string
	RegisteredName string
	Reason         string // as sent
	Alive          bool   // still alive when the call ended: it traps exits, or has not got to it yet
}
