package supervisor

import (
	"fmt"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

// A planned move takes the state of a child along that wants that: its assignment
// then names the member that Takes it from, and the old run goes on until the new
// one has begun with a snapshot of it. When that cannot be, the arbiter makes an
// assignment back by which the old run goes on. Whoever dies meanwhile, what is
// left is an assignment like others: without a run to take from, the child is
// started afresh.
//
//	move, holder     the arbiter: whose state a move takes along
//	reclaim          the arbiter: a move that came to nothing
//	handing, keepOn  the member that has the run
//	taking, balk     the member that is to have it

const (
	// handoffWait is how long the new member waits for the old one's word that it
	// knows of the move and runs the child.
	handoffWait = 10 * time.Second
	// handoffTime bounds one snapshot: taking it, its transfer and the restore.
	handoffTime = 2 * time.Minute
	// handoffMax is when the arbiter calls a move off of which it hears nothing. It is
	// more than the other two.
	handoffMax = handoffWait + handoffTime + 30*time.Second

	// Pauses before a drain or a redistribution tries again what has failed: each
	// attempt costs a snapshot.
	balkMin = 10 * time.Second
	balkMax = 5 * time.Minute

	// maxBalk bounds what is told of a failure, in bytes: the record has it.
	maxBalk = 1000
)

// handoff is what a member remembers of moves that take a child's state along.
type handoff struct {
	// The arbiter's.
	watched  version       // is waited for …
	patience time.Duration // … until then
	balks    int           // that failed one after the other
	pause    time.Duration // none is tried before, but by request
	avoid    string        // where the last one failed

	// The runner's.
	awaited version       // the old member has said nothing of it yet …
	until   time.Duration // … and is to by then
	balked  version       // failed here …
	balk    string        // … and why
}

// hands is a child's handoff, which may be changed.
func (ch *child) hands() *handoff {
	if ch.hand == nil {
		ch.hand = &handoff{}
	}
	return ch.hand
}

// paused tells whether no handoff is to be tried but by request.
func (c *core) paused(ch *child) bool { return ch.hand != nil && ch.hand.pause > c.now.mono }

// avoids is the member where the last handoff failed.
func (ch *child) avoids() string {
	if ch.hand == nil {
		return ""
	}
	return ch.hand.avoid
}

// balks is why a handoff by the assignment in force has failed on this member.
func (ch *child) balks() string {
	if ch.hand == nil || ch.rec.Assignment.take() == "" || ch.hand.balked != ch.rec.Assignment.Version {
		return ""
	}
	return ch.hand.balk
}

// factOf is what a member, which may be this one, says of a child and itself.
func (c *core) factOf(ch *child, member string) *fact {
	if member == c.self {
		return ch.told
	}
	return ch.fact(member)
}

// move gives a child to a member by plan: with its state, where it wants that.
func (c *core) move(ch *child, member, why string) {
	take, of := c.holder(ch)
	c.reassign(ch, member, why, take, of)
}

// holder is the member whose run has the state of a child that is to be handed
// over, and the assignment that this run follows; empty: there is none.
func (c *core) holder(ch *child) (member string, of version) {
	if s := ch.rec.Intent.Spec; s == nil || s.rest.Handoff != sdk.HandoffSnapshot {
		return "", version{}
	}
	a := &ch.rec.Assignment
	member, of = a.Member, a.Version
	if a.take() != "" && !c.begun(ch) {
		member, of = a.take(), a.of()
	}
	if f := c.factOf(ch, member); f == nil || f.state() != Running || !c.peers[member].up {
		return "", version{}
	}
	return member, of
}

// begun tells whether the member of an assignment that takes a run's state has
// said that it has begun: from then on the state is there.
func (c *core) begun(ch *child) bool {
	f := c.factOf(ch, ch.rec.Assignment.Member)
	return f != nil && f.Began && f.Seen.covers(ch.rec.Assignment.Version)
}

// handed tells whether a move is under way that is to take a run's state along.
func (c *core) handed(ch *child) bool {
	a := &ch.rec.Assignment
	_, ended := ch.rec.ended()
	return a.take() != "" && a.take() != a.Member && ch.rec.Intent.Wanted == wantRunning && !ended
}

// reclaim calls a move off that came to nothing while the old run goes on: that
// becomes the child's run again.
func (c *core) reclaim(ch *child) {
	if !c.handed(ch) {
		return
	}
	a := &ch.rec.Assignment
	if c.begun(ch) {
		if h := ch.hand; h != nil {
			h.balks, h.pause, h.avoid = 0, 0, ""
		}
		return
	}
	if old := c.factOf(ch, a.take()); !c.peers[a.take()].up || old == nil || old.state() != Running {
		return // and so the new member starts it afresh
	}
	h := ch.hands()
	if h.watched != a.Version {
		h.watched, h.patience = a.Version, c.now.mono+handoffMax
		c.wake(ch, h.patience)
	}
	f := c.factOf(ch, a.Member)
	switch {
	case !c.peers[a.Member].up:
		c.takeBack(ch, "that member was lost")
	case f != nil && f.Seen == a.Version && f.Balk != (word{}):
		c.takeBack(ch, f.Balk.String())
	case h.patience <= c.now.mono:
		c.takeBack(ch, fmt.Sprintf("it has not begun there within %s", handoffMax))
	}
}

func (c *core) takeBack(ch *child, why string) {
	a, h := ch.rec.Assignment, ch.hands()
	c.reassign(ch, a.take(), fmt.Sprintf("the move to member %s failed: %s", a.Member, why), a.take(), a.of())
	h.pause = c.now.mono + min(balkMin<<min(h.balks, 10), balkMax)
	h.avoid, h.balks = a.Member, h.balks+1
	c.wake(ch, h.pause)
}

// handing tells whether the run of this member goes on although the child is
// another one's: until that has begun with its state.
func (c *core) handing(ch *child) bool {
	a := &ch.rec.Assignment
	return c.handed(ch) && a.take() == c.self && ch.run != nil && ch.run.For == a.of() &&
		ch.run.Spec == ch.rec.Intent.Version && !c.leaving && !c.begun(ch)
}

// keepOn has a run go on by an assignment that says so.
func (c *core) keepOn(ch *child) {
	a, r := &ch.rec.Assignment, ch.run
	if r == nil || a.Member != c.self || a.take() != c.self || r.For != a.of() || r.Spec != ch.rec.Intent.Version {
		return
	}
	switch r.Phase {
	case creating, recovering, up:
		r.For, r.Began = a.Version, true
		c.keep(ch)
	}
}

// taking tells from which member's run a child is to begin here; empty: afresh.
// While it is not ready, the child waits.
func (c *core) taking(ch *child, before *run) (member string, ready bool) {
	a := &ch.rec.Assignment
	if a.take() == "" || a.take() == c.self || !c.peers[a.take()].up || before != nil && before.Began || c.vacated(ch, a.take(), a.Version) {
		return "", true
	}
	if ch.waits = ch.balks(); ch.waits != "" {
		return "", false
	}
	if f := ch.fact(a.take()); f != nil && f.state() == Running && f.Seen.covers(a.Version) {
		return a.take(), true
	}
	h := ch.hands()
	if h.awaited != a.Version {
		h.awaited, h.until = a.Version, c.now.mono+handoffWait
		c.wake(ch, h.until)
	}
	ch.waits = fmt.Sprintf("waits for its state from member %s", a.take())
	if h.until <= c.now.mono {
		c.refuse(ch, a.Version, a.take(), fmt.Sprintf("that member is not ready to hand it over after %s", handoffWait))
		ch.waits = h.balk
	}
	return "", false
}

// refuse notes that a child cannot begin here with its state, for the arbiter.
func (c *core) refuse(ch *child, v version, from, why string) {
	h := ch.hands()
	why = strings.ToValidUTF8(why[:min(len(why), maxBalk)], "")
	h.balked, h.balk = v, fmt.Sprintf("its state cannot be taken over from member %s: %s", from, why)
	c.note(ch, Entry{Member: c.self, What: "not_started", Reason: h.balk})
}

// mayHandOver tells whether a member may have the state of a child that runs
// here, by an assignment of this epoch.
func (c *core) mayHandOver(id, member string, epoch uint64) bool {
	ch := c.children[id]
	return ch != nil && c.handing(ch) && ch.run.Phase == up && !ch.run.changing() && ch.rec.Assignment.Member == member && ch.rec.Assignment.Version.Epoch == epoch
}
