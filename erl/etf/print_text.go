package etf

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// textLook is how much of a binary or list is at least looked at to find out
// whether it is text. More is, as far as it would be printed.
const textLook = 64 << 10

// confusing says whether r could drive a terminal or mislead its reader:
// controls, format characters such as bidirectional overrides, separators and
// spaces other than the ASCII one, noncharacters, surrogates.
func confusing(r rune) bool {
	switch {
	case r < 0x20, r == 0x7f:
		return true
	case r < 0x7f:
		return false
	case r == 0x034f, r >= 0xfff9 && r <= 0xfffc, r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
		return true
	}
	return !utf8.ValidRune(r) ||
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Zs)
}

// erlangPrintable is io_lib:printable_unicode_list/1 for one character.
func erlangPrintable(r rune) bool {
	switch {
	case r >= ' ' && r <= '~', r >= '\b' && r <= '\r', r == 0x1b:
		return true
	case r < 0xa0, r >= 0xd800 && r <= 0xdfff, r == 0xfffe, r == 0xffff:
		return false
	}
	return r <= unicode.MaxRune
}

// elixirPrintable is String.printable?/1 for one character.
func elixirPrintable(r rune) bool {
	switch {
	case r >= ' ' && r <= 0x7f, r >= '\a' && r <= '\r', r == 0x1b:
		return true
	case r < 0xa0, r >= 0xd800 && r <= 0xdfff, r == 0xfffe, r == 0xffff:
		return false
	}
	return r <= unicode.MaxRune
}

// charlistPrintable is List.ascii_printable?/1 for one character.
func charlistPrintable(r rune) bool {
	return r >= ' ' && r <= '~' || r >= '\a' && r <= '\r' || r == 0x1b
}

// textKind is what a binary looks like.
type textKind uint8

const (
	notText   textKind = iota // other bytes
	notUTF8                   // not UTF-8 at all
	asciiText                 // printable ASCII
	utf8Text                  // printable UTF-8
)

// kindOf classifies b, or as much of it as can be printed.
func (p *printer) kindOf(b []byte, printable func(rune) bool) textKind {
	part := b[:p.look(len(b))]
	cut := len(part) < len(b)
	kind := asciiText
	for len(part) > 0 {
		r, n := utf8.DecodeRune(part)
		if r == utf8.RuneError && n == 1 {
			if cut && !utf8.FullRune(part) {
				break
			}
			return notUTF8
		}
		if !printable(r) {
			return notText
		}
		if n > 1 {
			kind = utf8Text
		}
		part = part[n:]
	}
	return kind
}

// look is how many of n bytes or elements decide whether they are text.
func (p *printer) look(n int) int { return min(n, max(textLook, p.room())) }

// latin1Text says whether every byte of b is a printable character.
func latin1Text[T ~string | ~[]byte](b T, printable func(rune) bool) bool {
	for i := 0; i < len(b); i++ {
		if !printable(rune(b[i])) {
			return false
		}
	}
	return true
}

// charlist says whether l is a list of printable characters.
func charlist(l List, printable func(rune) bool) bool {
	for _, t := range l {
		i, ok := t.(Int)
		if !ok || i < 0 || i > unicode.MaxRune || !printable(rune(i)) {
			return false
		}
	}
	return true
}

// tooWide ends a trial early when n characters cannot fit.
func (p *printer) tooWide(n int) bool {
	if p.trial && n > p.room() {
		p.full = true
	}
	return p.full
}

// utf8 writes the UTF-8 text s between quotes.
func (p *printer) utf8(s []byte, quote byte) {
	for len(s) > 0 && !p.full {
		r, n := utf8.DecodeRune(s)
		if r == utf8.RuneError && n == 1 {
			p.badByte(s[0])
		} else {
			p.char(r, quote, n < len(s) && s[n] == '{')
		}
		s = s[n:]
	}
}

// badByte writes a byte that is not UTF-8. It occurs only in an Atom that no
// node sent.
func (p *printer) badByte(b byte) {
	const hex = "0123456789ABCDEF"
	if p.Syntax == Elixir {
		p.put(string([]byte{'\\', 'x', hex[b>>4], hex[b&15]}))
		return
	}
	p.put(string([]byte{'\\', 'x', '{', hex[b>>4], hex[b&15], '}'}))
}

// latin1 writes bytes that are characters.
func latin1[T ~string | ~[]byte](p *printer, s T, quote byte) {
	for i := 0; i < len(s) && !p.full; i++ {
		p.char(rune(s[i]), quote, i+1 < len(s) && s[i+1] == '{')
	}
}

// char writes one character of a quoted text, escaped if it must be. brace
// says that "{" follows, which makes "#" an interpolation in Elixir.
func (p *printer) char(r rune, quote byte, brace bool) {
	switch {
	case r == rune(quote) || r == '\\':
		p.put(string([]byte{'\\', byte(r)}))
	case r == '#' && brace && p.Syntax == Elixir:
		p.put(`\#`)
	case !confusing(r):
		p.put(string(r))
	case p.Syntax == Elixir:
		p.put(elixirEscape(r))
	default:
		p.put(erlangEscape(r))
	}
}

func erlangEscape(r rune) string {
	switch r {
	case '\b':
		return `\b`
	case '\t':
		return `\t`
	case '\n':
		return `\n`
	case '\v':
		return `\v`
	case '\f':
		return `\f`
	case '\r':
		return `\r`
	case 0x1b:
		return `\e`
	case 0x7f:
		return `\d`
	}
	if r >= 0 && r < 0xa0 {
		return string([]byte{'\\', '0' + byte(r>>6), '0' + byte(r>>3&7), '0' + byte(r&7)})
	}
	return `\x{` + hexUpper(r, 1) + `}`
}

func elixirEscape(r rune) string {
	switch {
	case r == 0:
		return `\0`
	case r == '\a':
		return `\a`
	case r >= '\b' && r <= '\r' || r == 0x1b || r == 0x7f:
		return erlangEscape(r)
	case r < 0x80:
		return `\x` + hexUpper(r, 2)
	case r < 0x10000:
		return `\u` + hexUpper(r, 4)
	}
	return `\u{` + hexUpper(r, 1) + `}`
}

func hexUpper(r rune, width int) string {
	s := strconv.FormatUint(uint64(uint32(r)), 16)
	b := make([]byte, 0, 8)
	for range width - len(s) {
		b = append(b, '0')
	}
	for _, c := range []byte(s) {
		if c >= 'a' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
	}
	return string(b)
}
