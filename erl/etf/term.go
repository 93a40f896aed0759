package etf

import "math/big"

// Term is an Erlang value: one of the concrete types of this file. The set is
// closed, so a type switch over them is complete.
//
// Terms are immutable by convention: a decoded term may share memory with its
// siblings, so nobody writes into one that they did not build.
type Term interface{ isTerm() }

// Atom is an Erlang atom, UTF-8, at most 255 characters.
type Atom string

// Int is an integer that fits into 64 bits.
type Int int64

// BigInt is an integer that does not fit into Int. The decoder returns an Int
// for everything that does, so that two equal integers have one Go type.
type BigInt struct{ *big.Int }

// Float is an Erlang float: finite, 64 bits.
type Float float64

// Binary is a binary whose length is a multiple of 8 bits.
type Binary []byte

// Bitstring is a binary whose last byte has only its Bits high bits in use
// (1 to 7). A Bitstring with 8 bits is a Binary.
type Bitstring struct {
	Bytes []byte
	Bits  uint8
}

// String is a proper list of bytes in its compact form (STRING_EXT). Erlang
// has no such type: String("ab") and List{Int(97), Int(98)} are the same term,
// and Equal says so.
type String string

// List is a proper list; the empty list is List{} or List(nil).
type List []Term

// ImproperList is a list whose last tail is not a list. It has at least one
// element.
type ImproperList struct {
	Elems []Term
	Tail  Term
}

// Tuple is a tuple of any size.
type Tuple []Term

// Pair is one association of a Map.
type Pair struct{ Key, Value Term }

// Map is an Erlang map as a list of pairs, since any term may be a key. The
// order is the sender's and means nothing.
type Map []Pair

// Pid is a process identifier. It is comparable, and names one process of one
// incarnation (Creation) of a node.
type Pid struct {
	Node     Atom
	ID       uint32
	Serial   uint32
	Creation uint32
}

// Port is a port identifier.
type Port struct {
	Node     Atom
	ID       uint64
	Creation uint32
}

// Ref is a reference of one to five words. It is comparable.
type Ref struct {
	Node     Atom
	Creation uint32
	Len      uint8
	Words    [5]uint32
}

// Fun is a local fun (NEW_FUN_EXT). It can be sent back to the node that it
// came from, and not much else.
type Fun struct {
	Module    Atom
	Arity     uint8
	Uniq      [16]byte
	Index     uint32
	OldIndex  uint32
	OldUniq   uint32
	Pid       Pid
	FreeTerms []Term
}

// Export is an external fun: fun Module:Function/Arity.
type Export struct {
	Module, Function Atom
	Arity            uint8
}

// Record is a native record of OTP 29 (EEP 79), not the tuple that older
// Erlang calls a record. It carries its field names, so that it can be read
// without its module.
type Record struct {
	Module, Name Atom
	Exported     bool
	Fields       []Field
}

// Field is one field of a Record.
type Field struct {
	Name  Atom
	Value Term
}

func (Atom) isTerm()         {}
func (Int) isTerm()          {}
func (BigInt) isTerm()       {}
func (Float) isTerm()        {}
func (Binary) isTerm()       {}
func (Bitstring) isTerm()    {}
func (String) isTerm()       {}
func (List) isTerm()         {}
func (ImproperList) isTerm() {}
func (Tuple) isTerm()        {}
func (Map) isTerm()          {}
func (Pid) isTerm()          {}
func (Port) isTerm()         {}
func (Ref) isTerm()          {}
func (*Fun) isTerm()         {}
func (Export) isTerm()       {}
func (*Record) isTerm()      {}
