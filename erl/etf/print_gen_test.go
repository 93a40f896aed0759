package etf

import (
	"math"
	"math/big"
	"strings"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// termGen says which terms to generate.
type termGen struct {
	// live leaves out what releases print differently from each other or from
	// us on purpose.
	live bool
	// old leaves out what OTP 25 and Elixir 1.14 print differently from later
	// ones: charlists, maybe and else.
	old bool
	// plainFuns leaves out exports that Erlang prints by a rule of its own.
	plainFuns bool
	// noIDs leaves out what no expression can make: pids, ports, references,
	// native records.
	noIDs bool
}

var genASCIIAtom = rapid.StringMatching(`[a-z_A-Z@!?.:+<>=~&|^*/\\ 0-9-]{0,6}|[a-z][a-zA-Z0-9_@]{0,8}[?!]?|(Elixir)(\.[A-Z][a-z0-9]{0,3}){0,3}[?.a]?`)

var genKnownAtom = rapid.SampledFrom(strings.Fields(`nil true false ok error maybe else and not if fun end do fn when in
	__struct__ __exception__ + - * / == => -> .. ... // ..// :: ^^^ ~~~ <|> %{} {} <<>> % . & ! @ | || ||| \\ <- =~ !== foo@bar
	Foo foo? Foo? Elixir Elixir.Elixir Elixir.Foo.Bar elixir.foo é É éa мама Жук ά Ωa aж 日本 ÿ ß ÷ ſ`))

// rune returns a character.
func (g termGen) rune() *rapid.Generator[rune] {
	r := rapid.OneOf(rapid.RuneFrom(nil, unicode.Latin, unicode.Cyrillic, unicode.So, unicode.Han),
		rapid.RuneFrom([]rune("#{}\"'\\\a\b\t\n\v\f\r\x1b\x7f\x00\x01\u0080é~/|")), rapid.RuneFrom([]rune("abcXYZ 019_")))
	if g.live {
		return r.Filter(func(r rune) bool { return r < 0x80 || !confusing(r) })
	}
	return rapid.OneOf(r, rapid.Rune())
}

func (g termGen) text() *rapid.Generator[string] { return rapid.StringOfN(g.rune(), 0, 12, -1) }

func (g termGen) atom() *rapid.Generator[Atom] {
	return rapid.Map(g.name(), func(s string) Atom { return Atom(s) })
}

func (g termGen) name() *rapid.Generator[string] {
	return rapid.OneOf(genKnownAtom, genASCIIAtom, g.text()).Filter(func(s string) bool {
		if g.live && !g.plainFuns && !sameQuotes(s) {
			return false
		}
		return !g.old || s != "maybe" && s != "else"
	})
}

// sameQuotes says whether all versions of Elixir agree with us on whether to
// quote the atom s: it is ASCII, or has letters of one script that we know.
func sameQuotes(s string) bool {
	scripts := script(0)
	for _, r := range s {
		switch {
		case r >= 0x80 && letterScript(r) == 0:
			return false
		case r >= 0x80:
			scripts |= letterScript(r)
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			scripts |= latin
		}
	}
	return scripts&(scripts-1) == 0
}

func (g termGen) integer() *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		if rapid.IntRange(0, 3).Draw(t, "big") > 0 {
			return Int(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-2, 260)).Draw(t, "int"))
		}
		i := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 8, 40).Draw(t, "magnitude"))
		if rapid.Bool().Draw(t, "negative") {
			i.Neg(i)
		}
		if i.IsInt64() {
			return Int(i.Int64())
		}
		return BigInt{i}
	})
}

func (g termGen) float() *rapid.Generator[Term] {
	f := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-1e6, 1e6),
		rapid.Map(rapid.Int64(), func(i int64) float64 { return float64(i) / 1000 }),
		rapid.Map(rapid.IntRange(-20, 20), func(e int) float64 { return math.Pow10(e) }))
	return rapid.Map(f.Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }),
		func(f float64) Term { return Float(f) })
}

func (g termGen) binary() *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			b := rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "bytes")
			if g.live && (utf8.Valid(b) || strings.ContainsAny(string([]rune{0xa0, 0xad}), latin1String(b))) {
				b = append(b, 0)
			}
			return Binary(b)
		case 1:
			b := rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(t, "bytes")
			bits := rapid.IntRange(1, 7).Draw(t, "bits")
			b[len(b)-1] &= 0xff << (8 - bits)
			return Bitstring{Bytes: b, Bits: uint8(bits)}
		}
		return Binary(g.text().Draw(t, "text"))
	})
}

// latin1String returns the text that b is in Latin-1.
func latin1String(b []byte) string {
	var s []rune
	for _, c := range b {
		s = append(s, rune(c))
	}
	return string(s)
}

func (g termGen) string() *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		text := []rune(g.text().Draw(t, "text"))
		if g.old && len(text) > 0 {
			text = append(text, 0)
		}
		if rapid.Bool().Draw(t, "string") {
			return charlistTerm(text)
		}
		l := List{}
		for _, r := range text {
			l = append(l, Int(r))
		}
		return l
	})
}

func (g termGen) id() *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		node := Atom("")
		if rapid.Bool().Draw(t, "foreign") {
			node = rapid.SampledFrom([]Atom{"shop@db1", "a-b@c.d", "we ird@x", "'@\\", "0.1@x", "1", "x:y@z", "é@h"}).Draw(t, "node")
		}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			return Pid{Node: node, ID: rapid.Uint32().Draw(t, "id"), Serial: rapid.Uint32().Draw(t, "serial")}
		case 1:
			return Port{Node: node, ID: rapid.Uint64().Draw(t, "id")}
		}
		r := Ref{Node: node, Len: uint8(rapid.IntRange(1, 5).Draw(t, "len"))}
		for i := range r.Len {
			r.Words[i] = rapid.Uint32().Draw(t, "word")
		}
		return r
	})
}

func (g termGen) export() *rapid.Generator[Term] {
	return rapid.Custom(func(t *rapid.T) Term {
		name := g.atom()
		if g.plainFuns {
			name = rapid.SampledFrom([]Atom{"lists", "my_fun2", "Elixir.Foo", "a b", "+"})
		}
		return Export{Module: name.Draw(t, "m"), Function: name.Draw(t, "f"), Arity: rapid.Byte().Draw(t, "a")}
	})
}

// sugar returns well-formed and other structs that inspect/2 prints in a
// form of their own.
func (g termGen) sugar() *rapid.Generator[Term] {
	year, month, day := rapid.IntRange(-9999, 9999), rapid.IntRange(1, 12), rapid.IntRange(1, 28)
	return rapid.Custom(func(t *rapid.T) Term {
		step := rapid.IntRange(-3, 3).Filter(func(i int) bool { return i != 0 && (!g.live || i != 1) }).Draw(t, "step")
		date := func() Map {
			return Map{{Atom("__struct__"), Atom("Elixir.Date")}, {Atom("calendar"), calendarISO}, {Atom("year"), Int(year.Draw(t, "y"))},
				{Atom("month"), Int(month.Draw(t, "m"))}, {Atom("day"), Int(day.Draw(t, "d"))}}
		}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return rangeTerm(g.integer().Draw(t, "first"), g.integer().Draw(t, "last"), Int(step))
		case 1:
			return date()
		case 2:
			r, _ := dateRangeTerm([]Term{date(), date(), Int(step)})
			return r
		case 3:
			var b mapBuilder
			for _, e := range rapid.SliceOfN(g.leaf(), 0, 4).Draw(t, "set") {
				b.put(e, List{})
			}
			return Map{{Atom("__struct__"), Atom("Elixir.MapSet")}, {Atom("map"), b.term()}}
		}
		m := date()
		m[0].Value = Atom("Elixir.NaiveDateTime")
		precision := rapid.IntRange(0, 6).Draw(t, "precision")
		unit := int(math.Pow10(6 - precision))
		us := rapid.IntRange(0, 999999).Draw(t, "us") / unit * unit
		return append(m, Pair{Atom("hour"), Int(rapid.IntRange(0, 23).Draw(t, "h"))}, Pair{Atom("minute"), Int(rapid.IntRange(0, 59).Draw(t, "min"))},
			Pair{Atom("second"), Int(rapid.IntRange(0, 59).Draw(t, "s"))}, Pair{Atom("microsecond"), Tuple{Int(us), Int(precision)}})
	})
}

func (g termGen) leaf() *rapid.Generator[Term] {
	atom := rapid.Map(g.atom(), func(a Atom) Term { return a })
	kinds := []*rapid.Generator[Term]{atom, atom, g.integer(), g.float(), g.binary(), g.string(), g.export()}
	if !g.noIDs {
		kinds = append(kinds, g.id())
	}
	return rapid.OneOf(kinds...)
}

// term returns any term with up to depth nested containers.
func (g termGen) term(depth int) *rapid.Generator[Term] {
	if depth == 0 {
		return g.leaf()
	}
	return rapid.Custom(func(t *rapid.T) Term {
		inner := g.term(depth - 1)
		elems := func(min int) []Term { return rapid.SliceOfN(inner, min, 5).Draw(t, "elems") }
		switch rapid.IntRange(0, 8).Draw(t, "kind") {
		case 0:
			l := List(elems(0))
			if g.old && len(l) > 0 {
				l = append(l, Atom("end"))
			}
			return l
		case 1:
			return Tuple(elems(0))
		case 2:
			tail := inner.Filter(func(t Term) bool {
				switch t.(type) {
				case List, String, ImproperList:
					return false
				}
				return true
			}).Draw(t, "tail")
			return ImproperList{Elems: elems(1), Tail: tail}
		case 3:
			var b mapBuilder
			for _, e := range elems(0) {
				b.put(e, inner.Draw(t, "value"))
			}
			return b.term()
		case 4: // keywords
			l := List{}
			for _, e := range elems(1) {
				l = append(l, Tuple{g.atom().Draw(t, "key"), e})
			}
			return l
		case 5: // a struct, or nearly one
			var b mapBuilder
			for _, e := range elems(0) {
				b.put(g.atom().Filter(func(a Atom) bool { return a != "__exception__" && a != "__struct__" }).Draw(t, "key"), e)
			}
			if !g.live {
				b.put(Atom("__struct__"), rapid.OneOf(inner, rapid.Map(g.atom(), func(a Atom) Term { return a })).Draw(t, "name"))
			}
			return b.term()
		case 6:
			return g.sugar().Draw(t, "sugar")
		case 7:
			if g.noIDs {
				return Tuple{}
			}
			r := &Record{Module: g.atom().Draw(t, "m"), Name: g.atom().Draw(t, "n"), Exported: true}
			for _, e := range elems(0) {
				r.Fields = append(r.Fields, Field{g.atom().Draw(t, "field"), e})
			}
			return r
		}
		return inner.Draw(t, "leaf")
	})
}
