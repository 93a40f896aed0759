package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
)

func (s *childService) ListChildren(req *controlpb.ListChildrenRequest, stream controlpb.Children_ListChildrenServer) error {
	const tried = "list children"
	if err := s.there(tried); err != nil {
		return err
	}
	if err := checkState(tried, req.GetState()); err != nil {
		return err
	}
	if max(len(req.GetMember()), len(req.GetStrategy()), len(req.GetPrefix()), len(req.GetAfter())) > maxText {
		return badRequest(tried, "a filter is longer than %d bytes", maxText)
	}
	children, err := s.engine.Children(stream.Context(), supervisor.Filter{
		State: supervisor.State(req.GetState()), Member: req.GetMember(), Strategy: req.GetStrategy(), Prefix: req.GetPrefix(),
	})
	if err != nil {
		return childError(tried, err)
	}
	slices.SortFunc(children, func(a, b supervisor.Child) int { return strings.Compare(a.Spec.ID, b.Spec.ID) })
	if after := req.GetAfter(); after != "" {
		children = children[firstBehind(children, after):]
	}
	if limit := int(min(req.GetLimit(), 1<<30)); limit > 0 {
		children = children[:min(limit, len(children))]
	}
	for chunk := range slices.Chunk(children, childChunk) {
		res := &controlpb.ListChildrenResponse{}
		for i := range chunk {
			res.Children = append(res.Children, childPB(&chunk[i]))
		}
		if err := stream.Send(res); err != nil {
			return err
		}
	}
	return nil
}

// firstBehind is the place in a sorted list of the first child behind an id.
func firstBehind(children []supervisor.Child, id string) int {
	i, found := slices.BinarySearchFunc(children, id, func(c supervisor.Child, id string) int { return strings.Compare(c.Spec.ID, id) })
	if found {
		i++
	}
	return i
}

func checkState(tried, state string) error {
	if state == "" || slices.Contains(ChildStates(), state) {
		return nil
	}
	e := badRequest(tried, "%.80q is no state of a child", clean(state))
	e.Hint = "states are " + strings.Join(ChildStates(), ", ")
	return e
}

// askRunner is how long the member that runs a child may take to tell of it. What is
// known here is told after that.
const askRunner = 3 * time.Second

// GetChild asks the member that runs the child, and tells what is known here where
// that does not answer: a child is looked at above all when something is wrong with
// its member.
func (s *childService) GetChild(ctx context.Context, req *controlpb.GetChildRequest) (*controlpb.GetChildResponse, error) {
	tried := "show child " + clean(req.GetId())
	if err := s.child(tried, req.GetId()); err != nil {
		return nil, err
	}
	var trouble *controlpb.MemberTrouble
	if runner, err := s.engine.ChildRunner(req.GetId()); err == nil && s.elsewhere(ctx, runner) {
		asking, cancel := context.WithTimeout(ctx, askRunner)
		defer cancel()
		res, err := s.forward.call(asking, runner, controlpb.Children_GetChild_FullMethodName, req)
		if err == nil {
			return res.(*controlpb.GetChildResponse), nil
		}
		if e := describe(tried, err); e.Code != UnknownChild { // it has just gone there, or away
			trouble = &controlpb.MemberTrouble{Member: clean(runner), Error: clean(err.Error()), Hint: clean(e.Hint)}
		}
	}
	child, err := s.engine.ChildByID(ctx, req.GetId())
	if err != nil {
		return nil, childError(tried, err)
	}
	return &controlpb.GetChildResponse{
		Child: childPB(&child), Spec: specPB(&child.Spec), History: historyPB(child.History), Enforced: enforcedPB(child.Enforced), Trouble: trouble,
	}, nil
}

// elsewhere tells whether a member is another one, which this call may be passed on
// to.
func (s *childService) elsewhere(ctx context.Context, member string) bool {
	return member != "" && member != s.self() && s.forward.peers != nil && !callerFrom(ctx).Forwarded
}

// childAgain is how often a child that is waited for is looked at, in case that
// nothing is said to have changed.
const childAgain = 500 * time.Millisecond

// removed is what WaitChild calls the state of a child that is not there.
const removed = "removed"

func (s *childService) WaitChild(ctx context.Context, req *controlpb.WaitChildRequest) (*controlpb.WaitChildResponse, error) {
	tried := "wait for child " + clean(req.GetId())
	if err := s.child(tried, req.GetId()); err != nil {
		return nil, err
	}
	for _, state := range req.GetStates() {
		if state == removed {
			continue
		}
		if err := checkState(tried, state); err != nil {
			return nil, err
		}
	}
	patience, err := duration(tried, "timeout", req.GetTimeout(), MaxTTL)
	if err != nil {
		return nil, err
	}
	if patience == 0 {
		patience = 10 * time.Second
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	again := time.NewTicker(childAgain)
	defer again.Stop()
	for {
		changed := s.engine.ChildrenChanged()
		res, err := s.look(ctx, req)
		if err != nil || res.GetReached() {
			return res, childError(tried, err)
		}
		select {
		case <-changed:
		case <-again.C:
		case <-late.C:
			res, err = s.look(ctx, req)
			return res, childError(tried, err)
		case <-ctx.Done():
			return nil, describe(tried, ctx.Err())
		case <-s.drain.Done():
			return nil, &Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"}
		}
	}
}

// look tells whether what a caller waits for is there.
func (s *childService) look(ctx context.Context, req *controlpb.WaitChildRequest) (*controlpb.WaitChildResponse, error) {
	states := req.GetStates()
	child, err := s.engine.ChildByID(ctx, req.GetId())
	switch {
	case errors.Is(err, supervisor.ErrUnknown) && slices.Contains(states, removed):
		return &controlpb.WaitChildResponse{Reached: true}, nil
	case err != nil:
		return nil, err
	}
	if len(states) == 0 {
		for _, state := range []supervisor.State{supervisor.Running, supervisor.Stopped, supervisor.Exited, supervisor.Failed} {
			states = append(states, string(state))
		}
	}
	return &controlpb.WaitChildResponse{
		Child: childPB(&child), Reached: child.Epoch >= req.GetEpoch() && slices.Contains(states, string(child.State)),
	}, nil
}
