package dist

import "time"

// perTickTime is how often per tick time the watch looks.
const perTickTime = 16

// watch decides, many times per tick time, whether a tick is due and whether
// the peer is gone.
type watch struct {
	tickTime, writeTimeout time.Duration

	last                   time.Time
	in, out                int64         // counts at the last step
	inIdle, outIdle, stuck time.Duration // since when they did not change
}

// step takes the time, the bytes read and written so far, and whether the
// writer is in the middle of a write. What speaks against the peer counts only
// as far as steps come at the pace that they should: a process that was itself
// stopped for an hour gives the peer its full time again.
func (w *watch) step(now time.Time, in, out int64, writing bool) (tick bool, err error) {
	elapsed := now.Sub(w.last)
	if w.last.IsZero() {
		elapsed = 0
	}
	w.last = now
	fair := min(elapsed, 2*w.tickTime/perTickTime)
	advance(&w.inIdle, in == w.in, fair)
	advance(&w.stuck, out == w.out && writing, fair)
	advance(&w.outIdle, out == w.out, elapsed)
	w.in, w.out = in, out
	switch {
	case w.inIdle > w.tickTime:
		return false, ErrTickTimeout
	case w.stuck > w.writeTimeout:
		return false, ErrWriteTimeout
	}
	return w.outIdle >= w.tickTime/4, nil
}

func advance(d *time.Duration, idle bool, by time.Duration) {
	if idle {
		*d += by
	} else {
		*d = 0
	}
}
