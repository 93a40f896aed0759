package dist

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/debughost/debughost/erl/etf"
)

// batchBytes is how much is gathered for one write, and so how much may go out
// between two fragments of a large message.
const batchBytes = 64 << 10

// gatherBytes is up to which size a packet is copied to its neighbours for
// their common write.
const gatherBytes = 8 << 10

// writer owns the sending half of a connection. Senders put messages into one
// queue, and its goroutine writes them in that order, with one exception: a
// large message is taken aside into a lane, from where its fragments go out in
// turn with those of other lanes and with what else is in the queue. Later
// messages of the same sender wait behind it in its lane.
type writer struct {
	c         *Conn
	headers   bool // packets have a distribution header
	fragments bool // the peer takes fragments

	wake chan struct{} // one token: there is something to do
	done chan struct{} // closed by close

	writing atomic.Bool

	mu     sync.Mutex
	err    error
	queue  []*outgoing
	spare  []*outgoing   // the memory of the last batch
	queued int           // bytes in queue and lanes
	space  chan struct{} // closed when queued falls below the limit; nil: nobody waits
	empty  chan struct{} // closed when queued falls to zero; nil: nobody waits
	due    bool          // a tick is asked for

	// The goroutine's own.
	lanes   map[etf.Pid]*lane
	ring    []*lane
	turn    int
	lastID  uint64
	gather  []byte
	written []*outgoing
}

// lane is a sender with a large message on its way.
type lane struct {
	from  etf.Pid
	id    uint64      // of its sequence of fragments
	queue []*outgoing // the first one is large
}

func newWriter(c *Conn) *writer {
	return &writer{
		c:         c,
		headers:   c.use&(FlagDistHdrAtomCache|FlagFragments) != 0,
		fragments: c.use.has(FlagFragments),
		wake:      make(chan struct{}, 1),
		done:      make(chan struct{}),
		lanes:     make(map[etf.Pid]*lane),
	}
}

// put queues o, and waits for room before.
func (w *writer) put(ctx context.Context, o *outgoing) error {
	for {
		w.mu.Lock()
		if err := w.err; err != nil {
			w.mu.Unlock()
			o.free()
			return err
		}
		if w.queued < w.c.cfg.QueueBytes {
			w.add(o)
			w.mu.Unlock()
			w.notify()
			return nil
		}
		if w.space == nil {
			w.space = make(chan struct{})
		}
		space := w.space
		w.mu.Unlock()
		select {
		case <-space:
		case <-w.done:
		case <-ctx.Done():
			o.free()
			return fmt.Errorf("send: queue is full: %w", context.Cause(ctx))
		}
	}
}

// tryPut queues o if there is room, with half as much again to spare.
func (w *writer) tryPut(o *outgoing) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		o.free()
		return w.err
	}
	if w.queued >= w.c.cfg.QueueBytes+w.c.cfg.QueueBytes/2 {
		o.free()
		return ErrQueueFull
	}
	w.add(o)
	w.notify()
	return nil
}

func (w *writer) add(o *outgoing) {
	w.queue = append(w.queue, o)
	w.queued += len(o.buf)
}

// drain waits until nothing is queued.
func (w *writer) drain(ctx context.Context) error {
	w.mu.Lock()
	if w.err != nil || w.queued == 0 {
		defer w.mu.Unlock()
		return w.err
	}
	if w.empty == nil {
		w.empty = make(chan struct{})
	}
	empty := w.empty
	w.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-w.done:
		return w.c.Err()
	case <-ctx.Done():
		return fmt.Errorf("flush: %w", context.Cause(ctx))
	}
}

// tick asks for a tick, in case nothing else is written first.
func (w *writer) tick() {
	w.mu.Lock()
	w.due = true
	w.mu.Unlock()
	w.notify()
}

func (w *writer) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// busy reports whether a write is under way.
func (w *writer) busy() bool { return w.writing.Load() }

// close makes senders fail with err and the goroutine end.
func (w *writer) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	w.queue = nil
	close(w.done)
}

// run writes until close.
func (w *writer) run() {
	for {
		select {
		case <-w.done:
			return
		case <-w.wake:
		}
		for w.round() {
		}
	}
}

// round writes what is queued, and one fragment. It reports whether there is
// more to write.
func (w *writer) round() bool {
	w.mu.Lock()
	if w.err != nil {
		w.mu.Unlock()
		return false
	}
	batch, due := w.queue, w.due
	w.queue, w.spare, w.due = w.spare[:0], nil, false
	w.mu.Unlock()

	w.gather = w.gather[:0]
	for _, o := range batch {
		if !w.take(o) {
			return false
		}
	}
	if !w.fragment() {
		return false
	}
	if due && len(batch) == 0 && len(w.gather) == 0 {
		w.gather = append(w.gather, 0, 0, 0, 0)
		w.c.stats.ticksOut.Add(1)
	}
	if !w.flush(nil) {
		return false
	}
	more := len(batch) > 0 || len(w.ring) > 0
	clear(batch)
	w.mu.Lock()
	w.spare = batch[:0]
	w.mu.Unlock()
	return more
}

// take brings one message of the queue to the wire, or into a lane.
func (w *writer) take(o *outgoing) bool {
	if len(w.lanes) > 0 {
		if l := w.lanes[o.from]; l != nil {
			l.queue = append(l.queue, o)
			return true
		}
	}
	if o.large {
		w.lastID++
		l := &lane{from: o.from, id: w.lastID, queue: []*outgoing{o}}
		w.lanes[o.from] = l
		w.ring = append(w.ring, l)
		return true
	}
	return w.packet(o)
}

// packet adds one small message to the gathered ones, and writes them when
// there are enough, with a fragment behind.
func (w *writer) packet(o *outgoing) bool {
	w.c.stats.messagesOut.Add(1)
	w.written = append(w.written, o)
	p := o.packet(w.headers)
	if len(p) > gatherBytes {
		return w.flush(p) && w.fragment()
	}
	w.gather = append(w.gather, p...)
	if len(w.gather) >= batchBytes {
		return w.flush(nil) && w.fragment()
	}
	return true
}

// fragment adds the next fragment of the next lane, and writes it.
func (w *writer) fragment() bool {
	if len(w.ring) == 0 {
		return true
	}
	w.turn %= len(w.ring)
	l := w.ring[w.turn]
	o := l.queue[0]
	head, body := o.fragment(w.gather, l.id, w.c.cfg.FragmentSize)
	w.gather = head
	w.c.stats.fragmentsOut.Add(1)
	if !o.done() {
		w.turn++
		return w.flush(body)
	}
	w.c.stats.messagesOut.Add(1)
	w.written = append(w.written, o)
	return w.flush(body) && w.advance(l) // o is free from here on
}

// advance goes on to what waited behind the large message that is through.
func (w *writer) advance(l *lane) bool {
	for l.queue = l.queue[1:]; len(l.queue) > 0; l.queue = l.queue[1:] {
		if l.queue[0].large {
			w.lastID++
			l.id = w.lastID
			w.turn++
			return true
		}
		// One by one: a fragment of another lane may go between them, but
		// this lane is not looked at before its next large message.
		o := l.queue[0]
		w.c.stats.messagesOut.Add(1)
		w.written = append(w.written, o)
		if p := o.packet(w.headers); len(p) > gatherBytes || len(w.gather)+len(p) > batchBytes {
			if !w.flush(p) {
				return false
			}
		} else {
			w.gather = append(w.gather, p...)
		}
	}
	delete(w.lanes, l.from)
	w.ring = append(w.ring[:w.turn], w.ring[w.turn+1:]...)
	return true
}

// flush writes what was gathered and then body, and gives back the room of the
// messages that are through.
func (w *writer) flush(body []byte) bool {
	if len(w.gather)+len(body) > 0 {
		w.writing.Store(true)
		n, err := w.write(body)
		w.writing.Store(false)
		w.c.stats.bytesOut.Add(n)
		if err != nil {
			if isClosed(err) {
				err = fmt.Errorf("%w: %w", ErrPeerClosed, err)
			}
			w.c.fail(err)
			return false
		}
	}
	w.gather = w.gather[:0]
	if len(w.written) == 0 {
		return true
	}
	n := 0
	for i, o := range w.written {
		n += len(o.buf)
		o.free()
		w.written[i] = nil
	}
	w.written = w.written[:0]
	w.mu.Lock()
	w.queued -= n
	if w.space != nil && w.queued < w.c.cfg.QueueBytes {
		close(w.space)
		w.space = nil
	}
	if w.empty != nil && w.queued == 0 {
		close(w.empty)
		w.empty = nil
	}
	w.mu.Unlock()
	return true
}

func (w *writer) write(body []byte) (int64, error) {
	switch {
	case len(body) == 0:
		n, err := w.c.nc.Write(w.gather)
		return int64(n), err
	case len(w.gather) == 0:
		n, err := w.c.nc.Write(body)
		return int64(n), err
	}
	bufs := net.Buffers{w.gather, body}
	return bufs.WriteTo(w.c.nc)
}
