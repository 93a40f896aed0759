package etf

import "strings"

// elixirSigil reads the sigils that stand for literals.
func (p *parser) elixirSigil() (Term, error) {
	start := p.pos
	p.pos++
	kind := p.peek(0)
	if kind == 0 || !strings.ContainsRune("cCsSwWDTNU", rune(kind)) {
		return nil, p.fail(start, "a sigil that is no literal", "these are read: ~c ~s ~w ~D ~T ~N ~U")
	}
	p.pos++
	raw := kind < 'a'
	chars, err := p.sigilText(start, quotes{raw: raw, code: !raw})
	if err != nil {
		return nil, err
	}
	switch kind {
	case 'c', 'C':
		return charlistTerm(chars), nil
	case 's', 'S':
		return textBinary(chars), nil
	case 'w', 'W':
		return p.words(string(textBinary(chars)))
	}
	t, ok := calendarTerm(kind, string(textBinary(chars)))
	if !ok {
		return nil, p.fail(start, "not a date or time of Calendar.ISO", "")
	}
	return t, nil
}

// words splits the text of ~w by white space; the modifier behind it says what
// the words are.
func (p *parser) words(text string) (Term, error) {
	modifier := byte('s')
	if c := p.peek(0); c == 'a' || c == 'c' || c == 's' {
		modifier = c
		p.pos++
	}
	l := List{}
	for _, w := range strings.Fields(text) {
		switch modifier {
		case 'a':
			a, err := p.atom(p.pos, w)
			if err != nil {
				return nil, err
			}
			l = append(l, a)
		case 'c':
			l = append(l, charlistTerm([]rune(w)))
		default:
			l = append(l, Binary(w))
		}
	}
	return l, nil
}

// rangeFrom reads a number, and what makes it a range: ..last//step.
func (p *parser) rangeFrom() (Term, error) {
	first, err := p.plainNumber()
	if err != nil || !isInteger(first) {
		return first, err
	}
	end := p.pos
	p.space()
	if !p.accept("..") {
		p.pos = end
		return first, nil
	}
	last, err := p.integerTerm()
	if err != nil {
		return nil, err
	}
	step := Term(Int(1))
	if compareInts(first, last) > 0 {
		step = Int(-1)
	}
	end = p.pos
	p.space()
	if p.accept("//") {
		at := p.pos
		if step, err = p.integerTerm(); err != nil {
			return nil, err
		}
		if step == Int(0) {
			return nil, p.fail(at, "the step of a range is 0", "")
		}
	} else {
		p.pos = end
	}
	return rangeTerm(first, last, step), nil
}

func (p *parser) plainNumber() (Term, error) {
	if isDigit(p.peek(0)) {
		return p.number(false)
	}
	return p.signed()
}

func (p *parser) integerTerm() (Term, error) {
	p.space()
	start := p.pos
	if c := p.peek(0); !isDigit(c) && c != '-' && c != '+' {
		return nil, p.unexpected("an integer")
	}
	t, err := p.plainNumber()
	if err == nil && !isInteger(t) {
		err = p.fail(start, "the limits of a range are integers", "")
	}
	return t, err
}

// mapSet reads MapSet.new([…]) behind its bracket.
func (p *parser) mapSet() (Term, error) {
	p.space()
	var b mapBuilder
	if !p.at(")") {
		start := p.pos
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		var elems List
		switch l := t.(type) {
		case List:
			elems = l
		case String:
			for i := range len(l) {
				elems = append(elems, Int(l[i]))
			}
		default:
			return nil, p.fail(start, "the elements of a MapSet are a list", "")
		}
		for _, e := range elems {
			b.put(e, List{})
		}
	}
	if err := p.expect(")"); err != nil {
		return nil, err
	}
	return Map{{Atom("__struct__"), Atom("Elixir.MapSet")}, {Atom("map"), b.term()}}, nil
}

// dateRange reads Date.range(first, last, step) behind its bracket.
func (p *parser) dateRange(start int) (Term, error) {
	var args []Term
	err := p.list(")", func() error {
		t, err := p.term()
		args = append(args, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	t, ok := dateRangeTerm(args)
	if !ok {
		return nil, p.fail(start, "not a range of dates", "write Date.range(~D[2024-01-01], ~D[2024-12-31])")
	}
	return t, nil
}
