package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// realNetwork is UDP and TCP.
type realNetwork struct{}

// Listen binds TCP and UDP to one port.
func (realNetwork) Listen(ctx context.Context, addr string) (net.PacketConn, net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %q: want host:port", addr)
	}
	tries := 1
	if port == "0" { // the port that is free for TCP may be taken for UDP
		tries = 20
	}
	var lc net.ListenConfig
	for ; ; tries-- {
		tcp, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, nil, err
		}
		bound := net.JoinHostPort(host, strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port))
		udp, err := lc.ListenPacket(ctx, "udp", bound)
		if err == nil {
			growBuffer(udp.(*net.UDPConn))
			return udp, tcp, nil
		}
		tcp.Close()
		if tries == 1 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, err
		}
	}
}

// growBuffer asks for room for a burst of gossip. The kernel may refuse a large
// one.
func growBuffer(c *net.UDPConn) {
	for size := 2 << 20; size >= 64<<10; size /= 2 {
		if c.SetReadBuffer(size) == nil {
			return
		}
	}
}

// Dial connects over TCP.
func (realNetwork) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// maxResolved bounds how many addresses of one name are used.
const maxResolved = 16

// resolve turns host:port, or a host alone, into addresses. It returns at least
// one, or an error.
func resolve(ctx context.Context, addr string, defaultPort int) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		host, service = addr, strconv.Itoa(defaultPort)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address %q: bad port", addr)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), uint16(port))}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	var out []netip.AddrPort
	for _, ip := range ips[:min(len(ips), maxResolved)] {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("look up %s: it has no address", host)
	}
	return out, nil
}

// addrPort is a net.Addr as netip has it.
func addrPort(a net.Addr) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ap, fmt.Errorf("address %s: %w", a, err)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
