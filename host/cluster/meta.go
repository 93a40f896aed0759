package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// protocol numbers what members say to each other beyond memberlist: the layout
// of meta, of the shared state, and of messages. A member goes on
// understanding all earlier numbers.
const protocol = 1

// metaMax is memberlist's bound.
const metaMax = 512

// meta is what every member tells about itself in gossip.
//
//	protocol (uvarint) | epoch (8 bytes, big endian) | id | version | machine
//
// The last three are strings: their length as an uvarint, then printable ASCII.
// A later protocol may append more, which this one skips.
type meta struct {
	protocol             uint64
	epoch                uint64
	id, version, machine string
}

func (c *Config) meta() meta {
	return meta{protocol: protocol, epoch: c.Epoch, id: c.ID, version: c.Version, machine: c.Machine}
}

func (m meta) append(b []byte) []byte {
	b = binary.AppendUvarint(b, m.protocol)
	b = binary.BigEndian.AppendUint64(b, m.epoch)
	b = appendString(b, m.id)
	b = appendString(b, m.version)
	return appendString(b, m.machine)
}

func (m meta) check() error {
	_, err := parseMeta(m.append(nil))
	return err
}

func parseMeta(b []byte) (m meta, err error) {
	if len(b) > metaMax {
		return m, fmt.Errorf("parse member's metadata: %d bytes", len(b))
	}
	r := reader{b: b}
	m.protocol = r.uvarint()
	m.epoch = r.uint64()
	m.id = r.text(64)
	m.version = r.text(128)
	m.machine = r.text(256)
	switch {
	case r.err != nil:
	case m.protocol < 1:
		r.err = errors.New("no protocol")
	case m.protocol == protocol && len(r.b) > 0:
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return meta{}, fmt.Errorf("parse member's metadata: %w", r.err)
	}
	return m, nil
}

var errShort = errors.New("it ends too early")

// reader cuts values off a message. Its first error stays, and makes all later
// values zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n int) []byte {
	if len(r.b) < n {
		r.fail(errShort)
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// text reads a string of printable ASCII.
func (r *reader) text(most int) string {
	n := r.uvarint()
	if n > uint64(most) {
		r.fail(fmt.Errorf("a text of %d bytes", n))
		return ""
	}
	b := r.bytes(int(n))
	for _, c := range b {
		if c < ' ' || c > '~' {
			r.fail(errors.New("a text that is not printable"))
			return ""
		}
	}
	return string(b)
}

// name reads a member's name.
func (r *reader) name() string {
	s := r.text(maxName)
	if r.err == nil {
		if err := checkName("member name", s, maxName); err != nil {
			r.fail(err)
			return ""
		}
	}
	return s
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}
