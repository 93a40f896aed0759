package target

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// pidWatch monitors processes of one target, over as many connections as it
// takes. Its mailbox is of the present one.
type pidWatch struct {
	mu    sync.Mutex // before target.mu
	all   map[*pidMonitor]bool
	inbox *node.Mailbox
	refs  map[etf.Ref]*pidMonitor // on the present connection
}

// pidMonitor is one monitor.
type pidMonitor struct {
	id, serial, creation uint32
	down                 func(reason string)
	armed                bool    // down may be called
	ended                bool    // before it was armed
	ref                  etf.Ref // on the present connection; zero without one
}

// absentFor is how long a node has to be known not to run before its processes
// count as dead, where discovery goes on naming it. EPMD, when it is restarted,
// does not know its nodes for a while.
const absentFor = 10 * time.Second

// ResolvePid finds the process that text names on a target, as InspectQuery
// says: its pid, and the incarnation of the node.
func (m *Manager) ResolvePid(ctx context.Context, name, text string) (pid string, creation uint32, err error) {
	ctx, cancel := m.deadline(ctx, 0, 0)
	defer cancel()
	t, link, err := m.one(name)
	if err != nil {
		return "", 0, err
	}
	p, err := t.process(ctx, link, text, false)
	if err != nil {
		return "", 0, err
	}
	return pidText(p), p.Creation, nil
}

// MonitorPid has down called, once, when a process of a target has ended: with
// its exit reason, or with why it must have ended, when the node has restarted
// or is gone for good. A connection that is lost and made again is no reason.
// down must not block; it is not called before MonitorPid has returned, nor,
// but for a call that is under way, after cancel, nor because the Manager lets
// go of the target, of which the Ownership hears.
//
// creation is that of the incarnation that the pid belongs to; 0 means the
// present one. Errors are ErrNoProcess for a process that is not there any
// more, ErrNotAttached, ErrNoTarget, ErrTimeout.
func (m *Manager) MonitorPid(ctx context.Context, name, pid string, creation uint32, down func(reason string)) (cancel func(), err error) {
	id, serial, err := etf.ParsePid(pid)
	if err != nil {
		return nil, fmt.Errorf("read pid %q: %w: %w", pid, ErrBadQuery, err)
	}
	ctx, done := m.deadline(ctx, 0, 0)
	defer done()
	t, link, err := m.one(name)
	if err != nil {
		return nil, err
	}
	if !t.possible(id, serial) {
		return nil, fmt.Errorf("monitor %s on %s: %w: no process of this node can have that number", pid, link.Name(), ErrNoProcess)
	}
	if creation != 0 && creation != link.Creation() {
		return nil, fmt.Errorf("monitor %s on %s: %w: the node has restarted since", pid, link.Name(), ErrNoProcess)
	}
	p := &pidMonitor{id: id, serial: serial, creation: link.Creation(), down: down}
	if err := t.pids.add(t, link, p); err != nil {
		return nil, fmt.Errorf("monitor %s on %s: %w", pid, link.Name(), err)
	}
	// The answer comes behind the DOWN of a process that was not there.
	alive, err := t.call(ctx, link, "erlang", "is_process_alive", link.Pid(id, serial))
	if err == nil && (atom(alive) != "true" || !t.pids.arm(p)) {
		err = ErrNoProcess
	}
	if err != nil {
		t.pids.remove(p)
		return nil, fmt.Errorf("monitor %s on %s: %w", pid, link.Name(), err)
	}
	return func() { t.pids.remove(p) }, nil
}

// add monitors the process over the connection.
func (w *pidWatch) add(t *target, link *node.Peer, p *pidMonitor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inbox == nil && !w.open(t, link) {
		return ErrNotAttached
	}
	ref, err := w.inbox.Monitor(link.Pid(p.id, p.serial))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAttached, err)
	}
	if w.all == nil {
		w.all = map[*pidMonitor]bool{}
	}
	w.all[p], w.refs[ref], p.ref = true, p, ref
	return nil
}

// open makes the mailbox of a connection, if it is still the target's.
func (w *pidWatch) open(t *target, link *node.Peer) bool {
	// What monitors announce is never dropped; nothing else has business here.
	inbox := t.m.cfg.Node.NewMailboxWith(node.MailboxOptions{Messages: 1, Drop: true})
	t.mu.Lock()
	ok := t.link == link
	if ok {
		t.background.Go(func() { w.receive(inbox, link) })
	}
	t.mu.Unlock()
	if !ok {
		inbox.Close()
		return false
	}
	w.inbox, w.refs = inbox, map[etf.Ref]*pidMonitor{}
	return true
}

// receive takes what the monitors announce, until the mailbox is closed.
func (w *pidWatch) receive(inbox *node.Mailbox, link *node.Peer) {
	for {
		msg, err := inbox.Receive(context.Background())
		if err != nil {
			return
		}
		if msg.Kind != node.Down {
			continue
		}
		reason := "unknown"
		if term, err := msg.Term(); err == nil {
			reason = printed(term)
		}
		if p := w.downed(inbox, link, msg.Ref, reason); p != nil {
			p.down(reason)
		}
	}
}

// downed returns the monitor that is to hear of an end. The reason noconnection
// may be that of the process, or the end of the connection: then the monitor
// waits for the next one.
func (w *pidWatch) downed(inbox *node.Mailbox, link *node.Peer, ref etf.Ref, reason string) *pidMonitor {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inbox != inbox {
		return nil
	}
	p := w.refs[ref]
	delete(w.refs, ref)
	if p == nil || !w.all[p] {
		return nil
	}
	if reason == "noconnection" {
		again, err := inbox.Monitor(link.Pid(p.id, p.serial))
		if err == nil {
			w.refs[again], p.ref = p, again
		}
		return nil
	}
	return w.finish(p)
}

// finish takes a monitor out and returns it if it is to be told.
func (w *pidWatch) finish(p *pidMonitor) *pidMonitor {
	delete(w.all, p)
	if !p.armed {
		p.ended = true
		return nil
	}
	return p
}

// arm allows down to be called, unless the process has ended already.
func (w *pidWatch) arm(p *pidMonitor) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.armed = true
	return !p.ended
}

func (w *pidWatch) remove(p *pidMonitor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, p)
	if w.refs[p.ref] == p {
		delete(w.refs, p.ref)
		w.inbox.Demonitor(p.ref)
	}
}

// suspend is called when the connection is over; the monitors wait.
func (w *pidWatch) suspend() {
	w.mu.Lock()
	inbox := w.inbox
	w.inbox, w.refs = nil, nil
	for p := range w.all {
		p.ref = etf.Ref{}
	}
	w.mu.Unlock()
	if inbox != nil {
		inbox.Close()
	}
}

// resume monitors over a new connection what was monitored over the last one.
// The processes of another incarnation have ended.
func (w *pidWatch) resume(t *target, link *node.Peer) {
	var over []*pidMonitor
	w.mu.Lock()
	for p := range w.all {
		if p.creation != link.Creation() {
			if w.finish(p) != nil {
				over = append(over, p)
			}
			continue
		}
		if p.ref != (etf.Ref{}) {
			continue // added over this connection
		}
		if w.inbox == nil && !w.open(t, link) {
			break
		}
		if ref, err := w.inbox.Monitor(link.Pid(p.id, p.serial)); err == nil {
			w.refs[ref], p.ref = p, ref
		}
	}
	w.mu.Unlock()
	for _, p := range over {
		p.down("the node has restarted")
	}
}

// end tells all monitors that their processes have ended.
func (w *pidWatch) end(reason string) {
	var over []*pidMonitor
	w.mu.Lock()
	for p := range w.all {
		if w.finish(p) != nil {
			over = append(over, p)
		}
	}
	w.mu.Unlock()
	for _, p := range over {
		p.down(reason)
	}
}

// noteAbsent notes whether an attempt has shown that the node does not run.
func (t *target) noteAbsent(is bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !is:
		t.absent = time.Time{}
	case t.absent.IsZero():
		t.absent = time.Now()
	}
}

// endPids ends the monitors of a node that is gone for good: it closed the
// connection, and discovery does not name it any more, or it is known not to run.
func (t *target) endPids() {
	t.mu.Lock()
	gone := t.link == nil && t.state == Gone &&
		(!t.dropped.IsZero() || !t.absent.IsZero() && time.Since(t.absent) > absentFor)
	t.mu.Unlock()
	if gone {
		t.pids.end("the node is gone")
	}
}
