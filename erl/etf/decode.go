package etf

import (
	"sync"
)

// Decode reads one term in the external format, with its version byte, that
// takes up all of b. The term does not refer to b.
func Decode(b []byte, l Limits) (Term, error) {
	d := borrow(l)
	defer decoders.Put(d)
	return d.Decode(b)
}

// DecodePrefix is Decode for a term that may be followed by other bytes, which
// it returns.
func DecodePrefix(b []byte, l Limits) (t Term, rest []byte, err error) {
	d := borrow(l)
	defer decoders.Put(d)
	return d.DecodePrefix(b)
}

var decoders = sync.Pool{New: func() any { return NewDecoder(Limits{}) }}

func borrow(l Limits) *Decoder {
	d := decoders.Get().(*Decoder)
	d.limits = l.withDefaults()
	return d
}

// Decoder reads terms one after the other. It remembers atoms between them, so
// that one Decoder for a connection is faster than Decode. One goroutine at a
// time may use it; the terms that it returned are free of it.
type Decoder struct {
	source
	builder
	cache   []interned
	scratch []byte
	inflate inflater
}

// NewDecoder returns a Decoder with these limits for each term.
func NewDecoder(l Limits) *Decoder {
	return &Decoder{source: source{limits: l.withDefaults()}}
}

// SetCache gives the atoms that ATOM_CACHE_REF means by their index, as a
// distribution header lists them, until the next call; nil forgets them. The
// slice is not kept. A reference to an atom that is none (too long, or not
// UTF-8) fails.
func (d *Decoder) SetCache(refs []Atom) {
	d.cache = d.cache[:0]
	for _, a := range refs {
		entry := interned{}
		if validAtom([]byte(a)) == "" {
			entry = interned{atom: a, term: a}
		}
		d.cache = append(d.cache, entry)
	}
}

// Decode reads one term with its version byte that takes up all of b.
func (d *Decoder) Decode(b []byte) (Term, error) {
	t, rest, err := d.DecodePrefix(b)
	return whole(t, b, rest, err)
}

// DecodePrefix reads one term with its version byte and returns the bytes
// after it.
func (d *Decoder) DecodePrefix(b []byte) (t Term, rest []byte, err error) {
	if err := checkVersion(b); err != nil {
		return nil, nil, err
	}
	if !isCompressed(b) {
		return d.prefix(b, 1)
	}
	in, rest, err := d.inflate.inflate(b, d.limits.MaxCompressed)
	if err != nil {
		return nil, nil, err
	}
	t, err = d.DecodeBody(in)
	return t, rest, err
}

// DecodeBody reads one term without a version byte, as it follows a
// distribution header, that takes up all of b.
func (d *Decoder) DecodeBody(b []byte) (Term, error) {
	t, rest, err := d.prefix(b, 0)
	return whole(t, b, rest, err)
}

// DecodeBodyPrefix is DecodeBody for a term that may be followed by other
// bytes, which it returns.
func (d *Decoder) DecodeBodyPrefix(b []byte) (t Term, rest []byte, err error) {
	return d.prefix(b, 0)
}

// prefix reads the term at b[pos:].
func (d *Decoder) prefix(b []byte, pos int) (Term, []byte, error) {
	d.reset(b, pos)
	t, err := d.term(0)
	d.finish()
	d.in = nil
	if err != nil {
		return nil, nil, err
	}
	return t, b[d.pos:], nil
}

func whole(t Term, b, rest []byte, err error) (Term, error) {
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, trailing(b, rest)
	}
	return t, nil
}

func trailing(b, rest []byte) error {
	return &SyntaxError{Offset: len(b) - len(rest), Msg: "bytes follow the term"}
}

func checkVersion(b []byte) error {
	switch {
	case len(b) == 0:
		return &SyntaxError{Msg: "no input"}
	case b[0] != version:
		return &SyntaxError{Msg: "the version byte 131 is missing"}
	}
	return nil
}

// term reads the term at d.pos, which stands in depth containers.
func (d *Decoder) term(depth int) (Term, error) {
	at := d.pos
	if at >= len(d.in) {
		return nil, d.short(at)
	}
	tag := d.in[at]
	d.pos = at + 1
	switch tag {
	case tagSmallInt:
		v, ok := d.u8()
		if !ok {
			return nil, d.short(at)
		}
		return smallInts[int(v)-minSmallInt], nil
	case tagInt:
		v, ok := d.u32()
		if !ok {
			return nil, d.short(at)
		}
		return d.int(Int(int32(v))), nil
	case tagSmallAtomUTF8, tagAtomUTF8, tagSmallAtom, tagAtom, tagAtomCacheRef:
		a, err := d.atom(at, tag)
		if err != nil {
			return nil, err
		}
		return a.term, nil
	case tagSmallTuple, tagLargeTuple:
		return d.tuple(at, tag, depth)
	case tagNil:
		return emptyList, nil
	case tagList:
		return d.list(at, depth)
	case tagString:
		return d.readString(at)
	case tagBinary:
		return d.readBinary(at)
	case tagMap:
		return d.mapping(at, depth)
	case tagNewPid, tagPid:
		return boxed(d.pid(at, tag))
	case tagNewFloat:
		f, err := d.newFloat(at)
		return boxed(Float(f), err)
	case tagSmallBig, tagLargeBig:
		return d.readBig(at, tag)
	case tagNewerRef, tagNewRef, tagRef:
		return d.ref(at, tag)
	case tagNewPort, tagV4Port, tagPort:
		return d.port(at, tag)
	case tagExport:
		return d.export(at)
	case tagBitBinary:
		return d.readBits(at)
	case tagNewFun:
		return d.fun(at, depth)
	case tagFun:
		return d.oldFun(at, depth)
	case tagRecord:
		return d.record(at, depth)
	case tagFloat:
		f, err := d.textFloat(at)
		return boxed(Float(f), err)
	case tagCompressed:
		return nil, d.bad(at, "compressed term inside of another term")
	}
	return nil, &UnknownTagError{Offset: at, Tag: tag}
}

// boxed keeps a typed zero value from hiding an error.
func boxed[T Term](t T, err error) (Term, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}
