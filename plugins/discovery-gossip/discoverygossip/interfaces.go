package discoverygossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/debughost/debughost/sdk"
)

// nic is an interface that can be used: it is up and has an IPv4 address.
type nic struct {
	net.Interface
	addrs []netip.Addr // IPv4
}

func (n nic) loopback() bool { return n.Flags&net.FlagLoopback != 0 }

// nics lists the interfaces of this machine that can carry packets to many. The
// text is the same while they are.
func nics() (list []nic, addrs []net.Addr, text string, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, nil, "", fmt.Errorf("list interfaces: %w", err)
	}
	var b strings.Builder
	for _, i := range all {
		here, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue // it has just gone
		}
		n := nic{Interface: i}
		for _, a := range here {
			addrs = append(addrs, a)
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				n.addrs = append(n.addrs, p.Addr())
				fmt.Fprintf(&b, "%d %s\n", i.Index, p)
			}
		}
		if len(n.addrs) > 0 && (i.Flags&(net.FlagMulticast|net.FlagBroadcast) != 0 || n.loopback()) {
			list = append(list, n)
		}
	}
	return list, addrs, b.String(), nil
}

// choose picks the interfaces to send at: the one that is wanted, by name or
// address; else the one that the system sends to the address by; else all but
// the loopback one, and that one where there is no other.
func choose(list []nic, wanted string, to netip.AddrPort) ([]nic, error) {
	if wanted != "" {
		return pick(list, wanted)
	}
	if by, err := routeTo(to); err == nil {
		if found, err := pick(list, by); err == nil {
			return found, nil
		}
	}
	var out []nic
	for _, n := range list {
		if !n.loopback() {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		out = list
	}
	if len(out) == 0 {
		return nil, errors.New("no interface is up that has an IPv4 address")
	}
	return out, nil
}

func pick(list []nic, wanted string) ([]nic, error) {
	addr, _ := netip.ParseAddr(wanted)
	for _, n := range list {
		if n.Name == wanted {
			return []nic{n}, nil
		}
		for _, a := range n.addrs {
			if a == addr {
				return []nic{n}, nil
			}
		}
	}
	return nil, sdk.WithHint(fmt.Errorf("no interface that is up is called %s or has that address", wanted), "check multicast_if; `ip -4 addr` lists them")
}

// routeTo is the address of the interface by which the system sends there.
// Nothing is sent.
func routeTo(to netip.AddrPort) (string, error) {
	c, err := net.Dial("udp4", to.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().String(), nil
}
