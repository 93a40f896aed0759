package events

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a wall clock that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func seqs(es []Event) []uint64 {
	out := []uint64{}
	for _, e := range es {
		out = append(out, e.Seq)
	}
	return out
}

// take reads n events of a subscription.
func take(t *testing.T, b *Bus, since uint64, n int) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []Event
	for e := range b.Subscribe(ctx, since) {
		if got = append(got, e); len(got) == n {
			break
		}
	}
	require.Len(t, got, n)
	return got
}

func TestPublishNumbersAndDates(t *testing.T) {
	c := &clock{t: time.Unix(100, 0)}
	b := New(Options{Member: "m1", Now: c.now})
	fields := map[string]string{"a": "1"}
	b.Publish(Event{Type: TargetFound, Seq: 77, Fields: fields})
	fields["a"] = "changed after publishing"
	c.add(time.Second)
	b.Publish(Event{Type: TargetLost, Member: "m2"})

	got := b.History(Filter{})
	assert.Equal(t, []Event{
		{Seq: 1, Time: time.Unix(100, 0), Type: TargetFound, Member: "m1", Fields: map[string]string{"a": "1"}},
		{Seq: 2, Time: time.Unix(101, 0), Type: TargetLost, Member: "m2"},
	}, got)
	assert.Equal(t, uint64(2), b.Last())
}

func TestHistoryFilters(t *testing.T) {
	b := New(Options{})
	for i := range 6 {
		b.Publish(Event{Type: []Type{TargetFound, TargetLost, PluginExited}[i%3]})
	}
	for name, tc := range map[string]struct {
		f    Filter
		want []uint64
	}{
		"all":            {Filter{}, []uint64{1, 2, 3, 4, 5, 6}},
		"since":          {Filter{Since: 4}, []uint64{5, 6}},
		"since the last": {Filter{Since: 6}, []uint64{}},
		"since later":    {Filter{Since: 60}, []uint64{}},
		"types":          {Filter{Types: []Type{TargetFound, PluginExited}}, []uint64{1, 3, 4, 6}},
		"newest":         {Filter{Limit: 2}, []uint64{5, 6}},
		"all of them":    {Filter{Since: 1, Types: []Type{TargetLost}, Limit: 5}, []uint64{2, 5}},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, seqs(b.History(tc.f))) })
	}
}

func TestHistoryIsBoundedByCountAndAge(t *testing.T) {
	c := &clock{t: time.Unix(0, 0)}
	b := New(Options{MaxCount: 3, MaxAge: time.Minute, Now: c.now})
	for range 5 {
		b.Publish(Event{})
	}
	assert.Equal(t, []uint64{3, 4, 5}, seqs(b.History(Filter{})))
	c.add(50 * time.Second)
	b.Publish(Event{})
	c.add(20 * time.Second)
	assert.Equal(t, []uint64{6}, seqs(b.History(Filter{})))
	c.add(time.Hour)
	assert.Empty(t, b.History(Filter{}))
	assert.Equal(t, uint64(6), b.Last())
	b.Publish(Event{})
	assert.Equal(t, []uint64{7}, seqs(b.History(Filter{Since: 2})))
}

func TestSubscribeBeginsWhereAsked(t *testing.T) {
	b := New(Options{MaxCount: 4})
	for range 6 {
		b.Publish(Event{Type: TargetFound})
	}
	assert.Equal(t, []uint64{3, 4, 5, 6}, seqs(take(t, b, 0, 4)), "the whole history, and nothing dropped")
	assert.Equal(t, []uint64{6}, seqs(take(t, b, 5, 1)))
	assert.Equal(t, []uint64{3, 4}, seqs(take(t, b, 99, 2)), "a number of an earlier life")

	missed := take(t, b, 1, 2)
	assert.Equal(t, EventsDropped, missed[0].Type)
	assert.Equal(t, "1", missed[0].Fields["count"])
	assert.Equal(t, []uint64{2, 3}, seqs(missed))

	live := b.Subscribe(t.Context(), Live)
	b.Publish(Event{Type: TargetLost})
	for e := range live {
		assert.Equal(t, uint64(7), e.Seq)
		break
	}
}

func TestSubscriptionEndsWithItsContext(t *testing.T) {
	b := New(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for range b.Subscribe(ctx, 0) {
			n++
			cancel()
		}
		done <- n
	}()
	b.Publish(Event{})
	assert.Equal(t, 1, <-done)
}

func TestSlowSubscriberHearsOnceWhatItMissed(t *testing.T) {
	b := New(Options{MaxCount: 10})
	sub := b.Subscribe(t.Context(), 0)
	const all = 1000
	for range all {
		b.Publish(Event{Type: TargetFound})
	}
	var got []Event
	for e := range sub {
		if got = append(got, e); e.Seq == all {
			break
		}
	}
	require.Len(t, got, 11)
	assert.Equal(t, EventsDropped, got[0].Type)
	assert.Equal(t, fmt.Sprint(all-10), got[0].Fields["count"])
	for _, e := range got[1:] {
		assert.Equal(t, TargetFound, e.Type)
	}
}

// Whatever the interleaving, a subscriber that keeps up sees each number once,
// in order, and what a slow one misses adds up.
func TestSubscribersUnderLoad(t *testing.T) {
	const publishers, each, subscribers = 4, 2000, 8
	const total = publishers * each
	for name, o := range map[string]Options{
		"room for all": {MaxCount: total},
		"too small":    {MaxCount: 16},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(o)
			var wg sync.WaitGroup
			for range subscribers {
				sub := b.Subscribe(t.Context(), 0)
				wg.Go(func() {
					var next uint64 = 1
					for e := range sub {
						if e.Type == EventsDropped {
							var n uint64
							_, _ = fmt.Sscan(e.Fields["count"], &n)
							next += n - 1
							if o.MaxCount == total {
								t.Errorf("dropped %d of a history that holds all", n)
							}
						}
						if e.Seq != next {
							t.Errorf("got event %d, want %d", e.Seq, next)
							return
						}
						if next++; next > total {
							return
						}
					}
				})
			}
			for range publishers {
				wg.Go(func() {
					for range each {
						b.Publish(Event{Type: TargetFound})
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkPublish(b *testing.B) {
	bus := New(Options{})
	b.ReportAllocs()
	for b.Loop() {
		bus.Publish(Event{Type: TargetFound, Node: "shop@db1"})
	}
}
