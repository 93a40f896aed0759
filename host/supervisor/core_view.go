package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// view is a child in a reader's words.
func (c *core) view(ch *child) Child {
	a := &ch.rec.Assignment
	v := Child{Member: a.Member, Epoch: a.Version.Epoch}
	if ch.rec.Intent.Spec != nil {
		v.Spec = *ch.rec.spec()
	} else {
		v.Spec.ID = ch.rec.ID
	}
	f := ch.fact(a.Member)
	if a.Member == c.self {
		f = ch.told
	}
	if f != nil {
		v.Restarts, v.OSPid, v.Node, v.Started = f.Restarts, f.OSPid, f.Node.String(), wall(f.Started)
	}
	if from := a.take(); v.Node == "" && from != "" && from != a.Member { // which goes on until the new one has begun
		if g := c.factOf(ch, from); g != nil && g.Running {
			v.Node = g.Node.String()
		}
	}
	if o, ended := ch.rec.ended(); ended {
		v.Restarts = o.Restarts
	}
	var since int64
	v.State, v.Reason, since = c.state(ch, f)
	v.Since = wall(since)
	return v
}

func wall(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// state puts together what is known of a child's state; f is what its member
// says.
func (c *core) state(ch *child, f *fact) (State, string, int64) {
	r := &ch.rec
	o, ended := r.ended()
	elsewhere := c.runsElsewhere(ch)
	switch {
	case r.Intent.Wanted != wantRunning:
		if f != nil && f.Running || elsewhere != "" {
			return Stopping, "", r.Intent.Version.At
		}
		return Stopped, "", r.Intent.Version.At
	case ended:
		return o.State, o.Reason, o.At
	case r.Assignment.Member == "" || !c.peers[r.Assignment.Member].up:
		return c.pending(ch)
	case f != nil && f.Seen.covers(r.Assignment.Version) && f.state() != "" && f.state() != Stopping && !(f.state() == Starting && elsewhere != ""):
		if f.state() == Running && r.Assignment.take() == r.Assignment.Member {
			return Running, r.Assignment.Why.String(), f.Since // why it is not where it was to be
		}
		return f.state(), f.Reason.String(), f.Since
	case elsewhere != "" && elsewhere == r.Assignment.take():
		return Moving, fmt.Sprintf("member %s takes its state over from member %s, where it runs", r.Assignment.Member, elsewhere), r.Assignment.Version.At
	case elsewhere != "":
		return Moving, fmt.Sprintf("member %s is to stop it first", elsewhere), r.Assignment.Version.At
	}
	return Starting, "", r.Assignment.Version.At
}

// pending tells for what a child waits that no member has.
func (c *core) pending(ch *child) (State, string, int64) {
	r := &ch.rec
	if ch.errand != nil && ch.reason != "" {
		return Pending, ch.reason, max(r.Assignment.Version.At, r.Intent.Version.At)
	}
	for _, o := range ch.others {
		if f := o.fact; f != nil && f.state() == Pending && f.Seen == r.Assignment.Version {
			return Pending, f.Reason.String(), f.Since
		}
	}
	if ch.told != nil && ch.told.state() == Pending {
		return Pending, ch.told.Reason.String(), ch.told.Since
	}
	why := ""
	if r.Assignment.Member != "" {
		why = fmt.Sprintf("member %s is lost", r.Assignment.Member)
	}
	return Pending, why, max(r.Assignment.Version.At, r.Intent.Version.At)
}

// runsElsewhere is a member that runs a child and is not, or not any more, to.
func (c *core) runsElsewhere(ch *child) string {
	m := ch.rec.Assignment.Member
	if m != c.self && ch.told != nil && ch.told.Running {
		return c.self
	}
	for _, o := range ch.others {
		if o.fact != nil && o.fact.Running && o.member.String() != m {
			return o.member.String()
		}
	}
	return ""
}

// Filter selects children. The zero value selects all.
type Filter struct {
	State     State
	Member    string
	Strategy  string
	Placement string
	Prefix    string // of the id
}

func (f *Filter) keeps(c *Child) bool {
	return (f.State == "" || f.State == c.State) && (f.Member == "" || f.Member == c.Member) &&
		(f.Strategy == "" || f.Strategy == c.Spec.Strategy) && (f.Placement == "" || f.Placement == c.Spec.Placement)
}

// list returns the children that a filter keeps, by id.
func (c *core) list(f Filter) []Child {
	var out []Child
	for id, ch := range c.children {
		if !strings.HasPrefix(id, f.Prefix) || !ch.there() {
			continue
		}
		if v := c.view(ch); f.keeps(&v) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Child) int { return cmp.Compare(a.Spec.ID, b.Spec.ID) })
	return out
}

// there tells whether a child exists, as operators see it.
func (ch *child) there() bool { return ch.rec.Intent.Version.Epoch > 0 && !ch.rec.removed() }

// count counts the children.
func (c *core) count() Count {
	n := Count{ByState: map[State]int{}, ByMember: map[string]int{}}
	for _, ch := range c.children {
		if !ch.there() {
			continue
		}
		v := c.view(ch)
		n.Total++
		n.ByState[v.State]++
		if v.Member != "" {
			n.ByMember[v.Member]++
		}
	}
	return n
}
