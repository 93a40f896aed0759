package etf

// Tape is a decoded term as a flat run of words, which a Cursor reads in place.
// It is for large answers of which little is kept: nothing is allocated for a
// term, and what is not asked for is skipped in one step. A Tape accepts what a
// Decoder accepts and refuses what it refuses.
//
// A Tape refers to the bytes that it was made of: they must not change as long
// as it is read. The next Decode reuses it and invalidates its cursors. One
// goroutine at a time may use a Tape and its cursors.
type Tape struct {
	source
	words   []uint64
	stack   []frame
	side    []byte // Latin-1 atoms in UTF-8
	cache   []Atom
	names   []byte   // the text of cache
	refs    []uint64 // the word of each atom in cache
	make    *builder // for Cursor.Term, made when first needed
	inflate inflater
}

// The layout of the words. The first word of a term holds its form in the high
// 8 bits. Text is an offset (40 bits) and a length (16 bits) below that.
//
//	form        first word     more words
//	wNil
//	wInt        value, 56 bits, signed
//	wLongInt                   value
//	wAtom       text in the input
//	wSideAtom   text in Tape.side
//	wCacheAtom  text in Tape.names
//	wString     text in the input
//	wFloat                     IEEE 754 bits
//	wBinary     offset         length
//	wBits       bits<<40|offset, length
//	wBig, wNegBig offset       length; digits as in the input
//	wPid        creation       node atom; id<<32|serial
//	wPort       creation       node atom; id
//	wRef        creation       node atom; words 1, 2; 3, 4; 5<<32|number of words
//	wExport     arity          module atom; function atom
//	wFun        offset of tag  length of the whole term
//	wTuple, wList, wImproper, wMap, wRecord
//	            count          span; elements (improper: and tail; map: key and
//	                           value in turn; record: exported<<32, module atom,
//	                           name atom, all field names, all values)
//
// span is the number of words of the whole term.
const (
	wNil = iota
	wInt
	wLongInt
	wAtom
	wSideAtom
	wCacheAtom
	wString
	wFloat
	wBinary
	wBits
	wBig
	wNegBig
	wPid
	wPort
	wRef
	wExport
	wFun
	wTuple
	wList
	wImproper
	wMap
	wRecord
)

const (
	formShift   = 56
	payloadMask = 1<<formShift - 1
	offsetMask  = 1<<40 - 1
	lengthShift = 40
)

// formWords is the number of words of a term by form; 0 where the second word
// says it.
var formWords = [...]uint8{
	wNil: 1, wInt: 1, wLongInt: 2, wAtom: 1, wSideAtom: 1, wCacheAtom: 1, wString: 1,
	wFloat: 2, wBinary: 2, wBits: 2, wBig: 2, wNegBig: 2, wPid: 3, wPort: 3, wRef: 5,
	wExport: 3, wFun: 2, wTuple: 0, wList: 0, wImproper: 0, wMap: 0, wRecord: 0,
}

// frame is a container that is being read.
type frame struct {
	left int // elements that are still missing
	head int // index of its first word
	at   int // offset of its tag
	kind uint8
}

// NewTape returns an empty Tape with these limits for each term.
func NewTape(l Limits) *Tape {
	return &Tape{source: source{limits: l.withDefaults()}}
}

// SetCache gives the atoms that ATOM_CACHE_REF means by their index, as a
// distribution header lists them, until the next call; nil forgets them.
// Call it before Decode: it invalidates what the Tape holds.
func (t *Tape) SetCache(refs []Atom) {
	t.cache = append(t.cache[:0], refs...)
	t.names, t.refs = t.names[:0], t.refs[:0]
	for _, a := range refs {
		if validAtom([]byte(a)) != "" {
			t.refs = append(t.refs, 0)
			continue
		}
		start := len(t.names)
		t.names = append(t.names, a...)
		t.refs = append(t.refs, wCacheAtom<<formShift|textWord(t.names[start:], start))
	}
	t.words, t.in = t.words[:0], nil
}

// Decode reads one term with its version byte that takes up all of b.
func (t *Tape) Decode(b []byte) error {
	t.reset(nil, 0)
	if err := checkVersion(b); err != nil {
		return t.clear(err)
	}
	if !isCompressed(b) {
		return t.run(b, 1)
	}
	in, rest, err := t.inflate.inflate(b, t.limits.MaxCompressed)
	if err == nil && len(rest) > 0 {
		err = trailing(b, rest)
	}
	if err != nil {
		return t.clear(err)
	}
	return t.run(in, 0)
}

// DecodeBody reads one term without a version byte that takes up all of b.
func (t *Tape) DecodeBody(b []byte) error { return t.run(b, 0) }

// DecodeBodyPrefix is DecodeBody for a term that may be followed by other
// bytes, which it returns.
func (t *Tape) DecodeBodyPrefix(b []byte) (rest []byte, err error) {
	t.reset(b, 0)
	if err := t.scan(); err != nil {
		return nil, t.clear(err)
	}
	return b[t.pos:], nil
}

func (t *Tape) run(b []byte, pos int) error {
	t.reset(b, pos)
	err := t.scan()
	if err == nil && t.pos < len(b) {
		err = trailing(b, b[t.pos:])
	}
	return t.clear(err)
}

// clear empties the tape if err is set, and returns it.
func (t *Tape) clear(err error) error {
	if err != nil {
		t.words, t.in = t.words[:0], nil
	}
	return err
}

// Cursor returns a cursor that stands before the term; it has nothing to read
// after a failed Decode.
func (t *Tape) Cursor() Cursor {
	return Cursor{tape: t, words: t.words, left: min(1, len(t.words))}
}

// Release lets go of the input, and of buffers larger than an ordinary answer
// needs, where the tape is kept for later use.
func (t *Tape) Release() {
	const keep = 64 << 10
	t.in, t.words, t.side = nil, t.words[:0], t.side[:0]
	if cap(t.words) > keep {
		t.words = nil
	}
	t.inflate.buf = nil
}
