package target

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBucket(t *testing.T) {
	const rate = 1000
	var b bucket
	now := time.Unix(1, 0)
	after := func(d time.Duration) time.Time { now = now.Add(d); return now }
	for _, step := range []struct {
		name string
		wait time.Duration // since the step before
		n    int
		want time.Duration
	}{
		{"a burst is free", 0, 1000, 0},
		{"what is beyond it is not", 0, 500, 500 * time.Millisecond},
		{"nor is it forgotten", 100 * time.Millisecond, 0, 400 * time.Millisecond},
		{"it is paid for by time", 400 * time.Millisecond, 0, 0},
		{"which fills the bucket again", 300 * time.Millisecond, 300, 0},
		{"by no more than that", 0, 1, time.Millisecond},
		{"and after a long time to the burst alone", time.Hour, 1001, time.Millisecond},
		{"time that goes back pays for nothing", -time.Second, 0, 1001 * time.Millisecond},
	} {
		assert.InDelta(t, step.want, b.take(after(step.wait), step.n, rate), float64(time.Microsecond), step.name)
	}
	// Another rate, of a reload, holds from then on.
	var c bucket
	assert.Zero(t, c.take(now, 1000, 1000))
	assert.Equal(t, 10*time.Second, c.take(now, 1000, 100))
}

func TestWithin(t *testing.T) {
	left := 3
	some, whole := within(&left, make([]Process, 2))
	assert.Len(t, some, 2)
	assert.True(t, whole)
	some, whole = within(&left, make([]Process, 1))
	assert.Len(t, some, 1)
	assert.True(t, whole, "all of them, and none is left")
	some, whole = within(&left, make([]Process, 1))
	assert.Empty(t, some)
	assert.False(t, whole)
}

func TestBudgetDefaults(t *testing.T) {
	assert.Equal(t, Budget{Bytes: 32 << 20, Rows: 1_000_000, Share: 100}, Budget{Share: 1000}.withDefaults())
	assert.Equal(t, Budget{Bytes: 1, Rows: 2, Share: 3}, Budget{Bytes: 1, Rows: 2, Share: 3}.withDefaults())
}

// The first walk of a target may be as fast as it can; who looks again and again
// leaves it time.
func TestRhythm(t *testing.T) {
	var r rhythm
	now := time.Now()
	require.Equal(t, 100, r.share(now, 100))
	r.walked(now, now.Add(longWalk-1))
	require.Equal(t, 100, r.share(now, 100), "a short walk harms nobody")
	end := now.Add(longWalk)
	r.walked(now, end)
	require.Equal(t, watchShare, r.share(end.Add(soonAfter-1), 100))
	require.Equal(t, 20, r.share(end, 20), "less was allowed")
	require.Equal(t, 100, r.share(end.Add(soonAfter), 100))
}
