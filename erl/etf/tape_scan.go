package etf

import (
	"encoding/binary"
	"math"
)

// scan writes the term at t.pos to the tape. It keeps its own stack: the
// elements of containers make up most of any input, and a call for each would
// cost more than to read them.
func (t *Tape) scan() error {
	t.words, t.side, t.stack = t.words[:0], t.side[:0], t.stack[:0]
	for {
		if err := t.next(); err != nil {
			return err
		}
		if done, err := t.close(); done || err != nil {
			return err
		}
	}
}

// leaves writes up to n terms of the most frequent kinds, as long as one
// follows the other, and returns how many. What is not plain, or wrong, it
// leaves to next.
func (t *Tape) leaves(n int) int {
	in, pos, words, read := t.in, t.pos, t.words, 0
loop:
	for ; read < n && len(in)-pos > 1; read++ {
		second := in[pos+1]
		switch in[pos] {
		case tagSmallAtomUTF8:
			start, end := pos+2, pos+2+int(second)
			if end > len(in) || !isASCII(in[start:end]) {
				break loop
			}
			words = append(words, wAtom<<formShift|uint64(second)<<lengthShift|uint64(start))
			pos = end
		case tagSmallInt:
			words = append(words, wInt<<formShift|uint64(second))
			pos += 2
		case tagInt:
			if len(in)-pos < 5 {
				break loop
			}
			v := int32(binary.BigEndian.Uint32(in[pos+1:]))
			words = append(words, wInt<<formShift|uint64(int64(v))&payloadMask)
			pos += 5
		case tagNil:
			words = append(words, wNil<<formShift)
			pos++
		default:
			break loop
		}
	}
	t.pos, t.words = pos, words
	return read
}

// next reads one leaf, or opens one container.
func (t *Tape) next() error {
	at := t.pos
	if at >= len(t.in) {
		return t.short(at)
	}
	tag := t.in[at]
	t.pos = at + 1
	switch tag {
	case tagSmallInt:
		v, ok := t.u8()
		if !ok {
			return t.short(at)
		}
		t.put(wInt, uint64(v))
	case tagInt:
		v, ok := t.u32()
		if !ok {
			return t.short(at)
		}
		t.put(wInt, uint64(int64(int32(v)))&payloadMask)
	case tagSmallAtomUTF8, tagAtomUTF8, tagSmallAtom, tagAtom, tagAtomCacheRef:
		return t.atom(at, tag)
	case tagSmallTuple, tagLargeTuple:
		n, err := t.tupleArity(at, tag)
		if err != nil {
			return err
		}
		return t.open(wTuple, at, n, n)
	case tagNil:
		t.put(wNil, 0)
	case tagList:
		n, err := t.count(at, 1)
		if err != nil {
			return err
		}
		return t.openList(at, n)
	case tagString:
		b, err := t.stringBytes(at)
		if err != nil {
			return err
		}
		t.putString(b)
	case tagBinary:
		b, err := t.binaryBytes(at)
		if err != nil {
			return err
		}
		t.put2(wBinary, uint64(t.pos-len(b)), uint64(len(b)))
	case tagMap:
		n, err := t.count(at, 2)
		if err != nil {
			return err
		}
		return t.open(wMap, at, n, 2*n)
	case tagNewPid, tagPid:
		return t.pid(at, tag)
	default:
		return t.rare(at, tag)
	}
	return nil
}

// rare is next for the rest of the tags.
func (t *Tape) rare(at int, tag byte) error {
	switch tag {
	case tagNewFloat:
		f, err := t.newFloat(at)
		t.put2(wFloat, 0, math.Float64bits(f))
		return err
	case tagFloat:
		f, err := t.textFloat(at)
		t.put2(wFloat, 0, math.Float64bits(f))
		return err
	case tagSmallBig, tagLargeBig:
		return t.bigInt(at, tag)
	case tagNewerRef, tagNewRef, tagRef:
		return t.ref(at, tag)
	case tagNewPort, tagV4Port, tagPort:
		return t.port(at, tag)
	case tagExport:
		return t.export(at)
	case tagBitBinary:
		return t.bitstring(at)
	case tagNewFun:
		return t.fun(at)
	case tagFun:
		return t.oldFun(at)
	case tagRecord:
		return t.record(at)
	case tagCompressed:
		return t.bad(at, "compressed term inside of another term")
	}
	return &UnknownTagError{Offset: at, Tag: tag}
}

// open begins a container of count members that stand in n terms.
func (t *Tape) open(form uint8, at, count, n int) error {
	t.put2(uint64(form), uint64(count), 2)
	if n == 0 {
		return nil
	}
	return t.push(frame{left: n, head: len(t.words) - 2, at: at, kind: form})
}

func (t *Tape) push(f frame) error {
	if len(t.stack) >= t.limits.MaxDepth {
		return limitError(ErrTooDeep, f.at)
	}
	// The term before the first element counts as an element for close.
	f.left++
	t.stack = append(t.stack, f)
	return nil
}

// openList begins a list whose tag and count have been read. Without elements
// the list is its tail.
func (t *Tape) openList(at, n int) error {
	for n == 0 {
		if t.pos >= len(t.in) || t.in[t.pos] != tagList {
			return t.next()
		}
		t.pos++
		var err error
		if n, err = t.count(at, 1); err != nil {
			return err
		}
	}
	return t.open(wList, at, n, n)
}

// close ends the containers that the last term has completed. It reports
// whether the whole term is complete.
func (t *Tape) close() (done bool, err error) {
	for len(t.stack) > 0 {
		f := &t.stack[len(t.stack)-1]
		f.left--
		if f.left > 0 {
			if f.left -= t.leaves(f.left); f.left > 0 {
				return false, nil
			}
		}
		if f.kind == wList {
			more, err := t.closeList(f)
			if more || err != nil {
				return false, err
			}
		}
		if f.kind == wFun {
			if err := t.closeFun(f); err != nil {
				return false, err
			}
		} else {
			t.words[f.head+1] = uint64(len(t.words) - f.head)
		}
		t.stack = t.stack[:len(t.stack)-1]
	}
	return true, nil
}

// closeList reads the tail of a list. It reports whether more terms must be
// read for it.
func (t *Tape) closeList(f *frame) (more bool, err error) {
	for t.pos < len(t.in) {
		at := t.pos
		switch t.in[at] {
		case tagNil:
			t.pos++
			return false, nil
		case tagString:
			t.pos++
			b, err := t.stringBytes(at)
			for _, c := range b {
				t.put(wInt, uint64(c))
			}
			t.words[f.head] += uint64(len(b))
			return false, err
		case tagList: // the list goes on
			t.pos++
			n, err := t.count(at, 1)
			if err != nil {
				return false, err
			}
			if n > 0 {
				t.words[f.head] += uint64(n)
				f.left = n
				return true, nil
			}
		default:
			f.kind, f.left = wImproper, 1
			t.words[f.head] += (wImproper - wList) << formShift
			return true, nil
		}
	}
	return false, t.short(f.at)
}

func (t *Tape) record(at int) error {
	n, err := t.count(at, 2)
	if err != nil {
		return err
	}
	flags, ok := t.u8()
	if !ok {
		return t.short(at)
	}
	head := len(t.words)
	t.put2(wRecord, uint64(n)|uint64(flags&1)<<32, 2)
	for range n + 2 { // module, name, field names
		if err := t.nextAtom(); err != nil {
			return err
		}
	}
	t.words[head+1] = uint64(len(t.words) - head)
	if n == 0 {
		return nil
	}
	return t.push(frame{left: n, head: head, at: at, kind: wRecord})
}
