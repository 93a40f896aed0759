package etf

func (d *Decoder) readBig(at int, tag byte) (Term, error) {
	digits, negative, err := d.big(at, tag)
	if err != nil {
		return nil, err
	}
	return d.number(digits, negative), nil
}

func (d *Decoder) readBinary(at int) (Term, error) {
	b, err := d.binaryBytes(at)
	if err != nil {
		return nil, err
	}
	return d.binary(b, d.left()), nil
}

func (d *Decoder) readBits(at int) (Term, error) {
	b, bits, err := d.bitBinary(at)
	if err != nil {
		return nil, err
	}
	return d.bitstring(b, bits, d.left()), nil
}

func (d *Decoder) readString(at int) (Term, error) {
	b, err := d.stringBytes(at)
	if err != nil {
		return nil, err
	}
	return makeString(b), nil
}

func (d *Decoder) pid(at int, tag byte) (Pid, error) {
	node, err := d.nextAtom()
	if err != nil {
		return Pid{}, err
	}
	id, serial, creation, err := d.pidNumbers(at, tag)
	return Pid{Node: node, ID: id, Serial: serial, Creation: creation}, err
}

func (d *Decoder) port(at int, tag byte) (Term, error) {
	node, err := d.nextAtom()
	if err != nil {
		return nil, err
	}
	id, creation, err := d.portNumbers(at, tag)
	return boxed(Port{Node: node, ID: id, Creation: creation}, err)
}

func (d *Decoder) ref(at int, tag byte) (Term, error) {
	n, err := d.refLen(at, tag)
	if err != nil {
		return nil, err
	}
	node, err := d.nextAtom()
	if err != nil {
		return nil, err
	}
	creation, words, err := d.refNumbers(at, tag, n)
	return boxed(Ref{Node: node, Creation: creation, Len: n, Words: words}, err)
}

func (d *Decoder) export(at int) (Term, error) {
	m, err := d.nextAtom()
	if err != nil {
		return nil, err
	}
	f, err := d.nextAtom()
	if err != nil {
		return nil, err
	}
	arity, err := d.exportArity(at)
	return boxed(Export{Module: m, Function: f, Arity: arity}, err)
}
