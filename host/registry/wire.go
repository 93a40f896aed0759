package registry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"
)

// ErrMessage says that a message from another member breaks the format.
var ErrMessage = errors.New("malformed message")

// parser takes a message apart. After the first error it yields zero values.
type parser struct {
	b   []byte
	err error
}

func (p *parser) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s", ErrMessage, what)
	}
	p.b = nil
}

func (p *parser) u8() byte {
	if len(p.b) < 1 {
		p.fail("too short")
		return 0
	}
	v := p.b[0]
	p.b = p.b[1:]
	return v
}

func (p *parser) u64() uint64 {
	if len(p.b) < 8 {
		p.fail("too short")
		return 0
	}
	v := binary.BigEndian.Uint64(p.b)
	p.b = p.b[8:]
	return v
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail("bad number")
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.fail("bad number")
		return 0
	}
	p.b = p.b[n:]
	return v
}

// bytes returns the next length-prefixed bytes. They are those of the message.
func (p *parser) bytes(max int) []byte {
	n := p.uvarint()
	if n > uint64(max) || n > uint64(len(p.b)) {
		p.fail("bad length")
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

// text is bytes that people are shown: not empty, and printable.
func (p *parser) text(max int) []byte {
	v := p.bytes(max)
	if p.err == nil && !printable(v) {
		p.fail("text is empty or not printable")
	}
	return v
}

// end fails if anything is left.
func (p *parser) end() error {
	if p.err == nil && len(p.b) > 0 {
		p.fail("bytes behind the end")
	}
	return p.err
}

// printable tells whether s is not empty, is UTF-8 and has only what can be
// shown on one line.
func printable[T string | []byte](s T) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if n < 2 || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return len(s) > 0
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func (p *parser) bool() bool {
	v := p.u8()
	if v > 1 {
		p.fail("bad flag")
	}
	return v == 1
}

// ttl is a duration that is not negative.
func (p *parser) ttl() int64 {
	v := p.uvarint()
	if v > math.MaxInt64 {
		p.fail("bad duration")
	}
	return int64(v & math.MaxInt64)
}
