package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// fanOut is one question to the targets of several members. Each member is
// asked about its own ones; what they answer goes to one sink.
//
// A target whose member is lost, or is not its owner any more, is asked about
// once more where that can't show a row twice; what is left at the end is an
// error of its own.
type fanOut struct {
	s    *processService
	q    target.ProcessQuery
	w    *waiting
	all  bool // no target was named
	rank bool // rows are gathered for the ranking rather than handed on

	mu      sync.Mutex // one goroutine at a time uses what follows
	sink    *rowSink
	rows    []target.Process
	pending map[string]error // targets to ask again, and why
	moved   map[string]bool  // targets that were to be asked again before
}

// askOwn is askHere for a member that asks: about the targets that it means to
// be this one's.
func (s *processService) askOwn(ctx context.Context, q target.ProcessQuery, sink *rowSink) (map[string]bool, error) {
	var own []string
	for _, n := range q.Nodes {
		if _, member, err := s.forward.peers.Owner(n); err != nil || member != s.forward.peers.Self() {
			if err := sink.Failed(target.NodeError{Node: n, Err: s.forward.notOwner(n)}); err != nil {
				return nil, err
			}
			continue
		}
		own = append(own, n)
	}
	if len(own) == 0 {
		return nil, nil
	}
	q.Nodes = own
	return s.askHere(ctx, q, sink)
}

// askAll asks all members about the targets of each, and returns the targets
// that were asked about.
func (s *processService) askAll(ctx context.Context, q target.ProcessQuery, sink *rowSink) (map[string]bool, error) {
	w := s.forward.newWait(ctx)
	if end := w.began.Add(q.Timeout); q.Timeout > 0 && end.Before(w.until) {
		w.until = end
	}
	o := &fanOut{s: s, q: q, w: w, all: len(q.Nodes) == 0, rank: q.Limit > 0, sink: sink, moved: map[string]bool{}}
	if o.rank { // each member must give as many as all might
		o.q.Limit, o.q.Offset = min(q.Limit+q.Offset, maxLimit), 0
	}
	nodes := q.Nodes
	if o.all {
		for _, t := range s.engine.Targets() {
			if t.State == target.Attached || len(t.Topologies) > 0 { // not what is listed for a while only
				nodes = append(nodes, t.Node)
			}
		}
	}
	asked := map[string]bool{}
	for first := true; len(nodes) > 0; first = false {
		changed := s.forward.peers.Changed()
		o.pending = map[string]error{}
		groups, err := o.group(nodes)
		if err != nil {
			return nil, err
		}
		for _, group := range groups {
			for _, n := range group {
				asked[n] = true
				o.moved[n] = o.moved[n] || !first
			}
		}
		if err := o.ask(ctx, groups); err != nil {
			return nil, err
		}
		nodes = nodes[:0:0]
		for n := range o.pending {
			nodes = append(nodes, n)
		}
		slices.Sort(nodes)
		if len(nodes) > 0 && !s.forward.wait(w, changed) {
			break
		}
	}
	for _, n := range nodes {
		if err := o.sink.Failed(target.NodeError{Node: n, Err: o.s.forward.final("", n, o.pending[n])}); err != nil {
			return nil, err
		}
	}
	if rows := target.Rank(o.rows, q); o.rank && len(rows) > 0 {
		return asked, o.sink.Rows(rows)
	}
	return asked, nil
}

// group sorts targets by the member that is to be asked about them; "" stands
// for this one.
func (o *fanOut) group(names []string) (map[string][]string, error) {
	groups := map[string][]string{}
	for _, name := range names {
		node, member, err := o.s.forward.peers.Owner(name)
		if err != nil {
			if err := o.sink.Failed(target.NodeError{Node: name, Err: err}); err != nil {
				return nil, err
			}
			continue
		}
		if member == o.s.forward.peers.Self() {
			member = ""
		}
		if !slices.Contains(groups[member], node) { // named twice
			groups[member] = append(groups[member], node)
		}
	}
	return groups, nil
}

// ask puts the question to all groups at once. An error is one of the whole.
func (o *fanOut) ask(ctx context.Context, groups map[string][]string) error {
	g, ctx := errgroup.WithContext(ctx)
	for member, nodes := range groups {
		g.Go(func() error {
			if member != "" {
				return o.askMember(ctx, member, nodes)
			}
			q := o.q
			q.Nodes = nodes
			return o.s.engine.Processes(ctx, q, ownSink{o})
		})
	}
	return g.Wait()
}

// ownSink takes what this member's own targets answer.
type ownSink struct{ o *fanOut }

func (s ownSink) Rows(rows []target.Process) error {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	if s.o.rank {
		s.o.rows = append(s.o.rows, rows...)
		return nil
	}
	return s.o.sink.Rows(rows)
}

func (s ownSink) Failed(f target.NodeError) error { return s.o.failed(f.Node, f.Err, true) }

// failed notes why a target has no rows: to ask again, if that may help and
// again says that it does no harm, or for good.
func (o *fanOut) failed(node string, err error, again bool) error {
	_, member, _ := o.s.forward.peers.Owner(node)
	worth := o.s.forward.worthWaiting(o.w, node, member, err)
	o.mu.Lock()
	defer o.mu.Unlock()
	if describe("", err).Code == NotAttached && o.all { // many are not, which holds up nobody
		worth = worth && o.moved[node]
	}
	if again && worth {
		o.pending[node] = err
		return nil
	}
	if o.sink.failed[node] {
		return nil
	}
	return o.sink.Failed(target.NodeError{Node: node, Err: err})
}

// askMember asks another member about targets of its own. An error is one of
// the caller's; what the member does costs its targets only.
func (o *fanOut) askMember(ctx context.Context, member string, nodes []string) error {
	passed, err := o.stream(ctx, member, nodes)
	var own *sinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own.err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	for _, n := range nodes {
		if err := o.failed(n, err, !passed); err != nil {
			return err
		}
	}
	return nil
}

// sinkError is an error of the one who asked, not of a member.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }

// idleTime is how long a member may be silent, beyond what it gives its
// targets.
const idleTime = 7 * time.Second

// stream reads one member's answer to its end. passed tells whether rows of it
// were handed on; those of a ranking count only once all are there.
func (o *fanOut) stream(ctx context.Context, member string, nodes []string) (passed bool, err error) {
	conn, err := o.s.forward.peers.Conn(member)
	if err != nil {
		return false, &lostError{member: member, err: err}
	}
	o.s.forward.passed.Add(1)
	ctx, cancel := o.s.forward.outgoing(ctx)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silence := idleTime + o.q.Window + o.q.Timeout
	idle := time.AfterFunc(silence, func() {
		stop(&Error{
			Code: Timeout, Cause: fmt.Sprintf("member %s did not answer in time", member),
			Hint: "`debughost members` tells how it does",
		})
	})
	defer idle.Stop()
	var p peer.Peer
	fail := func(err error) error {
		var late *Error
		if errors.As(context.Cause(ctx), &late) {
			return late
		}
		return o.s.forward.peerError(ctx, member, p.Addr != nil, err)
	}
	answer, err := controlpb.NewProcessesClient(conn).ListProcesses(ctx, o.request(nodes), grpc.Peer(&p), grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return false, fail(err)
	}
	ended := false
	var rows []target.Process
	for {
		res, err := answer.Recv()
		switch {
		case errors.Is(err, io.EOF) && ended:
			return passed, nil
		case errors.Is(err, io.EOF):
			return passed, &lostError{member: member, sent: true, err: errors.New("its answer was cut short")}
		case err != nil:
			return passed, fail(err)
		}
		idle.Stop() // a slow reader is not the member's fault
		switch part := res.GetPart().(type) {
		case *controlpb.ListProcessesResponse_Rows:
			if o.rank {
				rows = appendRows(rows, part.Rows.GetProcesses())
				break
			}
			passed = true
			err = o.pass(res, len(part.Rows.GetProcesses()))
		case *controlpb.ListProcessesResponse_Error:
			e := part.Error
			err = o.failed(e.GetNode(), &Error{Code: Code(e.GetCode()), Cause: e.GetError(), Hint: e.GetHint(), Node: e.GetNode()}, true)
		case *controlpb.ListProcessesResponse_End:
			ended = true
			err = ownSink{o}.Rows(rows)
		}
		if err != nil {
			return passed, &sinkError{err}
		}
		idle.Reset(silence)
	}
}

// request is the question as another member gets it.
func (o *fanOut) request(nodes []string) *controlpb.ListProcessesRequest {
	req := &controlpb.ListProcessesRequest{
		Nodes: nodes, Sort: string(o.q.Sort), Filter: o.q.Filter, Function: o.q.Function, Application: o.q.Application,
		Limit: uint32(o.q.Limit),
	}
	if o.q.Window > 0 {
		req.Window = durationpb.New(o.q.Window)
	}
	if o.q.Timeout > 0 {
		req.Timeout = durationpb.New(o.q.Timeout)
	}
	return req
}

// pass hands a message with n rows on as it is.
func (o *fanOut) pass(res *controlpb.ListProcessesResponse, n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sink.rows += uint64(n)
	return o.sink.send(res)
}

func appendRows(rows []target.Process, more []*controlpb.Process) []target.Process {
	for _, p := range more {
		rows = append(rows, target.Process{
			Node: p.GetNode(), Pid: p.GetPid(), RegisteredName: p.GetRegisteredName(), Memory: p.GetMemory(),
			Reductions: p.GetReductions(), MessageQueueLen: p.GetMessageQueueLen(), CurrentFunction: p.GetCurrentFunction(),
			InitialCall: p.GetInitialCall(), Status: p.GetStatus(), Rate: p.GetRate(),
		})
	}
	return rows
}
