package clustertest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// maxUnread is how much of a stream's bytes wait to be read before a writer
// blocks.
const maxUnread = 64 << 10

// end is one end of a stream. Bytes pass while the network lets them; where it
// does not, the reader waits.
type end struct {
	net         *Network
	host        string // that has this end
	peer        string
	local, far  net.Addr
	in, out     *half
	once        sync.Once
	read, write deadline
}

// pipe makes a stream. The caller holds the network's mu.
func (n *Network) pipe(from string, to netip.AddrPort) (*end, *end) {
	n.next++
	near := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), n.next))
	there := net.TCPAddrFromAddrPort(to)
	a, b := newHalf(), newHalf()
	ours := &end{net: n, host: from, peer: to.Addr().String(), local: near, far: there, in: a, out: b}
	theirs := &end{net: n, host: to.Addr().String(), peer: from, local: there, far: near, in: b, out: a}
	for _, e := range []*end{ours, theirs} {
		e.read.init()
		e.write.init()
		n.pipes[e] = struct{}{}
	}
	return ours, theirs
}

func (e *end) Read(b []byte) (int, error) {
	for {
		late := e.read.wait()
		if isClosed(late) {
			return 0, os.ErrDeadlineExceeded
		}
		e.net.mu.Lock()
		open, change := e.net.passes(e.peer, e.host)
		e.net.mu.Unlock()
		var more <-chan struct{}
		if open {
			var n int
			var err error
			if n, more, err = e.in.read(b); n > 0 || err != nil || len(b) == 0 {
				return n, err
			}
		}
		select {
		case <-more: // nil where nothing passes: neither bytes nor the stream's end
		case <-change:
		case <-e.in.gone:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (e *end) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		late := e.write.wait()
		if isClosed(late) {
			return written, os.ErrDeadlineExceeded
		}
		n, room, err := e.out.write(b)
		written += n
		e.net.bytes.Add(uint64(n))
		if err != nil {
			return written, err
		}
		if b = b[n:]; len(b) == 0 {
			break
		}
		select {
		case <-room:
		case <-late:
			return written, os.ErrDeadlineExceeded
		}
	}
	return written, nil
}

func (e *end) Close() error {
	e.once.Do(func() {
		e.in.leave()
		e.out.end()
		e.net.mu.Lock()
		delete(e.net.pipes, e)
		e.net.mu.Unlock()
	})
	return nil
}

func (e *end) LocalAddr() net.Addr                { return e.local }
func (e *end) RemoteAddr() net.Addr               { return e.far }
func (e *end) SetReadDeadline(t time.Time) error  { e.read.set(t); return nil }
func (e *end) SetWriteDeadline(t time.Time) error { e.write.set(t); return nil }

func (e *end) SetDeadline(t time.Time) error {
	e.read.set(t)
	e.write.set(t)
	return nil
}

// half is one direction of a stream.
type half struct {
	done chan struct{} // closed when the writer has ended it
	gone chan struct{} // closed when the reader has

	mu    sync.Mutex
	buf   []byte
	moved chan struct{} // closed when buf or an end changes
}

func newHalf() *half {
	return &half{done: make(chan struct{}), gone: make(chan struct{}), moved: make(chan struct{})}
}

func (h *half) move() {
	close(h.moved)
	h.moved = make(chan struct{})
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (h *half) read(b []byte) (int, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case isClosed(h.gone):
		return 0, nil, net.ErrClosed
	case len(h.buf) > 0:
		n := copy(b, h.buf)
		h.buf = h.buf[n:]
		h.move()
		return n, nil, nil
	case isClosed(h.done):
		return 0, nil, io.EOF
	}
	return 0, h.moved, nil
}

func (h *half) write(b []byte) (int, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if isClosed(h.done) || isClosed(h.gone) {
		return 0, nil, io.ErrClosedPipe
	}
	n := min(len(b), maxUnread-len(h.buf))
	if n > 0 {
		h.buf = append(h.buf, b[:n]...)
		h.move()
	}
	return n, h.moved, nil
}

func (h *half) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !isClosed(h.done) {
		close(h.done)
		h.move()
	}
}

func (h *half) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !isClosed(h.gone) {
		close(h.gone)
		h.move()
	}
}

// deadline is a channel that is closed at a time that may be moved.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	late  chan struct{}
}

func (d *deadline) init() { d.late = make(chan struct{}) }

func (d *deadline) wait() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.late
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if isClosed(d.late) {
		d.late = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	late := d.late
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if late == d.late && !isClosed(late) {
				close(late)
			}
		})
	} else {
		close(late)
	}
}
