// Package clustertest is a network in memory for tests of clusters: packets
// are lost and late, groups of hosts are cut off from each other, hosts freeze
// and are killed. It knows nothing of what is sent.
//
// It is no simulation of time: clocks are real.
//
//	net := clustertest.New(clustertest.Options{Loss: 0.05, Seed: 1})
//	a, err := cluster.New(cluster.Config{Name: "a", Bind: "10.0.0.1:7946", Network: net.Host("10.0.0.1"), …})
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options are a network's bad habits. The zero value has none.
type Options struct {
	Loss  float64       // share of packets that are lost; streams lose nothing
	Delay time.Duration // of a packet, on average
	Seed  uint64        // of what is lost
}

// Network connects hosts. All methods may be called from any goroutine.
type Network struct {
	opts Options

	mu     sync.Mutex
	rand   *rand.Rand
	ports  map[netip.AddrPort]*port
	next   uint16
	group  map[string]int     // by host; hosts of different groups do not reach each other
	oneWay map[[2]string]bool // from, to: blocked
	frozen map[string]bool    // hosts that neither send nor receive
	change chan struct{}      // closed when any of the last three changes
	pipes  map[*end]struct{}

	packets, bytes atomic.Uint64
}

// New returns a network without hosts.
func New(o Options) *Network {
	return &Network{
		opts: o, rand: rand.New(rand.NewPCG(o.Seed, 1)),
		ports: map[netip.AddrPort]*port{}, next: 40000, group: map[string]int{}, oneWay: map[[2]string]bool{},
		frozen: map[string]bool{}, change: make(chan struct{}), pipes: map[*end]struct{}{},
	}
}

// Host returns the view that the host with an IP address has of the network.
func (n *Network) Host(ip string) *Host { return &Host{n, netip.MustParseAddr(ip)} }

// Traffic returns how much was sent since the network was made: packets, and
// bytes of packets and streams.
func (n *Network) Traffic() (packets, bytes uint64) { return n.packets.Load(), n.bytes.Load() }

// Partition puts hosts (by IP) into groups that do not reach each other. Hosts
// in no group form one of their own.
func (n *Network) Partition(groups ...[]string) {
	n.alter(func() {
		clear(n.group)
		for i, g := range groups {
			for _, ip := range g {
				n.group[ip] = i + 1
			}
		}
	})
}

// Block lets nothing through from one host to another one; the way back stays
// open.
func (n *Network) Block(from, to string) { n.alter(func() { n.oneWay[[2]string{from, to}] = true }) }

// Heal ends Partition and Block.
func (n *Network) Heal() { n.alter(func() { clear(n.group); clear(n.oneWay) }) }

// Freeze makes hosts deaf and dumb: the kernel still accepts their streams, and
// nobody reads them.
func (n *Network) Freeze(ips ...string) { n.alter(func() { set(n.frozen, ips, true) }) }

// Thaw ends Freeze.
func (n *Network) Thaw(ips ...string) { n.alter(func() { set(n.frozen, ips, false) }) }

func set(m map[string]bool, keys []string, v bool) {
	for _, k := range keys {
		m[k] = v
	}
}

// Kill closes everything that a host has open, as the kernel does for a process
// that is killed.
func (n *Network) Kill(ip string) {
	n.mu.Lock()
	var ports []*port
	for at, p := range n.ports {
		if at.Addr().String() == ip {
			ports = append(ports, p)
		}
	}
	var ends []*end
	for e := range n.pipes {
		if e.host == ip {
			ends = append(ends, e)
		}
	}
	n.mu.Unlock()
	for _, p := range ports {
		p.close()
	}
	for _, e := range ends {
		_ = e.Close()
	}
}

func (n *Network) alter(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.change)
	n.change = make(chan struct{})
}

// passes tells whether anything gets from one host to another one now, and
// returns a channel that is closed when that may have changed. The caller holds
// mu.
func (n *Network) passes(from, to string) (bool, <-chan struct{}) {
	return !n.frozen[from] && !n.frozen[to] && n.connected(from, to), n.change
}

func (n *Network) connected(from, to string) bool {
	return n.group[from] == n.group[to] && !n.oneWay[[2]string{from, to}]
}

// port is an open address.
type port struct {
	net     *Network
	at      netip.AddrPort
	packets chan packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type packet struct {
	b    []byte
	from netip.AddrPort
}

func (p *port) close() {
	p.once.Do(func() {
		close(p.closed)
		p.net.mu.Lock()
		delete(p.net.ports, p.at)
		p.net.mu.Unlock()
	})
}

// Host is one host's network: a cluster.Network.
type Host struct {
	net *Network
	ip  netip.Addr
}

// Listen opens an address of the host, whatever host addr names.
func (h *Host) Listen(_ context.Context, addr string) (net.PacketConn, net.Listener, error) {
	_, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, err
	}
	var number uint16
	if _, err := fmt.Sscan(service, &number); err != nil {
		return nil, nil, err
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if number == 0 {
		h.net.next++
		number = h.net.next
	}
	at := netip.AddrPortFrom(h.ip, number)
	if h.net.ports[at] != nil {
		return nil, nil, &net.OpError{Op: "listen", Net: "memory", Err: syscall.EADDRINUSE}
	}
	p := &port{
		net: h.net, at: at, packets: make(chan packet, 1024), streams: make(chan net.Conn, 128),
		closed: make(chan struct{}),
	}
	h.net.ports[at] = p
	return &packetConn{p}, &listener{p}, nil
}

// Dial opens a stream. As on a real network it is refused at once where nobody
// listens, and not answered where nothing gets through.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	from := h.ip.String()
	for {
		h.net.mu.Lock()
		open := !h.net.frozen[from] && h.net.connected(from, to.Addr().String()) && h.net.connected(to.Addr().String(), from)
		change, p := h.net.change, h.net.ports[to]
		var ours, theirs *end
		if open && p != nil {
			ours, theirs = h.net.pipe(from, to)
		}
		h.net.mu.Unlock()
		if open && p == nil {
			return nil, &net.OpError{Op: "dial", Net: "memory", Err: syscall.ECONNREFUSED}
		}
		if open {
			select {
			case p.streams <- theirs:
				return ours, nil
			case <-p.closed:
				_ = ours.Close()
				return nil, &net.OpError{Op: "dial", Net: "memory", Err: syscall.ECONNREFUSED}
			case <-ctx.Done():
				_ = ours.Close()
				return nil, &net.OpError{Op: "dial", Net: "memory", Err: ctx.Err()}
			}
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "memory", Err: ctx.Err()}
		}
	}
}

// packetConn is a port's packets.
type packetConn struct{ *port }

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case p := <-c.packets:
		return copy(b, p.b), net.UDPAddrFromAddrPort(p.from), nil
	}
}

func (c *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	to, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return 0, err
	}
	n := c.net
	n.packets.Add(1)
	n.bytes.Add(uint64(len(b)))
	n.mu.Lock()
	open, _ := n.passes(c.at.Addr().String(), to.Addr().String())
	lost := n.rand.Float64() < n.opts.Loss
	var delay time.Duration
	if n.opts.Delay > 0 {
		delay = time.Duration(n.rand.ExpFloat64() * float64(n.opts.Delay))
	}
	p := n.ports[to]
	n.mu.Unlock()
	if !open || lost || p == nil {
		return len(b), nil
	}
	sent := packet{append([]byte(nil), b...), c.at}
	if delay == 0 {
		p.deliver(sent)
	} else {
		time.AfterFunc(delay, func() { p.deliver(sent) })
	}
	return len(b), nil
}

func (p *port) deliver(x packet) {
	select {
	case p.packets <- x:
	default: // the receiver's buffer is full
	}
}

func (c *packetConn) Close() error                     { c.close(); return nil }
func (c *packetConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.at) }
func (c *packetConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *packetConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c *packetConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// listener is a port's streams.
type listener struct{ *port }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case c := <-l.streams:
		return c, nil
	}
}

func (l *listener) Close() error   { l.close(); return nil }
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
