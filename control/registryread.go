package control

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/registry"
)

func (s *registryService) Lookup(_ context.Context, req *controlpb.LookupRequest) (*controlpb.LookupResponse, error) {
	tried := "look up " + clean(req.GetKey())
	if err := s.there(tried); err != nil {
		return nil, err
	}
	if err := checkKey(tried, req.GetKey()); err != nil {
		return nil, err
	}
	entries := s.engine.All(req.GetKey())
	if len(entries) == 0 {
		return nil, noSuchKey(tried, req.GetKey())
	}
	return &controlpb.LookupResponse{Entries: entriesOf(entries)}, nil
}

func (s *registryService) List(req *controlpb.ListEntriesRequest, stream controlpb.Registry_ListServer) error {
	const tried = "list the registry"
	if err := s.there(tried); err != nil {
		return err
	}
	if err := checkPrefix(tried, req.GetPrefix()); err != nil {
		return err
	}
	var chunk []*controlpb.RegistryEntry
	send := func() error {
		defer func() { chunk = nil }()
		return stream.Send(&controlpb.ListEntriesResponse{Entries: chunk})
	}
	left, size := int(req.GetLimit()), 0
	for e := range s.engine.Select(req.GetPrefix()) {
		if e.Key <= req.GetAfter() && req.GetAfter() != "" ||
			req.GetOrigin() != "" && e.Origin != req.GetOrigin() || req.GetNode() != "" && e.Owner.Node != req.GetNode() {
			continue
		}
		chunk = append(chunk, entryPB(e))
		if size += len(e.Key) + len(e.Value); len(chunk) == entryChunk || size > 1<<20 {
			if err := send(); err != nil {
				return err
			}
			size = 0
		}
		if left--; left == 0 {
			break
		}
	}
	if len(chunk) > 0 {
		return send()
	}
	return nil
}

func (s *registryService) Watch(req *controlpb.WatchEntriesRequest, stream controlpb.Registry_WatchServer) error {
	const tried = "watch the registry"
	if err := s.there(tried); err != nil {
		return err
	}
	if err := checkPrefix(tried, req.GetPrefix()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.drain, cancel)()
	changes := s.engine.Watch(ctx, req.GetPrefix())
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for c := range changes {
		p := &controlpb.EntryChange{Type: string(c.Type)}
		if c.Entry.Key != "" {
			p.Entry = entryPB(c.Entry)
		}
		if c.Old != nil {
			p.Old = entryPB(*c.Old)
		}
		if err := stream.Send(p); err != nil {
			return err
		}
	}
	if err := stream.Context().Err(); err != nil {
		return describe(tried, err)
	}
	return &Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"}
}

func checkPrefix(tried, prefix string) error {
	if len(prefix) > MaxKey {
		return badRequest(tried, "the prefix has %d bytes, keys have at most %d", len(prefix), MaxKey)
	}
	return nil
}

// ttl reads an optional time to live; 0 means none.
func ttl(tried string, d *durationpb.Duration) (time.Duration, error) {
	v, err := duration(tried, "ttl", d, MaxTTL)
	if err == nil && v > 0 && v < MinTTL {
		err = badRequest(tried, "ttl %v is shorter than %v", v, MinTTL)
	}
	return v, err
}

func entriesOf(entries []registry.Entry) []*controlpb.RegistryEntry {
	var out []*controlpb.RegistryEntry
	for _, e := range entries {
		out = append(out, entryPB(e))
	}
	return out
}

func entryPB(e registry.Entry) *controlpb.RegistryEntry {
	p := &controlpb.RegistryEntry{
		Key: clean(e.Key), Value: e.Value, Origin: clean(e.Origin), Duplicate: e.Duplicate, Since: timePB(e.Since),
		Owner: &controlpb.RegistryOwner{
			Kind: string(e.Owner.Kind), Node: clean(e.Owner.Node), Pid: clean(e.Owner.Pid), Creation: e.Owner.Creation,
			Child: clean(e.Owner.Child), Member: clean(e.Owner.Member), Lease: clean(e.Owner.Lease),
		},
	}
	if e.TTL > 0 {
		p.Ttl = durationpb.New(e.TTL)
	}
	return p
}

// ownerText says who holds an entry, for a person.
func ownerText(o registry.Owner) string {
	switch o.Kind {
	case registry.OwnerPid:
		return fmt.Sprintf("%s on %s", o.Pid, o.Node)
	case registry.OwnerChild:
		return "child " + o.Child
	case registry.OwnerLease:
		return "lease " + o.Lease
	}
	return "member " + o.Member
}
