package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	controlpb "github.com/debughost/debughost/control/proto"
)

func TestParseAddr(t *testing.T) {
	for addr, want := range map[string]string{
		"/run/api.sock":        "/run/api.sock",
		"api.sock":             "api.sock",
		"unix:/run/api.sock":   "/run/api.sock",
		"unix:api.sock":        "api.sock",
		"unix:///run/api.sock": "/run/api.sock",
	} {
		got, err := ParseAddr(addr)
		require.NoError(t, err, addr)
		assert.Equal(t, want, got)
	}
	for _, addr := range []string{"", "unix:", "unix://", "unix://run/x", "tcp://h:1", "https://h", strings.Repeat("x", 108)} {
		_, err := ParseAddr(addr)
		e := requireCode(t, err, BadRequest)
		assert.NotEmpty(t, e.Hint, addr)
	}
	_, err := ParseAddr(strings.Repeat("x", 107))
	require.NoError(t, err)
}

func TestSocketIsPrivate(t *testing.T) {
	path := filepath.Join(socketDir(t), "new", "api.sock")
	s := serve(t, &fakeEngine{}, Options{Socket: path})
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		fi, err := os.Lstat(p)
		require.NoError(t, err)
		assert.Equal(t, want, fi.Mode().Perm(), p)
	}
	require.NoError(t, s.stop())
	_, err := os.Lstat(path)
	assert.ErrorIs(t, err, os.ErrNotExist, "the socket stays")
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "api.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())

	_, err = Dial(testContext(t), path)
	e := requireCode(t, err, NotRunning)
	assert.Contains(t, e.Hint, "ended without removing it")

	_, err = serve(t, &fakeEngine{}, Options{Socket: path}).dial(t).
		Member.GetVersion(testContext(t), &controlpb.GetVersionRequest{})
	require.NoError(t, err)
}

func TestServerRefusesToStart(t *testing.T) {
	run := func(path string) error {
		return NewServer(&fakeEngine{}, Options{Socket: path}).Run(context.Background())
	}
	t.Run("where another answers", func(t *testing.T) {
		s := serve(t, &fakeEngine{}, Options{})
		err := run(s.path)
		assert.ErrorContains(t, err, "another debughost answers there")
		s.dial(t) // and has not harmed it
	})
	t.Run("where a file is", func(t *testing.T) {
		path := filepath.Join(socketDir(t), "api.sock")
		require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
		err := run(path)
		e := requireCode(t, err, BadRequest)
		assert.Contains(t, e.Cause, "a file that is no socket")
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "precious", string(b))
	})
	t.Run("on too long a path", func(t *testing.T) {
		e := requireCode(t, run("/"+strings.Repeat("x", 107)), BadRequest)
		assert.Contains(t, e.Cause, "has 108 bytes, a unix socket takes 107")
		assert.Contains(t, e.Hint, "--data-dir")
	})
	t.Run("below a file", func(t *testing.T) {
		path := filepath.Join(socketDir(t), "file")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		assert.ErrorContains(t, run(filepath.Join(path, "api.sock")), "not a directory")
	})
	t.Run("where nothing may be made", func(t *testing.T) {
		assert.ErrorContains(t, run("/proc/api.sock"), "listen on /proc/api.sock: ")
	})
}

func TestDialErrors(t *testing.T) {
	dir := socketDir(t)
	_, err := Dial(testContext(t), filepath.Join(dir, "none.sock"))
	e := requireCode(t, err, NotRunning)
	assert.Equal(t, "connect to "+dir+"/none.sock: there is no such socket", e.Error())
	assert.Contains(t, e.Hint, "start it with `debughost run`")

	_, err = Dial(testContext(t), "tcp://x")
	requireCode(t, err, BadRequest)

	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Dial(gone, filepath.Join(dir, "none.sock"))
	requireCode(t, err, Canceled)

	for cause, code := range map[error]Code{
		os.ErrPermission:         Denied,
		context.DeadlineExceeded: Timeout,
		net.ErrClosed:            NotRunning,
	} {
		requireCode(t, dialError("p", cause), code)
	}
}

// A client that never called gives back the connection that it dialled.
func TestCloseWithoutACall(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(socketDir(t), "s"))
	require.NoError(t, err)
	defer l.Close()
	c, err := Dial(testContext(t), l.Addr().String())
	require.NoError(t, err)
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, c.Close())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = io.Copy(io.Discard, conn)
	assert.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the connection stays open")
}

// The member is restarted while a client lives: the next call connects anew.
func TestClientReconnects(t *testing.T) {
	s := serve(t, &fakeEngine{}, Options{})
	c := s.dial(t)
	ctx := testContext(t)
	_, err := c.Member.GetVersion(ctx, &controlpb.GetVersionRequest{})
	require.NoError(t, err)
	require.NoError(t, s.stop())
	_, err = c.Member.GetVersion(ctx, &controlpb.GetVersionRequest{})
	e := requireCode(t, err, NotRunning)
	assert.Contains(t, e.Cause, "connection broke")
}

func TestPeerOfOtherConns(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_, err := peerOf(a)
	assert.ErrorContains(t, err, "no unix socket")
	_, info, err := newPeerCreds().Clone().ServerHandshake(a)
	require.NoError(t, err)
	assert.Equal(t, Caller{}, info)
	assert.Equal(t, "peercred", info.AuthType())
	_, _, err = newPeerCreds().ClientHandshake(context.Background(), "", a)
	assert.Error(t, err)
}

func TestPeerOfClosedSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(socketDir(t), "s"))
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	conn.Close()
	_, err = peerOf(conn)
	assert.ErrorContains(t, err, "read peer credentials")
}
