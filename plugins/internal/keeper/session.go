//go:build unix

package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/debughost/debughost/sdk"
)

// errLost is when a keeper ended before it answered.
var errLost = errors.New("the keeper ended before it answered")

// session is one connection to a keeper.
type session struct {
	c     *Client
	nc    *net.UnixConn
	ended chan struct{} // closed when nothing more will be answered

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan message
}

func (s *session) close() { _ = s.nc.Close() }

// ask sends a request and waits for its answer. It is sent again when the keeper
// was lost: all of them can be.
func (c *Client) ask(ctx context.Context, r request) (message, error) {
	for attempt := 0; ; attempt++ {
		m, err := c.askOnce(ctx, r)
		if !errors.Is(err, errLost) && !errors.Is(err, errEnding) || attempt == 2 {
			return m, err
		}
	}
}

func (c *Client) askOnce(ctx context.Context, r request) (message, error) {
	s, err := c.connect(ctx)
	if err != nil {
		return message{}, err
	}
	answer, err := s.send(r)
	if err != nil {
		return message{}, err
	}
	select {
	case m := <-answer:
		return m, m.Error.err()
	case <-s.ended:
		return message{}, errLost
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
}

func (s *session) send(r request) (<-chan message, error) {
	answer := make(chan message, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	r.N = s.next
	line, err := encode(r)
	if err != nil {
		return nil, err
	}
	s.pending[r.N] = answer
	_ = s.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.nc.Write(line); err != nil {
		delete(s.pending, r.N)
		s.close()
		return nil, errLost
	}
	return answer, nil
}

// connect returns the connection, or makes one, with a keeper if there is none.
func (c *Client) connect(ctx context.Context) (*session, error) {
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, fmt.Errorf("connect to keeper: %w", net.ErrClosed)
	}
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	var err error
	for range 3 {
		if s, err = c.dial(ctx); err == nil {
			return s, nil
		}
		if !absent(err) {
			break
		}
		// Two clients may start one at the same time: one of the two finds the
		// other's.
		if _, spawnErr := spawn(ctx, c.o); spawnErr != nil {
			err = spawnErr
		}
	}
	if err != nil {
		if s, again := c.dial(ctx); again == nil {
			return s, nil
		}
		return nil, fmt.Errorf("connect to keeper: %w", err)
	}
	return s, nil
}

// absent tells that there is no keeper, or was none at that moment.
func absent(err error) bool {
	for _, e := range []error{os.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, errLost} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// dial connects, and tells of the host.
func (c *Client) dial(ctx context.Context) (*session, error) {
	addr, done, err := socketAddr(c.o.Dir)
	if err != nil {
		return nil, err
	}
	defer done()
	nc, err := net.DialUnix("unix", nil, addr)
	if err != nil {
		return nil, err
	}
	if uid, err := peerUser(nc); err != nil || uid != os.Geteuid() {
		_ = nc.Close()
		return nil, fmt.Errorf("the keeper in %s belongs to user %d", c.o.Dir, uid)
	}
	s := &session{c: c, nc: nc, ended: make(chan struct{}), pending: make(map[uint64]chan message)}
	greeting, err := s.greet()
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	started := false
	c.mu.Lock()
	if c.ctx.Err() == nil {
		c.work.Go(s.read)
		started = true
	}
	c.mu.Unlock()
	if !started {
		_ = nc.Close()
		return nil, fmt.Errorf("connect to keeper: %w", net.ErrClosed)
	}
	select {
	case <-greeting:
	case <-s.ended: // it was on its way out
		return nil, errLost
	case <-ctx.Done():
		s.close()
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-s.ended:
		return nil, errLost
	default:
		c.session = s
		return s, nil
	}
}

// greet sends the first request, with the host's descriptor.
func (s *session) greet() (<-chan message, error) {
	s.next++
	host, fd := os.Getppid(), -1
	if s.c.o.PluginOnly {
		host = 0
	} else {
		fd = hostFD(host)
	}
	line, err := encode(request{N: s.next, Op: opHello, Host: host, Version: protocol})
	if err != nil {
		return nil, err
	}
	answer := make(chan message, 1)
	s.pending[s.next] = answer
	defer func() {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}()
	_ = s.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	return answer, sendHost(s.nc, line, fd)
}

// read takes answers and events until the connection ends.
func (s *session) read() {
	in := bufio.NewScanner(s.nc)
	in.Buffer(make([]byte, 4<<10), maxLine)
	for in.Scan() {
		m := message{}
		if json.Unmarshal(in.Bytes(), &m) != nil {
			break
		}
		s.take(m)
	}
	_ = s.nc.Close()
	c := s.c
	c.mu.Lock()
	if c.session == s {
		c.session = nil
	}
	close(s.ended)
	alone := c.ctx.Err() == nil
	running := false
	for _, b := range c.boxes {
		running = running || !b.hasExited()
	}
	clear(c.early)
	c.mu.Unlock()
	if alone && running {
		c.background(c.revive)
	}
}

func (s *session) take(m message) {
	switch {
	case m.Exited != nil:
		s.c.exited(m.Exited)
	case m.Log != nil:
		s.c.o.Log(m.Log.Warn, m.Log.ID, m.Log.Text)
	case m.Hello != nil && m.N != 0:
		s.c.o.Log(false, "", "connected to a keeper: "+m.Hello.Isolation)
	}
	s.mu.Lock()
	answer := s.pending[m.N]
	delete(s.pending, m.N)
	s.mu.Unlock()
	if answer != nil {
		answer <- m
	}
}

// revive connects to the keeper again, or to its successor, and hears what has
// become of the commands. It goes on until it knows, or the client is closed.
func (c *Client) revive() {
	for wait := 10 * time.Millisecond; c.ctx.Err() == nil; wait = min(2*wait, time.Second) {
		err := c.reviveOnce()
		if err == nil {
			return
		}
		c.o.Log(true, "", "cannot look after what runs: "+err.Error())
		if pause(c.ctx, wait) != nil {
			return
		}
	}
}

func (c *Client) reviveOnce() error {
	c.mu.Lock()
	var left []*box
	for _, b := range c.boxes {
		if !b.hasExited() {
			left = append(left, b)
		}
	}
	c.mu.Unlock()
	for _, b := range left {
		m, err := c.askOnce(c.ctx, request{Op: opRecover, ID: b.id, Token: b.token})
		switch {
		case errors.Is(err, sdk.ErrNotFound):
			c.mu.Lock()
			b.end(sdk.SandboxExit{Signal: 9, Reason: lostReason, At: time.Now()})
			c.mu.Unlock()
		case err != nil:
			return err
		default:
			c.know(b.id, m.Status)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
