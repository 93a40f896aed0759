package cluster

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// One port has gossip streams, calls and hellos. The first byte of a connection
// tells them apart: 0x16 begins a TLS record with a ClientHello, 'D' a hello, and
// 244 memberlist's label, which a cluster always has. Whatever else connects is
// hung up on at once: a BEAM node that takes the port for a node's, since EPMD
// named it, must not wait.
const (
	firstTLS    = 0x16
	firstHello  = 'D'
	firstGossip = 244
)

const (
	peekTimeout = 5 * time.Second // for the first byte
	maxPeeking  = 256             // connections whose first byte is awaited
	maxGossip   = 512             // gossip streams at a time
	maxCalls    = 64              // calls' connections that nobody has accepted yet
)

// peeker sorts the connections of a listener.
type peeker struct {
	listener net.Listener
	gossip   chan net.Conn
	calls    *callListener
	answer   func() []byte // to a hello
	timeout  time.Duration

	mu      sync.Mutex
	waiting []net.Conn // whose first byte is awaited, oldest first
	streams map[net.Conn]struct{}
	closed  bool
}

// run accepts until ctx ends, and returns when all its goroutines have ended.
// The caller closes the listener when ctx ends.
func (p *peeker) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var pause time.Duration
	for ctx.Err() == nil {
		conn, err := p.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second) // out of file descriptors
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		p.enter(conn)
		wg.Go(func() { p.sort(ctx, conn) })
	}
}

// enter notes a silent connection. Where there are too many, the one that has
// been silent for longest makes room.
func (p *peeker) enter(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, conn)
	if len(p.waiting) > maxPeeking {
		_ = p.waiting[0].Close()
		p.waiting = p.waiting[1:]
	}
}

func (p *peeker) spoke(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.waiting {
		if w == conn {
			p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
			return
		}
	}
}

// sort reads the first byte and hands the connection on.
func (p *peeker) sort(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(p.timeout))
	first := make([]byte, 1)
	n, err := conn.Read(first)
	p.spoke(conn)
	if n == 1 && err == nil && first[0] == firstHello {
		p.reply(conn)
		stop()
		return
	}
	if n != 1 || err != nil || !stop() {
		_ = conn.Close()
		return
	}
	switch first[0] {
	case firstTLS:
		_ = conn.SetReadDeadline(time.Time{})
		p.calls.deliver(ctx, &peeked{Conn: conn, first: first}, p.timeout)
	case firstGossip:
		_ = conn.SetReadDeadline(time.Time{})
		s := p.track(&peeked{Conn: conn, first: first})
		if s == nil {
			_ = conn.Close()
			return
		}
		select {
		case p.gossip <- s:
		case <-ctx.Done():
			_ = s.Close()
		}
	default:
		_ = conn.Close()
	}
}

// reply answers a hello and hangs up.
func (p *peeker) reply(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(p.timeout))
	rest := make([]byte, len(helloMagic)) // the rest of the magic, and the version
	for n := 0; n < len(rest); {
		m, err := conn.Read(rest[n:])
		if n += m; err != nil {
			return
		}
	}
	_, _ = conn.Write(p.answer())
}

// track makes a gossip stream one that close ends; nil where there are too
// many, or none are wanted any more.
func (p *peeker) track(conn net.Conn) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.streams) >= maxGossip {
		return nil
	}
	if p.streams == nil {
		p.streams = map[net.Conn]struct{}{}
	}
	s := &tracked{Conn: conn, peeker: p}
	p.streams[s] = struct{}{}
	return s
}

// close ends all gossip streams.
func (p *peeker) close() {
	p.mu.Lock()
	p.closed = true
	var all []net.Conn
	for s := range p.streams {
		all = append(all, s)
	}
	p.mu.Unlock()
	for _, s := range all {
		_ = s.Close()
	}
}

type tracked struct {
	net.Conn
	peeker *peeker
}

func (t *tracked) Close() error {
	t.peeker.mu.Lock()
	delete(t.peeker.streams, t)
	t.peeker.mu.Unlock()
	return t.Conn.Close()
}

// peeked gives the first byte back. It is read by one goroutine at a time, as
// all connections here are.
type peeked struct {
	net.Conn
	first []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.first) > 0 && len(b) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// callListener hands out the connections of calls.
type callListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	addr net.Addr
}

func newCallListener() *callListener {
	return &callListener{
		conns: make(chan net.Conn, maxCalls),
		done:  make(chan struct{}),
		addr:  &net.TCPAddr{},
	}
}

// deliver queues a connection; where nobody accepts it in time it is closed.
func (l *callListener) deliver(ctx context.Context, conn net.Conn, timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-ctx.Done():
	case <-timer.C:
	case l.conns <- conn:
		select {
		case <-l.done:
			l.drain()
		default:
		}
		return
	}
	_ = conn.Close()
}

// Accept returns the next connection, before TLS.
func (l *callListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case <-l.done:
		return nil, net.ErrClosed
	case c := <-l.conns:
		return c, nil
	}
}

// Close ends Accept. It leaves the port open, which is gossip's too.
func (l *callListener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.drain()
	return nil
}

func (l *callListener) drain() {
	for {
		select {
		case c := <-l.conns:
			_ = c.Close()
		default:
			return
		}
	}
}

// Addr is the port's address once the cluster is ready.
func (l *callListener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

func (l *callListener) setAddr(a net.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = a
}
