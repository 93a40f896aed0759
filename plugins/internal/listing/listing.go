// Package listing is what the bundled discovery strategies agree on: which
// nodes a config wants to have listed, and where a member is reached that says
// something of its own address. It asks nobody and knows no protocol.
//
//	if listing.Wanted(c.Include, c.Exclude, "shop@db1") { … }
package listing

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Own tells whether a BEAM node's name is one of debughost's own, which is
// never a target.
func Own(name string) bool { return strings.HasPrefix(name, "debughost") }

// CheckPattern accepts what Wanted takes: * is anything and ? one character.
func CheckPattern(p string) error {
	if _, err := path.Match(p, ""); err != nil || p == "" {
		return fmt.Errorf("%q is not a pattern", p)
	}
	return nil
}

// Wanted applies patterns to a full name. Those without an @ are for the part
// before it. Nothing to include means everything.
func Wanted(include, exclude []string, name string) bool {
	return (len(include) == 0 || matches(include, name)) && !matches(exclude, name)
}

func matches(patterns []string, name string) bool {
	alive, _, _ := strings.Cut(name, "@")
	return slices.ContainsFunc(patterns, func(p string) bool {
		subject := alive
		if strings.Contains(p, "@") {
			subject = name
		}
		ok, _ := path.Match(p, subject)
		return ok
	})
}

// CheckAddr accepts host:port where the host is an address or a name, as a
// member tells it to others.
func CheckAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || len(addr) > 255 {
		return fmt.Errorf("%.64q is not host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%.64q has no valid port", addr)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	for _, r := range host {
		if r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return fmt.Errorf("%.64q has no valid host", addr)
		}
	}
	if host == "" {
		return errors.New("the host is missing")
	}
	return nil
}

// Reach is where a member is reached that says addr of itself and was met at
// host; here tells whether that is this machine. An address that is good on
// the member's own machine only is replaced by the host.
func Reach(addr, host string, here bool) string {
	own, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	ip, err := netip.ParseAddr(own)
	loopback := strings.EqualFold(own, "localhost") || err == nil && ip.Unmap().IsLoopback()
	unspecified := err == nil && ip.Unmap().IsUnspecified()
	switch {
	case here && unspecified && ip.Is4():
		return net.JoinHostPort("127.0.0.1", port)
	case here && unspecified:
		return net.JoinHostPort("::1", port)
	case !here && (loopback || unspecified):
		return net.JoinHostPort(host, port)
	}
	return addr
}

// Here tells whether an address is one of this machine's; a packet from no
// address at all comes from here, too. addrs is what net.InterfaceAddrs returns.
func Here(ip netip.Addr, addrs []net.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsUnspecified() || slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap().WithZone("") == ip.WithZone("")
	})
}
