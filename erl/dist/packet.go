package dist

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/debughost/debughost/erl/etf"
)

const (
	// readBuffer holds small packets whole, so that they cost one read
	// together and no copy. Larger ones are read to where they belong.
	readBuffer = 32 << 10
	// firstRead is how much a packet may have allocated before any byte of it
	// has come. It holds a whole fragment of an emulator.
	firstRead = 64<<10 + 512
)

// packetReader takes packets off the connection and makes messages of them.
// One goroutine uses it.
type packetReader struct {
	c       *Conn
	br      *bufio.Reader
	offset  int64 // of the packet being read
	next    int64 // of the one after it
	headers bool  // packets have a distribution header
	cache   atomCache
	seqs    sequences
	wire    wire
	names   nameTable
	refs    [maxHeaderAtoms]etf.Atom // room for the atoms of one header
	msg     Message
}

func newPacketReader(c *Conn) *packetReader {
	r := &packetReader{
		c:       c,
		br:      bufio.NewReaderSize(countingReader{c}, readBuffer),
		headers: c.use&(FlagDistHdrAtomCache|FlagFragments) != 0,
		names:   nameTable{etf.Atom(c.cfg.Name), etf.Atom(c.peer.Name)},
	}
	r.seqs.init(&c.cfg)
	r.wire.names = &r.names
	r.wire.dec = etf.NewDecoder(etf.Limits{})
	return r
}

// countingReader counts what comes off the wire.
type countingReader struct{ c *Conn }

func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.c.nc.Read(p)
	r.c.stats.bytesIn.Add(int64(n))
	return n, err
}

// run reads until the connection ends and returns why.
func (r *packetReader) run(h Handler) error {
	for {
		if err := r.packet(h); err != nil {
			return r.reason(err)
		}
	}
}

// reason says what an error of reading means.
func (r *packetReader) reason(err error) error {
	switch {
	case err == io.EOF:
		return ErrPeerClosed
	case isClosed(err):
		return fmt.Errorf("%w in the middle of a packet or by a reset: %w", ErrPeerClosed, err)
	}
	return err
}

func (r *packetReader) bad(msg string, cause error) error {
	return &PacketError{Offset: r.offset, Msg: msg, Cause: cause}
}

// packet reads and handles one packet.
func (r *packetReader) packet(h Handler) error {
	b, err := r.br.Peek(4)
	if err != nil {
		if err == io.EOF && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	n := binary.BigEndian.Uint32(b)
	r.br.Discard(4)
	r.offset = r.next
	r.next += 4 + int64(n)
	switch {
	case n == 0:
		r.c.stats.ticksIn.Add(1)
		return nil
	case int64(n) > int64(r.c.cfg.MaxMessage)+firstRead:
		return r.bad(fmt.Sprintf("length %d is over the limit", n), ErrTooLarge)
	case n < 3:
		return r.bad(fmt.Sprintf("length %d", n), ErrProtocol)
	}
	kind, err := r.peek(2)
	if err != nil {
		return err
	}
	switch {
	case !r.headers && kind[0] == passThrough, r.headers && kind[0] == versionMagic && kind[1] == distHeader:
		return r.whole(int(n), h)
	case r.headers && kind[0] == versionMagic && (kind[1] == distFragment || kind[1] == distContinue):
		if !r.c.use.has(FlagFragments) {
			return r.bad("a fragment, which was not negotiated", ErrProtocol)
		}
		if n < fragmentHeader {
			return r.bad("fragment header ends early", ErrProtocol)
		}
		if kind[1] == distFragment {
			return r.start(int(n), h)
		}
		return r.more(int(n), h)
	}
	return r.bad(fmt.Sprintf("starts with %d, %d", kind[0], kind[1]), ErrProtocol)
}

// peek returns the next n bytes of the packet, without taking them.
func (r *packetReader) peek(n int) ([]byte, error) {
	b, err := r.br.Peek(n)
	return b, midPacket(err)
}

// midPacket is err where a packet was begun.
func midPacket(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// body returns the n bytes of a packet. owned tells whether they are the
// caller's to keep; otherwise they are valid until done(n) is called.
func (r *packetReader) body(n int) (b []byte, owned bool, err error) {
	if n <= readBuffer {
		b, err = r.peek(n)
		return b, false, err
	}
	b, err = r.read(nil, n, n)
	return b, true, err
}

func (r *packetReader) done(n int, owned bool) {
	if !owned {
		r.br.Discard(n)
	}
}

// read appends the next n bytes to dst. The memory grows with what has come,
// at most twofold, and not beyond the total that is expected in the end.
func (r *packetReader) read(dst []byte, n, total int) ([]byte, error) {
	for n > 0 {
		have := len(dst)
		if have == cap(dst) {
			dst = slices.Grow(dst, room(have, total))
		}
		step := min(n, cap(dst)-have)
		dst = dst[:have+step]
		if _, err := io.ReadFull(r.br, dst[have:]); err != nil {
			return nil, midPacket(err)
		}
		n -= step
	}
	return dst, nil
}

// room is how much a buffer that is full at have bytes grows.
func room(have, total int) int {
	return max(1, min(max(have, firstRead), total-have))
}

// whole handles a message that came as one packet.
func (r *packetReader) whole(n int, h Handler) error {
	b, owned, err := r.body(n)
	if err != nil {
		return err
	}
	var refs []etf.Atom
	rest := b[1:]
	if r.headers {
		if refs, rest, err = r.cache.parse(b[2:], r.refs[:0]); err != nil {
			return r.bad("atom cache", err)
		}
	} else if rest, err = cutVersion(rest); err != nil {
		return r.bad("control message", err)
	}
	m := &r.msg
	*m = Message{}
	if rest, err = r.control(m, rest, refs); err != nil {
		return err
	}
	if len(rest) > 0 && m.Payload.err == nil {
		if !r.headers {
			if rest, err = cutVersion(rest); err != nil {
				return r.bad("payload", err)
			}
		}
		if !owned {
			rest = slices.Clone(rest)
		}
		m.Payload.body, m.Payload.atoms = rest, slices.Clone(refs)
	}
	r.done(n, owned)
	return r.deliver(m, h)
}

func cutVersion(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != versionMagic {
		return nil, fmt.Errorf("%w: the version byte 131 is missing", ErrProtocol)
	}
	return b[1:], nil
}

// control reads the control tuple at the start of b.
func (r *packetReader) control(m *Message, b []byte, refs []etf.Atom) (rest []byte, err error) {
	w := &r.wire
	w.b, w.refs, w.err, w.soft = b, refs, nil, nil
	if err := w.parseControl(&m.Control); err != nil {
		return nil, r.bad("control message", err)
	}
	if w.soft != nil {
		r.c.stats.undecodable.Add(1)
		m.Payload.err = fmt.Errorf("control message %v: %w", m.Op, w.soft)
		return nil, nil
	}
	return w.b, nil
}

func (r *packetReader) deliver(m *Message, h Handler) error {
	if m.Op.hasPayload() && m.Payload.Empty() {
		return r.bad(fmt.Sprintf("%v without its payload", m.Op), ErrProtocol)
	}
	r.c.stats.messagesIn.Add(1)
	if !m.Op.known() {
		r.c.stats.unknownOps.Add(1)
	}
	h.HandleMessage(m)
	return nil
}

// start handles the first fragment of a message, which has its atoms and its
// control tuple whole.
func (r *packetReader) start(n int, h Handler) error {
	b, owned, err := r.body(n)
	if err != nil {
		return err
	}
	id, left := binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])
	refs, rest, err := r.cache.parse(b[fragmentHeader:], r.refs[:0])
	if err != nil {
		return r.bad("atom cache", err)
	}
	s, err := r.seqs.start(id, left)
	if err != nil {
		return r.bad("fragment", err)
	}
	if rest, err = r.control(&s.msg, rest, refs); err != nil {
		return err
	}
	s.msg.Payload.atoms = slices.Clone(refs)
	if r.seqs.admit(s, len(rest), left) {
		// A copy: the buffer of the packet has no room for what comes.
		s.body = append(make([]byte, 0, len(rest)), rest...)
	}
	r.done(n, owned)
	r.c.stats.fragmentsIn.Add(1)
	return r.finish(s, h)
}

// more handles a further fragment, which goes straight to where it belongs.
func (r *packetReader) more(n int, h Handler) error {
	b, err := r.peek(fragmentHeader)
	if err != nil {
		return err
	}
	id, left := binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])
	r.br.Discard(fragmentHeader)
	n -= fragmentHeader
	s, err := r.seqs.next(id, left)
	if err != nil {
		return r.bad("fragment", err)
	}
	if r.seqs.admit(s, n, left) {
		if s.body, err = r.read(s.body, n, s.expect(n, left)); err != nil {
			return err
		}
	} else if _, err = r.br.Discard(n); err != nil {
		return midPacket(err)
	}
	r.c.stats.fragmentsIn.Add(1)
	return r.finish(s, h)
}

// finish delivers a message whose last fragment has come.
func (r *packetReader) finish(s *sequence, h Handler) error {
	if s.left > 1 {
		return nil
	}
	r.seqs.remove(s)
	s.msg.Payload.body = s.body
	if s.msg.Payload.err != nil {
		s.msg.Payload.body = nil
		r.c.stats.dropped.Add(1)
	}
	return r.deliver(&s.msg, h)
}
