package registry

import "time"

// life is what one life of a member registered, as far as it is known here. Its
// member numbers the changes.
//
// The replica is *at* applied: whatever changed for the last time at or before
// that number is here as it is there. What changed later may be missing, old,
// or new already (during a walk). So the changes from m to n bring any replica
// that is at m or later to n, and it does not matter which replica sent them.
type life struct {
	name    string
	epoch   uint64
	visible bool

	applied     uint64
	head        uint64  // the highest number heard of
	first, last *record // by seq
	count       int
	deletes     deleteLog
	cursor      *record           // where the last answer ended: the next one begins there
	names       map[string]string // one copy of each name that many entries have

	asking time.Time // when changes were asked for; zero: no answer is awaited
	walk   *walk     // nil: no whole copy is being taken
}

// walk takes over all entries of a life from a replica whose memory of
// deletions does not reach back far enough. It comes by number, in pieces. What
// was not seen when it has passed the number at which it began is gone.
type walk struct {
	from  string // the member that sends it
	since uint64 // the sender's number when it began
	at    uint64
	moved time.Time
}

// link puts r in its place by number, which is at the end but for walks.
func (l *life) link(r *record) {
	after := l.last
	for after != nil && after.seq > r.seq {
		after = after.prev
	}
	r.prev = after
	if after == nil {
		r.next, l.first = l.first, r
	} else {
		r.next, after.next = after.next, r
	}
	if r.next == nil {
		l.last = r
	} else {
		r.next.prev = r
	}
	l.count++
}

func (l *life) unlink(r *record) {
	if l.cursor == r {
		l.cursor = r.prev
	}
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
	l.count--
}

// after returns the first record with a higher number, nil where there is none.
func (l *life) after(seq uint64) *record {
	if l.last == nil || l.last.seq <= seq {
		return nil
	}
	at := l.last
	switch {
	case seq == 0:
		return l.first
	case l.cursor != nil && distance(l.cursor.seq, seq) < l.last.seq-seq:
		at = l.cursor
	}
	for at != nil && at.seq > seq {
		at = at.prev
	}
	if at == nil {
		return l.first
	}
	for at.seq <= seq {
		at = at.next // not nil: last is behind seq
	}
	return at
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// deleteLog remembers the last deletions, for replicas that missed them.
type deleteLog struct {
	from uint64 // all deletions behind this number are here
	all  []deletion
	size int // of their keys and owners, in bytes
}

type deletion struct {
	seq   uint64
	key   string
	dup   bool
	owner owner // of a duplicate
}

// What a replica remembers of deletions: one that was out of reach for longer
// gets a whole copy.
const (
	maxDeletions     = 4096
	maxDeletionBytes = 256 << 10 // of keys and owners
)

func (d *deletion) bytes() int { return len(d.key) + len(d.owner.a) + len(d.owner.b) }

// add appends a deletion, and forgets old ones where they are more than max:
// those up to number old, which the others were told about. Of the rest, it
// forgets some when they are very many more.
func (g *deleteLog) add(d deletion, max int, old uint64) {
	g.all = append(g.all, d)
	g.size += d.bytes()
	if len(g.all) <= max && g.size <= maxDeletionBytes {
		return
	}
	n := len(g.all)/4 + 1 // at once, so that each costs the same on average
	if len(g.all) <= 64*max && g.all[n-1].seq > old {
		return
	}
	for i := range g.all[:n] {
		g.size -= g.all[i].bytes()
	}
	g.from = g.all[n-1].seq
	g.all = append(make([]deletion, 0, len(g.all)), g.all[n:]...)
}

// reset forgets all deletions up to a number.
func (g *deleteLog) reset(from uint64) { *g = deleteLog{from: from} }

// after returns the deletions with a higher number.
func (g *deleteLog) after(seq uint64) []deletion {
	lo, hi := 0, len(g.all)
	for lo < hi {
		if mid := (lo + hi) / 2; g.all[mid].seq <= seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return g.all[lo:]
}

// share returns s as a string, the same for all that are equal as far as that
// pays.
func (l *life) share(s []byte) string {
	if v, ok := l.names[string(s)]; ok {
		return v
	}
	v := string(s)
	if len(l.names) < maxNames {
		if l.names == nil {
			l.names = make(map[string]string)
		}
		l.names[v] = v
	}
	return v
}

const maxNames = 4096
