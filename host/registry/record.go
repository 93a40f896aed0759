package registry

import (
	"slices"
	"time"
)

// owner is an Owner as records hold it: 40 bytes instead of 104.
type owner struct {
	kind     uint8 // one of kindPid and its neighbours; 0: none
	creation uint32
	a, b     string // a pid's node and pid; else the id, and nothing
}

const (
	kindPid = 1 + iota
	kindChild
	kindMember
	kindLease
)

func packOwner(o Owner) owner {
	switch o.Kind {
	case OwnerPid:
		return owner{kindPid, o.Creation, o.Node, o.Pid}
	case OwnerChild:
		return owner{kind: kindChild, a: o.Child}
	case OwnerMember:
		return owner{kind: kindMember, a: o.Member}
	case OwnerLease:
		return owner{kind: kindLease, a: o.Lease}
	}
	return owner{}
}

func (o *owner) unpack() (out Owner) {
	o.fill(&out)
	return out
}

// fill makes an empty out the owner.
func (o *owner) fill(out *Owner) {
	switch o.kind {
	case kindPid:
		out.Kind, out.Node, out.Pid, out.Creation = OwnerPid, o.a, o.b, o.creation
	case kindChild:
		out.Kind, out.Child = OwnerChild, o.a
	case kindMember:
		out.Kind, out.Member = OwnerMember, o.a
	case kindLease:
		out.Kind, out.Lease = OwnerLease, o.a
	}
}

// record is one version of an entry. A change makes another record, so that who
// got hold of one may read it without the lock: the fields of the first block
// never change. The others belong to the core.
type record struct {
	slot    *slot
	life    *life
	value   []byte
	owner   owner
	claimed uint64
	ttl     time.Duration
	dup     bool
	quorum  bool // a majority has agreed to it
	pending bool // a majority is being asked: not shown, and its key is reserved

	hidden   bool // its origin is out of sight
	promised bool // this member gave the key to it
	marked   bool // seen by the walk that is under way
	asked    bool // among the claims to vote on

	// The others are not read by a lookup, which thus touches two cache lines.
	stamp        uint64  // hybrid logical clock of its origin's registering it; never changes
	seq          uint64  // number of the change that made this version; never changes
	prev, next   *record // in its life, by seq
	older, newer *record // among those of the same owner (or of its hash), in no order
}

// version returns a copy that is not in yet.
func (r *record) version() *record {
	return &record{
		slot: r.slot, life: r.life, value: r.value, owner: r.owner, claimed: r.claimed, stamp: r.stamp,
		seq: r.seq, ttl: r.ttl, dup: r.dup, quorum: r.quorum, pending: r.pending,
	}
}

func (r *record) key() string { return r.slot.key }

func (r *record) shown() bool { return !r.hidden && !r.pending }

func (r *record) entry() (e Entry) {
	r.fill(&e, r.slot.key)
	return e
}

// fill makes an empty e the entry.
func (r *record) fill(e *Entry, key string) {
	e.Key, e.Value, e.Origin = key, r.value, r.life.name
	e.Duplicate, e.TTL, e.Claimed, e.Since = r.dup, r.ttl, r.claimed, wall(r.claimed)
	r.owner.fill(&e.Owner)
}

func wall(hlc uint64) time.Time { return time.Unix(0, int64(hlc)) }

// rank is what decides between claims to one key. It is the same on all
// members, and total.
type rank struct {
	dup, pending, quorum bool
	claimed, stamp       uint64
	origin               string
	epoch, seq           uint64
}

func (r *record) rank() rank {
	return rank{r.dup, r.pending, r.quorum, r.claimed, r.stamp, r.life.name, r.life.epoch, r.seq}
}

// before tells whether a claim ranked a goes before one ranked b: a unique one
// before duplicates, a confirmed one before one that is pending, one that a
// majority agreed to before one that nobody was asked about, then the older
// one. Of two as old, as when an owner's entry was taken over by another
// member, the one that was registered later.
func (a rank) before(b rank) bool {
	switch {
	case a.dup != b.dup:
		return b.dup
	case a.pending != b.pending:
		return b.pending
	case a.quorum != b.quorum:
		return a.quorum
	case a.claimed != b.claimed:
		return a.claimed < b.claimed
	case a.stamp != b.stamp:
		return a.stamp > b.stamp
	case a.origin != b.origin:
		return a.origin < b.origin
	case a.epoch != b.epoch:
		return a.epoch > b.epoch
	}
	return a.seq < b.seq
}

// slot is all claims to one key.
type slot struct {
	key    string
	claims []*record  // at least one; by rank
	one    [1]*record // room for the usual case
}

// winner is the claim that readers see: of a unique key the only one, of a
// duplicate key the first.
func (s *slot) winner() *record {
	for _, r := range s.claims {
		if !r.hidden && !r.pending {
			return r
		}
	}
	return nil
}

func (s *slot) add(r *record) {
	if len(s.claims) == 0 {
		s.one[0] = r
		s.claims = s.one[:]
		return
	}
	i, _ := s.find(r)
	s.claims = slices.Insert(s.claims, i, r)
	s.one[0] = nil
}

func (s *slot) remove(r *record) {
	if i, ok := s.find(r); ok {
		s.claims = slices.Delete(s.claims, i, i+1)
	}
}

func (s *slot) find(r *record) (int, bool) {
	want := r.rank()
	return slices.BinarySearchFunc(s.claims, want, func(q *record, want rank) int {
		switch got := q.rank(); {
		case got == want:
			return 0
		case got.before(want):
			return -1
		}
		return 1
	})
}
