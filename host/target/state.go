package target

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
)

// target is one node: its state, and the goroutine (run) that keeps it attached.
type target struct {
	m     *Manager
	key   string        // the name that discovery gave
	poke  chan struct{} // try again now: discovery has news
	check chan struct{} // ask again whether this member may attach
	calls chan struct{} // one token for each call under way
	agent agent
	shown shownPids
	// refused is the last attempt, if the cookie was wrong; run's own.
	refused attempt
	walks   walks
	rhythm  rhythm
	cost    cost
	pacer   pacer
	// restarts is what Tree saw.
	restarts restartBook
	pids     pidWatch
	held     held
	// background has the goroutines of probe and of walks.
	background sync.WaitGroup

	reporting sync.Mutex // one report at a time; held before mu

	mu         sync.Mutex
	cancel     context.CancelFunc // ends run
	abort      context.CancelFunc // ends the attempt under way; nil between attempts
	ended      bool               // run is to return
	found      Found
	topologies []string  // that name it, or were the last to
	dropped    time.Time // since when nothing names it; zero while something does
	node       string    // the name that it gives itself
	state      State
	reason     string
	hint       string
	release    string
	creation   uint32 // of the incarnation that was attached last
	restarted  bool   // another incarnation was attached before
	leaving    string // why no more questions are taken; empty: they are
	since      time.Time
	link       *node.Peer // not nil while attached
	hidden     bool       // another target is this node, or it is not wanted
	elsewhere  bool       // hidden, since another member has it
	finds      uint64     // how often discovery named it anew, or at another address
	absent     time.Time  // since when the node is known not to run
	forgotten  time.Time  // when the last topology that named it was removed
	probing    bool
}

func newTarget(m *Manager, f Found, topologies []string) *target {
	t := &target{
		m: m, key: f.Node, found: f, topologies: topologies, node: f.Node,
		state: Discovered, since: time.Now(),
		finds: 1,
		poke:  make(chan struct{}, 1),
		check: make(chan struct{}, 1),
		calls: make(chan struct{}, m.cfg.MaxCalls),
		walks: newWalks(),
	}
	t.agent.cost = &t.cost
	return t
}

// name notes that discovery names the target, at this address. News wake it;
// changed tells whether there is anything to report.
func (t *target) name(f Found, topologies []string) (changed bool) {
	t.mu.Lock()
	if t.found.Sandbox != f.Sandbox || t.found.CookieFile != f.CookieFile { // another node of the same name
		t.endLocked() // and the next target is that one
		t.mu.Unlock()
		return false
	}
	news := t.found != f || !t.dropped.IsZero()
	changed = news || !slices.Equal(t.topologies, topologies)
	t.found, t.topologies, t.dropped, t.forgotten = f, topologies, time.Time{}, time.Time{}
	if news {
		t.finds++
	}
	t.mu.Unlock()
	if news {
		t.wake()
	}
	return changed
}

// unname notes that nothing names the target. One that never was attached is
// dropped at once, one that is gone a while later, so that an operator can see
// what happened; one that is attached stays: strategies err, connections don't.
// It tells whether that is new, and whether it is also news to a person.
func (t *target) unname(now time.Time) (changed, news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped.IsZero() {
		t.dropped, changed, news = now, true, !t.hidden
	}
	switch {
	case t.found.Sandbox != "": // it has ended
		t.endLocked()
	case !t.forgotten.IsZero() && now.Sub(t.forgotten) > forgetAfter:
		t.endLocked()
	case t.link != nil:
	case t.state == Gone && now.Sub(t.since) < t.m.cfg.GoneAfter:
	default:
		t.endLocked()
	}
	return changed, news
}

// forgetAfter is how long a target outlives the last topology that named it: a
// reload that replaces one topology by another must not detach in between.
const forgetAfter = 3 * time.Second

// forget notes that a topology was removed; if it was the last that named the
// target, and no other one does soon, it is detached from.
func (t *target) forget(topology string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.topologies = slices.DeleteFunc(slices.Clone(t.topologies), func(s string) bool { return s == topology })
	if len(t.topologies) == 0 {
		t.forgotten = time.Now()
	}
}

// end has run return, also one that has not begun yet.
func (t *target) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked()
}

func (t *target) endLocked() {
	t.ended = true
	if t.cancel != nil {
		t.cancel()
	}
}

// sandbox is the child whose node the target is, as far as is known; or empty.
func (t *target) sandbox() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.found.Sandbox
}

// dropReason says why nothing names the target.
func (t *target) dropReason() string {
	if id := t.sandbox(); id != "" {
		return "sandbox " + id + " does not run here any more"
	}
	return "no strategy names it any more"
}

func (t *target) wake() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

func (t *target) info() (Info, bool) {
	owner := t.m.cfg.Member
	if mine, _ := t.mine(); !mine {
		owner, _ = t.m.cfg.Ownership.Owner(t.display())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	info := Info{
		Node: t.node, State: t.state, Reason: t.reason, Hint: t.hint, OTPRelease: t.release,
		Owner: owner, Since: t.since, Topologies: slices.Clone(t.topologies), Agent: t.agent.state(t.m.cfg.AgentNever),
		Cost: t.cost.read(),
	}
	if t.link != nil {
		info.Creation = t.link.Creation()
	}
	return info, !t.hidden
}

// attached returns the connection, or nil.
func (t *target) attached() *node.Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.link
}

// run keeps the target attached until ctx ends.
func (t *target) run(ctx context.Context) {
	defer t.background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.cancel = cancel
	if t.ended {
		cancel()
	}
	t.mu.Unlock()
	wait := t.m.cfg.BackoffMin
	short := 0 // connections in a row that did not last
	for {
		waited, ok := t.awaitMine(ctx)
		if !ok {
			return
		}
		if waited {
			wait, short = t.m.cfg.BackoffMin, 0
		}
		link, verdict := t.connect(ctx)
		if link == nil {
			if ctx.Err() != nil {
				return
			}
			t.fail(verdict)
			if mine, _ := t.mine(); !mine {
				continue
			}
			if verdict.Slow {
				wait = t.m.cfg.BackoffMax
			}
			t.pause(ctx, jitter(wait))
			wait = min(2*wait, t.m.cfg.BackoffMax)
			continue
		}
		since := time.Now()
		switch end, why := t.hold(ctx, link); end {
		case stopped:
			t.drain("")
			t.detach(link)
			return
		case notOurs:
			t.letGo(link, why)
		case lost:
			if short++; time.Since(since) > lasting {
				wait, short = t.m.cfg.BackoffMin, 0
			}
			t.lost(link, short)
			t.pause(ctx, jitter(wait))
			wait = min(2*wait, t.m.cfg.BackoffMax)
		}
	}
}

// ending is why a connection is not held any more.
type ending int

const (
	lost    ending = iota // it ended by itself
	notOurs               // another member attaches
	stopped               // run is to return
)

// hold waits until the connection is over, or is to be.
func (t *target) hold(ctx context.Context, link *node.Peer) (end ending, why string) {
	for {
		select {
		case <-link.Done():
			return lost, ""
		case <-ctx.Done():
			return stopped, ""
		case <-t.check:
			if mine, why := t.mine(); !mine {
				return notOurs, why
			}
		}
	}
}

// fail notes why an attempt failed; the same failure again is no news. A
// verdict without a state is of an attempt that was given up.
func (t *target) fail(v Verdict) {
	if v.State == "" {
		return
	}
	t.noteAbsent(v.Absent)
	t.endPids()
	t.mu.Lock()
	if t.hidden || (t.state == v.State && t.reason == v.Reason) {
		t.mu.Unlock()
		return
	}
	// A node that ended stays gone while nothing listens at its name.
	if t.state == Gone && v.State == Unreachable && !v.Slow {
		t.mu.Unlock()
		return
	}
	t.state, t.reason, t.hint, t.since = v.State, v.Reason, v.Hint, time.Now()
	node := t.node
	t.mu.Unlock()
	t.report()
	t.m.cfg.Publish(events.Event{Type: events.TargetFailed, Node: node, Member: t.m.cfg.Member, Reason: v.Reason, Fields: map[string]string{"state": string(v.State)}})
	t.m.cfg.Log.WithField("node", node).WithField("state", v.State).WithField("reason", v.Reason).Warn("target not attached")
}

// lasting is how long a connection has to last for the next attempts to come
// soon again: two debughosts with one node name would take the target from each
// other for ever.
const lasting = 30 * time.Second

// lost notes that the connection ended by itself, and how many before it did so
// soon.
func (t *target) lost(link *node.Peer, short int) {
	v := Explain(link.Err())
	if short > 2 {
		v.Hint = fmt.Sprintf("%d connections in a row did not last: does another debughost use the node name %s, or does somebody disconnect it?", short, t.m.cfg.Node.Name())
	}
	t.mu.Lock()
	t.link, t.absent = nil, time.Time{}
	t.state, t.reason, t.hint, t.since = v.State, v.Reason, v.Hint, time.Now()
	node := t.node
	t.mu.Unlock()
	t.agent.reset()
	t.pids.suspend()
	t.endPids()
	t.report()
	t.m.cfg.Publish(events.Event{Type: events.TargetLost, Node: node, Member: t.m.cfg.Member, Reason: v.Reason, Fields: map[string]string{"state": string(v.State)}})
	t.m.cfg.Log.WithField("node", node).WithField("reason", v.Reason).Warn("target lost")
	link.Close()
}

// detach leaves the target as it was found, and closes the connection.
func (t *target) detach(link *node.Peer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	t.agent.unload(ctx, link)
	t.mu.Lock()
	t.link = nil
	t.mu.Unlock()
	t.pids.suspend()
	link.Close()
	t.agent.stay()
}

// pause waits for d, for news from discovery, until this member may not attach
// any more, or for the end.
func (t *target) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-t.poke:
			return
		case <-t.check:
			if mine, _ := t.mine(); !mine {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (t *target) display() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.node
}

func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) + d/4
}

func compareNodes(a, b string) int { return strings.Compare(a, b) }
