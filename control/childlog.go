package control

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

const (
	// maxTail is how many lines may be asked for from the end.
	maxTail = 1_000_000
	// lastWords is how long the member that ran a child is listened to after the
	// child is another's.
	lastWords = time.Second
	// memberStream is the stream of lines that debughost adds.
	memberStream = "member"
)

// ReadChildLog passes the question on to the member that runs the child, and with
// follow to the next one when that changes.
func (s *childService) ReadChildLog(req *controlpb.ReadChildLogRequest, stream controlpb.Children_ReadChildLogServer) error {
	tried := "read the log of child " + clean(req.GetId())
	if err := s.child(tried, req.GetId()); err != nil {
		return err
	}
	if req.GetTail() > maxTail {
		return badRequest(tried, "%d lines from the end are wanted, %d may be", req.GetTail(), maxTail)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.drain, func() {
		cancel(&Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"})
	})()
	if _, err := s.engine.ChildByID(ctx, req.GetId()); err != nil {
		return childError(tried, err)
	}
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	l := &childLog{s: s, id: req.GetId(), o: sdk.LogOptions{Tail: int(req.GetTail()), Follow: req.GetFollow()}, send: stream.Send}
	err := l.read(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return childError(tried, err)
}

// childLog is one such call.
type childLog struct {
	s    *childService
	id   string
	o    sdk.LogOptions
	send func(*controlpb.ReadChildLogResponse) error

	// seen is by member the time of its last line: what a member is asked for again it
	// tells from the beginning.
	seen map[string]time.Time
}

// read goes from member to member with the child.
func (l *childLog) read(ctx context.Context) error {
	if callerFrom(ctx).Forwarded || l.s.forward.peers == nil {
		return l.here(ctx, l.s.self())
	}
	for last := ""; ; {
		changed := l.s.engine.ChildrenChanged()
		runner, err := l.s.engine.ChildRunner(l.id)
		switch {
		case err != nil: // it was removed
			return l.gone(last, err)
		case runner == "" && !l.o.Follow:
			return &Error{
				Code: Conflict, Cause: "no member runs it, and so none has a log of it",
				Hint: "`debughost child show " + l.id + "` tells why",
			}
		case runner != "":
			if err := l.next(ctx, last, runner); err != nil || !l.o.Follow {
				return err
			}
			last, l.o.Tail = runner, 0
		}
		if err := pauseFor(ctx, childAgain, changed); err != nil {
			return err
		}
	}
}

// next reads at one member. Following, its error is nil where the child may be found
// elsewhere, or there again.
func (l *childLog) next(ctx context.Context, last, runner string) error {
	if last != "" && last != runner {
		if err := l.told(runner); err != nil {
			return err
		}
	}
	err := l.at(ctx, runner)
	var own *sinkError
	switch {
	case errors.As(err, &own):
		return own.err
	case ctx.Err() != nil:
		return ctx.Err()
	case l.o.Follow && passing(err):
		return nil
	}
	return err
}

// pauseFor returns after a time, or sooner when something changes.
func pauseFor(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	rest := time.NewTimer(d)
	defer rest.Stop()
	select {
	case <-changed:
	case <-rest.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// passing tells whether an error is one of a member that a child has left.
func passing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return true
	}
	switch describe("", err).Code {
	case NoLog, Unreachable, NotOwner, UnknownChild, Stopping, Canceled, Joining:
		return true
	}
	return false
}

// gone ends a log that was followed because the child is no more.
func (l *childLog) gone(last string, err error) error {
	if last != "" && errors.Is(err, supervisor.ErrUnknown) {
		return nil
	}
	return err
}

// told says between lines that the child is on another member.
func (l *childLog) told(runner string) error {
	line := &controlpb.ChildLogLine{Time: timePB(time.Now()), Stream: memberStream, Line: []byte(clean(runner)), Member: clean(runner)}
	return l.send(&controlpb.ReadChildLogResponse{Lines: []*controlpb.ChildLogLine{line}})
}

// at reads at one member, until the child is another's.
func (l *childLog) at(ctx context.Context, runner string) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if l.o.Follow {
		wg.Go(func() { l.until(ctx, runner, cancel) })
	}
	if runner == l.s.self() {
		return l.here(ctx, runner)
	}
	return l.there(ctx, runner)
}

// until cancels some time after the child is not a member's any more.
func (l *childLog) until(ctx context.Context, runner string, cancel func()) {
	for {
		changed := l.s.engine.ChildrenChanged()
		if now, err := l.s.engine.ChildRunner(l.id); err != nil || now != runner {
			rest := time.NewTimer(lastWords)
			defer rest.Stop()
			select {
			case <-rest.C:
				cancel()
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// there passes the answer of another member on.
func (l *childLog) there(ctx context.Context, runner string) error {
	f := l.s.forward
	conn, err := f.peers.Conn(runner)
	if err != nil {
		return &lostError{member: runner, err: err}
	}
	f.passed.Add(1)
	ctx, cancel := f.outgoing(ctx)
	defer cancel()
	var p peer.Peer
	after := l.seen[runner]
	req := &controlpb.ReadChildLogRequest{Id: l.id, Tail: uint32(l.o.Tail), Follow: l.o.Follow}
	answer, err := controlpb.NewChildrenClient(conn).ReadChildLog(ctx, req, grpc.Peer(&p), grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return f.peerError(ctx, runner, p.Addr != nil, err)
	}
	for {
		res, err := answer.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return f.peerError(ctx, runner, p.Addr != nil, err)
		}
		if err := l.pass(runner, after, res); err != nil {
			return &sinkError{err}
		}
	}
}

// pass sends the lines that are newer than a time.
func (l *childLog) pass(runner string, after time.Time, res *controlpb.ReadChildLogResponse) error {
	res.Lines = slices.DeleteFunc(res.GetLines(), func(line *controlpb.ChildLogLine) bool { return !line.GetTime().AsTime().After(after) })
	if len(res.GetLines()) == 0 {
		return nil
	}
	if l.seen == nil {
		l.seen = map[string]time.Time{}
	}
	l.seen[runner] = res.GetLines()[len(res.GetLines())-1].GetTime().AsTime()
	return l.send(res)
}

// here reads on this member. Lines go in lots: those of a flood soon, single ones
// at once or nearly.
func (l *childLog) here(ctx context.Context, runner string) error {
	after := l.seen[runner]
	lot := &logLot{member: clean(runner), send: func(res *controlpb.ReadChildLogResponse) error { return l.pass(runner, after, res) }}
	err := l.s.engine.ChildLogs(ctx, l.id, l.o, lot.add)
	if errors.Is(err, sdk.ErrNotFound) || errors.Is(err, supervisor.ErrNoRun) {
		err = &Error{
			Code: NoLog, Cause: "there is none on " + clean(runner) + ": the child does not run there",
			Hint: "`debughost child show " + l.id + "` tells what became of it",
		}
	}
	return errors.Join(err, lot.close())
}
