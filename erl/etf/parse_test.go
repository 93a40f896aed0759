package etf

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func bigInt(s string) BigInt {
	i, ok := new(big.Int).SetString(s, 0)
	if !ok {
		panic(s)
	}
	return BigInt{i}
}

// structTerm returns a struct with the fields k, v, k, v….
func structTerm(name Atom, kv ...Term) Map {
	m := Map{{Atom("__struct__"), name}}
	for i := 0; i < len(kv); i += 2 {
		m = append(m, Pair{kv[i], kv[i+1]})
	}
	return m
}

// date returns a Date.
func date(y, m, d int) Map {
	return structTerm("Elixir.Date", Atom("calendar"), calendarISO, Atom("year"), Int(y), Atom("month"), Int(m), Atom("day"), Int(d))
}

type parseCase struct {
	text string
	want Term
}

var parseErlang = []parseCase{
	{`foo`, Atom("foo")},
	{`foo.`, Atom("foo")},
	{" foo % comment\n . % end", Atom("foo")},
	{`foo@Bar_1`, Atom("foo@Bar_1")},
	{`größe`, Atom("größe")},
	{`'Foo bar'`, Atom("Foo bar")},
	{`'it\'s'`, Atom("it's")},
	{`''`, Atom("")},
	{`'end'`, Atom("end")},
	{`maybe`, Atom("maybe")},
	{`else`, Atom("else")},
	{`'fun'`, Atom("fun")},
	{`'\x{442}\x41\101\n\^A\s\e\d\q'`, Atom("тAA\n\x01 \x1b\x7fq")},
	{`0`, Int(0)},
	{`-5`, Int(-5)},
	{`- 5`, Int(-5)},
	{`+5`, Int(5)},
	{`1_000_000`, Int(1000000)},
	{`16#fF`, Int(255)},
	{`-16#ff`, Int(-255)},
	{`2#1010`, Int(10)},
	{`36#Zz`, Int(1295)},
	{`9223372036854775807`, Int(math.MaxInt64)},
	{`9223372036854775808`, bigInt("9223372036854775808")},
	{`-9223372036854775808`, Int(math.MinInt64)},
	{`-9223372036854775809`, bigInt("-9223372036854775809")},
	{`00000000000000000000000001`, Int(1)},
	{`1.5`, Float(1.5)},
	{`-1.5e-3`, Float(-0.0015)},
	{`1.0E+10`, Float(1e10)},
	{`1_0.2_5`, Float(10.25)},
	{`5.`, Int(5)},
	{`$a`, Int('a')},
	{`$\n`, Int('\n')},
	{`$т`, Int('т')},
	{`$\x{1F600}`, Int(0x1F600)},
	{`$ `, Int(' ')},
	{`-$a`, Int(-'a')},
	{`"abc"`, String("abc")},
	{`"abc" "def"`, String("abcdef")},
	{`"a\"b\\\n"`, String("a\"b\\\n")},
	{`"т"`, List{Int('т')}},
	{`""`, List{}},
	{`[]`, List{}},
	{`[a, b]`, List{Atom("a"), Atom("b")}},
	{`[a | b]`, ImproperList{[]Term{Atom("a")}, Atom("b")}},
	{`[a | [b, c]]`, List{Atom("a"), Atom("b"), Atom("c")}},
	{`[$a | "bc"]`, String("abc")},
	{`[a | [b | c]]`, ImproperList{[]Term{Atom("a"), Atom("b")}, Atom("c")}},
	{`{}`, Tuple{}},
	{`{a, {b}, "c"}`, Tuple{Atom("a"), Tuple{Atom("b")}, String("c")}},
	{`#{}`, Map{}},
	{`#{a => 1, "b" => #{}, 1.0 => x}`, Map{{Atom("a"), Int(1)}, {String("b"), Map{}}, {Float(1), Atom("x")}}},
	{`#{a => 1, a => 2, "x" => 1, [$x] => 2}`, Map{{Atom("a"), Int(2)}, {String("x"), Int(2)}}},
	{`<<>>`, Binary{}},
	{`<<"abc">>`, Binary("abc")},
	{`<<"å">>`, Binary{0xe5}},
	{`<<"å"/utf8>>`, Binary("å")},
	{`<<"å"/utf16>>`, Binary{0, 0xe5}},
	{`<<"å"/utf16-little>>`, Binary{0xe5, 0}},
	{`<<"a"/utf32>>`, Binary{0, 0, 0, 'a'}},
	{`<<"ab":16>>`, Binary{0, 'a', 0, 'b'}},
	{`<<"ab":16/little>>`, Binary{'a', 0, 'b', 0}},
	{`<<16#1F600/utf16>>`, Binary{0xd8, 0x3d, 0xde, 0}},
	{`<<1, 2, 255, 256, -1>>`, Binary{1, 2, 255, 0, 255}},
	{`<<1, 2:3>>`, Bitstring{[]byte{1, 2 << 5}, 3}},
	{`<<1:1, 2:7>>`, Binary{0x82}},
	{`<<1:1, 2:8>>`, Bitstring{[]byte{0x81, 0}, 1}},
	{`<<1:16/little>>`, Binary{1, 0}},
	{`<<16#abc:12/little>>`, Bitstring{[]byte{0xbc, 0xa0}, 4}},
	{`<<1:2/integer-unit:8>>`, Binary{0, 1}},
	{`<<1:16/signed-big-integer>>`, Binary{0, 1}},
	{`<<16#ffffffffffffffffff:72>>`, Binary{255, 255, 255, 255, 255, 255, 255, 255, 255}},
	{`<<1.0>>`, Binary{0x3f, 0xf0, 0, 0, 0, 0, 0, 0}},
	{`<<1.0:32/float>>`, Binary{0x3f, 0x80, 0, 0}},
	{`<<1/float-little>>`, Binary{0, 0, 0, 0, 0, 0, 0xf0, 0x3f}},
	{`<<<<1, 2>>/binary, 3>>`, Binary{1, 2, 3}},
	{`<<<<1, 2, 3>>:2/bytes>>`, Binary{1, 2}},
	{`<<<<1, 2:3>>/bits, 1:1>>`, Bitstring{[]byte{1, 0x50}, 4}},
	{`<<<<255>>:3/bitstring>>`, Bitstring{[]byte{0xe0}, 3}},
	{`<<$a, "b">>`, Binary("ab")},
	{`<<1:0>>`, Binary{}},
	{`~"tä"`, Binary("tä")},
	{`~b[a\n]`, Binary("a\n")},
	{`~B<a\n>`, Binary(`a\n`)},
	{`~s(ab)`, String("ab")},
	{`~S{a\}b}`, String("a}b")},
	{`<0.123.0>`, Pid{ID: 123}},
	{`<shop@db-1.x:123.4>`, Pid{Node: "shop@db-1.x", ID: 123, Serial: 4}},
	{`<'we\'ird@x':1.2>`, Pid{Node: "we'ird@x", ID: 1, Serial: 2}},
	{`#Port<0.18446744073709551615>`, Port{ID: math.MaxUint64}},
	{`#Ref<0.3.2.1>`, Ref{Len: 3, Words: [5]uint32{1, 2, 3}}},
	{`#Ref<a@b:7>`, Ref{Node: "a@b", Len: 1, Words: [5]uint32{7}}},
	{`fun lists:map/2`, Export{"lists", "map", 2}},
	{`fun 'Elixir.Foo' : 'a b' / 255`, Export{"Elixir.Foo", "a b", 255}},
	{`#mod:'Name'{a = 1, 'b c' = []}`, &Record{Module: "mod", Name: "Name", Exported: true, Fields: []Field{{"a", Int(1)}, {"b c", List{}}}}},
	{`#m:n{}`, &Record{Module: "m", Name: "n", Exported: true}},
}

var parseElixir = []parseCase{
	{`:foo`, Atom("foo")},
	{`:foo?`, Atom("foo?")},
	{`:foo@bar!`, Atom("foo@bar!")},
	{`:Foo`, Atom("Foo")},
	{`:"a b"`, Atom("a b")},
	{`:'a b'`, Atom("a b")},
	{`:"a\u0041\x80"`, Atom("aA\u0080")},
	{`:+`, Atom("+")},
	{`:..//`, Atom("..//")},
	{`:%{}`, Atom("%{}")},
	{`:\\`, Atom(`\\`)},
	{`:<<>>`, Atom("<<>>")},
	{`:::`, Atom("::")},
	{`:größe`, Atom("größe")},
	{`:日本`, Atom("日本")},
	{`nil`, Atom("nil")},
	{`true`, Atom("true")},
	{`false # comment`, Atom("false")},
	{`Foo`, Atom("Elixir.Foo")},
	{`Foo.Bar_1`, Atom("Elixir.Foo.Bar_1")},
	{`Elixir.Foo`, Atom("Elixir.Foo")},
	{`Elixir`, Atom("Elixir")},
	{`Elixir.Elixir`, Atom("Elixir.Elixir")},
	{`42`, Int(42)},
	{`-42`, Int(-42)},
	{`1_000`, Int(1000)},
	{`0xFF`, Int(255)},
	{`-0b101`, Int(-5)},
	{`0o17`, Int(15)},
	{`?a`, Int('a')},
	{`?\n`, Int('\n')},
	{`?\xFF`, Int(255)},
	{`?é`, Int('é')},
	{`1.5e-3`, Float(0.0015)},
	{`-1.0`, Float(-1)},
	{`"abc"`, Binary("abc")},
	{`""`, Binary{}},
	{`"a\"\\\n\t\e\s\0\a\#{x}#y"`, Binary("a\"\\\n\t\x1b \x00\a#{x}#y")},
	{`"\u00e9\u{1F600}\xFF\x41\x{e9}"`, Binary("é😀\xffAé")},
	{"\"a\\\nb\\\r\nc\"", Binary("abc")},
	{`'abc'`, String("abc")},
	{`~c"abc"`, String("abc")},
	{`~c"\xFFт"`, List{Int(255), Int('т')}},
	{`~C(a\n#{x})`, String(`a\n#{x}`)},
	{`~s|ab|`, Binary("ab")},
	{`~S"a\"#{"`, Binary(`a"#{`)},
	{`~w(a b  c)`, List{Binary("a"), Binary("b"), Binary("c")}},
	{`~w[a b]a`, List{Atom("a"), Atom("b")}},
	{`~W/a b/c`, List{String("a"), String("b")}},
	{`~w()s`, List{}},
	{`[]`, List{}},
	{`[1, :a, "x"]`, List{Int(1), Atom("a"), Binary("x")}},
	{`[a: 1, b: [c: 2]]`, List{Tuple{Atom("a"), Int(1)}, Tuple{Atom("b"), List{Tuple{Atom("c"), Int(2)}}}}},
	{`[1, a: 1]`, List{Int(1), Tuple{Atom("a"), Int(1)}}},
	{`["a b": 1, 'c': 2, Foo: 3, nil: 4, +: 5, {}: 6, do: 7, foo?: 8]`, List{Tuple{Atom("a b"), Int(1)}, Tuple{Atom("c"), Int(2)}, Tuple{Atom("Foo"), Int(3)},
		Tuple{Atom("nil"), Int(4)}, Tuple{Atom("+"), Int(5)}, Tuple{Atom("{}"), Int(6)}, Tuple{Atom("do"), Int(7)}, Tuple{Atom("foo?"), Int(8)}}},
	{`[a:1]`, List{Tuple{Atom("a"), Int(1)}}},
	{`[1 | 2]`, ImproperList{[]Term{Int(1)}, Int(2)}},
	{`[1 | [2, 3]]`, List{Int(1), Int(2), Int(3)}},
	{`{}`, Tuple{}},
	{`{:ok, 1}`, Tuple{Atom("ok"), Int(1)}},
	{`{1, a: 2}`, Tuple{Int(1), List{Tuple{Atom("a"), Int(2)}}}},
	{`%{}`, Map{}},
	{`%{a: 1, b: %{}}`, Map{{Atom("a"), Int(1)}, {Atom("b"), Map{}}}},
	{`%{"a" => 1, 2 => 3, c: 4}`, Map{{Binary("a"), Int(1)}, {Int(2), Int(3)}, {Atom("c"), Int(4)}}},
	{`%{:a => 1, a: 2}`, Map{{Atom("a"), Int(2)}}},
	{`%Foo.Bar{a: 1}`, structTerm("Elixir.Foo.Bar", Atom("a"), Int(1))},
	{`%:foo{}`, structTerm("foo")},
	{`%nil{}`, structTerm("nil")},
	{`<<>>`, Binary{}},
	{`<<1, 2::size(3)>>`, Bitstring{[]byte{1, 2 << 5}, 3}},
	{`<<1, 2::3>>`, Bitstring{[]byte{1, 2 << 5}, 3}},
	{`<<1::little-16>>`, Binary{1, 0}},
	{`<<1::size(2)-unit(8)>>`, Binary{0, 1}},
	{`<<"é">>`, Binary("é")},
	{`<<"é"::utf8, 0>>`, Binary("é\x00")},
	{`<<"é"::utf16-little>>`, Binary{0xe9, 0}},
	{`<<"ab"::binary>>`, Binary("ab")},
	{`<<"\xFF">>`, Binary{0xff}},
	{`<<?a, 1.5::float-32>>`, Binary{'a', 0x3f, 0xc0, 0, 0}},
	{`<<0x1F600::utf8>>`, Binary("😀")},
	{`<<(<<1>>)>>`, nil},
	{`#PID<0.123.0>`, Pid{ID: 123}},
	{`#PID<shop@db1:123.0>`, Pid{Node: "shop@db1", ID: 123}},
	{`#Port<0.5>`, Port{ID: 5}},
	{`#Reference<0.2.1>`, Ref{Len: 2, Words: [5]uint32{1, 2}}},
	{`&Foo.bar/2`, Export{"Elixir.Foo", "bar", 2}},
	{`&:lists.map/2`, Export{"lists", "map", 2}},
	{`&Kernel.+/2`, Export{"Elixir.Kernel", "+", 2}},
	{`&Kernel.//2`, Export{"Elixir.Kernel", "/", 2}},
	{`&:"a b"."c d"/0`, Export{"a b", "c d", 0}},
	{`&nil.foo?/1`, Export{"nil", "foo?", 1}},
	{`&:..//."x"/1`, Export{"..//", "x", 1}},
	{`&:...."x"/1`, Export{"...", "x", 1}},
	{`1..3`, rangeTerm(Int(1), Int(3), Int(1))},
	{`3..1`, rangeTerm(Int(3), Int(1), Int(-1))},
	{`1 .. -10 // -2`, rangeTerm(Int(1), Int(-10), Int(-2))},
	{`MapSet.new([1, 2, 1])`, structTerm("Elixir.MapSet", Atom("map"), Map{{Int(1), List{}}, {Int(2), List{}}})},
	{`MapSet.new(~c"ab")`, structTerm("Elixir.MapSet", Atom("map"), Map{{Int('a'), List{}}, {Int('b'), List{}}})},
	{`MapSet.new()`, structTerm("Elixir.MapSet", Atom("map"), Map{})},
	{`~D[2024-02-29]`, date(2024, 2, 29)},
	{`~D[-0001-12-31]`, date(-1, 12, 31)},
	{`~T[23:59:59.120]`, structTerm("Elixir.Time", Atom("calendar"), calendarISO, Atom("hour"), Int(23), Atom("minute"), Int(59),
		Atom("second"), Int(59), Atom("microsecond"), Tuple{Int(120000), Int(3)})},
	{`Date.range(~D[2024-01-01], ~D[2024-01-03])`, structTerm("Elixir.Date.Range", Atom("first"), date(2024, 1, 1), Atom("last"), date(2024, 1, 3),
		Atom("step"), Int(1), Atom("first_in_iso_days"), Int(739251), Atom("last_in_iso_days"), Int(739253))},
	{`Date.range(~D[2024-01-02], ~D[2024-01-01])`, structTerm("Elixir.Date.Range", Atom("first"), date(2024, 1, 2), Atom("last"), date(2024, 1, 1),
		Atom("step"), Int(-1), Atom("first_in_iso_days"), Int(739252), Atom("last_in_iso_days"), Int(739251))},
}

func TestParse(t *testing.T) {
	for syntax, cases := range [][]parseCase{parseErlang, parseElixir} {
		for _, tt := range cases {
			got, err := Parse(tt.text, Syntax(syntax))
			if tt.want == nil {
				assert.Error(t, err, tt.text)
				continue
			}
			if assert.NoError(t, err, tt.text) {
				assert.True(t, Equal(tt.want, got), "%s: got %#v, want %#v", tt.text, got, tt.want)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	long := strings.Repeat("a", 256)
	for _, tt := range []struct {
		syntax Syntax
		text   string
		offset int
		want   string // part of the message
	}{
		{Erlang, ``, 0, "the text ends where a term is expected"},
		{Erlang, `foo bar`, 4, "unexpected b, expected the end"},
		{Erlang, `{a, `, 4, "the text ends"},
		{Erlang, `{a b}`, 3, `expected "," or "}"`},
		{Erlang, `[a|b, c]`, 4, "expected ]"},
		{Erlang, `[a,]`, 3, "expected a term"},
		{Erlang, `Foo`, 0, "Foo is a variable (as an atom it is 'Foo')"},
		{Erlang, `_x`, 0, "variable"},
		{Erlang, `end`, 0, "end is a reserved word"},
		{Erlang, `foo()`, 3, "calls are not evaluated"},
		{Erlang, `a:b()`, 1, "calls are not evaluated"},
		{Erlang, `'a`, 0, "no closing '"},
		{Erlang, `"a`, 0, `no closing "`},
		{Erlang, `"\`, 2, "an escaped character"},
		{Erlang, `"\x{}"`, 1, "the escape is no character"},
		{Erlang, `"\x{d800}"`, 1, "no character"},
		{Erlang, `"\x{110000}"`, 1, "no character"},
		{Erlang, `"\x{41"`, 1, "no closing }"},
		{Erlang, `"\x4`, 1, "no character"},
		{Erlang, "\"\xff\"", 1, "not UTF-8"},
		{Erlang, "\"\\\xff\"", 2, "not UTF-8"},
		{Erlang, "$\xff", 1, "not UTF-8"},
		{Erlang, "\xff", 0, "U+FFFD"},
		{Erlang, "\x1b", 0, "U+001B"},
		{Erlang, `$`, 1, "a character"},
		{Erlang, `$\`, 2, "an escaped character"},
		{Erlang, `1.5x`, 3, "the end of the number"},
		{Erlang, `12ab`, 2, "the end of the number"},
		{Erlang, `1.0e`, 4, "a digit"},
		{Erlang, `1.0e400`, 0, "out of range"},
		{Erlang, `16#`, 3, "a digit of base 16"},
		{Erlang, `16#g`, 3, "a digit of base 16"},
		{Erlang, `1#0`, 0, "2 to 36"},
		{Erlang, `37#0`, 0, "2 to 36"},
		{Erlang, `1__0`, 1, "the end of the number"},
		{Erlang, `-a`, 1, "a number"},
		{Erlang, `-`, 1, "a number"},
		{Erlang, "1" + strings.Repeat("0", 2_000_000), 0, "an integer larger"},
		{Erlang, long, 0, "more than 255 characters"},
		{Erlang, `#{a}`, 3, "=>"},
		{Erlang, `#{a => }`, 7, "a term"},
		{Erlang, `#{a => 1`, 8, "the text ends"},
		{Erlang, `<<1`, 3, "the text ends"},
		{Erlang, `<<a>>`, 2, "does not fit"},
		{Erlang, `<<1/binary>>`, 2, "does not fit"},
		{Erlang, `<<1.5/binary>>`, 2, "does not fit"},
		{Erlang, `<<<<1>>/integer>>`, 2, "does not fit"},
		{Erlang, `<<<<1:1>>/binary>>`, 2, "does not fit"},
		{Erlang, `<<"a"/binary>>`, 2, "does not fit"},
		{Erlang, `<<"a"/float>>`, 2, "does not fit"},
		{Erlang, `<<"т">>`, 2, "above 255"},
		{Erlang, `<<"a":8/utf8>>`, 2, "no size"},
		{Erlang, `<<1:a>>`, 4, "a number"},
		{Erlang, `<<1:99999999999>>`, 4, "31 bits"},
		{Erlang, `<<1:1000000000>>`, 2, "128 KiB"},
		{Erlang, `<<1:1000000,1:1000000>>`, 12, "128 KiB"},
		{Erlang, `<<1:8/unit:1000>>`, 2, "1 to 256"},
		{Erlang, `<<1:8/unit>>`, 10, "expected :"},
		{Erlang, `<<1/foo>>`, 4, "the type of a segment"},
		{Erlang, `<<1/integer-foo>>`, 12, "the type of a segment"},
		{Erlang, `<<1.0:8>>`, 2, "64 or 32"},
		{Erlang, `<<1.0e300:32>>`, 2, "out of range"},
		{Erlang, `<<16#` + strings.Repeat("f", 400) + `/float>>`, 2, "out of range"},
		{Erlang, `<<16#d800/utf8>>`, 2, "no character"},
		{Erlang, `<<<<1>>:2/binary>>`, 2, "shorter"},
		{Erlang, `<<"a>>`, 2, "no closing"},
		{Erlang, `<0.1>`, 4, "expected ."},
		{Erlang, `<0.1.2`, 6, "where > is expected"},
		{Erlang, `<0.x.2>`, 3, "a number"},
		{Erlang, `<0.4294967296.2>`, 3, "32 bits"},
		{Erlang, `<1.2.3>`, 1, "the name of a node"},
		{Erlang, `<'a:1.2>`, 1, "no closing"},
		{Erlang, `<'a'.1.2>`, 4, "expected :"},
		{Erlang, `<` + long + `:1.2>`, 1, "255 characters"},
		{Erlang, `#Ref<0.1.2.3.4.5.6>`, 5, "5 words"},
		{Erlang, `#Ref<x>`, 5, "the name of a node"},
		{Erlang, `#Ref<0.x>`, 7, "a number"},
		{Erlang, `#Port<x>`, 6, "the name of a node"},
		{Erlang, `#Fun<a.1.2>`, 0, "cannot be read back"},
		{Erlang, `#rec{}`, 4, "expected :"},
		{Erlang, `#1`, 1, "a term"},
		{Erlang, `#m:1`, 3, "a term"},
		{Erlang, `#m:r`, 4, "{"},
		{Erlang, `#m:r{1}`, 5, "a term"},
		{Erlang, `#m:r{a}`, 6, "="},
		{Erlang, `#m:r{a = ]}`, 9, "a term"},
		{Erlang, `fun(X) -> X end`, 3, "a term"},
		{Erlang, `fun a/1`, 5, "expected :"},
		{Erlang, `fun a:`, 6, "the text ends"},
		{Erlang, `fun a:b`, 7, "the text ends where / is expected"},
		{Erlang, `fun a:b/256`, 8, "8 bits"},
		{Erlang, `~x"a"`, 1, "delimiter"},
		{Erlang, `~`, 1, "delimiter"},
		{Erlang, `~b"a`, 0, "no closing"},
		{Erlang, `[a,...`, 3, "a text that was cut cannot be read back"},
		{Erlang, "{a,\n  B}", 6, "line 2, column 3: B is a variable"},
		{Erlang, strings.Repeat("[", 2000), 1000, "more than 1000 nested"},

		{Elixir, `foo`, 0, "as an atom it is :foo"},
		{Elixir, `foo()`, 0, "a variable or a call"},
		{Elixir, `Foo.bar()`, 3, "calls are not evaluated"},
		{Elixir, `Foo()`, 3, "calls are not evaluated"},
		{Elixir, `"a#{1 + 1}"`, 2, "interpolation"},
		{Elixir, `:"a#{b}"`, 3, "interpolation"},
		{Elixir, `["a#{b}": 1]`, 3, "interpolation"},
		{Elixir, `&Foo."a#{b}"/1`, 7, "interpolation"},
		{Elixir, `<<"a#{b}">>`, 4, "interpolation"},
		{Elixir, `~s(a#{b})`, 4, "interpolation"},
		{Elixir, `:`, 1, "an atom"},
		{Elixir, `:1`, 1, "an atom"},
		{Elixir, `:"a`, 0, "no closing"},
		{Elixir, `'a`, 0, "no closing"},
		{Elixir, `:` + long, 0, "255 characters"},
		{Elixir, `A` + long, 0, "255 characters"},
		{Elixir, `&A` + long, 1, "255 characters"},
		{Elixir, `%A` + long, 1, "255 characters"},
		{Elixir, `~w(` + long + `)a`, 261, "255 characters"},
		{Elixir, `~w(\xFF)a`, 9, "not UTF-8"},
		{Elixir, `~D[99999-01-01]`, 0, "not a date"},
		{Elixir, `~N[2024-02-30 00:00:00]`, 0, "not a date"},
		{Elixir, `~N[2024-02-01 24:00:00]`, 0, "not a date"},
		{Elixir, `1.5e`, 4, "a digit"},
		{Elixir, `<<1.5::16>>`, 2, "64 or 32"},
		{Erlang, `[a|`, 3, "the text ends"},
		{Erlang, `<<1.0:4000000/float>>`, 2, "128 KiB"},
		{Erlang, `<<<<1>>:4000000/binary>>`, 2, "128 KiB"},
		{Erlang, `<<"ab":4000000>>`, 2, "128 KiB"},
		{Elixir, `"\u12"`, 1, "4 hexadecimal digits"},
		{Elixir, `?`, 1, "a character"},
		{Elixir, "?\\\n", 0, "no character behind"},
		{Elixir, `[a: 1, 2]`, 7, "keywords must come last"},
		{Elixir, `{a: 1, 2}`, 7, "keywords must come last"},
		{Elixir, `%{a: 1, 2 => 3}`, 8, "keywords must come last"},
		{Elixir, `%{1}`, 3, "=>"},
		{Elixir, `%{1 => }`, 7, "a term"},
		{Elixir, `%{`, 2, "a term is expected"},
		{Elixir, `%{a: }`, 5, "a term"},
		{Elixir, `%foo{}`, 1, "the name of a struct"},
		{Elixir, `%Foo`, 4, "{"},
		{Elixir, `%:{}`, 4, "where { is expected"},
		{Elixir, `[1 | 2, 3]`, 6, "expected ]"},
		{Elixir, `[1 | ]`, 5, "a term"},
		{Elixir, `{1 | 2}`, 3, `"," or "}"`},
		{Elixir, `[a: ]`, 4, "a term"},
		{Elixir, `0xg`, 2, "a digit of base 16"},
		{Elixir, `0b2`, 2, "a digit of base 2"},
		{Elixir, `~r/a/`, 0, "no literal"},
		{Elixir, `~`, 0, "no literal"},
		{Elixir, `~s`, 2, "delimiter"},
		{Elixir, `~D[2023-02-29]`, 0, "not a date"},
		{Elixir, `~D[2024-1-1]`, 0, "not a date"},
		{Elixir, `~D[2024-13-01]`, 0, "not a date"},
		{Elixir, `~D[2024/01/01]`, 0, "not a date"},
		{Elixir, `~D[]`, 0, "not a date"},
		{Elixir, `~D[20x4-01-01]`, 0, "not a date"},
		{Elixir, `~T[24:00:00]`, 0, "not a date"},
		{Elixir, `~T[23:00:00.]`, 0, "not a date"},
		{Elixir, `~T[23:00:00.1234567]`, 0, "not a date"},
		{Elixir, `~T[23:00:00.x]`, 0, "not a date"},
		{Elixir, `~N[2024-01-01]`, 0, "not a date"},
		{Elixir, `~N[ 23:00:00]`, 0, "not a date"},
		{Elixir, `~U[2024-01-01 23:00:00]`, 0, "not a date"},
		{Elixir, `1..`, 3, "an integer"},
		{Elixir, `1..a`, 3, "an integer"},
		{Elixir, `1..2.5`, 3, "integers"},
		{Elixir, `1..2//0`, 6, "step of a range is 0"},
		{Elixir, `1..2//x`, 6, "an integer"},
		{Elixir, `MapSet.new(1)`, 11, "are a list"},
		{Elixir, `MapSet.new(x)`, 11, "a variable"},
		{Elixir, `MapSet.new([1]`, 14, "the text ends"},
		{Elixir, `Date.range(1, 2)`, 0, "not a range of dates"},
		{Elixir, `Date.range(~D[2024-01-01])`, 0, "not a range of dates"},
		{Elixir, `Date.range(~D[2024-01-01], ~D[2024-01-01], 0)`, 0, "not a range of dates"},
		{Elixir, `Date.range(~D[2024-01-01], x)`, 27, "a variable"},
		{Elixir, `&foo/1`, 1, "a module"},
		{Elixir, `&Foo/1`, 4, "expected ."},
		{Elixir, `&Foo.1/1`, 5, "the name of a function"},
		{Elixir, `&Foo.bar`, 8, "/"},
		{Elixir, `&:1`, 2, "an atom"},
		{Elixir, `&:.foo/1`, 0, "not the name of a module"},
		{Elixir, `#Function<1.2/1 in Foo>`, 0, "#Function<…> cannot be read back"},
		{Elixir, `#DateTime<2000-01-01>`, 0, "#DateTime<…> cannot be read back"},
		{Elixir, `#PID<0.1.2`, 10, "where > is expected"},
		{Elixir, `<<1::size(x)>>`, 10, "a number"},
		{Elixir, `<<1::size(3>>`, 11, "expected )"},
		{Elixir, `<<1::foo>>`, 5, "the type of a segment"},
		{Elixir, `<<1::unit 3>>`, 9, "expected ("},
		{Elixir, `<<1::unit(0)>>`, 2, "1 to 256"},
		{Elixir, `<<"a"::8>>`, 2, "no size"},
		{Elixir, `<<x>>`, 2, "a variable"},
		{Elixir, `...`, 0, "cut"},
		{Elixir, `)`, 0, "a term"},
	} {
		_, err := Parse(tt.text, tt.syntax)
		var pe *ParseError
		if !assert.ErrorAs(t, err, &pe, "%.80s", tt.text) {
			continue
		}
		assert.Contains(t, err.Error(), tt.want, "%.80s", tt.text)
		assert.Equal(t, tt.offset, pe.Offset, "%.80s: %v", tt.text, err)
	}
}

func TestPointer(t *testing.T) {
	_, err := Parse("{ok,\n [ä\x1b,Foo]}", Erlang)
	var pe *ParseError
	require.True(t, errors.As(err, &pe))
	assert.Equal(t, " [ä?,Foo]}\n   ^", pe.Pointer("{ok,\n [ä\x1b,Foo]}"))
	long := "{" + strings.Repeat("a,", 100) + "Foo" + strings.Repeat(",a", 100) + "}"
	_, err = Parse(long, Erlang)
	require.True(t, errors.As(err, &pe))
	line, caret, _ := strings.Cut(pe.Pointer(long), "\n")
	assert.Len(t, line, pointerWidth)
	assert.Equal(t, "Foo,a,", line[len(caret)-1:][:6])
	assert.Equal(t, "\n^", pe.Pointer(""), "another text than the one that was parsed")
}

func TestParsePid(t *testing.T) {
	for _, s := range []string{"<0.123.4>", "#PID<0.123.4>", "0.123.4", " <0.123.4> "} {
		id, serial, err := ParsePid(s)
		require.NoError(t, err, s)
		assert.Equal(t, []uint32{123, 4}, []uint32{id, serial}, s)
	}
	for s, want := range map[string]string{
		"":                     "write <0.123.0>",
		"<0.123.4":             "where > is expected",
		"0.123.4>":             "expected the end of the pid",
		"0.123":                "where . is expected",
		"<9005.123.0>":         "the first number of another node's pid",
		"<shop@db1:123.0>":     "give the node separately and the pid as <0.123.0>",
		"0.99999999999.0":      "more than 32 bits",
		"shop":                 "write <0.123.0>",
		"<0.1.2> <0.1.2>":      "expected the end of the pid",
		"#Port<0.1>":           "write <0.123.0>",
		"<0.-1.2>":             "a number",
		"<0.18446744073709.0>": "more than 32 bits",
	} {
		_, _, err := ParsePid(s)
		assert.ErrorContains(t, err, want, s)
	}
	assert.Equal(t, "<0.123.4>", FormatPid(Pid{Node: "shop@db1", ID: 123, Serial: 4}))
}

func TestParseName(t *testing.T) {
	for s, want := range map[string]Atom{
		"my_worker":        "my_worker",
		" my_worker ":      "my_worker",
		":my_worker":       "my_worker",
		"My.Worker":        "Elixir.My.Worker",
		"Elixir.My.Worker": "Elixir.My.Worker",
		"Elixir":           "Elixir",
		":Worker":          "Worker",
		"'quoted name'":    "quoted name",
		`'it\'s \x{442}'`:  "it's т",
		`"quoted name"`:    "quoted name",
		`:"quoted name"`:   "quoted name",
		`:'quoted name'`:   "quoted name",
		"foo@bar":          "foo@bar",
		"größe?":           "größe?",
		"end":              "end",
	} {
		got, err := ParseName(s)
		assert.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for s, want := range map[string]string{
		"":                        "the text ends where a name is expected",
		"a b":                     "quote it: 'a b'",
		"My.worker":               "unexpected . in a name",
		"'a":                      "no closing '",
		"<0.1.2>":                 "a name",
		"a\x1b":                   "unexpected U+001B",
		strings.Repeat("a", 256):  "255 characters",
		"A" + string(longAlias()): "255 characters",
	} {
		_, err := ParseName(s)
		assert.ErrorContains(t, err, want, s)
	}
}

func longAlias() []byte { return []byte(strings.Repeat("a", 255)) }

func TestFormatMFA(t *testing.T) {
	for _, tt := range []struct {
		m, f   Atom
		erlang string
		elixir string
	}{
		{"lists", "map", "lists:map/2", ":lists.map/2"},
		{"Elixir.My.Worker", "loop", "'Elixir.My.Worker':loop/2", "My.Worker.loop/2"},
		{"Elixir.My.Worker", "-run/1-fun-0-", "'Elixir.My.Worker':'-run/1-fun-0-'/2", `My.Worker."-run/1-fun-0-"/2`},
		{"erlang", "+", "erlang:'+'/2", ":erlang.+/2"},
		{"a b", "c\x1b", `'a b':'c\e'/2`, `:"a b"."c\e"/2`},
	} {
		assert.Equal(t, tt.erlang, FormatMFA(tt.m, tt.f, 2, Erlang))
		assert.Equal(t, tt.elixir, FormatMFA(tt.m, tt.f, 2, Elixir))
	}
}

// A name that ParseName reads is the one that FormatMFA and Format write.
func TestParseNameReadsFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := termGen{}.atom().Draw(t, "atom")
		for _, s := range []Syntax{Erlang, Elixir} {
			text := Format(a, PrintOptions{Syntax: s})
			if classify(string(a)) == atomOperator || classify(string(a)) == atomNotCallable {
				continue // operators need no name
			}
			got, err := ParseName(text)
			if err != nil || got != a {
				t.Fatalf("%q reads as %q, %v", text, got, err)
			}
		}
	})
}
