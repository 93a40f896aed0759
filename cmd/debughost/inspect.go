package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) inspectCommand() *cobra.Command {
	req := &controlpb.InspectProcessRequest{}
	asGraph := &controlpb.GetGraphRequest{}
	var graph bool
	cmd := &cobra.Command{
		Use:   "inspect NODE PID|NAME",
		Short: "Show one process: its state, relations, stack, dictionary and, if asked, messages",
		Long: `Show everything about one process that is safe to ask of a node at work.

A process is named by its pid, as <0.123.0>, #PID<0.123.0> or 0.123.0, or by its
registered name, as Elixir.My.Worker, My.Worker or my_worker.

Messages are shown only when asked for: to show some, the node must copy all that
wait. Terms are printed in Elixir syntax where the node runs Elixir.

With --graph, show what the process is linked to and monitors, and who monitors it,
as a graph, over as many steps as --depth says.`,
		Example: `  debughost inspect shop@db1 '<0.123.0>'
  debughost inspect shop@db1 0.123.0 --messages 5
  debughost inspect shop My.Worker --syntax erlang
  debughost inspect shop@db1 My.Worker -o json
  debughost inspect shop@db1 My.Worker --graph --depth 2`,
		Args:              exactArgs("NODE", "PID|NAME"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeProcess,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch req.GetSyntax() {
			case "auto", "erlang", "elixir":
			default:
				return usagef("inspect: syntax %q is none of auto, erlang, elixir", req.GetSyntax())
			}
			req.Node, req.Process, req.Timeout = args[0], args[1], a.targetTimeout()
			if cmd.Flags().Changed("depth") && !graph {
				return usagef("inspect: --depth is of --graph")
			}
			asGraph.Node, asGraph.Process, asGraph.Timeout = req.Node, req.Process, req.Timeout
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				if graph {
					return a.graph(ctx, c, asGraph)
				}
				return a.inspect(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.Uint32VarP(&req.Messages, "messages", "m", 0, "how many waiting messages to show, oldest first")
	fl.StringVar(&req.Syntax, "syntax", "auto", "of printed terms: auto, erlang or elixir")
	fl.BoolVar(&req.Force, "force", false, "read dictionary and messages of a process of more than 64 MB too, which copies them on the node")
	fl.Uint32Var(&req.MaxBytes, "max-bytes", 4096, "where each printed term is cut")
	fl.BoolVar(&graph, "graph", false, "show links and monitors as a graph instead")
	fl.Uint32Var(&asGraph.Depth, "depth", 1, "links and monitors to follow one after the other with --graph")
	complete(cmd, "syntax", "auto", "erlang", "elixir")
	return cmd
}

func (a *app) inspect(ctx context.Context, c *control.Client, req *controlpb.InspectProcessRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Processes.InspectProcess(ctx, req)
	if err != nil {
		return err
	}
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"process": detailRow(res.GetProcess())})
	}
	return a.printDetail(res.GetProcess(), req)
}

// detailJSON is process_info in JSON, with OTP's keys and nesting.
type detailJSON struct {
	Node              string      `json:"node"`
	Pid               string      `json:"pid"`
	RegisteredName    string      `json:"registered_name"`
	Label             string      `json:"label"`
	Status            string      `json:"status"`
	Memory            uint64      `json:"memory"`
	Reductions        uint64      `json:"reductions"`
	MessageQueueLen   uint64      `json:"message_queue_len"`
	CurrentFunction   string      `json:"current_function"`
	InitialCall       string      `json:"initial_call"`
	GroupLeader       *refJSON    `json:"group_leader"`
	Parent            *refJSON    `json:"parent"`
	Ancestors         []refJSON   `json:"ancestors"`
	Callers           []refJSON   `json:"callers"`
	Links             []refJSON   `json:"links"`
	Monitors          []refJSON   `json:"monitors"`
	MonitoredBy       []refJSON   `json:"monitored_by"`
	TrapExit          bool        `json:"trap_exit"`
	Priority          string      `json:"priority"`
	ErrorHandler      string      `json:"error_handler"`
	HeapSize          uint64      `json:"heap_size"` // words, as in OTP
	TotalHeapSize     uint64      `json:"total_heap_size"`
	StackSize         uint64      `json:"stack_size"`
	GarbageCollection gcJSON      `json:"garbage_collection"`
	Suspending        uint64      `json:"suspending"` // how many processes it suspends
	Binary            binaryJSON  `json:"binary"`
	CurrentStacktrace []frameJSON `json:"current_stacktrace"`
	Dictionary        []entryJSON `json:"dictionary"`
	Messages          []entryJSON `json:"messages"`
	Missing           []string    `json:"missing"`
}

type refJSON struct {
	Kind           string `json:"kind"`
	Pid            string `json:"pid,omitempty"`
	Node           string `json:"node,omitempty"`
	RegisteredName string `json:"registered_name,omitempty"`
	InitialCall    string `json:"initial_call,omitempty"`
}

type gcJSON struct {
	MinHeapSize    uint64 `json:"min_heap_size"`
	FullsweepAfter uint64 `json:"fullsweep_after"`
	MinorGCs       uint64 `json:"minor_gcs"`
	MaxHeapSize    uint64 `json:"max_heap_size"`
}

type binaryJSON struct {
	Count   uint64           `json:"count"`
	Bytes   uint64           `json:"bytes"`
	Largest []heldBinaryJSON `json:"largest"`
}

type heldBinaryJSON struct {
	Size  uint64 `json:"size"`
	RefC  uint64 `json:"refc"`
	Times uint64 `json:"times"` // how often the process refers to it
}

type frameJSON struct {
	Function string `json:"function"`
	File     string `json:"file,omitempty"`
	Line     uint64 `json:"line,omitempty"`
}

type entryJSON struct {
	Key       string `json:"key,omitempty"`
	Value     string `json:"value"`
	Truncated bool   `json:"truncated"`
}

func detailRow(p *controlpb.ProcessDetail) detailJSON {
	return detailJSON{
		Node: p.GetNode(), Pid: p.GetPid(), RegisteredName: p.GetRegisteredName(), Label: p.GetLabel(),
		Status: p.GetStatus(), Memory: p.GetMemory(), Reductions: p.GetReductions(),
		MessageQueueLen: p.GetMessageQueueLen(), CurrentFunction: p.GetCurrentFunction(),
		InitialCall: p.GetInitialCall(), GroupLeader: refRow(p.GetGroupLeader()), Parent: refRow(p.GetParent()),
		Ancestors: refRows(p.GetAncestors()), Callers: refRows(p.GetCallers()), Links: refRows(p.GetLinks()),
		Monitors: refRows(p.GetMonitors()), MonitoredBy: refRows(p.GetMonitoredBy()),
		TrapExit: p.GetTrapExit(), Priority: p.GetPriority(), ErrorHandler: p.GetErrorHandler(),
		HeapSize: p.GetHeapSize(), TotalHeapSize: p.GetTotalHeapSize(), StackSize: p.GetStackSize(),
		GarbageCollection: gcJSON{p.GetMinHeapSize(), p.GetFullsweepAfter(), p.GetMinorGcs(), p.GetMaxHeapSize()},
		Suspending:        p.GetSuspendingCount(), Binary: binaryJSON{p.GetBinaryCount(), p.GetBinaryBytes(), heldRows(p.GetLargestBinaries())},
		CurrentStacktrace: frameRows(p.GetCurrentStacktrace()), Dictionary: entryRows(p.GetDictionary()),
		Messages: entryRows(p.GetMessages()), Missing: append([]string{}, p.GetMissing()...),
	}
}

func heldRows(held []*controlpb.HeldBinary) []heldBinaryJSON {
	out := []heldBinaryJSON{}
	for _, h := range held {
		out = append(out, heldBinaryJSON{h.GetSize(), h.GetRefc(), h.GetTimes()})
	}
	return out
}

func refRow(r *controlpb.ProcessRef) *refJSON {
	if r == nil {
		return nil
	}
	return &refJSON{r.GetKind(), r.GetPid(), r.GetNode(), r.GetRegisteredName(), r.GetInitialCall()}
}

func refRows(refs []*controlpb.ProcessRef) []refJSON {
	out := []refJSON{}
	for _, r := range refs {
		out = append(out, *refRow(r))
	}
	return out
}

func frameRows(frames []*controlpb.Frame) []frameJSON {
	out := []frameJSON{}
	for _, f := range frames {
		out = append(out, frameJSON{f.GetFunction(), f.GetFile(), f.GetLine()})
	}
	return out
}

func entryRows(entries []*controlpb.Entry) []entryJSON {
	out := []entryJSON{}
	for _, e := range entries {
		out = append(out, entryJSON{e.GetKey(), e.GetValue(), e.GetTruncated()})
	}
	return out
}
