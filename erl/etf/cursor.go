package etf

import "math"

// Kind is the type of a term under a Cursor.
type Kind uint8

// The kinds of terms, one for each type of this package. KindNone is what a
// cursor has that has read everything.
const (
	KindNone Kind = iota
	KindAtom
	KindInt // fits into 64 bits
	KindBigInt
	KindFloat
	KindBinary
	KindBitstring
	KindString
	KindList
	KindImproperList
	KindTuple
	KindMap
	KindPid
	KindPort
	KindRef
	KindFun
	KindExport
	KindRecord
)

var formKinds = [...]Kind{
	wNil: KindList, wInt: KindInt, wLongInt: KindInt, wAtom: KindAtom, wSideAtom: KindAtom,
	wCacheAtom: KindAtom, wString: KindString, wFloat: KindFloat, wBinary: KindBinary,
	wBits: KindBitstring, wBig: KindBigInt, wNegBig: KindBigInt, wPid: KindPid, wPort: KindPort,
	wRef: KindRef, wExport: KindExport, wFun: KindFun, wTuple: KindTuple, wList: KindList,
	wImproper: KindImproperList, wMap: KindMap, wRecord: KindRecord,
}

// Cursor reads terms that stand side by side on a Tape: the root, or what is
// in one container. A method that reads moves to the next term; where the term
// is of another kind it returns false and stays. Kind and Skip serve to look
// and to pass over. A Cursor is a value: a copy reads the same terms again.
type Cursor struct {
	tape  *Tape
	words []uint64 // from the term that is next
	left  int
}

// Len returns how many terms are left to read.
func (c *Cursor) Len() int { return c.left }

// Kind returns the kind of the next term.
func (c *Cursor) Kind() Kind {
	if c.left == 0 {
		return KindNone
	}
	return formKinds[c.words[0]>>formShift]
}

// form is the form of the next term, or one that does not exist.
func (c *Cursor) form() uint64 {
	if c.left == 0 {
		return math.MaxUint8
	}
	return c.words[0] >> formShift
}

func (c *Cursor) payload() uint64 { return c.words[0] & payloadMask }

// advance moves over a term of n words.
func (c *Cursor) advance(n int) {
	c.words = c.words[n:]
	c.left--
}

// Skip moves over the next term, whatever is in it; false at the end.
func (c *Cursor) Skip() bool {
	if c.left == 0 {
		return false
	}
	c.advance(termWords(c.words))
	return true
}

func termWords(w []uint64) int {
	if n := formWords[w[0]>>formShift]; n != 0 {
		return int(n)
	}
	return int(w[1])
}

// Int reads an integer of 64 bits.
func (c *Cursor) Int() (int64, bool) {
	switch c.form() {
	case wInt:
		v := int64(c.words[0]<<(64-formShift)) >> (64 - formShift)
		c.advance(1)
		return v, true
	case wLongInt:
		v := int64(c.words[1])
		c.advance(2)
		return v, true
	}
	return 0, false
}

// Float reads a float.
func (c *Cursor) Float() (float64, bool) {
	if c.form() != wFloat {
		return 0, false
	}
	f := math.Float64frombits(c.words[1])
	c.advance(2)
	return f, true
}

// AtomBytes reads the name of an atom in UTF-8. The bytes belong to the Tape or
// its input: they must not be changed, and are valid as long as both.
func (c *Cursor) AtomBytes() ([]byte, bool) {
	b, ok := c.peekAtom()
	if ok {
		c.advance(1)
	}
	return b, ok
}

// Atom reads an atom. It allocates only for names that the Tape does not
// remember.
func (c *Cursor) Atom() (Atom, bool) {
	b, ok := c.peekAtom()
	if !ok {
		return "", false
	}
	c.advance(1)
	return c.tape.intern(b).atom, true
}

// IsAtom reports whether the next term is this atom, and stays.
func (c *Cursor) IsAtom(a Atom) bool {
	b, ok := c.peekAtom()
	return ok && string(b) == string(a)
}

func (c *Cursor) peekAtom() ([]byte, bool) {
	if c.left == 0 {
		return nil, false
	}
	return c.tape.atomText(c.words[0])
}

// atomText returns the name that the word of an atom refers to.
func (t *Tape) atomText(w uint64) ([]byte, bool) {
	switch w >> formShift {
	case wAtom:
		return textOf(t.in, w), true
	case wSideAtom:
		return textOf(t.side, w), true
	case wCacheAtom:
		return textOf(t.names, w), true
	}
	return nil, false
}

func textOf(b []byte, w uint64) []byte {
	start := w & offsetMask
	end := start + w&payloadMask>>lengthShift
	return b[start:end:end]
}

// Bytes reads a Binary or a String. The bytes are those of the input: they
// must not be changed, and are valid as long as the Tape.
func (c *Cursor) Bytes() ([]byte, bool) {
	switch c.form() {
	case wBinary:
		b := c.blob()
		c.advance(2)
		return b, true
	case wString:
		b := textOf(c.tape.in, c.words[0])
		c.advance(1)
		return b, true
	}
	return nil, false
}

// Bits reads a Bitstring: its bytes, and how many bits of the last one count
// (1 to 7, the high ones; the others are undefined). The bytes are those of
// the input.
func (c *Cursor) Bits() (b []byte, bits uint8, ok bool) {
	if c.form() != wBits {
		return nil, 0, false
	}
	b, bits = c.blob(), uint8(c.payload()>>lengthShift)
	c.advance(2)
	return b, bits, true
}

// blob is the part of the input that two words refer to.
func (c *Cursor) blob() []byte {
	start := c.words[0] & offsetMask
	end := start + c.words[1]
	return c.tape.in[start:end:end]
}

// EnterTuple reads a tuple and returns a cursor over its elements.
func (c *Cursor) EnterTuple() (Cursor, bool) { return c.enter(wTuple, 1) }

// EnterMap reads a map and returns a cursor over its keys and values in turn.
func (c *Cursor) EnterMap() (Cursor, bool) { return c.enter(wMap, 2) }

// EnterList reads a proper list and returns a cursor over its elements. It
// takes a String too, since Erlang may send any list of bytes as one; that is
// the only case in which it allocates.
func (c *Cursor) EnterList() (Cursor, bool) {
	switch c.form() {
	case wNil:
		c.advance(1)
		return Cursor{tape: c.tape}, true
	case wString:
		b, _ := c.Bytes()
		words := make([]uint64, len(b))
		for i, v := range b {
			words[i] = wInt<<formShift | uint64(v)
		}
		return Cursor{tape: c.tape, words: words, left: len(words)}, true
	}
	return c.enter(wList, 1)
}

func (c *Cursor) enter(form uint64, unit int) (Cursor, bool) {
	if c.form() != form {
		return Cursor{}, false
	}
	span := int(c.words[1])
	in := Cursor{tape: c.tape, words: c.words[2:span], left: int(c.payload()) * unit}
	c.advance(span)
	return in, true
}

// Pid reads a pid.
func (c *Cursor) Pid() (Pid, bool) {
	if c.form() != wPid {
		return Pid{}, false
	}
	n := c.words[2]
	p := Pid{Node: c.tape.atomAt(c.words[1]), ID: uint32(n >> 32), Serial: uint32(n), Creation: uint32(c.payload())}
	c.advance(3)
	return p, true
}

// Port reads a port.
func (c *Cursor) Port() (Port, bool) {
	if c.form() != wPort {
		return Port{}, false
	}
	p := Port{Node: c.tape.atomAt(c.words[1]), ID: c.words[2], Creation: uint32(c.payload())}
	c.advance(3)
	return p, true
}

// Ref reads a reference.
func (c *Cursor) Ref() (Ref, bool) {
	if c.form() != wRef {
		return Ref{}, false
	}
	w := c.words
	r := Ref{
		Node:     c.tape.atomAt(w[1]),
		Creation: uint32(c.payload()),
		Len:      uint8(w[4]),
		Words:    [maxRefWords]uint32{uint32(w[2] >> 32), uint32(w[2]), uint32(w[3] >> 32), uint32(w[3]), uint32(w[4] >> 32)},
	}
	c.advance(5)
	return r, true
}

// intern returns the atom of a name that has been checked.
func (t *Tape) intern(name []byte) *interned {
	a, _ := t.builder().atoms.get(name)
	return a
}

// atomAt returns the atom of its word.
func (t *Tape) atomAt(w uint64) Atom {
	b, _ := t.atomText(w)
	return t.intern(b).atom
}
