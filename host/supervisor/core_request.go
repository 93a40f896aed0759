package supervisor

import "fmt"

// request is what an operator wants of one child.
type request struct {
	kind   requestKind
	id     string
	spec   *Spec  // to start; complete and checked
	member string // to move to
	bundle string // to reload with
	note   string // likewise
	reply  func(next reload, report []byte, err error)
}

type requestKind string

const (
	askStart   requestKind = "start"
	askStop    requestKind = "stop"
	askRemove  requestKind = "remove"
	askRestart requestKind = "restart"
	askMove    requestKind = "move"
	askReload  requestKind = "reload" // of the member that runs it
)

// request does what an operator wants, as far as the books go: the rest follows
// from them.
func (c *core) request(now instant, r request) error {
	c.at(now)
	if !c.synced {
		return fmt.Errorf("%s child %s: %w", r.kind, r.id, ErrJoining)
	}
	ch := c.children[r.id]
	there := ch != nil && ch.rec.Intent.Version.Epoch > 0 && !ch.rec.removed()
	if r.kind == askStart {
		if there {
			return &ExistsError{ID: r.id, Member: ch.rec.Assignment.Member, State: c.view(ch).State}
		}
		c.want(c.get(r.id), wantRunning, bodyOf(r.spec))
		c.settle()
		return nil
	}
	if !there {
		return fmt.Errorf("%s child %.200q: %w", r.kind, r.id, ErrUnknown)
	}
	err := c.change(ch, r)
	c.settle()
	return err
}

// change does what is wanted of a child that is there.
func (c *core) change(ch *child, r request) error {
	a := &ch.rec.Assignment
	switch r.kind {
	case askStop:
		c.want(ch, wantStopped, ch.rec.Intent.Spec)
	case askRemove:
		c.want(ch, wantRemoved, nil)
	case askRestart:
		c.want(ch, wantRunning, ch.rec.Intent.Spec)
		member := a.Member
		if p := c.peers[member]; !p.usable || p.draining {
			member = ""
		}
		c.assign(ch, member, "restarted by request")
	case askMove:
		p, known := c.peers[r.member]
		bad := func(problem string) error { return &MemberError{ID: r.id, Member: r.member, Problem: problem} }
		switch {
		case !known:
			return bad("there is no such member")
		case !p.usable:
			return bad("it is not alive")
		case p.draining:
			return bad("it is being drained")
		case r.member == a.Member:
			return bad("the child is there already")
		}
		c.move(ch, r.member, "moved by request")
	case askReload:
		return c.reload(ch, r)
	}
	return nil
}

// want changes the operators' part of a record, if it changes.
func (c *core) want(ch *child, w word, spec *body) {
	old := ch.rec.Intent
	if old.Wanted == w {
		return
	}
	c.learn(ch, record{ID: ch.rec.ID, Intent: intent{Version: c.next(old.Version), Wanted: w, Spec: spec}})
	if old.Wanted == wantRemoved && ch.rec.Assignment.Version.Epoch > 0 {
		c.assign(ch, "", "") // what was before is over
	}
}
