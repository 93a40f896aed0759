package etf

import "encoding/binary"

// A fun is on the tape as its place in the input. Its parts are read to check
// them, and are taken off the tape again when it is complete.

func (t *Tape) fun(at int) error {
	if _, ok := t.take(25); !ok {
		return t.short(at)
	}
	free, err := t.count(at, 1)
	if err != nil {
		return err
	}
	head := len(t.words)
	t.put2(wFun, uint64(at), 0)
	if err := t.nextAtom(); err != nil {
		return err
	}
	if _, err := t.funNumber(at); err != nil {
		return err
	}
	if _, err := t.funNumber(at); err != nil {
		return err
	}
	if err := t.nextPid(at); err != nil {
		return err
	}
	return t.openFun(head, at, free)
}

func (t *Tape) oldFun(at int) error {
	free, err := t.count(at, 1)
	if err != nil {
		return err
	}
	head := len(t.words)
	t.put2(wFun, uint64(at), 0)
	if err := t.nextPid(at); err != nil {
		return err
	}
	if err := t.nextAtom(); err != nil {
		return err
	}
	if _, err := t.funNumber(at); err != nil {
		return err
	}
	if _, err := t.funNumber(at); err != nil {
		return err
	}
	return t.openFun(head, at, free)
}

func (t *Tape) nextPid(at int) error {
	tag, ok := t.u8()
	switch {
	case !ok:
		return t.short(at)
	case tag != tagNewPid && tag != tagPid:
		return t.bad(at, "fun has no pid")
	}
	return t.pid(at, tag)
}

func (t *Tape) openFun(head, at, free int) error {
	f := frame{left: free, head: head, at: at, kind: wFun}
	if free == 0 {
		return t.closeFun(&f)
	}
	return t.push(f)
}

func (t *Tape) closeFun(f *frame) error {
	length := t.pos - f.at
	if t.in[f.at] == tagNewFun && uint64(length-1) != uint64(binary.BigEndian.Uint32(t.in[f.at+1:])) {
		return t.bad(f.at, "fun is not as long as it says")
	}
	t.words = t.words[:f.head+2]
	t.words[f.head+1] = uint64(length)
	return nil
}
