package control

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// nodesRequest is a question to several targets.
type nodesRequest interface {
	proto.Message
	GetNodes() []string
}

// across asks each member about its own targets, and puts the answers together:
// what a handler knows are targets of this member alone. It is for methods that
// fan_out; ListProcesses, whose answer is a stream, has its own fanOut.
func (f *forwarder) across(ctx context.Context, method string, req nodesRequest, next grpc.UnaryHandler) (any, error) {
	a := &acrossCall{f: f, method: method, next: next, answer: f.answers[method].New().Interface(), w: f.newWait(ctx), pending: map[string]error{}}
	if callerFrom(ctx).Forwarded {
		return a.own(ctx, req)
	}
	nodes := req.GetNodes()
	for _, n := range nodes {
		if err := checkNode("call "+shortMethod(method), n); err != nil {
			return nil, err
		}
	}
	if len(nodes) == 0 {
		for _, t := range f.targets.Targets() {
			if t.State == target.Attached || len(t.Topologies) > 0 { // not what is listed for a while only
				nodes = append(nodes, t.Node)
			}
		}
	}
	for len(nodes) > 0 {
		changed := f.peers.Changed()
		clear(a.pending)
		if err := a.ask(ctx, req, nodes); err != nil {
			return nil, err
		}
		nodes = nodes[:0:0]
		for n := range a.pending {
			nodes = append(nodes, n)
		}
		if len(nodes) > 0 && !f.wait(a.w, changed) {
			break
		}
	}
	for _, n := range nodes {
		a.failed(n, f.final("", n, a.pending[n]))
	}
	sortByNode(a.answer)
	return a.answer, nil
}

// acrossCall is one such call.
type acrossCall struct {
	f      *forwarder
	method string
	next   grpc.UnaryHandler
	w      *waiting

	mu      sync.Mutex // guards what follows
	answer  proto.Message
	pending map[string]error // targets to ask again, and why
	refused error            // of the whole question: it is wrong, or the caller gave up
}

// own answers another member, about those targets that are this member's.
func (a *acrossCall) own(ctx context.Context, req nodesRequest) (any, error) {
	var own []string
	for _, n := range req.GetNodes() {
		if _, member, err := a.f.peers.Owner(n); err != nil || member != a.f.peers.Self() {
			a.failed(n, a.f.notOwner(n))
			continue
		}
		own = append(own, n)
	}
	if len(own) == 0 {
		return a.answer, nil
	}
	res, err := a.next(ctx, withNodes(req, own))
	if err != nil {
		return nil, err
	}
	proto.Merge(a.answer, res.(proto.Message))
	return a.answer, nil
}

// ask puts the question to all members that own one of the nodes.
func (a *acrossCall) ask(ctx context.Context, req nodesRequest, names []string) error {
	groups := map[string][]string{}
	for _, name := range names {
		node, member, err := a.f.peers.Owner(name)
		switch {
		case err != nil:
			a.failed(name, err)
		case !slices.Contains(groups[member], node): // not named twice
			groups[member] = append(groups[member], node)
		}
	}
	var wg sync.WaitGroup
	for member, nodes := range groups {
		wg.Go(func() {
			var res any
			var err error
			if member == "" || member == a.f.peers.Self() {
				res, err = a.next(ctx, withNodes(req, nodes))
			} else {
				res, err = a.f.call(ctx, member, a.method, withNodes(req, nodes))
			}
			a.take(member, nodes, res, err)
		})
	}
	wg.Wait()
	return a.refused
}

// take puts one member's answer to the others.
func (a *acrossCall) take(member string, nodes []string, res any, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		switch describe("", err).Code {
		case BadRequest, Canceled, Denied:
			a.refused = err
			return
		}
		for _, n := range nodes {
			a.later(member, n, err)
		}
		return
	}
	part := proto.Clone(res.(proto.Message))
	errs := errorsOf(part)
	dropErrors(part)
	proto.Merge(a.answer, part)
	for _, e := range errs {
		a.later(member, e.GetNode(), &Error{Code: Code(e.GetCode()), Cause: e.GetError(), Hint: e.GetHint(), Node: e.GetNode()})
	}
}

// later has a target asked again, or notes its error for good. mu is held.
func (a *acrossCall) later(member, node string, err error) {
	if a.f.worthWaiting(a.w, node, member, err) {
		a.pending[node] = err
		return
	}
	addError(a.answer, node, err)
}

func (a *acrossCall) failed(node string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	addError(a.answer, node, err)
}

// withNodes is the request about other targets.
func withNodes(req proto.Message, nodes []string) proto.Message {
	req = proto.Clone(req)
	m := req.ProtoReflect()
	fd := m.Descriptor().Fields().ByName("nodes")
	list := m.Mutable(fd).List()
	list.Truncate(0)
	for _, n := range nodes {
		list.Append(protoreflect.ValueOfString(clean(n)))
	}
	return req
}

func errorsField(m proto.Message) protoreflect.FieldDescriptor {
	return m.ProtoReflect().Descriptor().Fields().ByName("errors")
}

func errorsOf(m proto.Message) []*controlpb.NodeError {
	var out []*controlpb.NodeError
	list := m.ProtoReflect().Get(errorsField(m)).List()
	for i := range list.Len() {
		if e, ok := list.Get(i).Message().Interface().(*controlpb.NodeError); ok {
			out = append(out, e)
		}
	}
	return out
}

func dropErrors(m proto.Message) { m.ProtoReflect().Clear(errorsField(m)) }

func addError(m proto.Message, node string, err error) {
	e := nodeErrorPB(target.NodeError{Node: node, Err: err})
	m.ProtoReflect().Mutable(errorsField(m)).List().Append(protoreflect.ValueOfMessage(e.ProtoReflect()))
}

// sortByNode sorts lists whose entries are of nodes by these; those of one node
// stay in their order.
func sortByNode(m proto.Message) {
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !fd.IsList() || fd.Message() == nil {
			continue
		}
		node := fd.Message().Fields().ByName("node")
		if node == nil || node.Kind() != protoreflect.StringKind || !m.ProtoReflect().Has(fd) {
			continue
		}
		list := m.ProtoReflect().Mutable(fd).List()
		all := make([]protoreflect.Value, list.Len())
		for i := range all {
			all[i] = list.Get(i)
		}
		slices.SortStableFunc(all, func(a, b protoreflect.Value) int {
			return cmp.Compare(a.Message().Get(node).String(), b.Message().Get(node).String())
		})
		for i, v := range all {
			list.Set(i, v)
		}
	}
}
