package target

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
)

// Ownership decides which of several members attaches to a node. Its methods
// may be called by any goroutine. None may call the Manager; none may block but
// Claim.
type Ownership interface {
	// Owned tells whether this member may attach to the node, and if not, why,
	// for a person. Where the answer changes, Manager.Recheck is called.
	Owned(node string) (mine bool, why string)
	// Owner is the member that attaches to the node, if one does.
	Owner(node string) (member string, ok bool)
	// Claim is asked before a target becomes attached, with the name that the
	// node gave itself in the handshake and the key of the target: nil allows
	// it, an error closes the connection.
	Claim(ctx context.Context, node, key string) error
	// Report tells that a target has changed, was found, or is dropped. What
	// concerns one target comes in order.
	Report(Sighting)
}

// Sighting is one target as an Ownership hears of it.
type Sighting struct {
	Key    string // the name that discovery gave, for life; Info.Node is what the node calls itself
	Info   Info   // Creation is 0 unless the connection is up
	Addr   string // as discovery gives it; may be empty
	Local  bool   // the node is on this machine
	Box    bool   // it is of a sandbox of this member
	Named  bool   // a strategy names it now
	News   uint64 // how often a strategy named it anew, or at another address
	Hidden bool   // not to be attached to: excluded, or another target is this node
	Ended  bool   // it is dropped; nothing is attached any more
}

// mine tells whether this member may attach to the target.
func (t *target) mine() (bool, string) {
	if t.m.cfg.Ownership == nil {
		return true, ""
	}
	return t.m.cfg.Ownership.Owned(t.display())
}

// awaitMine waits until this member may attach, and shows the target as
// discovered until then. It returns false when ctx ends; waited tells whether
// it had to wait.
func (t *target) awaitMine(ctx context.Context) (waited, ok bool) {
	for ctx.Err() == nil {
		mine, why := t.mine()
		if mine {
			return waited, true
		}
		waited = true
		t.stand(why)
		select {
		case <-t.check:
		case <-ctx.Done():
		}
	}
	return waited, false
}

// stand shows the target as one that this member does not attach to.
func (t *target) stand(why string) {
	t.mu.Lock()
	news := !t.hidden && (t.state != Discovered || t.reason != why)
	if news {
		t.state, t.reason, t.hint, t.since = Discovered, why, "", time.Now()
	}
	t.mu.Unlock()
	if news {
		t.report()
	}
}

// Recheck has targets ask again whether this member may attach to them: those
// of the nodes, by the names that they give themselves, or all without a name.
func (m *Manager) Recheck(nodes ...string) {
	wanted := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		wanted[n] = true
	}
	m.mu.Lock()
	var asked []*target
	for _, t := range m.targets {
		if len(nodes) == 0 || wanted[t.display()] {
			asked = append(asked, t)
		}
	}
	m.mu.Unlock()
	for _, t := range asked {
		select {
		case t.check <- struct{}{}:
		default:
		}
		if mine, _ := t.mine(); !mine {
			t.giveUp()
		}
	}
}

// giveUp ends an attempt that is under way.
func (t *target) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.abort != nil {
		t.abort()
	}
}

// attempting is the context of one attempt: it ends by its time, or when the
// target is not ours any more.
func (t *target) attempting(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, t.m.cfg.ConnectTimeout)
	t.mu.Lock()
	t.abort = cancel
	t.mu.Unlock()
	return ctx, func() {
		t.mu.Lock()
		t.abort = nil
		t.mu.Unlock()
		cancel()
	}
}

// claim asks for the node behind a connection that was just made.
func (t *target) claim(ctx context.Context, link *node.Peer) error {
	if t.m.cfg.Ownership == nil {
		return nil
	}
	err := t.m.cfg.Ownership.Claim(ctx, link.Name(), t.key)
	if err == nil {
		return nil
	}
	link.Close()
	t.mu.Lock()
	t.node, t.hidden, t.elsewhere = link.Name(), true, true
	t.mu.Unlock()
	t.report()
	return fmt.Errorf("claim %s: %w", link.Name(), err)
}

// letGo detaches in peace: the node goes on as it was found, and another
// member may attach to it.
func (t *target) letGo(link *node.Peer, why string) {
	t.drain(why)
	t.detach(link)
	t.mu.Lock()
	t.leaving = ""
	t.state, t.reason, t.hint, t.since = Discovered, why, "", time.Now()
	name := t.node
	t.mu.Unlock()
	t.m.cfg.Publish(events.Event{Type: events.TargetReleased, Node: name, Member: t.m.cfg.Member, Reason: why})
	t.m.cfg.Log.WithField("node", name).WithField("reason", why).Info("target released")
	t.report()
}

// Before it lets go of a node in peace, a target takes no more questions and
// gives those under way time to end: drainTime at most, and until none made a call
// for drainQuiet looks.
const (
	drainTime  = time.Second
	drainLook  = 10 * time.Millisecond
	drainQuiet = 3
)

func (t *target) drain(why string) {
	t.mu.Lock()
	t.leaving = cmp.Or(why, "debughost is about to detach")
	t.mu.Unlock()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	late := time.After(drainTime)
	for quiet := 0; quiet < drainQuiet; {
		select {
		case <-tick.C:
			if quiet++; len(t.calls) > 0 {
				quiet = 0
			}
		case <-late:
			return
		}
	}
}

// report tells the Ownership what has become of the target. Those of one target
// come one after the other, so that the last one tells how it is.
func (t *target) report() { t.tell(false) }

func (t *target) tell(ended bool) {
	if t.m.cfg.Ownership == nil {
		return
	}
	t.reporting.Lock()
	defer t.reporting.Unlock()
	s := t.sighting()
	s.Ended = ended
	t.m.cfg.Ownership.Report(s)
}

func (t *target) sighting() Sighting {
	info, _ := t.info()
	t.mu.Lock()
	s := Sighting{
		Key: t.key, Info: info, Addr: t.found.Addr, Named: t.dropped.IsZero(), News: t.finds,
		Box:    t.found.Sandbox != "",
		Hidden: t.hidden && !t.elsewhere,
	}
	link := t.link
	t.mu.Unlock()
	s.Local = isHere(s.Addr, info.Node)
	if link != nil {
		s.Local = isHere(remoteAddr(link), info.Node)
	}
	return s
}
