package reach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// SSH is a jump host: each connection is an `ssh -W host:port via` of its own,
// with the user's ssh, configuration, keys and agent. ssh never asks anything
// (BatchMode); whether connections share one (ControlMaster) is the user's
// configuration.
type SSH struct {
	Via string // as ssh takes it: user@bastion, or a Host of its configuration
}

// An SSHError says why ssh led nowhere.
type SSHError struct {
	Via string
	Msg string // what ssh said, in one line
}

func (e *SSHError) Error() string { return fmt.Sprintf("ssh %s: %s", e.Via, e.Msg) }

// Times and sizes of an ssh.
const (
	sshGrace = time.Second // from the signal to end to the one that ends it, and for its last words
	maxWords = 4096        // bytes of what it says that are kept
	// An attempt to attach has 7 s; ssh says better than we what did not answer.
	connectTimeout = "ConnectTimeout=5"
)

// dial starts ssh. It returns before ssh is connected: what ssh complains of
// comes with the first Read.
func (s *SSH) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("make socket for ssh: %w", err)
	}
	defer theirs.Close()
	c := &sshConn{Conn: ours, via: s.Via, addr: addr, ended: make(chan struct{})}
	c.cmd = exec.Command("ssh", "-T", "-o", "BatchMode=yes", "-o", connectTimeout, "-W", addr, "--", s.Via)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs, theirs, &c.words
	c.cmd.WaitDelay = sshGrace                              // a ControlMaster that stays keeps stderr open
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is ours to act on
	if err := c.cmd.Start(); err != nil {
		ours.Close()
		return nil, &SSHError{Via: s.Via, Msg: "start ssh: " + plain(err.Error())}
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // what it said tells more than its status
	}()
	return c, nil
}

// socketPair makes a stream that has two ends here: unlike pipes it has
// deadlines.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	syscall.ForkLock.RLock() // no plugin that starts meanwhile may inherit it
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fds[1]), "ssh")
	file := os.NewFile(uintptr(fds[0]), "ssh")
	defer file.Close()
	if ours, err = net.FileConn(file); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// sshConn is the stream through one ssh, which ends with it.
type sshConn struct {
	net.Conn
	via, addr string
	cmd       *exec.Cmd
	words     words
	ended     chan struct{} // closed when the process has ended
	heard     atomic.Bool   // the other end has said something: ssh was connected
	closing   sync.Once
}

// RemoteAddr implements net.Conn.
func (c *sshConn) RemoteAddr() net.Addr { return sshAddr(c.addr + " via " + c.via) }

type sshAddr string

func (sshAddr) Network() string  { return "ssh" }
func (a sshAddr) String() string { return string(a) }

// Read implements net.Conn. Where ssh ended before anything came through, its
// own words are the error.
func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, c.explain(err)
}

// Write implements net.Conn.
func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.explain(err)
}

func (c *sshConn) explain(err error) error {
	if c.heard.Load() || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	select {
	case <-c.ended:
	case <-time.After(2 * sshGrace): // it closed its end and lives on
	}
	if msg := c.words.String(); msg != "" {
		return &SSHError{Via: c.via, Msg: msg}
	}
	return err
}

// Close implements net.Conn. It ends ssh and waits for its end.
func (c *sshConn) Close() error {
	err := c.Conn.Close()
	c.closing.Do(func() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-c.ended:
		case <-time.After(sshGrace):
			_ = c.cmd.Process.Kill()
			<-c.ended
		}
	})
	return err
}

// words keeps the beginning of what ssh says.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer; it never fails.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := maxWords - w.b.Len(); room > 0 {
		w.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String is all of it in one line.
func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return plain(w.b.String())
}

// maxMsg bounds one line of a message, in characters.
const maxMsg = 300

// plain makes one printable line of a text.
func plain(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
	if r := []rune(s); len(r) > maxMsg {
		s = string(r[:maxMsg]) + "…"
	}
	return s
}
