package control

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// forwarder passes calls on to the members that have to do them: once, with
// the caller's deadline, and with an error that names the member which could
// not be reached.
//
// Where the member is lost meanwhile, or has let go of the target, the call
// waits for the next owner, and is made again if that can do no harm: a call
// that acts on something is not repeated once it may have arrived.
type forwarder struct {
	peers   Peers // nil: this member is the only one
	targets TargetEngine
	// children tells who decides about a child; nil: there are none.
	children Supervisor
	rules    map[string]*controlpb.Access
	answers  map[string]protoreflect.MessageType // of unary methods, by full name

	patience time.Duration // how long a call waits for a new owner
	// margin is how much of the time that is left stays with this member.
	margin func(left time.Duration) time.Duration
	// registered is called with what another member registered for a caller, and
	// returns once that can be read here; may be nil.
	registered func(context.Context, *controlpb.RegistryEntry)

	passed, again, failed atomic.Uint64 // calls: passed on, made once more, and failed for want of a member
}

const (
	// usualPatience covers the time until a frozen member counts as dead.
	usualPatience = 8 * time.Second
	// youth is how long a target without an owner is waited for, and one that is
	// not attached yet, from when its state began: it has just been found, or is
	// changing its owner.
	youth = 3 * time.Second
	// lookAgain bounds the pause before the owner is looked up anew: at most one
	// of them, in case that nothing is said to have changed, at least the other.
	lookAgain, breather = 200 * time.Millisecond, 5 * time.Millisecond
)

func newForwarder(peers Peers, targets TargetEngine) *forwarder {
	f := &forwarder{
		peers: peers, targets: targets, rules: accessRules(),
		answers: map[string]protoreflect.MessageType{}, patience: usualPatience, margin: usualMargin,
	}
	for m := range methods() {
		if t, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName()); err == nil && !m.IsStreamingServer() {
			f.answers[fullMethod(m)] = t
		}
	}
	return f
}

// unary is the interceptor behind the gate.
func (f *forwarder) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	rule := f.rules[info.FullMethod]
	msg, ok := req.(proto.Message)
	if q, some := req.(nodesRequest); f.peers != nil && rule.GetFanOut() && some {
		return f.across(ctx, info.FullMethod, q, next)
	}
	if f.peers != nil && f.children != nil && rule.GetAtArbiter() && ok {
		return f.atMember(ctx, info.FullMethod, msg, next, f.arbiter)
	}
	if f.peers != nil && f.children != nil && rule.GetAtRunner() && ok {
		return f.atMember(ctx, info.FullMethod, msg, next, f.runner)
	}
	if f.peers == nil || !rule.GetAtOwner() || !ok || nodeOf(msg) == "" {
		return next(ctx, req)
	}
	if callerFrom(ctx).Forwarded {
		return f.finish(ctx, msg, next)
	}
	return f.atOwner(ctx, info.FullMethod, rule.GetDestructive(), msg, next)
}

// finish does a call that another member passed on to this one, or says that
// this is not the one to do it.
func (f *forwarder) finish(ctx context.Context, req proto.Message, next grpc.UnaryHandler) (any, error) {
	if _, member, err := f.peers.Owner(nodeOf(req)); err != nil || member != f.peers.Self() {
		return nil, f.notOwner(nodeOf(req))
	}
	res, err := next(ctx, req)
	if err != nil && describe("", err).Code == NotAttached { // it was taken from us meanwhile
		if _, member, _ := f.peers.Owner(nodeOf(req)); member != f.peers.Self() {
			return nil, f.notOwner(nodeOf(req))
		}
	}
	return res, err
}

func (f *forwarder) notOwner(node string) error {
	return &Error{Code: NotOwner, Node: node, Cause: fmt.Sprintf("%s is not attached to %s any more", f.peers.Self(), node)}
}

// atOwner has the owner of the request's target do the call.
func (f *forwarder) atOwner(ctx context.Context, method string, acts bool, req proto.Message, next grpc.UnaryHandler) (any, error) {
	tried := triedOf(method, req)
	w := f.newWait(ctx)
	for {
		changed := f.peers.Changed()
		node, member, err := f.peers.Owner(nodeOf(req))
		if err != nil {
			return nil, describe(tried, err)
		}
		var res any
		if member == "" || member == f.peers.Self() {
			res, err = next(ctx, req)
		} else {
			res, err = f.call(ctx, member, method, withNode(req, node))
			if r, ok := res.(*controlpb.RegisterResponse); ok && err == nil && f.registered != nil {
				f.registered(ctx, r.GetEntry())
			}
		}
		if err == nil {
			return res, nil
		}
		var lost *lostError
		switch {
		case errors.As(err, &lost) && acts && lost.sent:
			f.failed.Add(1)
			return nil, lost.unknown(tried, node)
		case !f.worthWaiting(w, node, member, err) || !f.wait(w, changed):
			return nil, f.final(tried, node, err)
		}
		f.again.Add(1)
	}
}

// worthWaiting tells whether an error is one of a target that is about to have
// another owner, or to be attached.
func (f *forwarder) worthWaiting(w *waiting, node, member string, err error) bool {
	switch describe("", err).Code {
	case NotOwner, Unreachable:
		return true
	case NotAttached:
		return member == "" && time.Since(w.began) < youth || f.young(node)
	}
	return false
}

// young tells whether a target was found, or got its owner, just now, and is not
// attached yet.
func (f *forwarder) young(node string) bool {
	for _, t := range f.targets.Targets() {
		if t.Node == node {
			return (t.State == target.Discovered || t.State == target.Connecting) && time.Since(t.Since) < youth ||
				t.State == target.Attached // by now
		}
	}
	return false
}

// final is what the caller hears.
func (f *forwarder) final(tried, node string, err error) error {
	e := *describe(tried, err)
	if e.Tried == "" && tried != "" {
		e.Tried, e.Cause = tried, tried+": "+e.Cause
	}
	if e.Code == Unreachable {
		f.failed.Add(1)
		e.Node = node
	}
	return &e
}

// call makes one unary call of another member. Its error is a *lostError when
// that could not be reached, else an *Error.
func (f *forwarder) call(ctx context.Context, member, method string, req proto.Message) (proto.Message, error) {
	conn, err := f.peers.Conn(member)
	if err != nil {
		return nil, &lostError{member: member, err: err}
	}
	f.passed.Add(1)
	ctx, cancel := f.outgoing(ctx)
	defer cancel()
	res := f.answers[method].New().Interface()
	var p peer.Peer
	err = conn.Invoke(ctx, method, req, res, grpc.Peer(&p), grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return nil, f.peerError(ctx, member, p.Addr != nil, err)
	}
	return res, nil
}

// outgoing makes the context of a call to another member from that of the call
// which it serves: with the original caller, and a little less time, so that
// there is some left to say who did not answer.
func (f *forwarder) outgoing(ctx context.Context) (context.Context, context.CancelFunc) {
	c := callerFrom(ctx)
	b, err := proto.Marshal(&controlpb.Forwarded{Caller: clean(c.String()), Call: c.Call})
	if err != nil {
		b = nil // it stays marked as forwarded
	}
	ctx = metadata.AppendToOutgoingContext(ctx, forwardedKey, string(b))
	if end, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, end.Add(-f.margin(time.Until(end))))
	}
	return context.WithCancel(ctx)
}

func usualMargin(left time.Duration) time.Duration { return min(max(left/10, 0), 250*time.Millisecond) }

// waiting is the time that one call has for finding an owner.
type waiting struct {
	ctx          context.Context
	began, until time.Time
}

func (f *forwarder) newWait(ctx context.Context) *waiting {
	now := time.Now()
	w := &waiting{ctx: ctx, began: now, until: now.Add(f.patience)}
	if end, ok := ctx.Deadline(); ok {
		end = end.Add(-f.margin(time.Until(end)))
		if end.Before(w.until) {
			w.until = end
		}
	}
	return w
}

// wait returns true when it is time to look for the owner again: something has
// changed, or some time has passed. False: there is no time left.
func (f *forwarder) wait(w *waiting, changed <-chan struct{}) bool {
	pause := func(d time.Duration, changed <-chan struct{}) bool {
		t := time.NewTimer(min(d, time.Until(w.until)))
		defer t.Stop()
		select {
		case <-changed:
		case <-t.C:
		case <-w.ctx.Done():
		}
		return w.ctx.Err() == nil && time.Now().Before(w.until)
	}
	return pause(breather, nil) && pause(lookAgain, changed)
}

// nodeOf is the field node of a request; empty where there is none.
func nodeOf(m proto.Message) string {
	if r, ok := m.(interface{ GetNode() string }); ok {
		return r.GetNode()
	}
	return ""
}

// withNode is the request with the target's full name.
func withNode(m proto.Message, node string) proto.Message {
	m = proto.Clone(m)
	r := m.ProtoReflect()
	if fd := r.Descriptor().Fields().ByName("node"); fd != nil {
		r.Set(fd, protoreflect.ValueOfString(clean(node)))
	}
	return m
}

// triedOf says what a call tries, as its handler does.
func triedOf(method string, req proto.Message) string {
	switch r := req.(type) {
	case *controlpb.InspectProcessRequest:
		return "inspect " + r.GetProcess() + " on " + r.GetNode()
	case *controlpb.KillProcessRequest:
		return "kill " + r.GetProcess() + " on " + r.GetNode()
	case *controlpb.GetTreeRequest:
		return "read the supervision tree of " + r.GetNode()
	case *controlpb.GetEnvironmentRequest:
		return "read the environment of " + r.GetApplication() + " on " + r.GetNode()
	case *controlpb.DescribeCodeRequest:
		return "take code from " + r.GetNode()
	case *controlpb.ReadModulesRequest:
		return "read modules of " + r.GetNode()
	case *controlpb.ReadStatesRequest:
		return "read states of " + r.GetNode()
	case *controlpb.EvaluateRequest:
		return "evaluate on " + r.GetNode()
	case *controlpb.RegisterRequest:
		return "register " + r.GetKey()
	case *controlpb.StartChildRequest:
		return "start child " + clean(r.GetSpec().GetId())
	case *controlpb.StopChildRequest:
		return "stop child " + clean(r.GetId())
	case *controlpb.RestartChildRequest:
		return "restart child " + clean(r.GetId())
	case *controlpb.MoveChildRequest:
		return "move child " + clean(r.GetId())
	case *controlpb.ReloadChildRequest:
		return "reload child " + clean(r.GetId())
	case *controlpb.OperateChildRequest:
		return "operate child " + clean(r.GetId())
	case *controlpb.RemoveChildRequest:
		return "remove child " + clean(r.GetId())
	case processRequest:
		return "call " + shortMethod(method) + " for " + r.GetProcess() + " on " + r.GetNode()
	}
	return "call " + shortMethod(method)
}
