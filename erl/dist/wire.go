package dist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/debughost/debughost/erl/etf"
)

// The few tags of the external term format that control tuples are made of.
// They are read here without a detour over etf.Term, since every message has
// them. Everything else is left to package etf.
const (
	versionMagic  = 131
	tagSmallInt   = 97
	tagInt        = 98
	tagSmallTuple = 104
	tagLargeTuple = 105
	tagNil        = 106
	tagSmallBig   = 110
	tagNewPid     = 88
	tagPid        = 103
	tagNewerRef   = 90
	tagNewRef     = 114
	tagAtomRef    = 82
	tagAtom       = 100
	tagSmallAtom  = 115
	tagAtomUTF8   = 118
	tagShortAtom  = 119 // SMALL_ATOM_UTF8_EXT
	maxRefWords   = 5
	maxAtomRunes  = 255
	maxAtomBytes  = 4 * maxAtomRunes
)

// errShort means that a control tuple ends too early.
var errShort = errors.New("control tuple ends early")

// wire reads the elements of a control tuple. After the first error all reads
// return zero values, and err tells it.
type wire struct {
	b     []byte
	refs  []etf.Atom // of the distribution header
	names *nameTable
	dec   *etf.Decoder
	err   error // the tuple is not what it has to be
	soft  error // a free term in it does not decode; b is lost from there on
}

func (w *wire) fail(err error) {
	if w.err == nil && w.soft == nil {
		w.err = err
	}
	w.b = nil
}

func (w *wire) take(n int) []byte {
	if len(w.b) < n {
		w.fail(errShort)
		return nil
	}
	b := w.b[:n]
	w.b = w.b[n:]
	return b
}

func (w *wire) u8() byte {
	if b := w.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (w *wire) u16() int {
	if b := w.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (w *wire) u32() uint32 {
	if b := w.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// tuple reads a tuple's head and returns its arity.
func (w *wire) tuple() int {
	switch tag := w.u8(); tag {
	case tagSmallTuple:
		return int(w.u8())
	case tagLargeTuple:
		return int(min(w.u32(), math.MaxInt32))
	default:
		w.fail(fmt.Errorf("tag %d where a tuple is due", tag))
		return 0
	}
}

// uint reads an integer that is not negative. One that has more than 64 bits
// loses the upper ones, as the emulator has it for flags.
func (w *wire) uint() uint64 {
	switch tag := w.u8(); tag {
	case tagSmallInt:
		return uint64(w.u8())
	case tagInt:
		if v := int32(w.u32()); v >= 0 {
			return uint64(v)
		}
	case tagSmallBig:
		n, sign := int(w.u8()), w.u8()
		digits := w.take(n)
		if sign == 0 {
			var v uint64
			for i := min(len(digits), 8) - 1; i >= 0; i-- {
				v = v<<8 | uint64(digits[i])
			}
			return v
		}
	default:
		w.fail(fmt.Errorf("tag %d where an integer is due", tag))
		return 0
	}
	w.fail(errors.New("negative integer"))
	return 0
}

// atom reads an atom.
func (w *wire) atom() etf.Atom {
	n, latin1 := 0, false
	switch tag := w.u8(); tag {
	case tagAtomRef:
		i := int(w.u8())
		if i >= len(w.refs) {
			w.fail(fmt.Errorf("atom %d of %d in the header", i, len(w.refs)))
			return ""
		}
		return w.refs[i]
	case tagShortAtom:
		n = int(w.u8())
	case tagAtomUTF8:
		n = w.u16()
	case tagSmallAtom:
		n, latin1 = int(w.u8()), true
	case tagAtom:
		n, latin1 = w.u16(), true
	default:
		w.fail(fmt.Errorf("tag %d where an atom is due", tag))
		return ""
	}
	raw := w.take(n)
	a, err := w.names.atom(raw, latin1)
	if err != nil {
		w.fail(err)
	}
	return a
}

// pid reads a process identifier.
func (w *wire) pid() (p etf.Pid) {
	tag := w.u8()
	if tag != tagNewPid && tag != tagPid {
		w.fail(fmt.Errorf("tag %d where a pid is due", tag))
		return p
	}
	return w.pidBody(tag)
}

func (w *wire) pidBody(tag byte) (p etf.Pid) {
	p.Node, p.ID, p.Serial = w.atom(), w.u32(), w.u32()
	if tag == tagNewPid {
		p.Creation = w.u32()
	} else {
		p.Creation = uint32(w.u8())
	}
	return p
}

// pidOrName reads the address of a process.
func (w *wire) pidOrName() (p etf.Pid, name etf.Atom) {
	if len(w.b) > 0 && (w.b[0] == tagNewPid || w.b[0] == tagPid) {
		return w.pid(), ""
	}
	return p, w.atom()
}

// ref reads a reference.
func (w *wire) ref() (r etf.Ref) {
	tag := w.u8()
	if tag != tagNewerRef && tag != tagNewRef {
		w.fail(fmt.Errorf("tag %d where a reference is due", tag))
		return r
	}
	n := w.u16()
	if n < 1 || n > maxRefWords {
		w.fail(fmt.Errorf("reference of %d words", n))
		return r
	}
	r.Len = uint8(n)
	r.Node = w.atom()
	if tag == tagNewerRef {
		r.Creation = w.u32()
	} else {
		r.Creation = uint32(w.u8())
	}
	for i := range n {
		r.Words[i] = w.u32()
	}
	return r
}

// any reads a term of any kind. That it does not decode is no fault of the
// connection: it may be of a kind that a later release has invented.
func (w *wire) any() etf.Term {
	if w.err != nil || w.soft != nil {
		return nil
	}
	w.dec.SetCache(w.refs)
	t, rest, err := w.dec.DecodeBodyPrefix(w.b)
	if err != nil {
		w.soft, w.b = err, nil
		return nil
	}
	w.b = rest
	return t
}

// nameTable makes atoms of their bytes. It knows the two that nearly all pids
// have, so that they cost no allocation where there is no atom cache.
type nameTable struct{ local, peer etf.Atom }

func (t *nameTable) atom(raw []byte, latin1 bool) (etf.Atom, error) {
	switch {
	case string(raw) == string(t.local):
		return t.local, nil
	case string(raw) == string(t.peer):
		return t.peer, nil
	case latin1:
		runes := make([]rune, len(raw))
		for i, c := range raw {
			runes[i] = rune(c)
		}
		return etf.Atom(runes), nil
	case len(raw) > maxAtomBytes || !utf8.Valid(raw) || utf8.RuneCount(raw) > maxAtomRunes:
		return "", fmt.Errorf("bad atom of %d bytes", len(raw))
	}
	return etf.Atom(raw), nil
}
