package dist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/debughost/debughost/erl/etf"
)

// Message is one received signal. The reader reuses it: a Handler copies what
// it keeps. Payload, and the terms in Control, may be kept as they are.
type Message struct {
	Control
	Payload Payload
}

// Handler takes what a connection receives.
type Handler interface {
	// HandleMessage is called for one message at a time, in the order of
	// arrival, on the goroutine that reads. While it runs nothing else is
	// read, so it does not block: it may use TrySend but not Send. It is also
	// called for operations that this package does not know, see
	// Control.Other.
	HandleMessage(m *Message)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(m *Message)

// HandleMessage calls f.
func (f HandlerFunc) HandleMessage(m *Message) { f(m) }

// Conn is a connection to one node whose handshake is done. Its methods may be
// called from any goroutine, also before and after Run; whatever is sent
// before waits in the queue.
type Conn struct {
	nc   net.Conn
	cfg  Config
	peer Peer
	use  Flags // of both sides

	w  *writer
	rd *packetReader

	sooner  chan time.Duration // of TickSooner; holds at most one
	running atomic.Bool
	closing atomic.Bool // by Shutdown: the peer is expected to close
	done    chan struct{}

	mu  sync.Mutex
	err error // the first reason to end

	stats counters
}

// newConn wraps nc after the handshake. rd holds what was read of it beyond
// the handshake.
func newConn(nc net.Conn, cfg Config, peer Peer) *Conn {
	c := &Conn{nc: nc, cfg: cfg, peer: peer, use: cfg.Flags & peer.Flags, done: make(chan struct{}), sooner: make(chan time.Duration, 1)}
	c.w = newWriter(c)
	c.rd = newPacketReader(c)
	return c
}

// Peer returns what the other node said of itself.
func (c *Conn) Peer() Peer { return c.peer }

// Flags returns the capabilities in use: those that both sides have.
func (c *Conn) Flags() Flags { return c.use }

// Stats returns what went over the connection so far.
func (c *Conn) Stats() Stats { return c.stats.snapshot() }

// Done is closed when the connection has ended and Run has returned, or when
// Close was called on a connection that never ran.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection with ErrClosed. What waits in the queue is lost.
// It does not wait for Run; Done does.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	if c.running.CompareAndSwap(false, true) {
		close(c.done)
	}
	return nil
}

// Flush waits until the queue is empty: everything that was sent before, and
// what others send meanwhile, has been handed to the operating system.
func (c *Conn) Flush(ctx context.Context) error { return c.w.drain(ctx) }

// Shutdown ends the connection with ErrClosed after the peer has had
// everything that was sent: it flushes, closes the sending half and waits for
// the peer to close its own. When ctx is done it closes at once, and returns
// why. It needs Run to be under way, so a Handler cannot call it.
func (c *Conn) Shutdown(ctx context.Context) error {
	defer c.Close()
	if err := c.Flush(ctx); err != nil {
		return err
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	c.closing.Store(true)
	if err := half.CloseWrite(); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shut down: %w", context.Cause(ctx))
	}
}

// fail ends the connection; the first reason is the one that is reported.
func (c *Conn) fail(err error) {
	if c.closing.Load() && errors.Is(err, ErrPeerClosed) {
		err = ErrClosed
	}
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	c.mu.Unlock()
	if first {
		c.w.close(err)
		c.nc.Close()
	}
}

// Run moves the connection's bytes until it ends, and returns why: ErrClosed
// after Close, ctx's cause when ctx is done, ErrPeerClosed, ErrTickTimeout,
// ErrWriteTimeout, a *PacketError, or an error of the network. It is called
// once. h is called on Run's own goroutine.
//
// Run starts two goroutines and ends them before it returns:
//   - write: takes messages off the queue and writes them;
//   - tick: wakes sixteen times per TickTime, asks for a tick when nothing was
//     written for a quarter of it, and ends the connection when nothing was
//     read for all of it, or the writer does not get on.
func (c *Conn) Run(ctx context.Context, h Handler) error {
	if !c.running.CompareAndSwap(false, true) {
		<-c.done
		return c.Err()
	}
	defer close(c.done)
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(c.w.run)
	wg.Go(c.tick)
	c.fail(c.rd.run(h))
	wg.Wait()
	return c.Err()
}

// Send queues a message for the peer; payload is nil for operations without
// one. It blocks while the queue is full, until ctx is done or the connection
// ends. Messages of one sender (Control.From) arrive in the order in which
// their calls returned; a large one is sent in fragments, between which those
// of other senders go out.
//
// The error is one of ctx, the reason why the connection ended, or of the
// encoding (nothing is sent then). No error does not mean that it arrived.
func (c *Conn) Send(ctx context.Context, m *Control, payload etf.Term) error {
	o, err := c.encode(m, payload)
	if err != nil {
		return err
	}
	return c.w.put(ctx, o)
}

// TrySend is Send that does not block: it returns ErrQueueFull instead. It
// grants one half more of the queue than Send does, so that answers to the
// peer, as UNLINK_ID_ACK, find room while senders wait.
func (c *Conn) TrySend(m *Control, payload etf.Term) error {
	o, err := c.encode(m, payload)
	if err != nil {
		return err
	}
	return c.w.tryPut(o)
}

// SendEncoded is Send of a payload that is encoded already, without the
// version byte (etf.Append). body is not kept.
func (c *Conn) SendEncoded(ctx context.Context, m *Control, body []byte) error {
	o, err := c.encodeRaw(m, body)
	if err != nil {
		return err
	}
	return c.w.put(ctx, o)
}

// TickSooner shortens the connection's tick time to that of the peer, where the
// peer's turns out to be less: it would take us for gone. A longer one changes
// nothing. It does not block.
func (c *Conn) TickSooner(peers time.Duration) {
	if peers <= 0 {
		return
	}
	select {
	case c.sooner <- peers:
	default: // one is on its way
	}
}

// tick watches the clock for the connection.
func (c *Conn) tick() {
	t := time.NewTicker(max(c.cfg.TickTime/perTickTime, time.Millisecond))
	defer t.Stop()
	w := watch{tickTime: c.cfg.TickTime, writeTimeout: c.cfg.WriteTimeout, last: time.Now()}
	for {
		select {
		case <-c.w.done:
			return
		case d := <-c.sooner:
			w.tickTime = min(w.tickTime, d)
			t.Reset(max(w.tickTime/perTickTime, time.Millisecond))
			continue
		case <-t.C:
		}
		due, err := w.step(time.Now(), c.stats.bytesIn.Load(), c.stats.bytesOut.Load(), c.w.busy())
		if err != nil {
			c.fail(err)
			return
		}
		if due {
			c.w.tick()
		}
	}
}
