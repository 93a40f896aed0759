package etf

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// elixir reads one term in Elixir syntax.
func (p *parser) elixir() (Term, error) {
	start := p.pos
	switch c := p.peek(0); {
	case isDigit(c), c == '-' || c == '+':
		return p.rangeFrom()
	case c == '?':
		return p.character()
	case c == '"':
		p.pos++
		chars, err := p.text(start, quotes{end: '"', code: true})
		return textBinary(chars), err
	case c == '\'':
		p.pos++
		chars, err := p.text(start, quotes{end: '\'', code: true})
		return charlistTerm(chars), err
	case c == '~':
		return p.elixirSigil()
	case c == '[':
		p.pos++
		return p.elixirList()
	case c == '{':
		p.pos++
		return p.elixirTuple()
	case c == '%':
		return p.elixirMap()
	case c == '#':
		return p.hash(map[string]string{"#PID<": "PID", "#Port<": "Port", "#Reference<": "Ref"})
	case p.accept("<<"):
		return p.bits(p.elixirSegment)
	case c == ':':
		return p.colonAtom()
	case c == '&':
		return p.capture()
	case c >= 'A' && c <= 'Z':
		return p.aliasTerm()
	}
	word := p.word()
	switch word {
	case "nil", "true", "false":
		return Atom(word), nil
	case "":
		return nil, p.unexpected("a term")
	}
	return nil, p.fail(start, word+" is a variable or a call", "as an atom it is :"+word)
}

// word reads an identifier.
func (p *parser) word() string {
	start := p.pos
	for p.pos < len(p.src) {
		r, n := utf8.DecodeRuneInString(p.src[p.pos:])
		ok := r < utf8.RuneSelf && asciiWord(byte(r)) || r == '@' && p.pos > start ||
			r >= utf8.RuneSelf && r != utf8.RuneError && unicode.In(r, unicode.L, unicode.Nl, unicode.Mn, unicode.Mc, unicode.Nd)
		if !ok || p.pos == start && (isDigit(byte(r)) && r < utf8.RuneSelf || unicode.IsMark(r)) {
			break
		}
		p.pos += n
	}
	if c := p.peek(0); p.pos > start && (c == '?' || c == '!') && p.peek(1) != '=' {
		p.pos++
	}
	return p.src[start:p.pos]
}

// operator returns the longest operator at pos that is an atom, or "".
func (p *parser) operator() string {
	for n := min(4, len(p.src)-p.pos); n > 0; n-- {
		if op := p.src[p.pos : p.pos+n]; elixirOperators[op] != 0 && !asciiWord(op[0]) {
			return op
		}
	}
	return ""
}

// colonAtom reads :foo, :"foo bar" or :+.
func (p *parser) colonAtom() (Term, error) {
	start := p.pos
	p.pos++
	switch c := p.peek(0); {
	case c == '"' || c == '\'':
		p.pos++
		chars, err := p.text(start, quotes{end: rune(c), code: true})
		if err != nil {
			return nil, err
		}
		return p.textAtom(start, chars)
	case c == '\\':
		if p.accept(`\\`) {
			return Atom(`\\`), nil
		}
	}
	if op := p.operator(); op != "" {
		p.pos += len(op)
		return Atom(op), nil
	}
	word := p.word()
	if word == "" {
		return nil, p.unexpected("an atom")
	}
	return p.atom(start, word)
}

// alias reads Foo.Bar as the atom that it stands for.
func (p *parser) alias() (Atom, error) {
	start := p.pos
	for {
		for asciiWord(p.peek(0)) {
			p.pos++
		}
		if p.peek(0) != '.' || p.peek(1) < 'A' || p.peek(1) > 'Z' {
			break
		}
		p.pos++
	}
	name := p.src[start:p.pos]
	if name != "Elixir" && !strings.HasPrefix(name, "Elixir.") {
		name = "Elixir." + name
	}
	return p.atom(start, name)
}

// aliasTerm reads an alias, or a struct that inspect/2 writes as a call.
func (p *parser) aliasTerm() (Term, error) {
	start := p.pos
	a, err := p.alias()
	if err != nil {
		return nil, err
	}
	switch {
	case a == "Elixir.MapSet" && p.accept(".new("):
		return p.mapSet()
	case a == "Elixir.Date" && p.accept(".range("):
		return p.dateRange(start)
	case p.at("(") || p.at(".") && !p.at(".."):
		return nil, p.unexpected("a literal term; calls are not evaluated")
	}
	return a, nil
}

// elements reads terms up to end, at the end of which there may be keywords,
// returned as pairs, or in a list a tail behind "|".
func (p *parser) elements(end string) (elems []Term, keywords List, tail Term, err error) {
	err = p.list(end, func() error {
		k, ok, err := p.key()
		if err != nil {
			return err
		}
		if !ok && keywords != nil {
			return p.fail(p.pos, "keywords must come last", "")
		}
		v, err := p.term()
		if err != nil {
			return err
		}
		if ok {
			keywords = append(keywords, Tuple{k, v})
			return nil
		}
		elems = append(elems, v)
		p.space()
		if end != "]" || !p.accept("|") {
			return nil
		}
		if tail, err = p.term(); err != nil {
			return err
		}
		if p.space(); !p.at(end) {
			return p.unexpected(end)
		}
		return nil
	})
	return elems, keywords, tail, err
}

func (p *parser) elixirList() (Term, error) {
	elems, keywords, tail, err := p.elements("]")
	if err != nil {
		return nil, err
	}
	return consTail(append(elems, keywords...), tail), nil
}

// elixirTuple reads {…}; keywords at its end are one list.
func (p *parser) elixirTuple() (Term, error) {
	elems, keywords, _, err := p.elements("}")
	if err != nil {
		return nil, err
	}
	if keywords != nil {
		elems = append(elems, keywords)
	}
	return append(Tuple{}, elems...), nil
}

// key reads the key of "key: value" and its colon, if there is one at pos.
func (p *parser) key() (k Atom, ok bool, err error) {
	p.space()
	start := p.pos
	var chars []rune
	operator := false
	if c := p.peek(0); c == '"' || c == '\'' {
		p.pos++
		if chars, err = p.text(start, quotes{end: rune(c), code: true}); err != nil {
			return "", false, err
		}
	} else {
		name := p.word()
		if name == "" {
			// %:foo{} is a struct, %: 1 a key.
			operator = true
			name = p.operator()
			p.pos += len(name)
		}
		if name == "" {
			return "", false, nil
		}
		chars = []rune(name)
	}
	if p.peek(0) != ':' || p.peek(1) == ':' || operator && !spaceByte(p.peek(1)) {
		p.pos = start
		return "", false, nil
	}
	p.pos++
	k, err = p.textAtom(start, chars)
	return k, err == nil, err
}

// elixirMap reads %{…} and %Name{…}.
func (p *parser) elixirMap() (Term, error) {
	p.pos++
	var b mapBuilder
	if !p.at("{") {
		name, err := p.structName()
		if err != nil {
			return nil, err
		}
		b.put(Atom("__struct__"), name)
	}
	if !p.accept("{") {
		return nil, p.unexpected("{")
	}
	if err := p.pairs(&b); err != nil {
		return nil, err
	}
	return b.term(), nil
}

func (p *parser) structName() (Term, error) {
	start := p.pos
	switch c := p.peek(0); {
	case c >= 'A' && c <= 'Z':
		return p.alias()
	case c == ':':
		return p.colonAtom()
	case p.accept("nil"), p.accept("true"), p.accept("false"):
		return Atom(p.src[start:p.pos]), nil
	}
	return nil, p.unexpected("{ or the name of a struct")
}

func (p *parser) pairs(b *mapBuilder) error {
	keywords := false
	return p.list("}", func() error {
		var k Term
		a, ok, err := p.key()
		switch {
		case err != nil:
			return err
		case ok:
			k, keywords = a, true
		case keywords:
			return p.fail(p.pos, "keywords must come last", "")
		default:
			if k, err = p.term(); err != nil {
				return err
			}
			if err := p.expect("=>"); err != nil {
				return err
			}
		}
		v, err := p.term()
		if err != nil {
			return err
		}
		b.put(k, v)
		return nil
	})
}

// capture reads &Mod.fun/arity.
func (p *parser) capture() (Term, error) {
	start := p.pos
	p.pos++
	var e Export
	switch c := p.peek(0); {
	case p.at(":.") && !p.at(":..//."):
		// The last of the dots is the one before the function.
		n := 2
		for p.peek(n) == '.' {
			n++
		}
		e.Module = Atom(p.src[p.pos+1 : p.pos+n-1])
		p.pos += n - 1
		if elixirOperators[string(e.Module)] == atomOther {
			return nil, p.fail(start, "not the name of a module", "")
		}
	case c == ':':
		m, err := p.colonAtom()
		if err != nil {
			return nil, err
		}
		e.Module, _ = m.(Atom)
	case c >= 'A' && c <= 'Z':
		m, err := p.alias()
		if err != nil {
			return nil, err
		}
		e.Module = m
	case p.accept("nil"), p.accept("true"), p.accept("false"):
		e.Module = Atom(p.src[start+1 : p.pos])
	default:
		return nil, p.unexpected("a module, as in &Mod.fun/1")
	}
	if !p.accept(".") {
		return nil, p.unexpected(".")
	}
	name, err := p.callName()
	if err != nil {
		return nil, err
	}
	e.Function = name
	if e.Arity, err = p.arity(); err != nil {
		return nil, err
	}
	return e, nil
}

// callName reads the name of a function behind its module's dot.
func (p *parser) callName() (Atom, error) {
	start := p.pos
	if p.accept(`"`) {
		chars, err := p.text(start, quotes{end: '"', code: true})
		if err != nil {
			return "", err
		}
		return p.textAtom(start, chars)
	}
	if word := p.word(); word != "" {
		return p.atom(start, word)
	}
	op := p.operator()
	if op == "" {
		return "", p.unexpected("the name of a function")
	}
	p.pos += len(op)
	return Atom(op), nil
}

// elixirSegment reads value::spec-spec.
func (p *parser) elixirSegment() (segment, error) {
	p.space()
	s := segment{start: p.pos, size: -1}
	if p.peek(0) == '"' {
		p.pos++
		chars, err := p.text(s.start, quotes{end: '"', code: true})
		if err != nil {
			return s, err
		}
		s.chars = chars
	} else {
		v, err := p.term()
		if err != nil {
			return s, err
		}
		s.value = v
	}
	p.space()
	if !p.accept("::") {
		return s, nil
	}
	for {
		p.space()
		if isDigit(p.peek(0)) || p.accept("size(") {
			call := p.pos > 0 && p.src[p.pos-1] == '('
			n, err := p.unsigned(31)
			if err != nil {
				return s, err
			}
			s.size = int(n)
			if call && !p.accept(")") {
				return s, p.unexpected(")")
			}
		} else if err := p.segmentType(&s, p.word()); err != nil {
			return s, err
		}
		p.space()
		if !p.accept("-") {
			return s, nil
		}
	}
}
