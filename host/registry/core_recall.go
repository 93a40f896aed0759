package registry

import (
	"encoding/binary"
	"time"
)

// recalls is what this life of the member asks others about the one before it.
// It does so in its first minute: later, nobody remembers.
type recalls struct {
	wanted bool // somebody wants to hear it
	until  time.Time
	asked  map[string]*recallOf // by member
	epoch  uint64               // of the newest life that was heard of
	told   map[recalled]struct{}
}

// recallOf is where one member's answer stands.
type recallOf struct {
	after uint64
	done  bool
	at    time.Time
}

type recalled struct {
	key   string
	owner owner
}

// maxRecalls is how many members are asked.
const maxRecalls = 8

func newRecalls(now time.Time) recalls {
	return recalls{
		until: now.Add(keepPast),
		asked: make(map[string]*recallOf),
		told:  make(map[recalled]struct{}),
	}
}

// recall asks members what they remember of this member's previous life.
func (c *core) recall(now time.Time, members []string) {
	if !c.recalls.wanted || !now.Before(c.recalls.until) {
		return
	}
	for _, name := range members {
		if _, ok := c.recalls.asked[name]; !ok && len(c.recalls.asked) < maxRecalls {
			c.recalls.asked[name] = &recallOf{}
			c.askPast(now, name)
		}
	}
}

func (c *core) askPast(now time.Time, name string) {
	a := c.recalls.asked[name]
	a.at = now
	b := binary.BigEndian.AppendUint64(begin(msgRecall, 18), c.own.epoch)
	c.send(name, binary.BigEndian.AppendUint64(b, a.after))
}

// recallAgain asks those again whose answer did not come.
func (c *core) recallAgain(now time.Time) {
	if !now.Before(c.recalls.until) {
		c.recalls = recalls{} // frees what was told
		return
	}
	for _, name := range sortedKeys(c.recalls.asked) {
		if a := c.recalls.asked[name]; !a.done && now.Sub(a.at) >= askTimeout && c.peers[name].Visible {
			c.askPast(now, name)
		}
	}
}

// onRecall answers a member that began a new life with a piece of what its
// previous one had. The entries of that life itself are of no use to it.
func (c *core) onRecall(now time.Time, from string, p *parser) error {
	epoch, after := p.u64(), p.u64()
	if err := p.end(); err != nil {
		return err
	}
	c.lifeFor(now, from, epoch)
	v := past{after: after, last: true}
	var l *life
	if o := c.origins[from]; o != nil && o.prev != nil && o.prev.epoch < epoch {
		l = o.prev
		v.epoch = l.epoch
	}
	b, at := appendPast(begin(msgPast, 64), &v)
	if l != nil {
		b, v.to = l.appendChanges(b, after, c.frame, func(r *record) bool { return r.owner.kind != kindMember && !r.pending })
		binary.BigEndian.PutUint64(b[at:], v.to)
		b[at+8] = 0
		if v.to >= l.applied {
			b[at+8] = 1
		}
	}
	c.send(from, b)
	return nil
}

// onPast tells the host what it can register again.
func (c *core) onPast(now time.Time, from string, p *parser) error {
	v, err := parsePast(p)
	if err != nil {
		return err
	}
	a := c.recalls.asked[from]
	if a == nil || a.done || a.after != v.after || v.epoch >= c.own.epoch {
		return nil
	}
	a.done, a.after = v.last || v.to <= a.after, v.to
	if v.epoch >= c.recalls.epoch {
		c.recalls.epoch = v.epoch
		c.adopt(&v)
	}
	if !a.done {
		c.askPast(now, from)
	}
	return nil
}

func (c *core) adopt(v *past) {
	p := &parser{b: v.changes}
	var out []Entry
	for seq := v.after; len(p.b) > 0; {
		ch := parseChange(p, seq)
		if p.err != nil {
			break
		}
		seq = ch.seq
		o := owner{ch.kind, ch.creation, string(ch.a), string(ch.b)}
		id := recalled{string(ch.key), o}
		if _, ok := c.recalls.told[id]; ok || ch.delete || ch.pending || ch.kind == kindMember {
			continue
		}
		c.recalls.told[id] = struct{}{}
		r := ch.record(&slot{key: id.key}, c.own)
		r.owner = o
		out = append(out, r.entry())
	}
	if len(out) > 0 {
		c.out.adoptable = append(c.out.adoptable, out...)
	}
}
