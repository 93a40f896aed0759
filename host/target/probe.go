package target

import (
	"context"
	"errors"
	"time"

	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
)

// unanswered is told that a call got no answer in time. Where the target does
// not answer the smallest question either, it is shown as unreachable until it
// does: a frozen process keeps its socket, and a tick timeout takes a minute.
func (t *target) unanswered(link *node.Peer) {
	t.mu.Lock()
	if t.probing || t.link != link {
		t.mu.Unlock()
		return
	}
	t.probing = true
	t.background.Go(func() { t.probe(link) })
	t.mu.Unlock()
}

// probe ends when the target answers or its connection ends, one of which the
// distribution's ticks ensure.
func (t *target) probe(link *node.Peer) {
	defer func() {
		t.mu.Lock()
		t.probing = false
		t.mu.Unlock()
	}()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := t.cost.call(ctx, link, "erlang", "node")
		cancel()
		select {
		case <-link.Done():
			return
		default:
		}
		if err == nil {
			t.answering(link, Attached, "", "", events.TargetAttached)
			return
		}
		t.answering(link, Unreachable, "the connection is up but the node does not answer", "it may be frozen, out of memory, or cut off; the connection is closed if it does not recover", events.TargetFailed)
		if errors.Is(err, context.DeadlineExceeded) {
			continue // that was a second already
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-pause.C:
		case <-link.Done():
			pause.Stop()
			return
		}
	}
}

func (t *target) answering(link *node.Peer, s State, reason, hint string, typ events.Type) {
	t.mu.Lock()
	if t.link != link || t.state == s {
		t.mu.Unlock()
		return
	}
	t.state, t.reason, t.hint, t.since = s, reason, hint, time.Now()
	node := t.node
	t.mu.Unlock()
	t.m.cfg.Publish(events.Event{Type: typ, Node: node, Member: t.m.cfg.Member, Reason: reason, Fields: map[string]string{"state": string(s)}})
}
