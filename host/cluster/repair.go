package cluster

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// A rumour can be missed: gossip stops to repeat it after some sends. So after
// each change a member compares its state with two others at random, again and
// again, until some agree. Those may have missed the same rumour; so every
// answer to a probe carries the answerer's view, and a difference begins anew.
const (
	agreeWith    = 2                      // others with the same view end the repair
	repairWith   = 2                      // others at a time
	repairFor    = 10 * time.Second       // after a change, at most
	repairFirst  = 200 * time.Millisecond // after a change, at least
	repairSlowly = 30 * time.Second       // pause where nothing is to be repaired
	repairScale  = 50                     // members: above so many the pauses grow in proportion
)

// agreement counts the others that see what this member sees.
type agreement struct {
	mu      sync.Mutex
	changed time.Time // when this member's view last changed, or was found to differ
	agreed  int       // others with the same view since then
	with    string    // the address of one that has another view; "" for none
}

func (a *agreement) reset(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed, a.agreed = now, 0
}

// compare notes that another member's view was the same as this one's, or not.
func (a *agreement) compare(same bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.agreed++; !same {
		a.agreed = 0
	}
}

// differ notes that the member at an address has another view.
func (a *agreement) differ(now time.Time, addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.changed) > repairFirst { // a difference that does not end must not keep repairs away
		a.changed = now.Add(-repairFirst)
	}
	a.agreed, a.with = 0, addr
}

// partner returns the last one that differed, and forgets it.
func (a *agreement) partner() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	with := a.with
	a.with = ""
	return with
}

// due returns when a repair is due that follows one at last, with size members.
func (a *agreement) due(now, last time.Time, size int, pause time.Duration) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.agreed >= min(agreeWith, size-1) || now.Sub(a.changed) > repairFor {
		return last.Add(repairSlowly)
	}
	due := last.Add(pause * time.Duration(max(size, repairScale)) / repairScale)
	if soonest := a.changed.Add(repairFirst); soonest.After(due) {
		return soonest
	}
	return due
}

// startRepair compares states with two others, when that is due.
func (j *joiner) startRepair(list *memberlist.Memberlist, attempt attemptFunc, members []Member) {
	var others []string
	for _, m := range members {
		if !m.Self && m.State.Usable() {
			others = append(others, m.Addr)
		}
	}
	if len(others) == 0 {
		return
	}
	if j.repair.IsZero() {
		j.repair = time.Now().Add(-j.c.times.repair)
	}
	attempt("repair", j.c.agreement.due(time.Now(), j.repair, len(others)+1, j.c.times.repair), func() func() {
		rand.Shuffle(len(others), func(i, k int) { others[i], others[k] = others[k], others[i] })
		if with := slices.Index(others, j.c.agreement.partner()); with > 0 {
			others[0], others[with] = others[with], others[0]
		}
		began := time.Now()
		_, _ = list.Join(others[:min(len(others), repairWith)])
		rest := min(restFor*time.Since(began), repairFor/2)
		return func() { j.repair = time.Now().Add(max(rand.N(j.c.times.repair), rest)) }
	})
}
