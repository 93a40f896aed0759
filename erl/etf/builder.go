package etf

import "math/big"

// Terms that are boxed once: no decoded term pays for them.
const (
	minSmallInt = -128
	maxSmallInt = 1023
)

var (
	emptyList   Term = List{}
	emptyTuple  Term = Tuple{}
	emptyMap    Term = Map{}
	emptyBinary Term = Binary{}

	smallInts = func() (t [maxSmallInt - minSmallInt + 1]Term) {
		for i := range t {
			t[i] = Int(i + minSmallInt)
		}
		return t
	}()
)

// builder makes the Go values of terms with as few allocations as it can. The
// parameter left is about how many bytes of input the term still has: it
// bounds how much is allocated ahead.
type builder struct {
	atoms internTable
	ints  [256]boxedInt
	keys  internTable // binaries that were keys of maps
	slab  []Term      // cut into the elements of small containers
	assoc []Pair      // cut into small maps
	small []byte      // cut into small binaries
}

type boxedInt struct {
	v Int
	t Term
}

// finish ends a term. The rests of the slabs go with it: two terms never share
// one, so that one that is kept does not keep the other in memory.
func (b *builder) finish() { b.slab, b.assoc, b.small = nil, nil, nil }

// terms returns n empty terms.
func (b *builder) terms(n, left int) []Term {
	const shared, chunk = 64, 255 // with its header 4 KiB
	if n > shared {
		return make([]Term, n)
	}
	if n > len(b.slab) {
		b.slab = make([]Term, max(n, min(chunk, n+left/4)))
	}
	t := b.slab[:n:n]
	b.slab = b.slab[n:]
	return t
}

// pairs returns n empty pairs.
func (b *builder) pairs(n, left int) Map {
	const shared, chunk = 32, 127 // with its header 4 KiB
	if n > shared {
		return make(Map, n)
	}
	if n > len(b.assoc) {
		b.assoc = make([]Pair, max(n, min(chunk, n+left/16)))
	}
	m := Map(b.assoc[:n:n])
	b.assoc = b.assoc[n:]
	return m
}

// maxKeyBytes is the longest binary that is remembered as a key of maps.
const maxKeyBytes = 64

// binaryKey makes a binary that is a key of a map. The maps of one answer
// mostly have the same keys.
func (b *builder) binaryKey(data []byte) Term {
	if e := b.keys.find(data); e != nil {
		return e.term
	}
	return b.keys.add(interned{atom: Atom(data), term: Binary(append([]byte(nil), data...))}).term
}

// copy copies data.
func (b *builder) copy(data []byte, left int) []byte {
	const shared, chunk = 256, 2048
	n := len(data)
	if n > shared {
		return append([]byte(nil), data...)
	}
	if n > len(b.small) {
		b.small = make([]byte, max(n, min(chunk, n+left)))
	}
	c := b.small[:n:n]
	b.small = b.small[n:]
	copy(c, data)
	return c
}

// int boxes v. Process tables repeat the same numbers, so a small cache of the
// last ones saves many allocations.
func (b *builder) int(v Int) Term {
	if v >= minSmallInt && v <= maxSmallInt {
		return smallInts[v-minSmallInt]
	}
	e := &b.ints[(uint64(v)*0x9E3779B97F4A7C15)>>56]
	if e.v != v {
		e.v, e.t = v, v
	}
	return e.t
}

// number makes an integer of little-endian digits without high zeros.
func (b *builder) number(digits []byte, negative bool) Term {
	if v, ok := smallBig(digits, negative); ok {
		return b.int(Int(v))
	}
	words := make([]big.Word, (len(digits)+wordBytes-1)/wordBytes)
	for i, c := range digits {
		words[i/wordBytes] |= big.Word(c) << (8 * (i % wordBytes))
	}
	v := new(big.Int).SetBits(words)
	if negative {
		v.Neg(v)
	}
	return BigInt{v}
}

func (b *builder) binary(data []byte, left int) Term {
	if len(data) == 0 {
		return emptyBinary
	}
	return Binary(b.copy(data, left))
}

// bitstring makes a bitstring, or a binary where bits is 0.
func (b *builder) bitstring(data []byte, bits uint8, left int) Term {
	if bits == 0 {
		return b.binary(data, left)
	}
	c := b.copy(data, left)
	c[len(c)-1] &= 0xFF << (8 - bits)
	return Bitstring{Bytes: c, Bits: bits}
}

func makeString(b []byte) Term {
	if len(b) == 0 {
		return emptyList
	}
	return String(b)
}
