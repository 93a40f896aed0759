package etf

import (
	"math/big"
	"strings"
	"unicode/utf8"
)

// This file knows the structs of Elixir, besides the calendar's, that
// inspect/2 prints in a form of their own.

// sugar writes s as inspect/2 does if it is such a struct and well-formed.
func (p *printer) sugar(s elixirStruct) bool {
	if text, ok := calendarText(s); ok {
		p.put(text)
		return true
	}
	switch s.name {
	case "Elixir.Range":
		return p.rangeSugar(s)
	case "Elixir.MapSet":
		return p.mapSetSugar(s)
	case "Elixir.Date.Range":
		return p.dateRangeSugar(s)
	case "Elixir.Regex":
		return p.regexSugar(s)
	}
	return false
}

func isInteger(t Term) bool {
	switch t := t.(type) {
	case Int:
		return true
	case BigInt:
		return t.Int != nil
	}
	return false
}

// compareInts compares two integers.
func compareInts(a, b Term) int {
	x, y := a, b
	if i, ok := x.(Int); ok {
		if j, ok := y.(Int); ok {
			switch {
			case i < j:
				return -1
			case i > j:
				return 1
			}
			return 0
		}
	}
	return toBig(a).Cmp(toBig(b))
}

func toBig(t Term) *big.Int {
	if i, ok := t.(Int); ok {
		return big.NewInt(int64(i))
	}
	return t.(BigInt).Int
}

func (p *printer) rangeSugar(s elixirStruct) bool {
	v, ok := fieldsOf(s.fields, "first", "last", "step")
	if !ok || !isInteger(v[0]) || !isInteger(v[1]) || !isInteger(v[2]) || v[2] == Int(0) {
		return false
	}
	p.term(v[0])
	p.put("..")
	p.term(v[1])
	if v[2] != Int(1) || compareInts(v[0], v[1]) > 0 {
		p.put("//")
		p.term(v[2])
	}
	return true
}

func rangeTerm(first, last, step Term) Term {
	return Map{{Atom("__struct__"), Atom("Elixir.Range")}, {Atom("first"), first}, {Atom("last"), last}, {Atom("step"), step}}
}

// mapSetSugar writes MapSet.new([…]). Up to Elixir 1.14 the struct had a
// version.
func (p *printer) mapSetSugar(s elixirStruct) bool {
	v, ok := fieldsOf(s.fields, "map")
	if !ok {
		v, ok = fieldsOf(s.fields, "map", "version")
	}
	if !ok {
		return false
	}
	set, ok := v[0].(Map)
	if !ok || len(v) > 1 && v[1] != Int(2) {
		return false
	}
	for _, kv := range set[:p.look(len(set))] {
		if l, ok := kv.Value.(List); !ok || len(l) > 0 {
			return false
		}
	}
	p.put("MapSet.new(")
	elems := make(List, p.look(len(set)))
	for i := range elems {
		elems[i] = set[i].Key
	}
	lists := p.lists
	p.lists = true
	p.elixirList(elems)
	p.lists = lists
	p.put(")")
	return true
}

func (p *printer) dateRangeSugar(s elixirStruct) bool {
	v, ok := fieldsOf(s.fields, "first", "last", "step", "first_in_iso_days", "last_in_iso_days")
	if !ok || !isInteger(v[2]) {
		return false
	}
	first, ok := dateOf(v[0])
	last, ok2 := dateOf(v[1])
	if !ok || !ok2 || v[3] != isoDays(v[0].(Map)) || v[4] != isoDays(v[1].(Map)) {
		return false
	}
	p.put("Date.range(" + first + ", " + last)
	if v[2] != Int(1) || compareInts(v[3], v[4]) > 0 {
		p.put(", ")
		p.term(v[2])
	}
	p.put(")")
	return true
}

// dateOf returns the text of a Date.
func dateOf(t Term) (string, bool) {
	m, ok := t.(Map)
	if !ok || len(m) != 5 {
		return "", false
	}
	s, ok := structOf(m)
	if !ok || s.name != "Elixir.Date" {
		return "", false
	}
	return calendarText(s)
}

// dateRangeTerm returns the Date.Range of two dates and possibly a step.
func dateRangeTerm(args []Term) (Term, bool) {
	if len(args) < 2 || len(args) > 3 {
		return nil, false
	}
	for _, t := range args[:2] {
		if _, ok := dateOf(t); !ok {
			return nil, false
		}
	}
	first, last := isoDays(args[0].(Map)), isoDays(args[1].(Map))
	step := Term(Int(1))
	switch {
	case len(args) == 3:
		step = args[2]
	case first > last:
		step = Int(-1)
	}
	if !isInteger(step) || step == Int(0) {
		return nil, false
	}
	return Map{{Atom("__struct__"), Atom("Elixir.Date.Range")},
		{Atom("first"), args[0]}, {Atom("last"), args[1]}, {Atom("step"), step},
		{Atom("first_in_iso_days"), first}, {Atom("last_in_iso_days"), last}}, true
}

// isoDays returns the days from 0000-01-01 to a Date.
func isoDays(date Map) Int {
	var y, m, d Int
	for _, kv := range date {
		switch kv.Key {
		case Atom("year"):
			y = kv.Value.(Int)
		case Atom("month"):
			m = kv.Value.(Int)
		case Atom("day"):
			d = kv.Value.(Int)
		}
	}
	// Years count from March, so that the leap day is the last of them; an
	// era of 400 of them has 146,097 days.
	if m <= 2 {
		y, m = y-1, m+12
	}
	era := y / 400
	if y%400 < 0 {
		era--
	}
	y -= era * 400
	return era*146097 + y*365 + y/4 - y/100 + (153*(m-3)+2)/5 + d - 1 + 60
}

// regexSugar writes ~r/…/ims.
func (p *printer) regexSugar(s elixirStruct) bool {
	v, ok := fieldsOf(s.fields, "source", "opts", "re_pattern", "re_version")
	if !ok {
		v, ok = fieldsOf(s.fields, "source", "opts", "re_pattern")
	}
	if !ok {
		return false
	}
	source, ok := v[0].(Binary)
	if !ok {
		return false
	}
	modifiers, ok := regexModifiers(v[1])
	if !ok {
		return false
	}
	p.put("~r/")
	p.regexSource(unescapeSlashes(source))
	p.put("/" + modifiers)
	return true
}

// regexSource writes the source of a regular expression between slashes. A
// backslash is part of it, not an escape.
func (p *printer) regexSource(source []byte) {
	for i := 0; i < len(source) && !p.full; {
		r, n := utf8.DecodeRune(source[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			p.badByte(source[i])
		case r == '\\':
			p.putByte('\\')
		case r == '\b' || r == 0x1b || r == 0x7f:
			p.put(`\x` + hexUpper(r, 2))
		default:
			p.char(r, '/', i+1 < len(source) && source[i+1] == '{')
		}
		i += n
	}
}

// unescapeSlashes removes the backslash before a slash or an interpolation,
// which writing the source as a sigil adds again.
func unescapeSlashes(source []byte) []byte {
	out := make([]byte, 0, len(source))
	for i := 0; i < len(source); i++ {
		rest := source[i:]
		switch {
		case len(rest) > 1 && rest[0] == '\\' && rest[1] == '\\':
			out = append(out, '\\', '\\')
			i++
		case len(rest) > 1 && rest[0] == '\\' && rest[1] == '/':
		case len(rest) > 2 && rest[0] == '\\' && rest[1] == '#' && rest[2] == '{':
		default:
			out = append(out, rest[0])
		}
	}
	return out
}

// regexModifiers returns the letters for the options of a regular expression:
// a binary of them up to Elixir 1.14, a list of re's options later. They come
// out in reverse order, as from inspect/2.
func regexModifiers(opts Term) (string, bool) {
	if b, ok := opts.(Binary); ok {
		return string(b), strings.Trim(string(b), "uismxfUrE") == ""
	}
	l, ok := opts.(List)
	if !ok {
		return "", false
	}
	letters := map[Term]string{
		Atom("caseless"): "i", Atom("extended"): "x", Atom("firstline"): "f",
		Atom("ungreedy"): "U", Atom("multiline"): "m", Atom("export"): "E",
	}
	out := ""
	for i := 0; i < len(l); i++ {
		a, ok := l[i].(Atom)
		if !ok {
			return "", false
		}
		var next Term
		if i+1 < len(l) {
			next = l[i+1]
		}
		switch {
		case a == "unicode" && next == Atom("ucp"):
			out = "u" + out
			i++
		case a == "dotall" && isNewlineOption(next):
			out = "s" + out
			i++
		case letters[a] != "":
			out = letters[a] + out
		default:
			return "", false
		}
		if len(out) > 16 {
			return "", false
		}
	}
	return out, true
}

// isNewlineOption says whether t is {newline, anycrlf}.
func isNewlineOption(t Term) bool {
	kv, ok := t.(Tuple)
	return ok && len(kv) == 2 && kv[0] == Atom("newline") && kv[1] == Atom("anycrlf")
}
