package supervisor

import (
	"slices"
	"time"
)

const (
	// tombstoneFresh is how long a removal is told to everybody in sight. Who comes
	// into sight later with an older record is told then.
	tombstoneFresh = time.Minute
	// publishAfter is how long a member that is not to publish a record waits for
	// the one that is, before it does.
	publishAfter = 200 * time.Millisecond
)

// others tells whether there may be anybody to tell something. Who is alone for
// now publishes too: others may see this member before it sees them, and take what
// it has not published for what it does not know.
func (c *core) others() bool { return c.cfg.clustered }

// sees tells whether another member is in sight.
func (c *core) sees() bool {
	for name, p := range c.peers {
		if name != c.self && p.usable {
			return true
		}
	}
	return false
}

// publish tells others of a record, if it is for this member to do so: it is the
// child's arbiter, or has changed it just now, or nobody else in sight does.
func (c *core) publish(ch *child) {
	if ch.rec.stamp() == (stamp{}) {
		return
	}
	if c.publishes(ch) {
		if !ch.published || ch.unsaid {
			ch.published, ch.unsaid = true, false
			rec := ch.rec
			c.do(action{kind: doPublish, id: rec.ID, rec: &rec})
		}
	} else if ch.published {
		ch.published = false
		c.do(action{kind: doWithdraw, id: ch.rec.ID})
	}
}

func (c *core) publishes(ch *child) bool {
	if !c.others() {
		ch.alone = 0
		return false
	}
	known, older := false, false
	for _, o := range ch.others {
		if o.publishes && c.peers[o.member.String()].usable {
			known, older = known || o.newest, older || !o.newest
		}
	}
	if known {
		ch.authored, ch.alone = false, 0
	}
	switch {
	case older && !known:
		return true // they are behind
	case ch.rec.removed():
		return ch.fresh > c.now.mono && (c.arbiterOf(ch) == c.self || !known)
	case c.arbiterOf(ch) == c.self:
		return true
	case known:
		return false
	case ch.authored:
		return true
	case ch.alone == 0:
		ch.alone = c.now.mono + publishAfter
		c.wake(ch, ch.alone)
		return false
	}
	return ch.alone <= c.now.mono
}

// tell says what this member has to say about a child and itself.
func (c *core) tell(ch *child) {
	f := c.here(ch)
	if f != nil && ch.told != nil && ch.told.State == f.State {
		f.Since = ch.told.Since
	}
	out := f != nil && c.others()
	if f.equal(ch.told) && out == ch.toldOut {
		return
	}
	ch.told = f
	if c.handed(ch) || f != nil && f.Reload != nil {
		c.mark(ch) // the arbiter, which may be this member, goes by it
	}
	switch {
	case out:
		c.do(action{kind: doTell, id: ch.rec.ID, fact: f})
	case ch.toldOut:
		c.do(action{kind: doTell, id: ch.rec.ID})
	}
	ch.toldOut = out
}

// here is how a child does on this member; nil: it is none of its business.
func (c *core) here(ch *child) *fact {
	a := &ch.rec.Assignment
	f := &fact{Seen: a.Version, Since: c.now.wall.UnixNano()}
	state, reason := c.stateHere(ch)
	f.State, f.Reason = wordOf(string(state)), wordOf(reason)
	if r := ch.run; r != nil {
		f.Running = r.active()
		f.Started, f.Restarts, f.OSPid, f.Node = r.Started, r.Restarts, r.OSPid, r.Node
		f.Began = r.Began && r.For == a.Version
		if r.Phase == up {
			f.Reload = r.Reload
		}
	}
	f.Balk = wordOf(ch.balks())
	for f.Last = ch.history; f.Last != nil && f.Last.member != c.me; {
		f.Last = f.Last.before
	}
	waited := ch.rec.Intent.Wanted == wantRunning && slices.Contains(a.from(), c.self) && !ch.arrived(a.Member)
	if state == "" && !f.Running && !waited {
		return nil
	}
	return f
}

// arrived tells whether a member has said that it runs the child by the
// assignment in force.
func (ch *child) arrived(member string) bool {
	f := ch.fact(member)
	_, ended := ch.rec.ended()
	if ch.rec.Assignment.take() != "" && f != nil && !f.Began {
		return ended // it may have to begin afresh yet
	}
	return ended || f != nil && f.Running && f.Seen.covers(ch.rec.Assignment.Version)
}

// stateHere is the state as far as this member answers for it.
func (c *core) stateHere(ch *child) (State, string) {
	r := ch.run
	var h hitch
	if r != nil {
		h = r.hitch()
	}
	if r.active() {
		switch {
		case r.Phase == up:
			return Running, ""
		case r.Phase == creating:
			return Starting, h.why
		case r.Phase == recovering:
			return Starting, "it is being taken over"
		case !c.wanted(ch) || h.why == "":
			return Stopping, h.why
		}
		return Starting, h.why // what a failed start has left
	}
	_, ended := ch.rec.ended()
	switch {
	case ch.rec.Intent.Wanted != wantRunning || ended:
		return "", ""
	case ch.rec.Assignment.Member == c.self && ch.suspended != "":
		return Pending, ch.suspended
	case ch.rec.Assignment.Member == c.self && r != nil && r.Phase == blank && ch.right():
		return Starting, h.why
	case ch.rec.Assignment.Member == c.self && r != nil && h.again > c.now.mono:
		return Backoff, h.why
	case ch.rec.Assignment.Member == c.self:
		return Starting, ch.waits
	case ch.reason != "" && ch.rec.Assignment.Member == "":
		return Pending, ch.reason
	case ch.reason != "" && !c.peers[ch.rec.Assignment.Member].up:
		return Pending, ch.reason
	}
	return "", ""
}

// expire forgets what is of no interest any more: a tombstone that is old
// enough, and an id of which nothing is known.
func (c *core) expire(ch *child) {
	if ch.run != nil || len(ch.others) > 0 || ch.published {
		return
	}
	if ch.rec.Intent.Version.Epoch == 0 {
		delete(c.children, ch.rec.ID)
		return
	}
	if ch.rec.removed() && c.now.wall.UnixNano()-ch.rec.Intent.Version.At > int64(c.cfg.tombstones) && ch.fresh <= c.now.mono {
		c.forget(ch)
	}
}

// sweep looks for what can be forgotten.
func (c *core) sweep(now instant) {
	c.at(now)
	for _, ch := range c.children {
		if ch.rec.removed() {
			c.mark(ch)
		}
	}
	c.settle()
}
