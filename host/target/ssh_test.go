package target_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/reach"
	"github.com/debughost/debughost/host/target"
)

// bastion is an sshd of a test, and a user's ssh that knows it under this name.
type bastion struct {
	dir  string
	sshd *exec.Cmd
}

// startBastion runs OpenSSH's sshd at a loopback port, with keys of its own, and
// puts an ssh first in PATH that has a configuration of the test.
func startBastion(t *testing.T) *bastion {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("no sshd here: tools/need.sh /usr/sbin/sshd=openssh-server")
	}
	ssh, err := exec.LookPath("ssh")
	require.NoError(t, err)
	if os.Getuid() == 0 { // its service makes it elsewhere
		require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	}
	b := &bastion{dir: t.TempDir()}
	for _, key := range []string{"host", "user"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", b.path(key)).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	public, err := os.ReadFile(b.path("host.pub"))
	require.NoError(t, err)
	b.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", port, public), 0o600)
	b.write(t, "sshd_config", fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\n"+
		"PasswordAuthentication yes\nPermitRootLogin yes\nPidFile none\nLogLevel ERROR\n", port, b.path("host"), b.path("user.pub")), 0o600)
	b.configure(t, port, "user")
	b.write(t, "bin/ssh", fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, b.path("ssh_config")), 0o755)
	t.Setenv("PATH", b.path("bin")+":"+os.Getenv("PATH"))

	b.sshd = exec.Command(sshd, "-D", "-e", "-f", b.path("sshd_config"))
	var log bytes.Buffer
	b.sshd.Stderr = &log
	b.sshd.WaitDelay = time.Second
	require.NoError(t, b.sshd.Start())
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			t.Logf("log of sshd:\n%s", log.String())
		}
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
	return b
}

// configure writes the user's configuration, with one of the keys.
func (b *bastion) configure(t *testing.T, port int, key string) {
	b.write(t, "ssh_config", fmt.Sprintf("Host bastion\n HostName 127.0.0.1\n Port %d\n IdentityFile %s\n IdentitiesOnly yes\n UserKnownHostsFile %s\n",
		port, b.path(key), b.path("known_hosts")), 0o600)
}

func (b *bastion) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bastion) write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(b.path(name)), 0o755))
	require.NoError(t, os.WriteFile(b.path(name), []byte(content), mode))
}

// stop ends the sshd; its connections live on.
func (b *bastion) stop() {
	if b.sshd.ProcessState == nil {
		_ = b.sshd.Process.Kill()
		_ = b.sshd.Wait() // it says that it was killed
	}
}

// sshes are the processes of ours that lead through the bastion.
func (b *bastion) sshes(t *testing.T) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	var out []int
	for _, dir := range dirs {
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may have ended
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && strings.Contains(string(line), b.path("ssh_config")) {
			out = append(out, pid)
		}
	}
	return out
}

// A node behind a jump host is found by its EPMD there, attached to, asked and
// left through ssh, with TLS or without.
func TestThroughSSH(t *testing.T) {
	b := startBastion(t)
	via := reach.Route{SSH: &reach.SSH{Via: "bastion"}}
	erltest.Each(t, func(t *testing.T, otp string) {
		n := erltest.Start(t, erltest.Options{OTP: otp})
		n.EPMD.Setenv(t)
		r := newRig(t, func(c *target.Config) {
			cookies(n)(c)
			by(via)(c)
		})
		r.SetFound("test", []target.Found{{Node: n.Name}})
		r.await(t, n.Name, target.Attached)
		assert.Len(t, r.ps(t, target.ProcessQuery{Sort: "memory", Limit: 3}).all, 3)
		sshes := b.sshes(t)
		require.Len(t, sshes, 1, "that to EPMD has ended")

		// It ends with its ssh, and is attached to by another one.
		require.NoError(t, syscall.Kill(sshes[0], syscall.SIGKILL))
		require.Eventually(t, func() bool {
			now := b.sshes(t)
			return len(now) == 1 && now[0] != sshes[0]
		}, 30*time.Second, 20*time.Millisecond)
		r.await(t, n.Name, target.Attached)
		r.stop()
		assert.Empty(t, b.sshes(t), "the process ends with the connection")
		n.Await(t, agents, unloaded)
	})
	t.Run("TLS", func(t *testing.T) {
		pki := erltest.NewPKI(t)
		cert, key := pki.Issue(t, "localhost", time.Now().Add(time.Hour))
		n := erltest.Start(t, erltest.Options{Args: pki.NodeArgs(t, cert, key, "'tlsv1.3'")})
		n.EPMD.Setenv(t)
		route := via
		route.TLS = &reach.TLS{CAFile: pki.CAFile, CertFile: cert, KeyFile: key}
		r := newRig(t, func(c *target.Config) {
			cookies(n)(c)
			by(route)(c)
		})
		r.SetFound("test", []target.Found{{Node: n.Name}})
		r.await(t, n.Name, target.Attached)
		assert.Len(t, r.ps(t, target.ProcessQuery{Sort: "memory", Limit: 3}).all, 3)
	})
}

// What keeps ssh from leading there is told in its words.
func TestThroughSSHRefusals(t *testing.T) {
	b := startBastion(t)
	n := erltest.Start(t, erltest.Options{})
	n.EPMD.Setenv(t)
	reason := func(t *testing.T, f target.Found, via string) target.Info {
		r := newRig(t, func(c *target.Config) {
			c.Cookie = func(string) (dist.Cookie, error) { return dist.NewCookie(n.Cookie), nil }
			by(reach.Route{SSH: &reach.SSH{Via: via}})(c)
		})
		r.SetFound("test", []target.Found{f})
		info := r.await(t, f.Node, target.Unreachable)
		r.stop()
		assert.Empty(t, b.sshes(t))
		return info
	}
	info := reason(t, target.Found{Node: n.Name, Addr: "127.0.0.1:1"}, "bastion")
	assert.Contains(t, info.Reason, "ssh bastion: ")
	assert.Contains(t, info.Reason, "Connection refused")
	assert.Contains(t, info.Hint, "`ssh -o BatchMode=yes -W HOST:PORT bastion`")
	info = reason(t, target.Found{Node: n.Name}, "no-such-host.invalid")
	assert.Contains(t, info.Reason, "ssh no-such-host.invalid: ssh: Could not resolve hostname")
	// The EPMD beyond is told of as one here is.
	info = reason(t, target.Found{Node: "nobody@localhost"}, "bastion")
	assert.Contains(t, info.Reason, "its EPMD does not know the name")

	// Another key than the authorized one: a password would do, and is not asked.
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", b.path("other")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	config, err := os.ReadFile(b.path("ssh_config"))
	require.NoError(t, err)
	b.write(t, "ssh_config", strings.Replace(string(config), b.path("user"), b.path("other"), 1), 0o600)
	info = reason(t, target.Found{Node: n.Name}, "bastion")
	assert.Contains(t, info.Reason, "Permission denied")
	b.write(t, "known_hosts", "", 0o600)
	info = reason(t, target.Found{Node: n.Name}, "bastion")
	assert.Contains(t, info.Reason, "Host key verification failed")
	b.stop()
	info = reason(t, target.Found{Node: n.Name}, "bastion")
	assert.Contains(t, info.Reason, "Connection refused")
}
