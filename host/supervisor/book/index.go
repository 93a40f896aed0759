package book

import "iter"

// index is where the last entry of each name is, by Kind and ID.
type index map[string]map[string]place

// place is where an entry is and how long it is there: both in 64 bits, since there
// are many.
type place uint64

const lenBits = 21 // maxEntry and prefixLen are less, and files smaller than 8 TB

func placeOf(at int64, length int) place { return place(at)<<lenBits | place(length) }

func (p place) at() int64  { return int64(p >> lenBits) }
func (p place) len() int64 { return int64(p & (1<<lenBits - 1)) }

func (x index) get(n Name) (place, bool) {
	p, ok := x[n.Kind][n.ID]
	return p, ok
}

func (x index) set(n Name, p place) {
	m := x[n.Kind]
	if m == nil {
		m = map[string]place{}
		x[n.Kind] = m
	}
	m[n.ID] = p
}

func (x index) remove(n Name) { delete(x[n.Kind], n.ID) }

func (x index) all() iter.Seq2[Name, place] {
	return func(yield func(Name, place) bool) {
		for kind, m := range x {
			for id, p := range m {
				if !yield(Name{kind, id}, p) {
					return
				}
			}
		}
	}
}

// names has each text of a name once.
type names map[string]string

func (s names) one(text []byte) string {
	t, ok := s[string(text)]
	if !ok {
		t = string(text)
		s[t] = t
	}
	return t
}
