package etf

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unicode/utf8"
)

// The functions of this file write a term part by part, without a Go value for
// the whole of it: a header promises elements, which the caller then appends.

const wordBytes = bits.UintSize / 8

// AppendInt appends an integer in its smallest form.
func AppendInt(b []byte, v int64) []byte {
	switch {
	case uint64(v) <= math.MaxUint8:
		return append(b, tagSmallInt, byte(v))
	case int64(int32(v)) == v:
		return append(b, tagInt, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	u, negative := uint64(v), v < 0
	if negative {
		u = -u
	}
	n := (bits.Len64(u) + 7) / 8
	b = append(b, tagSmallBig, byte(n), signByte(negative))
	for range n {
		b = append(b, byte(u))
		u >>= 8
	}
	return b
}

// AppendUint appends an unsigned integer in its smallest form.
func AppendUint(b []byte, v uint64) []byte {
	if v <= math.MaxInt64 {
		return AppendInt(b, int64(v))
	}
	return binary.LittleEndian.AppendUint64(append(b, tagSmallBig, 8, 0), v)
}

// AppendAtom appends an atom. It fails where a is no UTF-8 or has more than
// 255 characters.
func AppendAtom(b []byte, a Atom) ([]byte, error) {
	if len(a) > math.MaxUint8 || !isASCII(a) {
		return appendLongAtom(b, a)
	}
	b = append(b, tagSmallAtomUTF8, byte(len(a)))
	return append(b, a...), nil
}

// appendLongAtom is AppendAtom for names that need a closer look.
func appendLongAtom(b []byte, a Atom) ([]byte, error) {
	n := len(a)
	switch {
	case !utf8.ValidString(string(a)):
		return b, &ValueError{Type: "Atom", Msg: fmt.Sprintf("%.40q is not valid UTF-8", string(a))}
	case n > maxAtomChars && utf8.RuneCountInString(string(a)) > maxAtomChars:
		return b, &ValueError{Type: "Atom", Msg: fmt.Sprintf("%.40q… is longer than 255 characters", string(a))}
	case n > math.MaxUint8:
		b = append(b, tagAtomUTF8, byte(n>>8), byte(n))
	default:
		b = append(b, tagSmallAtomUTF8, byte(n))
	}
	return append(b, a...), nil
}

// AppendBinary appends a binary. It fails where data is longer than 4 GiB.
func AppendBinary(b, data []byte) ([]byte, error) {
	n := len(data)
	if uint64(n) > math.MaxUint32 {
		return b, &ValueError{Type: "Binary", Msg: "is longer than 4 GiB"}
	}
	b = append(b, tagBinary, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(b, data...), nil
}

// AppendFloat appends a float. It fails for NaN and the infinities, which
// Erlang does not have.
func AppendFloat(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return b, &ValueError{Type: "Float", Msg: fmt.Sprintf("%v is not finite", f)}
	}
	return binary.BigEndian.AppendUint64(append(b, tagNewFloat), math.Float64bits(f)), nil
}

// AppendPid appends a pid.
func AppendPid(b []byte, p Pid) ([]byte, error) {
	b, err := AppendAtom(append(b, tagNewPid), p.Node)
	if err != nil {
		return b, err
	}
	return append(b,
		byte(p.ID>>24), byte(p.ID>>16), byte(p.ID>>8), byte(p.ID),
		byte(p.Serial>>24), byte(p.Serial>>16), byte(p.Serial>>8), byte(p.Serial),
		byte(p.Creation>>24), byte(p.Creation>>16), byte(p.Creation>>8), byte(p.Creation)), nil
}

// AppendPort appends a port, as V4_PORT_EXT, which all releases since OTP 24
// read.
func AppendPort(b []byte, p Port) ([]byte, error) {
	b, err := AppendAtom(append(b, tagV4Port), p.Node)
	if err != nil {
		return b, err
	}
	b = binary.BigEndian.AppendUint64(b, p.ID)
	return binary.BigEndian.AppendUint32(b, p.Creation), nil
}

// AppendRef appends a reference. It fails where r has not one to five words.
func AppendRef(b []byte, r Ref) ([]byte, error) {
	if r.Len < 1 || r.Len > maxRefWords {
		return b, &ValueError{Type: "Ref", Msg: fmt.Sprintf("has %d words", r.Len)}
	}
	b, err := AppendAtom(append(b, tagNewerRef, 0, r.Len), r.Node)
	if err != nil {
		return b, err
	}
	b = binary.BigEndian.AppendUint32(b, r.Creation)
	for _, w := range r.Words[:r.Len] {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b, nil
}

// AppendTupleHeader begins a tuple of n elements, 0 ≤ n < 1<<32.
func AppendTupleHeader(b []byte, n int) []byte {
	if n <= math.MaxUint8 {
		return append(b, tagSmallTuple, byte(n))
	}
	return append(b, tagLargeTuple, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// AppendListHeader begins a list of n elements, 0 < n < 1<<32, which a tail
// must follow: AppendNil for a proper list. The empty list is AppendNil alone.
func AppendListHeader(b []byte, n int) []byte {
	return append(b, tagList, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// AppendNil appends the empty list.
func AppendNil(b []byte) []byte { return append(b, tagNil) }

// AppendMapHeader begins a map of n pairs, 0 ≤ n < 1<<32: a key, its value,
// the next key.
func AppendMapHeader(b []byte, n int) []byte {
	return append(b, tagMap, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}
