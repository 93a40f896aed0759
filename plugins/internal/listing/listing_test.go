package listing

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		include, exclude, name string
		want                   bool
	}{
		{"", "", "shop@a", true},
		{"shop", "", "shop@a", true},
		{"shop", "", "shop2@a", false},
		{"shop?", "", "shop2@a", true},
		{"*@a", "", "shop@a", true},
		{"*@a", "", "shop@b", false},
		{"", "s*", "shop@b", false},
		{"shop", "*@b", "shop@b", false},
		{"m1", "", "m1", true},
	} {
		require.Equal(t, c.want, Wanted(strings.Fields(c.include), strings.Fields(c.exclude), c.name), "%+v", c)
	}
	require.NoError(t, CheckPattern("a*"))
	require.Error(t, CheckPattern(""))
	require.Error(t, CheckPattern("[a"))
	require.True(t, Own("debughost-x@y"))
	require.False(t, Own("shop@debughost"))
}

func TestCheckAddr(t *testing.T) {
	for _, good := range []string{"10.0.0.1:7946", "db-1.example.org:1", "[::1]:65535", "[fe80::1%eth0]:80", "0.0.0.0:7946", "localhost:9"} {
		require.NoError(t, CheckAddr(good), good)
	}
	for _, bad := range []string{"", "a", "a:", ":1", "a:0", "a:65536", "a:01", "a:+1", "a b:1", "a/b:1", "ä:1", "a\n:1", "::1:1", strings.Repeat("a", 255) + ":1"} {
		require.Error(t, CheckAddr(bad), "%q", bad)
	}
}

func TestReach(t *testing.T) {
	for _, c := range []struct {
		addr, host string
		here       bool
		want       string
	}{
		{"10.0.0.1:1", "db1", false, "10.0.0.1:1"},
		{"127.0.0.1:1", "db1", false, "db1:1"},
		{"localhost:1", "db1", false, "db1:1"},
		{"[::1]:1", "fe80::2", false, "[fe80::2]:1"},
		{"[::ffff:127.0.0.1]:1", "db1", false, "db1:1"},
		{"0.0.0.0:1", "db1", false, "db1:1"},
		{"[::]:1", "db1", false, "db1:1"},
		{"127.0.0.1:1", "", true, "127.0.0.1:1"},
		{"0.0.0.0:1", "", true, "127.0.0.1:1"},
		{"[::]:1", "", true, "[::1]:1"},
		{"10.0.0.1:1", "", true, "10.0.0.1:1"},
		{"nonsense", "db1", false, "nonsense"},
	} {
		require.Equal(t, c.want, Reach(c.addr, c.host, c.here), "%+v", c)
	}
}

func TestHere(t *testing.T) {
	addrs := []net.Addr{
		&net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)},
	}
	for ip, want := range map[string]bool{
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "10.0.0.2": false, "127.0.0.5": true, "0.0.0.0": true, "::": true, "::1": true, "fe80::1%eth0": true, "fe80::2": false,
	} {
		require.Equal(t, want, Here(netip.MustParseAddr(ip), addrs), ip)
	}
}
