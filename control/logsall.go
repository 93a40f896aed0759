package control

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// followAll follows the targets of all members: its own ones, and over a stream
// to each other member those of that. Each member follows what it is attached to
// of the nodes that are wanted, so that a target which changes its owner goes on
// in another stream.
type followAll struct {
	s    *logsService
	q    target.LogQuery
	req  *controlpb.FollowLogsRequest
	sink *logSink

	mu      sync.Mutex
	streams map[string]context.CancelCauseFunc // by member
}

// memberRetry is how long a member that was lost is left alone.
const memberRetry = 500 * time.Millisecond

// run returns when ctx ends, the sink fails, or, without Follow, when all have
// told what they keep.
func (f *followAll) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := f.s.ask.Logs(ctx, f.q, f.sink); err != nil {
			cancel(&sinkError{err})
		}
	})
	for first := true; ; first = false {
		changed := f.s.forward.peers.Changed()
		for member, mctx := range f.missing(ctx) {
			wg.Go(func() {
				err := f.member(mctx, member, first)
				var own *sinkError
				if errors.As(err, &own) {
					cancel(own)
				}
				f.ended(ctx, member, err)
			})
		}
		if !f.q.Follow {
			wg.Wait()
			break
		}
		pause := time.NewTimer(memberRetry)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
		if ctx.Err() != nil {
			break
		}
	}
	var own *sinkError
	if errors.As(context.Cause(ctx), &own) {
		return own.err
	}
	return nil
}

// missing returns the members that are to be followed and are not yet, each with
// the context of its stream, and ends the streams to those that are lost.
func (f *followAll) missing(ctx context.Context) map[string]context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]context.Context{}
	for _, m := range f.s.forward.peers.Members() {
		end := f.streams[m.Name]
		switch {
		case m.Name == f.s.forward.peers.Self():
		case !m.State.Usable():
			if end != nil {
				end(&lostError{member: m.Name, err: stateError(m)})
			}
		case end == nil:
			mctx, cancel := context.WithCancelCause(ctx)
			f.streams[m.Name] = cancel
			out[m.Name] = mctx
		}
	}
	return out
}

// ended notes the end of a member's stream, and tells of the targets that this
// costs.
func (f *followAll) ended(ctx context.Context, member string, err error) {
	f.mu.Lock()
	f.streams[member](nil)
	delete(f.streams, member)
	f.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		return
	}
	for _, t := range f.s.targets.Targets() {
		if alive, _, _ := strings.Cut(t.Node, "@"); t.Owner == member &&
			(len(f.q.Nodes) == 0 || slices.Contains(f.q.Nodes, t.Node) || slices.Contains(f.q.Nodes, alive)) {
			_ = f.sink.Failed(target.NodeError{Node: t.Node, Err: err}) // who gave up is told by ctx
		}
	}
}

// member passes on what one member tells. What is kept is asked for once.
func (f *followAll) member(ctx context.Context, member string, first bool) error {
	conn, err := f.s.forward.peers.Conn(member)
	if err != nil {
		return &lostError{member: member, err: err}
	}
	f.s.forward.passed.Add(1)
	octx, cancel := f.s.forward.outgoing(ctx)
	defer cancel()
	req := proto.Clone(f.req).(*controlpb.FollowLogsRequest)
	if !first && f.q.Follow {
		req.Since = nil
	}
	var p peer.Peer
	fail := func(err error) error {
		var lost *lostError
		if errors.As(context.Cause(ctx), &lost) {
			return lost
		}
		return f.s.forward.peerError(ctx, member, p.Addr != nil, err)
	}
	client := controlpb.NewLogsClient(conn)
	call := client.Follow
	if f.q.SetLevel {
		call = client.FollowAtLevel
	}
	answer, err := call(octx, req, grpc.Peer(&p), grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return fail(err)
	}
	for {
		res, err := answer.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fail(err)
		}
		if err := f.sink.pass(res); err != nil {
			return &sinkError{err}
		}
	}
}

// notAttached is the error of a target that is not.
func notAttached(t target.Info) error {
	why := string(t.State)
	if t.Reason != "" {
		why += ": " + t.Reason
	}
	return &Error{
		Code: NotAttached, Node: t.Node, Hint: t.Hint,
		Cause: t.Node + " is not attached (" + why + "); it is followed once it is",
	}
}
