package etf

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// lossyInElixir says whether t prints as something that does not read as t.
func lossyInElixir(t Term) bool {
	if _, ok := t.(*Record); ok {
		return true
	}
	m, _ := t.(Map)
	for _, kv := range m {
		switch kv.Key {
		case Atom("__exception__"), Atom("re_pattern"), Atom("time_zone"), Atom("version"):
			return true
		}
	}
	return false
}

// fuzzParse checks that a text is refused with a place in it, or that what it
// reads as prints in both syntaxes, and reads the same again.
func fuzzParse(f *testing.F, syntax Syntax, cases []parseCase) {
	for _, c := range cases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var pe *ParseError
		term, err := Parse(text, syntax)
		if err != nil {
			if !errors.As(err, &pe) || pe.Offset < 0 || pe.Offset > len(text) || pe.Line < 1 || pe.Column < 1 {
				t.Fatalf("%q: %#v", text, err)
			}
			for _, r := range pe.Pointer(text) + err.Error() {
				if confusing(r) && r != '\n' || r == utf8.RuneError {
					t.Fatalf("%q: %q\n%q", text, err, pe.Pointer(text))
				}
			}
			return
		}
		for _, o := range []Syntax{Erlang, Elixir} {
			if o == Elixir && anyTerm(term, lossyInElixir) {
				continue
			}
			again := Format(term, PrintOptions{Syntax: o})
			got, err := Parse(again, o)
			if errors.As(err, &pe) && strings.Contains(pe.Msg, "nested") {
				continue // what is short in one language is deeper in the other
			}
			if err != nil || !Equal(got, term) {
				t.Fatalf("%q prints as %q, which reads as %#v, %v", text, again, got, err)
			}
		}
		if b, err := Encode(term); err != nil {
			t.Fatalf("%q: %v", text, err)
		} else if got, err := Decode(b, Limits{}); err != nil || !Equal(got, term) {
			t.Fatalf("%q encodes as %x, which decodes as %#v, %v", text, b, got, err)
		}
	})
}

func FuzzParseErlang(f *testing.F) { fuzzParse(f, Erlang, parseErlang) }

func FuzzParseElixir(f *testing.F) { fuzzParse(f, Elixir, parseElixir) }

// FuzzFormat prints whatever decodes.
func FuzzFormat(f *testing.F) {
	for _, cases := range [][]parseCase{parseErlang, parseElixir} {
		for _, c := range cases {
			if b, err := Encode(c.want); err == nil {
				f.Add(b, 40, 5, 20)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, maxBytes, maxDepth, width int) {
		term, err := Decode(b, Limits{MaxCompressed: 1 << 20, MaxElements: 10_000})
		if err != nil {
			return
		}
		for _, s := range []Syntax{Erlang, Elixir} {
			text, cut := FormatCut(term, PrintOptions{Syntax: s, MaxBytes: maxBytes, MaxDepth: maxDepth, Width: width % 200})
			if maxBytes > 0 && len(text) > maxBytes {
				t.Fatalf("%q is longer than %d", text, maxBytes)
			}
			if cut && maxBytes <= 0 && (maxDepth <= 0 || maxDepth >= 10_000) {
				t.Fatalf("%q is cut", text)
			}
			if !utf8.ValidString(text) {
				t.Fatalf("%q is not UTF-8", text)
			}
			for _, r := range text {
				if confusing(r) && (r != '\n' || width <= 0) {
					t.Fatalf("%q contains %q", text, r)
				}
			}
			_, _ = Parse(text, s)
		}
	})
}
