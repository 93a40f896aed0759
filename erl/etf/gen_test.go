package etf

import (
	"math"
	"math/big"

	"pgregory.net/rapid"
)

// genTerm draws any term that Append accepts, in the form in which a Decoder
// returns it.
func genTerm() *rapid.Generator[Term] { return genDepth(4) }

func genDepth(depth int) *rapid.Generator[Term] {
	leaves := []*rapid.Generator[Term]{
		rapid.Map(genAtom(), func(a Atom) Term { return a }),
		genInteger(),
		rapid.Map(genFloat(), func(f Float) Term { return f }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 300), func(b []byte) Term { return Binary(b) }),
		genBitstring(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 300), func(b []byte) Term { return String(b) }),
		rapid.Map(genPid(), func(p Pid) Term { return p }),
		rapid.Custom(func(t *rapid.T) Term {
			return Port{Node: genAtom().Draw(t, "node"), ID: genUint64().Draw(t, "id"), Creation: rapid.Uint32().Draw(t, "creation")}
		}),
		genRef(),
		rapid.Custom(func(t *rapid.T) Term {
			return Export{Module: genAtom().Draw(t, "m"), Function: genAtom().Draw(t, "f"), Arity: rapid.Uint8().Draw(t, "a")}
		}),
		rapid.SampledFrom([]Term{List{}, Tuple{}, Map{}, Binary{}}),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	inner := genDepth(depth - 1)
	some := rapid.SliceOfN(inner, 1, 5)
	return rapid.OneOf(append(leaves,
		rapid.Map(some, func(e []Term) Term { return Tuple(e) }),
		rapid.Map(some, func(e []Term) Term { return List(e) }),
		rapid.Custom(func(t *rapid.T) Term {
			return ImproperList{Elems: some.Draw(t, "elems"), Tail: inner.Filter(isNoList).Draw(t, "tail")}
		}),
		genMap(inner),
		genFun(inner),
		genRecord(inner),
	)...)
}

// isNoList tells the terms that can be the tail of an improper list: with the
// tail a list, improper or not, it would be one longer list.
func isNoList(t Term) bool {
	switch t.(type) {
	case List, String, ImproperList:
		return false
	}
	return true
}

func genAtom() *rapid.Generator[Atom] {
	return rapid.OneOf(
		rapid.SampledFrom([]Atom{"", "ok", "error", "Elixir.Shop", "shop@127.0.0.1", "åäö", "hello world"}),
		rapid.Map(rapid.StringN(0, maxAtomChars, -1), func(s string) Atom { return Atom([]rune(s)) }),
	)
}

func genUint64() *rapid.Generator[uint64] {
	return rapid.OneOf(rapid.Uint64(), rapid.Uint64Max(math.MaxUint32))
}

// genInteger draws integers of all sizes and around the limits of the tags.
func genInteger() *rapid.Generator[Term] {
	return rapid.OneOf(
		rapid.Map(rapid.Int64(), func(v int64) Term { return Int(v) }),
		rapid.Map(rapid.Int64Range(-300, 300), func(v int64) Term { return Int(v) }),
		rapid.SampledFrom([]Term{
			Int(0), Int(255), Int(256), Int(-1), Int(math.MaxInt32), Int(math.MinInt32), Int(math.MaxInt32 + 1),
			Int(math.MinInt32 - 1), Int(math.MaxInt64), Int(math.MinInt64), Int(1 << 55), Int(1<<55 - 1), Int(-1 << 55), Int(-1<<55 - 1),
		}),
		rapid.Custom(func(t *rapid.T) Term {
			n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 9, 300).Draw(t, "digits"))
			if rapid.Bool().Draw(t, "negative") {
				n.Neg(n)
			}
			if n.IsInt64() {
				return Int(n.Int64())
			}
			return BigInt{n}
		}),
	)
}

func genFloat() *rapid.Generator[Float] {
	return rapid.Map(rapid.Float64(), func(f float64) Float {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return 0.1
		}
		return Float(f)
	})
}

func genBitstring() *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		b := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "bytes")
		bits := rapid.Uint8Range(1, 7).Draw(t, "bits")
		b[len(b)-1] &= 0xFF << (8 - bits)
		return Bitstring{Bytes: b, Bits: bits}
	})
}

func genPid() *rapid.Generator[Pid] {
	return rapid.Custom(func(t *rapid.T) Pid {
		return Pid{
			Node: genAtom().Draw(t, "node"), ID: rapid.Uint32().Draw(t, "id"),
			Serial: rapid.Uint32().Draw(t, "serial"), Creation: rapid.Uint32().Draw(t, "creation"),
		}
	})
}

func genRef() *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		r := Ref{Node: genAtom().Draw(t, "node"), Creation: rapid.Uint32().Draw(t, "creation"), Len: rapid.Uint8Range(1, maxRefWords).Draw(t, "len")}
		for i := range r.Words[:r.Len] {
			r.Words[i] = rapid.Uint32().Draw(t, "word")
		}
		return r
	})
}

func genMap(inner *rapid.Generator[Term]) *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		var m Map
		for range rapid.IntRange(1, 6).Draw(t, "pairs") {
			p := Pair{Key: inner.Draw(t, "key"), Value: inner.Draw(t, "value")}
			if !hasKey(m, p.Key) {
				m = append(m, p)
			}
		}
		return m
	})
}

func hasKey(m Map, key Term) bool {
	for _, p := range m {
		if Equal(p.Key, key) {
			return true
		}
	}
	return false
}

func genFun(inner *rapid.Generator[Term]) *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		f := &Fun{
			Module: genAtom().Draw(t, "module"), Arity: rapid.Uint8().Draw(t, "arity"), Index: rapid.Uint32().Draw(t, "index"),
			OldIndex: rapid.Uint32().Draw(t, "old index"), OldUniq: rapid.Uint32().Draw(t, "old uniq"), Pid: genPid().Draw(t, "pid"),
		}
		copy(f.Uniq[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uniq"))
		if free := rapid.SliceOfN(inner, 0, 3).Draw(t, "free"); len(free) > 0 {
			f.FreeTerms = free
		}
		return f
	})
}

func genRecord(inner *rapid.Generator[Term]) *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		r := &Record{
			Module: genAtom().Draw(t, "module"), Name: genAtom().Draw(t, "name"),
			Exported: rapid.Bool().Draw(t, "exported"), Fields: []Field{},
		}
		for _, name := range rapid.SliceOfNDistinct(genAtom(), 0, 4, rapid.ID).Draw(t, "names") {
			r.Fields = append(r.Fields, Field{Name: name, Value: inner.Draw(t, "value")})
		}
		return r
	})
}
