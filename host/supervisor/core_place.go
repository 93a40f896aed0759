package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Pauses between questions to a placement strategy that has no answer. A change
// of the members asks at once.
const (
	retryMin = 200 * time.Millisecond
	retryMax = 5 * time.Second
)

// maxFrom bounds the members that a start waits for.
const maxFrom = 32

// arbitrate asks for a member where a child needs another one, if that is for
// this member to decide.
func (c *core) arbitrate(ch *child) {
	if c.decides(ch) {
		c.adopt(ch)
		c.reclaim(ch)
	}
	why := c.needs(ch)
	if why == "" || !c.decides(ch) {
		ch.reason = ""
		c.dropQuestion(ch)
		return
	}
	switch {
	case ch.asked != 0 && ch.askedAs == ch.rec.Assignment.Version && ch.why == why:
		return // an answer is due
	case ch.retry > c.now.mono:
		return
	case why != toPlace && c.paused(ch):
		return
	case (why == toDrain || why == toReview) && len(c.moving) >= c.cfg.maxMoves:
		if !ch.queued {
			ch.queued = true
			c.queue = append(c.queue, ch.rec.ID)
		}
		return
	}
	c.ask(ch, why)
}

func (c *core) decides(ch *child) bool {
	return c.synced && !c.leaving && ch.rec.Intent.Spec != nil && c.arbiterOf(ch) == c.self
}

// needs tells why a child needs a member, or another one.
func (c *core) needs(ch *child) purpose {
	a := &ch.rec.Assignment
	_, ended := ch.rec.ended()
	switch {
	case ch.rec.Intent.Wanted != wantRunning || ended:
		return ""
	case a.Member == "" || !c.peers[a.Member].up:
		return toPlace
	case c.peers[a.Member].draining:
		return toDrain
	case ch.review:
		return toReview
	}
	return ""
}

// dropQuestion forgets a question whose answer is of no use any more.
func (c *core) dropQuestion(ch *child) {
	if ch.asked != 0 && ch.why != toCheck {
		ch.asked = 0
		if v, ok := c.moving[ch.rec.ID]; ok && v == (version{}) {
			c.endMove(ch)
		}
	}
}

// ask asks the child's placement strategy.
func (c *core) ask(ch *child, why purpose) {
	if ch.asked != 0 && ch.why == toCheck {
		ch.checked = 0 // ask that again
	}
	if why == toDrain || why == toReview {
		c.moving[ch.rec.ID] = version{} // until there is an answer
	}
	ch.why, ch.askedAs = why, ch.rec.Assignment.Version
	ch.asked = c.do(action{kind: doPlace, id: ch.rec.ID, spec: ch.rec.spec(), purpose: why, previous: ch.rec.Assignment.Member, avoid: ch.avoids()})
}

// placed takes a strategy's answer.
func (c *core) placed(now instant, id string, op uint64, d sdk.Decision, err error) {
	c.at(now)
	if ch := c.children[id]; ch != nil && ch.errand != nil && ch.asked == op && op != 0 {
		ch.asked = 0
		c.mark(ch)
		if ch.why == toCheck {
			c.mayRun(ch, d, err)
		} else {
			c.decide(ch, d.Member, err)
		}
	}
	c.settle()
}

// decide acts on an answer, if the question is still the same.
func (c *core) decide(ch *child, member string, err error) {
	if v, ok := c.moving[ch.rec.ID]; ok && v == (version{}) {
		c.endMove(ch)
	}
	a := &ch.rec.Assignment
	if !c.decides(ch) || ch.askedAs != a.Version || ch.rec.Intent.Wanted != wantRunning {
		return
	}
	p := c.peers[member]
	switch {
	case err != nil:
		c.refused(ch, err)
	case ch.why == toReview && member == a.Member:
		ch.review, ch.tries = false, 0
	case !p.up || p.draining || ch.why != toPlace && member == a.Member:
		c.refused(ch, errStale)
	case ch.why == toPlace:
		c.assign(ch, member, c.explain(ch))
	default:
		c.move(ch, member, c.explain(ch))
		c.moving[ch.rec.ID] = ch.rec.Assignment.Version
	}
}

// errStale is an answer that the members have overtaken.
var errStale = errors.New("the placement strategy chose a member that cannot take it")

func (c *core) explain(ch *child) string {
	m := ch.rec.Assignment.Member
	switch {
	case ch.why == toDrain:
		return fmt.Sprintf("member %s is drained", m)
	case ch.why == toReview:
		return "a member has joined"
	case m != "" && !c.peers[m].up:
		return fmt.Sprintf("member %s was lost", m)
	}
	return ""
}

// hurry asks again for all children that wait for a member: strategies may be
// others now.
func (c *core) hurry(now instant) {
	c.at(now)
	for _, ch := range c.children {
		if ch.errand != nil && ch.retry > now.mono {
			ch.retry = 0
			c.mark(ch)
		}
	}
	c.settle()
}

// refused notes why there is no member, and when to ask again.
func (c *core) refused(ch *child, err error) {
	ch.reason = brief(err.Error())
	pause := min(retryMin<<min(ch.tries, 10), retryMax)
	ch.tries++
	ch.retry = c.now.mono + pause
	if ch.hand != nil {
		ch.hand.avoid = "" // rather there than nowhere
	}
	if ch.why == toReview {
		ch.review = false // it is well where it is
	}
	c.wake(ch, ch.retry)
}

// assign gives a child to a member. Whoever may run it still is to say first
// that it does not.
func (c *core) assign(ch *child, member, why string) { c.reassign(ch, member, why, "", version{}) }

// reassign is assign, with the run of a member, by assignment of, that is to go on
// or whose state is to be taken over.
func (c *core) reassign(ch *child, member, why, take string, of version) {
	old := ch.rec.Assignment
	var from []string
	if old.Member != "" && old.Member != member {
		from = append(from, old.Member)
	}
	for _, m := range old.from() {
		if m != member && !slices.Contains(from, m) && !c.vacated(ch, m, old.Version) && len(from) < maxFrom {
			from = append(from, m)
		}
	}
	c.learn(ch, record{ID: ch.rec.ID, Intent: ch.rec.Intent, Assignment: newAssignment(c.next(old.Version), intern(member), why, from, take, of), Outcome: ch.rec.Outcome})
}

// vacated tells whether nothing of a child is on a member, which knows that
// assignment v, or a later one, gives the child to somebody else.
func (c *core) vacated(ch *child, member string, v version) bool {
	if member == c.self {
		return ch.run == nil
	}
	f := ch.fact(member)
	return f != nil && !f.Running && f.Seen.covers(v)
}

// settleMove notes the end of a move that this member has begun: the child runs
// again, or what it was moved by is history.
func (c *core) settleMove(ch *child) {
	v, ok := c.moving[ch.rec.ID]
	if !ok || v == (version{}) && ch.asked != 0 {
		return
	}
	a := &ch.rec.Assignment
	f := ch.fact(a.Member)
	if a.Member == c.self {
		f = ch.told
	}
	_, ended := ch.rec.ended()
	arrived := f != nil && f.Seen.covers(v) && (f.state() == Running || f.state() == Backoff)
	if v != a.Version || ended || arrived || ch.rec.Intent.Wanted != wantRunning || !c.peers[a.Member].up {
		c.endMove(ch)
	}
}

// endMove makes room for another move.
func (c *core) endMove(ch *child) {
	delete(c.moving, ch.rec.ID)
	for len(c.queue) > 0 {
		next := c.children[c.queue[0]]
		c.queue = c.queue[1:]
		if next != nil {
			next.queued = false
			c.mark(next)
			return
		}
	}
}

// mayRun takes the answer to whether a child may run on this side.
func (c *core) mayRun(ch *child, d sdk.Decision, err error) {
	ch.why = ""
	switch {
	case errors.Is(err, sdk.ErrNoQuorum) && d.Stop:
		ch.suspended = brief(err.Error())
	case err == nil || errors.Is(err, sdk.ErrNoQuorum) || errors.Is(err, sdk.ErrNoCandidate):
		ch.suspended = ""
	default: // no answer is no reason to stop it, nor to start it
		ch.checked = 0
		ch.retry = c.now.mono + retryMin
		c.wake(ch, ch.retry)
	}
}

// checkSide asks whether a child of this member may go on, where no majority is
// in sight: some strategies have it stopped then.
func (c *core) checkSide(ch *child) {
	if c.quorum {
		ch.suspended, ch.checked = "", 0
		return
	}
	if ch.checked == c.era || ch.asked != 0 || ch.retry > c.now.mono {
		return
	}
	ch.checked = c.era
	c.ask(ch, toCheck)
}
