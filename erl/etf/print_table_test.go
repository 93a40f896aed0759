package etf

import (
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// What prints otherwise than on a node, on purpose, and what no node can show.
func TestFormat(t *testing.T) {
	fun := &Fun{Module: "Elixir.Foo", Arity: 2, Index: 7, OldIndex: 5, OldUniq: 99}
	for _, tt := range []struct {
		term           Term
		erlang, elixir string
	}{
		{Pid{ID: 1, Serial: 2}, `<0.1.2>`, `#PID<0.1.2>`},
		{Pid{Node: "me@h", ID: 1, Serial: 2}, `<0.1.2>`, `#PID<0.1.2>`},
		{Pid{Node: "shop@db1", ID: 1, Serial: 2}, `<shop@db1:1.2>`, `#PID<shop@db1:1.2>`},
		{Pid{Node: "we'\x1b[31m@x", ID: 1}, `<'we\'\e[31m@x':1.0>`, `#PID<'we\'\e[31m@x':1.0>`},
		{Port{Node: "shop@db1", ID: 1 << 40}, `#Port<shop@db1:1099511627776>`, `#Port<shop@db1:1099511627776>`},
		{Ref{Node: "shop@db1", Len: 3, Words: [5]uint32{1, 2, 3}}, `#Ref<shop@db1:3.2.1>`, `#Reference<shop@db1:3.2.1>`},
		{Ref{Len: 1, Words: [5]uint32{1}}, `#Ref<0.1>`, `#Reference<0.1>`},
		{Ref{Len: 9, Words: [5]uint32{1, 2, 3, 4, 5}}, `#Ref<0.5.4.3.2.1>`, `#Reference<0.5.4.3.2.1>`},
		{fun, `#Fun<Elixir.Foo.5.99>`, `#Function<7.99/2 in Foo>`},
		{&Fun{Module: "a\x1b"}, `#Fun<'a\e'.0.0>`, `#Function<0.0/0 in :"a\e">`},
		{Export{"Elixir.Foo", "a b", 1}, `fun 'Elixir.Foo':'a b'/1`, `&Foo."a b"/1`},
		{&Record{Module: "m", Name: "N", Fields: []Field{{"a", Binary("x")}}}, `#m:'N'{a = <<"x">>}`, `#m:'N'{a = <<"x">>}`},

		// hostile texts
		{Atom("a\u202eb"), `'a\x{202E}b'`, `:"a\u202Eb"`},
		{Atom("a\x80\u0085"), `'a\x{80}\205'`, `:"a\x80\u0085"`},
		{Binary("\x1b]0;x\a"), `<<27,93,48,59,120,7>>`, `"\e]0;x\a"`},
		{Binary("\x1b[2J"), `<<"\e[2J">>`, `"\e[2J"`},
		{Binary("a\u202eb\u2028"), `<<"a\x{202E}b\x{2028}"/utf8>>`, `"a\u202Eb\u2028"`},
		{Binary("\U000e0041"), `<<"\x{E0041}"/utf8>>`, `"\u{E0041}"`},
		{Binary("\ufdd0\U0001ffff"), `<<"\x{FDD0}\x{1FFFF}"/utf8>>`, `"\uFDD0\u{1FFFF}"`},
		{Binary("a\u00a0\u00ad"), `<<"a\x{A0}\x{AD}"/utf8>>`, `"a\u00A0\u00AD"`},
		{Binary("\xad\xa0"), `<<"\x{AD}\x{A0}">>`, `<<173, 160>>`},
		{String("a\xad"), `"a\x{AD}"`, `[97, 173]`},
		{List{Int('a'), Int(0x202e)}, `"a\x{202E}"`, `[97, 8238]`},

		// what inspect/2 shows in a form of its own only if it is well-formed
		{structTerm("Elixir.Foo"), `#{'__struct__' => 'Elixir.Foo'}`, `%Foo{}`},
		{structTerm("Elixir.Foo", Atom("__exception__"), Atom("true"), Atom("m"), Int(1)), `#{'__struct__' => 'Elixir.Foo','__exception__' => true,m => 1}`, `%Foo{m: 1}`},
		{structTerm("foo", Atom("a"), Int(1)), `#{'__struct__' => foo,a => 1}`, `%{__struct__: :foo, a: 1}`},
		{structTerm("Elixir.Foo", Int(1), Int(1)), `#{'__struct__' => 'Elixir.Foo',1 => 1}`, `%{:__struct__ => Foo, 1 => 1}`},
		{Map{{Atom("__struct__"), Int(1)}}, `#{'__struct__' => 1}`, `%{__struct__: 1}`},
		{date(2023, 2, 29), `#{'__struct__' => 'Elixir.Date',calendar => 'Elixir.Calendar.ISO',year => 2023,month => 2,day => 29}`,
			`%Date{calendar: Calendar.ISO, year: 2023, month: 2, day: 29}`},
		{structTerm("Elixir.Range", Atom("first"), Int(1), Atom("last"), Atom("x"), Atom("step"), Int(1)),
			`#{'__struct__' => 'Elixir.Range',first => 1,last => x,step => 1}`, `%Range{first: 1, last: :x, step: 1}`},
		{structTerm("Elixir.MapSet", Atom("map"), Map{{Int(1), Int(2)}}), `#{'__struct__' => 'Elixir.MapSet',map => #{1 => 2}}`, `%MapSet{map: %{1 => 2}}`},
		{structTerm("Elixir.MapSet", Atom("map"), Int(1)), `#{'__struct__' => 'Elixir.MapSet',map => 1}`, `%MapSet{map: 1}`},
		{structTerm("Elixir.MapSet", Atom("map"), Map{}, Atom("version"), Int(2)), `#{'__struct__' => 'Elixir.MapSet',map => #{},version => 2}`, `MapSet.new([])`},
		{structTerm("Elixir.MapSet", Atom("x"), Int(1)), `#{'__struct__' => 'Elixir.MapSet',x => 1}`, `%MapSet{x: 1}`},
		{structTerm("Elixir.Regex", Atom("x"), Int(1)), `#{'__struct__' => 'Elixir.Regex',x => 1}`, `%Regex{x: 1}`},
		{structTerm("Elixir.Date.Range", Atom("x"), Int(1)), `#{'__struct__' => 'Elixir.Date.Range',x => 1}`, `%Date.Range{x: 1}`},
		{structTerm("Elixir.Time", Atom("x"), Int(1)), `#{'__struct__' => 'Elixir.Time',x => 1}`, `%Time{x: 1}`},

		{structTerm("Elixir.Date.Range", Atom("first"), date(2024, 1, 1), Atom("last"), Int(1), Atom("step"), Int(1), Atom("first_in_iso_days"), Int(1), Atom("last_in_iso_days"), Int(1)),
			`#{'__struct__' => 'Elixir.Date.Range',first => #{'__struct__' => 'Elixir.Date',calendar => 'Elixir.Calendar.ISO',year => 2024,month => 1,day => 1},last => 1,step => 1,first_in_iso_days => 1,last_in_iso_days => 1}`,
			`%Date.Range{first: ~D[2024-01-01], last: 1, step: 1, first_in_iso_days: 1, last_in_iso_days: 1}`},

		// no terms
		{nil, `#Invalid<nil>`, `#Invalid<nil>`},
		{Float(math.NaN()), `#Invalid<float>`, `#Invalid<float>`},
		{Float(math.Inf(-1)), `#Invalid<float>`, `#Invalid<float>`},
		{BigInt{}, `#Invalid<integer>`, `#Invalid<integer>`},
		{(*Fun)(nil), `#Invalid<fun>`, `#Invalid<fun>`},
		{(*Record)(nil), `#Invalid<record>`, `#Invalid<record>`},
		{ImproperList{}, `#Invalid<list>`, `#Invalid<list>`},
		{ImproperList{Elems: []Term{nil}}, `[#Invalid<nil>|#Invalid<nil>]`, `[#Invalid<nil> | #Invalid<nil>]`},
		{Map{{nil, nil}}, `#{#Invalid<nil> => #Invalid<nil>}`, `%{#Invalid<nil> => #Invalid<nil>}`},
		{Bitstring{Bytes: []byte{1, 2}, Bits: 8}, `<<1,2>>`, `<<1, 2>>`},
		{Bitstring{}, `<<>>`, `<<>>`},
	} {
		node := Atom("me@h")
		assert.Equal(t, tt.erlang, Format(tt.term, PrintOptions{Node: node}))
		assert.Equal(t, tt.elixir, Format(tt.term, PrintOptions{Syntax: Elixir, Node: node}))
	}
	assert.Equal(t, "erlang elixir", Erlang.String()+" "+Elixir.String())
}

// The structs of a calendar with one wrong field each.
func TestMalformedCalendar(t *testing.T) {
	well := structTerm("Elixir.DateTime", Atom("calendar"), calendarISO, Atom("year"), Int(2024), Atom("month"), Int(1), Atom("day"), Int(2),
		Atom("hour"), Int(3), Atom("minute"), Int(4), Atom("second"), Int(5), Atom("microsecond"), Tuple{Int(0), Int(0)},
		Atom("time_zone"), Binary("Europe/Berlin"), Atom("zone_abbr"), Binary("CET"), Atom("utc_offset"), Int(3600), Atom("std_offset"), Int(0))
	assert.Equal(t, `#DateTime<2024-01-02 03:04:05+01:00 CET Europe/Berlin>`, Format(well, PrintOptions{Syntax: Elixir}))
	utc := append(Map{}, well...)
	utc[9].Value, utc[11].Value = Binary("Etc/UTC"), Int(0)
	assert.Contains(t, Format(utc, PrintOptions{Syntax: Elixir}), "%DateTime{", "an abbreviation that ~U does not have")
	for field, values := range map[Atom][]Term{
		"calendar":    {Atom("Elixir.Other")},
		"year":        {Int(10000), Float(1)},
		"month":       {Int(13), Int(0), Int(-1)},
		"day":         {Int(32), Int(0)},
		"hour":        {Int(24)},
		"second":      {Int(60)},
		"microsecond": {Int(0), Tuple{}, Tuple{Int(1), Int(0)}, Tuple{Int(1), Int(3)}, Tuple{Int(1000000), Int(6)}, Tuple{Int(0), Int(7)}},
		"time_zone":   {Binary("\x1b[31m"), Binary(""), Int(1), Binary(strings.Repeat("a", 65))},
		"zone_abbr":   {Binary("a>b"), Int(1)},
		"utc_offset":  {Int(100000), Binary("")},
		"std_offset":  {Int(-100000)},
		"other":       {Int(1)},
	} {
		for _, v := range values {
			m := append(Map{}, well...)
			for i := range m {
				if m[i].Key == field {
					m[i].Value = v
				}
			}
			if field == "other" {
				m = append(m, Pair{field, v})
			}
			assert.Contains(t, Format(m, PrintOptions{Syntax: Elixir}), "%DateTime{calendar: ", "%s: %v", field, v)
		}
	}
}

func TestRegexOptions(t *testing.T) {
	for _, tt := range []struct {
		opts Term
		want string
	}{
		{Binary("iu"), `~r/a/iu`},
		{Binary("i/\x1b"), `%Regex{source: "a", opts: "i/\e", re_pattern: 1}`},
		{List{}, `~r/a/`},
		{List{Atom("caseless"), Atom("extended")}, `~r/a/xi`},
		{List{Atom("dotall"), Tuple{Atom("newline"), Atom("anycrlf")}}, `~r/a/s`},
		{List{Atom("dotall")}, `%Regex{source: "a", opts: [:dotall], re_pattern: 1}`},
		{List{Atom("unicode"), Atom("ucp")}, `~r/a/u`},
		{List{Int(300)}, `%Regex{source: "a", opts: [300], re_pattern: 1}`},
		{Int(1), `%Regex{source: "a", opts: 1, re_pattern: 1}`},
	} {
		s := structTerm("Elixir.Regex", Atom("source"), Binary("a"), Atom("opts"), tt.opts, Atom("re_pattern"), Int(1))
		assert.Equal(t, tt.want, Format(s, PrintOptions{Syntax: Elixir}))
	}
	many := List{}
	for range 1000 {
		many = append(many, Atom("caseless"))
	}
	s := structTerm("Elixir.Regex", Atom("source"), Binary("\xff\\"), Atom("opts"), many, Atom("re_pattern"), Int(1))
	assert.Contains(t, Format(s, PrintOptions{Syntax: Elixir}), "%Regex{")
	s[2].Value = List{}
	assert.Equal(t, `~r/\xFF\/`, Format(s, PrintOptions{Syntax: Elixir}))
	s[1].Value = Int(1)
	assert.Contains(t, Format(s, PrintOptions{Syntax: Elixir}), "%Regex{source: 1")
}

// The start of a huge term prints in no time, and huge integers in any case.
func TestHugeTerms(t *testing.T) {
	const n = 1 << 20
	ints := make(List, n)
	pairs := make(Map, n)
	chars := make(List, n)
	for i := range n {
		ints[i], chars[i] = Int(1000), Int('a')
		pairs[i] = Pair{Int(i), Int(i)}
	}
	chars[n-1] = Atom("end")
	huge := BigInt{new(big.Int).Lsh(big.NewInt(1), 64<<20)}
	text := []byte(strings.Repeat("text", n))
	text[len(text)-1] = 0
	nested := List{}
	for range 1000 {
		nested = append(nested, Tuple{ints, Binary(text), huge, pairs})
	}
	for _, term := range []Term{ints, chars, pairs, huge, Binary(text), String(text), Tuple(ints), nested,
		ImproperList{Elems: ints, Tail: Atom("x")}, structTerm("Elixir.MapSet", Atom("map"), pairs), append(structTerm("Elixir.Foo"), pairs...)} {
		for _, o := range []PrintOptions{{}, {Syntax: Elixir}, {Width: 80}, {Syntax: Elixir, Width: 80}, {MaxDepth: 1}} {
			o.MaxBytes = 1000
			start := time.Now()
			text, cut := FormatCut(term, o)
			assert.True(t, cut)
			assert.LessOrEqual(t, len(text), 1000)
			assert.True(t, len(text) > 900 || o.MaxDepth == 1)
			assert.Less(t, time.Since(start), time.Second, "%T %+v", term, o)
		}
	}
	assert.Equal(t, "-16#"+"8"+strings.Repeat("0", 262144), Format(BigInt{new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 1<<20+3))}, PrintOptions{}))
	assert.Equal(t, "0x10000000000000...", Format(huge, PrintOptions{Syntax: Elixir, MaxBytes: 19}))
}

// Depth alone does not multiply the text.
func TestDeepLines(t *testing.T) {
	var term Term = List{}
	for range 9000 {
		term = List{term, Int(1)}
	}
	assert.Less(t, len(Format(term, PrintOptions{Width: 40})), 9000*4*(40+10))
}

func BenchmarkFormat(b *testing.B) {
	row := Tuple{Pid{Node: "shop@db1", ID: 123}, Atom("Elixir.Shop.Worker"), Int(123456), Int(7890), Int(0),
		Tuple{Atom("gen_server"), Atom("loop"), Int(7)}, Binary("waiting for the next customer"), Map{{Atom("a"), Float(1.5)}}}
	for _, s := range []Syntax{Erlang, Elixir} {
		b.Run(s.String(), func(b *testing.B) {
			var buf []byte
			for b.Loop() {
				buf = AppendFormat(buf[:0], row, PrintOptions{Syntax: s, MaxBytes: 1000})
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}
