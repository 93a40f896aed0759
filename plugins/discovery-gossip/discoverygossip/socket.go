package discoverygossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/debughost/debughost/sdk"
	"golang.org/x/net/ipv4"
)

// ears is the socket that packets are read from. It cannot send: what finds
// targets has nothing else.
type ears struct {
	conn *net.UDPConn
}

// read is the next packet. It is safe beside close, which ends it.
func (e *ears) read(b []byte) (n int, from netip.AddrPort, err error) {
	n, from, err = e.conn.ReadFromUDPAddrPort(b)
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
}

func (e *ears) close() { _ = e.conn.Close() }

// listenMany listens at an address of many, a group or a broadcast address, at
// the given interfaces.
//
// Where the system can do it the socket is bound to that very address. One that
// is bound to all addresses of a port that is shared is given, at random, what
// is sent to one of its owners alone: it would take other programs' packets.
func listenMany(ctx context.Context, to netip.AddrPort, at []nic) (*ears, error) {
	config := net.ListenConfig{Control: shared}
	bind := to.String()
	if runtime.GOOS != "linux" {
		bind = net.JoinHostPort("0.0.0.0", strconv.Itoa(int(to.Port())))
	}
	conn, err := config.ListenPacket(ctx, "udp4", bind)
	if errors.Is(err, syscall.EADDRNOTAVAIL) { // a broadcast address that no interface has
		conn, err = config.ListenPacket(ctx, "udp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(int(to.Port()))))
	}
	if err != nil {
		return nil, explainListen(err)
	}
	if to.Addr().IsMulticast() {
		if err := join(conn, to.Addr(), at); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return &ears{conn.(*net.UDPConn)}, nil
}

// join joins a group at as many of the interfaces as it can; at none is an
// error. The system limits how many one socket can.
func join(conn net.PacketConn, group netip.Addr, at []nic) error {
	p := ipv4.NewPacketConn(conn)
	var first error
	joined := 0
	for _, n := range at {
		if err := p.JoinGroup(&n.Interface, &net.UDPAddr{IP: group.AsSlice()}); err == nil {
			joined++
		} else if first == nil {
			first = fmt.Errorf("join %s at %s: %w", group, n.Name, err)
		}
	}
	if joined == 0 && first == nil {
		first = fmt.Errorf("join %s: no interface is up that has an IPv4 address", group)
	}
	if joined > 0 {
		return nil
	}
	return sdk.WithHint(first, "set multicast_if, or use peers where the network has no multicast")
}

func explainListen(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = fmt.Errorf("listen at %s: %w", op.Addr, op.Err)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return sdk.WithHint(err, "another program has this port; with peers, each member of a machine needs a port of its own")
	}
	return err
}

// mouth sends packets to all who may listen.
type mouth interface {
	// say sends to all. Some may have been reached when it fails.
	say(b []byte) error
	// reply sends to whoever sent from that address.
	reply(b []byte, to netip.AddrPort) error
	// heard says that a member sent from that address.
	heard(from netip.AddrPort, now time.Time)
}

// many is the mouth to an address of many: one packet by each of the chosen
// interfaces. It replies to all too: of several members that share a port and a
// machine, a packet to one address would reach any one.
type many struct {
	conn *ipv4.PacketConn
	to   *net.UDPAddr
	at   []nic
}

func speakToMany(ctx context.Context, to netip.AddrPort, at []nic, ttl int) (*many, error) {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", "0.0.0.0:0")
	if err != nil {
		return nil, explainListen(err)
	}
	m := &many{ipv4.NewPacketConn(conn), net.UDPAddrFromAddrPort(to), at}
	if to.Addr().IsMulticast() {
		err = errors.Join(m.conn.SetMulticastTTL(ttl), m.conn.SetMulticastLoopback(true))
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("set up socket: %w", err)
	}
	return m, nil
}

func (m *many) say(b []byte) error {
	var first error
	sent := false
	for _, n := range m.at {
		// By itself the system may take an address of another interface, or
		// none where the loopback one is the only one that is up.
		_, err := m.conn.WriteTo(b, &ipv4.ControlMessage{IfIndex: n.Index, Src: n.addrs[0].AsSlice()}, m.to)
		sent = sent || err == nil
		if err != nil && first == nil {
			first = fmt.Errorf("send to %s at %s: %w", m.to, n.Name, sendCause(err))
		}
	}
	if sent {
		return nil
	}
	return sdk.WithHint(first, "set multicast_if, or use peers where the network has no multicast")
}

func (m *many) reply(b []byte, _ netip.AddrPort) error { return m.say(b) }

func (m *many) heard(netip.AddrPort, time.Time) {}

func (m *many) close() { _ = m.conn.Close() }

// sendCause is the error without the addresses, one of which changes.
func sendCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// listenOne is the socket of unicast: it listens and sends.
func listenOne(ctx context.Context, addr string) (*net.UDPConn, error) {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, explainListen(err)
	}
	return conn.(*net.UDPConn), nil
}
