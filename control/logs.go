package control

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// DefaultLogRate is how many events a second are told of each node.
const DefaultLogRate = target.DefaultLogRate

// LogLevels are the levels of OTP's logger, the most severe first.
func LogLevels() []string { return slices.Clone(target.LogLevels) }

// logsService follows the logs of nodes: those of this member, and with
// followAll those of the others.
type logsService struct {
	controlpb.UnimplementedLogsServer
	ask     Questions
	targets TargetEngine
	forward *forwarder
	drain   context.Context
}

// logStream is the answer of both methods.
type logStream = grpc.ServerStreamingServer[controlpb.FollowLogsResponse]

func (s *logsService) Follow(req *controlpb.FollowLogsRequest, stream logStream) error {
	return s.follow(req, false, stream)
}

func (s *logsService) FollowAtLevel(req *controlpb.FollowLogsRequest, stream logStream) error {
	return s.follow(req, true, stream)
}

func (s *logsService) follow(req *controlpb.FollowLogsRequest, setLevel bool, stream logStream) error {
	const tried = "follow logs"
	q, err := logQuery(tried, req)
	if err != nil {
		return err
	}
	q.SetLevel = setLevel
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.drain, func() {
		cancel(&Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"})
	})()
	if err := stream.SendHeader(metadata.MD{}); err != nil { // the question makes sense
		return err
	}
	sink := &logSink{send: stream.Send, gather: !q.Follow}
	forwarded := callerFrom(ctx).Forwarded
	if q.Follow && !forwarded {
		err = s.notFollowed(q, sink)
	}
	switch {
	case err != nil:
	case s.forward.peers == nil || forwarded:
		err = s.ask.Logs(ctx, q, sink)
	default:
		all := &followAll{s: s, q: q, req: req, sink: sink, streams: map[string]context.CancelCauseFunc{}}
		err = all.run(ctx)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return describe(tried, err)
	}
	return sink.flush()
}

func logQuery(tried string, req *controlpb.FollowLogsRequest) (target.LogQuery, error) {
	q := target.LogQuery{
		Level: req.GetLevel(), Application: req.GetApplication(), Process: req.GetProcess(),
		Rate: int(min(req.GetRate(), 1<<30)), Follow: req.GetFollow(),
	}
	ask, err := nodesAsk(tried, req.GetNodes(), nil)
	q.Nodes = ask.Nodes
	switch {
	case err != nil:
		return q, err
	case q.Level != "" && !slices.Contains(target.LogLevels, q.Level):
		e := badRequest(tried, "there is no level %q", clean(q.Level))
		e.Hint = "levels are " + strings.Join(target.LogLevels, ", ")
		return q, e
	case q.Rate > target.MaxLogRate:
		return q, badRequest(tried, "%d events a second of each node are wanted, %d may be", q.Rate, target.MaxLogRate)
	case len(q.Application) > maxText || len(q.Process) > maxText:
		return q, badRequest(tried, "the name of an application or process is longer than %d bytes", maxText)
	}
	if since := req.GetSince(); since != nil {
		if err := since.CheckValid(); err != nil {
			return q, badRequest(tried, "since: %v", err)
		}
		q.Since = since.AsTime()
	}
	return q, nil
}

// notFollowed tells of nodes that cannot be followed now, and will be once they
// are attached.
func (s *logsService) notFollowed(q target.LogQuery, sink *logSink) error {
	states := map[string]target.Info{}
	for _, t := range s.targets.Targets() {
		states[t.Node] = t
	}
	names := q.Nodes
	if len(names) == 0 {
		for n, t := range states {
			if len(t.Topologies) > 0 {
				names = append(names, n)
			}
		}
		slices.Sort(names)
	}
	for _, name := range names {
		full, err := target.Match(name, maps.Keys(states))
		if err == nil {
			if t := states[full]; t.State != target.Attached {
				err = notAttached(t)
			}
		}
		if err != nil {
			if err := sink.Failed(target.NodeError{Node: cmp.Or(full, name), Err: err}); err != nil {
				return err
			}
		}
	}
	return nil
}

// logSink sends what targets log. Several goroutines may use it.
type logSink struct {
	mu     sync.Mutex
	send   func(*controlpb.FollowLogsResponse) error
	gather bool // events are kept for flush, which brings them in order
	events []*controlpb.FollowLogsResponse
}

var _ target.LogSink = (*logSink)(nil)

// pass sends a message as it is.
func (s *logSink) pass(res *controlpb.FollowLogsResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gather && res.GetEvent() != nil {
		s.events = append(s.events, res)
		return nil
	}
	return s.send(res)
}

// flush sends what was gathered, oldest first.
func (s *logSink) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.events, func(a, b *controlpb.FollowLogsResponse) int {
		return a.GetEvent().GetTime().AsTime().Compare(b.GetEvent().GetTime().AsTime())
	})
	for _, e := range s.events {
		if err := s.send(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *logSink) Event(e target.LogEvent) error {
	return s.pass(&controlpb.FollowLogsResponse{Part: &controlpb.FollowLogsResponse_Event{Event: logEventPB(e)}})
}

func (s *logSink) Started(l target.LogStart) error {
	return s.pass(&controlpb.FollowLogsResponse{Part: &controlpb.FollowLogsResponse_Start{Start: &controlpb.LogStart{
		Node: clean(l.Node), PrimaryLevel: clean(l.Primary), Lowered: l.Lowered, Note: clean(l.Note),
	}}})
}

func (s *logSink) Dropped(node string, n uint64) error {
	return s.pass(&controlpb.FollowLogsResponse{Part: &controlpb.FollowLogsResponse_Dropped{
		Dropped: &controlpb.LogDropped{Node: clean(node), Count: n},
	}})
}

func (s *logSink) Failed(f target.NodeError) error {
	return s.pass(&controlpb.FollowLogsResponse{Part: &controlpb.FollowLogsResponse_Error{Error: nodeErrorPB(f)}})
}

func logEventPB(e target.LogEvent) *controlpb.LogEvent {
	p := &controlpb.LogEvent{
		Time: timePB(e.Time), Level: e.Level, Node: clean(e.Node), Pid: clean(e.Pid), RegisteredName: clean(e.RegisteredName),
		Application: clean(e.Application), Mfa: clean(e.MFA), File: clean(e.File), Line: e.Line, Message: clean(e.Message),
	}
	r := e.Report
	if r == nil {
		return p
	}
	p.Report = &controlpb.LogReport{
		Kind: clean(r.Kind), Name: clean(r.Name), Class: clean(r.Class), Reason: clean(r.Reason), State: clean(r.State),
		LastMessage: clean(r.LastMessage), Ancestors: cleanAll(r.Ancestors), Child: clean(r.Child), ChildPid: clean(r.ChildPid),
	}
	for _, f := range r.Stack {
		p.Report.Stack = append(p.Report.Stack, &controlpb.Frame{Function: clean(f.Function), File: clean(f.File), Line: f.Line})
	}
	for _, f := range r.Fields {
		p.Report.Fields = append(p.Report.Fields, &controlpb.Entry{Key: clean(f.Key), Value: clean(f.Value), Truncated: f.Truncated})
	}
	return p
}
