package node

import (
	"sync/atomic"

	"github.com/debughost/debughost/erl/etf"
)

// idents gives out the identifiers of one incarnation of our node. A pid or a
// reference is found again by its serial number, a uint64.
type idents struct {
	node     etf.Atom
	creation uint32
	mailbox  atomic.Uint64
	call     atomic.Uint64
	refs     atomic.Uint64
}

// mailboxPid returns a pid for a mailbox: an even number.
func (g *idents) mailboxPid() etf.Pid { return g.pid(g.mailbox.Add(1) << 1) }

// callPid returns a pid for one call: an odd number. Nothing is ever
// delivered to it, except what answers the call.
func (g *idents) callPid() etf.Pid { return g.pid(g.call.Add(1)<<1 | 1) }

// pid spreads a number over the fields as the emulator does: 15 bits of id,
// the rest in serial.
func (g *idents) pid(n uint64) etf.Pid {
	return etf.Pid{Node: g.node, ID: uint32(n & 0x7fff), Serial: uint32(n >> 15), Creation: g.creation}
}

// pidNumber is the inverse of pid; ok is false for a pid that is not ours.
func (g *idents) pidNumber(p etf.Pid) (n uint64, ok bool) {
	return uint64(p.ID) | uint64(p.Serial)<<15, p.ID <= 0x7fff && p.Creation == g.creation && p.Node == g.node
}

// ref returns a new reference and its number.
func (g *idents) ref() (etf.Ref, uint64) {
	n := g.refs.Add(1)
	return g.refOf(n), n
}

// refOf is the reference with a number: three words, of which the first has 18
// bits as everywhere in Erlang.
func (g *idents) refOf(n uint64) etf.Ref {
	return etf.Ref{
		Node: g.node, Creation: g.creation, Len: 3,
		Words: [5]uint32{uint32(n & 0x3ffff), uint32(n >> 18), uint32(n >> 50)},
	}
}

// refNumber is the inverse of refOf; ok is false for a reference that is not
// ours.
func (g *idents) refNumber(r etf.Ref) (n uint64, ok bool) {
	n = uint64(r.Words[0]) | uint64(r.Words[1])<<18 | uint64(r.Words[2])<<50
	return n, r.Len == 3 && r.Words[0] <= 0x3ffff && r.Words[2] < 1<<14 && r.Creation == g.creation && r.Node == g.node
}
