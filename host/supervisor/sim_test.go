package supervisor

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

// sim is a cluster of cores, with a network, disks, clocks, sandboxes and a
// placement strategy that a test controls. Nothing in it depends on anything but
// its seed and what the test does.
type sim struct {
	rng   *rand.Rand
	now   time.Duration
	queue simQueue
	seq   int
	names []string
	nodes map[string]*simNode
	cut   map[[2]string]bool // ordered pairs

	loss      float64 // of messages; what is lost comes with the comparison each second
	badPlace  func() error
	badCreate func(member, id string) error
	badLoad   func(id string) error
	badHand   func(from, to, id string) (left bool, err error) // left: what was restored is there all the same
	lost      time.Duration                                    // until a member that does not answer is dead, at least
	quorum    bool                                             // the strategy is one that stops children in a minority
	active    bool

	procs   map[string]map[string]*proc // id, member
	overlap map[string]time.Duration    // id: of members that see each other
	worst   time.Duration
	who     string
	any     time.Duration // of any two at all, the longest
	handing time.Duration // likewise, of children that are handed over
	handed  int           // snapshots that were restored
	loaded  int           // reloads that became the spec
	dropped int           // starts that ended early, being of no use any more
	both    map[string]time.Duration
	sure    map[string]bool   // ids that were confirmed, and never asked to be removed
	only    map[string]string // of these, those that one member alone had on its disk
	log     []string
}

// simNode is a member.
type simNode struct {
	name     string
	life     int
	core     *core // nil while it does not run
	frozen   bool
	left     bool
	skew     time.Duration
	later    []func() // what happened while it was frozen
	began    bool     // it has been synced
	since    time.Duration
	badBox   bool              // its sandbox plugin is down
	making   map[string]uint64 // the starts that are not answered, by child
	badSince time.Duration

	disk     map[string]record
	runs     map[string]*run
	drains   map[string]bool
	view     map[string]*simView
	pub      map[string]simEntry
	replica  map[string]*simReplica
	hold     time.Duration // not synced before
	deadline time.Duration // synced then at the latest
	timerSet time.Duration
}

type simView struct {
	up, usable bool
	bad        time.Duration // for how long it has not answered
	good       time.Duration // for how long it has
	need       time.Duration // how long it takes to be dead, or back
	heard      bool          // all that it publishes, since it came into sight
}

// simReplica is what a member has of another one's entries.
type simReplica struct {
	life int
	have map[string]simEntry
	told map[string]int // the numbers that its core knows
}

type simEntry struct {
	n      int
	rec    *record
	fact   *fact
	absent bool
}

type proc struct {
	life  uint64
	owner int    // life of the host that has it
	born  string // the member where the state that it has began
	has   string // its bundle
}

const simOrphan = 1500 * time.Millisecond

func newSim(seed uint64, names ...string) *sim {
	s := &sim{
		rng: rand.New(rand.NewPCG(seed, 7)), names: names, nodes: map[string]*simNode{}, cut: map[[2]string]bool{},
		lost: 2700 * time.Millisecond, procs: map[string]map[string]*proc{}, overlap: map[string]time.Duration{}, both: map[string]time.Duration{}, sure: map[string]bool{}, only: map[string]string{},
		badPlace: func() error { return nil }, badCreate: func(string, string) error { return nil },
		badLoad: func(string) error { return nil },
		badHand: func(string, string, string) (bool, error) { return false, nil },
	}
	for _, n := range names {
		s.nodes[n] = &simNode{name: n, disk: map[string]record{}, runs: map[string]*run{}, drains: map[string]bool{}}
	}
	s.every(250*time.Millisecond, s.looks)
	s.every(time.Second, s.compare)
	s.every(100*time.Millisecond, s.observe)
	return s
}

// Time.

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].at, q[j].at), cmp.Compare(q[i].seq, q[j].seq)) < 0
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

func (s *sim) after(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now + d, s.seq, f})
}

func (s *sim) every(d time.Duration, f func()) {
	var again func()
	again = func() {
		f()
		s.after(d, again)
	}
	s.after(d, again)
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	until := s.now + d
	for len(s.queue) > 0 && s.queue[0].at <= until {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = until
}

func (s *sim) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rng.Int64N(int64(high-low)+1))
}

func (n *simNode) instant(s *sim) instant {
	return instant{mono: s.now, wall: time.Unix(1_000_000, 0).Add(s.now + n.skew)}
}

// Members.

// on has something happen at a member: later, if it is frozen; never, if that
// life of it has ended.
func (s *sim) on(name string, d time.Duration, f func(n *simNode)) {
	n := s.nodes[name]
	life := n.life
	s.after(d, func() {
		do := func() {
			if n.life == life && n.core != nil {
				f(n)
				s.act(n)
			}
		}
		if n.frozen {
			n.later = append(n.later, do)
			return
		}
		do()
	})
}

func (s *sim) start(name string) {
	n := s.nodes[name]
	n.life++
	n.left, n.frozen, n.later, n.making = false, false, nil, map[string]uint64{}
	n.core = newCore(name, coreConfig{clustered: len(s.names) > 1, maxMoves: 2, tombstones: 7 * 24 * time.Hour, active: s.active}, n.instant(s))
	n.view, n.replica, n.pub = map[string]*simView{}, map[string]*simReplica{}, map[string]simEntry{}
	n.hold, n.deadline = s.now+500*time.Millisecond, s.now+1500*time.Millisecond
	n.timerSet, n.began, n.since = 0, false, s.now
	recs := slices.SortedFunc(maps.Values(n.disk), func(a, b record) int { return strings.Compare(a.ID, b.ID) })
	runs := map[string]*run{}
	for id, r := range n.runs {
		runs[id] = fromDisk(r)
	}
	n.core.load(n.instant(s), recs, runs, nil)
	s.pass(n)
	s.act(n)
	s.on(name, 1500*time.Millisecond, func(n *simNode) { s.sync(n) })
}

// fromDisk is what of a run is left after a restart.
func fromDisk(r *run) *run {
	var out run
	b, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(err)
	}
	return &out
}

// kill ends a member, as kill -9 does. What it runs goes on for a while.
func (s *sim) kill(name string) {
	n := s.nodes[name]
	n.core, n.frozen, n.later = nil, false, nil
	n.life++
	for id, at := range s.procs {
		if p := at[name]; p != nil {
			s.orphan(id, name, p)
		}
	}
}

func (s *sim) orphan(id, member string, p *proc) {
	owner := p.owner
	s.after(simOrphan, func() {
		if s.procs[id][member] == p && p.owner == owner {
			delete(s.procs[id], member)
		}
	})
}

func (s *sim) freeze(name string) { s.nodes[name].frozen = true }

func (s *sim) thaw(name string) {
	n := s.nodes[name]
	if !n.frozen {
		return
	}
	n.frozen = false
	n.hold, n.deadline = s.now+500*time.Millisecond, s.now+1500*time.Millisecond
	for _, v := range n.view {
		v.heard = false
	}
	if n.core != nil {
		s.pass(n) // the gap is noticed first
		s.act(n)
		s.on(name, 1500*time.Millisecond, func(n *simNode) { s.sync(n) })
	}
	later := n.later
	n.later = nil
	for _, f := range later {
		f()
	}
}

func (s *sim) leave(name string) {
	n := s.nodes[name]
	if n.core == nil || n.frozen {
		return
	}
	n.core.leave(n.instant(s))
	s.act(n)
	var done func(n *simNode)
	done = func(n *simNode) {
		if !n.core.idle() {
			s.on(name, 50*time.Millisecond, done)
			return
		}
		n.left = true
		s.after(0, func() { n.core = nil; n.life++ })
	}
	s.on(name, 50*time.Millisecond, done)
}

func (s *sim) reach(a, b string) bool {
	x, y := s.nodes[a], s.nodes[b]
	return x.core != nil && y.core != nil && !x.frozen && !y.frozen && !s.cut[[2]string{a, b}] && !s.cut[[2]string{b, a}]
}

// looks has each member look at the others.
func (s *sim) looks() {
	const step = 250 * time.Millisecond
	for _, a := range s.names {
		n := s.nodes[a]
		if n.core == nil || n.frozen {
			continue
		}
		changed := false
		for _, b := range s.names {
			if b != a {
				changed = s.lookAt(n, b, step) || changed
			}
		}
		if changed {
			s.pass(n)
			s.act(n)
		}
	}
}

func (s *sim) lookAt(n *simNode, b string, step time.Duration) (changed bool) {
	v := n.view[b]
	if v == nil {
		v = &simView{need: s.between(0, 500*time.Millisecond)}
		n.view[b] = v
	}
	before := *v
	if s.reach(n.name, b) {
		if v.bad > 0 { // back before it counted as dead
			v.bad, v.need = 0, s.between(0, 700*time.Millisecond)
		}
		if !v.usable {
			v.good += step
			if v.good > v.need {
				v.up, v.usable, v.heard = true, true, false
				n.hold, n.deadline = max(n.hold, s.now+500*time.Millisecond), s.now+1500*time.Millisecond
				s.on(n.name, s.between(5*time.Millisecond, 300*time.Millisecond), func(n *simNode) { s.repair(n, b) })
				s.on(n.name, 1500*time.Millisecond, func(n *simNode) { s.sync(n) })
			}
		}
	} else {
		if v.bad == 0 {
			v.need = s.between(s.lost, s.lost+time.Second)
		}
		v.good = 0
		v.bad += step
		if s.nodes[b].core == nil {
			v.usable = false // its sockets are closed
		}
		if v.bad >= v.need || s.nodes[b].left {
			v.up, v.usable = false, false
			v.need = s.between(0, 700*time.Millisecond)
		}
	}
	if r := n.replica[b]; r != nil && before.usable && !v.usable {
		for k := range r.told {
			r.told[k] = -1 // when it is back, all is told again
		}
	}
	return before.up != v.up || before.usable != v.usable
}

// pass tells a core who is there.
func (s *sim) pass(n *simNode) {
	peers := map[string]peer{n.name: {up: true, usable: true, draining: n.drains[n.name]}}
	size, usable := 1, 1
	for b, v := range n.view {
		peers[b] = peer{up: v.up, usable: v.usable, draining: n.drains[b]}
		if !s.nodes[b].left {
			size++
		}
		if v.usable {
			usable++
		}
	}
	n.core.setMembers(n.instant(s), peers, usable > size/2, s.synced(n))
	for _, b := range s.names {
		s.show(n, b)
	}
}

// sync has a core hear whether it knows what the others do.
func (s *sim) sync(n *simNode) { s.pass(n) }

func (s *sim) synced(n *simNode) bool {
	synced := s.now >= n.hold
	for _, m := range s.names { // it knows them all, from its disk
		v := n.view[m]
		if v == nil {
			synced = synced && (m == n.name || n.began)
			continue
		}
		synced = synced && (v.heard || !v.usable && n.began)
	}
	n.began = n.began || synced || s.now >= n.deadline
	if !synced && s.now < n.hold {
		s.on(n.name, n.hold-s.now, func(n *simNode) { s.sync(n) })
	}
	return synced || s.now >= n.deadline
}

func (s *sim) drain(name string, on bool) {
	for _, b := range s.names {
		if s.nodes[b].core == nil {
			s.nodes[b].drains[name] = on // it is told when it starts
		}
		s.on(b, s.between(time.Millisecond, 30*time.Millisecond), func(n *simNode) {
			n.drains[name] = on
			s.pass(n)
		})
	}
}

// The registry.

func (s *sim) put(n *simNode, key string, e simEntry) {
	e.n = n.pub[key].n + 1
	n.pub[key] = e
	life := n.life
	for _, b := range s.names {
		if b == n.name || s.rng.Float64() < s.loss {
			continue
		}
		for range 1 + s.rng.IntN(10)/9 { // some come twice
			s.on(b, s.between(time.Millisecond, 40*time.Millisecond), func(m *simNode) {
				if s.reach(b, n.name) && n.life == life {
					s.take(m, n, key, e)
					s.show(m, n.name)
				}
			})
		}
	}
}

// take puts an entry into a replica, if it is newer.
func (s *sim) take(m, from *simNode, key string, e simEntry) {
	r := m.replica[from.name]
	if r == nil || r.life != from.life {
		told := map[string]int{}
		if r != nil {
			told = r.told
			for k := range told {
				told[k] = -1
			}
		}
		r = &simReplica{life: from.life, have: map[string]simEntry{}, told: told}
		m.replica[from.name] = r
	}
	if e.n > r.have[key].n {
		r.have[key] = e
	}
}

// repair gives a member all that another one publishes.
func (s *sim) repair(m *simNode, from string) {
	n := s.nodes[from]
	if !s.reach(m.name, from) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(n.pub)) {
		s.take(m, n, key, n.pub[key])
	}
	if m.replica[from] == nil || m.replica[from].life != n.life {
		s.take(m, n, "", simEntry{n: 1, absent: true})
	}
	if v := m.view[from]; v != nil && v.usable {
		v.heard = true
	}
	s.show(m, from)
	s.sync(m)
}

func (s *sim) compare() {
	for _, a := range s.names {
		for _, b := range s.names {
			if a != b && s.reach(a, b) && s.rng.IntN(10) > 0 {
				s.on(a, s.between(time.Millisecond, 50*time.Millisecond), func(m *simNode) { s.repair(m, b) })
			}
		}
	}
}

// show tells a core what is new of another member's entries, if that one is in
// sight.
func (s *sim) show(m *simNode, from string) {
	r, v := m.replica[from], m.view[from]
	if r == nil || v == nil || !v.usable {
		return
	}
	keys := map[string]bool{}
	for k, n := range r.told {
		if n < 0 {
			keys[k] = true
		}
	}
	for k, e := range r.have {
		if k != "" && r.told[k] != e.n {
			keys[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		e, ok := r.have[k]
		if !ok {
			e.absent = true
		}
		r.told[k] = e.n
		kind, id, _ := strings.Cut(k, "/")
		switch {
		case kind == "child" && e.absent:
			m.core.unheard(m.instant(s), from, id)
		case kind == "child":
			m.core.heard(m.instant(s), from, *e.rec)
		case e.absent:
			m.core.toldOf(m.instant(s), from, id, nil)
		default:
			m.core.toldOf(m.instant(s), from, id, e.fact)
		}
	}
}

// What cores want done.

func (s *sim) act(n *simNode) {
	for more := n.core.take(); len(more) > 0; more = n.core.take() {
		for _, a := range more {
			s.perform(n, a)
		}
	}
	if at, ok := n.core.due(); ok && (n.timerSet <= s.now || at < n.timerSet) {
		n.timerSet = at
		s.on(n.name, max(at-s.now, 0), func(n *simNode) {
			n.timerSet = 0
			n.core.tick(n.instant(s))
		})
	}
}

func (s *sim) perform(n *simNode, a action) {
	if s.log != nil {
		switch a.kind {
		case doCreate, doStop, doRecover, doDestroy, doReload, doPlace:
			s.logf("%s: %s: %s %s", n.name, a.id, a.kind, a.purpose)
		case doSave:
			s.logf("%s: %s: %s %s %d, %s %d from %v by %s", n.name, a.id, a.kind, a.rec.Intent.Wanted, a.rec.Intent.Version.Epoch, a.rec.Assignment.Member, a.rec.Assignment.Version.Epoch, a.rec.Assignment.from(), a.rec.Assignment.Version.signature().author)
		case doTell:
			s.logf("%s: %s: tell %+v", n.name, a.id, a.fact)
		}
	}
	switch a.kind {
	case doSave: // lost, if the member is killed at once
		s.on(n.name, s.between(0, 5*time.Millisecond), func(n *simNode) { n.disk[a.id] = merge(n.disk[a.id], *a.rec) })
	case doForget:
		delete(n.disk, a.id)
	case doKeep:
		if a.run == nil {
			delete(n.runs, a.id)
		} else {
			n.runs[a.id] = a.run
		}
	case doPublish:
		s.put(n, "child/"+a.id, simEntry{rec: a.rec})
	case doWithdraw:
		s.put(n, "child/"+a.id, simEntry{absent: true})
	case doTell:
		s.put(n, "state/"+a.id, simEntry{fact: a.fact, absent: a.fact == nil})
	case doPlace:
		s.place(n, a)
	case doCreate:
		s.create(n, a)
	case doRecover, doStop, doDestroy:
		s.sandbox(n, a)
	case doReload:
		s.reload(n, a)
	case doGiveUp:
		s.giveUp(n, a.id)
	case doNote:
		if s.log != nil {
			s.logf("%s: %s %s at %s %s", n.name, a.id, a.entry.What, a.entry.Member, a.entry.Reason)
		}
	}
}

func (s *sim) logf(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf("%7.3f ", s.now.Seconds())+fmt.Sprintf(format, args...))
}

func (s *sim) place(n *simNode, a action) {
	d := s.between(time.Millisecond, 20*time.Millisecond)
	err := s.badPlace()
	if err != nil {
		d = s.between(time.Millisecond, time.Second)
	}
	s.on(n.name, d, func(n *simNode) {
		var dec sdk.Decision
		if err == nil {
			dec, err = s.choose(n, a)
		}
		n.core.placed(n.instant(s), a.id, a.op, dec, err)
	})
}

// choose is rendezvous hashing, as placement-uniform has it.
func (s *sim) choose(n *simNode, a action) (sdk.Decision, error) {
	if s.quorum && !n.core.quorum {
		return sdk.Decision{Stop: true}, fmt.Errorf("a minority: %w", sdk.ErrNoQuorum)
	}
	best, most := "", -1.0
	for _, m := range n.core.usable {
		if r := sdk.Rendezvous("place "+a.id, m); !n.core.peers[m].draining && (m != a.avoid || a.purpose == toPlace) && r > most {
			best, most = m, r
		}
	}
	if best == "" {
		return sdk.Decision{}, sdk.ErrNoCandidate
	}
	return sdk.Decision{Member: best}, nil
}

// box breaks a member's sandbox plugin, or has it work again. What it has running
// ends when it is away for too long, and is found ended when it is back.
func (s *sim) box(name string, bad bool) {
	n := s.nodes[name]
	if n.badBox = bad; bad {
		n.badSince = s.now
		since := s.now
		s.after(simOrphan, func() {
			if n.badBox && n.badSince == since {
				for _, at := range s.procs {
					delete(at, name)
				}
			}
		})
		return
	}
	s.on(name, 10*time.Millisecond, func(n *simNode) {
		for _, id := range slices.Sorted(maps.Keys(n.core.children)) {
			if r := n.core.children[id].run; r != nil && r.Phase == up && s.procs[id][name] == nil {
				n.core.exited(n.instant(s), id, r.life, sdk.SandboxExit{Reason: "gone"})
			}
		}
	})
}

// request asks the arbiter, as a member sees it.
func (s *sim) request(at string, r request) error {
	n := s.nodes[at]
	if n.core == nil || n.frozen {
		return errors.New("it does not run")
	}
	to := n.core.usable[n.core.rank(r.id)]
	if ch := n.core.children[r.id]; r.kind == askReload && ch != nil {
		to = cmp.Or(ch.rec.Assignment.Member, to)
	}
	if to != at && !s.reach(at, to) {
		return errors.New("who is to do it does not answer")
	}
	m := s.nodes[to]
	if m.core.leaving {
		return errors.New("the arbiter is leaving")
	}
	err := m.core.request(m.instant(s), r)
	s.act(m)
	if r.kind == askRemove {
		delete(s.sure, r.id)
		s.sure[r.id+"!"] = true // once asked to be removed, it may be gone
	}
	if err == nil && r.kind == askStart {
		s.confirm(m, r.id, m.core.children[r.id].rec.Intent.Version)
	}
	return err
}

// confirm notes that a spec must not be lost, once it is where the answer says.
func (s *sim) confirm(m *simNode, id string, v version) {
	life := m.life
	var look func()
	look = func() {
		if m.life != life || s.sure[id+"!"] || s.now > time.Hour {
			return
		}
		ok := m.disk[id].Intent.Version.covers(v)
		others, have := 0, 0
		for name, w := range m.view {
			if w.usable {
				others++
				if s.nodes[name].disk[id].Intent.Version.covers(v) {
					have++
				}
			}
		}
		if ok && (others == 0 || have > 0) {
			s.sure[id] = true
			if have == 0 {
				s.only[id] = m.name
			}
			return
		}
		s.after(20*time.Millisecond, look)
	}
	s.after(20*time.Millisecond, look)
}

// observe looks for children that run twice.
func (s *sim) observe() {
	const step = 100 * time.Millisecond
	for id, at := range s.procs {
		if len(at) < 2 {
			s.overlap[id], s.both[id] = 0, 0
			continue
		}
		if s.handsOver(id) {
			s.both[id] += step
			s.handing = max(s.handing, s.bothSee(id, at))
			continue
		}
		s.both[id] += step
		if s.log != nil {
			s.logf("%s runs at %v", id, slices.Sorted(maps.Keys(at)))
		}
		s.any = max(s.any, s.both[id])
		if s.bothSee(id, at) > s.worst {
			s.worst, s.who = s.overlap[id], id
		}
	}
}

// bothSee counts for how long a child has run twice on members that see each
// other.
func (s *sim) bothSee(id string, at map[string]*proc) time.Duration {
	see := false
	ms := slices.Sorted(maps.Keys(at))
	for i, a := range ms {
		for _, b := range ms[i+1:] {
			see = see || s.reach(a, b)
		}
	}
	if s.overlap[id] += 100 * time.Millisecond; !see {
		s.overlap[id] = 0
	}
	return s.overlap[id]
}

// handsOver tells whether a child's moves take its state along: then the old run
// goes on until the new one has begun.
func (s *sim) handsOver(id string) bool {
	for _, n := range s.nodes {
		if n.core == nil {
			continue
		}
		if ch := n.core.children[id]; ch != nil && ch.rec.Intent.Spec != nil && ch.rec.spec().Handoff == sdk.HandoffSnapshot {
			return true
		}
	}
	return false
}

// settled tells what is wrong with where everything has come to; empty: nothing.
func (s *sim) settled() string {
	var live []*simNode
	for _, m := range s.names {
		if n := s.nodes[m]; n.core != nil {
			live = append(live, n)
		}
	}
	ids := map[string]bool{}
	for _, n := range live {
		for id := range n.core.children {
			ids[id] = true
		}
	}
	for id := range s.procs {
		ids[id] = true
	}
	for id := range s.sure {
		if !strings.HasSuffix(id, "!") {
			ids[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if wrong := s.settledChild(id, live); wrong != "" {
			return id + ": " + wrong
		}
	}
	return ""
}

func (s *sim) settledChild(id string, live []*simNode) string {
	var first *child
	for _, n := range live {
		ch := n.core.children[id]
		alone := s.only[id] // who was alone, and has left for good, has taken it along
		if s.sure[id] && (ch == nil || !ch.there()) && (alone == "" || s.nodes[alone].core != nil) {
			return "confirmed, and lost at " + n.name
		}
		if ch == nil || ch.rec.Intent.Version.Epoch == 0 {
			ch = &child{rec: record{Intent: intent{Wanted: wantRemoved}}} // nothing is known of it
		}
		if first == nil || first.rec.Intent.Version.Epoch == 0 {
			first = ch
		}
		if first.rec.stamp() != ch.rec.stamp() && !(first.rec.removed() && ch.rec.removed()) {
			return fmt.Sprintf("the books differ: %+v at %s, %+v", ch.rec, n.name, first.rec)
		}
	}
	runs := slices.Sorted(maps.Keys(s.procs[id]))
	want := 0
	if first != nil && first.rec.Intent.Wanted == wantRunning {
		if _, ended := first.rec.ended(); !ended {
			want = 1
		}
	}
	if len(runs) != want || want == 1 && runs[0] != first.rec.Assignment.Member {
		rec := record{}
		if first != nil {
			rec = first.rec
		}
		return fmt.Sprintf("runs at %v, want %d: %+v", runs, want, rec)
	}
	if want == 1 {
		if has := s.procs[id][runs[0]].has; has != first.rec.Intent.Spec.rest.Bundle {
			return fmt.Sprintf("runs %.8q, and its spec says %.8q", has, first.rec.Intent.Spec.rest.Bundle)
		}
	}
	return ""
}
