package control

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// Bounds of what may be asked of processes.
const (
	MaxWindow   = time.Hour
	MaxTimeout  = time.Hour
	MaxMessages = 1000
	MaxBytes    = 64 << 10
	maxNodes    = 1000
	maxText     = 1024 // of a filter
	maxLimit    = 1 << 30
)

type processService struct {
	controlpb.UnimplementedProcessesServer
	engine interface {
		TargetEngine
		ProcessEngine
	}
	forward *forwarder
}

func (s *processService) ListProcesses(req *controlpb.ListProcessesRequest, stream controlpb.Processes_ListProcessesServer) error {
	const tried = "list processes"
	q, err := processQuery(tried, req)
	if err != nil {
		return err
	}
	sink := &rowSink{send: stream.Send, failed: map[string]bool{}}
	ask := s.askHere
	if s.forward.peers != nil {
		switch {
		case callerFrom(stream.Context()).Forwarded:
			ask = s.askOwn
		case len(s.forward.peers.Members()) > 1:
			ask = s.askAll
		}
	}
	asked, err := ask(stream.Context(), q, sink)
	if err != nil {
		return describe(tried, err)
	}
	end := &controlpb.ProcessesEnd{
		Rows:     sink.rows,
		Failed:   uint32(len(sink.failed)),
		Answered: uint32(answered(asked, sink.failed)),
	}
	return stream.Send(&controlpb.ListProcessesResponse{Part: &controlpb.ListProcessesResponse_End{End: end}})
}

// askHere asks the engine, and returns the nodes that it was asked about.
func (s *processService) askHere(ctx context.Context, q target.ProcessQuery, sink *rowSink) (map[string]bool, error) {
	asked := map[string]bool{}
	for _, n := range q.Nodes {
		asked[n] = true
	}
	if len(asked) == 0 {
		for _, t := range s.engine.Targets() {
			if t.State == target.Attached {
				asked[t.Node] = true
			}
		}
	}
	return asked, s.engine.Processes(ctx, q, sink)
}

// answered counts the nodes that were asked and did not fail. A question may
// have named them by the part before @.
func answered(asked, failed map[string]bool) int {
	n := 0
	for node := range asked {
		lost := failed[node]
		if !lost && !strings.Contains(node, "@") {
			for f := range failed {
				lost = lost || strings.HasPrefix(f, node+"@")
			}
		}
		if !lost {
			n++
		}
	}
	return n
}

func processQuery(tried string, req *controlpb.ListProcessesRequest) (target.ProcessQuery, error) {
	q := target.ProcessQuery{
		Nodes:       req.GetNodes(),
		Sort:        target.Sort(req.GetSort()),
		Filter:      req.GetFilter(),
		Function:    req.GetFunction(),
		Application: req.GetApplication(),
	}
	switch q.Sort {
	case "":
		q.Sort = target.ByMemory
	case target.ByMemory, target.ByReductions, target.ByMessageQueueLen:
	default:
		return q, badRequest(tried, "sort %q is none of memory, reductions, message_queue_len", q.Sort)
	}
	switch {
	case len(q.Nodes) > maxNodes:
		return q, badRequest(tried, "%d nodes are named, %d may be", len(q.Nodes), maxNodes)
	case max(len(q.Filter), len(q.Function), len(q.Application)) > maxText:
		return q, badRequest(tried, "a filter is longer than %d bytes", maxText)
	case req.GetLimit() > maxLimit || req.GetOffset() > maxLimit:
		return q, badRequest(tried, "limit and offset go up to %d", maxLimit)
	case req.GetOffset() > 0 && req.GetLimit() == 0:
		return q, badRequest(tried, "an offset needs a limit")
	}
	for _, n := range q.Nodes {
		if err := checkNode(tried, n); err != nil {
			return q, err
		}
	}
	q.Limit, q.Offset = int(req.GetLimit()), int(req.GetOffset())
	var err error
	if q.Window, err = duration(tried, "window", req.GetWindow(), MaxWindow); err != nil {
		return q, err
	}
	q.Timeout, err = duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	return q, err
}

func (s *processService) InspectProcess(ctx context.Context, req *controlpb.InspectProcessRequest) (*controlpb.InspectProcessResponse, error) {
	tried := "inspect " + req.GetProcess() + " on " + req.GetNode()
	if err := checkProcess(tried, req.GetNode(), req.GetProcess()); err != nil {
		return nil, err
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	if err != nil {
		return nil, err
	}
	q := target.InspectQuery{
		Node:     req.GetNode(),
		Process:  req.GetProcess(),
		Messages: int(req.GetMessages()),
		MaxBytes: int(req.GetMaxBytes()),
		Force:    req.GetForce(),
		Timeout:  timeout,
	}
	switch req.GetSyntax() {
	case "", "auto":
		q.ElixirGuess = true
	case "elixir":
		q.Elixir = true
	case "erlang":
	default:
		return nil, badRequest(tried, "syntax %q is none of auto, erlang, elixir", req.GetSyntax())
	}
	switch {
	case req.GetMessages() > MaxMessages:
		return nil, badRequest(tried, "%d messages are wanted, %d may be", req.GetMessages(), MaxMessages)
	case req.GetMaxBytes() > MaxBytes:
		return nil, badRequest(tried, "terms of %d bytes are wanted, %d may be", req.GetMaxBytes(), MaxBytes)
	}
	d, err := s.engine.Inspect(ctx, q)
	if err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.InspectProcessResponse{Process: detailPB(d)}, nil
}

func (s *processService) KillProcess(ctx context.Context, req *controlpb.KillProcessRequest) (*controlpb.KillProcessResponse, error) {
	tried := "kill " + req.GetProcess() + " on " + req.GetNode()
	if err := checkProcess(tried, req.GetNode(), req.GetProcess()); err != nil {
		return nil, err
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	if err != nil {
		return nil, err
	}
	res, err := s.engine.Kill(ctx, target.KillQuery{
		Node:    req.GetNode(),
		Process: req.GetProcess(),
		Reason:  req.GetReason(),
		Force:   req.GetForce(),
		Timeout: timeout,
	})
	if err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.KillProcessResponse{
		Node:           clean(res.Node),
		Pid:            clean(res.Pid),
		RegisteredName: clean(res.RegisteredName),
		Reason:         clean(res.Reason),
		Alive:          res.Alive,
	}, nil
}

func checkProcess(tried, node, process string) error {
	if err := checkNode(tried, node); err != nil {
		return err
	}
	switch {
	case process == "":
		return badRequest(tried, "it names no process")
	case len(process) > 4*255: // an atom has at most 255 characters
		return badRequest(tried, "no process has so long a name")
	}
	return nil
}

func checkNode(tried, node string) error {
	switch {
	case node == "":
		return badRequest(tried, "it names no node")
	case len(node) > 4*255:
		return badRequest(tried, "no node has so long a name")
	}
	return nil
}

// duration reads an optional duration; nil and 0 mean the engine's default.
func duration(tried, what string, d *durationpb.Duration, most time.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, badRequest(tried, "%s: %v", what, err)
	}
	v := d.AsDuration()
	if v < 0 || v > most {
		return 0, badRequest(tried, "%s %v is not between 0 and %v", what, v, most)
	}
	return v, nil
}
