package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Pauses before what a sandbox strategy did not do is asked again.
const (
	opRetry    = 200 * time.Millisecond
	opRetryMax = 5 * time.Second
)

// wanted tells whether a child is to run here.
func (c *core) wanted(ch *child) bool {
	_, ended := ch.rec.ended()
	return ch.rec.Intent.Wanted == wantRunning && ch.rec.Assignment.Member == c.self && !ended && ch.suspended == "" && !c.leaving
}

// right tells whether a run is the one that is wanted.
func (ch *child) right() bool {
	r := ch.run
	return r.For == ch.rec.Assignment.Version && r.Spec == ch.rec.Intent.Version && (!r.Unsure || r.hitch().reloading != 0)
}

// runHere makes what runs on this member what the book says.
func (c *core) runHere(ch *child) {
	ch.waits = ""
	c.keepUp(ch)
	c.keepOn(ch)
	mine := ch.rec.Intent.Wanted == wantRunning && ch.rec.Assignment.Member == c.self
	if mine && c.synced {
		c.checkSide(ch)
	}
	want := c.wanted(ch)
	if ch.run == nil {
		if want {
			c.begin(ch, nil)
		}
		return
	}
	r := ch.run
	if r.Phase == creating && !(want && ch.right()) {
		c.drop(ch)
	}
	replaced := (r.Phase == over || r.Phase == blank) && !(want && ch.right()) // its pause is of no use any more
	if h := r.hitch(); r.op != 0 || h.again > c.now.mono && !replaced || h.reloading != 0 && r.Phase == over {
		return // an answer, or a time, is due; a reload must not find the next run
	}
	switch r.Phase {
	case up:
		if (!want || !ch.right()) && !c.handing(ch) {
			c.stop(ch)
		}
	case stopping:
		c.stop(ch)
	case recovering:
		c.recover(ch)
	case destroying:
		c.destroy(ch)
	case blank:
		if want && ch.right() {
			c.begin(ch, r)
			return
		}
		ch.run = nil
		c.keep(ch)
		if want {
			c.begin(ch, nil)
		}
	case over:
		switch {
		case want && ch.right():
			c.begin(ch, r)
		case want || !c.keeps(ch):
			c.destroy(ch)
		}
	}
}

// drop has a start end that is of no use any more, which may be long: a compiler may be at
// work. One that begins with the state of another run ends by itself, as a move does.
func (c *core) drop(ch *child) {
	if h := ch.run.hitched(); ch.run.op != 0 && h.take == "" && !h.dropped {
		h.dropped = true
		c.do(action{kind: doGiveUp, id: ch.rec.ID})
	}
}

// keeps tells whether what is left of a run that has ended is to be looked at:
// the child is this member's, and is not to run.
func (c *core) keeps(ch *child) bool {
	return ch.rec.Assignment.Member == c.self && ch.run.For == ch.rec.Assignment.Version && !ch.rec.removed() && !c.leaving
}

// begin starts a child; again, if there was a run of it before.
func (c *core) begin(ch *child, before *run) {
	if !c.synced {
		ch.waits = "this member is joining its cluster"
		return
	}
	take, ready := c.taking(ch, before)
	if !ready {
		return
	}
	if who := c.occupied(ch, take); who != "" {
		ch.waits = fmt.Sprintf("waits until member %s has stopped it", who)
		return
	}
	r := &run{For: ch.rec.Assignment.Version, Spec: ch.rec.Intent.Version, Strategy: wordOf(ch.rec.Intent.Spec.rest.Strategy), Phase: creating}
	if before != nil {
		h := before.hitch()
		r.Restarts, r.Began = before.Restarts, before.Began
		r.odd = &hitch{left: before.Phase == over, tries: h.tries, recent: h.recent, why: h.why, said: h.said, saidAt: h.saidAt}
	}
	if take != "" {
		r.hitched().take = take
	}
	r.Since = c.now.wall.UnixNano()
	ch.run = r
	c.keep(ch)
	r.op = c.do(action{kind: doCreate, id: ch.rec.ID, spec: ch.rec.spec(), run: r.copy(), take: take})
}

// occupied is a member that has to stop the child before it may start here, but
// for one whose run's state it begins with. Of one that is gone nothing is known,
// and nothing is waited for.
func (c *core) occupied(ch *child, take string) string {
	for _, m := range ch.rec.Assignment.from() {
		if m != c.self && m != take && c.peers[m].up && !c.vacated(ch, m, ch.rec.Assignment.Version) {
			return m
		}
	}
	for _, o := range ch.others {
		if m := o.member.String(); o.fact != nil && o.fact.Running && m != take && c.peers[m].up {
			return m
		}
	}
	return ""
}

func (c *core) stop(ch *child) {
	r := ch.run
	c.giveUp(ch)
	if r.Phase != stopping {
		r.Phase, r.Since = stopping, c.now.wall.UnixNano()
		c.keep(ch)
	}
	timeout := defaultShutdownTimeout
	if s := ch.rec.Intent.Spec; s != nil {
		timeout = s.rest.ShutdownTimeout
	}
	r.op = c.do(action{kind: doStop, id: ch.rec.ID, run: r.copy(), timeout: timeout})
}

func (c *core) recover(ch *child) {
	ch.run.op = c.do(action{kind: doRecover, id: ch.rec.ID, run: ch.run.copy()})
}

func (c *core) destroy(ch *child) {
	ch.run.Phase = destroying
	ch.run.op = c.do(action{kind: doDestroy, id: ch.rec.ID, run: ch.run.copy()})
}

// resume takes a run up that an earlier life has left.
func (c *core) resume(ch *child, r *run) {
	ch.run = r
	if r.Handle.ID == ch.rec.ID {
		r.Handle.ID = ch.rec.ID // of which there is one then
	}
	switch r.Phase {
	case creating: // whether it came to be is not known
		r.Phase = stopping
	case up:
		r.Phase = recovering
	}
}

// keep has a run, and the child's history, kept on disk.
func (c *core) keep(ch *child) {
	a := action{kind: doKeep, id: ch.rec.ID}
	if ch.run != nil {
		a.run = ch.run.copy()
	}
	c.do(a)
}

// errNotAsked is a strategy that could not be asked: what was wanted of it was not
// even begun.
var errNotAsked = errors.New("the sandbox strategy was not asked")

// uncertain tells whether an error leaves open what the strategy did.
func uncertain(err error) bool {
	for _, e := range []error{sdk.ErrUnavailable, sdk.ErrGarbage, sdk.ErrPanic, sdk.ErrUnsure, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// answer finds the run that an answer is for; nil: it comes too late.
func (c *core) answer(now instant, id string, op uint64) *child {
	c.at(now)
	ch := c.children[id]
	if ch == nil || ch.run == nil || ch.run.op != op || op == 0 {
		return nil
	}
	ch.run.op = 0
	c.open(ch)
	c.mark(ch)
	return ch
}

// created says how a start went.
func (c *core) created(now instant, id string, op uint64, h sdk.SandboxHandle, st sdk.SandboxStatus, err error) {
	if ch := c.answer(now, id, op); ch != nil {
		r := ch.run
		take := r.hitch().take
		if err != nil && take != "" {
			c.refuse(ch, r.For, take, err.Error())
		}
		switch {
		case errors.Is(err, errNotAsked) && !r.hitch().left:
			c.again(ch, blank, err)
			c.keep(ch)
		case errors.Is(err, errNotAsked):
			c.again(ch, over, err)
			c.keep(ch)
		case err != nil && take != "":
			c.again(ch, stopping, err) // something of it may have come to be
		case uncertain(err) && r.hitch().dropped:
			r.Phase = stopping
			c.keep(ch)
		case uncertain(err):
			c.again(ch, stopping, err) // it may have come to be
		case err != nil:
			c.note(ch, Entry{Member: c.self, What: "not_started", Reason: err.Error()})
			c.say(ch, err.Error())
			c.ended(ch, "it cannot be started: "+err.Error(), true)
		default:
			r.life = op
			r.Began = r.Began || ch.rec.Assignment.take() != "" && r.For == ch.rec.Assignment.Version
			c.came(ch, h, st)
			e := Entry{Member: c.self, What: "started"}
			if take != "" {
				e.Reason = fmt.Sprintf("with the state that it had on member %s", take)
			}
			c.note(ch, e)
		}
	}
	c.settle()
}

const (
	// maxSaid bounds what is kept of what a strategy says of a start, in bytes.
	maxSaid = sdk.MaxFailure
	// maxSpoken are the children of which so much is kept; of others it is as brief as a
	// reason.
	maxSpoken = 100
)

// say keeps what a strategy said of a start that failed.
func (c *core) say(ch *child, text string) {
	if n := len(text) - maxSaid; n > 0 { // the beginning is in the reason
		text = strings.ToValidUTF8(text[n:], "")
	}
	h := ch.run.hitched()
	h.said, h.saidAt = text, c.now.wall
	c.spoken = append(slices.DeleteFunc(c.spoken, func(id string) bool { return id == ch.rec.ID }), ch.rec.ID)
	if len(c.spoken) <= maxSpoken {
		return
	}
	if old := c.children[c.spoken[0]]; old != nil && old.run != nil && old.run.odd != nil {
		old.run.odd.said = brief(old.run.odd.said)
	}
	c.spoken = slices.Delete(c.spoken, 0, 1)
}

// recovered says how a takeover went. ErrNotFound: nothing is there any more.
func (c *core) recovered(now instant, id string, op uint64, st sdk.SandboxStatus, err error) {
	if ch := c.answer(now, id, op); ch != nil {
		switch {
		case errors.Is(err, sdk.ErrNotFound):
			ch.run = nil
			c.keep(ch)
			c.note(ch, Entry{Member: c.self, What: "gone", Reason: "it ended while this member was down"})
		case err != nil:
			c.again(ch, recovering, err)
		default:
			ch.run.life = op
			c.came(ch, ch.run.Handle, st)
			c.note(ch, Entry{Member: c.self, What: "taken_over"})
		}
	}
	c.settle()
}

// came notes that a run is up.
func (c *core) came(ch *child, h sdk.SandboxHandle, st sdk.SandboxStatus) {
	r := ch.run
	if h.ID == ch.rec.ID {
		h.ID = ch.rec.ID
	}
	r.Phase, r.Handle, r.OSPid, r.Node = up, h, st.OSPid, wordOf(st.Node)
	if recent := r.hitch().recent; recent != nil {
		r.odd = &hitch{recent: recent}
	} else {
		r.odd = nil
	}
	r.Since = c.now.wall.UnixNano()
	if r.Started == 0 {
		r.Started = r.Since
	}
	c.keep(ch)
}

// again has what a strategy did not do tried again, for it is the strategy that
// fails and not the child.
func (c *core) again(ch *child, p phase, err error) {
	ch.run.Phase = p
	h := ch.run.hitched()
	h.why = brief(err.Error())
	h.again = c.now.mono + min(opRetry<<min(h.tries, 10), opRetryMax)
	h.tries++
	c.wake(ch, h.again)
}

// seen says how the run of life does, by what it was created or taken over.
func (c *core) seen(now instant, id string, life uint64, st sdk.SandboxStatus) {
	c.at(now)
	ch := c.children[id]
	if ch != nil && ch.run != nil && ch.run.life == life && ch.run.Phase == up && ch.run.Node != wordOf(st.Node) {
		ch.run.Node = wordOf(st.Node)
		c.keep(ch)
		c.mark(ch)
	}
	c.settle()
}

// exited says that a child has ended. life is the number of what it was created
// or taken over by.
func (c *core) exited(now instant, id string, life uint64, e sdk.SandboxExit) {
	c.at(now)
	ch := c.children[id]
	if ch != nil && ch.run != nil && ch.run.life == life && ch.run.Phase == up {
		c.open(ch)
		c.note(ch, Entry{Member: c.self, What: "exited", Reason: exitText(e), Exit: &e})
		c.ended(ch, exitText(e), exitAbnormal(e))
		c.mark(ch)
	}
	c.settle()
}

// ended decides what follows the end of a run: another one, or an outcome.
func (c *core) ended(ch *child, why string, abnormal bool) {
	r := ch.run
	c.giveUp(ch)
	why = brief(why)
	h := r.hitched()
	r.Phase, h.why, r.OSPid, r.Started, r.Since = over, why, 0, 0, c.now.wall.UnixNano()
	r.Unsure, r.Reload = false, nil
	defer c.keep(ch)
	if !c.wanted(ch) || !ch.right() {
		return
	}
	s := ch.rec.Intent.Spec.rest
	if s.Restart == sdk.RestartTemporary || s.Restart == sdk.RestartTransient && !abnormal {
		c.finish(ch, Exited, why)
		return
	}
	h.recent = recentRestarts(h.recent, c.now.mono, s.MaxRestartsIn)
	if limit := max(s.MaxRestarts, 0); len(h.recent) >= limit {
		c.finish(ch, Failed, fmt.Sprintf("ended more than %s within %s, the last time: %s", times(limit), s.MaxRestartsIn, why))
		return
	}
	h.again = c.now.mono + backoff(s, len(h.recent))
	h.recent = append(h.recent, h.again)
	r.Restarts++
	c.wake(ch, h.again)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// finish writes down how an assignment ended.
func (c *core) finish(ch *child, s State, why string) {
	c.learn(ch, record{ID: ch.rec.ID, Intent: ch.rec.Intent, Assignment: ch.rec.Assignment, Outcome: &outcome{
		For: ch.rec.Assignment.Version, State: s, Reason: why, Restarts: ch.run.Restarts, At: c.now.wall.UnixNano(),
	}})
}

// recentRestarts drops those that do not count any more.
func recentRestarts(all []time.Duration, now, within time.Duration) []time.Duration {
	var out []time.Duration
	for _, t := range all {
		if t > now-within {
			out = append(out, t)
		}
	}
	return out
}

// backoff is the pause before a restart, after n others within the time that
// counts. The first has none, and all that are allowed take less than half of
// that time: so that what ends at once comes to its limit.
func backoff(s *Spec, n int) time.Duration {
	m := time.Duration(max(s.MaxRestarts, 1))
	return s.MaxRestartsIn / m / m * time.Duration(n)
}

// stopped says how a stop went, and how the child ended, where that is known.
func (c *core) stopped(now instant, id string, op uint64, e *sdk.SandboxExit, err error) {
	if ch := c.answer(now, id, op); ch != nil {
		switch {
		case err == nil || errors.Is(err, sdk.ErrNotFound):
			ch.run.Phase, ch.run.OSPid, ch.run.Started = over, 0, 0
			if ch.run.odd != nil {
				ch.run.odd.again = 0
			}
			ch.run.Since = c.now.wall.UnixNano()
			c.keep(ch)
			if !c.keeps(ch) || c.wanted(ch) {
				break // and now it is destroyed
			}
			entry := Entry{Member: c.self, What: "stopped", Exit: e}
			if e != nil {
				entry.Reason = e.Reason
			}
			c.note(ch, entry)
		default:
			c.again(ch, stopping, err)
		}
	}
	c.settle()
}

// destroyed says how the end of what was left went.
func (c *core) destroyed(now instant, id string, op uint64, err error) {
	if ch := c.answer(now, id, op); ch != nil {
		if err == nil || errors.Is(err, sdk.ErrNotFound) {
			ch.run = nil
			c.keep(ch)
		} else {
			c.again(ch, destroying, err)
		}
	}
	c.settle()
}

// exitText says how a child ended.
func exitText(e sdk.SandboxExit) string {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.OutOfMemory:
		return "out of memory"
	case e.Signal != 0:
		return "killed by signal " + strconv.Itoa(e.Signal)
	}
	return "exited with code " + strconv.Itoa(e.Code)
}
