package dist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWatch counts steps of a second, with a tick time of eight.
func TestWatch(t *testing.T) {
	type state struct {
		in, out int64
		writing bool
	}
	run := func(t *testing.T, next func(i int, s *state, ticked bool)) (ticks []int, end int, err error) {
		now := time.Unix(1e9, 0)
		w := watch{tickTime: 8 * time.Second, writeTimeout: 5 * time.Second, last: now}
		var s state
		ticked := false
		for i := 1; i < 40; i++ {
			next(i, &s, ticked)
			now = now.Add(time.Second)
			ticked, err = w.step(now, s.in, s.out, s.writing)
			if err != nil {
				return ticks, i, err
			}
			if ticked {
				ticks = append(ticks, i)
			}
		}
		return ticks, 0, nil
	}
	t.Run("idle, the peer ticks", func(t *testing.T) {
		ticks, _, err := run(t, func(i int, s *state, ticked bool) {
			if i%4 == 0 {
				s.in += 4
			}
			if ticked {
				s.out += 4
			}
		})
		require.NoError(t, err)
		assert.Equal(t, []int{2, 5, 8, 11, 14}, ticks[:5], "no gap is longer than three eighths")
	})
	t.Run("busy", func(t *testing.T) {
		ticks, _, err := run(t, func(i int, s *state, _ bool) { s.in++; s.out++; s.writing = true })
		require.NoError(t, err)
		assert.Empty(t, ticks)
	})
	t.Run("silent", func(t *testing.T) {
		_, end, err := run(t, func(i int, s *state, _ bool) { s.out++ })
		require.ErrorIs(t, err, ErrTickTimeout)
		assert.Equal(t, 9, end)
	})
	t.Run("silent after a while", func(t *testing.T) {
		_, end, err := run(t, func(i int, s *state, _ bool) {
			s.out++
			if i <= 5 {
				s.in++
			}
		})
		require.ErrorIs(t, err, ErrTickTimeout)
		assert.Equal(t, 14, end)
	})
	t.Run("stuck in a write", func(t *testing.T) {
		_, end, err := run(t, func(i int, s *state, _ bool) { s.in++; s.writing = i > 3 })
		require.ErrorIs(t, err, ErrWriteTimeout)
		assert.Equal(t, 9, end)
	})
	t.Run("a process that was stopped", func(t *testing.T) {
		now := time.Unix(1e9, 0)
		w := watch{tickTime: 8 * time.Second, writeTimeout: 5 * time.Second}
		tick, err := w.step(now, 1, 1, false)
		require.NoError(t, err)
		assert.False(t, tick)
		tick, err = w.step(now.Add(time.Hour), 1, 1, true)
		require.NoError(t, err, "the peer had no chance to be heard")
		assert.True(t, tick, "but we are late")
	})
}
