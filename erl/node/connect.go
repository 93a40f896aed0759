package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/debughost/debughost/erl/dist"
)

// attempt is one try to reach a node, shared by all that want to connect to
// it. Its dial may have to yield to the connection that the node makes to us.
type attempt struct {
	cancel context.CancelFunc
	done   chan struct{}
	peer   *Peer // after done
	err    error // after done

	// Guarded by Node.mu.
	waiters int                // the last one that leaves cancels it
	yielded bool               // the dial under way is given up for theirs
	hangUp  context.CancelFunc // of the dial under way; nil between dials
	arrived chan struct{}      // closed when their connection is up
}

// greeting is a handshake under way with a node that connects to us.
type greeting struct{ done chan struct{} }

// simultaneousPause is how long a node that told us to wait for its own dial
// is given before we dial again.
const simultaneousPause = 250 * time.Millisecond

// Connect returns the connection to a node, making it if there is none. Those
// that ask at the same time share one attempt, and the options of the first.
// It waits for Run to begin.
//
// A failure is a *ConnectError; its cause, where the node itself refused, a
// *dist.HandshakeError.
func (n *Node) Connect(ctx context.Context, name string, o DialOptions) (*Peer, error) {
	select {
	case <-n.started:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to %s: %w", name, ctx.Err())
	}
	for {
		a, p, err := n.join(name, o)
		switch {
		case err != nil:
			return nil, err
		case a != nil:
			return n.await(ctx, a, name)
		case p.conn.Err() == nil:
			return p, nil
		}
		select { // its connection has just ended: it is about to leave
		case <-p.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w", name, ctx.Err())
		}
	}
}

// await waits for the end of an attempt, unless ctx ends first.
func (n *Node) await(ctx context.Context, a *attempt, name string) (*Peer, error) {
	select {
	case <-a.done:
		return a.peer, a.err
	case <-ctx.Done():
		n.leave(a)
		return nil, fmt.Errorf("connect to %s: %w", name, ctx.Err())
	}
}

// join returns the connection there is, or the attempt under way, which it
// starts if need be.
func (n *Node) join(name string, o DialOptions) (*attempt, *Peer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, nil, fmt.Errorf("connect to %s: %w", name, ErrClosed)
	}
	if p := n.peers[name]; p != nil {
		return nil, p, nil
	}
	a := n.attempts[name]
	if a == nil {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.ConnectTimeout)
		a = &attempt{cancel: cancel, done: make(chan struct{})}
		n.attempts[name] = a
		n.wg.Go(func() { n.try(ctx, a, name, o) })
	}
	a.waiters++
	return a, nil, nil
}

// leave gives an attempt up; without anybody left it ends.
func (n *Node) leave(a *attempt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.waiters--; a.waiters == 0 {
		a.cancel()
	}
}

// try reaches the node and settles the attempt.
func (n *Node) try(ctx context.Context, a *attempt, name string, o DialOptions) {
	defer close(a.done)
	defer a.cancel()
	for {
		a.peer, a.err = n.tryOnce(ctx, a, name, o)
		if a.peer != nil || ctx.Err() != nil || !isSuperseded(a.err) {
			break
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attempts, name)
}

// errYielded gives a dial up for the connection that the node makes to us.
var errYielded = errors.New("the node connects to us")

// isSuperseded tells the outcomes of a dial after which the connection that
// the node makes to us is looked for.
func isSuperseded(err error) bool {
	return errors.Is(err, errYielded) || errors.Is(err, dist.ErrSimultaneous) || errors.Is(err, dist.ErrAlive)
}

// tryOnce dials, unless the node is just connecting to us.
func (n *Node) tryOnce(ctx context.Context, a *attempt, name string, o DialOptions) (*Peer, error) {
	n.mu.Lock()
	g := n.greetings[name]
	n.mu.Unlock()
	if g != nil {
		select {
		case <-g.done:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	if p := n.peers[name]; p != nil {
		n.mu.Unlock()
		return p, nil
	}
	dialCtx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	a.yielded, a.hangUp, a.arrived = false, hangUp, make(chan struct{})
	arrived := a.arrived
	n.mu.Unlock()

	// The node may have a connection of ours that we know nothing of: it is of
	// an earlier incarnation, unless the node has just connected to us, or is
	// connected under another name than the one we ask for.
	var renamed *Peer
	conn, err := n.dial(dialCtx, name, o, func(remote net.Addr) bool {
		if o.Rename != nil {
			renamed = n.peerAt(remote)
		}
		return renamed != nil || n.isGreeting(name)
	})
	if renamed != nil {
		return renamed, nil
	}
	n.mu.Lock()
	yielded := a.yielded
	a.hangUp = nil
	n.mu.Unlock()
	if err == nil && !yielded {
		var p *Peer
		if p, err = n.adopt(conn); err == nil {
			return p, nil
		}
	}
	if yielded {
		if err == nil {
			_ = conn.Close()
		}
		return nil, &ConnectError{Node: name, Stage: StageHandshake, Cause: errYielded}
	}
	if errors.Is(err, dist.ErrSimultaneous) {
		select {
		case <-arrived:
		case <-time.After(simultaneousPause): // it may be unable to reach us
		case <-ctx.Done():
		}
	}
	return nil, err
}

// adopt makes a Peer of a connection whose handshake is done, and starts it.
func (n *Node) adopt(conn *dist.Conn) (*Peer, error) {
	p := newPeer(n, conn)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed || n.ctx.Err() != nil:
		_ = conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", p.name, ErrClosed)
	case n.peers[p.name] != nil:
		_ = conn.Close()
		return nil, &ConnectError{Node: p.name, Stage: StageHandshake, Cause: dist.ErrAlive}
	}
	n.peers[p.name] = p
	if a := n.attempts[p.name]; a != nil && a.arrived != nil {
		close(a.arrived)
		a.arrived = nil
	}
	n.wg.Go(p.run)
	return p, nil
}

// forget takes a Peer that has ended out of the table.
func (n *Node) forget(p *Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peers[p.name] == p {
		delete(n.peers, p.name)
	}
}

// peerAt is the connection that we made to an address, nil without one.
func (n *Node) peerAt(remote net.Addr) *Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		if a := p.conn.Peer().Addr; a != nil && a.String() == remote.String() {
			return p
		}
	}
	return nil
}

// isGreeting tells whether a node has connected to us, or is about to have.
func (n *Node) isGreeting(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[name] != nil || n.greetings[name] != nil
}
