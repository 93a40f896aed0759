package node

import (
	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// receive dispatches one received signal. It runs on the goroutine that reads
// the connection, so nothing here blocks, and no payload is decoded but the
// few bytes of what the node itself answers.
func (p *Peer) receive(m *dist.Message) {
	switch m.Op {
	case dist.OpSpawnReply, dist.OpSpawnReplyTT:
		p.spawned(m)
	case dist.OpMonitorPExit, dist.OpPayloadMonitorPExit:
		p.monitored(m)
	case dist.OpSend, dist.OpSendTT, dist.OpSendSender, dist.OpSendSenderTT,
		dist.OpRegSend, dist.OpRegSendTT, dist.OpAliasSend, dist.OpAliasSendTT:
		p.message(m)
	case dist.OpAltactSig:
		p.altact(m)
	case dist.OpLink:
		p.linked(m)
	case dist.OpUnlinkID, dist.OpUnlink:
		p.unlinked(m)
	case dist.OpUnlinkIDAck:
		p.unlinkAcked(m)
	case dist.OpExit, dist.OpExitTT, dist.OpPayloadExit, dist.OpPayloadExitTT:
		p.linkExit(m)
	case dist.OpExit2, dist.OpExit2TT, dist.OpPayloadExit2, dist.OpPayloadExit2TT:
		p.exitSignal(m)
	case dist.OpMonitorP:
		p.watched(m)
	case dist.OpDemonitorP:
		p.unwatched(m)
	case dist.OpSpawnRequest, dist.OpSpawnRequestTT:
		p.refuseSpawn(m)
	default:
		p.node.stats.unknownSignals.Add(1)
	}
}

// receiver is the mailbox that a signal is for: by name, alias, or pid.
func (p *Peer) receiver(m *dist.Message) *Mailbox {
	switch {
	case m.ToName != "":
		return p.node.mailboxNamed(m.ToName)
	case m.To != etf.Pid{}:
		return p.node.mailboxOf(m.To)
	default:
		return p.node.mailboxAliased(m.Ref)
	}
}

// message is an ordinary message, by whatever address.
func (p *Peer) message(m *dist.Message) {
	if m.ToName == netKernel || m.To == p.node.system {
		p.system(m)
		return
	}
	mb := p.receiver(m)
	if mb == nil {
		p.node.stats.unknownReceiver.Add(1)
		return
	}
	mb.put(p.wrap(Send, m), false)
}

// wrap is the Message of a received signal.
func (p *Peer) wrap(k Kind, m *dist.Message) *Message {
	return &Message{
		node: p.node, Kind: k, Node: p.name, From: m.From, FromName: m.FromName, Ref: m.Ref,
		payload: m.Payload, term: m.Reason,
	}
}

// altact is a message or an exit signal in the form that OTP 28 uses for
// priority messages.
func (p *Peer) altact(m *dist.Message) {
	if m.Flags&dist.AltactExit != 0 {
		p.exitSignal(m)
		return
	}
	p.message(m)
}

// linkExit is an exit signal over a link. It is delivered under the lock, so
// that nothing arrives after Unlink has returned.
func (p *Peer) linkExit(m *dist.Message) {
	mb := p.node.mailboxOf(m.To)
	if mb == nil {
		return
	}
	p.mu.Lock()
	ok := !p.links.exited(linkKey{mb.num, m.From}) || mb.enqueue(p.wrap(Exit, m), true)
	p.mu.Unlock()
	if !ok {
		mb.overflow()
	}
}

// exitSignal is what exit/2 sends. The reason kill closes the mailbox, which
// is what it does to a process, whether it traps exits or not.
func (p *Peer) exitSignal(m *dist.Message) {
	mb := p.receiver(m)
	if mb == nil {
		return
	}
	msg := p.wrap(Exit, m)
	// A longer encoding is no atom kill: do not decode it here.
	if msg.payload.Len() < 16 {
		if reason, err := msg.Term(); err == nil && reason == kill {
			mb.shut(ErrMailboxKilled, killed)
			return
		}
	}
	mb.put(msg, false)
}

// monitored is the end of what we monitor: a call's process, or a mailbox's
// own monitor.
func (p *Peer) monitored(m *dist.Message) {
	num, ok := p.node.ids.refNumber(m.Ref)
	if !ok {
		p.node.stats.unknownSignals.Add(1)
		return
	}
	p.mu.Lock()
	if r := p.pending[num]; r != nil {
		delete(p.pending, num)
		p.mu.Unlock()
		r.answer(outcome{payload: m.Payload, reason: m.Reason})
		return
	}
	mon, ok := p.monitors[num]
	delete(p.monitors, num)
	if !ok {
		p.mu.Unlock()
		p.node.stats.lateReplies.Add(1)
		return
	}
	msg := p.wrap(Down, m)
	msg.From, msg.FromName = mon.target, mon.name
	ok = mon.mailbox.enqueue(msg, true)
	p.mu.Unlock()
	if !ok {
		mon.mailbox.overflow()
	}
}

// refuseSpawn answers a spawn request: we run nothing for others.
func (p *Peer) refuseSpawn(m *dist.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.signal(dist.Control{Op: dist.OpSpawnReply, Ref: m.Ref, To: m.From, Result: etf.Atom("notsup")}, nil)
}
