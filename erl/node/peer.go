package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// Peer is the connection to one incarnation of one node. Its methods may be
// called from any goroutine. When the connection has ended they return a
// *NodeDownError, for good: connecting again makes another Peer.
type Peer struct {
	node *Node
	name string
	atom etf.Atom
	conn *dist.Conn
	done chan struct{}

	mu       sync.Mutex
	down     bool // nothing is added any more
	closing  bool // no calls are added any more
	cause    error
	pending  map[uint64]*request // by the number of the reference
	links    links
	monitors map[uint64]monitor  // ours, by the number of the reference
	watchers map[etf.Ref]watcher // the peer's monitors of our mailboxes
	backlog  []signal
	flushing bool // a goroutine is sending the backlog
}

func newPeer(n *Node, conn *dist.Conn) *Peer {
	name := conn.Peer().Name
	return &Peer{
		node: n, name: name, atom: etf.Atom(name), conn: conn, done: make(chan struct{}),
		pending: map[uint64]*request{}, links: newLinks(),
		monitors: map[uint64]monitor{}, watchers: map[etf.Ref]watcher{},
	}
}

// Name is the full name of the node.
func (p *Peer) Name() string { return p.name }

// Creation is that of the incarnation that is connected.
func (p *Peer) Creation() uint32 { return p.conn.Peer().Creation }

// Info is what the node said of itself in the handshake.
func (p *Peer) Info() dist.Peer { return p.conn.Peer() }

// TickSooner shortens the tick time of the connection to the peer's, where that
// is less (net_kernel:get_net_ticktime/0 tells it).
func (p *Peer) TickSooner(peers time.Duration) { p.conn.TickSooner(peers) }

// Stats counts what went over the connection.
func (p *Peer) Stats() dist.Stats { return p.conn.Stats() }

// Pid is the process with this id and serial, <0.id.serial> to the node
// itself, of the incarnation that is connected.
func (p *Peer) Pid(id, serial uint32) etf.Pid {
	return etf.Pid{Node: p.atom, ID: id, Serial: serial, Creation: p.Creation()}
}

// Done is closed when the connection has ended, after the mailboxes have been
// told.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Err is the *NodeDownError of a connection that has ended, nil before.
func (p *Peer) Err() error {
	select {
	case <-p.done:
		return p.nodeDown()
	default:
		return nil
	}
}

// closeGrace is how long a node is given to take what was sent before its
// connection is closed.
const closeGrace = 500 * time.Millisecond

// Close kills the processes of the calls that are under way, sends what is
// still to be sent, ends the connection, and returns when Done is closed: at
// once, or after half a second if the node takes nothing.
func (p *Peer) Close() { p.close(dist.ErrClosed) }

func (p *Peer) close(cause error) {
	p.mu.Lock()
	p.closing = true
	if p.cause == nil {
		p.cause = cause
	}
	unknown := false // calls whose processes the node has not told yet
	for num, r := range p.pending {
		switch {
		case r.spawn == nil && r.worker != (etf.Pid{}):
			delete(p.pending, num)
			p.killWorker(r, r.worker)
		case r.spawn == nil:
			unknown, r.abandoned = true, true
		}
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if unknown {
		p.awaitSettled(ctx)
	}
	_ = p.conn.Shutdown(ctx) // an error means that it is closed without
	<-p.done
}

// awaitSettled waits until the node has told the processes of the calls that
// were abandoned, which ends them, or until ctx ends.
func (p *Peer) awaitSettled(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for p.Pending() > 0 {
		select {
		case <-tick.C:
		case <-p.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// abort ends the connection without waiting for the node.
func (p *Peer) abort() {
	_ = p.conn.Close()
	<-p.done
}

// Pending is how many calls and spawns wait for the node, those included that
// their callers have given up but the node has not confirmed.
func (p *Peer) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending)
}

// run serves the connection until it ends.
func (p *Peer) run() {
	p.finish(p.conn.Run(context.Background(), dist.HandlerFunc(p.receive)))
}

// finish ends the Peer: no new work, then the mailboxes hear of it, then it
// leaves the node's table so that a new connection may take the place, then
// whoever waits goes on.
func (p *Peer) finish(err error) {
	p.mu.Lock()
	p.down = true
	if p.cause == nil {
		p.cause = err
	}
	full := p.noconnection()
	clear(p.pending)
	clear(p.watchers)
	p.backlog = nil
	p.mu.Unlock()
	for _, mb := range full {
		mb.overflow()
	}
	p.node.forget(p)
	close(p.done)
}

// noconnection is the reason that those hear who were tied to a lost node.
const noconnection = etf.Atom("noconnection")

// noconnection tells the mailboxes that their links and monitors have ended,
// and returns those that have no room for it; p.mu is held.
func (p *Peer) noconnection() (full []*Mailbox) {
	tell := func(mb *Mailbox, m *Message) {
		m.Node, m.term = p.name, noconnection
		if !mb.enqueue(m, true) {
			full = append(full, mb)
		}
	}
	for k := range p.links.entries {
		if mb := p.node.mailboxNumbered(k.local); mb != nil && p.links.exited(k) {
			tell(mb, &Message{Kind: Exit, From: k.remote})
		}
	}
	for num, m := range p.monitors {
		delete(p.monitors, num)
		tell(m.mailbox, &Message{Kind: Down, From: m.target, FromName: m.name, Ref: p.node.ids.refOf(num)})
	}
	return full
}

// nodeDown is the error of everything that the end of the connection ends.
func (p *Peer) nodeDown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodeDownLocked()
}

func (p *Peer) nodeDownLocked() error { return &NodeDownError{Node: p.name, Cause: p.cause} }

// owns checks that a pid is of this incarnation of the node. A creation of 0,
// which the emulator takes for any, is refused too.
func (p *Peer) owns(pid etf.Pid) error {
	switch {
	case pid.Node != p.atom:
		return fmt.Errorf("%w: it is of %s, this is %s", ErrForeignPid, pid.Node, p.name)
	case pid.Creation != p.Creation():
		return fmt.Errorf("%w: it is of creation %d, %s is %d", ErrStalePid, pid.Creation, p.name, p.Creation())
	}
	return nil
}

// Send sends a message to a process of the node, from a pid that stands for
// our node. It does not block: dist.ErrQueueFull says that the node takes too
// little off the wire now. No error does not mean that it arrived.
func (p *Peer) Send(to etf.Pid, msg etf.Term) error { return p.send(p.node.system, to, msg) }

// SendName is Send to a registered name.
func (p *Peer) SendName(name string, msg etf.Term) error {
	return p.sendName(p.node.system, name, msg)
}

// Exit sends a process of the node an exit signal, as exit/2 does: the reason
// kill kills it, normal does nothing to it unless it traps exits.
func (p *Peer) Exit(to etf.Pid, reason etf.Term) error { return p.exit(p.node.system, to, reason) }

func (p *Peer) send(from, to etf.Pid, msg etf.Term) error {
	if err := p.owns(to); err != nil {
		return fmt.Errorf("send to %s: %w", etf.FormatPid(to), err)
	}
	return p.trySend(&dist.Control{Op: p.sendOp(), From: from, To: to}, msg)
}

// sendOp is the operation of a message to a pid.
func (p *Peer) sendOp() dist.Op {
	if p.conn.Flags()&dist.FlagSendSender != 0 {
		return dist.OpSendSender
	}
	return dist.OpSend
}

func (p *Peer) sendName(from etf.Pid, name string, msg etf.Term) error {
	return p.trySend(&dist.Control{Op: dist.OpRegSend, From: from, ToName: etf.Atom(name)}, msg)
}

func (p *Peer) exit(from, to etf.Pid, reason etf.Term) error {
	if err := p.owns(to); err != nil {
		return fmt.Errorf("send exit signal to %s: %w", etf.FormatPid(to), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signalReason(dist.Control{Op: dist.OpExit2, From: from, To: to}, reason)
}

// trySend sends a message behind all signals. The message is encoded outside
// of the lock, since it may be large.
func (p *Peer) trySend(m *dist.Control, msg etf.Term) error {
	p.mu.Lock()
	down, waiting := p.down, len(p.backlog) > 0
	p.mu.Unlock()
	if down {
		return p.nodeDown()
	}
	if waiting {
		return fmt.Errorf("send to %s: %w", p.name, dist.ErrQueueFull)
	}
	if err := p.conn.TrySend(m, msg); err != nil {
		return p.sendError(err)
	}
	return nil
}

// sendError tells the end of the connection from what concerns one message.
func (p *Peer) sendError(err error) error {
	if connErr := p.conn.Err(); connErr != nil && errors.Is(err, connErr) {
		return &NodeDownError{Node: p.name, Cause: connErr}
	}
	return fmt.Errorf("send to %s: %w", p.name, err)
}
