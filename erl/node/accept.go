package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
)

// maxHandshakes is how many connections may be in their handshake at once;
// further ones wait in the listener's backlog.
const maxHandshakes = 64

// Pauses between attempts to register with EPMD again.
const (
	minRegisterPause = 100 * time.Millisecond
	maxRegisterPause = 10 * time.Second
)

// Addr is where the node listens, as host:port, once Run has begun; empty
// where it does not accept.
func (n *Node) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr
}

// Started is closed when Run listens, is registered, and lets Connect go on.
func (n *Node) Started() <-chan struct{} { return n.started }

// listen starts the accepting side, if there is to be one. Its goroutines end
// with ctx.
func (n *Node) listen(ctx context.Context) error {
	a := n.cfg.Accept
	if a == nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.Addr)
	if err != nil {
		return fmt.Errorf("listen for nodes on %s: %w", a.Addr, err)
	}
	if !a.NoEPMD {
		reg, err := n.register(ctx, l.Addr())
		if err != nil {
			_ = l.Close()
			return err
		}
		n.wg.Go(func() { n.keepRegistered(ctx, l.Addr(), reg) })
	}
	n.mu.Lock()
	n.addr = l.Addr().String()
	n.mu.Unlock()
	n.wg.Go(func() { n.accept(ctx, l) })
	return nil
}

func (n *Node) register(ctx context.Context, addr net.Addr) (*epmd.Registration, error) {
	name, _, _ := strings.Cut(n.cfg.Name, "@")
	return n.cfg.EPMD.Register(ctx, epmd.Node{Name: name, Port: addr.(*net.TCPAddr).Port})
}

// keepRegistered registers again when EPMD was restarted.
func (n *Node) keepRegistered(ctx context.Context, addr net.Addr, reg *epmd.Registration) {
	pause := minRegisterPause
	for {
		if reg != nil {
			pause = minRegisterPause
			select {
			case <-reg.Lost():
			case <-ctx.Done():
				_ = reg.Close()
				return
			}
			_ = reg.Close()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, maxRegisterPause)
		reg, _ = n.register(ctx, addr)
	}
}

// accept takes connections until ctx ends.
func (n *Node) accept(ctx context.Context, l net.Listener) {
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := make(chan struct{}, maxHandshakes)
	for {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = nc.Close()
			}
			return
		}
		if err != nil { // such as too many open files: do not spin
			select {
			case <-time.After(minRegisterPause):
			case <-ctx.Done():
			}
			continue
		}
		places <- struct{}{}
		handshakes.Go(func() {
			defer func() { <-places }()
			n.greet(ctx, nc)
		})
	}
}

// greet runs the handshake of one that connects. What fails here is the other
// side's to report.
func (n *Node) greet(ctx context.Context, nc net.Conn) {
	g := &greeting{done: make(chan struct{})}
	defer close(g.done)
	var name string
	decide := func(_ context.Context, peer dist.Peer) (dist.Decision, error) {
		name = peer.Name
		return n.decide(g, peer)
	}
	conn, err := dist.Accept(ctx, nc, n.cfg.Dist, dist.AcceptOptions{Decide: decide})
	if err == nil {
		_, _ = n.adopt(conn)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.greetings[name] == g {
		delete(n.greetings, name)
	}
}

// errNoCookie refuses a node that AcceptConfig.Cookie has no cookie for.
var errNoCookie = errors.New("no cookie is configured for the node")

// decide answers a node that connects and has not proven its cookie yet. From
// here until the end of the greeting an attempt of ours to reach the node
// waits; one under way goes on or yields by the rule that both sides follow.
func (n *Node) decide(g *greeting, peer dist.Peer) (dist.Decision, error) {
	cookie := n.cfg.Accept.Cookie(peer)
	if cookie.IsZero() {
		return dist.Decision{}, errNoCookie
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	d := dist.Decision{Status: dist.StatusOK, Cookie: cookie}
	if old := n.peers[peer.Name]; old != nil {
		d.Status = dist.StatusAlive
		d.Replace = func(context.Context) error { old.abort(); return nil }
		return d, nil
	}
	if a := n.attempts[peer.Name]; a != nil && a.hangUp != nil {
		d.Status = dist.ResolveSimultaneous(n.cfg.Name, peer.Name)
		if d.Status == dist.StatusNOK {
			return d, nil
		}
		a.yielded = true
		a.hangUp()
	}
	n.greetings[peer.Name] = g
	return d, nil
}
