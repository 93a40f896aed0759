package control

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/events"
)

// eventTypes are all there are; a question for others is a slip of the pen.
var eventTypes = []events.Type{
	events.TargetFound, events.TargetDropped, events.TargetAttached, events.TargetLost, events.TargetFailed,
	events.DiscoveryFailed, events.DiscoveryRecovered,
	events.PluginStarted, events.PluginExited, events.PluginFailed, events.PluginRestarting, events.PluginStopped,
	events.ConfigReloaded, events.ConfigRejected, events.ProcessKilled, events.ProcessActed,
	events.Evaluated, events.ShellOpened, events.ShellClosed,
	events.TargetReleased, events.TargetMoved,
	events.MemberStarted, events.MemberStopping,
	events.MemberJoined, events.MemberSuspect, events.MemberUnreachable, events.MemberDead,
	events.MemberLeft, events.MemberForgotten, events.MemberRecovered,
	events.QuorumLost, events.QuorumRegained, events.QuorumForced, events.NameConflict, events.KeyRotated,
	events.ChildPlaced, events.ChildNotMoved, events.ChildReloaded, events.ChildNotLoaded, events.ChildStarted, events.ChildTakenOver, events.ChildNotStarted, events.ChildExited, events.ChildStopped, events.ChildFailed,
	events.EventsDropped,
}

// EventTypes returns the types of events that can be asked for.
func EventTypes() []string {
	var out []string
	for _, t := range eventTypes {
		out = append(out, string(t))
	}
	return out
}

type eventService struct {
	controlpb.UnimplementedEventsServer
	bus   *events.Bus
	drain context.Context
}

func (s *eventService) WatchEvents(req *controlpb.WatchEventsRequest, stream controlpb.Events_WatchEventsServer) error {
	const tried = "watch events"
	f := events.Filter{Since: req.GetAfterSeq()}
	for _, t := range req.GetTypes() {
		if !slices.Contains(eventTypes, events.Type(t)) {
			e := badRequest(tried, "there is no event type %q", clean(t))
			e.Hint = "types are " + strings.Join(EventTypes(), ", ")
			return e
		}
		f.Types = append(f.Types, events.Type(t))
	}
	since := req.GetSince()
	if since != nil {
		if err := since.CheckValid(); err != nil {
			return badRequest(tried, "since: %v", err)
		}
	}
	send := func(e events.Event) error {
		if since != nil && e.Time.Before(since.AsTime()) {
			return nil
		}
		return stream.Send(eventPB(e))
	}
	if !req.GetFollow() {
		for _, e := range s.bus.History(f) {
			if err := send(e); err != nil {
				return err
			}
		}
		return nil
	}

	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.drain, cancel)()
	seq := s.bus.Subscribe(ctx, f.Since)
	if err := stream.SendHeader(metadata.MD{}); err != nil { // says: from here on nothing is missed
		return err
	}
	wanted := func(e events.Event) bool {
		return len(f.Types) == 0 || e.Type == events.EventsDropped || slices.Contains(f.Types, e.Type)
	}
	for e := range seq {
		f.Since = e.Seq
		if !wanted(e) {
			continue
		}
		if err := send(e); err != nil {
			return err
		}
	}
	if err := stream.Context().Err(); err != nil {
		return describe(tried, err)
	}
	for _, e := range s.bus.History(f) { // how the member's stop began
		if err := send(e); err != nil {
			return err
		}
	}
	return &Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"}
}

func eventPB(e events.Event) *controlpb.Event {
	p := &controlpb.Event{
		Seq:      e.Seq,
		Time:     timePB(e.Time),
		Type:     clean(string(e.Type)),
		Member:   clean(e.Member),
		Node:     clean(e.Node),
		Plugin:   clean(e.Plugin),
		Topology: clean(e.Topology),
		Reason:   clean(e.Reason),
	}
	if len(e.Fields) > 0 {
		p.Fields = make(map[string]string, len(e.Fields))
		for k, v := range e.Fields {
			p.Fields[clean(k)] = clean(v)
		}
	}
	return p
}
