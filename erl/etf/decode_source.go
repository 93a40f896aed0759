package etf

import "encoding/binary"

// source reads the leaves of the format. The tree and the tape share it, so
// that they cannot disagree about what a leaf is.
type source struct {
	in     []byte
	pos    int
	limits Limits
	// budget is how many more elements containers may declare before the input
	// cannot hold them: each takes a byte. Nested headers draw on one budget,
	// or a few bytes of them could each claim the whole rest of the input.
	budget   int
	elements int // left of Limits.MaxElements
}

func (s *source) reset(in []byte, pos int) {
	s.in, s.pos = in, pos
	s.budget = len(in)
	s.elements = s.limits.MaxElements
}

func (s *source) short(at int) error {
	var tag byte
	if at < len(s.in) {
		tag = s.in[at]
	}
	return &SyntaxError{Offset: at, Tag: tag, Msg: msgShort}
}

func (s *source) bad(at int, msg string) error {
	return &SyntaxError{Offset: at, Tag: s.in[at], Msg: msg}
}

// left is the number of unread bytes.
func (s *source) left() int { return len(s.in) - s.pos }

// take returns the next n bytes, or false.
func (s *source) take(n uint64) ([]byte, bool) {
	if n > uint64(len(s.in)-s.pos) {
		return nil, false
	}
	b := s.in[s.pos : s.pos+int(n)]
	s.pos += int(n)
	return b, true
}

func (s *source) u8() (byte, bool) {
	if s.pos >= len(s.in) {
		return 0, false
	}
	s.pos++
	return s.in[s.pos-1], true
}

func (s *source) u16() (uint16, bool) {
	if len(s.in)-s.pos < 2 {
		return 0, false
	}
	s.pos += 2
	return binary.BigEndian.Uint16(s.in[s.pos-2:]), true
}

func (s *source) u32() (uint32, bool) {
	if len(s.in)-s.pos < 4 {
		return 0, false
	}
	s.pos += 4
	return binary.BigEndian.Uint32(s.in[s.pos-4:]), true
}

func (s *source) u64() (uint64, bool) {
	if len(s.in)-s.pos < 8 {
		return 0, false
	}
	s.pos += 8
	return binary.BigEndian.Uint64(s.in[s.pos-8:]), true
}

// claim accounts for a container of n elements and returns n as an int.
func (s *source) claim(at int, n uint64) (int, error) {
	if n > uint64(s.left()) || n > uint64(s.budget) {
		return 0, s.short(at)
	}
	if n > uint64(s.elements) {
		return 0, limitError(ErrTooLarge, at)
	}
	s.budget -= int(n)
	s.elements -= int(n)
	return int(n), nil
}

// count reads a 32-bit count of items that have unit elements each.
func (s *source) count(at int, unit uint64) (int, error) {
	n, ok := s.u32()
	if !ok {
		return 0, s.short(at)
	}
	_, err := s.claim(at, uint64(n)*unit)
	return int(n), err
}

// binaryBytes reads what follows the tag of BINARY_EXT.
func (s *source) binaryBytes(at int) ([]byte, error) {
	n, ok := s.u32()
	if !ok {
		return nil, s.short(at)
	}
	b, ok := s.take(uint64(n))
	if !ok {
		return nil, s.short(at)
	}
	return b, nil
}

// stringBytes reads what follows the tag of STRING_EXT.
func (s *source) stringBytes(at int) ([]byte, error) {
	n, ok := s.u16()
	if !ok {
		return nil, s.short(at)
	}
	b, ok := s.take(uint64(n))
	if !ok {
		return nil, s.short(at)
	}
	return b, nil
}

// bitBinary reads BIT_BINARY_EXT. bits is 0 for a whole number of bytes.
func (s *source) bitBinary(at int) (b []byte, bits uint8, err error) {
	n, ok := s.u32()
	bits, ok2 := s.u8()
	if !ok || !ok2 {
		return nil, 0, s.short(at)
	}
	b, ok = s.take(uint64(n))
	if !ok {
		return nil, 0, s.short(at)
	}
	if bits > 8 || (bits == 0) != (n == 0) {
		return nil, 0, s.bad(at, "bitstring has a wrong number of bits")
	}
	return b, bits & 7, nil
}
