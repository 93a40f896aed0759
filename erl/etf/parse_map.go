package etf

import "hash/maphash"

// mapBuilder collects the pairs of a map; of equal keys the last one counts,
// as in both languages. No node accepts a map with a key twice.
type mapBuilder struct {
	m     Map
	seed  maphash.Seed
	index map[uint64][]int // hash of a key → where in m
}

func (b *mapBuilder) put(k, v Term) {
	if b.index == nil {
		b.seed = maphash.MakeSeed()
		b.index = map[uint64][]int{}
	}
	h := termHash{seed: b.seed}
	h.term(k)
	for _, i := range b.index[h.sum] {
		if Equal(b.m[i].Key, k) {
			b.m[i] = Pair{k, v}
			return
		}
	}
	b.index[h.sum] = append(b.index[h.sum], len(b.m))
	b.m = append(b.m, Pair{k, v})
}

func (b *mapBuilder) term() Map {
	if b.m == nil {
		return Map{}
	}
	return b.m
}
