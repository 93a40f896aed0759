package target_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// A node that no EPMD knows is attached to at the address that is given.
func TestNodeWithoutEPMD(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		require.NoError(t, l.Close())
		b := erltest.Start(t, erltest.Options{OTP: otp, Args: []string{"-pa", noEPMD(t, otp, port), "-epmd_module", "noepmd"}})
		names, err := b.EPMD.Names()
		require.NoError(t, err)
		require.NotContains(t, names, b.Name[:len(b.Name)-len("@localhost")])
		r := newRig(t, cookies(b))
		r.SetFound("test", []target.Found{{Node: b.Name, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}})
		r.await(t, b.Name, target.Attached)
		assert.Len(t, r.ps(t, target.ProcessQuery{Sort: "memory", Limit: 3}).all, 3)
	})
}

// noEPMD compiles a module that stands in for EPMD's client: the node listens at
// the port and tells nobody.
func noEPMD(t *testing.T, otp string, port int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	source := filepath.Join(dir, "noepmd.erl")
	require.NoError(t, os.WriteFile(source, fmt.Appendf(nil, `-module(noepmd).
-export([start_link/0, register_node/2, register_node/3, listen_port_please/2, port_please/2, port_please/3, address_please/3, names/1]).
start_link() -> ignore.
register_node(N, P) -> register_node(N, P, inet).
register_node(_, _, _) -> {ok, 7}.
listen_port_please(_, _) -> {ok, %d}.
port_please(_, _) -> noport.
port_please(_, _, _) -> noport.
address_please(_, Host, Family) -> inet:getaddr(Host, Family).
names(_) -> {error, address}.
`, port), 0o600))
	cmd := exec.Command(filepath.Join(erltest.Dir(), otp, "bin", "erlc"), "-o", dir, source)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}
