package supervisor

import (
	"maps"
	"slices"

	"github.com/debughost/debughost/sdk"
)

// peer is another member, or this one, as this one sees it.
type peer struct {
	up       bool // neither dead nor left: what was assigned to it stays so
	usable   bool // it answers: it may decide
	draining bool
}

// setMembers says who there is, and whether this member knows what those in
// sight know: while it does not, it decides nothing and starts nothing. Members
// that are not named are gone.
func (c *core) setMembers(now instant, peers map[string]peer, quorum, synced bool) {
	c.at(now)
	if synced != c.synced {
		c.synced = synced
		c.markAll()
	}
	self := peers[c.self]
	self.up, self.usable = true, true
	peers = maps.Clone(peers)
	peers[c.self] = self
	if quorum == c.quorum && maps.Equal(peers, c.peers) {
		c.settle()
		return
	}
	c.quorum = quorum
	joined := false
	for name, p := range peers {
		joined = joined || p.up && !c.peers[name].up
	}
	c.peers, c.usable = peers, nil
	c.era++
	for name, p := range peers {
		if p.usable {
			c.usable = append(c.usable, name)
		}
	}
	slices.Sort(c.usable)
	c.dropGone()
	for _, ch := range c.children {
		if ch.errand != nil {
			ch.retry = 0
		}
		ch.review = ch.review || joined && c.cfg.active
	}
	c.markAll()
	c.settle()
}

// dropGone forgets what members said that are gone.
func (c *core) dropGone() {
	for _, ch := range c.children {
		for i := range ch.others {
			o := &ch.others[i]
			if p := c.peers[o.member.String()]; !p.up {
				*o = other{member: o.member}
			} else if !p.usable {
				o.publishes = false
			}
		}
		ch.tidy()
	}
}

// leave has everything here stopped, so that others may start it.
func (c *core) leave(now instant) {
	c.at(now)
	c.leaving = true
	c.markAll()
	c.settle()
}

// idle tells whether nothing runs here.
func (c *core) idle() bool {
	for _, ch := range c.children {
		if ch.run != nil {
			return false
		}
	}
	return true
}

// arbiterOf is the member that decides about a child, as this one sees it.
func (c *core) arbiterOf(ch *child) string {
	if ch.era != c.era {
		ch.arbiter, ch.era = uint16(c.rank(ch.rec.ID)), c.era
	}
	return c.usable[ch.arbiter]
}

// rank is which of the usable members, of which there is one at least, decides.
func (c *core) rank(id string) int {
	best, most := 0, -1.0
	for i, m := range c.usable {
		if r := sdk.Rendezvous(id, m); r > most {
			best, most = i, r
		}
	}
	return best
}

// heard takes a record that another member publishes.
func (c *core) heard(now instant, from string, r record) {
	c.at(now)
	ch := c.get(r.ID)
	c.learn(ch, r)
	o := ch.hears(from)
	o.publishes, o.newest = true, r.stamp() == ch.rec.stamp()
	c.mark(ch)
	c.settle()
}

// unheard says that a member publishes no record of a child any more.
func (c *core) unheard(now instant, from, id string) {
	c.at(now)
	if ch := c.children[id]; ch != nil {
		if o := ch.of(from); o != nil {
			o.publishes = false
			ch.tidy()
		}
		c.mark(ch)
	}
	c.settle()
}

// told takes what another member says of a child and itself; nil: nothing any
// more.
func (c *core) toldOf(now instant, from, id string, f *fact) {
	c.at(now)
	ch := c.children[id]
	if ch == nil && f == nil {
		return
	}
	if ch == nil {
		ch = c.get(id)
	}
	o := ch.hears(from)
	old := o.fact
	if f == nil {
		o.fact = nil
		ch.tidy()
	} else {
		own := *f
		o.fact = &own
		if f.Last != nil {
			if own.Last = ch.recalls(f.Last); own.Last == nil {
				last := *f.Last
				own.Last = &last
				if old == nil || old.Last == nil || last.at > old.Last.at {
					ch.remember(&last)
				}
			}
		}
	}
	c.mark(ch)
	c.settle()
}
