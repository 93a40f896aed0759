package etf

import (
	"strings"
	"unicode/utf8"
)

// erlang reads one term in Erlang syntax.
func (p *parser) erlang() (Term, error) {
	start := p.pos
	switch c := p.peek(0); {
	case isDigit(c):
		return p.number(false)
	case c == '-' || c == '+':
		return p.signed()
	case c == '$':
		return p.character()
	case c == '"':
		return p.erlangText()
	case c == '~':
		return p.erlangSigil()
	case c == '[':
		p.pos++
		return p.erlangList()
	case c == '{':
		p.pos++
		t := Tuple{}
		err := p.list("}", func() error {
			e, err := p.term()
			t = append(t, e)
			return err
		})
		return t, err
	case p.accept("#{"):
		return p.erlangMap()
	case c == '#':
		return p.erlangHash()
	case p.accept("<<"):
		return p.bits(p.erlangSegment)
	case p.accept("<"):
		return p.identifier("PID")
	case c == '_' || c >= 'A' && c <= 'Z':
		w := p.erlangWord()
		return nil, p.fail(start, w+" is a variable", "as an atom it is '"+w+"'")
	}
	a, err := p.erlangAtom()
	if err != nil {
		return nil, err
	}
	if a == "fun" && p.src[start] != '\'' {
		return p.erlangFun()
	}
	if p.src[start] != '\'' && erlangReserved[string(a)] && a != "maybe" && a != "else" && a != "cond" && a != "let" {
		return nil, p.fail(start, string(a)+" is a reserved word", "as an atom it is '"+string(a)+"'")
	}
	if p.at("(") || p.at(":") {
		return nil, p.unexpected("a literal term; calls are not evaluated")
	}
	return a, nil
}

// erlangWord reads the characters of an unquoted atom or variable.
func (p *parser) erlangWord() string {
	start := p.pos
	for p.pos < len(p.src) {
		r, n := utf8.DecodeRuneInString(p.src[p.pos:])
		if r >= utf8.RuneSelf && (r < 'À' || r > 'ÿ' || r == '×' || r == '÷') ||
			r < utf8.RuneSelf && !asciiWord(byte(r)) && r != '@' {
			break
		}
		p.pos += n
	}
	return p.src[start:p.pos]
}

// erlangAtom reads an atom with or without quotes.
func (p *parser) erlangAtom() (Atom, error) {
	start := p.pos
	if p.accept("'") {
		chars, err := p.text(start, quotes{end: '\''})
		if err != nil {
			return "", err
		}
		return p.textAtom(start, chars)
	}
	r, _ := utf8.DecodeRuneInString(p.src[p.pos:])
	if r < 'a' || r > 'z' && r < 'ß' || r > 'ÿ' || r == '÷' {
		return "", p.unexpected("a term")
	}
	return p.atom(start, p.erlangWord())
}

// erlangText reads strings that stand beside each other as one.
func (p *parser) erlangText() (Term, error) {
	var all []rune
	for {
		start := p.pos
		p.pos++
		chars, err := p.text(start, quotes{end: '"'})
		if err != nil {
			return nil, err
		}
		all = append(all, chars...)
		end := p.pos
		p.space()
		if p.peek(0) != '"' {
			p.pos = end
			return charlistTerm(all), nil
		}
	}
}

// erlangSigil reads ~"…" and its relatives of OTP 27.
func (p *parser) erlangSigil() (Term, error) {
	start := p.pos
	p.pos++
	kind := byte('b')
	if c := p.peek(0); strings.IndexByte("bBsS", c) >= 0 && c != 0 {
		kind = c
		p.pos++
	}
	chars, err := p.sigilText(start, quotes{raw: kind < 'a'})
	if err != nil {
		return nil, err
	}
	if kind == 's' || kind == 'S' {
		return charlistTerm(chars), nil
	}
	return Binary(string(chars)), nil
}

// sigilText reads a text between the delimiters of a sigil.
func (p *parser) sigilText(start int, q quotes) ([]rune, error) {
	open := p.peek(0)
	switch {
	case open == '(':
		q.end = ')'
	case open == '[':
		q.end = ']'
	case open == '{':
		q.end = '}'
	case open == '<':
		q.end = '>'
	case open != 0 && strings.IndexByte("\"'/|", open) >= 0:
		q.end = rune(open)
	default:
		return nil, p.unexpected("the delimiter of a sigil")
	}
	p.pos++
	return p.text(start, q)
}

func (p *parser) erlangList() (Term, error) {
	var elems []Term
	var tail Term
	err := p.list("]", func() error {
		e, err := p.term()
		if err != nil {
			return err
		}
		elems = append(elems, e)
		p.space()
		if !p.accept("|") {
			return nil
		}
		if tail, err = p.term(); err != nil {
			return err
		}
		if p.space(); !p.at("]") {
			return p.unexpected("]")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return consTail(elems, tail), nil
}

// consTail puts elems before tail; nil stands for the empty list.
func consTail(elems []Term, tail Term) Term {
	switch t := tail.(type) {
	case nil:
	case List:
		elems = append(elems, t...)
	case String:
		for i := range len(t) {
			elems = append(elems, Int(t[i]))
		}
	case ImproperList:
		return ImproperList{Elems: append(elems, t.Elems...), Tail: t.Tail}
	default:
		return ImproperList{Elems: elems, Tail: tail}
	}
	if elems == nil {
		return List{}
	}
	return List(elems)
}

func (p *parser) erlangMap() (Term, error) {
	var b mapBuilder
	err := p.list("}", func() error {
		k, err := p.term()
		if err != nil {
			return err
		}
		if err := p.expect("=>"); err != nil {
			return err
		}
		v, err := p.term()
		if err != nil {
			return err
		}
		b.put(k, v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.term(), nil
}

// erlangFun reads fun m:f/a behind "fun".
func (p *parser) erlangFun() (Term, error) {
	var e Export
	var err error
	p.space()
	if e.Module, err = p.erlangAtom(); err != nil {
		return nil, err
	}
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	p.space()
	if e.Function, err = p.erlangAtom(); err != nil {
		return nil, err
	}
	if e.Arity, err = p.arity(); err != nil {
		return nil, err
	}
	return e, nil
}

// erlangHash reads #Port<…>, #Ref<…> or the native record #mod:name{…}.
func (p *parser) erlangHash() (Term, error) {
	if c := p.peek(1); c >= 'A' && c <= 'Z' {
		return p.hash(map[string]string{"#Port<": "Port", "#Ref<": "Ref"})
	}
	p.pos++
	r := &Record{Exported: true}
	var err error
	if r.Module, err = p.erlangAtom(); err != nil {
		return nil, err
	}
	if !p.accept(":") {
		return nil, p.unexpected(":")
	}
	if r.Name, err = p.erlangAtom(); err != nil {
		return nil, err
	}
	if !p.accept("{") {
		return nil, p.unexpected("{")
	}
	err = p.list("}", func() error {
		f := Field{}
		p.space()
		if f.Name, err = p.erlangAtom(); err != nil {
			return err
		}
		if err := p.expect("="); err != nil {
			return err
		}
		f.Value, err = p.term()
		r.Fields = append(r.Fields, f)
		return err
	})
	return r, err
}

// arity reads /N.
func (p *parser) arity() (uint8, error) {
	if err := p.expect("/"); err != nil {
		return 0, err
	}
	p.space()
	n, err := p.unsigned(8)
	return uint8(n), err
}

// erlangSegment reads value:size/types.
func (p *parser) erlangSegment() (segment, error) {
	p.space()
	s := segment{start: p.pos, size: -1}
	if p.peek(0) == '"' {
		p.pos++
		chars, err := p.text(s.start, quotes{end: '"'})
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
	if p.accept(":") {
		p.space()
		size, err := p.unsigned(31)
		if err != nil {
			return s, err
		}
		s.size = int(size)
		p.space()
	}
	if !p.accept("/") {
		return s, nil
	}
	for {
		p.space()
		if err := p.segmentType(&s, p.word()); err != nil {
			return s, err
		}
		if !p.accept("-") {
			return s, nil
		}
	}
}

// segmentType applies one word of a segment's type.
func (p *parser) segmentType(s *segment, word string) error {
	switch word {
	case "integer", "float", "utf8", "utf16", "utf32", "binary", "bitstring":
		s.kind = word
	case "bytes":
		s.kind = "binary"
	case "bits":
		s.kind = "bitstring"
	case "big", "signed", "unsigned":
	case "little":
		s.little = true
	case "unit":
		open, end := ":", ""
		if p.syntax == Elixir {
			open, end = "(", ")"
		}
		if !p.accept(open) {
			return p.unexpected(open)
		}
		n, err := p.unsigned(9)
		if err != nil || !p.accept(end) || n < 1 || n > 256 {
			return p.fail(s.start, "the unit of a segment is 1 to 256", "")
		}
		s.unit = int(n)
	default:
		return p.fail(p.pos-len(word), "expected the type of a segment", "one of integer, float, binary, bitstring, utf8, utf16, utf32, big, little")
	}
	return nil
}
