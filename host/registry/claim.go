package registry

import (
	"fmt"
	"time"
)

// check tells what is wrong with a claim of a member, and puts in what it leaves
// out.
func (cl *Claim) check(member string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("register %.80q: %w: %s", cl.Key, ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case len(cl.Key) > MaxKey:
		return bad("the key is longer than %d bytes", MaxKey)
	case !printable(cl.Key):
		return bad("the key is empty or not printable")
	case len(cl.Value) > MaxValue:
		return bad("the value is longer than %d bytes", MaxValue)
	case cl.Consistency == "":
		cl.Consistency = Local
	case cl.Consistency != Local && cl.Consistency != Quorum:
		return bad("consistency %q is neither %s nor %s", cl.Consistency, Local, Quorum)
	}
	if cl.Duplicate && cl.Consistency == Quorum {
		return bad("a duplicate key needs no majority: there is nothing to agree on")
	}
	if cl.Owner.Kind == OwnerMember && cl.Owner.Member != member {
		return bad("only member %s can register what lives as long as it does", cl.Owner.Member)
	}
	if (cl.Owner.Kind == OwnerLease) != (cl.TTL > 0) {
		return bad("a lease has a TTL, and nothing else has one")
	}
	o := packOwner(cl.Owner)
	if o.unpack() != cl.Owner || o.kind == 0 {
		return bad("the owner has fields of another kind than %q", cl.Owner.Kind)
	}
	for _, id := range []string{o.a, o.b} {
		if len(id) > maxName || !printable(id) && !(id == "" && o.kind != kindPid) {
			return bad("the owner's id is longer than %d bytes or not printable", maxName)
		}
	}
	if o.a == "" {
		return bad("the owner has no id")
	}
	return nil
}

// lease is a client's, with all that it registered at this member.
type lease struct {
	owner   owner
	ttl     time.Duration
	expires time.Time
	at      int // in the heap
}

// leases is a heap by expiry.
type leases struct {
	byID map[string]*lease
	heap []*lease
}

func (h *leases) Len() int           { return len(h.heap) }
func (h *leases) Less(i, j int) bool { return h.heap[i].expires.Before(h.heap[j].expires) }
func (h *leases) Swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].at, h.heap[j].at = i, j
}

func (h *leases) Push(v any) {
	l := v.(*lease)
	l.at = len(h.heap)
	h.heap = append(h.heap, l)
}

func (h *leases) Pop() any {
	l := h.heap[len(h.heap)-1]
	h.heap[len(h.heap)-1] = nil
	h.heap = h.heap[:len(h.heap)-1]
	return l
}
