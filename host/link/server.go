package link

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/debughost/debughost/host/events"
	linkpb "github.com/debughost/debughost/host/link/proto"
)

// server is the other end: what other members open with us.
type server struct {
	linkpb.UnimplementedLinkServer
	links *Links
}

// Exchange takes the messages of one member until its stream ends.
func (s *server) Exchange(stream grpc.BidiStreamingServer[linkpb.Frame, linkpb.Frame]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	from := first.GetHello().GetMember()
	if err := s.admit(stream.Context(), from); err != nil {
		return err
	}
	us := &linkpb.Hello{Member: s.links.cfg.Member, Epoch: s.links.cfg.Epoch}
	if err := stream.Send(&linkpb.Frame{Part: &linkpb.Frame_Hello{Hello: us}}); err != nil {
		return err
	}
	for {
		f, err := stream.Recv()
		if err != nil {
			s.links.cfg.Hint(from, err)
			return err
		}
		msg := f.GetRegistry()
		s.links.received.Add(uint64(len(msg)))
		if err := s.links.cfg.Receive(from, msg); err != nil {
			s.links.cfg.Log.WithField("member", from).WithField("err", err).Warn("message of a member is not understood")
			return status.Errorf(codes.InvalidArgument, "read message of the registry: %v", err)
		}
	}
}

// admit checks that a caller is who it says, and another one than we are.
func (s *server) admit(ctx context.Context, member string) error {
	if member == "" || member == s.links.cfg.Member {
		return status.Errorf(codes.InvalidArgument, "greet member %s: %q cannot be the caller's name", s.links.cfg.Member, member)
	}
	p, ok := grpcpeer.FromContext(ctx)
	if !ok || s.links.cfg.PeerName == nil {
		return nil
	}
	if name, known := s.links.cfg.PeerName(p.AuthInfo); known && name != member {
		return status.Errorf(codes.PermissionDenied, "greet member %s: the certificate is of %q, not of %q", s.links.cfg.Member, name, member)
	}
	return nil
}

// WatchEvents tells our own events.
func (s *server) WatchEvents(req *linkpb.WatchEventsRequest, stream grpc.ServerStreamingServer[linkpb.Event]) error {
	if err := s.admit(stream.Context(), req.GetMember()); err != nil {
		return err
	}
	bus := s.links.cfg.Events
	if bus == nil {
		return status.Error(codes.Unimplemented, "there are no events")
	}
	after, skip := req.GetAfter(), 0
	if req.GetEpoch() != s.links.cfg.Epoch {
		after = 0
	}
	own := func(e events.Event) bool { return e.Member == bus.Member() && !everywhere(e.Type) }
	if after == 0 { // it hears of us for the first time
		for _, e := range bus.History(events.Filter{}) {
			if own(e) {
				skip++
			}
		}
		skip -= int(min(req.GetHistory(), historyMax))
	}
	for e := range bus.Subscribe(stream.Context(), after) {
		if !own(e) {
			continue
		}
		if skip--; skip >= 0 {
			continue
		}
		if err := stream.Send(s.event(e)); err != nil {
			return err
		}
	}
	return stream.Context().Err()
}

// everywhere tells whether each member sees such events by itself: how the other
// members do.
func everywhere(t events.Type) bool {
	return strings.HasPrefix(string(t), "member_") && t != events.MemberStarted && t != events.MemberStopping
}

func (s *server) event(e events.Event) *linkpb.Event {
	clean := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	p := &linkpb.Event{
		Epoch: s.links.cfg.Epoch, Seq: e.Seq, Time: timestamppb.New(e.Time), Type: string(e.Type),
		Node: clean(e.Node), Plugin: clean(e.Plugin), Topology: clean(e.Topology), Reason: clean(e.Reason),
	}
	for k, v := range e.Fields {
		if p.Fields == nil {
			p.Fields = make(map[string]string, len(e.Fields))
		}
		p.Fields[clean(k)] = clean(v)
	}
	return p
}
