package etf

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A char of a text is a rune, or a byte that \xHH stands for in Elixir, negated:
// a byte in a binary, a character elsewhere.

// textBinary returns the UTF-8 binary of a text.
func textBinary(chars []rune) Binary {
	b := make(Binary, 0, len(chars))
	for _, r := range chars {
		if r < 0 {
			b = append(b, byte(-r))
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// character reads $a or ?a, with escapes.
func (p *parser) character() (Term, error) {
	start := p.pos
	p.pos++
	if p.pos == len(p.src) {
		return nil, p.unexpected("a character")
	}
	if p.peek(0) == '\\' {
		r, ok, err := p.escape()
		if err == nil && !ok {
			err = p.fail(start, "no character behind the backslash", "")
		}
		return Int(max(r, -r)), err
	}
	r, n := utf8.DecodeRuneInString(p.src[p.pos:])
	if r == utf8.RuneError && n == 1 {
		return nil, p.fail(p.pos, "the text is not UTF-8", "")
	}
	p.pos += n
	return Int(r), nil
}

// quotes describes how a quoted text reads.
type quotes struct {
	end  rune
	raw  bool // no escapes but that of the end
	code bool // "#{" is an interpolation
}

// text reads up to the closing quote; pos is behind the opening one.
func (p *parser) text(start int, q quotes) ([]rune, error) {
	var chars []rune
	for {
		rest := p.src[p.pos:]
		if rest == "" {
			return nil, p.fail(start, "the text that begins here has no closing "+string(q.end), "")
		}
		r, n := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			return nil, p.fail(p.pos, "the text is not UTF-8", "")
		case r == q.end:
			p.pos += n
			return chars, nil
		case r == '\\' && q.raw:
			if next, m := utf8.DecodeRuneInString(rest[n:]); m > 0 && next == q.end {
				r, n = next, n+m
			}
		case r == '\\':
			r, ok, err := p.escape()
			if err != nil {
				return nil, err
			}
			if ok {
				chars = append(chars, r)
			}
			continue
		case r == '#' && q.code && strings.HasPrefix(rest, "#{"):
			return nil, p.fail(p.pos, "an interpolation is code", `write \#{ for the characters #{`)
		}
		chars = append(chars, r)
		p.pos += n
	}
}

// escape reads an escape at its backslash. ok is false for one that stands for
// no character: an escaped line break in Elixir.
func (p *parser) escape() (r rune, ok bool, err error) {
	start := p.pos
	p.pos++
	if p.pos == len(p.src) {
		return 0, false, p.unexpected("an escaped character")
	}
	c := p.peek(0)
	if p.syntax == Elixir {
		switch {
		case c == '\n':
			p.pos++
			return 0, false, nil
		case c == '\r' && p.peek(1) == '\n':
			p.pos += 2
			return 0, false, nil
		case c == '0':
			p.pos++
			return 0, true, nil
		case c == 'a':
			p.pos++
			return '\a', true, nil
		case c == 'u':
			p.pos++
			r, err = p.hexEscape(start, 4)
			return r, true, err
		}
	}
	switch {
	case c == 'x':
		p.pos++
		braces := p.peek(0) == '{'
		r, err = p.hexEscape(start, 2)
		if p.syntax == Elixir && !braces && r >= utf8.RuneSelf {
			r = -r
		}
		return r, true, err
	case p.syntax == Erlang && c >= '0' && c <= '7':
		n := 1
		for n < 3 && p.peek(n) >= '0' && p.peek(n) <= '7' {
			n++
		}
		v, _ := strconv.ParseUint(p.src[p.pos:p.pos+n], 8, 32)
		p.pos += n
		return rune(v), true, nil
	case p.syntax == Erlang && c == '^' && p.peek(1) >= '@' && p.peek(1) <= '_':
		r = rune(p.peek(1)) & 31
		p.pos += 2
		return r, true, nil
	}
	if i := strings.IndexByte("bdefnrstv", c); i >= 0 {
		p.pos++
		return rune("\b\x7f\x1b\f\n\r \t\v"[i]), true, nil
	}
	r, n := utf8.DecodeRuneInString(p.src[p.pos:])
	if r == utf8.RuneError && n == 1 {
		return 0, false, p.fail(p.pos, "the text is not UTF-8", "")
	}
	p.pos += n
	return r, true, nil
}

// hexEscape reads digits hexadecimal digits, or any number of them in braces.
func (p *parser) hexEscape(start, digits int) (rune, error) {
	end := p.pos + digits
	text := ""
	if p.accept("{") {
		n := strings.IndexByte(p.src[p.pos:], '}')
		if n < 0 {
			return 0, p.fail(start, "the escape has no closing }", "")
		}
		text = p.src[p.pos : p.pos+n]
		end = p.pos + n + 1
	} else if end <= len(p.src) {
		text = p.src[p.pos:end]
	}
	v, err := strconv.ParseUint(text, 16, 32)
	if err != nil || !utf8.ValidRune(rune(v)) || v > utf8.MaxRune {
		return 0, p.fail(start, "the escape is no character", fmt.Sprintf("write \\%c with %d hexadecimal digits, or any in braces", p.src[start+1], digits))
	}
	p.pos = end
	return rune(v), nil
}
