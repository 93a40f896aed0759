package etf

import (
	"encoding/binary"
	"hash/maphash"
	"math"
)

// hashPair hashes a pair so that equal pairs have equal hashes.
func hashPair(seed maphash.Seed, p *Pair) uint64 {
	h := termHash{seed: seed}
	h.term(p.Key)
	h.term(p.Value)
	return h.sum
}

// termHash hashes terms consistently with Equal. It is seeded, since whoever
// sent the terms must not be able to choose collisions.
type termHash struct {
	seed maphash.Seed
	sum  uint64
}

func (h *termHash) uint64(v uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], h.sum)
	binary.LittleEndian.PutUint64(b[8:], v)
	h.sum = maphash.Bytes(h.seed, b[:])
}

func (h *termHash) kind(tag byte, n int) { h.uint64(uint64(tag)<<56 ^ uint64(n)) }

func (h *termHash) bytes(b []byte) { h.uint64(maphash.Bytes(h.seed, b)) }

func (h *termHash) string(s string) { h.uint64(maphash.String(h.seed, s)) }

func (h *termHash) all(elems []Term) {
	for _, e := range elems {
		h.term(e)
	}
}

func (h *termHash) term(t Term) {
	switch t := t.(type) {
	case Atom:
		h.kind(tagAtomUTF8, 0)
		h.string(string(t))
	case Int, BigInt:
		h.integer(t)
	case Float:
		h.kind(tagNewFloat, 0)
		h.uint64(math.Float64bits(float64(t)))
	case Binary:
		h.kind(tagBinary, len(t))
		h.bytes(t)
	case Bitstring: // without the last byte, whose unused bits do not count
		h.kind(tagBitBinary, len(t.Bytes))
		h.bytes(t.Bytes[:max(0, len(t.Bytes)-1)])
	case String:
		h.kind(tagList, len(t))
		for i := range len(t) {
			h.integer(Int(t[i]))
		}
	case List:
		h.kind(tagList, len(t))
		h.all(t)
	case ImproperList:
		h.kind(tagList, -len(t.Elems))
		h.all(t.Elems)
		h.term(t.Tail)
	case Tuple:
		h.kind(tagLargeTuple, len(t))
		h.all(t)
	case Map:
		h.pairs(t)
	case Pid:
		h.kind(tagNewPid, 0)
		h.uint64(maphash.Comparable(h.seed, t))
	case Port:
		h.kind(tagNewPort, 0)
		h.uint64(maphash.Comparable(h.seed, t))
	case Ref:
		h.kind(tagNewRef, 0)
		h.uint64(maphash.Comparable(h.seed, t))
	case Export:
		h.kind(tagExport, 0)
		h.uint64(maphash.Comparable(h.seed, t))
	case *Fun:
		h.fun(t)
	case *Record:
		h.record(t)
	}
}

func (h *termHash) integer(t Term) {
	v, big := asInt(t)
	if big == nil {
		h.kind(tagInt, 0)
		h.uint64(uint64(v))
		return
	}
	h.kind(tagLargeBig, big.Sign())
	for _, w := range big.Bits() {
		h.uint64(uint64(w))
	}
}

// pairs adds the pairs up, for a sum does not depend on the order.
func (h *termHash) pairs(m Map) {
	h.kind(tagMap, len(m))
	var sum uint64
	for i := range m {
		sum += hashPair(h.seed, &m[i])
	}
	h.uint64(sum)
}

func (h *termHash) fun(f *Fun) {
	h.kind(tagNewFun, 0)
	if f != nil {
		h.string(string(f.Module))
		h.bytes(f.Uniq[:])
		h.uint64(uint64(f.Index))
		h.all(f.FreeTerms)
	}
}

func (h *termHash) record(r *Record) {
	h.kind(tagRecord, 0)
	if r != nil {
		h.string(string(r.Module))
		h.string(string(r.Name))
		for i := range r.Fields {
			h.string(string(r.Fields[i].Name))
			h.term(r.Fields[i].Value)
		}
	}
}
