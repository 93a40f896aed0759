package registry

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"
)

// core is the registry as a pure state machine: messages, calls and the time go
// in; messages, and what others have to hear, come out by take. It is not safe
// for concurrent use.
type core struct {
	own     *life
	index   index
	origins map[string]*origin // own among them
	peers   map[string]Peer
	targets []string // the visible peers, sorted
	clock   uint64   // hybrid logical: Unix nanoseconds, or one more than the last
	rng     *rand.Rand

	direct    int // up to so many peers get every change directly
	frame     int // bytes after which a message is sent and another one begun
	deletions int // that are remembered of each life

	flushed   uint64 // own changes up to it were sent
	leases    leases
	attempts  map[string]*attempt // quorum registrations under way, by key
	promises  map[*record]time.Time
	ballots   []*record // claims to vote on at the end of this step
	started   time.Time
	heard     map[string]bool // members that have told what they know; nil: caught up
	meta      meta
	forgotten map[string]uint64 // name → epoch of members that were forgotten
	recalls   recalls
	nextHeads time.Time // when to compare with others
	reminded  time.Time

	out   output
	stats Stats
}

// origin is what is known of a member's lives.
type origin struct {
	cur   *life
	prev  *life     // the one before, hidden, for the member itself to ask for
	until time.Time // when prev is forgotten
}

// output is what came out of the core.
type output struct {
	sends     []send
	conflicts []NameConflict
	adoptable []Entry
	decided   []decision
}

type send struct {
	to  string
	msg []byte
}

// Times of the core.
const (
	headsEvery  = time.Second
	hurryAfter  = 100 * time.Millisecond // until others are compared with, once a message was dropped
	keepPast    = time.Minute            // what a member's previous life had
	maxSkew     = time.Minute            // that another member's clock may move ours ahead
	askTimeout  = time.Second / 2        // after which an unanswered question is asked anew
	walkTimeout = 2 * time.Second        // after which another member may walk us
)

// Bounds of the core.
const (
	fewPeers     = 8    // so many are all compared with each second, else some
	somePeers    = 3    // of many
	maxDirect    = 16   // so many are all told of a change, else some who tell others
	maxUnknown   = 1024 // members that are heard of without being known
	maxForgotten = 1024
	answerSize   = 16 // pieces of an answer
)

func newCore(member string, epoch uint64, now time.Time, rng *rand.Rand) *core {
	own := &life{name: member, epoch: epoch, visible: true}
	return &core{
		own:       own,
		index:     newIndex(),
		origins:   map[string]*origin{member: {cur: own}},
		peers:     make(map[string]Peer),
		rng:       rng,
		direct:    maxDirect,
		frame:     fullFrame,
		deletions: maxDeletions,
		leases:    leases{byID: make(map[string]*lease)},
		attempts:  make(map[string]*attempt),
		promises:  make(map[*record]time.Time),
		started:   now,
		heard:     make(map[string]bool),
		meta:      newMeta(),
		forgotten: make(map[string]uint64),
		recalls:   newRecalls(now),
	}
}

// take ends a step, and returns what came out of it.
func (c *core) take(now time.Time) output {
	for _, r := range c.ballots {
		r.asked = false
		if r.life.owns(r) {
			c.voteOn(now, r, 0)
		}
	}
	c.ballots = c.ballots[:0]
	c.index.publish()
	out := c.out
	c.out = output{}
	return out
}

func (c *core) send(to string, msg []byte) {
	c.out.sends = append(c.out.sends, send{to, msg})
}

// tick returns the time as this member's clock has it.
func (c *core) tick(now time.Time) uint64 {
	c.clock = max(uint64(now.UnixNano()), c.clock+1)
	return c.clock
}

// hear moves the clock past another member's time, unless that one is too far
// off: a member whose clock is years ahead must not take the others along.
func (c *core) hear(now time.Time, t uint64) {
	if t > c.clock {
		c.clock = max(c.clock, min(t, uint64(now.Add(maxSkew).UnixNano())))
	}
}

// setMembers replaces the list of the other members.
func (c *core) setMembers(now time.Time, peers []Peer) {
	before := c.targets
	c.peers = make(map[string]Peer, len(peers))
	c.targets = nil
	for _, p := range peers {
		if p.Name == c.own.name {
			continue
		}
		c.peers[p.Name] = p
		if p.Visible {
			delete(c.forgotten, p.Name)
		}
	}
	for name, p := range c.peers {
		if p.Visible {
			c.targets = append(c.targets, name)
		}
	}
	slices.Sort(c.targets)
	for _, name := range sortedKeys(c.peers) {
		if p := c.peers[name]; p.Epoch != 0 {
			c.lifeFor(now, name, p.Epoch)
		}
	}
	for _, name := range sortedKeys(c.origins) {
		if l := c.origins[name].cur; l != nil && l != c.own {
			c.show(now, l, c.sees(l))
		}
	}
	c.greet(now, before)
	c.recount(now)
}

// sees tells whether a life's entries count.
func (c *core) sees(l *life) bool {
	p, ok := c.peers[l.name]
	return ok && p.Visible && l.epoch >= p.Epoch
}

// greet sends what is known here to members that came into sight.
func (c *core) greet(now time.Time, before []string) {
	var fresh []string
	for _, name := range c.targets {
		if _, ok := slices.BinarySearch(before, name); !ok {
			fresh = append(fresh, name)
		}
	}
	if len(c.targets) > c.direct {
		fresh = c.pick(fresh, somePeers)
	}
	for _, name := range fresh {
		c.sendHeads(name, false)
	}
	c.recall(now, fresh)
}

// show makes the entries of a life count, or not.
func (c *core) show(now time.Time, l *life, visible bool) {
	if l.visible == visible {
		return
	}
	l.visible = visible
	for r := l.first; r != nil; r = r.next {
		c.index.show(r, visible)
		c.settle(now, r.slot)
	}
}

// lifeFor returns the life that a message speaks of. It is a new one, and
// replaces the one before, if the epoch is higher. It is nil if the message is
// about a life that has ended, about this member itself, or about a member that
// was forgotten.
func (c *core) lifeFor(now time.Time, name string, epoch uint64) *life {
	if name == c.own.name {
		return nil
	}
	if e, ok := c.forgotten[name]; ok && epoch <= e {
		return nil
	}
	p, known := c.peers[name]
	if known && epoch < p.Epoch {
		return nil
	}
	o := c.origins[name]
	if o == nil {
		if !known && len(c.origins) > len(c.peers)+maxUnknown {
			return nil
		}
		o = &origin{}
		c.origins[name] = o
	}
	switch {
	case o.cur != nil && epoch < o.cur.epoch:
		return nil
	case o.cur != nil && epoch == o.cur.epoch:
		return o.cur
	case o.cur != nil:
		c.retire(now, o)
	}
	o.cur = &life{name: name, epoch: epoch}
	o.cur.visible = c.sees(o.cur)
	return o.cur
}

// retire makes a member's current life its previous one.
func (c *core) retire(now time.Time, o *origin) {
	c.show(now, o.cur, false)
	if o.prev != nil && o.cur.count > 0 {
		c.drop(now, o.prev)
		o.prev = nil
	}
	if o.prev == nil {
		o.prev = o.cur
	}
	o.until = now.Add(keepPast)
	o.cur = nil
}

// drop takes all entries of a life out.
func (c *core) drop(now time.Time, l *life) {
	for r := l.first; r != nil; r = l.first {
		c.removeRecord(now, r)
	}
}

// forget drops all that is known of a member, until it is among the members
// again or begins another life.
func (c *core) forget(now time.Time, name string) {
	o := c.origins[name]
	if o == nil || o.cur == c.own {
		return
	}
	epoch := c.peers[name].Epoch
	for _, l := range []*life{o.cur, o.prev} {
		if l != nil {
			epoch = max(epoch, l.epoch)
			c.drop(now, l)
		}
	}
	delete(c.origins, name)
	if len(c.forgotten) < maxForgotten {
		c.forgotten[name] = epoch
	}
}

// putRecord puts r, a new version of old where that is not nil, in.
func (c *core) putRecord(now time.Time, old, r *record) {
	l := r.life
	r.hidden = !l.visible
	if old != nil {
		r.promised, old.promised = old.promised, false
		if t, ok := c.promises[old]; ok {
			delete(c.promises, old)
			c.promises[r] = t
		}
		l.unlink(old)
	}
	l.link(r)
	c.index.replace(r.slot, old, r)
	c.settle(now, r.slot)
}

func (c *core) removeRecord(now time.Time, r *record) {
	delete(c.promises, r)
	r.life.unlink(r)
	c.index.replace(r.slot, r, nil)
	c.settle(now, r.slot)
}

// settle does what a change of a key's claims asks of this member: entries of
// its own that lost their key go, and a claim that waited for the key may get
// it. Keys with one claim, and those with duplicates only, need nothing.
func (c *core) settle(now time.Time, s *slot) {
	if len(s.claims) == 0 || s.claims[0].dup {
		return
	}
	if c.attempts[s.key] != nil || hasPending(s) {
		c.reconsider(now, s)
	}
	if len(s.claims) < 2 {
		return
	}
	w := s.winner()
	if w == nil || w.dup {
		return
	}
	var lost []*record
	for _, r := range s.claims {
		if r.life == c.own && !r.pending && r != w {
			lost = append(lost, r)
		}
	}
	for _, r := range lost {
		if r.life.owns(r) {
			c.deleteOwn(now, r)
			if r.owner != w.owner {
				c.stats.Conflicts++
				c.out.conflicts = append(c.out.conflicts, NameConflict{Key: s.key, Loser: r.entry(), Winner: w.entry()})
			}
		}
	}
}

// hasPending tells whether a unique claim to the key is pending.
func hasPending(s *slot) bool {
	for _, r := range s.claims {
		if r.dup {
			break
		}
		if r.pending {
			return true
		}
	}
	return false
}

// owns tells whether r is still in.
func (l *life) owns(r *record) bool { return r.prev != nil || l.first == r }

// pick returns up to n of the names, by chance.
func (c *core) pick(names []string, n int) []string {
	if len(names) <= n {
		return names
	}
	out := slices.Clone(names)
	for i := range n {
		j := i + c.rng.IntN(len(out)-i)
		out[i], out[j] = out[j], out[i]
	}
	return out[:n]
}

// fanOut is to how many members a change is told, where there are n: each tells
// as many, so that all but very few hear it from somebody.
func fanOut(n int) int { return bits.Len(uint(n)) + 2 }

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
