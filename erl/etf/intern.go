package etf

const internBits = 10

// internTable remembers atoms that came by (another one, keys of maps), so that
// a repeated one costs no allocation. It is a cache of fixed size: a peer that
// sends ever new atoms replaces old entries and cannot make it grow.
type internTable struct {
	slots []interned // made at the first atom
}

type interned struct {
	atom Atom // the name; in a table of keys their bytes
	term Term // what it stands for, boxed once
}

// find returns the atom of these UTF-8 bytes if the table has it. Whatever is
// in the table is valid.
func (t *internTable) find(raw []byte) *interned {
	if t.slots == nil {
		return nil
	}
	h := hashBytes(raw) >> (64 - internBits)
	if e := &t.slots[h]; string(raw) == string(e.atom) && e.term != nil {
		return e
	}
	if e := &t.slots[h^1]; string(raw) == string(e.atom) && e.term != nil {
		return e
	}
	return nil
}

// get returns the atom of these UTF-8 bytes, which it checks, or a message.
func (t *internTable) get(raw []byte) (*interned, string) {
	if e := t.find(raw); e != nil {
		return e, ""
	}
	if msg := validAtom(raw); msg != "" {
		return nil, msg
	}
	a := Atom(raw)
	return t.add(interned{atom: a, term: a}), ""
}

// add remembers e, and forgets the older of two others if it must.
func (t *internTable) add(e interned) *interned {
	if t.slots == nil {
		t.slots = make([]interned, 1<<internBits)
	}
	h := hashBytes(e.atom) >> (64 - internBits)
	slot := &t.slots[h]
	if slot.term != nil {
		t.slots[h^1] = *slot
	}
	*slot = e
	return slot
}
