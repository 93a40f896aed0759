package events

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Live, as the since of Subscribe, asks for nothing that happened before.
const Live uint64 = math.MaxUint64

// Options bound what a Bus remembers. The zero value is ready to use.
type Options struct {
	Member   string           // put into events that name no member
	MaxCount int              // events kept; default 2048
	MaxAge   time.Duration    // how long one is kept; default 24 h
	Now      func() time.Time // for tests; default time.Now
}

// Bus numbers events, keeps the last of them, and hands them to subscribers.
// All methods may be called from any goroutine.
//
// A subscriber has no queue of its own: it reads the history at its own pace,
// so the history's bounds are its queue's bounds. One that falls behind them
// gets a single EventsDropped in place of what it missed.
type Bus struct {
	opts Options

	mu     sync.Mutex
	events []Event       // the history; Seq rises by one from entry to entry
	last   uint64        // Seq of the newest event ever published
	wake   chan struct{} // closed by the next Publish; nil while nobody waits
}

// New returns an empty bus. It has no goroutine and needs no closing.
func New(o Options) *Bus {
	if o.MaxCount <= 0 {
		o.MaxCount = 2048
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Bus{opts: o}
}

// Publish numbers and dates e, and returns it as it was stored. It never
// blocks on a subscriber. The caller may reuse e.Fields.
func (b *Bus) Publish(e Event) Event {
	if e.Member == "" {
		e.Member = b.opts.Member
	}
	e.Time = b.opts.Now()
	return b.add(e)
}

// Merge takes in an event of another member, which Member names: it gets a
// number here, and keeps its time. The caller hands each event on once.
func (b *Bus) Merge(e Event) Event { return b.add(e) }

// Member is whose bus it is. Events of others came by Merge.
func (b *Bus) Member() string { return b.opts.Member }

func (b *Bus) add(e Event) Event {
	e.Fields = maps.Clone(e.Fields)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	e.Seq = b.last
	b.events = append(b.events, e)
	b.prune(b.opts.Now())
	if b.wake != nil {
		close(b.wake)
		b.wake = nil
	}
	return e
}

// prune drops what is over the bounds. The caller holds mu.
func (b *Bus) prune(now time.Time) {
	n := max(0, len(b.events)-b.opts.MaxCount)
	for n < len(b.events) && now.Sub(b.events[n].Time) > b.opts.MaxAge {
		n++
	}
	if n == 0 {
		return
	}
	clear(b.events[:n]) // so that their strings and maps can be freed
	b.events = b.events[n:]
}

// Filter selects from the history. The zero value selects all of it.
type Filter struct {
	Since uint64 // only events after this Seq
	Types []Type // only these types; empty means all
	Limit int    // only the newest so many; 0 means all
}

// History returns what is remembered and passes the filter, oldest first. The
// Fields of the events are shared and must not be written.
func (b *Bus) History(f Filter) []Event {
	b.mu.Lock()
	b.prune(b.opts.Now())
	var out []Event
	for _, e := range b.from(f.Since + 1) {
		if len(f.Types) == 0 || slices.Contains(f.Types, e.Type) {
			out = append(out, e)
		}
	}
	b.mu.Unlock()
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[len(out)-f.Limit:]
	}
	return out
}

// Last returns the Seq of the newest event, 0 before the first.
func (b *Bus) Last() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// Subscribe returns the events after the one numbered since, oldest first:
// first those that are remembered, then each as it is published, with no gap
// and no duplicate. The sequence ends when ctx does, and may be ranged over
// once, by one goroutine.
//
// since 0 begins with the whole history, Live with the next event. A number
// that was not given out yet comes from an earlier life of the member, whose
// numbers began anew: it counts as 0.
//
// Where events were forgotten before the subscriber read them, one
// EventsDropped stands in their place; its Fields["count"] says how many. Its
// Seq is that of the last missed event, so that it is good as a since.
func (b *Bus) Subscribe(ctx context.Context, since uint64) iter.Seq[Event] {
	b.mu.Lock()
	next := since + 1
	switch {
	case since == Live:
		next = b.last + 1
	case since == 0 || since > b.last:
		b.prune(b.opts.Now())
		next = b.last + 1 - uint64(len(b.events))
	}
	b.mu.Unlock()

	return func(yield func(Event) bool) {
		for ctx.Err() == nil {
			batch, wake := b.poll(next)
			for _, e := range batch {
				if ctx.Err() != nil || !yield(e) {
					return
				}
				next = e.Seq + 1
			}
			if wake == nil {
				continue
			}
			select {
			case <-wake:
			case <-ctx.Done():
			}
		}
	}
}

// pollMax is how many events a subscriber takes at a time, and so how many
// one may hold beyond the history's bounds.
const pollMax = 64

// poll returns some events from number next on, or, when there are none yet, a
// channel that is closed when there are.
func (b *Bus) poll(next uint64) ([]Event, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if next > b.last {
		if b.wake == nil {
			b.wake = make(chan struct{})
		}
		return nil, b.wake
	}
	oldest := b.last + 1 - uint64(len(b.events))
	var out []Event
	if next < oldest {
		out = append(out, b.dropped(oldest-next, oldest-1))
	}
	rest := b.from(next)
	return append(out, rest[:min(len(rest), pollMax)]...), nil
}

// from returns the remembered events numbered seq and later. The caller holds
// mu and keeps nothing of the slice.
func (b *Bus) from(seq uint64) []Event {
	oldest := b.last + 1 - uint64(len(b.events))
	if seq <= oldest {
		return b.events
	}
	return b.events[min(seq-oldest, uint64(len(b.events))):]
}

func (b *Bus) dropped(count, seq uint64) Event {
	return Event{
		Seq:    seq,
		Time:   b.opts.Now(),
		Type:   EventsDropped,
		Member: b.opts.Member,
		Reason: fmt.Sprintf("%d events were forgotten before this subscriber read them", count),
		Fields: map[string]string{"count": strconv.FormatUint(count, 10)},
	}
}
