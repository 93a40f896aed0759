package etf

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// maxBits is the size of the largest integer of OTP.
const maxBits = 4194303

// number reads an integer or a float, without its sign.
func (p *parser) number(negative bool) (Term, error) {
	start := p.pos
	base := 10
	if p.syntax == Elixir && p.peek(0) == '0' {
		switch p.peek(1) {
		case 'x':
			base = 16
		case 'o':
			base = 8
		case 'b':
			base = 2
		}
		if base != 10 {
			p.pos += 2
		}
	}
	digits, err := p.digits(base)
	if err != nil {
		return nil, err
	}
	if p.syntax == Erlang && p.peek(0) == '#' {
		n, err := strconv.Atoi(digits)
		if err != nil || n < 2 || n > 36 {
			return nil, p.fail(start, "the base of an integer is 2 to 36", "")
		}
		p.pos++
		base = n
		if digits, err = p.digits(base); err != nil {
			return nil, err
		}
	} else if base == 10 && p.peek(0) == '.' && isDigit(p.peek(1)) {
		return p.float(start, digits, negative)
	}
	if c := p.peek(0); asciiWord(c) {
		return nil, p.unexpected("the end of the number")
	}
	return p.integer(start, digits, base, negative)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// digits reads digits of base, with single "_" between them.
func (p *parser) digits(base int) (string, error) {
	start := p.pos
	under := false
	for {
		c := p.peek(0)
		if c == '_' && p.pos > start && digitValue(p.peek(-1)) < base && digitValue(p.peek(1)) < base {
			under = true
		} else if digitValue(c) >= base {
			break
		}
		p.pos++
	}
	if p.pos == start {
		return "", p.unexpected("a digit of base " + strconv.Itoa(base))
	}
	s := p.src[start:p.pos]
	if under {
		s = strings.ReplaceAll(s, "_", "")
	}
	return s, nil
}

// digitValue returns the value of a digit, or a large number.
func digitValue(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'Z':
		return int(c-'A') + 10
	}
	return 99
}

func (p *parser) integer(start int, digits string, base int, negative bool) (Term, error) {
	if negative {
		digits = "-" + digits
	}
	if i, err := strconv.ParseInt(digits, base, 64); err == nil {
		return Int(i), nil
	}
	// A digit holds at least log2(base) bits; leading zeros cost nothing.
	if significant := strings.TrimLeft(digits, "-0"); float64(len(significant)-1)*math.Log2(float64(base)) > maxBits {
		return nil, p.fail(start, "an integer larger than any node can hold", "")
	}
	i, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return nil, p.fail(start, "not an integer", "")
	}
	if i.IsInt64() {
		return Int(i.Int64()), nil
	}
	return BigInt{i}, nil
}

// float reads the rest of a float, from its point on.
func (p *parser) float(start int, whole string, negative bool) (Term, error) {
	p.pos++
	fraction, err := p.digits(10)
	if err != nil {
		return nil, err
	}
	text := whole + "." + fraction
	if c := p.peek(0); c == 'e' || c == 'E' {
		p.pos++
		text += "e"
		if c := p.peek(0); c == '-' || c == '+' {
			text += string(c)
			p.pos++
		}
		exp, err := p.digits(10)
		if err != nil {
			return nil, err
		}
		text += exp
	}
	if asciiWord(p.peek(0)) {
		return nil, p.unexpected("the end of the number")
	}
	if negative {
		text = "-" + text
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, p.fail(start, "a float out of range", "")
	}
	return Float(f), nil
}

// signed reads a number behind "-" or "+".
func (p *parser) signed() (Term, error) {
	negative := p.peek(0) == '-'
	p.pos++
	p.space()
	if !isDigit(p.peek(0)) {
		if char := p.charMark(); char && p.peek(0) != 0 {
			t, err := p.character()
			if i, ok := t.(Int); ok && negative {
				t = -i
			}
			return t, err
		}
		return nil, p.unexpected("a number")
	}
	return p.number(negative)
}

// charMark says whether a character literal, $a or ?a, stands at pos.
func (p *parser) charMark() bool {
	return p.syntax == Erlang && p.peek(0) == '$' || p.syntax == Elixir && p.peek(0) == '?'
}
