package etf

import (
	"bytes"
	"hash/maphash"
	"math"
)

// Elements returns the elements of a proper list, of whichever type.
func Elements(t Term) ([]Term, bool) {
	switch t := t.(type) {
	case List:
		return t, true
	case String:
		elems := make([]Term, len(t))
		for i := range elems {
			elems[i] = smallInts[int(t[i])-minSmallInt]
		}
		return elems, true
	}
	return nil, false
}

// Equal reports whether a and b are the same Erlang term, as =:= does: a
// String equals the List of its bytes, the order of a map means nothing, and 1
// is not 1.0. As in OTP 27 and later, 0.0 is not -0.0.
func Equal(a, b Term) bool {
	switch a := a.(type) {
	case Atom:
		b, ok := b.(Atom)
		return ok && a == b
	case Int, BigInt:
		return equalInts(a, b)
	case Float:
		b, ok := b.(Float)
		return ok && math.Float64bits(float64(a)) == math.Float64bits(float64(b))
	case Binary:
		b, ok := b.(Binary)
		return ok && bytes.Equal(a, b)
	case Bitstring:
		b, ok := b.(Bitstring)
		return ok && equalBits(a, b)
	case List, String:
		return equalLists(a, b)
	case ImproperList:
		b, ok := b.(ImproperList)
		return ok && equalAll(a.Elems, b.Elems) && Equal(a.Tail, b.Tail)
	case Tuple:
		b, ok := b.(Tuple)
		return ok && equalAll(a, b)
	case Map:
		b, ok := b.(Map)
		return ok && equalMaps(a, b)
	case Pid:
		b, ok := b.(Pid)
		return ok && a == b
	case Port:
		b, ok := b.(Port)
		return ok && a == b
	case Ref:
		b, ok := b.(Ref)
		return ok && a == b
	case Export:
		b, ok := b.(Export)
		return ok && a == b
	case *Fun:
		b, ok := b.(*Fun)
		return ok && equalFuns(a, b)
	case *Record:
		b, ok := b.(*Record)
		return ok && equalRecords(a, b)
	}
	return a == nil && b == nil
}

func equalInts(a, b Term) bool {
	x, xBig := asInt(a)
	y, yBig := asInt(b)
	switch {
	case xBig != nil && yBig != nil:
		return xBig.Cmp(yBig.Int) == 0
	case xBig != nil || yBig != nil:
		return false
	}
	_, isInt := b.(Int)
	_, isBig := b.(BigInt)
	return (isInt || isBig) && x == y
}

// asInt returns an integer as int64, or as the BigInt that it needs.
func asInt(t Term) (int64, *BigInt) {
	switch t := t.(type) {
	case Int:
		return int64(t), nil
	case BigInt:
		if t.Int != nil && !t.IsInt64() {
			return 0, &t
		}
		if t.Int != nil {
			return t.Int64(), nil
		}
	}
	return 0, nil
}

func equalBits(a, b Bitstring) bool {
	n := len(a.Bytes)
	if a.Bits != b.Bits || n != len(b.Bytes) {
		return false
	}
	if n == 0 {
		return true
	}
	mask := byte(0xFF) << ((8 - a.Bits) & 7)
	return bytes.Equal(a.Bytes[:n-1], b.Bytes[:n-1]) && a.Bytes[n-1]&mask == b.Bytes[n-1]&mask
}

func equalLists(a, b Term) bool {
	x, ok := a.(String)
	if !ok {
		a, b = b, a
		x, ok = a.(String)
	}
	if !ok { // neither is a String
		x, ok1 := a.(List)
		y, ok2 := b.(List)
		return ok1 && ok2 && equalAll(x, y)
	}
	switch y := b.(type) {
	case String:
		return x == y
	case List:
		if len(x) != len(y) {
			return false
		}
		for i := range y {
			if v, ok := y[i].(Int); !ok || v != Int(x[i]) {
				return false
			}
		}
		return true
	}
	return false
}

func equalAll(a, b []Term) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func equalFuns(a, b *Fun) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Module == b.Module && a.Arity == b.Arity && a.Uniq == b.Uniq && a.Index == b.Index &&
		a.OldIndex == b.OldIndex && a.OldUniq == b.OldUniq && equalAll(a.FreeTerms, b.FreeTerms)
}

func equalRecords(a, b *Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Module != b.Module || a.Name != b.Name || a.Exported != b.Exported || len(a.Fields) != len(b.Fields) {
		return false
	}
	for i := range a.Fields {
		if a.Fields[i].Name != b.Fields[i].Name || !Equal(a.Fields[i].Value, b.Fields[i].Value) {
			return false
		}
	}
	return true
}

// equalMaps compares pair by pair as long as both have the same order, which
// two maps of one node mostly have, and the rest as sets.
func equalMaps(a, b Map) bool {
	if len(a) != len(b) {
		return false
	}
	i := 0
	for i < len(a) && equalPairs(&a[i], &b[i]) {
		i++
	}
	return i == len(a) || equalSets(a[i:], b[i:])
}

func equalPairs(a, b *Pair) bool {
	return Equal(a.Key, b.Key) && Equal(a.Value, b.Value)
}

// equalSets finds for each pair of a its like in b by hash, so that large maps
// in different orders take linear time.
func equalSets(a, b Map) bool {
	seed := maphash.MakeSeed()
	byHash := make(map[uint64][]*Pair, len(b))
	for i := range b {
		h := hashPair(seed, &b[i])
		byHash[h] = append(byHash[h], &b[i])
	}
	for i := range a {
		h := hashPair(seed, &a[i])
		if !removePair(byHash, h, &a[i]) {
			return false
		}
	}
	return true
}

func removePair(byHash map[uint64][]*Pair, h uint64, p *Pair) bool {
	same := byHash[h]
	for j := len(same) - 1; j >= 0; j-- {
		if equalPairs(same[j], p) {
			same[j] = same[len(same)-1]
			byHash[h] = same[:len(same)-1]
			return true
		}
	}
	return false
}
