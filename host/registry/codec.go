package registry

import (
	"encoding/binary"
	"time"
)

// What members send each other about the registry.
//
// A message is one byte of version (1), one of type, and a body:
//
//	digest  vector:u64 meta:u64
//	heads   reply:bool meta:u64 { origin:text epoch:u64 at:uvarint }*
//	want    origin:text epoch:u64 after:u64 since:u64
//	delta   flags:u8 origin:text epoch:u64 from:u64 to:u64 head:u64 since:u64 change*
//	vote    key:text epoch:u64 seq:u64 round:uvarint accept:bool floor:u64
//	        holder:bool [ origin:text epoch:u64 change ]
//	ask     key:text epoch:u64 seq:u64 round:uvarint
//	recall  epoch:u64 after:u64
//	past    epoch:u64 after:u64 to:u64 last:bool change*
//	meta    { key:text writer:text stamp:u64 deleted:bool value:bytes }*
//
// A change is one entry as it is now, or the removal of one:
//
//	change  op:u8 seq:uvarint key:text [owner] [ claimed:u64 stamp:varint ttl:uvarint value:bytes ]
//	owner   pid: node:text pid:text creation:uvarint; else id:text
//
// op has bits for deletion (1), duplicate (2), pending (4) and quorum (8), and
// the kind of the owner from bit 16 up. seq is the difference to the change
// before, in the first one to from (in past to the after that was asked for, in
// a vote to 0), and never 0. stamp is the difference to claimed. A deletion
// names its owner only if it is a duplicate, and ends there.
//
// Numbers are big-endian; bytes and text have a uvarint of length before them;
// text is printable UTF-8 and not empty. A list goes on to the end of the
// message. A flag, type, kind or version that is not known here is an error:
// the version rises with each change of the format.
const version = 1

const (
	msgDigest = 1 + iota
	msgHeads
	msgWant
	msgDelta
	msgVote
	msgAsk
	msgRecall
	msgPast
	msgMeta
)

// Limits of what is accepted.
const (
	MaxKey   = 512      // bytes of a key
	MaxValue = 64 << 10 // bytes of a value
	maxName  = 255      // bytes of a member's or node's name, a pid, an id
	maxFrame = 1 << 20  // bytes of a message

	// fullFrame is where a message is sent and another one begun: so it may get
	// longer by one change. Readers wait while a message is applied, for 1 to 2 ms
	// if it is one of this size.
	fullFrame = 64 << 10
)

func begin(typ byte, room int) []byte {
	return append(make([]byte, 0, room), version, typ)
}

// Flags of a delta.
const (
	flagWalk  = 1 << iota // a piece of a walk that began at since
	flagRelay             // to be passed on to others by who did not know it
	flagMore              // the sender has more: ask for it
	flagEnd               // the last piece of an answer
	flagsAll  = 1<<iota - 1
)

// delta is what brings the replica of a life from one number to another.
type delta struct {
	flags    byte
	origin   []byte
	epoch    uint64
	from, to uint64
	head     uint64 // the highest number that the sender has
	since    uint64 // of a walk
	changes  []byte // checked: each will parse
}

// appendDelta begins a delta with no changes; the caller appends them, and then
// writes the number of the last one at the place that is returned too.
func appendDelta(b []byte, d *delta) (_ []byte, to int) {
	b = append(b, d.flags)
	b = appendBytes(b, d.origin)
	b = binary.BigEndian.AppendUint64(b, d.epoch)
	b = binary.BigEndian.AppendUint64(b, d.from)
	to = len(b)
	b = binary.BigEndian.AppendUint64(b, d.to)
	b = binary.BigEndian.AppendUint64(b, d.head)
	b = binary.BigEndian.AppendUint64(b, d.since)
	return b, to
}

func parseDelta(p *parser) (d delta, err error) {
	d.flags = p.u8()
	d.origin = p.text(maxName)
	d.epoch, d.from, d.to, d.head, d.since = p.u64(), p.u64(), p.u64(), p.u64(), p.u64()
	switch {
	case p.err != nil:
		return delta{}, p.err
	case d.flags&^flagsAll != 0:
		p.fail("unknown flag")
	case d.from >= d.to || d.to > d.head:
		p.fail("numbers out of order")
	}
	d.changes = p.b
	if seq := checkChanges(p, d.from); seq > d.to {
		p.fail("a change behind the end")
	}
	return d, p.err
}

// checkChanges parses all changes to the end, and returns the last's number.
func checkChanges(p *parser, seq uint64) uint64 {
	for len(p.b) > 0 {
		c := parseChange(p, seq)
		seq = c.seq
	}
	return seq
}

// Bits of a change's op.
const (
	opDelete = 1 << iota
	opDuplicate
	opPending
	opQuorum
	opKind = 1 << iota // times the owner's kind
)

// change is one change on the wire. Its bytes are those of the message.
type change struct {
	seq            uint64
	delete         bool
	dup, pending   bool
	quorum         bool
	key            []byte
	kind           uint8
	a, b           []byte // of the owner, as in owner
	creation       uint32
	claimed, stamp uint64
	ttl            time.Duration
	value          []byte
}

func parseChange(p *parser, prev uint64) (c change) {
	op := p.u8()
	c.delete, c.dup = op&opDelete != 0, op&opDuplicate != 0
	c.pending, c.quorum = op&opPending != 0, op&opQuorum != 0
	c.kind = op / opKind
	step := p.uvarint()
	c.seq = prev + step
	c.key = p.text(MaxKey)
	switch {
	case c.seq <= prev:
		p.fail("number does not rise")
	case c.kind > kindLease, (c.kind == 0) == (!c.delete || c.dup):
		p.fail("bad kind of owner")
	case c.dup && (c.pending || c.quorum), c.delete && (c.pending || c.quorum), c.pending && c.quorum:
		p.fail("bad op")
	}
	if c.kind != 0 {
		c.a = p.text(maxName)
	}
	if c.kind == kindPid {
		c.b = p.text(maxName)
		creation := p.uvarint()
		c.creation = uint32(creation)
		if uint64(c.creation) != creation {
			p.fail("bad creation")
		}
	}
	if c.delete {
		return c
	}
	c.claimed = p.u64()
	c.stamp = c.claimed + uint64(p.varint())
	c.ttl = time.Duration(p.ttl())
	c.value = p.bytes(MaxValue)
	return c
}

// appendRecord appends the change that made r. prev is the number of the change
// before it.
func appendRecord(b []byte, prev uint64, r *record) []byte {
	op := r.owner.kind * opKind
	if r.dup {
		op |= opDuplicate
	}
	if r.pending {
		op |= opPending
	}
	if r.quorum {
		op |= opQuorum
	}
	b = append(b, op)
	b = binary.AppendUvarint(b, r.seq-prev)
	b = appendBytes(b, r.slot.key)
	b = appendOwner(b, &r.owner)
	b = binary.BigEndian.AppendUint64(b, r.claimed)
	b = binary.AppendVarint(b, int64(r.stamp-r.claimed))
	b = binary.AppendUvarint(b, uint64(r.ttl))
	return appendBytes(b, r.value)
}

func appendDeletion(b []byte, prev uint64, d *deletion) []byte {
	op := byte(opDelete)
	if d.dup {
		op |= opDuplicate | d.owner.kind*opKind
	}
	b = append(b, op)
	b = binary.AppendUvarint(b, d.seq-prev)
	b = appendBytes(b, d.key)
	if d.dup {
		b = appendOwner(b, &d.owner)
	}
	return b
}

func appendOwner(b []byte, o *owner) []byte {
	b = appendBytes(b, o.a)
	if o.kind == kindPid {
		b = appendBytes(b, o.b)
		b = binary.AppendUvarint(b, uint64(o.creation))
	}
	return b
}

// head is the number that a replica has of a life.
type head struct {
	origin []byte
	epoch  uint64
	at     uint64
}

func appendHead(b []byte, h head) []byte {
	b = appendBytes(b, h.origin)
	b = binary.BigEndian.AppendUint64(b, h.epoch)
	return binary.AppendUvarint(b, h.at)
}

func parseHead(p *parser) head {
	return head{p.text(maxName), p.u64(), p.uvarint()}
}

// want asks for the changes after a number. A walk's next piece is asked for
// with the number at which the walk began; else since is after.
type want struct {
	origin       []byte
	epoch        uint64
	after, since uint64
}

func appendWant(b []byte, w want) []byte {
	b = appendBytes(b, w.origin)
	b = binary.BigEndian.AppendUint64(b, w.epoch)
	b = binary.BigEndian.AppendUint64(b, w.after)
	return binary.BigEndian.AppendUint64(b, w.since)
}

func parseWant(p *parser) (want, error) {
	w := want{p.text(maxName), p.u64(), p.u64(), p.u64()}
	if w.after > w.since && p.err == nil {
		p.fail("numbers out of order")
	}
	return w, p.end()
}

// ballot names a claim that a majority is asked about.
type ballot struct {
	key   []byte
	epoch uint64 // of the claimant's life
	seq   uint64 // of the claim
	round uint64 // of asking: 0 is the claim itself
}

func appendBallot(b []byte, v ballot) []byte {
	b = appendBytes(b, v.key)
	b = binary.BigEndian.AppendUint64(b, v.epoch)
	b = binary.BigEndian.AppendUint64(b, v.seq)
	return binary.AppendUvarint(b, v.round)
}

func parseBallot(p *parser) ballot {
	return ballot{p.text(MaxKey), p.u64(), p.u64(), p.uvarint()}
}

// vote is the answer of one member to a ballot.
type vote struct {
	ballot
	accept bool
	// floor, of a refusal, is a claim's time that this one must exceed: one that a
	// majority may have agreed to and that is out of sight. 0: that is not why.
	floor  uint64
	origin []byte // of the holder, who is why; empty: there is none
	epoch  uint64
	holder change
}

func appendVote(b []byte, v *vote, holder *record) []byte {
	b = appendBallot(b, v.ballot)
	b = appendBool(b, v.accept)
	b = binary.BigEndian.AppendUint64(b, v.floor)
	b = appendBool(b, holder != nil)
	if holder != nil {
		b = appendBytes(b, holder.life.name)
		b = binary.BigEndian.AppendUint64(b, holder.life.epoch)
		b = appendRecord(b, 0, holder)
	}
	return b
}

func parseVote(p *parser) (v vote, err error) {
	v.ballot = parseBallot(p)
	v.accept = p.bool()
	v.floor = p.u64()
	if p.bool() {
		v.origin, v.epoch = p.text(maxName), p.u64()
		v.holder = parseChange(p, 0)
		if v.holder.delete {
			p.fail("holder is a deletion")
		}
	}
	return v, p.end()
}

// past is a piece of what an earlier life of the receiver had.
type past struct {
	epoch   uint64 // of that life
	after   uint64 // that was asked for
	to      uint64
	last    bool
	changes []byte // checked
}

func appendPast(b []byte, v *past) (_ []byte, to int) {
	b = binary.BigEndian.AppendUint64(b, v.epoch)
	b = binary.BigEndian.AppendUint64(b, v.after)
	to = len(b)
	b = binary.BigEndian.AppendUint64(b, v.to)
	b = appendBool(b, v.last)
	return b, to
}

func parsePast(p *parser) (past, error) {
	v := past{epoch: p.u64(), after: p.u64(), to: p.u64(), last: p.bool()}
	v.changes = p.b
	if checkChanges(p, v.after) > v.to && p.err == nil {
		p.fail("a change behind the end")
	}
	return v, p.err
}
