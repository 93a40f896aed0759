package etf

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

// containsRecord says whether t contains a native record, which has no syntax in
// Elixir.
func containsRecord(t Term) bool {
	return anyTerm(t, func(t Term) bool { _, ok := t.(*Record); return ok })
}

// anyTerm says whether found is true of any term in t.
func anyTerm(t Term, found func(Term) bool) bool {
	if found(t) {
		return true
	}
	var inner []Term
	switch t := t.(type) {
	case List:
		inner = t
	case Tuple:
		inner = t
	case ImproperList:
		inner = append(append(inner, t.Elems...), t.Tail)
	case Map:
		for _, kv := range t {
			inner = append(inner, kv.Key, kv.Value)
		}
	case *Record:
		for _, f := range t.Fields {
			inner = append(inner, f.Value)
		}
	}
	for _, t := range inner {
		if anyTerm(t, found) {
			return true
		}
	}
	return false
}

func TestParseReadsFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		term := termGen{}.term(3).Draw(t, "term")
		for _, o := range []PrintOptions{{}, {NoText: true}, {Width: 20}, {Syntax: Elixir}, {Syntax: Elixir, NoText: true}, {Syntax: Elixir, Width: 20}} {
			if o.Syntax == Elixir && containsRecord(term) {
				continue
			}
			text := Format(term, o)
			got, err := Parse(text, o.Syntax)
			if err != nil {
				t.Fatalf("%s %+v: %v\n%#v", text, o, err, term)
			}
			if !Equal(got, term) {
				t.Fatalf("%s %+v reads as %s\nwant %#v\ngot  %#v", text, o, Format(got, o), term, got)
			}
		}
	})
}

// Whatever is printed cannot drive a terminal.
func TestFormatIsHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		term := termGen{}.term(3).Draw(t, "term")
		for _, s := range []Syntax{Erlang, Elixir} {
			text := Format(term, PrintOptions{Syntax: s})
			if !utf8.ValidString(text) {
				t.Fatalf("%q is not UTF-8", text)
			}
			for _, r := range text {
				if confusing(r) {
					t.Fatalf("%q contains %q", text, r)
				}
			}
		}
	})
}

func TestMaxBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		term := termGen{}.term(3).Draw(t, "term")
		o := PrintOptions{Syntax: Syntax(rapid.IntRange(0, 1).Draw(t, "syntax")), Width: rapid.SampledFrom([]int{0, 0, 1, 20}).Draw(t, "width")}
		full, cut := FormatCut(term, o)
		if cut {
			t.Fatalf("%q was cut without a limit", full)
		}
		o.MaxBytes = rapid.IntRange(1, 200).Draw(t, "max")
		text, cut := FormatCut(term, o)
		if len(text) > o.MaxBytes || !utf8.ValidString(text) {
			t.Fatalf("%q has %d bytes, not %d", text, len(text), o.MaxBytes)
		}
		if got := string(AppendFormat([]byte("dst"), term, o)); got != "dst"+text {
			t.Fatalf("AppendFormat gave %q, Format %q", got, text)
		}
		if !cut {
			if text != full {
				t.Fatalf("%q is said not to be cut, but is not %q", text, full)
			}
			return
		}
		start, ok := strings.CutSuffix(text, ellipsis[:min(o.MaxBytes, 3)])
		if !ok || !strings.HasPrefix(full, start) || len(full) <= o.MaxBytes {
			t.Fatalf("%q is no cut of %q at %d", text, full, o.MaxBytes)
		}
	})
}

func TestMaxDepth(t *testing.T) {
	term := Tuple{Atom("a"), List{Tuple{}, Tuple{Int(1)}}, Map{{Atom("k"), Map{}}}, Binary("text")}
	for _, tt := range []struct {
		depth  int
		syntax Syntax
		want   string
	}{
		{1, Erlang, `{a,[...],#{...},<<"text">>}`},
		{2, Erlang, `{a,[{},{...}],#{k => #{}},<<"text">>}`},
		{3, Erlang, `{a,[{},{1}],#{k => #{}},<<"text">>}`},
		{1, Elixir, `{:a, [...], %{...}, "text"}`},
		{2, Elixir, `{:a, [{}, {...}], %{k: %{}}, "text"}`},
	} {
		text, cut := FormatCut(term, PrintOptions{Syntax: tt.syntax, MaxDepth: tt.depth})
		assert.Equal(t, tt.want, text)
		assert.Equal(t, tt.depth < 3, cut, text)
	}
	s := Map{{Atom("__struct__"), Atom("Elixir.Foo")}, {Atom("set"), Map{{Atom("__struct__"), Atom("Elixir.MapSet")}, {Atom("map"), Map{{Int(1), List{}}}}}}}
	assert.Equal(t, `%Foo{set: MapSet.new([...])}`, Format(s, PrintOptions{Syntax: Elixir, MaxDepth: 1}))
	assert.Equal(t, `[%Foo{...}]`, Format(List{s}, PrintOptions{Syntax: Elixir, MaxDepth: 1}))
}

// A term nested deeper than any stack is cut.
func TestBottomless(t *testing.T) {
	var term Term = Atom("bottom")
	for range 1_000_000 {
		term = Tuple{term}
	}
	for _, o := range []PrintOptions{{}, {Syntax: Elixir}, {Width: 80, MaxBytes: 10_000}} {
		text, cut := FormatCut(term, o)
		assert.True(t, cut)
		assert.Contains(t, text, "...")
	}
}

func TestWidth(t *testing.T) {
	term := Tuple{Atom("state"), List{Int(1), Int(2)}, Map{{Atom("a"), Binary("a longer text")}, {Atom("b"), List{Atom("x"), Atom("y")}}}}
	assert.Equal(t, `{
  state,
  [1,2],
  #{
    a => <<"a longer text">>,
    b => [x,y]
  }
}`, Format(term, PrintOptions{Width: 30}))
	assert.Equal(t, `{
  :state,
  [1, 2],
  %{a: "a longer text", b: [:x, :y]}
}`, Format(term, PrintOptions{Syntax: Elixir, Width: 40}))
	assert.Equal(t, `{:state, [1, 2], %{a: "a longer text", b: [:x, :y]}}`, Format(term, PrintOptions{Syntax: Elixir, Width: 80}))
	assert.Equal(t, "[\n  \"a text beyond the line\"\n]", Format(List{String("a text beyond the line")}, PrintOptions{Width: 20}))
	assert.Equal(t, "[\n  ~c\"a text beyond the line\"\n]", Format(List{String("a text beyond the line")}, PrintOptions{Syntax: Elixir, Width: 20}))
}
