package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
)

// Bounds of what may be asked of the registry.
const (
	MaxKey   = 512      // bytes
	MaxValue = 64 << 10 // bytes
	MaxTTL   = 24 * time.Hour
	MinTTL   = 100 * time.Millisecond
	// entryChunk is how many entries go into one message of a list.
	entryChunk = 500
)

// reserved are the prefixes of keys that members write themselves.
var reserved = []string{"target/", "seen/", "child/", "childstate/", "drain/", "member/"}

// registryService serves the registry. Reads are of this member's replica. A
// write is passed on to the member that an entry belongs to, and answered once
// the replica here shows it, so that the caller reads what it wrote.
type registryService struct {
	controlpb.UnimplementedRegistryServer
	engine  RegistryEngine // nil: there is none
	forward *forwarder
	self    func() string
	publish func(events.Event)
	drain   context.Context
}

func (s *registryService) there(tried string) error {
	if s.engine == nil {
		return &Error{Code: Failed, Tried: tried, Cause: tried + ": this debughost has no registry"}
	}
	return nil
}

func (s *registryService) Register(ctx context.Context, req *controlpb.RegisterRequest) (*controlpb.RegisterResponse, error) {
	tried := "register " + clean(req.GetKey())
	claim, err := s.claim(tried, req)
	if err != nil {
		return nil, err
	}
	if origin := s.leaseOrigin(req.GetLease()); origin != "" && origin != s.self() && !callerFrom(ctx).Forwarded {
		res := &controlpb.RegisterResponse{}
		if err := s.at(ctx, tried, origin, controlpb.Registry_Register_FullMethodName, req, res); err != nil {
			return nil, err
		}
		s.settleEntry(ctx, res.GetEntry())
		return res, nil
	}
	e, err := s.engine.Register(ctx, claim)
	if err != nil {
		return nil, registryError(tried, err)
	}
	if req.GetForce() && claim.Consistency == registry.Quorum {
		s.publish(events.Event{
			Type: events.QuorumForced, Reason: "registered without asking whether there is a quorum",
			Fields: map[string]string{"key": claim.Key, "owner": ownerText(claim.Owner), "by": callerFrom(ctx).String()},
		})
	}
	return &controlpb.RegisterResponse{Entry: entryPB(e)}, nil
}

// claim checks a request and says in the registry's words what it asks for.
func (s *registryService) claim(tried string, req *controlpb.RegisterRequest) (registry.Claim, error) {
	c := registry.Claim{Key: req.GetKey(), Value: req.GetValue(), Duplicate: req.GetDuplicate(), Force: req.GetForce()}
	if err := s.there(tried); err != nil {
		return c, err
	}
	if err := checkWrite(tried, req.GetKey(), req.GetValue()); err != nil {
		return c, err
	}
	var err error
	if c.TTL, err = ttl(tried, req.GetTtl()); err != nil {
		return c, err
	}
	switch c.Consistency = registry.Consistency(req.GetConsistency()); c.Consistency {
	case "":
		c.Consistency = registry.Local
	case registry.Local, registry.Quorum:
	default:
		return c, badRequest(tried, "consistency %q is none of local, quorum", clean(string(c.Consistency)))
	}
	process, lease := req.GetNode() != "" || req.GetPid() != "", c.TTL > 0 || req.GetLease() != ""
	switch {
	case process && lease:
		return c, badRequest(tried, "an entry lives as long as a process or as long as it is renewed, not both")
	case process:
		c.Owner, err = s.process(tried, req.GetNode(), req.GetPid())
	case lease && c.TTL == 0:
		return c, badRequest(tried, "a lease needs a time to live")
	case len(req.GetLease()) > MaxKey:
		return c, badRequest(tried, "the name of the lease is longer than %d bytes", MaxKey)
	case lease:
		c.Owner = registry.Owner{Kind: registry.OwnerLease, Lease: req.GetLease()}
		if c.Owner.Lease == "" {
			c.Owner.Lease = newID()
		}
	default:
		c.Owner = registry.Owner{Kind: registry.OwnerMember, Member: s.self()}
	}
	return c, err
}

// process is the owner that a node and a process name. The interceptor has seen
// to it that this member is attached to the node.
func (s *registryService) process(tried, node, pid string) (registry.Owner, error) {
	if err := checkProcess(tried, node, pid); err != nil {
		return registry.Owner{}, err
	}
	return registry.Owner{Kind: registry.OwnerPid, Node: node, Pid: pidText(pid)}, nil
}

// pidText writes a pid as nodes do, and leaves other text be.
func pidText(text string) string {
	if id, serial, err := etf.ParsePid(text); err == nil {
		return fmt.Sprintf("<0.%d.%d>", id, serial)
	}
	return text
}

func checkKey(tried, key string) error {
	switch {
	case key == "":
		return badRequest(tried, "it names no key")
	case len(key) > MaxKey:
		return badRequest(tried, "the key has %d bytes, %d are allowed", len(key), MaxKey)
	case !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }):
		return badRequest(tried, "the key has characters that can't be printed")
	}
	return nil
}

func checkWrite(tried, key string, value []byte) error {
	if err := checkKey(tried, key); err != nil {
		return err
	}
	if len(value) > MaxValue {
		return badRequest(tried, "the value has %d bytes, %d are allowed", len(value), MaxValue)
	}
	for _, p := range reserved {
		if strings.HasPrefix(key, p) {
			return badRequest(tried, "keys that begin with %s are debughost's own", p)
		}
	}
	return nil
}

// leaseOrigin is the member that has what lives by a lease; "" where nothing
// does.
func (s *registryService) leaseOrigin(lease string) string {
	if lease == "" {
		return ""
	}
	owner := registry.Owner{Kind: registry.OwnerLease, Lease: lease}
	for _, key := range s.engine.Keys(owner) {
		for _, e := range s.engine.All(key) {
			if e.Owner == owner {
				return e.Origin
			}
		}
	}
	return ""
}

// selected are the entries of a key that are meant.
func (s *registryService) selected(key string, sel *controlpb.EntrySelector, origin string) []registry.Entry {
	pid := pidText(sel.GetPid())
	is := func(want, has string) bool { return want == "" || want == has }
	return slices.DeleteFunc(slices.Clone(s.engine.All(key)), func(e registry.Entry) bool {
		node := is(sel.GetNode(), e.Owner.Node) || !strings.Contains(sel.GetNode(), "@") && strings.HasPrefix(e.Owner.Node, sel.GetNode()+"@")
		return !(node && is(pid, e.Owner.Pid) && is(sel.GetLease(), e.Owner.Lease) && is(sel.GetMember(), e.Owner.Member) && is(origin, e.Origin))
	})
}

// origins are the members that entries belong to, each once, in order.
func origins(entries []registry.Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Origin)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// same tells whether two entries are one registration at two times.
func same(a, b registry.Entry) bool {
	return a.Key == b.Key && a.Owner == b.Owner && a.Origin == b.Origin
}

func noSuchKey(tried, key string) error {
	return &Error{
		Code: UnknownKey, Tried: tried, Cause: fmt.Sprintf("%s: nobody has registered it", tried),
		Hint: "`debughost registry list` tells what there is",
	}
}

// registryError adds to an error of the registry what helps.
func registryError(tried string, err error) error {
	e := describe(tried, err)
	if e.Code == NoQuorum && e.Hint == "" {
		e.Hint = "`debughost members` tells who is missing; --force does without them"
	}
	return e
}
