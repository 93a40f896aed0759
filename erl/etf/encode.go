package etf

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

// Encode returns t in the external format with its version byte.
func Encode(t Term) ([]byte, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	out, err := Append(append((*buf)[:0], version), t)
	if err != nil {
		return nil, err
	}
	if cap(out) <= maxPooled {
		*buf = out
	}
	return bytes.Clone(out), nil
}

// maxPooled is the size of the largest buffer that Encode keeps.
const maxPooled = 4 << 20

// buffers is where Encode writes: to copy the result is cheaper than to grow it
// step by step.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// EncodeCompressed returns t in the external format with its version byte,
// compressed by zlib as term_to_binary does with the option compressed.
func EncodeCompressed(t Term) ([]byte, error) {
	body, err := Append(nil, t)
	if err != nil {
		return nil, err
	}
	if uint64(len(body)) > math.MaxUint32 {
		return nil, &ValueError{Type: fmt.Sprintf("%T", t), Msg: "longer than a compressed term can be"}
	}
	var out bytes.Buffer
	out.Write(binary.BigEndian.AppendUint32([]byte{version, tagCompressed}, uint32(len(body))))
	z := zlib.NewWriter(&out)
	if _, err := z.Write(body); err != nil {
		return nil, fmt.Errorf("encode term: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("encode term: %w", err)
	}
	return out.Bytes(), nil
}

// Append appends t without a version byte to dst, and allocates only where
// dst has no room. After an error (*ValueError, ErrTooDeep) it returns dst
// with its old length.
func Append(dst []byte, t Term) ([]byte, error) {
	out, err := appendTerm(dst, t, DefaultMaxDepth)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// appendTerm appends t, in which depth containers may still be nested.
func appendTerm(b []byte, t Term, depth int) ([]byte, error) {
	switch t := t.(type) {
	case Int:
		return AppendInt(b, int64(t)), nil
	case Atom:
		return AppendAtom(b, t)
	case Tuple:
		return appendTuple(b, t, depth)
	case Pid:
		return AppendPid(b, t)
	case Binary:
		return AppendBinary(b, t)
	case List:
		return appendList(b, t, nil, depth)
	case Map:
		return appendMap(b, t, depth)
	case String:
		return appendString(b, t), nil
	case Float:
		return AppendFloat(b, float64(t))
	case Ref:
		return AppendRef(b, t)
	case Bitstring:
		return appendBits(b, t)
	case BigInt:
		return appendBig(b, t)
	case Port:
		return AppendPort(b, t)
	case ImproperList:
		if len(t.Elems) == 0 || t.Tail == nil {
			return b, &ValueError{Type: "ImproperList", Msg: "no elements or no tail"}
		}
		return appendList(b, t.Elems, t.Tail, depth)
	case Export:
		return appendExport(b, t)
	case *Fun:
		return appendFun(b, t, depth)
	case *Record:
		return appendRecord(b, t, depth)
	}
	return b, &ValueError{Type: "Term", Msg: "is nil"}
}

func appendAll(b []byte, elems []Term, depth int) (_ []byte, err error) {
	if depth <= 0 {
		return b, fmt.Errorf("encode term: %w", ErrTooDeep)
	}
	for _, e := range elems {
		// The most frequent kinds without another call.
		switch e := e.(type) {
		case Int:
			b = AppendInt(b, int64(e))
			continue
		case Atom:
			if len(e) <= math.MaxUint8 && isASCII(e) {
				b = append(append(b, tagSmallAtomUTF8, byte(len(e))), e...)
				continue
			}
		}
		if b, err = appendTerm(b, e, depth-1); err != nil {
			return b, err
		}
	}
	return b, nil
}

func appendTuple(b []byte, t Tuple, depth int) ([]byte, error) {
	if uint64(len(t)) > math.MaxUint32 {
		return b, &ValueError{Type: "Tuple", Msg: "too many elements"}
	}
	return appendAll(AppendTupleHeader(b, len(t)), t, depth)
}

// appendList appends a list with this tail; nil stands for the empty list.
func appendList(b []byte, elems []Term, tail Term, depth int) (_ []byte, err error) {
	if len(elems) == 0 {
		return AppendNil(b), nil
	}
	if uint64(len(elems)) > math.MaxUint32 {
		return b, &ValueError{Type: "List", Msg: "too many elements"}
	}
	if b, err = appendAll(AppendListHeader(b, len(elems)), elems, depth); err != nil {
		return b, err
	}
	if tail == nil {
		return AppendNil(b), nil
	}
	return appendTerm(b, tail, depth-1)
}

func appendMap(b []byte, m Map, depth int) (_ []byte, err error) {
	if depth <= 0 {
		return b, fmt.Errorf("encode term: %w", ErrTooDeep)
	}
	if uint64(len(m)) > math.MaxUint32 {
		return b, &ValueError{Type: "Map", Msg: "too many pairs"}
	}
	b = AppendMapHeader(b, len(m))
	for i := range m {
		if b, err = appendTerm(b, m[i].Key, depth-1); err != nil {
			return b, err
		}
		if b, err = appendTerm(b, m[i].Value, depth-1); err != nil {
			return b, err
		}
	}
	return b, nil
}

// appendString appends s as STRING_EXT, or as the list that it is where it is
// longer than that tag can say.
func appendString(b []byte, s String) []byte {
	switch {
	case len(s) == 0:
		return AppendNil(b)
	case len(s) <= math.MaxUint16:
		b = append(b, tagString, byte(len(s)>>8), byte(len(s)))
		return append(b, s...)
	}
	b = AppendListHeader(b, len(s))
	for i := range len(s) {
		b = append(b, tagSmallInt, s[i])
	}
	return AppendNil(b)
}

func appendBits(b []byte, t Bitstring) ([]byte, error) {
	n := len(t.Bytes)
	if t.Bits < 1 || t.Bits > 7 || n == 0 || uint64(n) > math.MaxUint32 {
		return b, &ValueError{Type: "Bitstring", Msg: fmt.Sprintf("%d bits in the last of %d bytes", t.Bits, n)}
	}
	b = binary.BigEndian.AppendUint32(append(b, tagBitBinary), uint32(n))
	b = append(append(b, t.Bits), t.Bytes...)
	b[len(b)-1] &= 0xFF << (8 - t.Bits)
	return b, nil
}

func appendBig(b []byte, t BigInt) ([]byte, error) {
	if t.Int == nil {
		return b, &ValueError{Type: "BigInt", Msg: "is nil"}
	}
	if t.IsInt64() {
		return AppendInt(b, t.Int64()), nil
	}
	n := (t.BitLen() + 7) / 8
	switch {
	case n <= math.MaxUint8:
		b = append(b, tagSmallBig, byte(n))
	case uint64(n) <= math.MaxUint32:
		b = binary.BigEndian.AppendUint32(append(b, tagLargeBig), uint32(n))
	default:
		return b, &ValueError{Type: "BigInt", Msg: "is too large"}
	}
	b = append(b, signByte(t.Sign() < 0))
	for _, word := range t.Bits() {
		for i := 0; i < wordBytes && n > 0; i++ {
			b = append(b, byte(word))
			word >>= 8
			n--
		}
	}
	return b, nil
}

func appendExport(b []byte, e Export) ([]byte, error) {
	b, err := appendAtoms(append(b, tagExport), e.Module, e.Function)
	return append(b, tagSmallInt, e.Arity), err
}

func appendAtoms(b []byte, atoms ...Atom) (_ []byte, err error) {
	for _, a := range atoms {
		if b, err = AppendAtom(b, a); err != nil {
			return b, err
		}
	}
	return b, nil
}

func appendFun(b []byte, f *Fun, depth int) (_ []byte, err error) {
	if f == nil {
		return b, &ValueError{Type: "Fun", Msg: "is nil"}
	}
	b = append(b, tagNewFun)
	start := len(b)
	b = append(b, 0, 0, 0, 0, f.Arity)
	b = append(b, f.Uniq[:]...)
	b = binary.BigEndian.AppendUint32(b, f.Index)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.FreeTerms)))
	if b, err = AppendAtom(b, f.Module); err != nil {
		return b, err
	}
	b = AppendInt(b, int64(f.OldIndex))
	b = AppendInt(b, int64(f.OldUniq))
	if b, err = AppendPid(b, f.Pid); err != nil {
		return b, err
	}
	if b, err = appendAll(b, f.FreeTerms, depth); err != nil {
		return b, err
	}
	if uint64(len(b)-start) > math.MaxUint32 {
		return b, &ValueError{Type: "Fun", Msg: "is too large"}
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b, nil
}

func appendRecord(b []byte, r *Record, depth int) (_ []byte, err error) {
	switch {
	case r == nil:
		return b, &ValueError{Type: "Record", Msg: "is nil"}
	case uint64(len(r.Fields)) > math.MaxUint32:
		return b, &ValueError{Type: "Record", Msg: "too many fields"}
	case depth <= 0:
		return b, fmt.Errorf("encode term: %w", ErrTooDeep)
	}
	b = binary.BigEndian.AppendUint32(append(b, tagRecord), uint32(len(r.Fields)))
	b = append(b, signByte(r.Exported))
	if b, err = appendAtoms(b, r.Module, r.Name); err != nil {
		return b, err
	}
	for i := range r.Fields {
		if b, err = AppendAtom(b, r.Fields[i].Name); err != nil {
			return b, err
		}
	}
	for i := range r.Fields {
		if b, err = appendTerm(b, r.Fields[i].Value, depth-1); err != nil {
			return b, err
		}
	}
	return b, nil
}

func signByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
