package target

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/node"
)

// maxWalks is how many walks over all processes of a target go on at once. Each
// takes its share of a scheduler; more of them would be no faster together.
const maxWalks = 2

// walkTime bounds a walk that several wait for, each with its own deadline.
const walkTime = time.Minute

// walks shares rankings: those who ask a target the same question while it is
// being answered get one answer. The walk ends early when nobody waits for it
// any more.
type walks struct {
	mu    sync.Mutex
	under map[walkKey]*walk
	room  chan struct{}
}

// walkKey is what makes two questions the same.
type walkKey struct {
	sort                        Sort
	window                      time.Duration
	filter, function, app, node string
	creation                    uint32
	rows                        int
}

// Who watches a target has it walk over its processes again and again. The first
// walk may be as fast as the budget allows; another soon after a long one leaves the
// scheduler alone for half of the time, so that what the target does for others is not
// late each time that it is looked at.
const (
	watchShare = 50 // percent of a scheduler
	longWalk   = 50 * time.Millisecond
	soonAfter  = 2 * time.Second
)

// rhythm knows the last long walk.
type rhythm struct {
	mu    sync.Mutex
	ended time.Time
}

// walked notes a walk.
func (p *rhythm) walked(began, ended time.Time) {
	if ended.Sub(began) >= longWalk {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended = ended
	}
}

// share is what a walk that begins now may take, where most is allowed.
func (p *rhythm) share(now time.Time, most int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended.IsZero() && now.Sub(p.ended) < soonAfter {
		return min(most, watchShare)
	}
	return most
}

// walkShare is the share of a walk that begins now.
func (t *target) walkShare() int { return t.rhythm.share(time.Now(), t.m.budget().Share) }

type walk struct {
	waiters int // guarded by walks.mu
	cancel  context.CancelFunc
	done    chan struct{}
	rows    []Process // after done, as err
	err     error
}

func newWalks() walks {
	return walks{under: map[walkKey]*walk{}, room: make(chan struct{}, maxWalks)}
}

// enter waits for room for a walk; the caller leaves it with leave.
func (w *walks) enter(ctx context.Context) error {
	select {
	case w.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *walks) leave() { <-w.room }

// shared returns the rows of a ranking, from a walk of its own or from one that
// is under way.
func (t *target) shared(ctx context.Context, link *node.Peer, q ProcessQuery) ([]Process, error) {
	key := walkKey{q.Sort, q.Window, q.Filter, q.Function, q.Application, link.Name(), link.Creation(), q.Limit + q.Offset}
	w := t.join(link, q, key)
	select {
	case <-w.done:
		return w.rows, w.err
	case <-ctx.Done():
	}
	t.walks.mu.Lock()
	if w.waiters--; w.waiters == 0 {
		w.cancel()
		if t.walks.under[key] == w {
			delete(t.walks.under, key)
		}
	}
	t.walks.mu.Unlock()
	return nil, t.timedOut(ctx, link, ctx.Err())
}

func (t *target) join(link *node.Peer, q ProcessQuery, key walkKey) *walk {
	t.walks.mu.Lock()
	defer t.walks.mu.Unlock()
	if w := t.walks.under[key]; w != nil {
		w.waiters++
		return w
	}
	ctx, cancel := context.WithTimeout(context.Background(), walkTime+q.Window)
	w := &walk{waiters: 1, cancel: cancel, done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.link != link { // run waits for no more goroutines
		cancel()
		w.err = fmt.Errorf("rank processes on %s: %w", link.Name(), ErrNotAttached)
		close(w.done)
		return w
	}
	t.walks.under[key] = w
	t.background.Go(func() {
		defer cancel()
		if w.err = t.walks.enter(ctx); w.err != nil {
			w.err = t.noRoom(ctx, link)
		} else {
			w.rows, w.err = t.rank(ctx, link, q)
			t.walks.leave()
		}
		t.walks.mu.Lock()
		if t.walks.under[key] == w {
			delete(t.walks.under, key)
		}
		t.walks.mu.Unlock()
		close(w.done)
	})
	return w
}
