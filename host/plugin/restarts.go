package plugin

import (
	"math/rand/v2"
	"time"

	"github.com/debughost/debughost/host/config"
)

// restarts remembers the restarts within the window.
type restarts struct{ at []time.Time }

// next notes a restart at now. It returns the pause before it, or that there
// were enough. The pause doubles with every restart within the window, up to
// RestartMax, and is shortened by up to a quarter, so that plugins that ended
// together do not start together.
func (r *restarts) next(now time.Time, c config.Plugins) (pause time.Duration, ok bool) {
	old := 0
	for old < len(r.at) && now.Sub(r.at[old]) > c.RestartWindow {
		old++
	}
	r.at = r.at[old:]
	if len(r.at) >= c.MaxRestarts {
		return 0, false
	}
	pause = c.RestartMin
	for range r.at {
		if pause *= 2; pause >= c.RestartMax || pause <= 0 {
			pause = c.RestartMax
			break
		}
	}
	r.at = append(r.at, now)
	return pause - rand.N(pause/4+1), true
}

// bucket limits a rate: size at once, then rate a second. Not safe for
// concurrent use.
type bucket struct {
	size, rate float64
	level      float64
	last       time.Time
}

func newBucket(size, rate float64) *bucket {
	return &bucket{size: size, rate: rate, level: size, last: time.Now()}
}

// take takes n at now, and returns how long to wait until they were there.
func (b *bucket) take(n float64, now time.Time) time.Duration {
	b.level = min(b.size, b.level+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	b.level -= n
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / b.rate * float64(time.Second))
}
