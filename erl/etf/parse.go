package etf

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseError says where and why a text is no term.
type ParseError struct {
	Offset int    // bytes before the offending character
	Line   int    // from 1
	Column int    // from 1, in characters
	Msg    string // "unexpected }"; harmless to print, like Hint
	Hint   string // what to write instead; may be empty
}

func (e *ParseError) Error() string {
	var b strings.Builder
	b.WriteString("parse term: ")
	if e.Line > 1 {
		fmt.Fprintf(&b, "line %d, ", e.Line)
	}
	fmt.Fprintf(&b, "column %d: %s", e.Column, e.Msg)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// pointerWidth is how much of a line Pointer shows.
const pointerWidth = 72

// Pointer returns two lines that show where in src, the text that was parsed,
// the error is: the line, or the part of it around the error, and a caret below
// the place.
func (e *ParseError) Pointer(src string) string {
	start := strings.LastIndexByte(src[:min(e.Offset, len(src))], '\n') + 1
	line, _, _ := strings.Cut(src[start:], "\n")
	var shown, below []rune
	column := 1
	for _, r := range line {
		if column > e.Column-pointerWidth/2 && column <= e.Column+pointerWidth/2 {
			shown = append(shown, harmless(r))
			if column < e.Column {
				below = append(below, ' ')
			}
		}
		column++
	}
	return string(shown) + "\n" + string(below) + "^"
}

// Parse reads one literal term: everything that Format prints, except funs
// with code (#Fun<…>, #Function<…>), regular expressions, what was cut, and in
// Elixir syntax native records and times of other zones than UTC. It evaluates
// nothing: variables, calls and interpolation are errors.
//
// Pids, ports and references get the node that they were printed with, "" if
// they are local, and Creation 0. A list in the compact form of Erlang's
// strings is a String if it can be one. Of equal keys of a map the last one
// counts. A native record is read as exported.
//
// A short text makes no large term: at most 1000 terms may be nested, the sizes
// of a binary's segments may add up to 128 KiB, and an integer has at most
// 4,194,303 bits.
//
// The error is a *ParseError.
func Parse(s string, syntax Syntax) (Term, error) {
	p := &parser{src: s, syntax: syntax}
	t, err := p.whole()
	if err != nil {
		return nil, err
	}
	return t, nil
}

// parseDepth is how many terms may be nested in a text.
const parseDepth = 1000

// parser reads src from pos on. Each method that reads something expects it
// at pos and leaves pos behind it.
type parser struct {
	src    string
	pos    int
	syntax Syntax
	depth  int
	sized  int // bits that segments with a size asked for so far
}

// whole reads a term and what may follow it.
func (p *parser) whole() (Term, error) {
	t, err := p.term()
	if err != nil {
		return nil, err
	}
	p.space()
	if p.syntax == Erlang && p.accept(".") {
		p.space()
	}
	if p.pos < len(p.src) {
		return nil, p.unexpected("the end of the term")
	}
	return t, nil
}

// term reads one term, with the space before it.
func (p *parser) term() (Term, error) {
	p.space()
	if p.pos == len(p.src) {
		return nil, p.fail(p.pos, "the text ends where a term is expected", "")
	}
	if p.depth == parseDepth {
		return nil, p.fail(p.pos, fmt.Sprintf("more than %d nested terms", parseDepth), "")
	}
	p.depth++
	defer func() { p.depth-- }()
	if p.syntax == Elixir {
		return p.elixir()
	}
	return p.erlang()
}

// fail returns the error at offset.
func (p *parser) fail(offset int, msg, hint string) error {
	before := p.src[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return &ParseError{
		Offset: offset,
		Line:   strings.Count(before, "\n") + 1,
		Column: utf8.RuneCountInString(before[start:]) + 1,
		Msg:    strings.Map(harmless, msg),
		Hint:   strings.Map(harmless, hint),
	}
}

// harmless returns r, or "?" if it could drive a terminal.
func harmless(r rune) rune {
	if confusing(r) || r == utf8.RuneError {
		return '?'
	}
	return r
}

// unexpected returns the error that something else than want is at pos.
func (p *parser) unexpected(want string) error {
	if p.pos >= len(p.src) {
		return p.fail(len(p.src), "the text ends where "+want+" is expected", "")
	}
	r, _ := utf8.DecodeRuneInString(p.src[p.pos:])
	hint := ""
	if strings.HasPrefix(p.src[p.pos:], ellipsis) {
		hint = "a text that was cut cannot be read back"
	}
	return p.fail(p.pos, "unexpected "+showRune(r)+", expected "+want, hint)
}

// showRune writes r so that it is safe to print.
func showRune(r rune) string {
	if harmless(r) != r {
		return fmt.Sprintf("U+%04X", r)
	}
	return string(r)
}

// space skips white space and comments.
func (p *parser) space() {
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case spaceByte(c):
			p.pos++
		case p.syntax == Erlang && c == '%', p.syntax == Elixir && c == '#' && !p.hashName():
			end := strings.IndexByte(p.src[p.pos:], '\n')
			if end < 0 {
				end = len(p.src) - p.pos
			}
			p.pos += end
		default:
			return
		}
	}
}

func spaceByte(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// hashName says whether #Name< stands at pos, which is no comment in Elixir.
func (p *parser) hashName() bool {
	rest := p.src[p.pos+1:]
	n := 0
	for n < len(rest) && (asciiWord(rest[n]) || rest[n] == '.') {
		n++
	}
	return n > 0 && n < len(rest) && rest[n] == '<' && rest[0] >= 'A' && rest[0] <= 'Z'
}

// peek returns the byte at pos+n, or 0 behind the end.
func (p *parser) peek(n int) byte {
	if p.pos+n < len(p.src) {
		return p.src[p.pos+n]
	}
	return 0
}

func (p *parser) at(s string) bool { return strings.HasPrefix(p.src[p.pos:], s) }

// accept skips s if it stands at pos.
func (p *parser) accept(s string) bool {
	if !p.at(s) {
		return false
	}
	p.pos += len(s)
	return true
}

// expect skips white space and s.
func (p *parser) expect(s string) error {
	p.space()
	if !p.accept(s) {
		return p.unexpected(s)
	}
	return nil
}

// list reads terms separated by commas up to end. each reads one of them.
func (p *parser) list(end string, each func() error) error {
	p.space()
	if p.accept(end) {
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		p.space()
		if p.accept(end) {
			return nil
		}
		if !p.accept(",") {
			return p.unexpected("\",\" or \"" + end + "\"")
		}
	}
}

// textAtom returns a quoted atom that begins at offset.
func (p *parser) textAtom(offset int, chars []rune) (Atom, error) {
	for i, r := range chars {
		chars[i] = max(r, -r)
	}
	return p.atom(offset, string(chars))
}

// atom checks the length of an atom that begins at offset.
func (p *parser) atom(offset int, s string) (Atom, error) {
	if utf8.RuneCountInString(s) > 255 {
		return "", p.fail(offset, "an atom of more than 255 characters", "")
	}
	if !utf8.ValidString(s) {
		return "", p.fail(offset, "an atom that is not UTF-8", "")
	}
	return Atom(s), nil
}

// charlistTerm returns the list of the characters of s.
func charlistTerm(chars []rune) Term {
	bytes := make([]byte, 0, len(chars))
	for i, r := range chars {
		r = max(r, -r)
		chars[i] = r
		if r > 0xff || len(chars) > 0xffff {
			l := make(List, len(chars))
			for i, r := range chars {
				l[i] = Int(max(r, -r))
			}
			return l
		}
		bytes = append(bytes, byte(r))
	}
	if len(bytes) == 0 {
		return List{}
	}
	return String(bytes)
}
