//go:build unix

package keeper

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

// server is the keeper itself.
type server struct {
	options serverOptions
	groups  *groups  // nil without
	note    string   // why there are none
	outside *os.File // /proc of the host
	census  censusTaker
	starts  chan struct{} // a slot for each command that is being started
	forker  *forker
	// untraced is why commands are started by package launch; nil where they
	// need not be. It is set before anybody is served.
	untraced error
	views    views

	// forks is held for reading while a process is forked and not known yet, and
	// for writing by who asks whose process it is.
	forks sync.RWMutex

	mu       sync.Mutex
	children map[string]*child // by id
	pids     map[int]*child    // main processes that were not reaped
	conns    map[*conn]struct{}
	ending   bool
	idle     *time.Timer // runs while there is nothing to keep
	ended    chan struct{}
	work     sync.WaitGroup // ends of commands, orphans' times
}

// serverOptions are what the client that starts a keeper decides.
type serverOptions struct {
	Dir       string        `json:"dir"`
	Isolation Isolation     `json:"isolation"`
	NoCgroup  bool          `json:"no_cgroup,omitempty"`
	NoTrace   bool          `json:"no_trace,omitempty"`
	Idle      time.Duration `json:"idle"` // how long to stay with nothing to keep
}

// maxStarts bounds the commands that are being started at one time.
const maxStarts = 8

func newServer(o serverOptions) *server {
	return &server{
		options: o, starts: make(chan struct{}, maxStarts), forker: newForker(),
		children: make(map[string]*child), pids: make(map[int]*child), conns: make(map[*conn]struct{}),
		ended: make(chan struct{}),
	}
}

// run serves until there is nothing to keep any more. It leaves no process and
// no group behind.
func (s *server) run(l *net.UnixListener) {
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	for range maxStarts {
		loops.Go(func() { s.forker.run(ctx) })
	}
	s.forker.do(func() { s.untraced = s.settleForker() })
	loops.Go(func() { s.reap(ctx) })
	loops.Go(func() { s.watch(ctx) })
	loops.Go(func() { s.findStrays(ctx) })
	loops.Go(func() { s.accept(l) })
	s.mu.Lock()
	s.restless()
	s.mu.Unlock()

	<-s.ended
	_ = l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.close()
	}
	s.mu.Unlock()
	s.work.Wait()
	cancel()
	loops.Wait()
	s.groups.close()
}

// restless starts the time after which the keeper ends if there is nothing to
// keep, or stops it. The caller holds the lock.
func (s *server) restless() {
	wait := s.options.Idle
	if len(s.conns) == 0 {
		wait = min(wait, time.Second) // who restarts its plugin comes back soon
	}
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	if len(s.children) > 0 || s.ending {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.idle == timer && len(s.children) == 0 && !s.ending {
			s.ending = true
			close(s.ended)
		}
	})
	s.idle = timer
}

func (s *server) accept(l *net.UnixListener) {
	for {
		nc, err := l.AcceptUnix()
		if err != nil {
			select {
			case <-s.ended:
				return
			case <-time.After(10 * time.Millisecond): // out of descriptors
				continue
			}
		}
		if uid, err := peerUser(nc); err != nil || uid != os.Geteuid() && uid != 0 {
			_ = nc.Close()
			continue
		}
		c := newConn(s, nc)
		s.mu.Lock()
		if s.ending {
			s.mu.Unlock()
			_ = nc.Close()
			continue
		}
		s.conns[c] = struct{}{}
		s.restless()
		s.mu.Unlock()
		s.work.Go(c.run)
	}
}

// say puts a line into the logs of all plugins that are connected.
func (s *server) say(warn bool, id, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.send(message{Log: &logEvent{Warn: warn, ID: id, Text: fmt.Sprintf(format, args...)}})
	}
}

// find returns a command. The caller holds the lock.
func (s *server) find(id string) (*child, error) {
	if c := s.children[id]; c != nil && c.state != "" {
		return c, nil
	}
	return nil, fmt.Errorf("find %.140s: %w", id, sdk.ErrNotFound)
}

// handle answers one request.
func (s *server) handle(c *conn, r *request) message {
	m := message{N: r.N}
	var err error
	switch r.Op {
	case opCreate:
		if m.Status, err = s.create(c, r.Spec); err == nil && c.isGone() {
			_ = s.destroy(r.Spec.ID) // nobody will know of it
		}
	case opInspect:
		m.Status, err = s.inspect(r.ID)
	case opStop:
		err = s.stop(r.ID, r.Timeout)
	case opDestroy:
		err = s.destroy(r.ID)
	case opRecover:
		m.Status, err = s.adopt(c, r.ID, r.Token)
	default:
		err = fmt.Errorf("%.40q: %w", r.Op, sdk.ErrUnsupported)
	}
	m.Error = toFailure(err)
	return m
}
