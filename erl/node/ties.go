package node

import (
	"fmt"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// monitor is one that a mailbox of ours has of a process of the peer.
type monitor struct {
	mailbox *Mailbox
	target  etf.Pid
	name    etf.Atom // instead of target
}

// watcher is a monitor that a process of the peer has of one of our mailboxes.
type watcher struct {
	pid    etf.Pid
	local  uint64   // number of the mailbox's pid
	target etf.Pid  // as it was asked for
	name   etf.Atom // instead of target
}

// Link links the mailbox to a process. It does not wait: a process that is not
// there answers with an Exit, reason noproc. Linking twice is linking once.
func (mb *Mailbox) Link(to etf.Pid) error {
	p, err := mb.peer(to.Node)
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if err := p.owns(to); err != nil {
		return fmt.Errorf("link to %s: %w", etf.FormatPid(to), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return p.nodeDownLocked()
	}
	if mb.isClosed() {
		return ErrMailboxClosed
	}
	k := linkKey{mb.num, to}
	if !p.links.link(k) {
		return nil
	}
	err = p.signal(dist.Control{Op: dist.OpLink, From: mb.pid, To: to}, nil)
	if err != nil {
		delete(p.links.entries, k)
	}
	return err
}

// Unlink ends a link. Once it has returned no Exit of that link arrives any
// more; one that arrived before is still in the queue.
func (mb *Mailbox) Unlink(to etf.Pid) error {
	p, err := mb.peer(to.Node)
	if err != nil {
		return nil // the link ended with the connection
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id, send := p.links.unlink(linkKey{mb.num, to})
	if !send || p.down {
		return nil
	}
	return p.signal(dist.Control{Op: dist.OpUnlinkID, From: mb.pid, To: to, ID: id}, nil)
}

// Monitor watches a process: when it ends, or is not there, or the connection
// ends, a Down with the returned reference arrives, once.
func (mb *Mailbox) Monitor(to etf.Pid) (etf.Ref, error) {
	p, err := mb.peer(to.Node)
	if err != nil {
		return etf.Ref{}, fmt.Errorf("monitor: %w", err)
	}
	if err := p.owns(to); err != nil {
		return etf.Ref{}, fmt.Errorf("monitor %s: %w", etf.FormatPid(to), err)
	}
	return p.monitor(monitor{mailbox: mb, target: to})
}

// MonitorName is Monitor for the process that has a registered name now.
func (mb *Mailbox) MonitorName(node, name string) (etf.Ref, error) {
	p, err := mb.peer(etf.Atom(node))
	if err != nil {
		return etf.Ref{}, fmt.Errorf("monitor %s: %w", name, err)
	}
	return p.monitor(monitor{mailbox: mb, name: etf.Atom(name)})
}

func (p *Peer) monitor(m monitor) (etf.Ref, error) {
	ref, num := p.node.ids.ref()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return etf.Ref{}, p.nodeDownLocked()
	}
	if m.mailbox.isClosed() {
		return etf.Ref{}, ErrMailboxClosed
	}
	c := dist.Control{Op: dist.OpMonitorP, From: m.mailbox.pid, To: m.target, ToName: m.name, Ref: ref}
	if err := p.signal(c, nil); err != nil {
		return etf.Ref{}, err
	}
	p.monitors[num] = m
	return ref, nil
}

// Demonitor ends a monitor. Once it has returned no Down of it arrives any
// more; one that arrived before is still in the queue.
func (mb *Mailbox) Demonitor(ref etf.Ref) {
	num, ok := mb.node.ids.refNumber(ref)
	if !ok {
		return
	}
	for _, p := range mb.node.Peers() {
		p.mu.Lock()
		if m, ok := p.monitors[num]; ok && m.mailbox == mb {
			p.demonitor(num, m)
		}
		p.mu.Unlock()
	}
}

// demonitor ends one of our monitors; p.mu is held.
func (p *Peer) demonitor(num uint64, m monitor) {
	delete(p.monitors, num)
	// An error means that the connection, and with it the monitor, has ended.
	_ = p.signal(dist.Control{
		Op: dist.OpDemonitorP, From: m.mailbox.pid, To: m.target, ToName: m.name, Ref: p.node.ids.refOf(num),
	}, nil)
}

// dropMailbox ends what ties a closing mailbox to the peer's processes. An
// error of a signal means that the connection, and with it the tie, has ended.
func (p *Peer) dropMailbox(mb *Mailbox, reason etf.Term) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, remote := range p.links.drop(mb.num) {
		_ = p.signalReason(dist.Control{Op: dist.OpExit, From: mb.pid, To: remote}, reason)
	}
	for num, m := range p.monitors {
		if m.mailbox == mb {
			p.demonitor(num, m)
		}
	}
	for ref, w := range p.watchers {
		if w.local == mb.num {
			delete(p.watchers, ref)
			_ = p.signalReason(dist.Control{Op: dist.OpMonitorPExit, From: w.target, FromName: w.name, To: w.pid, Ref: ref}, reason)
		}
	}
}

// crowded tells whether the peer has set up as many ties as it may; p.mu is
// held.
func (p *Peer) crowded() bool {
	return len(p.links.entries)+len(p.watchers) >= p.node.cfg.MaxIncoming
}

// linked is a LINK from the peer.
func (p *Peer) linked(m *dist.Message) {
	mb := p.node.mailboxOf(m.To)
	p.mu.Lock()
	defer p.mu.Unlock()
	num, _ := p.node.ids.pidNumber(m.To)
	_, known := p.links.entries[linkKey{num, m.From}]
	switch {
	case known:
		// Already linked, or our UNLINK_ID is on its way.
	case mb == nil || mb.isClosed():
		_ = p.signalReason(dist.Control{Op: dist.OpExit, From: m.To, To: m.From}, noproc)
	case p.crowded():
		_ = p.signalReason(dist.Control{Op: dist.OpExit, From: m.To, To: m.From}, systemLimit)
	default:
		p.links.linked(linkKey{num, m.From})
	}
}

// Reasons that others hear of us.
const (
	noproc      = etf.Atom("noproc")
	systemLimit = etf.Atom("system_limit")
	kill        = etf.Atom("kill")
	killed      = etf.Atom("killed")
)

// unlinked is an UNLINK_ID, or the obsolete UNLINK, from the peer. The answer
// goes out also where nobody has that pid.
func (p *Peer) unlinked(m *dist.Message) {
	num, ours := p.node.ids.pidNumber(m.To)
	p.mu.Lock()
	defer p.mu.Unlock()
	if ours {
		p.links.unlinked(linkKey{num, m.From})
	}
	if m.Op == dist.OpUnlinkID {
		_ = p.signal(dist.Control{Op: dist.OpUnlinkIDAck, From: m.To, To: m.From, ID: m.ID}, nil)
	}
}

// unlinkAcked is an UNLINK_ID_ACK from the peer.
func (p *Peer) unlinkAcked(m *dist.Message) {
	num, _ := p.node.ids.pidNumber(m.To)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links.acked(linkKey{num, m.From}, m.ID)
}

// watched is a MONITOR_P from the peer. The name net_kernel and the pid that
// stands for the node live as long as the connection, so that nothing need be
// kept of a monitor of them.
func (p *Peer) watched(m *dist.Message) {
	if m.ToName == netKernel || m.To == p.node.system {
		return
	}
	mb := p.receiver(m)
	p.mu.Lock()
	defer p.mu.Unlock()
	end := dist.Control{Op: dist.OpMonitorPExit, From: m.To, FromName: m.ToName, To: m.From, Ref: m.Ref}
	switch {
	case mb == nil || mb.isClosed():
		_ = p.signalReason(end, noproc)
	case p.crowded():
		_ = p.signalReason(end, systemLimit)
	default:
		p.watchers[m.Ref] = watcher{pid: m.From, local: mb.num, target: m.To, name: m.ToName}
	}
}

// unwatched is a DEMONITOR_P from the peer.
func (p *Peer) unwatched(m *dist.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, m.Ref)
}
