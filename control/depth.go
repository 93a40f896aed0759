package control

import (
	"context"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// Bounds of what may be asked of one process.
const (
	MaxStateDepth = target.MaxStateDepth
	MaxStateWidth = target.MaxStateWidth
	maxPath       = 4096     // bytes, into a state
	maxTerm       = 64 << 10 // bytes, of what may be sent
)

// ProcessFlags lists the flags that SetProcessFlag knows.
func ProcessFlags() []string { return target.ProcessFlags() }

// depthService tells what one process holds and is tied to.
type depthService struct {
	controlpb.UnimplementedDepthServer
	ask Questions
}

func (s *depthService) GetState(ctx context.Context, req *controlpb.GetStateRequest) (*controlpb.GetStateResponse, error) {
	tried := "show the state of " + req.GetProcess() + " on " + req.GetNode()
	if err := checkProcess(tried, req.GetNode(), req.GetProcess()); err != nil {
		return nil, err
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	if err != nil {
		return nil, err
	}
	q := target.StateQuery{
		Node: req.GetNode(), Process: req.GetProcess(), Path: req.GetPath(),
		Depth: int(req.GetDepth()), Width: int(req.GetWidth()), Offset: int(req.GetOffset()), MaxBytes: int(req.GetMaxBytes()),
		Force: req.GetForce(), Timeout: timeout,
	}
	if q.ElixirGuess, q.Elixir, err = syntax(tried, req.GetSyntax()); err != nil {
		return nil, err
	}
	switch {
	case len(q.Path) > maxPath:
		return nil, badRequest(tried, "the path is longer than %d bytes", maxPath)
	case req.GetDepth() > target.MaxStateDepth:
		return nil, badRequest(tried, "a depth of %d is wanted, it may be %d", req.GetDepth(), target.MaxStateDepth)
	case req.GetWidth() > target.MaxStateWidth:
		return nil, badRequest(tried, "a width of %d is wanted, it may be %d", req.GetWidth(), target.MaxStateWidth)
	case req.GetOffset() > maxLimit:
		return nil, badRequest(tried, "an offset goes up to %d", maxLimit)
	case req.GetMaxBytes() > MaxBytes:
		return nil, badRequest(tried, "a text of %d bytes is wanted, it may have %d", req.GetMaxBytes(), MaxBytes)
	}
	st, err := s.ask.State(ctx, q)
	if err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.GetStateResponse{
		Node: clean(st.Node), Pid: clean(st.Pid), RegisteredName: clean(st.RegisteredName), Behaviour: clean(st.Behaviour),
		Module: clean(st.Module), InitialCall: clean(st.InitialCall), Memory: st.Memory, MessageQueueLen: st.MessageQueueLen,
		Path: clean(st.Path), State: stateNodePB(st.Tree), Text: clean(st.Text), Truncated: st.Truncated,
	}, nil
}

// syntax reads a request's field of that name.
func syntax(tried, s string) (guess, elixir bool, err error) {
	switch s {
	case "", "auto":
		return true, false, nil
	case "elixir":
		return false, true, nil
	case "erlang":
		return false, false, nil
	}
	return false, false, badRequest(tried, "syntax %q is none of auto, erlang, elixir", s)
}

// stateNodePB's depth is that of the question.
func stateNodePB(n target.StateNode) *controlpb.StateNode {
	p := &controlpb.StateNode{
		Kind: clean(n.Kind), Key: clean(n.Key), Path: clean(n.Path), Size: n.Size,
		Text: clean(n.Text), Truncated: n.Truncated, More: n.More,
	}
	for _, c := range n.Children {
		p.Children = append(p.Children, stateNodePB(c))
	}
	return p
}

func (s *depthService) GetGraph(ctx context.Context, req *controlpb.GetGraphRequest) (*controlpb.GetGraphResponse, error) {
	tried := "show what " + req.GetProcess() + " on " + req.GetNode() + " is tied to"
	if err := checkProcess(tried, req.GetNode(), req.GetProcess()); err != nil {
		return nil, err
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	switch {
	case err != nil:
		return nil, err
	case req.GetDepth() > target.MaxGraphDepth:
		return nil, badRequest(tried, "a depth of %d is wanted, it may be %d", req.GetDepth(), target.MaxGraphDepth)
	case req.GetLimit() > target.MaxGraphNodes:
		return nil, badRequest(tried, "%d processes are wanted, %d may be", req.GetLimit(), target.MaxGraphNodes)
	}
	g, err := s.ask.Graph(ctx, target.GraphQuery{
		Node: req.GetNode(), Process: req.GetProcess(), Depth: int(req.GetDepth()), Limit: int(req.GetLimit()), Timeout: timeout,
	})
	if err != nil {
		return nil, describe(tried, err)
	}
	res := &controlpb.GetGraphResponse{LeftOut: g.LeftOut, Node: clean(g.Node)}
	for _, n := range g.Nodes {
		res.Nodes = append(res.Nodes, &controlpb.GraphNode{
			Id: clean(n.ID), Ref: refPB(n.Ref), Label: clean(n.Label), Step: int32(n.Step), Memory: n.Memory, MessageQueueLen: n.MessageQueueLen,
		})
	}
	for _, e := range g.Edges {
		res.Edges = append(res.Edges, &controlpb.GraphEdge{From: clean(e.From), To: clean(e.To), Kind: e.Kind})
	}
	return res, nil
}
