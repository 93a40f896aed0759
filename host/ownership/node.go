package ownership

import (
	"strings"
	"time"

	"github.com/debughost/debughost/host/target"
)

// node is what this member knows and has said of one node.
type node struct {
	name  string
	keys  map[string]target.Sighting // this member's targets that are this node
	since time.Time                  // when it was first seen here
	trial trial
	said  []byte // value of our seen key; nil without one
	told  []byte // value of our target key; nil without one

	toldAt    time.Time
	toldState target.State

	mine     bool
	claiming map[string]bool // keys of targets that were just allowed to attach
	letting  time.Time       // since when it is let go of; zero: it is not
	cause    string          // why it was let go of, while the connection is up
	failure  string          // what the attempts failed with, while trial.failed
	last     holder          // the last other member that had it, since we were attached to it
}

type holder struct {
	member string
	local  bool
}

// best is the sighting that speaks for the node: that which is attached, else
// one that a strategy names. seen tells whether a strategy does.
func (n *node) best() (s target.Sighting, seen bool) {
	for _, o := range n.keys {
		if o.Hidden {
			continue
		}
		seen = seen || o.Named
		if s.Key == "" || rank(o) > rank(s) || rank(o) == rank(s) && o.Key < s.Key {
			s = o
		}
	}
	return s, seen
}

func rank(s target.Sighting) int {
	switch {
	case s.Info.Creation != 0:
		return 2
	case s.Named:
		return 1
	}
	return 0
}

// news rises when discovery has news of any of the node's targets.
func (n *node) news() (sum uint64) {
	for _, s := range n.keys {
		sum += s.News
	}
	return sum
}

// busy tells whether a connection to the node is up, or is being shown soon.
func (n *node) busy() bool {
	if len(n.claiming) > 0 {
		return true
	}
	for _, s := range n.keys {
		if s.Info.Creation != 0 {
			return true
		}
	}
	return false
}

// idle tells whether nothing is left to remember.
func (n *node) idle() bool {
	return len(n.keys) == 0 && n.said == nil && n.told == nil && n.letting.IsZero() && !n.mine && len(n.claiming) == 0
}

// sighting is that of a key; of none, where it is unknown.
func (n *node) sighting(key string) target.Sighting {
	if n == nil {
		return target.Sighting{}
	}
	return n.keys[key]
}

func outcomeOf(s target.Sighting, seen bool) outcome {
	switch s.Info.State {
	case target.Attached:
		return attached
	case target.Unreachable, target.Refused, target.Gone:
		if seen && s.Info.Creation == 0 {
			return failing
		}
	}
	return unknown
}

// nodeOf is the node that a key of this package is about.
func nodeOf(key string) (string, bool) {
	if node, ok := strings.CutPrefix(key, seenPrefix); ok {
		return node, true
	}
	return strings.CutPrefix(key, targetPrefix)
}

// soonest is the earlier of two times, of which zero is none.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
