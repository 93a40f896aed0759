package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A reload puts another bundle in the place of the one that a child runs. The child's
// strategy does that first, and then the spec says so, without a restart: the member
// that has the run tells what it runs now, and the arbiter makes an intent of that,
// which names the one that it follows. By an intent that follows the run's own, and has
// the bundle that the run has, the run goes on. Any other one, such as that of a stop,
// has been made meanwhile and counts, and so the old spec does.
//
//	reload, reloaded, keepUp  the member that has the run
//	adopt                     the arbiter
type reload struct {
	Over   version `json:"v"` // the intent that the run was started by
	Bundle string  `json:"b,omitempty"`
	Note   string  `json:"n,omitempty"`
	At     int64   `json:"t,omitempty"` // Unix nanoseconds
}

// reload begins one. It is for the member that runs the child.
func (c *core) reload(ch *child, q request) error {
	r, i, a := ch.run, &ch.rec.Intent, &ch.rec.Assignment
	bad := func(format string, args ...any) error {
		return &StateError{Verb: "reload", ID: q.id, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case a.Member != c.self:
		return &StateError{Verb: "reload", ID: q.id, Problem: ErrNoRun.Error(), Elsewhere: true}
	case i.Wanted != wantRunning || r == nil || r.Phase != up || !ch.right():
		return bad("it is %s", c.view(ch).State)
	case r.hitch().reloading != 0:
		return bad("another reload of it is under way")
	case r.Reload != nil:
		return bad("its last reload is not in its spec yet")
	}
	next := reload{Over: i.Version, Bundle: q.bundle, Note: q.note, At: c.now.wall.UnixNano()}
	spec := i.Spec.spec(q.id).reloaded(next)
	if err := spec.check(); err != nil {
		return fmt.Errorf("reload %w", err)
	}
	r.Unsure = true
	c.keep(ch)
	r.hitched().reloading = c.do(action{kind: doReload, id: q.id, spec: &spec, run: r.copy(), reload: next, reply: q.reply})
	return nil
}

// reloaded says how a reload went. Its error is why the child does not run what it
// was to.
func (c *core) reloaded(now instant, id string, op uint64, next reload, err error) error {
	c.at(now)
	ch := c.children[id]
	gone := func() error {
		if err == nil {
			err = &StateError{Verb: "reload", ID: id, Problem: "it ended, or was told to, meanwhile"}
		}
		return err
	}
	if ch == nil || ch.run == nil || ch.run.hitch().reloading != op {
		return gone()
	}
	r := ch.run
	r.hitched().reloading = 0
	c.mark(ch)
	if r.Phase != up {
		c.settle()
		return gone()
	}
	r.Unsure = torn(err)
	switch {
	case err == nil:
		r.Reload = &next
	case r.Unsure:
		c.note(ch, Entry{Member: c.self, What: "not_reloaded", Reason: "it is started again, since what it runs is not certain: " + err.Error()})
	default:
		c.note(ch, Entry{Member: c.self, What: "not_reloaded", Reason: err.Error()})
	}
	c.keep(ch)
	c.settle()
	return err
}

// giveUp has a reload end that is of no use any more.
func (c *core) giveUp(ch *child) {
	if ch.run.hitch().reloading != 0 {
		c.do(action{kind: doGiveUp, id: ch.rec.ID})
	}
}

// torn tells whether an error leaves open what a sandbox runs: that of a strategy
// that failed, and not its reload.
func torn(err error) bool {
	return !errors.Is(err, errNotAsked) && uncertain(err)
}

// keepUp has a run go on by an intent that says what it has been reloaded with.
func (c *core) keepUp(ch *child) {
	r, i := ch.run, &ch.rec.Intent
	if r == nil || r.Reload == nil || i.Spec == nil || i.Over == nil || *i.Over != r.Spec || i.Spec.rest.Bundle != r.Reload.Bundle {
		return
	}
	if r.Phase != up && r.Phase != recovering {
		return
	}
	note := r.Reload.Note
	r.Spec, r.Reload = i.Version, nil
	c.note(ch, Entry{Member: c.self, What: "reloaded", Reason: note})
	c.keep(ch)
}

// adopt makes what a child has been reloaded with its spec.
func (c *core) adopt(ch *child) {
	i := ch.rec.Intent
	f := c.factOf(ch, ch.rec.Assignment.Member)
	if f == nil || f.Reload == nil || f.Reload.Over != i.Version || i.Wanted != wantRunning {
		return
	}
	spec := i.Spec.spec(ch.rec.ID).reloaded(*f.Reload)
	if spec.check() != nil { // the other member has not looked
		return
	}
	over := i.Version
	c.learn(ch, record{ID: ch.rec.ID, Intent: intent{Version: c.next(over), Wanted: i.Wanted, Spec: bodyOf(&spec), Over: &over}})
}

// reloaded is the spec with another bundle.
func (s *Spec) reloaded(r reload) Spec {
	next := *s
	next.Bundle = r.Bundle
	next.Versions = append(slices.Clone(s.Versions), Version{Bundle: r.Bundle, At: time.Unix(0, r.At).UTC(), Note: r.Note})
	if n := len(next.Versions) - maxVersions; n > 0 {
		next.Versions = next.Versions[n:]
	}
	return next
}

// changing tells whether a run has, or may have, something else than its spec says:
// its state is not to be had then.
func (r *run) changing() bool { return r.Unsure || r.Reload != nil }
