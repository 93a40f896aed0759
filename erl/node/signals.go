package node

import (
	"context"
	"errors"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// maxBacklog is how many signals may wait for a peer whose send queue is full.
const maxBacklog = 64 << 10

// errStuck ends the connection to a peer that takes nothing off the wire while
// it makes us answer.
var errStuck = errors.New("the node does not read, and too many signals wait for it")

// signal is an outgoing control message.
type signal struct {
	control dist.Control
	payload etf.Term
}

// signal sends what must not get lost: links, monitors, exits and their
// answers. It never blocks, also not the reader; what finds the send queue
// full waits in the backlog, and then everything after it does too, so that
// the order is kept. p.mu is held, which makes a change of a table and its
// signal one step.
func (p *Peer) signal(m dist.Control, payload etf.Term) error {
	if p.down {
		return p.nodeDownLocked()
	}
	if len(p.backlog) == 0 {
		err := p.conn.TrySend(&m, payload)
		if err == nil {
			return nil
		}
		if !errors.Is(err, dist.ErrQueueFull) {
			return p.sendError(err)
		}
	}
	if len(p.backlog) >= maxBacklog {
		if p.cause == nil {
			p.cause = errStuck
		}
		_ = p.conn.Close()
		return p.nodeDownLocked()
	}
	p.backlog = append(p.backlog, signal{m, payload})
	if !p.flushing {
		p.flushing = true
		p.node.wg.Go(p.flush)
	}
	return nil
}

// flush sends the backlog and ends when it is empty, or with the connection.
// A signal leaves the backlog when it is queued, so that what is sent
// meanwhile stays behind it.
func (p *Peer) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.down && len(p.backlog) > 0 {
		s := p.backlog[0]
		p.mu.Unlock()
		// Only the end of the connection makes this fail or end: what does
		// not encode failed in TrySend already.
		_ = p.conn.Send(context.Background(), &s.control, s.payload)
		p.mu.Lock()
		if len(p.backlog) > 0 {
			p.backlog[0] = signal{}
			p.backlog = p.backlog[1:]
		}
	}
	p.flushing = false
}

// withPayload are the operations that carry their reason as payload where both
// sides can.
var withPayload = map[dist.Op]dist.Op{
	dist.OpExit:         dist.OpPayloadExit,
	dist.OpExit2:        dist.OpPayloadExit2,
	dist.OpMonitorPExit: dist.OpPayloadMonitorPExit,
}

// signalReason is signal for the operations with a reason.
func (p *Peer) signalReason(m dist.Control, reason etf.Term) error {
	if p.conn.Flags()&dist.FlagExitPayload != 0 {
		m.Op = withPayload[m.Op]
		return p.signal(m, reason)
	}
	m.Reason = reason
	return p.signal(m, nil)
}
