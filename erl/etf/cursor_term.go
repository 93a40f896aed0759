package etf

// Term reads the next term, of any kind, as a Go value that is free of the
// Tape; nil at the end.
func (c *Cursor) Term() Term {
	if c.left == 0 {
		return nil
	}
	m := maker{builder: c.tape.builder(), tape: c.tape, room: termWords(c.words)}
	t, rest := m.term(c.words)
	m.finish()
	c.words = rest
	c.left--
	return t
}

func (t *Tape) builder() *builder {
	if t.make == nil {
		t.make = new(builder)
	}
	return t.make
}

// maker turns words into terms. The words were checked when they were written,
// so nothing can fail here.
type maker struct {
	*builder
	tape *Tape
	room int // words that are still to come, about
}

// left estimates how many bytes of input those words were.
func (m *maker) left() int { return 4 * m.room }

// term makes the term at the start of w and returns the words after it.
func (m *maker) term(w []uint64) (Term, []uint64) {
	n := termWords(w)
	t := w[:n]
	rest := w[n:]
	// A cursor over this term alone reads the leaves.
	c := Cursor{tape: m.tape, words: t, left: 1}
	payload := t[0] & payloadMask
	m.room -= min(n, 5) // of a container only the head
	switch t[0] >> formShift {
	case wNil:
		return emptyList, rest
	case wInt, wLongInt:
		v, _ := c.Int()
		return m.int(Int(v)), rest
	case wAtom, wSideAtom, wCacheAtom:
		b, _ := c.peekAtom()
		return m.tape.intern(b).term, rest
	case wString:
		return String(textOf(m.tape.in, t[0])), rest
	case wFloat:
		f, _ := c.Float()
		return Float(f), rest
	case wBinary:
		return m.binary(c.blob(), m.left()), rest
	case wBits:
		return m.bitstring(c.blob(), uint8(payload>>lengthShift), m.left()), rest
	case wBig:
		return m.number(c.blob(), false), rest
	case wNegBig:
		return m.number(c.blob(), true), rest
	case wPid:
		p, _ := c.Pid()
		return p, rest
	case wPort:
		p, _ := c.Port()
		return p, rest
	case wRef:
		r, _ := c.Ref()
		return r, rest
	case wExport:
		return Export{m.tape.atomAt(t[1]), m.tape.atomAt(t[2]), uint8(payload)}, rest
	case wFun:
		return m.fun(c.blob()), rest
	case wTuple:
		if payload == 0 {
			return emptyTuple, rest
		}
		elems, _ := m.elements(t[2:], int(payload))
		return Tuple(elems), rest
	case wList:
		elems, _ := m.elements(t[2:], int(payload))
		return List(elems), rest
	case wImproper:
		elems, tail := m.elements(t[2:], int(payload))
		last, _ := m.term(tail)
		return ImproperList{Elems: elems, Tail: last}, rest
	case wMap:
		return m.mapping(t[2:], int(payload)), rest
	default: // wRecord
		return m.record(t), rest
	}
}

func (m *maker) elements(w []uint64, n int) ([]Term, []uint64) {
	elems := m.terms(n, m.left())
	for i := range elems {
		elems[i], w = m.term(w)
	}
	return elems, w
}

func (m *maker) mapping(w []uint64, n int) Term {
	if n == 0 {
		return emptyMap
	}
	pairs := m.pairs(n, m.left())
	for i := range pairs {
		pairs[i].Key, w = m.term(w)
		pairs[i].Value, w = m.term(w)
	}
	return pairs
}

func (m *maker) record(t []uint64) Term {
	n := int(t[0] & 0xFFFFFFFF)
	r := &Record{
		Module:   m.tape.atomAt(t[2]),
		Name:     m.tape.atomAt(t[3]),
		Exported: t[0]>>32&1 != 0,
		Fields:   make([]Field, n),
	}
	values := t[4+n:]
	for i := range r.Fields {
		r.Fields[i].Name = m.tape.atomAt(t[4+i])
		r.Fields[i].Value, values = m.term(values)
	}
	return r
}

// fun decodes a fun from its place in the input: it is too rare for a form of
// its own.
func (m *maker) fun(b []byte) Term {
	d := NewDecoder(m.tape.limits)
	d.SetCache(m.tape.cache)
	t, _ := d.DecodeBody(b)
	return t
}
