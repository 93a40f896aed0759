package target

import (
	"net"
	"os"
	"slices"
	"strings"

	"github.com/debughost/debughost/erl/node"
)

func remoteAddr(link *node.Peer) string {
	if a := link.Info().Addr; a != nil {
		return a.String()
	}
	return ""
}

// sameEndpoint tells whether two addresses are one listener: the same port on
// the same host, or on any two addresses of this machine.
func sameEndpoint(a, b string) bool {
	ha, pa, erra := net.SplitHostPort(a)
	hb, pb, errb := net.SplitHostPort(b)
	if erra != nil || errb != nil || pa != pb {
		return false
	}
	return ha == hb || isLocal(ha) && isLocal(hb)
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	if ip == nil {
		return host == "localhost"
	}
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// isHere tells whether a node is on this machine, by its address, or, where
// discovery gave none, by the host in its name.
func isHere(addr, name string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		_, host, _ = strings.Cut(name, "@")
	}
	if isLocal(host) {
		return true
	}
	own, err := os.Hostname()
	short, _, _ := strings.Cut(own, ".")
	return err == nil && net.ParseIP(host) == nil && (strings.EqualFold(host, own) || strings.EqualFold(host, short))
}
