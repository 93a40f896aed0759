package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

const (
	// maxNodes bounds a list.
	maxNodes = 10_000
	// A plugin may give so many answers at once, and then so many a second.
	answerBurst = 200
	answerRate  = 20
)

var errFlood = fmt.Errorf("it floods: more than %d answers at more than %d a second", answerBurst, answerRate)

// watcher takes the answers of one process.
type watcher struct {
	*instance
	rate *bucket // only for the goroutine that watches

	mu       sync.Mutex // held while telling, so that silence is not told after an answer
	answered bool
}

// watch asks a discovery plugin for its answers until ctx ends. A stream that
// ends with an error is opened again after a pause, and at once when the plugin
// has to be told something else of this member; a flood ends the plugin.
func (i *instance) watch(ctx context.Context, p *running, fail context.CancelCauseFunc) {
	w := &watcher{instance: i, rate: newBucket(answerBurst, answerRate)}
	var silence sync.WaitGroup
	silence.Go(func() { w.tellSilence(ctx) })
	defer silence.Wait()

	var pauses restarts
	for {
		err := w.once(ctx, p.Discovery())
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNewSelf):
			continue
		case errors.Is(err, errFlood):
			fail(err)
			return
		case errors.Is(err, sdk.ErrUnavailable) && p.process.exitsWithin(ctx, exitGrace):
			return
		}
		if w.pass(ctx, sdk.Answer{Err: err}) != nil {
			return
		}
		c := i.m.config()
		c.MaxRestarts = 1 << 30 // opening a stream is no restart
		pause, _ := pauses.next(time.Now(), c)
		if !sleep(ctx, pause) {
			return
		}
	}
}

// errNewSelf ends a stream whose Self is old.
var errNewSelf = errors.New("what the plugin was told of this member has changed")

// once watches with the present Self until it is no longer the present one.
func (w *watcher) once(ctx context.Context, d sdk.Discovery) error {
	self, changed := w.currentSelf()
	ctx, cancel := context.WithCancelCause(sdk.WithSelf(ctx, self))
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-changed:
			cancel(errNewSelf)
		case <-ctx.Done():
		}
	})
	defer waiting.Wait()
	defer cancel(nil)
	return d.Watch(ctx, func(a sdk.Answer) error { return w.take(ctx, a) })
}

// take checks one answer and hands it on.
func (w *watcher) take(ctx context.Context, a sdk.Answer) error {
	if w.rate.take(1, time.Now()) > 0 {
		return errFlood
	}
	if len(a.Nodes) > maxNodes {
		a = sdk.Answer{Err: fmt.Errorf("it names %d nodes at once, and at most %d are allowed", len(a.Nodes), maxNodes)}
	}
	return w.pass(ctx, a)
}

func (w *watcher) pass(ctx context.Context, a sdk.Answer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = true
	return w.tell(ctx, &a)
}

// tellSilence reports a plugin that does not answer at all.
func (w *watcher) tellSilence(ctx context.Context) {
	timeout := w.m.config().StartTimeout
	if !sleep(ctx, timeout) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.answered {
		err := fmt.Errorf("it has not answered for %s since it was started", timeout)
		_ = w.tell(ctx, &sdk.Answer{Err: sdk.WithHint(err, "a plugin should answer at once, be it with an error")})
	}
}
