package registry

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"time"
)

// errBusy says that another claim to the key is being decided.
var errBusy = errors.New("another claim to the key is being decided")

// putOwn makes r, a new version of old where that is not nil, the next of this
// member's changes.
func (c *core) putOwn(now time.Time, old, r *record) {
	c.own.applied++
	c.own.head = c.own.applied
	r.seq = c.own.applied
	c.putRecord(now, old, r)
}

// deleteOwn makes the end of r the next of this member's changes.
func (c *core) deleteOwn(now time.Time, r *record) {
	c.own.applied++
	c.own.head = c.own.applied
	d := deletion{seq: c.own.applied, key: r.key(), dup: r.dup}
	if r.dup {
		d.owner = r.owner
	}
	c.own.deletes.add(d, c.deletions, c.flushed)
	c.removeRecord(now, r)
	if a := c.attempts[d.key]; a != nil && a.rec == r {
		c.count(now, a)
	}
}

// register takes a claim that is valid. Where a majority has to be asked, it
// returns the number of the claim, for which a decision comes out later; else 0.
// A quorum claim's time is higher than floor.
func (c *core) register(now time.Time, cl *Claim, floor uint64) (e Entry, asked uint64, err error) {
	o := packOwner(cl.Owner)
	s := c.index.slot(cl.Key)
	if !cl.Duplicate {
		if err := c.free(s, &o, cl.Consistency); err != nil {
			return Entry{}, 0, err
		}
	} else if w := s.winner(); w != nil && !w.dup {
		return Entry{}, 0, &TakenError{w.entry()}
	}
	r := &record{
		slot: s, life: c.own, owner: o, value: bytes.Clone(cl.Value),
		claimed: cl.Claimed, ttl: cl.TTL, dup: cl.Duplicate,
	}
	old := c.index.find(s, c.own, cl.Duplicate, &o)
	c.inherit(now, r, old)
	quorum := cl.Consistency == Quorum && !r.quorum
	if quorum && len(c.targets)+1 < (len(c.peers)+1)/2+1 {
		if !cl.Force {
			return Entry{}, 0, c.noQuorum(cl.Key, 1, 1, nil)
		}
		quorum = false
	}
	if quorum {
		if !c.mayVote(now) {
			return Entry{}, 0, errBusy
		}
		r.claimed = max(r.claimed, floor+1)
		if holder, floor := c.blocker(now, r); holder != nil || floor != 0 {
			r.claimed = max(r.claimed, floor+1)
			if holder, floor = c.blocker(now, r); holder != nil || floor != 0 {
				return Entry{}, 0, errBusy
			}
		}
		r.pending = old == nil
	}
	if old == nil || !bytes.Equal(old.value, r.value) || old.ttl != r.ttl || old.claimed != r.claimed || old.quorum != r.quorum {
		c.putOwn(now, old, r)
	} else {
		r = old
	}
	if r.owner.kind == kindLease {
		c.renew(now, r.owner, cl.TTL)
	}
	if !quorum {
		if !c.own.owns(r) {
			if w := s.winner(); w != nil {
				return Entry{}, 0, &TakenError{w.entry()}
			}
		}
		return r.entry(), 0, nil
	}
	e, asked = r.entry(), r.seq
	c.begin(now, r, !r.pending)
	return e, asked, nil
}

// free tells why a unique key is not an owner's to register.
func (c *core) free(s *slot, o *owner, level Consistency) error {
	if c.attempts[s.key] != nil {
		if level == Quorum {
			return errBusy
		}
		return &TakenError{c.attempts[s.key].rec.entry()}
	}
	for _, q := range s.claims {
		switch {
		case q.hidden, q.owner == *o && !q.dup, q.pending && !q.promised:
		case q.pending && level == Quorum:
			return errBusy
		default:
			return &TakenError{q.entry()}
		}
	}
	return nil
}

// inherit gives a claim its time, and what the owner's entry has by now, here or
// where another member has it: whoever takes an entry over keeps its age.
func (c *core) inherit(now time.Time, r *record, old *record) {
	r.stamp = c.tick(now)
	if old != nil {
		if r.claimed == 0 {
			r.claimed = old.claimed
		}
		r.stamp, r.quorum = old.stamp, old.quorum
		return
	}
	for _, q := range r.slot.claims {
		if r.dup || q.dup || q.owner != r.owner || q.pending {
			continue
		}
		if r.claimed == 0 && !q.hidden {
			r.claimed = q.claimed
		}
		r.quorum = r.quorum || q.quorum && q.claimed == r.claimed
	}
	if r.claimed == 0 {
		r.claimed = r.stamp
	}
}

// mine calls f with this member's entries for a key that an owner has, or
// anybody if o is nil. Claims that are pending are none.
func (c *core) mine(key string, o *Owner, f func(*record)) error {
	s := c.index.slots.slot(key)
	if s == nil {
		return fmt.Errorf("change %q: %w", key, ErrNotFound)
	}
	var found []*record
	elsewhere := ""
	for _, r := range s.claims {
		switch {
		case !r.shown() || o != nil && r.owner != packOwner(*o):
		case r.life == c.own:
			found = append(found, r)
		case elsewhere == "":
			elsewhere = r.life.name
		}
	}
	switch {
	case len(found) > 0:
		for _, r := range found {
			f(r)
		}
		return nil
	case elsewhere != "":
		return &NotOriginError{Key: key, Origin: elsewhere}
	}
	return fmt.Errorf("change %q: %w", key, ErrNotFound)
}

// endOwner takes an owner's entries out, among them claims that are pending.
func (c *core) endOwner(now time.Time, o owner) (n int) {
	for _, r := range c.index.owned(&o) {
		if r.life == c.own && c.own.owns(r) {
			c.deleteOwn(now, r)
			n++
		}
	}
	if l := c.leases.byID[o.a]; l != nil && o.kind == kindLease {
		heap.Remove(&c.leases, l.at)
		delete(c.leases.byID, o.a)
	}
	return n
}

// renew lets a lease's time begin anew; one that is not known begins.
func (c *core) renew(now time.Time, o owner, ttl time.Duration) {
	l := c.leases.byID[o.a]
	if l == nil {
		l = &lease{owner: o, ttl: ttl, expires: now.Add(ttl)}
		c.leases.byID[o.a] = l
		heap.Push(&c.leases, l)
		return
	}
	if l.ttl != ttl {
		l.ttl = ttl
		for _, r := range c.index.owned(&o) {
			if r.life == c.own && r.ttl != ttl && !r.pending {
				n := r.version()
				n.ttl = ttl
				c.putOwn(now, r, n)
			}
		}
	}
	l.expires = now.Add(ttl)
	heap.Fix(&c.leases, l.at)
}

// expire ends the leases that were not renewed in time.
func (c *core) expire(now time.Time) {
	for c.leases.Len() > 0 && !now.Before(c.leases.heap[0].expires) {
		c.endOwner(now, c.leases.heap[0].owner)
	}
}

// due is when wake wants to be called next.
func (c *core) due() time.Time {
	t := c.nextHeads
	if c.leases.Len() > 0 && c.leases.heap[0].expires.Before(t) {
		t = c.leases.heap[0].expires
	}
	if at := c.reminded.Add(askEvery); len(c.attempts) > 0 && at.Before(t) {
		t = at
	}
	return t
}

// hurry has the next comparison come sooner.
func (c *core) hurry(now time.Time) {
	if t := now.Add(hurryAfter); t.Before(c.nextHeads) {
		c.nextHeads = t
	}
}

// wake does what is due at a time.
func (c *core) wake(now time.Time) {
	c.expire(now)
	c.remind(now)
	c.reminded = now
	if now.Before(c.nextHeads) {
		return
	}
	c.nextHeads = now.Add(headsEvery)
	c.compare()
	c.recallAgain(now)
	c.meta.prune(now)
	for _, name := range sortedKeys(c.origins) {
		if o := c.origins[name]; o.prev != nil && !now.Before(o.until) {
			c.drop(now, o.prev)
			o.prev = nil
		}
	}
}
