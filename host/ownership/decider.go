package ownership

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/debughost/debughost/host/target"
)

// How often a value is brought up to date where it is not urgent, how long the
// end of a connection that is let go of is waited for, and how long until what
// the registry refused is tried again.
const (
	refresh  = 300 * time.Millisecond
	letGo    = 3 * time.Second
	tryLater = time.Second
)

// decider is the state of the deciding goroutine, which alone uses it.
type decider struct {
	*Ownership
	nodes map[string]*node
	keys  map[string]string // the node of each target's key
	due   map[string]time.Time
	// recheck are the nodes whose targets are to ask again.
	recheck map[string]bool
}

func newDecider(o *Ownership) *decider {
	return &decider{Ownership: o, nodes: map[string]*node{}, keys: map[string]string{}, due: map[string]time.Time{}, recheck: map[string]bool{}}
}

func (d *decider) node(name string) *node {
	n := d.nodes[name]
	if n == nil {
		n = &node{name: name, keys: map[string]target.Sighting{}, claiming: map[string]bool{}}
		d.nodes[name] = n
	}
	return n
}

// asked returns the nodes whose targets are to ask again, once.
func (d *decider) asked() []string {
	nodes := slices.Collect(maps.Keys(d.recheck))
	clear(d.recheck)
	return nodes
}

// turn takes in what has come and decides about all nodes that it concerns. It
// returns after how long to call it anew at the latest.
func (d *decider) turn(now time.Time) (next time.Duration) {
	d.mu.Lock()
	in := d.inbox
	d.inbox = inbox{}
	d.mu.Unlock()
	look := d.take(in, now)
	for name, at := range d.due {
		if !now.Before(at) {
			look[name] = true
		}
	}
	for name := range look {
		delete(d.due, name)
		n := d.nodes[name]
		if n == nil {
			continue
		}
		was := n.mine
		at := d.settle(n, now, in.lost[name])
		if !at.IsZero() {
			d.due[name] = at
		}
		if was && !n.mine {
			d.pids.released(name)
		}
		if !n.mine && n.busy() {
			d.recheck[name] = true
		}
		if n.idle() {
			delete(d.nodes, name)
			d.say(name, false, "")
		}
	}
	next = time.Minute
	for _, at := range d.due {
		next = min(next, max(at.Sub(now), time.Millisecond))
	}
	return next
}

// take sorts the inbox in and returns the nodes to look at.
func (d *decider) take(in inbox, now time.Time) (look map[string]bool) {
	look = map[string]bool{}
	for key, s := range in.sightings {
		name := s.Info.Node
		if old, ok := d.keys[key]; ok && (old != name || s.Ended) {
			look[old] = true
			delete(d.keys, key)
			delete(d.node(old).keys, key)
			delete(d.node(old).claiming, key)
		}
		if s.Ended {
			continue
		}
		n := d.node(name)
		if len(n.keys) == 0 {
			n.since = now
		}
		d.keys[key], n.keys[key] = name, s
		delete(n.claiming, key)
		look[name] = true
	}
	if in.all || in.retry {
		for name, n := range d.nodes {
			look[name] = true
			if in.retry {
				n.trial = trial{}
			}
		}
	}
	for name := range in.dirty {
		look[name] = true
	}
	for name := range in.lost {
		look[name] = true
	}
	return look
}

// settle brings one node in line with what is known, and returns when to look
// again though nothing changes; zero: not at all.
func (d *decider) settle(n *node, now time.Time, lost string) time.Time {
	v, hopeless := d.view(n, now)
	s, seen := n.best()
	next := n.trial.next(now, n.news(), outcomeOf(s, seen), n.mine && v.Holder == v.Self, hopeless)
	next = soonest(next, d.publishSeen(n, s, seen, now))
	v, _ = d.view(n, now) // with our own word
	if !n.letting.IsZero() {
		if n.busy() && now.Sub(n.letting) < letGo {
			return soonest(next, n.letting.Add(letGo))
		}
		n.letting = time.Time{}
		d.unregister(targetPrefix + n.name)
		n.told = nil
		v, _ = d.view(n, now)
	}
	act, why := decide(v)
	switch act {
	case claim:
		if err := d.claimNode(n, s, now); err != nil {
			return soonest(next, now.Add(tryLater))
		}
	case keep:
		n.mine = true
		d.say(n.name, true, "")
	case release:
		n.mine, n.letting, n.cause = false, now, why
		d.say(n.name, false, why)
		return soonest(next, now) // the connection first, the key after it
	case wait:
		n.mine, n.told = false, nil
		if lost != "" {
			n.cause = lost
		}
		if !n.busy() {
			n.cause = ""
		}
		d.say(n.name, false, cmp.Or(n.cause, d.held(n.name), why))
		if v.Early {
			next = soonest(next, n.since.Add(settle))
		}
		if v.Joining {
			next = soonest(next, now.Add(joinLook))
		}
		return next
	}
	return soonest(next, d.publishTarget(n, s, now))
}

// held says, for a person, who holds a node.
func (d *decider) held(name string) string {
	e, ok := d.cfg.Registry.Lookup(targetPrefix + name)
	if !ok || e.Origin == d.cfg.Member {
		return ""
	}
	if info, err := decodeInfo(e); err == nil && info.State != target.Attached {
		return fmt.Sprintf("member %s has it: %s", e.Origin, cmp.Or(info.Reason, string(info.State)))
	}
	return fmt.Sprintf("member %s is attached to it", e.Origin)
}

// say tells what Owned answers.
func (d *decider) say(name string, mine bool, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mine[name] == mine && d.why[name] == why {
		return
	}
	d.recheck[name] = true
	delete(d.mine, name)
	delete(d.why, name)
	if mine {
		d.mine[name] = true
	} else if why != "" {
		d.why[name] = why
	}
}

// view is what decide needs. hopeless: another member holds the node and says
// that it cannot attach.
func (d *decider) view(n *node, now time.Time) (v view, hopeless bool) {
	s, seen := n.best()
	v = view{Node: n.name, Self: d.cfg.Member, Joining: d.cfg.Joining(), Listed: s.Key != "", Attached: n.busy(), Local: s.Local}
	if e, ok := d.cfg.Registry.Lookup(targetPrefix + n.name); ok {
		if v.Holder = e.Origin; v.Holder != v.Self {
			n.last.member = v.Holder
		}
	}
	for _, e := range d.cfg.Registry.All(seenPrefix + n.name) {
		if e.Origin == v.Self {
			continue
		}
		said, err := decodeSeen(e)
		if err != nil {
			continue
		}
		v.Seen = append(v.Seen, sight{Member: e.Origin, Local: said.Local, Box: said.Box, Failed: said.Failed, Failures: said.Failures})
		if e.Origin == v.Holder {
			hopeless = said.Failed
		}
		if e.Origin == n.last.member {
			n.last.local = said.Local
		}
	}
	if seen {
		v.Seen = append(v.Seen, sight{Member: v.Self, Local: s.Local, Box: s.Box, Failed: n.trial.failed, Failures: n.trial.failures})
		v.Early = now.Sub(n.since) < settle && len(v.Seen) < d.inSight()
	}
	return v, hopeless
}

// joinLook is how soon a member that is joining looks again.
const joinLook = 20 * time.Millisecond

// inSight counts the members that may be given work.
func (d *decider) inSight() int {
	count := 0
	for _, m := range d.cfg.Members() {
		if m.State.Usable() {
			count++
		}
	}
	return count
}

// ask answers Claim: a connection to the node is up, and nothing of it shown yet.
func (d *decider) ask(a *ask, now time.Time) error {
	n := d.node(a.node)
	if e, ok := d.cfg.Registry.Lookup(targetPrefix + a.node); ok && e.Origin != d.cfg.Member {
		return fmt.Errorf("member %s has it", e.Origin)
	}
	if !n.letting.IsZero() {
		return errors.New("this member is letting go of it")
	}
	if !n.mine {
		s, _ := n.best()
		if s.Key == "" { // it is called otherwise than discovery thought
			s = d.nodes[d.keys[a.key]].sighting(a.key)
		}
		if err := d.claimNode(n, s, now); err != nil {
			return err
		}
	}
	n.claiming[a.key] = true
	return nil
}

// leave gives up all that this member has published.
func (d *decider) leave() {
	for name, n := range d.nodes {
		if n.said != nil {
			d.unregister(seenPrefix + name)
		}
		if n.told != nil || n.mine {
			d.unregister(targetPrefix + name)
		}
		d.say(name, false, "debughost is stopping")
	}
}
