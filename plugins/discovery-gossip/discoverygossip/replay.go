package discoverygossip

import (
	"errors"
	"time"
)

const (
	// maxSkew is how far the clocks of two members may be apart.
	maxSkew = 2 * time.Minute
	// maxSenders bounds whose packets are numbered. Only those who know the
	// secret get that far.
	maxSenders = 8192
)

var (
	errClock    = errors.New("of another time")
	errRepeated = errors.New("heard before")
	errTooMany  = errors.New("one too many")
)

// replays refuses packets that were heard before. It is a pure state machine:
// it has no clock, and its caller a lock.
type replays struct {
	last  map[sender]mark
	swept time.Time
}

// sender is one member. Two of one name are told apart, so that neither makes
// the other unheard.
type sender struct{ member, addr string }

// mark is the latest packet of a sender.
type mark struct {
	incarnation uint64
	time        int64
	heard       time.Time
}

// admit takes a packet that is proven. What it has forgotten is so old that
// its time alone refuses it.
func (r *replays) admit(h heartbeat, now time.Time) error {
	if skew := now.Sub(time.Unix(0, h.time)); skew > maxSkew || skew < -maxSkew {
		return errClock
	}
	if now.Sub(r.swept) > maxSkew {
		r.sweep(now)
	}
	from := sender{h.member, h.addr}
	last, known := r.last[from]
	switch {
	case known && h.incarnation == last.incarnation && h.time == last.time:
		return errNothing // by another interface
	case known && (h.incarnation < last.incarnation || h.incarnation == last.incarnation && h.time <= last.time):
		return errRepeated
	case !known && len(r.last) >= maxSenders:
		return errTooMany
	}
	if r.last == nil {
		r.last = make(map[sender]mark)
	}
	r.last[from] = mark{h.incarnation, h.time, now}
	return nil
}

// sweep forgets those whose latest packet would be refused for its time.
func (r *replays) sweep(now time.Time) {
	r.swept = now
	for from, m := range r.last {
		if now.Sub(m.heard) > 2*maxSkew {
			delete(r.last, from)
		}
	}
}
