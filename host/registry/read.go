package registry

import (
	"iter"
	"slices"
	"time"
)

// scanMax is how many entries are read at a time while the lock is held.
const scanMax = 1024

// Lookup returns the entry that has a key; of a duplicate key, the oldest. It
// never waits for who changes the registry.
func (r *Registry) Lookup(key string) (e Entry, ok bool) {
	key, rec := r.core.index.slots.get(key)
	if rec == nil {
		return e, false
	}
	rec.fill(&e, key)
	return e, true
}

// All returns the entries of a key, the oldest first.
func (r *Registry) All(key string) []Entry {
	r.mu.RLock()
	var recs []*record
	if s := r.core.index.slots.slot(key); s != nil {
		recs = s.appendShown(nil)
	}
	r.mu.RUnlock()
	return entries(recs)
}

func entries(recs []*record) []Entry {
	var out []Entry
	for _, rec := range recs {
		out = append(out, rec.entry())
	}
	return out
}

// Select returns the entries whose key begins with prefix and which keep
// accepts, in the order of their keys; nil accepts all. It reads in pieces: an
// entry is as it was at some time during the iteration.
func (r *Registry) Select(prefix string, keep func(Entry) bool) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for after := ""; ; {
			r.mu.RLock()
			recs := r.core.index.scan(nil, prefix, after, scanMax)
			r.mu.RUnlock()
			for _, rec := range recs {
				if e := rec.entry(); (keep == nil || keep(e)) && !yield(e) {
					return
				}
			}
			if len(recs) < scanMax {
				return
			}
			after = recs[len(recs)-1].key()
		}
	}
}

// Count returns how many entries have a key that begins with prefix.
func (r *Registry) Count(prefix string) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if prefix == "" {
		return r.core.index.shown
	}
	return r.core.index.count(prefix)
}

// Keys returns the keys of an owner, sorted.
func (r *Registry) Keys(o Owner) []string {
	want := packOwner(o)
	var out []string
	r.mu.RLock()
	for _, rec := range r.core.index.owned(&want) {
		if w := rec.slot.winner(); w == rec || rec.dup && rec.shown() && w.dup {
			out = append(out, rec.key())
		}
	}
	r.mu.RUnlock()
	slices.Sort(out)
	return slices.Compact(out)
}

// Orphans returns the entries of processes of a node that are not shown because
// their member is out of sight, or began another life within the last minute.
// Who takes the node over registers them again, with their Claimed.
func (r *Registry) Orphans(node string) []Entry {
	r.mu.RLock()
	var recs []*record
	for _, o := range r.core.origins {
		for _, l := range []*life{o.cur, o.prev} {
			if l == nil || l == o.cur && l.visible {
				continue
			}
			for rec := l.first; rec != nil; rec = rec.next {
				if rec.owner.kind == kindPid && rec.owner.a == node && !rec.pending {
					recs = append(recs, rec)
				}
			}
		}
	}
	r.mu.RUnlock()
	slices.SortFunc(recs, func(a, b *record) int {
		if a.rank().before(b.rank()) {
			return -1
		}
		return 1
	})
	return entries(recs)
}

// PutMeta writes metadata: a small value that belongs to nobody and that all
// members have, the last write of all. ErrInvalid: the key or the value is not
// valid, or all together would have more than 256 KiB.
func (r *Registry) PutMeta(key string, value []byte) (err error) {
	r.do(func(now time.Time) { err = r.core.putMeta(now, key, value, false) })
	return err
}

// Meta returns metadata. The bytes are shared: do not change them.
func (r *Registry) Meta(key string) ([]byte, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	v, ok := r.core.meta.values[key]
	return v.value, ok && !v.deleted
}

// DeleteMeta deletes metadata, which is the last write then.
func (r *Registry) DeleteMeta(key string) (err error) {
	r.do(func(now time.Time) { err = r.core.putMeta(now, key, nil, true) })
	return err
}

// Stats is what a registry holds, and what it did since it began.
type Stats struct {
	Entries       int // that readers see
	Origins       int // members with entries or numbers, this one included
	Sent          uint64
	BytesSent     uint64
	Received      uint64
	BytesReceived uint64
	Repairs       uint64 // questions for changes that were missing
	Snapshots     uint64 // whole copies that others got, for want of a memory that far back
	Conflicts     uint64 // entries of this member that lost their key
}

// Stats returns the statistics.
func (r *Registry) Stats() Stats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.core.stats
	s.Entries, s.Origins = r.core.index.shown, len(r.core.origins)
	return s
}

// CaughtUp tells whether this replica, since it has met another member, has heard
// from all in sight what they know, and has it. It may say so falsely after some
// seconds, when one of them does not answer.
func (r *Registry) CaughtUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.core.targets) > 0 && r.core.mayVote(r.cfg.Now())
}

// Lag returns by how many changes this replica is behind what it has heard of,
// for each other member.
func (r *Registry) Lag() map[string]uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make(map[string]uint64, len(r.core.origins))
	for name, o := range r.core.origins {
		if l := o.cur; l != nil && l != r.core.own {
			out[name] = max(l.head, l.applied) - l.applied
		}
	}
	return out
}
