package etf

import "unicode/utf8"

const maxAtomChars = 255

// atomName is an atom as it stands in the input.
type atomName struct {
	raw    []byte
	latin1 bool // raw has bytes over 127 that are Latin-1
	ref    int  // index into the atom cache where raw is nil
}

// atom reads the atom whose tag at has been read. The name is checked for its
// length; UTF-8 is left to the caller, who may know the name already.
func (s *source) atom(at int, tag byte) (atomName, error) {
	var n uint64
	var ok bool
	switch tag {
	case tagSmallAtomUTF8, tagSmallAtom:
		var b byte
		b, ok = s.u8()
		n = uint64(b)
	case tagAtomUTF8, tagAtom:
		var b uint16
		b, ok = s.u16()
		n = uint64(b)
	case tagAtomCacheRef:
		i, ok := s.u8()
		if !ok {
			return atomName{}, s.short(at)
		}
		return atomName{ref: int(i)}, nil
	default:
		return atomName{}, s.bad(at, "an atom is needed here")
	}
	if !ok {
		return atomName{}, s.short(at)
	}
	raw, ok := s.take(n)
	if !ok {
		return atomName{}, s.short(at)
	}
	if tag == tagAtom || tag == tagSmallAtom {
		if len(raw) > maxAtomChars {
			return atomName{}, s.bad(at, "atom is longer than 255 characters")
		}
		return atomName{raw: raw, latin1: !isASCII(raw)}, nil
	}
	return atomName{raw: raw}, nil
}

// validAtom checks a name in UTF-8.
func validAtom(raw []byte) string {
	if !utf8.Valid(raw) {
		return "atom is not valid UTF-8"
	}
	if len(raw) > maxAtomChars && utf8.RuneCount(raw) > maxAtomChars {
		return "atom is longer than 255 characters"
	}
	return ""
}

// appendLatin1 appends raw to dst as UTF-8.
func appendLatin1(dst, raw []byte) []byte {
	for _, c := range raw {
		dst = utf8.AppendRune(dst, rune(c))
	}
	return dst
}

// atom reads an atom whose tag has been read.
func (d *Decoder) atom(at int, tag byte) (*interned, error) {
	name, err := d.source.atom(at, tag)
	if err != nil {
		return nil, err
	}
	raw := name.raw
	switch {
	case tag == tagAtomCacheRef:
		if name.ref >= len(d.cache) || d.cache[name.ref].term == nil {
			return nil, d.bad(at, "reference to an atom that is not in the cache")
		}
		return &d.cache[name.ref], nil
	case name.latin1:
		d.scratch = appendLatin1(d.scratch[:0], raw)
		raw = d.scratch
	}
	a, msg := d.atoms.get(raw)
	if msg != "" {
		return nil, d.bad(at, msg)
	}
	return a, nil
}

// nextAtom reads a whole atom where nothing else may stand.
func (d *Decoder) nextAtom() (Atom, error) {
	at := d.pos
	tag, ok := d.u8()
	if !ok {
		return "", d.short(at)
	}
	a, err := d.atom(at, tag)
	if err != nil {
		return "", err
	}
	return a.atom, nil
}
