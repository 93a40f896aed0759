package dist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/debughost/debughost/erl/etf"
)

// headroom is what a message leaves free in front of its control tuple for the
// largest head that it may get: length, fragment header, no atoms.
const headroom = 4 + fragmentHeader + 1

// outgoing is an encoded message on its way to the wire.
type outgoing struct {
	buf  []byte  // headroom, control tuple, payload
	from etf.Pid // whose messages stay in order
	ctl  int     // size of the control tuple
	// large says that it goes out in fragments, of which sent bytes went.
	large bool
	sent  int
}

func (o *outgoing) content() []byte { return o.buf[headroom:] }

// pooledSize is up to which size buffers are used again.
const pooledSize = 128 << 10

var outgoingPool = sync.Pool{New: func() any { return &outgoing{buf: make([]byte, headroom, 512)} }}

func newOutgoing() *outgoing {
	o := outgoingPool.Get().(*outgoing)
	*o = outgoing{buf: o.buf[:headroom]}
	return o
}

func (o *outgoing) free() {
	if cap(o.buf) <= pooledSize {
		outgoingPool.Put(o)
	}
}

var errPayload = errors.New("encode message: a payload where none belongs, or none where one does")

// encode makes a message of its parts.
func (c *Conn) encode(m *Control, payload etf.Term) (*outgoing, error) {
	o, err := c.encodeControl(m, payload != nil)
	if err != nil || payload == nil {
		return o, err
	}
	b, err := etf.Append(o.buf, payload)
	if err != nil {
		o.free()
		return nil, fmt.Errorf("encode payload of %v: %w", m.Op, err)
	}
	return c.sized(o, b), nil
}

// encodeRaw is encode for a payload that is encoded already.
func (c *Conn) encodeRaw(m *Control, body []byte) (*outgoing, error) {
	o, err := c.encodeControl(m, len(body) > 0)
	if err != nil {
		return nil, err
	}
	return c.sized(o, append(o.buf, body...)), nil
}

func (c *Conn) encodeControl(m *Control, payload bool) (*outgoing, error) {
	if m.Op.hasPayload() != payload {
		return nil, fmt.Errorf("%w: %v", errPayload, m.Op)
	}
	o := newOutgoing()
	o.from = m.From
	b := o.buf
	if !c.w.headers {
		b = append(b, versionMagic)
	}
	b, err := appendControl(b, m)
	if err != nil {
		o.free()
		return nil, err
	}
	if !c.w.headers && payload {
		b = append(b, versionMagic)
	}
	o.buf = b
	o.ctl = len(o.content())
	return o, nil
}

// sized sets the content and decides whether it goes out in fragments.
func (c *Conn) sized(o *outgoing, b []byte) *outgoing {
	o.buf = b
	o.large = c.w.fragments && len(o.content()) > max(c.cfg.FragmentSize, o.ctl)
	return o
}

// packet returns the message as one packet, its head written into the room in
// front of it.
func (o *outgoing) packet(headers bool) []byte {
	if headers {
		p := o.buf[headroom-7:]
		binary.BigEndian.PutUint32(p, uint32(len(p)-4))
		p[4], p[5], p[6] = versionMagic, distHeader, 0
		return p
	}
	p := o.buf[headroom-5:]
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	p[4] = passThrough
	return p
}

// fragment appends the head of the next fragment to dst and returns it with
// the fragment's bytes. All fragments but the last have size bytes; the first
// one may have more, since the control tuple stays in one piece.
func (o *outgoing) fragment(dst []byte, id uint64, size int) (head, body []byte) {
	content := o.content()
	kind, extra, end := byte(distContinue), 0, o.sent+size
	if o.sent == 0 {
		kind, extra, end = distFragment, 1, max(size, o.ctl)
	}
	end = min(end, len(content))
	body = content[o.sent:end]
	left := 1 + (len(content)-end+size-1)/size
	dst = binary.BigEndian.AppendUint32(dst, uint32(fragmentHeader+extra+len(body)))
	dst = append(dst, versionMagic, kind)
	dst = binary.BigEndian.AppendUint64(dst, id)
	dst = binary.BigEndian.AppendUint64(dst, uint64(left))
	if extra == 1 {
		dst = append(dst, 0) // no atoms
	}
	o.sent += len(body)
	return dst, body
}

// done reports whether all fragments were taken.
func (o *outgoing) done() bool { return o.sent == len(o.content()) }
