package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// sim is a cluster of cores with a network and clocks that the test controls.
type sim struct {
	t       require.TestingT
	now     time.Time
	names   []string
	members map[string]*simMember
	cut     map[[2]string]bool // ordered pairs that cannot reach each other
	wire    []packet
	epoch   uint64
	rng     *rand.Rand
	direct  int
	small   bool // messages and memories are short

	conflicts []simConflict
	adopted   map[string][]Entry
	confirmed []Entry // quorum registrations, in the order of their confirmation
	decisions []simDecision
	restarts  int
}

type simMember struct {
	name    string
	core    *core
	skew    time.Duration
	down    bool
	view    map[string]Entry // what a watcher sees
	hides   map[string]bool  // members that this one sees as gone
	retries []*simClaim
	waiting map[waiter]*simClaim
}

type simClaim struct {
	claim Claim
	floor uint64
	tries int
}

type simConflict struct {
	member string
	NameConflict
}

type simDecision struct {
	member string
	claim  Claim
	decision
}

type packet struct {
	from, to string
	msg      []byte
}

func newSim(t require.TestingT, names []string, seed uint64) *sim {
	s := &sim{
		t: t, names: names, now: time.Unix(1_000_000, 0), members: map[string]*simMember{},
		cut: map[[2]string]bool{}, rng: rand.New(rand.NewPCG(seed, 1)), adopted: map[string][]Entry{}, direct: maxDirect,
	}
	for _, n := range names {
		s.members[n] = &simMember{name: n, hides: map[string]bool{}}
		s.start(n)
	}
	return s
}

// start begins a life of a member.
func (s *sim) start(name string) {
	m := s.members[name]
	s.epoch++
	m.core = newCore(name, s.epoch, s.now.Add(m.skew), rand.New(rand.NewPCG(s.rng.Uint64(), 2)))
	m.core.index.watching = true
	m.core.recalls.wanted = true
	m.core.direct = s.direct
	if s.small {
		m.core.frame, m.core.deletions = 200, 3
	}
	m.view, m.waiting, m.retries = map[string]Entry{}, map[waiter]*simClaim{}, nil
	m.down = false
	m.hides = map[string]bool{}
}

// stop ends the life of a member, and loses what it had not sent.
func (s *sim) stop(name string) {
	s.members[name].down = true
	s.restarts++
	s.now = s.now.Add(time.Millisecond) // two lives do not claim at the same time
	s.wire = slices.DeleteFunc(s.wire, func(p packet) bool { return p.to == name })
}

// notice tells a member who is there, as it can see.
func (s *sim) notice(name string) {
	m := s.members[name]
	if m.down {
		return
	}
	var peers []Peer
	for _, n := range s.names {
		p := s.members[n]
		visible := !p.down && !s.cut[[2]string{name, n}] && !s.cut[[2]string{n, name}] && !m.hides[n]
		peer := Peer{Name: n, Visible: visible}
		if visible {
			peer.Epoch = p.core.own.epoch
		}
		peers = append(peers, peer)
	}
	s.do(name, func(c *core, now time.Time) { c.setMembers(now, peers) })
}

func (s *sim) noticeAll() {
	for _, n := range s.names {
		s.notice(n)
	}
}

// do runs one step of a member, and collects what comes out.
func (s *sim) do(name string, step func(c *core, now time.Time)) {
	m := s.members[name]
	if m.down {
		return
	}
	now := s.now.Add(m.skew)
	step(m.core, now)
	for m.core.flush() {
	}
	s.collect(m, now)
}

func (s *sim) collect(m *simMember, now time.Time) {
	out := m.core.take(now)
	for _, p := range out.sends {
		s.wire = append(s.wire, packet{m.name, p.to, p.msg})
	}
	for _, c := range out.conflicts {
		s.conflicts = append(s.conflicts, simConflict{m.name, c})
	}
	s.adopted[m.name] = append(s.adopted[m.name], out.adoptable...)
	for _, d := range out.decided {
		w := waiter{d.key, d.seq}
		cl := m.waiting[w]
		delete(m.waiting, w)
		if cl == nil {
			continue
		}
		switch d.outcome {
		case outConfirmed:
			s.confirmed = append(s.confirmed, d.entry)
		case outRetry:
			cl.floor = max(cl.floor, d.floor)
			m.retries = append(m.retries, cl)
			continue
		}
		s.decisions = append(s.decisions, simDecision{m.name, cl.claim, d})
	}
	for _, c := range m.core.index.changes {
		s.see(m, c)
	}
	m.core.index.changes = nil
}

// see is a watcher: it fails if a change does not fit what it saw before.
func (s *sim) see(m *simMember, c shownChange) {
	id := func(r *record) string { return viewID(r.entry()) }
	switch c.typ {
	case Put:
		if c.old != nil {
			require.Contains(s.t, m.view, id(c.old), "put replaces what was not there")
			delete(m.view, id(c.old))
		}
		require.NotContains(s.t, m.view, id(c.rec), "put of what was there")
		m.view[id(c.rec)] = c.rec.entry()
	case Delete:
		require.Contains(s.t, m.view, id(c.rec), "delete of what was not there")
		delete(m.view, id(c.rec))
	}
}

func viewID(e Entry) string {
	if e.Duplicate {
		return fmt.Sprintf("%s %s %s", e.Key, e.Owner, e.Origin)
	}
	return e.Key
}

// register claims a key; a quorum claim is tried until it is decided or given
// up.
func (s *sim) register(name string, cl Claim) (Entry, error) {
	if err := cl.check(name); err != nil {
		return Entry{}, err
	}
	return s.try(name, &simClaim{claim: cl})
}

func (s *sim) try(name string, cl *simClaim) (e Entry, err error) {
	m := s.members[name]
	if m.down {
		return Entry{}, fmt.Errorf("down")
	}
	now := s.now.Add(m.skew)
	var asked uint64
	e, asked, err = m.core.register(now, &cl.claim, cl.floor)
	if asked != 0 {
		m.waiting[waiter{cl.claim.Key, asked}] = cl
	} else if err == errBusy {
		m.retries = append(m.retries, cl)
	}
	s.do(name, func(*core, time.Time) {})
	return e, err
}

// advance lets time pass, and wakes everybody.
func (s *sim) advance(d time.Duration) {
	s.now = s.now.Add(d)
	for _, n := range s.names {
		s.do(n, func(c *core, now time.Time) { c.wake(now) })
		m := s.members[n]
		again := m.retries
		m.retries = nil
		for _, cl := range again {
			if cl.tries++; cl.tries < 100 && s.rng.IntN(2) == 0 {
				if _, err := s.try(n, cl); err != nil && err != errBusy {
					d := decision{key: cl.claim.Key, outcome: outNoQuorum}
					if taken, ok := err.(*TakenError); ok {
						d.outcome, d.entry = outTaken, taken.Holder
					}
					s.decisions = append(s.decisions, simDecision{n, cl.claim, d})
				}
			} else if cl.tries < 100 {
				m.retries = append(m.retries, cl)
			}
		}
	}
}

// deliver delivers the packet at a place; one that cannot get there is lost.
func (s *sim) deliver(i int, keep bool) {
	p := s.wire[i]
	if !keep {
		s.wire = slices.Delete(s.wire, i, i+1)
	}
	if s.cut[[2]string{p.from, p.to}] || s.members[p.to].down {
		return
	}
	s.do(p.to, func(c *core, now time.Time) {
		require.NoError(s.t, c.receive(now, p.from, slices.Clone(p.msg)))
	})
}

// drain delivers all that is under way, and what comes of it.
func (s *sim) drain() {
	for n := 0; len(s.wire) > 0; n++ {
		require.Less(s.t, n, 1_000_000, "messages have no end")
		s.deliver(0, false)
	}
}

// run lets time pass in small steps with a network that works.
func (s *sim) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.drain()
		s.advance(min(100*time.Millisecond, end.Sub(s.now)))
	}
	s.drain()
}

func (s *sim) partition(groups ...[]string) {
	s.cut = map[[2]string]bool{}
	for i, g := range groups {
		for j, h := range groups {
			for _, a := range g {
				for _, b := range h {
					if i != j {
						s.cut[[2]string{a, b}] = true
					}
				}
			}
		}
	}
}

// dump is all records of a replica that count, in words.
func dump(c *core) string {
	var b strings.Builder
	for _, name := range sortedKeys(c.origins) {
		l := c.origins[name].cur
		if l == nil || l.applied == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s/%d at %d\n", name, l.epoch, l.applied)
		for r := l.first; r != nil; r = r.next {
			fmt.Fprintf(&b, "  %d %q %v %q dup=%t quorum=%t pending=%t %d %d %v hidden=%t\n", r.seq, r.key(), r.owner,
				r.value, r.dup, r.quorum, r.pending, r.claimed, r.stamp, r.ttl, r.hidden)
		}
	}
	for _, key := range sortedKeys(c.meta.values) {
		v := c.meta.values[key]
		fmt.Fprintf(&b, "meta %q %q %d %s %t\n", key, v.value, v.stamp, v.writer, v.deleted)
	}
	return b.String()
}

// check holds the parts of a member's state against each other.
func (s *sim) check(m *simMember) {
	c := m.core
	seen, shown := 0, 0
	for _, o := range c.origins {
		for _, l := range []*life{o.cur, o.prev} {
			if l == nil {
				continue
			}
			n, last := 0, uint64(0)
			for r := l.first; r != nil; r = r.next {
				require.Greater(s.t, r.seq, last)
				last = r.seq
				require.Same(s.t, r.slot, c.index.slots.slot(r.key()))
				require.Contains(s.t, r.slot.claims, r)
				require.Equal(s.t, r.hidden, !l.visible)
				require.Contains(s.t, c.index.owned(&r.owner), r)
				n++
			}
			require.Equal(s.t, l.count, n)
			seen += n
		}
	}
	require.Equal(s.t, c.index.all, seen)
	require.Equal(s.t, len(c.index.slots.all()), c.index.order.Len())
	view := map[string]Entry{}
	for _, r := range c.index.scan(nil, "", "", 1<<30) {
		view[viewID(r.entry())] = r.entry()
		shown++
	}
	require.Equal(s.t, c.index.shown, shown)
	require.Equal(s.t, view, m.view, "what a watcher saw is not what is there")
	won := 0
	for key, sl := range c.index.slots.all() {
		_, got := c.index.slots.get(key)
		require.Same(s.t, sl.winner(), got, "Lookup finds what does not count for %q", key)
		if got != nil {
			won++
		}
		for i := 1; i < len(sl.claims); i++ {
			require.True(s.t, sl.claims[i-1].rank().before(sl.claims[i].rank()))
		}
	}
	require.Equal(s.t, won, c.index.slots.count(), "Lookup finds what is gone")
}
