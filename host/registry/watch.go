package registry

import (
	"context"
	"iter"
	"math"
	"strings"
	"time"
)

// ChangeType says what a Change is.
type ChangeType string

// The types of changes.
const (
	Put         ChangeType = "put"          // an entry is there, or has changed
	Delete      ChangeType = "delete"       // an entry is gone
	SnapshotEnd ChangeType = "snapshot_end" // the entries before were there already; now come changes
	Reset       ChangeType = "reset"        // forget all: some changes were missed, and another snapshot follows
)

// Change is one step of what a watcher sees.
type Change struct {
	Type  ChangeType
	Entry Entry // of Put: as it is now; of Delete: as it was
	Old   Entry // of Put: what it replaces, maybe another owner's; no Key: nothing
}

// history is the last changes, for those who watch. A watcher has no queue of
// its own, it reads the history: so its bounds are the watcher's. It is empty
// while nobody watches.
type history struct {
	watchers int
	changes  []shownChange
	size     int    // bytes of values
	next     uint64 // number of the next change
	wake     chan struct{}
}

// Bounds of the history.
const (
	maxHistory      = 8192
	maxHistoryBytes = 8 << 20
	watchMax        = 64 // changes that a watcher takes at a time
)

// add takes the changes over from the index.
func (h *history) add(x *index) {
	if len(x.changes) == 0 {
		return
	}
	h.changes = append(h.changes, x.changes...)
	h.next += uint64(len(x.changes))
	for i := range x.changes {
		h.size += x.changes[i].bytes()
	}
	clear(x.changes)
	x.changes = x.changes[:0]
	if n := len(h.changes); n > 2*maxHistory || h.size > maxHistoryBytes {
		drop := max(0, n-maxHistory)
		for i := 0; i < drop || h.size > maxHistoryBytes/2 && i < n; i++ {
			h.size -= h.changes[i].bytes()
			drop = max(drop, i+1)
		}
		h.changes = append(make([]shownChange, 0, n-drop+watchMax), h.changes[drop:]...)
	}
	if h.wake != nil {
		close(h.wake)
		h.wake = nil
	}
}

func (c *shownChange) bytes() int {
	n := len(c.rec.value)
	if c.old != nil {
		n += len(c.old.value)
	}
	return n
}

func (c *shownChange) words() Change {
	out := Change{Type: c.typ, Entry: c.rec.entry()}
	if c.old != nil {
		out.Old = c.old.entry()
	}
	return out
}

// Watch returns the entries whose key begins with prefix, in the order of their
// keys, a SnapshotEnd, and then each change as it happens, with no gap and no
// duplicate. The sequence ends when ctx does, and may be ranged over by one
// goroutine at a time; each time it begins anew.
//
// A reader that is too slow for the changes gets a Reset and another snapshot.
func (r *Registry) Watch(ctx context.Context, prefix string) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		r.watching(1)
		defer r.watching(-1)
		for ctx.Err() == nil {
			r.mu.RLock()
			next := r.history.next
			recs := r.core.index.scan(nil, prefix, "", math.MaxInt)
			r.mu.RUnlock()
			for _, rec := range recs {
				if ctx.Err() != nil || !yield(Change{Type: Put, Entry: rec.entry()}) {
					return
				}
			}
			if !yield(Change{Type: SnapshotEnd}) || !r.follow(ctx, prefix, next, yield) {
				return
			}
			if !yield(Change{Type: Reset}) {
				return
			}
		}
	}
}

// follow yields changes from a number on. It returns true if some of them are
// not remembered any more.
func (r *Registry) follow(ctx context.Context, prefix string, next uint64, yield func(Change) bool) bool {
	var batch []shownChange
	for ctx.Err() == nil {
		var wait <-chan struct{}
		var ok bool
		batch, next, wait, ok = r.poll(batch[:0], prefix, next)
		if !ok {
			return true
		}
		for i := range batch {
			if ctx.Err() != nil || !yield(batch[i].words()) {
				return false
			}
		}
		if wait != nil {
			select {
			case <-wait:
			case <-ctx.Done():
			}
		}
	}
	return false
}

// poll returns some changes from number next on and the number behind them, or
// a channel that is closed when there are more.
func (r *Registry) poll(batch []shownChange, prefix string, next uint64) ([]shownChange, uint64, <-chan struct{}, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &r.history
	first := h.next - uint64(len(h.changes))
	if next < first {
		return nil, 0, nil, false
	}
	for _, c := range h.changes[next-first:] {
		if len(batch) == watchMax {
			return batch, next, nil, true
		}
		next++
		if strings.HasPrefix(c.rec.key(), prefix) {
			batch = append(batch, c)
		}
	}
	if len(batch) > 0 {
		return batch, next, nil, true
	}
	if h.wake == nil {
		h.wake = make(chan struct{})
	}
	return nil, next, h.wake, true
}

// watching counts who watches. The history is kept for them only.
func (r *Registry) watching(n int) {
	r.do(func(time.Time) {
		r.history.watchers += n
		r.core.index.watching = r.history.watchers > 0
		if r.history.watchers == 0 {
			r.history.changes, r.history.size = nil, 0
		}
	})
}
