// Package etf reads and writes Erlang's external term format, the bytes that
// term_to_binary makes and that nodes send each other, and prints and parses
// terms in the syntax of Erlang and of Elixir.
//
// It is a codec and no more: no I/O, no goroutines. Frames, distribution
// headers and control messages are the business of package dist.
//
//	t, err := etf.Decode(b, etf.Limits{})       // a tree of Go values
//	b, err := etf.Encode(etf.Tuple{etf.Atom("ok"), etf.Int(1)})
//
//	tape := etf.NewTape(etf.Limits{})           // the fast path for large answers
//	err := tape.Decode(b)
//	root := tape.Cursor()
//	for rows, _ := root.EnterList(); rows.Len() > 0; {
//		row, _ := rows.EnterTuple()
//		pid, ok := row.Pid()
//		…
//	}
//
// # The format
//
// A term is a tag of one byte and what that tag says. All integers are
// big-endian, except for the digits of big ones. A term on its own has the
// version byte 131 before it; in a message after a distribution header it has
// none.
//
//	131 term                                    a term on its own
//	131  80 size:32 zlib(term)                  the same, compressed; size inflated
//
//	 97 SMALL_INTEGER_EXT        value:8
//	 98 INTEGER_EXT              value:32, signed
//	110 SMALL_BIG_EXT            n:8   sign:8 digits:n, the lowest byte first
//	111 LARGE_BIG_EXT            n:32  sign:8 digits:n
//	 99 FLOAT_EXT                31 bytes of "%.20e", filled with zeros
//	 70 NEW_FLOAT_EXT            IEEE 754:64, finite
//
//	100 ATOM_EXT                 n:16 Latin-1:n
//	115 SMALL_ATOM_EXT           n:8  Latin-1:n
//	118 ATOM_UTF8_EXT            n:16 UTF-8:n, at most 255 characters
//	119 SMALL_ATOM_UTF8_EXT      n:8  UTF-8:n
//	 82 ATOM_CACHE_REF           index:8 into the atoms of a distribution header
//
//	109 BINARY_EXT               n:32 data:n
//	 77 BIT_BINARY_EXT           n:32 bits:8 data:n, bits of the last byte in use
//	107 STRING_EXT               n:16 data:n, a list of n bytes
//	106 NIL_EXT                  the empty list
//	108 LIST_EXT                 n:32 elements:n tail; the tail of a proper list is NIL_EXT
//	104 SMALL_TUPLE_EXT          n:8  elements:n
//	105 LARGE_TUPLE_EXT          n:32 elements:n
//	116 MAP_EXT                  n:32 (key value):n
//	 67 RECORD_EXT               n:32 flags:8 module name field-names:n values:n
//	                             OTP 29; flags bit 0: exported
//
//	 88 NEW_PID_EXT              node id:32 serial:32 creation:32
//	103 PID_EXT                  node id:32 serial:32 creation:8
//	120 V4_PORT_EXT              node id:64 creation:32
//	 89 NEW_PORT_EXT             node id:32 creation:32
//	102 PORT_EXT                 node id:32 creation:8
//	 90 NEWER_REFERENCE_EXT      n:16 node creation:32 (word:32):n, n from 1 to 5
//	114 NEW_REFERENCE_EXT        n:16 node creation:8 (word:32):n
//	101 REFERENCE_EXT            node word:32 creation:8
//
//	113 EXPORT_EXT               module function arity (SMALL_INTEGER_EXT)
//	112 NEW_FUN_EXT              size:32 arity:8 uniq:128 index:32 n:32 module
//	                             old-index old-uniq creator free-terms:n
//	117 FUN_EXT                  n:32 creator module index uniq free-terms:n
//
// Nodes, modules, functions and the names of records and fields are atoms,
// old-index, old-uniq, index and uniq integers, a creator is a pid. The size of
// a fun counts itself and all after it.
//
// All of this is read. What is written is what OTP 26 and later write: atoms in
// UTF-8, integers and tuples in their smallest form, ports as V4_PORT_EXT, the
// tags with a creation of 32 bits. LOCAL_EXT (121) and whatever is not in this list is an
// *UnknownTagError: nobody but its own node can read the first, and OTP sends
// neither in messages.
//
// # What is not kept
//
// Decoding keeps the value, not its spelling: integers that fit are an Int, an
// empty STRING_EXT is the empty List, a list whose tail is a list is one list,
// unused bits of a Bitstring are zero. A map with a key that comes twice, which
// OTP refuses, is kept as it is.
//
// # Trust
//
// The bytes come from elsewhere, and so nothing that they say is believed
// before it is there: lengths are compared with the input before anything is
// cut or allocated, all containers of a term share one budget of elements, so
// that nested headers cannot multiply, depth and inflated size have limits (see
// Limits). What is wrong is an error with its offset, never a panic.
package etf
