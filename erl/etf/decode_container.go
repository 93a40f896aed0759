package etf

import "encoding/binary"

// fill reads the elements of a container that stands in depth others. Only
// containers that have elements count as depth.
func (d *Decoder) fill(at int, elems []Term, depth int) error {
	if len(elems) > 0 && depth >= d.limits.MaxDepth {
		return limitError(ErrTooDeep, at)
	}
	for i := 0; i < len(elems); i++ {
		if i += d.leaves(elems[i:]); i == len(elems) {
			break
		}
		t, err := d.term(depth + 1)
		if err != nil {
			return err
		}
		elems[i] = t
	}
	return nil
}

// leaves reads terms of the most frequent kinds, as long as one follows the
// other, and returns how many. What is not plain, or wrong, it leaves to term.
func (d *Decoder) leaves(elems []Term) int {
	in, pos, read := d.in, d.pos, 0
loop:
	for ; read < len(elems) && len(in)-pos > 1; read++ {
		second := in[pos+1]
		switch in[pos] {
		case tagSmallAtomUTF8:
			start, end := pos+2, pos+2+int(second)
			if end > len(in) {
				break loop
			}
			a := d.atoms.find(in[start:end])
			if a == nil {
				break loop
			}
			elems[read] = a.term
			pos = end
		case tagSmallInt:
			elems[read] = smallInts[int(second)-minSmallInt]
			pos += 2
		case tagInt:
			if len(in)-pos < 5 {
				break loop
			}
			elems[read] = d.int(Int(int32(binary.BigEndian.Uint32(in[pos+1:]))))
			pos += 5
		case tagNil:
			elems[read] = emptyList
			pos++
		default:
			break loop
		}
	}
	d.pos = pos
	return read
}

func (d *Decoder) tuple(at int, tag byte, depth int) (Term, error) {
	n, err := d.tupleArity(at, tag)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return emptyTuple, nil
	}
	elems := d.terms(n, d.left())
	if err := d.fill(at, elems, depth); err != nil {
		return nil, err
	}
	return Tuple(elems), nil
}

func (s *source) tupleArity(at int, tag byte) (int, error) {
	if tag == tagLargeTuple {
		return s.count(at, 1)
	}
	n, ok := s.u8()
	if !ok {
		return 0, s.short(at)
	}
	return s.claim(at, uint64(n))
}

// list reads LIST_EXT. Its tail may be a list again: then the two are one list,
// which is read in this loop, so that a chain of tails costs neither depth nor
// repeated copying. Without elements the term is its tail.
func (d *Decoder) list(at, depth int) (Term, error) {
	var elems []Term
	for {
		n, err := d.count(at, 1)
		if err != nil {
			return nil, err
		}
		start := len(elems)
		if start == 0 {
			elems = d.terms(n, d.left())
		} else {
			elems = append(elems, make([]Term, n)...)
		}
		if err := d.fill(at, elems[start:], depth); err != nil {
			return nil, err
		}
		if d.pos >= len(d.in) || d.in[d.pos] != tagList {
			break
		}
		d.pos++
	}
	if len(elems) == 0 {
		return d.term(depth)
	}
	tail, err := d.term(depth + 1)
	if err != nil {
		return nil, err
	}
	return joinTail(elems, tail), nil
}

// joinTail makes the list of elems and a tail that was not a LIST_EXT.
func joinTail(elems []Term, tail Term) Term {
	switch t := tail.(type) {
	case List: // only the empty one
		return List(elems)
	case String:
		for i := range len(t) {
			elems = append(elems, smallInts[int(t[i])-minSmallInt])
		}
		return List(elems)
	}
	return ImproperList{Elems: elems, Tail: tail}
}

// mapping reads MAP_EXT. A key that comes twice stays twice: no node sends
// such a map, and to look for it would cost more than to decode.
func (d *Decoder) mapping(at, depth int) (Term, error) {
	n, err := d.count(at, 2)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return emptyMap, nil
	}
	if depth >= d.limits.MaxDepth {
		return nil, limitError(ErrTooDeep, at)
	}
	m := d.pairs(n, d.left())
	for i := range m {
		p := &m[i]
		if p.Key = d.key(); p.Key == nil {
			if p.Key, err = d.term(depth + 1); err != nil {
				return nil, err
			}
		}
		if p.Value, err = d.term(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// key reads a key of the two kinds that most maps have, if it is one that the
// Decoder knows or will remember; else it returns nil and reads nothing.
func (d *Decoder) key() Term {
	in := d.in[d.pos:]
	if len(in) < 5 {
		return nil
	}
	switch n := int(in[1]); in[0] {
	case tagSmallAtomUTF8:
		if 2+n > len(in) {
			return nil
		}
		if a := d.atoms.find(in[2 : 2+n]); a != nil {
			d.pos += 2 + n
			return a.term
		}
	case tagBinary:
		n := binary.BigEndian.Uint32(in[1:])
		if n == 0 || n > maxKeyBytes || 5+int(n) > len(in) {
			return nil
		}
		d.pos += 5 + int(n)
		return d.binaryKey(in[5 : 5+n])
	}
	return nil
}

// record reads RECORD_EXT: the number of fields (4 bytes), flags (1 byte, bit 0
// exported), module, name, the names of all fields, the values of all fields.
func (d *Decoder) record(at, depth int) (Term, error) {
	n, err := d.count(at, 2)
	if err != nil {
		return nil, err
	}
	flags, ok := d.u8()
	if !ok {
		return nil, d.short(at)
	}
	if n > 0 && depth >= d.limits.MaxDepth {
		return nil, limitError(ErrTooDeep, at)
	}
	r := &Record{Exported: flags&1 != 0, Fields: make([]Field, n)}
	if r.Module, err = d.nextAtom(); err != nil {
		return nil, err
	}
	if r.Name, err = d.nextAtom(); err != nil {
		return nil, err
	}
	for i := range r.Fields {
		if r.Fields[i].Name, err = d.nextAtom(); err != nil {
			return nil, err
		}
	}
	for i := range r.Fields {
		if r.Fields[i].Value, err = d.term(depth + 1); err != nil {
			return nil, err
		}
	}
	return r, nil
}
