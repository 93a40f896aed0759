package discoverygossip

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

// maxHeard bounds how many nodes are remembered: in plain heartbeats anybody
// may claim any name.
const maxHeard = 2000

// Answers come at once, but for those that follow emitQuick others without a
// second's rest: where ever new nodes come they wait for emitPause, which is
// less often than the host bears.
const (
	emitQuick = 10
	emitPause = 60 * time.Millisecond
)

// board is what was heard. All watches of a strategy read one, whichever of
// them listens.
type board struct {
	expiry time.Duration

	mu      sync.Mutex
	heard   map[string]*heard
	err     error
	ready   bool // there is something to say: that nobody was heard may be too early
	version int
	changed chan struct{} // closed with the next version
}

// heard is a node that sends heartbeats.
type heard struct {
	node        sdk.Node
	incarnation uint64
	at          time.Time
}

func newBoard(expiry time.Duration) *board {
	return &board{expiry: expiry, heard: map[string]*heard{}, changed: make(chan struct{})}
}

// note takes a heartbeat. news is whether its sender was not known in this
// incarnation; full means that it is not remembered.
func (b *board) note(node sdk.Node, incarnation uint64, now time.Time) (news, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.heard[node.Name]
	switch {
	case h == nil && len(b.heard) >= maxHeard:
		return false, true
	case h == nil:
		h = &heard{}
		b.heard[node.Name] = h
		news = true
	case incarnation < h.incarnation:
		return false, false // two have one name; the one that was started last is listed
	}
	news = news || incarnation != h.incarnation
	if news || h.node.Addr != node.Addr || !b.ready {
		b.bump()
	}
	b.ready = true
	*h = heard{node, incarnation, now}
	return news, false
}

// expire drops those that were not heard for too long.
func (b *board) expire(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, h := range b.heard {
		if now.Sub(h.at) >= b.expiry {
			delete(b.heard, name)
			b.bump()
		}
	}
}

// fail sets the error of the answer, or clears it.
func (b *board) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.ready = true
	}
	if (err == nil) != (b.err == nil) || err != nil && err.Error() != b.err.Error() {
		b.err = err
		b.bump()
	}
}

// settle makes an empty list an answer.
func (b *board) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ready {
		b.ready = true
		b.bump()
	}
}

// size is how many are known.
func (b *board) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.heard)
}

// bump begins another version. The caller holds mu.
func (b *board) bump() {
	b.version++
	close(b.changed)
	b.changed = make(chan struct{})
}

// answer is what is known now, of which version, and what is closed when there
// is a next one.
func (b *board) answer() (a sdk.Answer, version int, ready bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.heard)) {
		a.Nodes = append(a.Nodes, b.heard[name].node)
	}
	a.Err = b.err
	return a, b.version, b.ready, b.changed
}

// follow emits every version there is time for, and always the latest.
func (b *board) follow(ctx context.Context, emit func(sdk.Answer) error) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	said, quick := -1, 0
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		a, version, ready, changed := b.answer()
		if ready && version != said {
			if err := emit(a); err != nil {
				return err
			}
			if said = version; time.Since(last) > time.Second {
				quick = 0
			}
			last = time.Now()
			if quick++; quick > emitQuick {
				pause.Reset(emitPause)
			} else {
				pause.Reset(0)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			pause.Reset(0)
		}
	}
}
