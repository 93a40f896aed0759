package control

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// actsService does something to one process.
type actsService struct {
	controlpb.UnimplementedActsServer
	ask Questions
}

func (s *actsService) SendMessage(ctx context.Context, req *controlpb.SendMessageRequest) (*controlpb.ActResponse, error) {
	a := target.Act{Kind: target.ActSend, Term: req.GetTerm()}
	tried := actTried(a.Kind, req)
	var err error
	if a.ElixirGuess, a.Elixir, err = syntax(tried, req.GetSyntax()); err != nil {
		return nil, err
	}
	switch {
	case a.Term == "":
		return nil, badRequest(tried, "it has no term to send")
	case len(a.Term) > maxTerm:
		return nil, badRequest(tried, "the term is longer than %d bytes", maxTerm)
	}
	return s.act(ctx, tried, req, a)
}

func (s *actsService) CollectGarbage(ctx context.Context, req *controlpb.ActRequest) (*controlpb.ActResponse, error) {
	return s.act(ctx, actTried(target.ActCollect, req), req, target.Act{Kind: target.ActCollect})
}

func (s *actsService) SuspendProcess(ctx context.Context, req *controlpb.ActRequest) (*controlpb.ActResponse, error) {
	return s.act(ctx, actTried(target.ActSuspend, req), req, target.Act{Kind: target.ActSuspend})
}

func (s *actsService) ResumeProcess(ctx context.Context, req *controlpb.ActRequest) (*controlpb.ActResponse, error) {
	return s.act(ctx, actTried(target.ActResume, req), req, target.Act{Kind: target.ActResume})
}

func (s *actsService) SetProcessFlag(ctx context.Context, req *controlpb.SetProcessFlagRequest) (*controlpb.ActResponse, error) {
	tried := actTried(target.ActFlag, req)
	if max(len(req.GetFlag()), len(req.GetValue())) > maxText {
		return nil, badRequest(tried, "no flag and no value is so long")
	}
	return s.act(ctx, tried, req, target.Act{Kind: target.ActFlag, Flag: req.GetFlag(), Value: req.GetValue()})
}

func (s *actsService) TerminateChild(ctx context.Context, req *controlpb.ChildRequest) (*controlpb.ActResponse, error) {
	return s.child(ctx, target.ActTerminateChild, req)
}

func (s *actsService) RestartChild(ctx context.Context, req *controlpb.ChildRequest) (*controlpb.ActResponse, error) {
	return s.child(ctx, target.ActRestartChild, req)
}

func (s *actsService) child(ctx context.Context, kind target.ActKind, req *controlpb.ChildRequest) (*controlpb.ActResponse, error) {
	tried := actTried(kind, req)
	switch {
	case req.GetChild() == "":
		return nil, badRequest(tried, "it names no child")
	case len(req.GetChild()) > maxText:
		return nil, badRequest(tried, "no child has so long a name")
	}
	return s.act(ctx, tried, req, target.Act{Kind: kind, Child: req.GetChild()})
}

// processRequest is a request about one process.
type processRequest interface {
	GetNode() string
	GetProcess() string
}

// actRequest is what the requests of all acts have.
type actRequest interface {
	processRequest
	GetForce() bool
	GetTimeout() *durationpb.Duration
}

func actTried(kind target.ActKind, req processRequest) string {
	return fmt.Sprintf("%s %s on %s", kind.Verb(), req.GetProcess(), req.GetNode())
}

// act fills in what all acts have in common, and has it done.
func (s *actsService) act(ctx context.Context, tried string, req actRequest, a target.Act) (*controlpb.ActResponse, error) {
	if err := checkProcess(tried, req.GetNode(), req.GetProcess()); err != nil {
		return nil, err
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	if err != nil {
		return nil, err
	}
	a.Node, a.Process, a.Force, a.Timeout = req.GetNode(), req.GetProcess(), req.GetForce(), timeout
	d, err := s.ask.Act(ctx, a)
	if err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.ActResponse{
		Node: clean(d.Node), Pid: clean(d.Pid), RegisteredName: clean(d.RegisteredName), Act: string(d.Kind),
		Message: clean(d.Message), MessageQueueLen: d.MessageQueueLen, MemoryBefore: d.MemoryBefore, MemoryAfter: d.MemoryAfter,
		Status: clean(d.Status), Flag: clean(d.Flag), Value: clean(d.Value), Was: clean(d.Was),
		Child: clean(d.Child), ChildPid: clean(d.ChildPid), NewPid: clean(d.NewPid),
	}, nil
}
