package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/supervisor"
)

func (s *childService) DrainMember(ctx context.Context, req *controlpb.DrainMemberRequest) (*controlpb.DrainMemberResponse, error) {
	tried := "drain member " + clean(req.GetMember())
	if req.GetUndo() {
		tried = "undo the drain of member " + clean(req.GetMember())
	}
	if err := s.knows(tried, req.GetMember()); err != nil {
		return nil, err
	}
	if req.GetUndo() && !slices.Contains(s.engine.DrainingMembers(), req.GetMember()) {
		return nil, &Error{Code: Conflict, Tried: tried, Cause: tried + ": it is not being drained", Hint: "`debughost members` tells which are"}
	}
	if err := s.engine.DrainMember(ctx, req.GetMember(), req.GetUndo()); err != nil {
		return nil, childError(tried, err)
	}
	left, err := newDrainView(req.GetMember()).left(ctx, s.engine)
	if err != nil {
		return nil, childError(tried, err)
	}
	return &controlpb.DrainMemberResponse{Children: uint32(len(left))}, nil
}

// knows tells whether there is such a member.
func (s *childService) knows(tried, member string) error {
	if err := s.there(tried); err != nil {
		return err
	}
	if member == "" || len(member) > maxText {
		return badRequest(tried, "it names no member")
	}
	if s.cluster == nil && member != s.self() ||
		s.cluster != nil && !slices.ContainsFunc(s.cluster.Members(), func(m cluster.Member) bool { return m.Name == member }) {
		return unknownMember(tried)
	}
	return nil
}

const (
	// drainPause is the least time between two messages of WatchDrain.
	drainPause = 100 * time.Millisecond
	// drainShown is how many children a message of WatchDrain has.
	drainShown = 20
)

func (s *childService) WatchDrain(req *controlpb.WatchDrainRequest, stream controlpb.Children_WatchDrainServer) error {
	tried := "watch the drain of member " + clean(req.GetMember())
	if err := s.knows(tried, req.GetMember()); err != nil {
		return err
	}
	view, of := newDrainView(req.GetMember()), 0
	var last *controlpb.WatchDrainResponse
	for {
		changed := s.engine.ChildrenChanged()
		left, err := view.left(stream.Context(), s.engine)
		if err != nil {
			return childError(tried, err)
		}
		of = max(of, len(left))
		res := &controlpb.WatchDrainResponse{
			Draining: slices.Contains(s.engine.DrainingMembers(), req.GetMember()), Left: uint32(len(left)), Of: uint32(of),
		}
		for i := range left[:min(len(left), drainShown)] {
			res.Children = append(res.Children, childPB(&left[i]))
		}
		if !proto.Equal(res, last) {
			if err := stream.Send(res); err != nil {
				return err
			}
		}
		if last = res; len(left) == 0 || !res.GetDraining() {
			return nil
		}
		if err := s.pause(stream.Context(), tried, changed); err != nil {
			return err
		}
	}
}

// pause returns when something has changed, or some time has passed, and not too
// soon.
func (s *childService) pause(ctx context.Context, tried string, changed <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.drain, cancel)()
	began := time.Now()
	err := pauseFor(ctx, childAgain, changed)
	if rest := drainPause - time.Since(began); err == nil && rest > 0 {
		err = pauseFor(ctx, rest, nil)
	}
	switch {
	case err == nil:
		return nil
	case s.drain.Err() != nil:
		return &Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"}
	}
	return describe(tried, err)
}

// drainView knows which children are on their way from a member: one that is
// assigned elsewhere may run there still, and is left until it does not move any
// more.
type drainView struct {
	member string
	seen   map[string]bool // children that ran there, by id
	begun  bool
}

func newDrainView(member string) *drainView {
	return &drainView{member: member, seen: map[string]bool{}}
}

// left are the children that run on the member or move from it, by id. Of those that
// move when it is asked first it cannot know where from, and counts all.
func (v *drainView) left(ctx context.Context, engine Supervisor) ([]supervisor.Child, error) {
	children, err := engine.Children(ctx, supervisor.Filter{})
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(children, func(c supervisor.Child) bool {
		switch {
		case c.Member == v.member && active(c.State):
			v.seen[c.Spec.ID] = true
			return false
		case c.State == supervisor.Moving && (!v.begun || v.seen[c.Spec.ID]):
			v.seen[c.Spec.ID] = true
			return false
		}
		return true
	})
	v.begun = true
	slices.SortFunc(left, func(a, b supervisor.Child) int { return strings.Compare(a.Spec.ID, b.Spec.ID) })
	return left, nil
}

// active tells whether a child in a state may have a process.
func active(s supervisor.State) bool {
	switch s {
	case supervisor.Starting, supervisor.Running, supervisor.Backoff, supervisor.Moving, supervisor.Stopping:
		return true
	}
	return false
}
