package cluster

import (
	"context"
	"time"
)

// The table follows gossip by looking at memberlist's list: whenever memberlist
// says that something changed, and at intervals, since it does not say who is
// suspect. Looking costs about ten microseconds a member, and at most a fifth of
// the time: on a machine under too much load it must not add to the load.
const (
	lookAtMost  = 5 * time.Millisecond   // shortest pause between two looks
	lookAtLeast = 250 * time.Millisecond // pause where nothing happens
	lookEach    = 1 * time.Millisecond   // added to the first for each member
	lookEachToo = 4 * time.Millisecond   // added to the second
	restFor     = 4                      // times what something took is the pause after it
)

// look keeps the table until ctx ends.
func (c *Cluster) look(ctx context.Context, i *inspector) {
	pause := time.NewTimer(lookAtLeast)
	defer pause.Stop()
	for {
		began := time.Now()
		all, err := i.inspect()
		if err != nil {
			c.log.WithError(err).Debug("gossip could not be inspected")
		} else {
			c.update(func(t *table, now time.Time) { t.observe(now, all) })
		}
		rest := max(lookAtMost+time.Duration(len(all))*lookEach, min(restFor*time.Since(began), lookAtLeast))
		select { // at most so often
		case <-time.After(rest):
		case <-ctx.Done():
			return
		}
		pause.Reset(lookAtLeast + time.Duration(len(all))*lookEachToo)
		select {
		case <-c.lookNow:
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}
