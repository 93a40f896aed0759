package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/registry"
)

func (s *registryService) Unregister(ctx context.Context, req *controlpb.UnregisterRequest) (*controlpb.UnregisterResponse, error) {
	tried := "unregister " + clean(req.GetKey())
	if err := s.there(tried); err != nil {
		return nil, err
	}
	if err := checkWrite(tried, req.GetKey(), nil); err != nil {
		return nil, err
	}
	entries := s.selected(req.GetKey(), req.GetOwner(), req.GetOrigin())
	if len(entries) == 0 {
		return nil, noSuchKey(tried, req.GetKey())
	}
	res := &controlpb.UnregisterResponse{}
	for _, origin := range origins(entries) {
		if origin == s.self() {
			for _, e := range entries {
				if e.Origin == origin {
					n, err := s.engine.Unregister(req.GetKey(), &e.Owner)
					if err != nil && describe("", err).Code != UnknownKey {
						return nil, registryError(tried, err)
					}
					res.Removed += uint32(n)
				}
			}
			continue
		}
		if callerFrom(ctx).Forwarded {
			continue // the member that was asked sees to it
		}
		there, more := proto.Clone(req).(*controlpb.UnregisterRequest), &controlpb.UnregisterResponse{}
		there.Origin = origin
		if err := s.at(ctx, tried, origin, controlpb.Registry_Unregister_FullMethodName, there, more); err != nil {
			return nil, err
		}
		res.Removed += more.GetRemoved()
		s.settle(ctx, req.GetKey(), func(now []registry.Entry) bool {
			return !slices.ContainsFunc(now, func(n registry.Entry) bool {
				return slices.ContainsFunc(entries, func(e registry.Entry) bool { return e.Origin == origin && same(e, n) })
			})
		})
	}
	if res.Removed == 0 {
		return nil, noSuchKey(tried, req.GetKey())
	}
	return res, nil
}

func (s *registryService) Update(ctx context.Context, req *controlpb.UpdateRequest) (*controlpb.UpdateResponse, error) {
	tried := "update " + clean(req.GetKey())
	if err := s.there(tried); err != nil {
		return nil, err
	}
	if err := checkWrite(tried, req.GetKey(), req.GetValue()); err != nil {
		return nil, err
	}
	entries := s.selected(req.GetKey(), req.GetOwner(), "")
	switch {
	case len(entries) == 0:
		return nil, noSuchKey(tried, req.GetKey())
	case len(entries) > 1:
		return nil, &Error{
			Code: Conflict, Tried: tried, Cause: fmt.Sprintf("%s: %d owners share the key", tried, len(entries)),
			Hint: "say whose entry is meant: --node and --pid, --lease or --member",
		}
	}
	e := entries[0]
	if e.Origin != s.self() {
		if callerFrom(ctx).Forwarded {
			return nil, &Error{Code: NotOwner, Tried: tried, Cause: fmt.Sprintf("%s: it belongs to %s by now", tried, e.Origin)}
		}
		res := &controlpb.UpdateResponse{}
		if err := s.at(ctx, tried, e.Origin, controlpb.Registry_Update_FullMethodName, req, res); err != nil {
			return nil, err
		}
		s.settleEntry(ctx, res.GetEntry())
		return res, nil
	}
	changed, err := s.engine.Update(req.GetKey(), &e.Owner, func(old []byte) ([]byte, error) {
		if req.Expected != nil && !bytes.Equal(old, req.Expected) {
			return nil, &Error{
				Code: Conflict, Tried: tried, Cause: fmt.Sprintf("%s: its value is %.200s by now", tried, clean(string(old))),
				Hint: "read it again",
			}
		}
		return req.GetValue(), nil
	})
	if err != nil {
		return nil, registryError(tried, err)
	}
	return &controlpb.UpdateResponse{Entry: entryPB(changed)}, nil
}

func (s *registryService) Renew(ctx context.Context, req *controlpb.RenewRequest) (*controlpb.RenewResponse, error) {
	tried := "renew " + clean(req.GetLease())
	if err := s.there(tried); err != nil {
		return nil, err
	}
	if l := len(req.GetLease()); l == 0 || l > MaxKey {
		return nil, badRequest(tried, "it names no lease")
	}
	span, err := ttl(tried, req.GetTtl())
	if err != nil {
		return nil, err
	}
	switch origin := s.leaseOrigin(req.GetLease()); {
	case origin == "":
		return nil, &Error{
			Code: UnknownKey, Tried: tried, Cause: tried + ": nothing lives by this lease (any more)",
			Hint: "register again",
		}
	case origin != s.self() && callerFrom(ctx).Forwarded:
		return nil, &Error{Code: NotOwner, Tried: tried, Cause: fmt.Sprintf("%s: it belongs to %s by now", tried, origin)}
	case origin != s.self():
		res := &controlpb.RenewResponse{}
		return res, s.at(ctx, tried, origin, controlpb.Registry_Renew_FullMethodName, req, res)
	}
	n, err := s.engine.Renew(req.GetLease(), span)
	if err != nil {
		return nil, registryError(tried, err)
	}
	return &controlpb.RenewResponse{Entries: uint32(n)}, nil
}

// at has the origin of an entry do a call. It is not made again: who is lost
// takes its entries along.
func (s *registryService) at(ctx context.Context, tried, origin, method string, req, res proto.Message) error {
	if s.forward.peers == nil {
		return &Error{Code: Unreachable, Tried: tried, Cause: tried + ": member " + clean(origin) + " could not be reached"}
	}
	got, err := s.forward.call(ctx, origin, method, req)
	if err != nil {
		var lost *lostError
		if errors.As(err, &lost) && lost.sent {
			return lost.unknown(tried, "")
		}
		return s.forward.final(tried, "", err)
	}
	proto.Merge(res, got)
	return nil
}

// settleTime is how long a write waits to be seen here; it counts all the same.
const settleTime = time.Second

// settle returns once the replica here is as a write elsewhere made it.
func (s *registryService) settle(ctx context.Context, key string, done func([]registry.Entry) bool) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if done(s.engine.All(key)) {
		return
	}
	for range s.engine.Watch(ctx, key) {
		if done(s.engine.All(key)) {
			return
		}
	}
}

// settleEntry returns once an entry that another member wrote can be read here.
func (s *registryService) settleEntry(ctx context.Context, e *controlpb.RegistryEntry) {
	s.settle(ctx, e.GetKey(), func(now []registry.Entry) bool {
		return slices.ContainsFunc(now, func(n registry.Entry) bool {
			return n.Origin == e.GetOrigin() && bytes.Equal(n.Value, e.GetValue()) && proto.Equal(entryPB(n).GetOwner(), e.GetOwner())
		})
	})
}
