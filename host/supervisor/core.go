package supervisor

import (
	"container/heap"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/debughost/debughost/sdk"
)

// core decides. It is a pure state machine without clock, disk or goroutine:
// what happens goes in by its methods, each with the time, and what is to be
// done comes out of take. Every method only notes what is new and marks the
// children that it concerns; settle then looks at each of these, and derives
// from the whole of what is known what is to be done. So the order of events
// does not matter, and an event that is told twice does no harm.
//
//	core_members.go  who is there, and who decides about which child
//	core_request.go  what operators want
//	core_place.go    the arbiter: which member has a child
//	core_run.go      the runner: what runs on this member
//	core_reload.go   both: another bundle in a run that goes on
//	core_handoff.go  both: a planned move that takes the child's state along
//	core_publish.go  what is told to other members
type core struct {
	self string
	me   word // self
	cfg  coreConfig
	now  instant

	children map[string]*child
	peers    map[string]peer
	usable   []string // members that may decide, this one included; sorted
	era      uint32   // grows with each change of the members
	quorum   bool
	synced   bool // this member knows what those in sight know
	leaving  bool

	dirty  []*child
	spare  *errand // to be used again
	timers timers
	moving map[string]version // moves that this member has begun and that are under way
	queue  []string           // children that wait for the end of such a move
	spoken []string           // children with words of a start that failed, by when it did
	ops    uint64             // numbers what is asked for
	out    []action
}

type coreConfig struct {
	clustered  bool          // there may be other members
	active     bool          // redistribution when a member joins
	maxMoves   int           // at a time, by drains and redistribution
	tombstones time.Duration // how long a removed child is remembered
}

// instant is now by both clocks: what waits goes by the one that only runs
// forward, what people read by the other.
type instant struct {
	mono time.Duration
	wall time.Time
}

// child is what the core knows of one.
type child struct {
	rec    record
	run    *run    // here; nil while there is nothing
	others []other // that say something of it, in no order

	hand    *handoff // nil: no move of it has ever taken its state along
	told    *fact    // of this member
	history *line    // the newest of its lines; nil: none

	// *errand is nil while there is nothing in it. It is there while the child is
	// looked at, and behind open.
	*errand

	era       uint32
	arbiter   uint16 // of core.usable in that era
	dirty     bool
	review    bool // a member has joined that it might be better on
	queued    bool // in core.queue
	published bool // by this member
	unsaid    bool // what it publishes is not the newest
	authored  bool // this member has changed it, and not seen yet that another one knows
	toldOut   bool // others were told what this one says of it
}

// errand is what is of interest of a child while something is to be done about it:
// most have none.
type errand struct {
	// The arbiter's.
	asked   uint64  // the question to a placement strategy that is open; 0: none
	askedAs version // of the assignment, when it was asked
	why     purpose
	retry   time.Duration // not to be asked before
	tries   int
	reason  string // why it is pending

	// The runner's.
	waits     string // for what a start waits
	suspended string // why it does not run on this side
	checked   uint32 // the era of which it was asked whether it may

	// What is told.
	alone time.Duration // since when nobody else in sight publishes what is known; 0: somebody does
	fresh time.Duration // until when a tombstone is published
}

// open has a child have its errand.
func (c *core) open(ch *child) {
	if ch.errand == nil {
		if ch.errand = c.spare; ch.errand == nil {
			ch.errand = &errand{}
		}
		c.spare = nil
	}
}

// close lets go of an errand that has come to its end.
func (c *core) close(ch *child) {
	e := ch.errand
	if e.asked == 0 {
		e.askedAs, e.why = version{}, ""
	}
	if e.retry <= c.now.mono {
		e.retry = 0
	}
	if e.fresh <= c.now.mono {
		e.fresh = 0
	}
	if *e == (errand{}) {
		ch.errand, c.spare = nil, e
	}
}

// other is what another member says of a child.
type other struct {
	member    word
	fact      *fact // of it and itself; nil: nothing
	publishes bool  // a record of it …
	newest    bool  // … which is the same as this member's
}

// of is what a member says of a child; nil: nothing.
func (ch *child) of(member string) *other {
	for i := range ch.others {
		if ch.others[i].member.String() == member {
			return &ch.others[i]
		}
	}
	return nil
}

// hears is of, for one that says something new.
func (ch *child) hears(member string) *other {
	if o := ch.of(member); o != nil {
		return o
	}
	ch.others = append(ch.others, other{member: wordOf(member)})
	return &ch.others[len(ch.others)-1]
}

// fact is what another member says of a child and itself; nil: nothing.
func (ch *child) fact(member string) *fact {
	if o := ch.of(member); o != nil {
		return o.fact
	}
	return nil
}

// tidy forgets others that say nothing any more.
func (ch *child) tidy() {
	ch.others = slices.DeleteFunc(ch.others, func(o other) bool { return o.fact == nil && !o.publishes })
	if len(ch.others) == 0 {
		ch.others = nil
	}
}

// purpose says why a placement strategy is asked.
type purpose string

const (
	toPlace  purpose = "place"  // it has no member, or has lost it
	toMove   purpose = "move"   // an operator wants it elsewhere; the core does not ask for that
	toDrain  purpose = "drain"  // its member is to be emptied
	toReview purpose = "review" // another member may be better
	toCheck  purpose = "check"  // may it run on this side of a partition
)

// action is something to be done outside.
type action struct {
	kind     actionKind
	id       string
	op       uint64 // names it in the answer
	rec      *record
	fact     *fact
	run      *run // a copy
	spec     *Spec
	purpose  purpose
	previous string // where the child is, for a placement
	avoid    string // a member that has failed, likewise
	take     string // the member whose run's state it begins with; empty: afresh
	timeout  time.Duration
	entry    *Entry
	signal   chan struct{}
	reload   reload
	reply    func(next reload, report []byte, err error) // of a reload
}

type actionKind string

const (
	doSave     actionKind = "save"     // rec, on disk
	doForget   actionKind = "forget"   // the child's record and all, from disk
	doKeep     actionKind = "keep"     // run and history, on disk; run nil: there is none
	doPublish  actionKind = "publish"  // rec, to all members
	doWithdraw actionKind = "withdraw" // what was published
	doTell     actionKind = "tell"     // fact, to all members; nil: withdraw it
	doPlace    actionKind = "place"    // ask a strategy; answered by placed
	doCreate   actionKind = "create"   // destroy what is there and start spec; answered by created
	doRecover  actionKind = "recover"  // take run over; answered by recovered
	doStop     actionKind = "stop"     // run; answered by stopped
	doDestroy  actionKind = "destroy"  // run; answered by destroyed
	doReload   actionKind = "reload"   // put spec in the place of what run has; answered by reloaded
	doGiveUp   actionKind = "give_up"  // the reload, or the start, of a child that has ended, or is to
	doNote     actionKind = "note"     // entry is new in a child's history
	doSignal   actionKind = "signal"   // close signal
)

func newCore(self string, cfg coreConfig, now instant) *core {
	return &core{
		self: self, me: wordOf(self), cfg: cfg, now: now, children: map[string]*child{}, moving: map[string]version{},
		peers: map[string]peer{self: {up: true, usable: true}}, usable: []string{self}, era: 1, quorum: true,
	}
}

// take returns what is to be done, in order.
func (c *core) take() []action {
	out := c.out
	c.out = nil
	return out
}

// do adds an action and returns the number that its answer will have.
func (c *core) do(a action) uint64 {
	c.ops++
	a.op = c.ops
	c.out = append(c.out, a)
	return a.op
}

// at says what time it is; every method that something happens by begins with it.
func (c *core) at(now instant) { c.now = now }

// settle looks at all children that something is new about.
func (c *core) settle() {
	c.fire()
	for len(c.dirty) > 0 {
		dirty := c.dirty
		c.dirty = nil
		for _, ch := range dirty {
			ch.dirty = false
			c.look(ch)
		}
	}
}

// look brings one child into the state that follows from what is known.
func (c *core) look(ch *child) {
	c.open(ch)
	defer c.close(ch)
	c.arbitrate(ch)
	c.runHere(ch)
	c.publish(ch)
	c.tell(ch)
	c.settleMove(ch)
	c.expire(ch)
}

func (c *core) mark(ch *child) {
	if !ch.dirty {
		ch.dirty = true
		c.dirty = append(c.dirty, ch)
	}
}

func (c *core) markAll() {
	ids := make([]string, 0, len(c.children))
	for id := range c.children {
		ids = append(ids, id)
	}
	slices.Sort(ids) // so that equal histories give equal actions
	for _, id := range ids {
		c.mark(c.children[id])
	}
}

// get returns the child of an id, which may be one that nothing is known of.
func (c *core) get(id string) *child {
	ch := c.children[id]
	if ch == nil {
		ch = &child{rec: record{ID: id}}
		c.children[id] = ch
	}
	return ch
}

// learn merges a record into the book.
func (c *core) learn(ch *child, r record) (news bool) {
	old := ch.rec.stamp()
	if old.covers(r.stamp()) {
		return false
	}
	c.open(ch)
	was := ch.rec
	ch.rec = merge(ch.rec, r)
	if was.removed() && !ch.rec.removed() {
		ch.history = nil // that was of another child
	}
	mine := ch.rec.Intent.Version != was.Intent.Version && r.Intent.Version.signature().author == c.self ||
		ch.rec.Assignment.Version != was.Assignment.Version && r.Assignment.Version.signature().author == c.self ||
		ch.rec.outcome().For != was.outcome().For && ch.rec.Assignment.Member == c.self
	if ch.rec.Assignment.Version != was.Assignment.Version {
		ch.tries, ch.retry, ch.reason, ch.review = 0, 0, "", false
		if m := ch.rec.Assignment.Member; m != "" {
			what := "placed"
			if ch.rec.Assignment.take() == m {
				what = "not_moved"
			}
			c.note(ch, Entry{Time: time.Unix(0, ch.rec.Assignment.Version.At), Member: m, What: what, Reason: ch.rec.Assignment.Why.String()})
		}
	}
	if o, ended := ch.rec.ended(); ended && ch.rec.Outcome != was.Outcome {
		c.note(ch, Entry{Time: time.Unix(0, o.At), Member: ch.rec.Assignment.Member, What: string(o.State), Reason: o.Reason})
	}
	if ch.rec.removed() {
		ch.fresh = c.now.mono + tombstoneFresh
		c.wake(ch, ch.fresh)
	}
	ch.authored, ch.unsaid = ch.authored || mine, true
	for i := range ch.others {
		ch.others[i].newest = false
	}
	rec := ch.rec
	c.do(action{kind: doSave, id: ch.rec.ID, rec: &rec})
	c.mark(ch)
	return true
}

// forget drops a child that is of no interest to anybody.
func (c *core) forget(ch *child) {
	c.do(action{kind: doForget, id: ch.rec.ID})
	delete(c.children, ch.rec.ID)
	delete(c.moving, ch.rec.ID)
}

// next is the version of a part that this member changes.
func (c *core) next(v version) version {
	return versionOf(v.Epoch+1, c.quorum, c.self, c.now.wall.UnixNano())
}

// note adds to a child's history; it happens now, unless it says when.
func (c *core) note(ch *child, e Entry) {
	if e.Time.IsZero() {
		e.Time = c.now.wall
	}
	e.Epoch = ch.rec.Assignment.Version.Epoch
	e.Reason = brief(e.Reason)
	if e.Exit != nil {
		exit := *e.Exit
		exit.Reason = brief(exit.Reason)
		e.Exit = &exit
	}
	l := lineOf(e)
	if ch.recalls(l) != nil {
		return
	}
	ch.remember(l)
	c.do(action{kind: doNote, id: ch.rec.ID, entry: &e})
}

// maxReason bounds what is kept of a reason, in bytes: they come from plugins, and
// are in records, facts and the book.
const maxReason = 1 << 10

// brief is what is kept of a reason.
func brief(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// wake has a child looked at again at a time.
func (c *core) wake(ch *child, at time.Duration) { heap.Push(&c.timers, timer{at, ch.rec.ID}) }

// fire marks what is due.
func (c *core) fire() {
	for len(c.timers) > 0 && c.timers[0].at <= c.now.mono {
		if ch := c.children[heap.Pop(&c.timers).(timer).id]; ch != nil {
			c.mark(ch)
		}
	}
}

// due is when something is to be done next; false: never.
func (c *core) due() (time.Duration, bool) {
	if len(c.timers) == 0 {
		return 0, false
	}
	return c.timers[0].at, true
}

// timers is a heap of the times at which children are to be looked at again.
type timers []timer

type timer struct {
	at time.Duration
	id string
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }

func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}

// tick has what is due done.
func (c *core) tick(now instant) {
	c.at(now)
	c.settle()
}

// load takes over what an earlier life has left on disk, before anything else
// happens. What ran is taken over if it runs still.
func (c *core) load(now instant, recs []record, runs map[string]*run, histories map[string][]Entry) {
	c.at(now)
	for _, r := range recs {
		ch := c.get(r.ID)
		ch.rec = r
		for _, e := range histories[r.ID] {
			ch.remember(lineOf(e))
		}
		if r := runs[r.ID]; r != nil {
			c.resume(ch, r)
		}
		c.mark(ch)
	}
	c.settle()
}

// exitAbnormal tells whether a transient child is to be started again.
func exitAbnormal(e sdk.SandboxExit) bool {
	return e.Code != 0 || e.Signal != 0 || e.OutOfMemory || e.Reason != ""
}
