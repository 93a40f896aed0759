package registry

import (
	"context"
	"time"
)

// A claim for which a majority is asked goes through the same numbered changes
// as all others, as a *pending* entry: readers do not see it, and it reserves
// the key. A member that applies it, or is asked about it, votes: it accepts if
// no other claim in sight has the key, confirmed or by this member's promise.
// A majority's acceptance makes the claim confirmed, which is the next change.
//
// A promise holds for as long as the claim does. When the claimant goes out of
// sight, its claim may still get confirmed where others see it: so the promise
// then holds for twice the time that a claimant counts a vote for. And a claim
// that may have been confirmed out of sight keeps its rank, since a later one
// must be younger to be accepted (vote.floor).
//
// Nothing of this is on disk: a member that has just begun its life knows of no
// promise that its previous one gave. So it does not vote before it has caught up
// with those in sight.

// attempt is a claim of this member for which a majority is being asked.
type attempt struct {
	rec   *record
	keep  bool // confirmed without a majority already, and stays so if it fails
	votes map[string]ballotPaper
	asked []time.Time // by round
}

// ballotPaper is the last that a member answered.
type ballotPaper struct {
	accept bool
	round  int
	floor  uint64
	holder rank
	entry  Entry // of the holder; no key: there is none
}

// Times of quorum registrations.
const (
	voteCounts  = 2 * time.Second // after the question
	promiseHeld = 2 * voteCounts  // after the vote, when the claimant is out of sight
	askEvery    = 200 * time.Millisecond
)

type outcome uint8

const (
	outConfirmed outcome = iota
	outTaken             // somebody else has the key
	outRetry             // somebody else asks for it too, and goes first
	outNoQuorum          // too few are in sight
	outGone              // its owner ended
)

// decision ends an attempt.
type decision struct {
	key      string
	seq      uint64 // of the claim
	outcome  outcome
	entry    Entry  // confirmed: ours; taken, retry: the holder
	floor    uint64 // retry: be younger than this
	accepted int
	answered int
}

// begin asks a majority about r, which is in and promised to itself.
func (c *core) begin(now time.Time, r *record, keep bool) {
	r.promised = true
	c.attempts[r.key()] = &attempt{
		rec: r, keep: keep, votes: make(map[string]ballotPaper), asked: []time.Time{now},
	}
	if keep {
		c.ask(now, c.attempts[r.key()])
	}
	c.count(now, c.attempts[r.key()])
}

// hearFrom notes that a member has told what it knows.
func (c *core) hearFrom(name string) {
	if c.heard != nil {
		c.heard[name] = true
	}
}

// mayVote tells whether this member knows what those in sight know, or has lived
// for longer than a promise holds.
func (c *core) mayVote(now time.Time) bool {
	if c.heard == nil || len(c.targets) == 0 {
		return true
	}
	if now.Sub(c.started) < promiseHeld {
		for _, name := range c.targets {
			o := c.origins[name]
			if !c.heard[name] || o != nil && o.cur != nil && o.cur.head > o.cur.applied {
				return false
			}
		}
	}
	c.heard = nil
	return true
}

// blocker returns why the key is not r's here: a claim that has it, or else a
// claim's time that r must exceed.
func (c *core) blocker(now time.Time, r *record) (holder *record, floor uint64) {
	for _, q := range r.slot.claims {
		if q == r || q.owner == r.owner {
			continue
		}
		if !q.hidden {
			if !q.pending || q.promised {
				return q, 0
			}
			continue
		}
		if c.origins[q.life.name].cur != q.life {
			continue // that life has ended: it asks nobody any more
		}
		held := q.promised && !q.quorum && now.Sub(c.promises[q]) < promiseHeld
		if held || (q.quorum || q.promised) && q.claimed >= r.claimed {
			floor = max(floor, q.claimed)
		}
	}
	return nil, floor
}

// voteLater votes on a claim at the end of the step, when all of it is known.
func (c *core) voteLater(r *record) {
	if !r.asked {
		r.asked = true
		c.ballots = append(c.ballots, r)
	}
}

// voteOn answers for this member whether r gets its key.
func (c *core) voteOn(now time.Time, r *record, round uint64) {
	if r.hidden || !c.mayVote(now) {
		return // it will be asked again
	}
	v := vote{ballot: ballot{[]byte(r.key()), r.life.epoch, r.seq, round}}
	var holder *record
	if !r.promised {
		holder, v.floor = c.blocker(now, r)
		r.promised = holder == nil && v.floor == 0
	}
	if v.accept = r.promised; v.accept {
		c.promises[r] = now
	}
	c.send(r.life.name, appendVote(begin(msgVote, 128), &v, holder))
}

// reconsider looks at the claims that wait for a key after something about the
// key has changed.
func (c *core) reconsider(now time.Time, s *slot) {
	for _, r := range s.claims {
		if r.dup {
			break
		}
		if !r.pending || r.promised || r.hidden || r.life == c.own {
			continue
		}
		if holder, floor := c.blocker(now, r); holder == nil && floor == 0 {
			c.voteLater(r)
		}
	}
	if a := c.attempts[s.key]; a != nil {
		c.count(now, a)
	}
}

// onVote counts another member's vote.
func (c *core) onVote(now time.Time, from string, p *parser) error {
	v, err := parseVote(p)
	if err != nil {
		return err
	}
	a := c.attempts[string(v.key)]
	if a == nil || a.rec.seq != v.seq || c.own.epoch != v.ballot.epoch || v.round >= uint64(len(a.asked)) {
		return nil
	}
	paper := ballotPaper{accept: v.accept, round: int(v.round), floor: v.floor}
	if len(v.origin) > 0 {
		h := &v.holder
		r := h.record(&slot{key: string(h.key)}, &life{name: string(v.origin), epoch: v.epoch})
		r.owner = owner{h.kind, h.creation, string(h.a), string(h.b)}
		c.hear(now, r.stamp)
		paper.holder, paper.entry = r.rank(), r.entry()
	}
	if old, ok := a.votes[from]; ok && old.round > paper.round {
		return nil
	}
	a.votes[from] = paper
	c.count(now, a)
	return nil
}

// onAsk votes again, where the vote or the claim's first answer was lost.
func (c *core) onAsk(now time.Time, from string, p *parser) error {
	b := parseBallot(p)
	if err := p.end(); err != nil {
		return err
	}
	s, o := c.index.slots.slot(string(b.key)), c.origins[from]
	if s == nil || o == nil || o.cur == nil || o.cur.epoch != b.epoch {
		return nil
	}
	if r := c.index.find(s, o.cur, false, nil); r != nil && r.seq == b.seq {
		c.voteOn(now, r, b.round)
	}
	return nil
}

// ask puts the question again to who has not answered it lately.
func (c *core) ask(now time.Time, a *attempt) {
	r := a.rec
	b := appendBallot(begin(msgAsk, 64+len(r.key())), ballot{[]byte(r.key()), c.own.epoch, r.seq, uint64(len(a.asked))})
	a.asked = append(a.asked, now)
	for _, name := range c.targets {
		if v, ok := a.votes[name]; !ok || !v.accept || now.Sub(a.asked[v.round]) > voteCounts/2 {
			c.send(name, b)
		}
	}
}

// tally is where an attempt stands.
type tally struct{ accepted, answered, open, size int }

func (t tally) need() int { return t.size/2 + 1 }

func (c *core) tally(now time.Time, a *attempt) tally {
	t := tally{accepted: 1, answered: 1, size: len(c.peers) + 1}
	for name, p := range c.peers {
		v, ok := a.votes[name]
		if ok {
			t.answered++
		}
		switch {
		case ok && v.accept && now.Sub(a.asked[v.round]) < voteCounts:
			t.accepted++
		case p.Visible && (!ok || v.accept):
			t.open++
		}
	}
	return t
}

// count decides an attempt, if it can be.
func (c *core) count(now time.Time, a *attempt) {
	r := a.rec
	if c.attempts[r.key()] != a {
		return
	}
	if !r.life.owns(r) {
		c.decide(now, a, decision{outcome: outGone})
		return
	}
	if w := r.slot.winner(); w != nil && w != r && !w.dup && w.owner != r.owner {
		c.decide(now, a, decision{outcome: outTaken, entry: w.entry()})
		return
	}
	t := c.tally(now, a)
	switch {
	case t.accepted >= t.need():
		c.confirm(now, a)
		return
	case len(c.targets)+1 < t.need():
		c.decide(now, a, decision{outcome: outNoQuorum})
		return
	}
	mine, floor := r.rank(), uint64(0)
	mine.pending = true
	var first *ballotPaper
	for _, name := range sortedKeys(a.votes) {
		v := a.votes[name]
		if _, ok := c.peers[name]; !ok || v.accept {
			continue
		}
		floor = max(floor, v.floor)
		if v.entry.Key == "" {
			continue
		}
		if !v.holder.pending {
			c.decide(now, a, decision{outcome: outTaken, entry: v.entry})
			return
		}
		if v.holder.before(mine) && (first == nil || v.holder.before(first.holder)) {
			first = &v
		}
	}
	// Who goes after another claim that waits steps back; who goes first waits for
	// the others to do so.
	if t.accepted+t.open < t.need() && (first != nil || floor != 0) {
		d := decision{outcome: outRetry, floor: floor}
		if first != nil {
			d.entry = first.entry
		}
		c.decide(now, a, d)
	}
}

// confirm makes the claim one that a majority has agreed to.
func (c *core) confirm(now time.Time, a *attempt) {
	old := a.rec
	r := old.version()
	r.pending, r.quorum = false, true
	c.end(a)
	c.putOwn(now, old, r)
	c.out.decided = append(c.out.decided, decision{key: r.key(), seq: old.seq, outcome: outConfirmed, entry: r.entry()})
}

// decide ends an attempt without success.
func (c *core) decide(now time.Time, a *attempt, d decision) {
	t := c.tally(now, a)
	d.key, d.seq, d.accepted, d.answered = a.rec.key(), a.rec.seq, t.accepted, t.answered
	c.end(a)
	c.out.decided = append(c.out.decided, d)
	if !a.keep && a.rec.life.owns(a.rec) {
		c.deleteOwn(now, a.rec)
	}
}

func (c *core) end(a *attempt) { delete(c.attempts, a.rec.key()) }

// abandon ends an attempt whose caller does not wait any longer, and returns
// how far it got.
func (c *core) abandon(now time.Time, key string, seq uint64, cause error) error {
	a := c.attempts[key]
	if a == nil || a.rec.seq != seq {
		return cause
	}
	t := c.tally(now, a)
	c.end(a)
	if !a.keep {
		c.deleteOwn(now, a.rec)
	}
	return c.noQuorum(key, t.accepted, t.answered, cause)
}

func (c *core) noQuorum(key string, accepted, answered int, cause error) error {
	if cause == context.Canceled {
		return cause
	}
	return &NoQuorumError{
		Key: key, Accepted: accepted, Answered: answered,
		Visible: len(c.targets) + 1, Size: len(c.peers) + 1, Cause: cause,
	}
}

// remind asks again about all attempts, and lets go of promises to claims that
// were not heard of for long enough.
func (c *core) remind(now time.Time) {
	for _, key := range sortedKeys(c.attempts) {
		a := c.attempts[key]
		if now.Sub(a.asked[len(a.asked)-1]) >= askEvery {
			c.ask(now, a)
		}
		c.count(now, a)
	}
	for r, t := range c.promises {
		if !r.hidden && r.pending || now.Sub(t) < promiseHeld {
			continue
		}
		delete(c.promises, r)
		if r.hidden {
			c.reconsider(now, r.slot)
		}
	}
}

// recount decides the attempts that can be after the members have changed.
func (c *core) recount(now time.Time) {
	for _, key := range sortedKeys(c.attempts) {
		if a := c.attempts[key]; a != nil {
			c.count(now, a)
		}
	}
}
