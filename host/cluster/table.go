package cluster

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/debughost/debughost/host/events"
)

// table is what a member believes of the others: a pure state machine, without
// clock, lock or I/O. It is told what gossip says (observe), what connections
// say (broken, works), what other members claim (claim) and what the operator
// wants (forget), and it answers with states and events.
//
// Gossip rules over who is alive and in which life. A broken connection makes a
// living member unreachable until a connection works, a new life begins or
// gossip gives its verdict. Members that gossip has dropped stay known, dead or
// left, until they come back or are forgotten.
type table struct {
	self      Member
	others    map[string]*entry
	forgotten map[string]tombstone
	hadQuorum bool
	clash     string // why this member's own name is not accepted; "": it is
	clashAddr string // where the member is that has the name

	// What happened since take was called.
	events  []events.Event
	changed bool
}

// entry is another member.
type entry struct {
	Member
	cause string // of being unreachable; "" where its connection is not known to be broken
}

// tombstone keeps a forgotten life of a member from coming back by rumour.
type tombstone struct {
	epoch uint64
	since time.Time
}

const (
	// tombstoneAge is how long a forgotten member stays forgotten. Rumours and
	// lists in memory are younger; a member that was cut off for longer brings
	// what it knows back, and it is forgotten again.
	tombstoneAge = 24 * time.Hour
	// deathIsHeard is how long after one member knows of a death another one may
	// not.
	deathIsHeard = time.Minute
	// maxKnown bounds how many others are kept that are not alive; the longest
	// gone go first.
	maxKnown = 1024
)

func newTable(self Member) *table {
	self.Self = true
	return &table{
		self:      self,
		others:    map[string]*entry{},
		forgotten: map[string]tombstone{},
		hadQuorum: true,
	}
}

// seen is a member as gossip has it.
type seen struct {
	name  string
	addr  string
	meta  meta
	state State // Alive, Suspect, Dead or Left
}

// observe takes what gossip says of all members that it knows.
func (t *table) observe(now time.Time, all []seen) {
	there := make(map[string]bool, len(all))
	for _, s := range all {
		if s.name == t.self.Name {
			continue
		}
		there[s.name] = true
		if s.state == Alive || s.state == Suspect {
			t.alive(now, s)
		} else {
			t.gone(now, s)
		}
	}
	for name, e := range t.others {
		if !there[name] && !e.State.gone() { // gossip dropped it before this member looked
			t.set(now, e, Dead, events.MemberDead, "gossip has not heard of it for long")
		}
	}
	t.after(now)
}

func (s State) gone() bool { return s == Dead || s == Left }

func (t *table) alive(now time.Time, s seen) {
	e := t.others[s.name]
	if stone, ok := t.forgotten[s.name]; ok && t.revokes(now, stone, e, s) {
		delete(t.forgotten, s.name)
	}
	if e == nil || e.Epoch != s.meta.epoch {
		why := "first seen"
		switch {
		case e == nil:
			e = &entry{}
			t.others[s.name] = e
		case e.State == Dead || e.State == Left:
			why = "it was " + string(e.State) + " and started again"
		default:
			why = "it started again"
		}
		e.Member = Member{Name: s.name, Epoch: s.meta.epoch, LastContact: e.LastContact}
		e.take(s)
		e.cause = ""
		t.set(now, e, Alive, events.MemberJoined, why)
	}
	if e.take(s) {
		t.changed = true
	}
	state := s.state
	if e.cause != "" && !e.State.gone() {
		state = Unreachable
	}
	switch {
	case state == e.State:
	case state == Suspect:
		t.set(now, e, Suspect, events.MemberSuspect, "it missed a probe; the members ask each other")
	case e.State == Left:
		e.cause = ""
		t.set(now, e, s.state, events.MemberJoined, "it had left and is back")
	case state == Alive, e.State == Dead:
		e.cause = ""
		t.set(now, e, s.state, events.MemberRecovered, fmt.Sprintf("it answers again (it was %s for %s)", e.State, age(now, e.Since)))
	}
}

// revokes tells whether a living member shows that it was forgotten in error, or
// has a new life. Where it was alive all the time, word of its death may just
// come later than the operator's.
func (t *table) revokes(now time.Time, stone tombstone, e *entry, s seen) bool {
	switch {
	case s.meta.epoch != stone.epoch:
		return true
	case s.state != Alive:
		return false
	}
	return e == nil || e.State.gone() || now.Sub(stone.since) > deathIsHeard
}

// take copies what gossip says besides the state, and tells whether that
// differs.
func (e *entry) take(s seen) bool {
	before := e.Member
	e.Addr, e.ID, e.Version, e.Machine = s.addr, s.meta.id, s.meta.version, s.meta.machine
	return before != e.Member
}

func (t *table) gone(now time.Time, s seen) {
	e := t.others[s.name]
	if stone, ok := t.forgotten[s.name]; ok && (e == nil || e.Epoch <= stone.epoch) && s.meta.epoch <= stone.epoch {
		if e != nil {
			t.drop(e)
		}
		return
	}
	if e == nil {
		e = &entry{Member: Member{Name: s.name, Epoch: s.meta.epoch, State: s.state, Since: now}}
		e.take(s)
		t.others[s.name] = e
		t.changed = true
		return
	}
	if e.State == s.state || e.State == Left && e.Epoch == s.meta.epoch {
		return
	}
	e.Epoch = s.meta.epoch
	e.take(s)
	why := "it did not answer the members' probes"
	if e.cause != "" {
		why = e.cause + ", and " + why
	}
	e.cause = ""
	if s.state == Left {
		t.set(now, e, Left, events.MemberLeft, "it said goodbye")
	} else {
		t.set(now, e, Dead, events.MemberDead, why)
	}
}

// broken notes that no connection can be made to a life of a member.
func (t *table) broken(now time.Time, name string, epoch uint64, cause string) {
	e := t.others[name]
	if e == nil || e.Epoch != epoch || e.State.gone() {
		return
	}
	e.cause = cause
	if e.State != Unreachable {
		t.set(now, e, Unreachable, events.MemberUnreachable, cause)
	}
	t.after(now)
}

// works notes that a connection to a member works.
func (t *table) works(now time.Time, name string) {
	e := t.others[name]
	if e == nil {
		return
	}
	e.LastContact = now
	e.cause = ""
	if e.State == Unreachable {
		t.set(now, e, Alive, events.MemberRecovered, fmt.Sprintf("connections to it work again (it was unreachable for %s)", age(now, e.Since)))
	}
	t.after(now)
}

// reached notes that an unreachable life of a member could be dialled.
func (t *table) reached(now time.Time, name string, epoch uint64) {
	if e := t.others[name]; e != nil && e.Epoch == epoch && e.State == Unreachable {
		t.works(now, name)
	}
}

// setClash notes that another running member has this one's name, or that none
// has it any more.
func (t *table) setClash(now time.Time, addr, why string) {
	t.changed = t.changed || t.clash != why
	t.clash, t.clashAddr = why, addr
	t.after(now)
}

// answered notes that a member answered a probe.
func (t *table) answered(now time.Time, name string) {
	if e := t.others[name]; e != nil {
		e.LastContact = now
	}
}

// claim is what another member says of one that it knows to be gone.
type claim struct {
	name, id, addr string
	epoch          uint64
	left           bool
	age            time.Duration // how long it has been gone
}

// learn takes claims of another member about those that are gone. A newer life
// wins; of one life, that it left is known better than that it is dead. Who is
// alive to gossip stays so.
func (t *table) learn(now time.Time, claims []claim) {
	for _, c := range claims {
		if c.name == t.self.Name {
			continue
		}
		if stone, ok := t.forgotten[c.name]; ok && c.epoch <= stone.epoch {
			continue
		}
		e := t.others[c.name]
		switch {
		case e == nil:
			e = &entry{Member: Member{Name: c.name, ID: c.id, Addr: c.addr, Epoch: c.epoch, State: Dead, Since: now.Add(-c.age)}}
			t.others[c.name] = e
		case !e.State.gone(), c.epoch < e.Epoch, c.epoch == e.Epoch && (e.State == Left || !c.left):
			continue
		case c.epoch > e.Epoch:
			e.Member = Member{Name: c.name, ID: c.id, Addr: c.addr, Epoch: c.epoch, State: Dead, Since: now.Add(-c.age), LastContact: e.LastContact}
		}
		if c.left {
			e.State = Left
		}
		t.changed = true
	}
	t.after(now)
}

// claims returns what this member knows of those that are gone.
func (t *table) claims(now time.Time) []claim {
	var out []claim
	for _, e := range t.others {
		if e.State.gone() {
			out = append(out, claim{
				name: e.Name, id: e.ID, addr: e.Addr, epoch: e.Epoch, left: e.State == Left,
				age: max(0, now.Sub(e.Since)),
			})
		}
	}
	slices.SortFunc(out, func(a, b claim) int { return cmp.Or(cmp.Compare(a.age, b.age), cmp.Compare(a.name, b.name)) })
	return out
}

// bury notes that the life of a member that ended with epoch is forgotten. One
// that is alive to gossip stays, and is forgotten when it turns out to be dead.
// It tells whether that was news.
func (t *table) bury(now time.Time, name string, epoch uint64, since time.Time) bool {
	if stone, ok := t.forgotten[name]; name == t.self.Name || ok && stone.epoch >= epoch || now.Sub(since) > tombstoneAge {
		return false
	}
	e := t.others[name]
	if e != nil && e.Epoch > epoch {
		return false
	}
	t.forgotten[name] = tombstone{epoch, since}
	if e != nil && e.State.gone() {
		t.drop(e)
	}
	t.after(now)
	return true
}

func (t *table) drop(e *entry) {
	delete(t.others, e.Name)
	t.changed = true
	t.tell(e, events.MemberForgotten, fmt.Sprintf("an operator removed it (it was %s)", e.State))
}

// set changes a member's state and tells it.
func (t *table) set(now time.Time, e *entry, s State, what events.Type, why string) {
	e.State, e.Since = s, now
	t.changed = true
	t.tell(e, what, why)
}

func (t *table) tell(e *entry, what events.Type, why string) {
	t.events = append(t.events, events.Event{Type: what, Reason: why, Fields: map[string]string{
		"member": e.Name, "address": e.Addr, "version": e.Version,
	}})
}

// after draws the consequences of a change.
func (t *table) after(now time.Time) {
	maps.DeleteFunc(t.forgotten, func(_ string, s tombstone) bool { return now.Sub(s.since) > tombstoneAge })
	t.trim()
	q := t.quorum()
	if q.Has == t.hadQuorum {
		return
	}
	t.hadQuorum, t.changed = q.Has, true
	e := events.Event{
		Type:   events.QuorumRegained,
		Reason: fmt.Sprintf("%d of %d members are alive", q.Alive, q.Size),
		Fields: map[string]string{"alive": fmt.Sprint(q.Alive), "size": fmt.Sprint(q.Size), "need": fmt.Sprint(q.Need)},
	}
	if !q.Has {
		e.Type = events.QuorumLost
		e.Reason += fmt.Sprintf(", and %d are needed", q.Need)
		if t.clash != "" {
			e.Reason = t.clash
		}
	}
	t.events = append(t.events, e)
}

// trim forgets the longest gone where there are too many.
func (t *table) trim() {
	if len(t.others) <= maxKnown {
		return
	}
	var gone []*entry
	for _, e := range t.others {
		if e.State.gone() {
			gone = append(gone, e)
		}
	}
	slices.SortFunc(gone, func(a, b *entry) int { return a.Since.Compare(b.Since) })
	for len(gone) > 0 && len(t.others) > maxKnown {
		delete(t.others, gone[0].Name)
		gone, t.changed = gone[1:], true
	}
}

// quorum counts. Members that have left do not.
func (t *table) quorum() Quorum {
	q := Quorum{Size: 1, Alive: 1}
	for _, e := range t.others {
		if e.State == Left {
			continue
		}
		q.Size++
		if e.State.Usable() {
			q.Alive++
		}
	}
	q.Need = q.Size/2 + 1
	q.Has = q.Alive >= q.Need && t.clash == ""
	return q
}

// members returns all, by name.
func (t *table) members() []Member {
	out := make([]Member, 0, len(t.others)+1)
	out = append(out, t.self)
	for _, e := range t.others {
		out = append(out, e.Member)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// view is a hash over who is alive to gossip, this member included: equal on
// members that agree. It is a sum, so that the order does not matter.
func (t *table) view() uint64 {
	sum := lifeHash(t.self)
	for _, e := range t.others {
		if !e.State.gone() {
			sum += lifeHash(e.Member)
		}
	}
	return sum
}

func lifeHash(m Member) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint64([]byte(m.Name), m.Epoch))
	return h.Sum64()
}

// take returns what happened since it was called.
func (t *table) take() ([]events.Event, bool) {
	e, c := t.events, t.changed
	t.events, t.changed = nil, false
	return e, c
}

func age(now, since time.Time) time.Duration {
	d := now.Sub(since)
	if d < time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
