package registry

import (
	"hash/maphash"
	"strings"

	"github.com/google/btree"
)

// index finds records by key, by owner and in the order of keys, and says what
// each change means to readers.
type index struct {
	slots  table // as readers without a lock see it: of the last publish
	order  *btree.BTreeG[*slot]
	owners map[uint64]*record // by the owner's hash; linked by older
	seed   maphash.Seed

	touched []*slot // since the last publish; some of them twice, or gone by now

	shown    int // entries that readers see
	all      int // records
	watching bool
	changes  []shownChange // since they were last taken, while watching
}

// shownChange is a Change that has not been put into words.
type shownChange struct {
	typ      ChangeType
	rec, old *record
}

func newIndex() index {
	return index{
		slots:  table{seed: maphash.MakeSeed()},
		order:  btree.NewG(32, func(a, b *slot) bool { return a.key < b.key }),
		owners: make(map[uint64]*record),
		seed:   maphash.MakeSeed(),
	}
}

// slot returns the slot of a key, a new one where there is none. An empty slot
// is not in the index: replace puts it there.
func (x *index) slot(key string) *slot {
	if s := x.slots.slot(key); s != nil {
		return s
	}
	return &slot{key: key}
}

// find returns the record of a life for a key: the unique one, or the duplicate
// of this owner. It takes as long as the shorter of the key's claims and the
// owner's entries.
func (x *index) find(s *slot, l *life, dup bool, o *owner) *record {
	if !dup {
		for _, r := range s.claims {
			if r.dup {
				break
			}
			if r.life == l {
				return r
			}
		}
		return nil
	}
	mine := x.owners[x.hash(o)]
	for _, r := range s.claims {
		if r.life == l && r.dup && r.owner == *o {
			return r
		}
		if mine == nil {
			break
		}
		if mine.slot == s && mine.life == l && mine.dup && mine.owner == *o {
			return mine
		}
		mine = mine.older
	}
	return nil
}

func (x *index) hash(o *owner) uint64 { return maphash.Comparable(x.seed, *o) }

// replace takes old out and puts r in; either may be nil. Both belong to slot s
// and to one life.
func (x *index) replace(s *slot, old, r *record) {
	w0 := s.winner()
	var gone, came *record
	if old != nil {
		if old.shown() {
			gone = old
		}
		s.remove(old)
		x.unlinkOwner(old)
		x.all--
	}
	if r != nil {
		if len(s.claims) == 0 && old == nil {
			x.slots.put(s)
			x.order.ReplaceOrInsert(s)
		}
		s.add(r)
		x.linkOwner(r)
		x.all++
		if r.shown() {
			came = r
		}
	}
	if len(s.claims) == 0 {
		x.slots.drop(s)
		x.order.Delete(s)
	}
	x.tell(s, w0, gone, came)
	x.touched = append(x.touched, s)
}

// show makes a record count, or not.
func (x *index) show(r *record, visible bool) {
	if r.hidden == !visible {
		return
	}
	w0 := r.slot.winner()
	r.hidden = !visible
	x.touched = append(x.touched, r.slot)
	switch {
	case r.pending:
	case visible:
		x.tell(r.slot, w0, nil, r)
	default:
		x.tell(r.slot, w0, r, nil)
	}
}

// publish ends a step of the core: what it has changed becomes what Lookup finds,
// key by key in the order in which they changed. Before, no reader sees half of
// what a step does to a key.
func (x *index) publish() {
	for _, s := range x.touched {
		x.slots.publish(s.key)
	}
	if cap(x.touched) > maxTouched {
		x.touched = nil
	}
	clear(x.touched)
	x.touched = x.touched[:0]
}

// maxTouched is for how many slots room is kept between steps.
const maxTouched = 1024

// tell says what readers see of a step: the winner was w0; gone was shown and
// came is shown now, as far as they are not nil.
func (x *index) tell(s *slot, w0, gone, came *record) {
	w1 := s.winner()
	unique0, unique1 := w0 != nil && !w0.dup, w1 != nil && !w1.dup
	switch {
	case !unique0 && !unique1:
		// Duplicates before and after: only the one that changed does.
		if came != nil && came.dup {
			x.put(came, gone)
		} else if gone != nil && gone.dup {
			x.del(gone)
		}
	case w0 == w1:
	case unique0 && unique1:
		x.put(w1, w0)
	case unique0:
		x.del(w0)
		for _, r := range s.claims {
			if r.dup && r.shown() {
				x.put(r, nil)
			}
		}
	default:
		if gone != nil && gone.dup {
			x.del(gone)
		}
		for _, r := range s.claims {
			if r.dup && r.shown() && r != came {
				x.del(r)
			}
		}
		x.put(w1, nil)
	}
}

func (x *index) put(r, old *record) {
	if old == nil {
		x.shown++
	}
	if x.watching {
		x.changes = append(x.changes, shownChange{Put, r, old})
	}
}

func (x *index) del(r *record) {
	x.shown--
	if x.watching {
		x.changes = append(x.changes, shownChange{Delete, r, nil})
	}
}

func (x *index) linkOwner(r *record) {
	h := x.hash(&r.owner)
	if head := x.owners[h]; head != nil {
		r.older = head
		head.newer = r
	}
	x.owners[h] = r
}

func (x *index) unlinkOwner(r *record) {
	if r.older != nil {
		r.older.newer = r.newer
	}
	switch h := x.hash(&r.owner); {
	case r.newer != nil:
		r.newer.older = r.older
	case r.older != nil:
		x.owners[h] = r.older
	default:
		delete(x.owners, h)
	}
	r.older, r.newer = nil, nil
}

// owned returns the records of an owner, in no order.
func (x *index) owned(o *owner) []*record {
	var out []*record
	for r := x.owners[x.hash(o)]; r != nil; r = r.older {
		if r.owner == *o {
			out = append(out, r)
		}
	}
	return out
}

// scan appends to recs what readers see below a prefix, in the order of keys,
// beginning behind the key after where that is not empty, until max or the end
// is reached. A key's records are never split.
func (x *index) scan(recs []*record, prefix, after string, max int) []*record {
	from := &slot{key: prefix}
	if after > prefix {
		from.key = after
	}
	x.order.AscendGreaterOrEqual(from, func(s *slot) bool {
		if !strings.HasPrefix(s.key, prefix) {
			return false
		}
		if after != "" && s.key == after {
			return true
		}
		if len(recs) >= max {
			return false
		}
		recs = s.appendShown(recs)
		return true
	})
	return recs
}

// count returns how many records scan would find.
func (x *index) count(prefix string) (n int) {
	var recs []*record
	x.order.AscendGreaterOrEqual(&slot{key: prefix}, func(s *slot) bool {
		if !strings.HasPrefix(s.key, prefix) {
			return false
		}
		recs = s.appendShown(recs[:0])
		n += len(recs)
		return true
	})
	return n
}

func (s *slot) appendShown(recs []*record) []*record {
	w := s.winner()
	if w == nil || !w.dup {
		if w != nil {
			recs = append(recs, w)
		}
		return recs
	}
	for _, r := range s.claims {
		if r.dup && r.shown() {
			recs = append(recs, r)
		}
	}
	return recs
}
