package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

func (s *childService) StartChild(ctx context.Context, req *controlpb.StartChildRequest) (*controlpb.ChildResponse, error) {
	tried := "start child " + clean(req.GetSpec().GetId())
	if err := s.child(tried, req.GetSpec().GetId()); err != nil {
		return nil, err
	}
	spec, err := specOf(tried, req.GetSpec())
	if err != nil {
		return nil, err
	}
	child, err := s.engine.StartChild(ctx, spec)
	return childAnswer(tried, child, err)
}

func (s *childService) StopChild(ctx context.Context, req *controlpb.StopChildRequest) (*controlpb.ChildResponse, error) {
	return s.act(ctx, "stop", req.GetId(), s.stop)
}

func (s *childService) RestartChild(ctx context.Context, req *controlpb.RestartChildRequest) (*controlpb.ChildResponse, error) {
	return s.act(ctx, "restart", req.GetId(), s.restart)
}

func (s *childService) MoveChild(ctx context.Context, req *controlpb.MoveChildRequest) (*controlpb.ChildResponse, error) {
	if to := req.GetMember(); to != "" && s.engine != nil {
		tried := fmt.Sprintf("move child %s to %.200s", clean(req.GetId()), clean(to))
		if err := s.canTake(tried, to); err != nil {
			return nil, err
		}
	}
	return s.act(ctx, "move", req.GetId(), func(ctx context.Context, id string) (supervisor.Child, error) {
		return s.engine.MoveChild(ctx, id, req.GetMember())
	})
}

func (s *childService) RemoveChild(ctx context.Context, req *controlpb.RemoveChildRequest) (*controlpb.RemoveChildResponse, error) {
	tried := "remove child " + clean(req.GetId())
	if err := s.child(tried, req.GetId()); err != nil {
		return nil, err
	}
	if err := s.engine.RemoveChild(ctx, req.GetId()); err != nil {
		return nil, childError(tried, err)
	}
	return &controlpb.RemoveChildResponse{}, nil
}

// maxNote bounds what a caller says of a bundle, in bytes.
const maxNote = 200

func (s *childService) ReloadChild(ctx context.Context, req *controlpb.ReloadChildRequest) (*controlpb.ReloadChildResponse, error) {
	tried := "reload child " + clean(req.GetId())
	if err := s.child(tried, req.GetId()); err != nil {
		return nil, err
	}
	switch {
	case blob.Check(req.GetBundle()) != nil:
		return nil, badRequest(tried, "%.80q is no id of a blob", clean(req.GetBundle()))
	case len(req.GetNote()) > maxNote:
		return nil, badRequest(tried, "the note has more than %d bytes", maxNote)
	}
	report, child, err := s.engine.ReloadChild(ctx, req.GetId(), req.GetBundle(), req.GetNote())
	if err != nil {
		return nil, childError(tried, err)
	}
	return &controlpb.ReloadChildResponse{Report: clean(string(report)), Child: childPB(&child)}, nil
}

func (s *childService) OperateChild(ctx context.Context, req *controlpb.OperateChildRequest) (*controlpb.OperateChildResponse, error) {
	tried := "operate child " + clean(req.GetId())
	if err := s.child(tried, req.GetId()); err != nil {
		return nil, err
	}
	input := []byte(cmp.Or(req.GetInput(), "{}"))
	switch {
	case req.GetOperation() == "" || len(req.GetOperation()) > maxChildID:
		return nil, badRequest(tried, "an operation has a name of 1 to %d bytes", maxChildID)
	case len(input) > sdk.MaxOperation:
		return nil, badRequest(tried, "the input has %d bytes, and at most %d are allowed", len(input), sdk.MaxOperation)
	case !json.Valid(input):
		return nil, badRequest(tried, "the input is no JSON")
	}
	output, err := s.engine.OperateChild(ctx, req.GetId(), req.GetOperation(), input)
	if err != nil {
		return nil, childError(tried, err)
	}
	return &controlpb.OperateChildResponse{Output: clean(string(output))}, nil
}

func (s *childService) stop(ctx context.Context, id string) (supervisor.Child, error) {
	return s.engine.StopChild(ctx, id)
}

func (s *childService) restart(ctx context.Context, id string) (supervisor.Child, error) {
	return s.engine.RestartChild(ctx, id)
}

// act does what needs no more than the id.
func (s *childService) act(ctx context.Context, verb, id string, do func(context.Context, string) (supervisor.Child, error)) (*controlpb.ChildResponse, error) {
	tried := verb + " child " + clean(id)
	if err := s.child(tried, id); err != nil {
		return nil, err
	}
	child, err := do(ctx, id)
	return childAnswer(tried, child, err)
}

func childAnswer(tried string, child supervisor.Child, err error) (*controlpb.ChildResponse, error) {
	if err != nil {
		return nil, childError(tried, err)
	}
	return &controlpb.ChildResponse{Child: childPB(&child)}, nil
}

// canTake tells whether a member may be named as one that is to run a child.
func (s *childService) canTake(tried, name string) error {
	if s.cluster == nil {
		return nil // the engine knows
	}
	members := s.cluster.Members()
	i := slices.IndexFunc(members, func(m cluster.Member) bool { return m.Name == name })
	switch {
	case i < 0:
		return unknownMember(tried)
	case !members[i].State.Usable():
		return &Error{
			Code: Conflict, Tried: tried, Cause: tried + ": " + stateError(members[i]).Error(),
			Hint: "`debughost members` tells which are alive",
		}
	case slices.Contains(s.engine.DrainingMembers(), name):
		return &Error{
			Code: Conflict, Tried: tried, Cause: tried + ": it is being drained, and takes no children",
			Hint: "`debughost drain " + clean(name) + " --undo` ends that",
		}
	}
	return nil
}
