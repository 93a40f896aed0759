package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
)

// childOf is the child that a request names; empty where there is none.
func childOf(m proto.Message) string {
	switch r := m.(type) {
	case interface{ GetSpec() *controlpb.ChildSpec }:
		return r.GetSpec().GetId()
	case interface{ GetId() string }:
		return r.GetId()
	}
	return ""
}

// arbiter is the member that decides about a child, and what that does, in words.
func (f *forwarder) arbiter(id string) (member, does string) {
	return f.children.ChildArbiter(id), "decides about"
}

// runner is the same of the member that runs it. Where there is no such child, or none
// runs it, whoever is asked says so.
func (f *forwarder) runner(id string) (member, does string) {
	member, err := f.children.ChildRunner(id)
	if err != nil {
		member = ""
	}
	return member, "runs"
}

// atMember has the member do a call that is for one alone, such as the child's arbiter.
// A call that may have arrived there is not made again.
func (f *forwarder) atMember(ctx context.Context, method string, req proto.Message, next grpc.UnaryHandler, who func(id string) (member, does string)) (any, error) {
	id, tried := childOf(req), triedOf(method, req)
	if checkChildID(tried, id) != nil {
		return next(ctx, req) // which says so
	}
	if callerFrom(ctx).Forwarded {
		if member, does := who(id); member != "" && member != f.peers.Self() {
			return nil, &Error{
				Code: NotOwner, Cause: fmt.Sprintf("it is not %s that %s child %s, but %s", f.peers.Self(), does, id, member),
				Hint: "members disagree about who is alive: `debughost status` tells who sees whom",
			}
		}
		return next(ctx, req)
	}
	w := f.newWait(ctx)
	for {
		changed := f.peers.Changed()
		member, _ := who(id)
		var res any
		var err error
		if member == "" || member == f.peers.Self() {
			res, err = next(ctx, req)
		} else if res, err = f.call(ctx, member, method, req); err == nil {
			f.settleChild(ctx, id, res)
		}
		if err == nil {
			return res, nil
		}
		var lost *lostError
		switch {
		case errors.As(err, &lost) && lost.sent:
			f.failed.Add(1)
			return nil, lost.unknown(tried, "")
		case !undecided(err) || !f.wait(w, changed):
			return nil, f.final(tried, "", err)
		}
		f.again.Add(1)
	}
}

// undecided tells whether an error is one of members that do not agree yet, or of
// one that does not know yet what the others know.
func undecided(err error) bool {
	switch describe("", err).Code {
	case NotOwner, Unreachable, Joining:
		return true
	}
	return false
}

// settleChild returns once what another member did to a child shows here, so that
// the caller reads what it wrote. The answer counts all the same.
func (f *forwarder) settleChild(ctx context.Context, id string, res any) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		changed := f.children.ChildrenChanged()
		child, err := f.children.ChildByID(ctx, id)
		if settled(child, err, res) {
			return
		}
		if pauseFor(ctx, lookAgain, changed) != nil {
			return
		}
	}
}

func settled(child supervisor.Child, err error, res any) bool {
	var want *controlpb.Child
	switch r := res.(type) {
	case *controlpb.RemoveChildResponse:
		return errors.Is(err, supervisor.ErrUnknown)
	case *controlpb.ReloadChildResponse:
		return err == nil && (child.Epoch > r.GetChild().GetEpoch() || child.Spec.Bundle == r.GetChild().GetBundle())
	case *controlpb.ChildResponse:
		want = r.GetChild()
	default:
		return true // nothing has changed
	}
	return err == nil && (child.Epoch > want.GetEpoch() || child.Epoch == want.GetEpoch() &&
		(string(child.State) == want.GetState() || !child.Since.Before(want.GetSince().AsTime())))
}
