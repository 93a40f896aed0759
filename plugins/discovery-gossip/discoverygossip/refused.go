package discoverygossip

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// logEvery is how often refused packets are told of at most.
const logEvery = time.Minute

// refused counts packets that were not taken, by why. It is safe for concurrent
// use.
type refused struct {
	mu     sync.Mutex
	good   uint64            // packets that were taken
	total  map[string]uint64 // by reason
	told   map[string]uint64 // what total was when it was told last
	last   time.Time
	source string // of the latest
	why    error  // of the latest
}

// took returns how many packets were taken, with this one.
func (r *refused) took() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good++
	return r.good
}

func (r *refused) add(why error, source string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total == nil {
		r.total = map[string]uint64{}
	}
	r.total[why.Error()]++
	r.source, r.why = source, why
}

// due is what to log now: what was refused since the last time, or nothing
// while that is less than logEvery ago.
func (r *refused) due(now time.Time) (text, source string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() && now.Sub(r.last) < logEvery {
		return "", ""
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(r.total)) {
		if n := r.total[why] - r.told[why]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, why))
		}
	}
	if len(parts) == 0 {
		return "", ""
	}
	r.last, r.told = now, maps.Clone(r.total)
	return strings.Join(parts, ", "), r.source
}

// only is why the latest packet was refused if none was ever taken: then it
// is most likely the config that is wrong, and not the packet.
func (r *refused) only() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.good > 0 {
		return nil
	}
	return r.why
}
