package ownership

import "time"

// How long things take until they count.
const (
	// failAfter is how long a holder's attempts fail before it says so.
	failAfter = 2 * time.Second
	// tryAgainMin and tryAgainMax bound the time for which a member that failed
	// does not offer itself again.
	tryAgainMin = 30 * time.Second
	tryAgainMax = 5 * time.Minute
	// settle is how long a member on another machine waits for one on the
	// node's, which discovery may serve a little later, before it claims a node
	// that it has just found.
	settle = 600 * time.Millisecond
)

// outcome is how this member's attempts to attach go.
type outcome int

const (
	unknown  outcome = iota // none was made, or one is under way
	attached                // the connection is up
	failing                 // the last one failed
)

// trial remembers how this member's attempts at one node went. It has no clock.
type trial struct {
	news     uint64        // the last that discovery had
	since    time.Time     // since when attempts fail; zero unless they do and the node is ours
	failed   bool          // they have failed for failAfter
	failures int           // how often that was so
	again    time.Time     // when failed is to be forgotten, if the holder cannot attach either
	pause    time.Duration // from failed to again
}

// next brings the trial up to date. mine: this member holds the node. hopeless:
// another member does, and cannot attach. It returns when to call it again, at
// the latest; zero means when something changes.
func (t *trial) next(now time.Time, news uint64, is outcome, mine, hopeless bool) time.Time {
	if news != t.news || is == attached {
		*t = trial{news: news}
		return time.Time{}
	}
	switch {
	case !mine:
		t.since = time.Time{}
	case is == failing && t.since.IsZero():
		t.since = now
	case is == unknown:
		t.since = time.Time{}
	}
	due := t.since.Add(failAfter)
	switch {
	case mine && t.failed, t.since.IsZero() && !t.failed:
		return time.Time{}
	case mine && now.Before(due):
		return due
	case mine:
		t.failed = true
		t.failures++
		t.pause = min(max(2*t.pause, tryAgainMin), tryAgainMax)
		t.again = now.Add(t.pause)
		return time.Time{}
	case now.Before(t.again):
		return t.again
	case hopeless:
		t.failed = false
	}
	return time.Time{}
}
