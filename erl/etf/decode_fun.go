package etf

import (
	"encoding/binary"
	"math"
)

// fun reads NEW_FUN_EXT: size (4 bytes, counting itself), arity (1), uniq (16),
// index (4), number of free terms (4), module, old index, old uniq, creator,
// free terms.
func (d *Decoder) fun(at, depth int) (Term, error) {
	head, ok := d.take(25)
	if !ok {
		return nil, d.short(at)
	}
	size := binary.BigEndian.Uint32(head)
	f := &Fun{
		Arity: head[4],
		Uniq:  [16]byte(head[5:21]),
		Index: binary.BigEndian.Uint32(head[21:]),
	}
	free, err := d.count(at, 1)
	if err != nil {
		return nil, err
	}
	if f.Module, err = d.nextAtom(); err != nil {
		return nil, err
	}
	if f.OldIndex, err = d.funNumber(at); err != nil {
		return nil, err
	}
	if f.OldUniq, err = d.funNumber(at); err != nil {
		return nil, err
	}
	if f.Pid, err = d.nextPid(at); err != nil {
		return nil, err
	}
	if f.FreeTerms, err = d.freeTerms(at, free, depth); err != nil {
		return nil, err
	}
	if uint64(d.pos-at-1) != uint64(size) {
		return nil, d.bad(at, "fun is not as long as it says")
	}
	return f, nil
}

// oldFun reads FUN_EXT, which OTP dropped long ago: number of free terms (4
// bytes), creator, module, index, uniq, free terms. It says no arity.
func (d *Decoder) oldFun(at, depth int) (Term, error) {
	free, err := d.count(at, 1)
	if err != nil {
		return nil, err
	}
	f := &Fun{}
	if f.Pid, err = d.nextPid(at); err != nil {
		return nil, err
	}
	if f.Module, err = d.nextAtom(); err != nil {
		return nil, err
	}
	if f.OldIndex, err = d.funNumber(at); err != nil {
		return nil, err
	}
	if f.OldUniq, err = d.funNumber(at); err != nil {
		return nil, err
	}
	f.Index = f.OldIndex
	f.FreeTerms, err = d.freeTerms(at, free, depth)
	return boxed(f, err)
}

func (d *Decoder) freeTerms(at, n, depth int) ([]Term, error) {
	if n == 0 {
		return nil, nil
	}
	terms := d.terms(n, d.left())
	return terms, d.fill(at, terms, depth)
}

// funNumber reads an integer of a fun's head. OTP writes it signed or not, as
// it happens to hold it: both are the same 32 bits.
func (s *source) funNumber(at int) (uint32, error) {
	tag, ok := s.u8()
	if !ok {
		return 0, s.short(at)
	}
	switch tag {
	case tagSmallInt:
		if v, ok := s.u8(); ok {
			return uint32(v), nil
		}
		return 0, s.short(at)
	case tagInt:
		if v, ok := s.u32(); ok {
			return v, nil
		}
		return 0, s.short(at)
	case tagSmallBig:
		digits, negative, err := s.big(at, tag)
		if err != nil {
			return 0, err
		}
		if v, ok := smallBig(digits, negative); ok && v >= math.MinInt32 && v <= math.MaxUint32 {
			return uint32(v), nil
		}
	}
	return 0, s.bad(at, "fun has a wrong index or uniq")
}

func (d *Decoder) nextPid(at int) (Pid, error) {
	tag, ok := d.u8()
	switch {
	case !ok:
		return Pid{}, d.short(at)
	case tag != tagNewPid && tag != tagPid:
		return Pid{}, d.bad(at, "fun has no pid")
	}
	return d.pid(at, tag)
}
