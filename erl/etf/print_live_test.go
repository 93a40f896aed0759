package etf

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Expressions whose values print as the releases themselves print them.
var liveErlang = []string{
	// atoms
	`a`, `'A'`, `''`, `'a b'`, `a@b`, `'_'`, `'a.b'`, `'\''`, `'\\'`, `'a\nb\e\d\0'`, `ÿ`, `ß`, `'÷'`, `'мама'`, `xé`, `a1`, `'1a'`, `'$x'`, `'@'`,
	`['after', 'and', 'andalso', 'band', 'begin', 'bnot', 'bor', 'bsl', 'bsr', 'bxor', 'case', 'catch', 'cond', 'div', 'end', 'fun', 'if', 'let',
	 'not', 'of', 'or', 'orelse', 'receive', 'rem', 'try', 'when', 'xor', 'query', 'spec', 'module']`,
	// numbers
	`0`, `-1`, `1 bsl 63`, `-(1 bsl 63)`, `1 bsl 64`, `-(1 bsl 100)`, `(1 bsl 59) - 1`,
	`[1.0, -0.0, 0.1, 100.0, 1.0e5, 123456.0, 123456.789, 0.001, 1.0e-4, 1.0e-5, 1.5e-7, 9007199254740991.0, 9007199254740992.0,
	 1.0e15, 1.0e16, 1.0e22, 1.0e23, 1.7976931348623157e308, 5.0e-324, 2.2250738585072014e-308, 3.14]`,
	// texts
	`"abc"`, `"a\"b\\\n\t\e"`, `"\x{e5}"`, `"\x{442}\x{1f600}"`, `[0]`, `[127]`, `[97, 127]`, `[128]`, `""`, `[97, b]`, `[97, -1]`, `[16#110000]`, `[16#d800]`,
	`<<"abc">>`, `<<>>`, `<<"å"/utf8>>`, `<<229>>`, `<<"abc", 229>>`, `<<"тест"/utf8>>`, `<<255, 254>>`, `<<0>>`, `<<"a\n\e">>`, `<<"a", 127>>`, `<<195, 40>>`,
	`<<16#c2, 16#80>>`, `<<"abc", 2:3>>`, `<<1, 2:3>>`, `<<2:3>>`, `<<1:1>>`, `<<255:7>>`,
	// containers
	`{}`, `{a}`, `[[]]`, `[a | b]`, `[97 | b]`, `"ab" ++ c`, `[a, [b | c] | {}]`, `#{}`, `#{a => 1, "b" => {}}`, `#{1 => 2, 1.0 => 3}`, `#{#{} => #{a => []}}`,
	`[{a, "text"}, {b, <<"bin">>}]`, `[[[[]]]]`,
	// functions and records
	`fun lists:map/2`, `fun 'Elixir.Foo':'a b'/1`, `fun erlang:'+'/2`, `fun(X) -> X end`,
	`make_ref()`, `self()`, `hd(erlang:ports())`, `[spawn(fun() -> ok end) || _ <- "abc"]`,
}

// nodeOf returns a node that is named in t.
func nodeOf(t Term) (node Atom) {
	anyTerm(t, func(t Term) bool {
		switch t := t.(type) {
		case Pid:
			node = t.Node
		case Port:
			node = t.Node
		case Ref:
			node = t.Node
		}
		return false
	})
	return node
}

func TestFormatAsErlang(t *testing.T) {
	for _, otp := range releases {
		t.Run("otp"+otp, func(t *testing.T) {
			o := startOracle(t, otp, Erlang)
			exprs := liveErlang
			if otp != "25" {
				exprs = append(exprs, `['maybe', 'else']`, `alias()`)
			}
			for _, expr := range exprs {
				term, text, raw := o.eval(expr)
				node := nodeOf(term)
				o.like(PrintOptions{Node: node}, term, text, raw)
			}
			g := termGen{live: true, noIDs: true, plainFuns: true, old: otp == "25"}.term(3)
			for seed := range 1500 {
				term, text, raw := o.print(g.Example(seed))
				if !o.like(PrintOptions{}, term, text, raw) {
					break
				}
			}
		})
	}
}

// What we print is what the release reads, and what it prints is what we read,
// also where the two texts differ.
func TestParseAsErlang(t *testing.T) {
	for _, otp := range releases {
		t.Run("otp"+otp, func(t *testing.T) {
			o := startOracle(t, otp, Erlang)
			for seed := range 1000 {
				term := termGen{noIDs: true, plainFuns: true}.term(3).Example(seed)
				text := Format(term, PrintOptions{})
				got, ok := o.read(text)
				require.True(t, ok, "OTP %s does not read %s", otp, text)
				require.True(t, Equal(term, got), "OTP %s reads %s as %s", otp, text, Format(got, PrintOptions{}))
				term, theirs, raw := o.print(term)
				for _, s := range []string{theirs, raw} {
					got, err := Parse(s, Erlang)
					require.NoError(t, err, s)
					require.True(t, Equal(term, got), "%s reads as %s", s, Format(got, PrintOptions{}))
				}
			}
		})
	}
}

var liveElixir = []string{
	// atoms
	`~W'a foo? foo! Foo Foo? foo@bar foo@ foo@? @foo Elixir Elixir. Elixir.foo Elixir.Foo? Elixir.Elixir Elixir.Elixir.A elixir.Foo é É éa? мама Жук Aж aж
	ñ ά Ω aΩ µ ﬁ _ __A 1a nil true false do fn end when in not and or ; () [] // => ...a + - * / ** ++ -- +++ --- .. ... . ..// <> -> <- \\ = == === =~ != !==
	< <= > >= | || ||| & && &&& ! @ ^ |> <~ ~> <<~ ~>> <~> <<< >>> % %{} {} <<>> :: ^^^ ~~~ <|>'
	|> Enum.map(&String.to_atom/1) |> Enum.map(fn a -> {a, [{a, a}], [{a, 1}, {:b, 2}], %{a => a}, Function.capture(a, a, 1)} end)`,
	`[:"", :"a b", :"a\"b", :"a\nb", :"a#{"\#{"}b", :"a#b", Foo.Bar, :"a\0b", :"a\x01"]`,
	// numbers
	`[0, -1, 1 <<< 64, 0xFF]`,
	`[1.0, -1.0, -0.0, 0.0, 1.0e5, 123456.0, 1.0e15, 9007199254740993.0, 1.0e16, 1.0e22, 0.1, 1.0e-4, 1.0e-5, 1.7976931348623157e308, 5.0e-324, 123456.789]`,
	// texts
	`["", "a", "a\"b\\", "a\#{b", "a#b", "\a\b\d\e\f\n\r\t\v", "é", "日本", "\uFFFD", "'", "\u{1F600}"]`,
	`[<<0>>, <<255>>, <<"a", 0>>, <<1::3>>, <<"a", 1::3>>, <<1::1>>, <<0xC2, 0x80>>, <<0xEF, 0xBF, 0xBE>>]`,
	`[[0], [97, 0], [97, 229], [127], [97 | 98]]`,
	// containers
	`[[], {}, %{}, {1, [a: 1]}, [a: 1], [{Foo, 1}], [{:a, 1}, 2], [{:a, 1, 2}], [nil: 1], ["a b": 1], [[]], [1 | 2], [1, 2 | 3], [{:a, 1} | 3]]`,
	`[%{1 => 2}, %{a: 1}, %{"a" => %{}}, %{Foo => 1}, %{%{} => 1}, %{nil => 1}]`,
	// structs
	`[%Point{}, %Point{x: %Point{x: 1}}, %RuntimeError{message: "x"}, [p: %Point{x: [a: 1]}]]`,
	`[1..3, 3..1//-1, 1..10//2, 3..1//1, 5..5, -1..1, (1 <<< 70)..(1 <<< 71)]`,
	`[MapSet.new(), MapSet.new([1, 2, "a"]), MapSet.new([97, 98]), MapSet.new([:a, {:b, 1}]), MapSet.new([[1]])]`,
	`[~D[2024-02-29], Date.new!(-5, 1, 1), ~D[9999-12-31], ~D[0000-01-01]]`,
	`[~T[01:02:03], ~T[01:02:03.004], ~T[23:59:59.999999], ~T[00:00:00.0]]`,
	`[~N[2024-01-02 03:04:05], ~N[-0001-01-02 03:04:05.10], ~U[2024-01-02 03:04:05.000123Z], ~U[2024-01-02 03:04:05Z]]`,
	`dt = %DateTime{year: 2000, month: 2, day: 29, zone_abbr: "CET", hour: 23, minute: 0, second: 7, microsecond: {0, 0},
	  utc_offset: 3600, std_offset: 0, time_zone: "Europe/Warsaw"}
	[dt, %{dt | std_offset: 3600}, %{dt | utc_offset: -3660, microsecond: {120000, 3}}, %{dt | time_zone: "Etc/UTC", zone_abbr: "UTC", utc_offset: 0}]`,
	`[Date.range(~D[2024-01-01], ~D[2024-02-01]), Date.range(~D[2024-01-01], ~D[2024-02-01], 2), Date.range(~D[0001-03-01], ~D[-0001-02-28], -1)]`,
	`[~r/a/, ~r/a\/b/iu, ~r/x/sxfUm, ~r"a/b", ~r/\\\//, ~r/a\x08\\d/u, Regex.compile!("\b\e\d\f"), Regex.compile!("a\n\t/"), ~r//]`,
	// functions
	`[&String.split/1, &:lists.map/2, &:erlang.+/2]`,
	`make_ref()`, `self()`, `hd(Port.list())`,
}

// liveElixirSince15 are the expressions that Elixir 1.14 prints in an older form.
var liveElixirSince15 = []string{
	`[~c"abc", ~c"a\#{\"'", [97, 10], ~c"\a\e", {~c"x", MapSet.new([~c"a"])}]`,
	`["a\u202E", "é\u00A0", "\u200B\u200D\uFEFF\u2028\u2003\u2066"]`,
	`[~r/#{"\\\#{"}x/]`,
	`[[7], ~c"\a\b\t\n\v\f\r\e"]`,
}

func TestFormatAsElixir(t *testing.T) {
	for _, otp := range releases {
		t.Run("otp"+otp, func(t *testing.T) {
			o := startOracle(t, otp, Elixir)
			exprs := liveElixir
			if otp != "25" {
				exprs = append(exprs, liveElixirSince15...)
			}
			for _, expr := range exprs {
				term, text, raw := o.eval("import Bitwise\n" + expr)
				opt := PrintOptions{Syntax: Elixir, Node: nodeOf(term)}
				o.like(opt, term, text, raw)
			}
			// The fun's own node knows its parent.
			term, text, _ := o.eval("fn x -> x end")
			ours := strings.TrimSuffix(Format(term, PrintOptions{Syntax: Elixir}), ">")
			assert.True(t, strings.HasPrefix(text, ours), "%s, not %s", ours, text)
			g := termGen{live: true, noIDs: true, old: otp == "25"}.term(3)
			for seed := range 1500 {
				term, text, raw := o.print(g.Example(seed))
				if !o.like(PrintOptions{Syntax: Elixir}, term, text, raw) {
					break
				}
			}
		})
	}
}

// unreadable says whether t is a function of :. and the like, which no Elixir
// reads.
func unreadable(t Term) bool {
	e, ok := t.(Export)
	return ok && strings.Trim(string(e.Module), ".") == "" && e.Module != ""
}

// Elixir 1.14 reads some of its own texts wrongly.
func TestParseAsElixir(t *testing.T) {
	for _, otp := range releases[1:] {
		t.Run("otp"+otp, func(t *testing.T) {
			o := startOracle(t, otp, Elixir)
			for seed := range 1000 {
				term := termGen{live: true, noIDs: true}.term(3).Example(seed)
				text := Format(term, PrintOptions{Syntax: Elixir})
				if anyTerm(term, unreadable) {
					continue
				}
				got, ok := o.read(text)
				require.True(t, ok, "Elixir does not read %s", text)
				require.True(t, Equal(term, got), "Elixir reads %s as %s", text, Format(got, PrintOptions{Syntax: Elixir}))
				term, theirs, raw := o.print(term)
				for _, s := range []string{theirs, raw} {
					got, err := Parse(s, Elixir)
					require.NoError(t, err, s)
					require.True(t, Equal(term, got), "%s reads as %s", s, Format(got, PrintOptions{Syntax: Elixir}))
				}
			}
		})
	}
}
