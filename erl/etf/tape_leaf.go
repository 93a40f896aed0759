package etf

func (t *Tape) put(form uint64, payload uint64) {
	t.words = append(t.words, form<<formShift|payload)
}

func (t *Tape) put2(form uint64, payload, second uint64) {
	t.words = append(t.words, form<<formShift|payload, second)
}

func textWord(b []byte, offset int) uint64 { return uint64(len(b))<<lengthShift | uint64(offset) }

func (t *Tape) putInt(v int64) {
	if v<<(64-formShift)>>(64-formShift) == v {
		t.put(wInt, uint64(v)&payloadMask)
		return
	}
	t.put2(wLongInt, 0, uint64(v))
}

func (t *Tape) putString(b []byte) {
	if len(b) == 0 {
		t.put(wNil, 0)
		return
	}
	t.put(wString, textWord(b, t.pos-len(b)))
}

// atom writes an atom whose tag has been read: always one word.
func (t *Tape) atom(at int, tag byte) error {
	a, err := t.source.atom(at, tag)
	switch {
	case err != nil:
		return err
	case tag == tagAtomCacheRef:
		if a.ref >= len(t.refs) || t.refs[a.ref] == 0 {
			return t.bad(at, "reference to an atom that is not in the cache")
		}
		t.words = append(t.words, t.refs[a.ref])
	case a.latin1:
		start := len(t.side)
		t.side = appendLatin1(t.side, a.raw)
		t.put(wSideAtom, textWord(t.side[start:], start))
	default:
		if !isASCII(a.raw) || len(a.raw) > maxAtomChars {
			if msg := validAtom(a.raw); msg != "" {
				return t.bad(at, msg)
			}
		}
		t.put(wAtom, textWord(a.raw, t.pos-len(a.raw)))
	}
	return nil
}

// nextAtom reads a whole atom where nothing else may stand.
func (t *Tape) nextAtom() error {
	at := t.pos
	tag, ok := t.u8()
	if !ok {
		return t.short(at)
	}
	return t.atom(at, tag)
}

func (t *Tape) pid(at int, tag byte) error {
	head := len(t.words)
	t.put(wPid, 0)
	if err := t.nextAtom(); err != nil {
		return err
	}
	id, serial, creation, err := t.pidNumbers(at, tag)
	t.words[head] |= uint64(creation)
	t.words = append(t.words, uint64(id)<<32|uint64(serial))
	return err
}

func (t *Tape) port(at int, tag byte) error {
	head := len(t.words)
	t.put(wPort, 0)
	if err := t.nextAtom(); err != nil {
		return err
	}
	id, creation, err := t.portNumbers(at, tag)
	t.words[head] |= uint64(creation)
	t.words = append(t.words, id)
	return err
}

func (t *Tape) ref(at int, tag byte) error {
	n, err := t.refLen(at, tag)
	if err != nil {
		return err
	}
	head := len(t.words)
	t.put(wRef, 0)
	if err := t.nextAtom(); err != nil {
		return err
	}
	creation, w, err := t.refNumbers(at, tag, n)
	t.words[head] |= uint64(creation)
	t.words = append(t.words,
		uint64(w[0])<<32|uint64(w[1]), uint64(w[2])<<32|uint64(w[3]), uint64(w[4])<<32|uint64(n))
	return err
}

func (t *Tape) export(at int) error {
	head := len(t.words)
	t.put(wExport, 0)
	if err := t.nextAtom(); err != nil {
		return err
	}
	if err := t.nextAtom(); err != nil {
		return err
	}
	arity, err := t.exportArity(at)
	t.words[head] |= uint64(arity)
	return err
}

func (t *Tape) bitstring(at int) error {
	b, bits, err := t.bitBinary(at)
	if err != nil {
		return err
	}
	form, payload := uint64(wBits), uint64(bits)<<lengthShift
	if bits == 0 {
		form, payload = wBinary, 0
	}
	t.put2(form, payload|uint64(t.pos-len(b)), uint64(len(b)))
	return nil
}

func (t *Tape) bigInt(at int, tag byte) error {
	digits, negative, err := t.big(at, tag)
	if err != nil {
		return err
	}
	if v, ok := smallBig(digits, negative); ok {
		t.putInt(v)
		return nil
	}
	form := uint64(wBig)
	if negative {
		form = wNegBig
	}
	head := 3 // tag, length, sign
	if tag == tagLargeBig {
		head = 6
	}
	t.put2(form, uint64(at+head), uint64(len(digits)))
	return nil
}
