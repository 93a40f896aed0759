package registry

import (
	"encoding/binary"
	"fmt"
	"time"
)

// receive takes a message from another member.
func (c *core) receive(now time.Time, from string, msg []byte) error {
	if len(msg) > maxFrame {
		return fmt.Errorf("%w: longer than %d bytes", ErrMessage, maxFrame)
	}
	p := &parser{b: msg}
	v, typ := p.u8(), p.u8()
	if p.err == nil && v != version {
		p.fail(fmt.Sprintf("version %d", v))
	}
	if p.err != nil {
		return p.err
	}
	switch typ {
	case msgDigest:
		return c.onDigest(from, p)
	case msgHeads:
		return c.onHeads(now, from, p)
	case msgWant:
		return c.onWant(from, p)
	case msgDelta:
		return c.onDelta(now, from, msg, p)
	case msgVote:
		return c.onVote(now, from, p)
	case msgAsk:
		return c.onAsk(now, from, p)
	case msgRecall:
		return c.onRecall(now, from, p)
	case msgPast:
		return c.onPast(now, from, p)
	case msgMeta:
		return c.onMeta(now, from, msg, p)
	}
	return fmt.Errorf("%w: type %d", ErrMessage, typ)
}

// flush tells the others about the next of this member's own changes, and
// whether there are more.
func (c *core) flush() (more bool) {
	if len(c.targets) == 0 {
		c.flushed = c.own.applied // who comes into sight asks for them
	}
	c.flushed = max(c.flushed, c.own.deletes.from) // who misses some asks for a walk
	if c.flushed == c.own.applied {
		return false
	}
	to, flags := c.targets, byte(0)
	if len(to) > c.direct {
		to, flags = c.pick(to, fanOut(len(to))), flagRelay
	}
	var msg []byte
	msg, c.flushed = c.own.piece(flags, c.flushed, 0, c.frame)
	for _, name := range to {
		c.send(name, msg)
	}
	return c.flushed < c.own.applied
}

// piece is the next delta behind a number, and where it ends.
func (l *life) piece(flags byte, from, since uint64, frame int) (msg []byte, to uint64) {
	room := int(min(uint64(frame+4096), 96+96*(l.applied-from)))
	b, at := appendDelta(begin(msgDelta, room), &delta{
		flags: flags, origin: []byte(l.name), epoch: l.epoch, from: from, head: l.applied, since: since,
	})
	b, to = l.appendChanges(b, from, frame, nil)
	if to < l.applied {
		b[2] |= flagMore
	}
	binary.BigEndian.PutUint64(b[at:], to)
	return b, to
}

// appendChanges appends the changes behind a number in their order, as many as
// go into one message, and returns the number up to which these are all. With
// keep, there are no deletions, and only records that keep accepts.
func (l *life) appendChanges(b []byte, from uint64, frame int, keep func(*record) bool) ([]byte, uint64) {
	deletions, r, prev := l.deletes.after(from), l.after(from), from
	if keep != nil {
		deletions = nil
	}
	for len(b) < frame {
		if r != nil && r.seq > l.applied {
			r = nil // of a walk that has not ended
		}
		switch {
		case r == nil && len(deletions) == 0:
			return b, l.applied
		case r == nil || len(deletions) > 0 && deletions[0].seq < r.seq:
			b = appendDeletion(b, prev, &deletions[0])
			prev = deletions[0].seq
			deletions = deletions[1:]
		default:
			if keep == nil || keep(r) {
				b = appendRecord(b, prev, r)
				prev = r.seq
			}
			l.cursor = r
			r = r.next
		}
	}
	if r == nil && len(deletions) == 0 {
		prev = l.applied
	}
	return b, prev
}

// onWant answers a question for changes with a few pieces.
func (c *core) onWant(from string, p *parser) error {
	w, err := parseWant(p)
	if err != nil {
		return err
	}
	o := c.origins[string(w.origin)]
	if o == nil || o.cur == nil || o.cur.epoch != w.epoch || w.after >= o.cur.applied {
		return nil
	}
	l, flags := o.cur, byte(0)
	switch {
	case w.since < l.deletes.from && w.since != l.applied:
		flags, w.after, w.since = flagWalk, 0, l.applied
		c.stats.Snapshots++
	case w.after < w.since:
		flags = flagWalk
	default:
		w.since = 0
	}
	for n := 1; w.after < l.applied && n <= answerSize; n++ {
		var msg []byte
		msg, w.after = l.piece(flags, w.after, w.since, c.frame)
		if n == answerSize || w.after >= l.applied {
			msg[2] |= flagEnd
		}
		c.send(from, msg)
		if w.after >= w.since {
			flags, w.since = 0, 0 // the walk is over
		}
	}
	return nil
}

// onDelta applies changes of a life.
func (c *core) onDelta(now time.Time, from string, msg []byte, p *parser) error {
	d, err := parseDelta(p)
	if err != nil {
		return err
	}
	l := c.lifeFor(now, string(d.origin), d.epoch)
	if l == nil {
		return nil
	}
	l.head = max(l.head, d.head)
	if d.flags&flagEnd != 0 {
		l.asking = time.Time{}
	}
	if d.flags&flagWalk != 0 {
		return c.onWalk(now, from, l, &d)
	}
	switch {
	case d.to <= l.applied: // known
	case d.from > l.applied:
		c.want(now, from, l)
	default:
		c.apply(now, l, &d)
		l.applied = d.to
		if l.walk != nil && l.applied >= l.walk.since {
			l.walk = nil
		}
		if d.flags&flagRelay != 0 {
			c.relay(from, l.name, msg)
		}
		if d.flags&flagMore != 0 && d.flags&flagEnd != 0 {
			c.want(now, from, l)
		}
	}
	return nil
}

// onWalk applies a piece of a walk.
func (c *core) onWalk(now time.Time, from string, l *life, d *delta) error {
	w := l.walk
	if d.from == 0 && l.applied < d.since && (w == nil || w.from == from || now.Sub(w.moved) > walkTimeout) {
		w = &walk{from: from, since: d.since}
		l.walk = w
		for r := l.first; r != nil; r = r.next {
			r.marked = false
		}
	}
	if w == nil || w.from != from || w.since != d.since || w.at != d.from {
		return nil
	}
	c.apply(now, l, d)
	w.at, w.moved = d.to, now
	if w.at >= w.since {
		c.sweep(now, l)
	}
	if d.flags&flagMore != 0 && d.flags&flagEnd != 0 {
		c.want(now, from, l)
	}
	return nil
}

// sweep ends a walk: what it did not see is gone.
func (c *core) sweep(now time.Time, l *life) {
	w := l.walk
	l.walk = nil
	for r := l.first; r != nil; {
		next := r.next
		if !r.marked && r.seq <= w.at {
			c.removeRecord(now, r)
		}
		r = next
	}
	if w.at > l.applied {
		l.applied = w.at
		l.deletes.reset(w.at)
	}
}

// apply takes over changes behind the replica's number; those of a walk
// wherever they are news.
func (c *core) apply(now time.Time, l *life, d *delta) {
	walking := d.flags&flagWalk != 0
	p := &parser{b: d.changes}
	for seq := d.from; len(p.b) > 0; {
		ch := parseChange(p, seq)
		if p.err != nil {
			return // not possible: parseDelta saw them
		}
		seq = ch.seq
		switch {
		case seq <= l.applied && !walking:
		case ch.delete:
			c.applyDelete(now, l, &ch, walking)
		default:
			c.applyPut(now, l, &ch, walking)
		}
	}
}

func (c *core) applyDelete(now time.Time, l *life, ch *change, walking bool) {
	o := owner{ch.kind, ch.creation, string(ch.a), string(ch.b)}
	key := ""
	if s := c.index.slots.slot(string(ch.key)); s != nil {
		key = s.key
		if r := c.index.find(s, l, ch.dup, &o); r != nil && r.seq < ch.seq {
			c.removeRecord(now, r)
		}
	}
	if !walking {
		if key == "" {
			key = string(ch.key)
		}
		l.deletes.add(deletion{seq: ch.seq, key: key, dup: ch.dup, owner: o}, c.deletions, ch.seq)
	}
}

func (c *core) applyPut(now time.Time, l *life, ch *change, walking bool) {
	o := owner{kind: ch.kind, creation: ch.creation}
	if ch.kind == kindPid || ch.kind == kindMember {
		o.a = l.share(ch.a)
	} else {
		o.a = string(ch.a)
	}
	if len(ch.b) > 0 {
		o.b = string(ch.b)
	}
	s := c.index.slots.slot(string(ch.key))
	if s == nil {
		s = &slot{key: string(ch.key)}
	}
	old := c.index.find(s, l, ch.dup, &o)
	if old != nil && old.seq >= ch.seq {
		old.marked = old.marked || walking
		return
	}
	c.hear(now, ch.stamp)
	r := ch.record(s, l)
	r.owner, r.marked = o, walking
	c.putRecord(now, old, r)
	if r.pending {
		c.voteLater(r)
	}
}

// record makes a change a record without an owner.
func (ch *change) record(s *slot, l *life) *record {
	r := &record{
		slot: s, life: l, claimed: ch.claimed, stamp: ch.stamp, seq: ch.seq,
		ttl: ch.ttl, dup: ch.dup, quorum: ch.quorum, pending: ch.pending,
	}
	if len(ch.value) > 0 {
		r.value = append([]byte(nil), ch.value...)
	}
	return r
}

// relay passes a message on.
func (c *core) relay(from, origin string, msg []byte) {
	for _, name := range c.pick(c.targets, fanOut(len(c.targets))) {
		if name != from && name != origin {
			c.send(name, msg)
		}
	}
}

// want asks a member for what is missing, unless an answer is awaited.
func (c *core) want(now time.Time, from string, l *life) {
	if !l.asking.IsZero() && now.Sub(l.asking) < askTimeout {
		return
	}
	l.asking = now
	c.stats.Repairs++
	w := want{origin: []byte(l.name), epoch: l.epoch, after: l.applied, since: l.applied}
	if l.walk != nil && l.walk.from == from {
		w.after, w.since = l.walk.at, l.walk.since
	}
	c.send(from, appendWant(begin(msgWant, 64), w))
}
