package reach

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeSSH puts a script as ssh into PATH. $log is a file of the test's.
func fakeSSH(t *testing.T, script string) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ssh"), []byte("#!/bin/sh\nlog="+log+"\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return log
}

func open(t *testing.T) net.Conn {
	t.Helper()
	c, err := (&SSH{Via: "me@bastion"}).dial(context.Background(), "tcp", "db1:4369")
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// What is written goes to ssh, what it writes comes back, and it is called so
// that it never asks anything.
func TestStream(t *testing.T) {
	log := fakeSSH(t, "echo \"$@\" >$log\nexec cat\n")
	c := open(t)
	_, err := c.Write([]byte("hello"))
	require.NoError(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))
	assert.Equal(t, "db1:4369 via me@bastion", c.RemoteAddr().String())
	assert.Equal(t, "ssh", c.RemoteAddr().Network())
	args, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, "-T -o BatchMode=yes -o ConnectTimeout=5 -W db1:4369 -- me@bastion\n", string(args))
	require.NoError(t, c.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err = c.Read(got)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.Close())
	_, err = c.Read(got)
	assert.ErrorIs(t, err, net.ErrClosed)
	select {
	case <-c.(*sshConn).ended:
	default:
		t.Error("Close left its process behind")
	}
}

func TestWordsOfSSH(t *testing.T) {
	for script, want := range map[string]string{
		"echo 'Host key verification failed.' >&2; exit 255\n":    "ssh me@bastion: Host key verification failed.",
		"printf 'a\\r\\nb\\033[2J\\n' >&2; exit 255\n":            "ssh me@bastion: a; b?[2J",
		"head -c 100000 /dev/zero | tr '\\000' x >&2; exit 255\n": "ssh me@bastion: " + strings.Repeat("x", maxMsg) + "…",
		"exit 0\n": "EOF",
		// What came through first makes the end an end, whatever it says then.
		"echo x; echo 'Connection closed.' >&2; exit 255\n": "EOF",
		// It has no more to say, and lives on.
		"exec 0<&- 1>&- 2>&-; exec sleep 100\n": "EOF",
		// A ControlMaster that it leaves behind has its standard error.
		"echo 'no way' >&2; sleep 100 <&- >&- & exit 255\n": "ssh me@bastion: no way",
	} {
		fakeSSH(t, script)
		c := open(t)
		_, err := io.ReadAll(c)
		if want == "EOF" {
			assert.NoError(t, err, script)
		} else {
			assert.EqualError(t, err, want, script)
			var ssh *SSHError
			assert.ErrorAs(t, err, &ssh)
		}
		require.NoError(t, c.Close())
	}
	// Writing may be what notices.
	fakeSSH(t, "exec 0<&- 1>&-; echo 'no route' >&2; exit 255\n")
	c := open(t)
	require.Eventually(t, func() bool {
		_, err := c.Write([]byte("x"))
		return err != nil && err.Error() == "ssh me@bastion: no route"
	}, 30*time.Second, time.Millisecond)
}

// One that does not end by itself is ended.
func TestStubbornSSH(t *testing.T) {
	fakeSSH(t, "trap '' TERM\necho x\nwhile :; do sleep 0.05; done\n")
	c := open(t)
	_, err := c.Read(make([]byte, 1)) // the trap is set
	require.NoError(t, err)
	require.NoError(t, c.Close())
	<-c.(*sshConn).ended
}

func TestNoSSH(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := (&SSH{Via: "b"}).dial(context.Background(), "tcp", "a:1")
	var ssh *SSHError
	require.ErrorAs(t, err, &ssh)
	assert.Contains(t, err.Error(), "ssh b: start ssh: ")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = (&SSH{Via: "b"}).dial(ctx, "tcp", "a:1")
	assert.ErrorIs(t, err, context.Canceled)
}

func TestRoutes(t *testing.T) {
	assert.Nil(t, Route{}.Dialer("a@b"))
	assert.Nil(t, Route{}.Carrier())
	assert.Nil(t, Route{TLS: &TLS{}}.Carrier(), "EPMD speaks no TLS")
	assert.NotNil(t, Route{SSH: &SSH{Via: "x"}}.Carrier())
	// ssh's own words are not taken for TLS's.
	fakeSSH(t, "echo 'no way' >&2; exit 255\n")
	_, err := Route{TLS: &TLS{Verify: VerifyNone}, SSH: &SSH{Via: "x"}}.Dialer("a@b")(context.Background(), "tcp", "a:1")
	assert.EqualError(t, err, "ssh x: no way")
}
