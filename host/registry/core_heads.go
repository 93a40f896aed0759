package registry

import (
	"encoding/binary"
	"hash/fnv"
	"time"
)

// compare sends digests to some members; who has other numbers answers with
// them.
func (c *core) compare() {
	n := somePeers
	if len(c.targets) <= fewPeers {
		n = fewPeers
	}
	b := binary.BigEndian.AppendUint64(begin(msgDigest, 18), c.digest())
	b = binary.BigEndian.AppendUint64(b, c.meta.digest())
	for _, name := range c.pick(c.targets, n) {
		c.send(name, b)
	}
}

// digest is a hash of all numbers, the same in whatever order they are taken.
func (c *core) digest() uint64 {
	var sum uint64
	var b []byte
	for name, o := range c.origins {
		if l := o.cur; l != nil && l.applied > 0 {
			b = appendHead(b[:0], head{[]byte(name), l.epoch, l.applied})
			sum += hash(b)
		}
	}
	return sum
}

// hash is FNV-1a with a finish (that of MurmurHash3): the sum of such hashes
// tells sets apart whose members differ by little, which FNV's alone does not.
func hash(b []byte) uint64 {
	f := fnv.New64a()
	f.Write(b)
	h := f.Sum64()
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (c *core) onDigest(from string, p *parser) error {
	vector, meta := p.u64(), p.u64()
	if err := p.end(); err != nil {
		return err
	}
	if vector != c.digest() || meta != c.meta.digest() {
		c.sendHeads(from, false)
	} else {
		c.hearFrom(from)
	}
	return nil
}

// sendHeads sends this member's numbers; a reply is not answered with numbers.
func (c *core) sendHeads(to string, reply bool) {
	b := appendBool(begin(msgHeads, 16+32*len(c.origins)), reply)
	b = binary.BigEndian.AppendUint64(b, c.meta.digest())
	for _, name := range sortedKeys(c.origins) {
		if l := c.origins[name].cur; l != nil && len(b) < maxFrame-2*maxName {
			b = appendHead(b, head{[]byte(name), l.epoch, l.applied})
		}
	}
	c.send(to, b)
}

// onHeads asks for what another member has more of, and sends it the numbers of
// this one if that has more of something.
func (c *core) onHeads(now time.Time, from string, p *parser) error {
	check := *p
	check.bool()
	check.u64()
	for len(check.b) > 0 {
		parseHead(&check)
	}
	if check.err != nil {
		return check.err
	}
	defer c.hearFrom(from)
	reply, meta := p.bool(), p.u64()
	ahead := meta != c.meta.digest()
	if ahead {
		c.sendMeta(from)
	}
	unseen := 0
	for _, o := range c.origins {
		if o.cur != nil && o.cur.applied > 0 {
			unseen++
		}
	}
	for len(p.b) > 0 {
		if c.onHead(now, from, parseHead(p), &ahead) {
			unseen--
		}
	}
	if (ahead || unseen > 0) && !reply {
		c.sendHeads(from, true)
	}
	return nil
}

// onHead compares one number with ours. It tells whether we had any of that
// life.
func (c *core) onHead(now time.Time, from string, h head, ahead *bool) bool {
	name := string(h.origin)
	if name == c.own.name {
		*ahead = *ahead || h.epoch < c.own.epoch || h.epoch == c.own.epoch && h.at < c.own.applied
		return c.own.applied > 0
	}
	o := c.origins[name]
	if h.at == 0 && (o == nil || o.cur == nil) {
		return false
	}
	had := o != nil && o.cur != nil && o.cur.applied > 0
	l := c.lifeFor(now, name, h.epoch)
	if l == nil {
		*ahead = *ahead || o != nil && o.cur != nil
		return had
	}
	l.head = max(l.head, h.at)
	switch {
	case h.at > l.applied:
		c.want(now, from, l)
	case h.at < l.applied:
		*ahead = true
	}
	return had
}
