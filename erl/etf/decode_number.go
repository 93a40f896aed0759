package etf

import (
	"math"
	"strconv"
)

func (s *source) newFloat(at int) (float64, error) {
	bits, ok := s.u64()
	if !ok {
		return 0, s.short(at)
	}
	f := math.Float64frombits(bits)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, s.bad(at, "float is not finite")
	}
	return f, nil
}

// textFloat reads FLOAT_EXT: 31 bytes of "%.20e", padded with zeros.
func (s *source) textFloat(at int) (float64, error) {
	b, ok := s.take(31)
	if !ok {
		return 0, s.short(at)
	}
	n := 0
	for n < len(b) && b[n] != 0 {
		if c := b[n]; (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-' {
			return 0, s.bad(at, "float has a wrong character")
		}
		n++
	}
	f, err := strconv.ParseFloat(string(b[:n]), 64)
	if err != nil {
		return 0, s.bad(at, "float is malformed or out of range")
	}
	return f, nil
}

// big reads SMALL_BIG_EXT or LARGE_BIG_EXT: the digits are bytes, the lowest
// first, without the zeros at the high end.
func (s *source) big(at int, tag byte) (digits []byte, negative bool, err error) {
	var n uint64
	var ok bool
	if tag == tagSmallBig {
		var b byte
		b, ok = s.u8()
		n = uint64(b)
	} else {
		var b uint32
		b, ok = s.u32()
		n = uint64(b)
	}
	sign, ok2 := s.u8()
	if !ok || !ok2 {
		return nil, false, s.short(at)
	}
	digits, ok = s.take(n)
	if !ok {
		return nil, false, s.short(at)
	}
	for len(digits) > 0 && digits[len(digits)-1] == 0 {
		digits = digits[:len(digits)-1]
	}
	if len(digits) > s.limits.MaxBig {
		return nil, false, limitError(ErrTooLarge, at)
	}
	return digits, sign != 0, nil
}

// smallBig returns digits as an int64 if it fits.
func smallBig(digits []byte, negative bool) (int64, bool) {
	if len(digits) > 8 {
		return 0, false
	}
	var u uint64
	for i := len(digits) - 1; i >= 0; i-- {
		u = u<<8 | uint64(digits[i])
	}
	switch {
	case !negative && u <= math.MaxInt64:
		return int64(u), true
	case negative && u <= 1<<63:
		return int64(-u), true
	}
	return 0, false
}
