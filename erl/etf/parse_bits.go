package etf

import (
	"math"
	"math/big"
	"unicode/utf16"
	"unicode/utf8"
)

// maxSized bounds the bits that the sizes of segments may ask for in one text:
// a short text must not make a large binary.
const maxSized = 1 << 20

// segment is one part of <<…>>.
type segment struct {
	start  int
	value  Term   // Int, BigInt, Float, Binary or Bitstring
	chars  []rune // a text, if value is nil
	kind   string // integer, float, utf8, utf16, utf32, binary, bitstring; "" is the default
	size   int    // -1 if not given
	unit   int    // 0 if not given
	little bool
}

// bitBuilder collects bits, the high ones of a byte first.
type bitBuilder struct {
	bytes []byte
	bits  int // in use of the last byte, 0 means all
}

func (b *bitBuilder) append(bytes []byte, bits int) {
	if b.bits == 0 {
		b.bytes = append(b.bytes, bytes[:(bits+7)/8]...)
		b.bits = bits % 8
		if b.bits > 0 {
			b.bytes[len(b.bytes)-1] &= 0xff << (8 - b.bits)
		}
		return
	}
	for i := range bits {
		if b.bits == 0 {
			b.bytes = append(b.bytes, 0)
		}
		bit := bytes[i/8] >> (7 - i%8) & 1
		b.bytes[len(b.bytes)-1] |= bit << (7 - b.bits)
		b.bits = (b.bits + 1) % 8
	}
}

func (b *bitBuilder) term() Term {
	if b.bits > 0 {
		return Bitstring{Bytes: b.bytes, Bits: uint8(b.bits)}
	}
	return append(Binary{}, b.bytes...)
}

// bits reads <<…>> behind its opening. each reads one segment.
func (p *parser) bits(each func() (segment, error)) (Term, error) {
	var b bitBuilder
	err := p.list(">>", func() error {
		s, err := each()
		if err != nil {
			return err
		}
		return p.segment(&b, s)
	})
	if err != nil {
		return nil, err
	}
	return b.term(), nil
}

// segment appends one segment to b.
func (p *parser) segment(b *bitBuilder, s segment) error {
	if s.value == nil {
		return p.textSegment(b, s)
	}
	if s.kind == "" {
		switch s.value.(type) {
		case Float:
			s.kind = "float"
		case Binary:
			s.kind = "binary"
		case Bitstring:
			s.kind = "bitstring"
		default:
			s.kind = "integer"
		}
	}
	switch v := s.value.(type) {
	case Int:
		return p.intSegment(b, s, big.NewInt(int64(v)))
	case BigInt:
		return p.intSegment(b, s, v.Int)
	case Float:
		if s.kind == "float" {
			return p.floatSegment(b, s, float64(v))
		}
	case Binary:
		if s.kind == "binary" || s.kind == "bitstring" {
			return p.bitsSegment(b, s, v, 8*len(v))
		}
	case Bitstring:
		if s.kind == "bitstring" {
			return p.bitsSegment(b, s, v.Bytes, 8*len(v.Bytes)-8+int(v.Bits))
		}
	}
	return p.fail(s.start, "the value does not fit the type "+s.kind, "")
}

// sizeOf returns the bits that the segment's size and unit ask for.
func (p *parser) sizeOf(s segment, size, unit int) (int, error) {
	if s.size >= 0 {
		size = s.size
	}
	if s.unit > 0 {
		unit = s.unit
	}
	// size is below 2^31 and unit at most 256.
	if p.sized += size * unit; p.sized > maxSized {
		return 0, p.fail(s.start, "the sizes of segments add up to more than 128 KiB", "")
	}
	return size * unit, nil
}

func (p *parser) intSegment(b *bitBuilder, s segment, v *big.Int) error {
	switch s.kind {
	case "utf8", "utf16", "utf32":
		if !v.IsInt64() || v.Int64() < 0 || v.Int64() > utf8.MaxRune || !utf8.ValidRune(rune(v.Int64())) {
			return p.fail(s.start, "the number is no character", "")
		}
		s.chars = []rune{rune(v.Int64())}
		return p.textSegment(b, s)
	case "float":
		f, _ := new(big.Float).SetInt(v).Float64()
		if math.IsInf(f, 0) {
			return p.fail(s.start, "a float out of range", "")
		}
		return p.floatSegment(b, s, f)
	case "integer":
	default:
		return p.fail(s.start, "the value does not fit the type "+s.kind, "")
	}
	bits, err := p.sizeOf(s, 8, 1)
	if err != nil {
		return err
	}
	// Two's complement of that many bits.
	m := new(big.Int).Lsh(big.NewInt(1), uint(bits))
	m.Mod(v, m)
	n := (bits + 7) / 8
	if s.little {
		bytes := m.FillBytes(make([]byte, n))
		reverse(bytes)
		if r := bits % 8; r > 0 {
			bytes[n-1] <<= 8 - r
		}
		b.append(bytes, bits)
		return nil
	}
	m.Lsh(m, uint(8*n-bits))
	b.append(m.FillBytes(make([]byte, n)), bits)
	return nil
}

func reverse(b []byte) {
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}

func (p *parser) floatSegment(b *bitBuilder, s segment, f float64) error {
	bits, err := p.sizeOf(s, 64, 1)
	if err != nil {
		return err
	}
	var v uint64
	switch bits {
	case 64:
		v = math.Float64bits(f)
	case 32:
		if math.IsInf(float64(float32(f)), 0) {
			return p.fail(s.start, "a float out of range", "")
		}
		v = uint64(math.Float32bits(float32(f)))
	default:
		return p.fail(s.start, "the size of a float is 64 or 32", "")
	}
	bytes := new(big.Int).SetUint64(v).FillBytes(make([]byte, bits/8))
	if s.little {
		reverse(bytes)
	}
	b.append(bytes, bits)
	return nil
}

func (p *parser) bitsSegment(b *bitBuilder, s segment, bytes []byte, have int) error {
	want := have
	if s.size >= 0 {
		unit := 8
		if s.kind == "bitstring" {
			unit = 1
		}
		var err error
		if want, err = p.sizeOf(s, 0, unit); err != nil {
			return err
		}
	}
	if want > have {
		return p.fail(s.start, "the binary is shorter than its size", "")
	}
	b.append(bytes, want)
	return nil
}

func (p *parser) textSegment(b *bitBuilder, s segment) error {
	if s.size >= 0 && (s.kind != "" && s.kind != "integer" || p.syntax == Elixir) {
		return p.fail(s.start, "a text takes no size here", "")
	}
	kind := s.kind
	if kind == "" && p.syntax == Elixir || kind == "binary" || kind == "bitstring" {
		if p.syntax == Erlang {
			return p.fail(s.start, "the value does not fit the type "+kind, `write <<"…">>`)
		}
		kind, s.little = "utf8", false
	}
	var bytes []byte
	if kind == "utf8" {
		bytes = textBinary(s.chars)
		s.chars = nil
	}
	for _, r := range s.chars {
		r = max(r, -r)
		switch kind {
		case "utf16":
			for _, u := range utf16.AppendRune(nil, r) {
				bytes = appendUnit(bytes, uint32(u), 2, s.little)
			}
		case "utf32":
			bytes = appendUnit(bytes, uint32(r), 4, s.little)
		case "", "integer":
			// Each character is an integer segment of its own.
			c := s
			c.kind = "integer"
			if c.size < 0 && r > 0xff {
				return p.fail(s.start, "a character above 255", `write <<"…"/utf8>>`)
			}
			if err := p.intSegment(b, c, big.NewInt(int64(r))); err != nil {
				return err
			}
		default:
			return p.fail(s.start, "the value does not fit the type "+kind, "")
		}
	}
	b.append(bytes, 8*len(bytes))
	return nil
}

func appendUnit(dst []byte, v uint32, n int, little bool) []byte {
	for i := range n {
		shift := 8 * (n - 1 - i)
		if little {
			shift = 8 * i
		}
		dst = append(dst, byte(v>>shift))
	}
	return dst
}
