package ownership

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/debughost/debughost/sdk"
)

// sight is what one member says of a node that it sees.
type sight struct {
	Member   string
	Local    bool // the node is on the member's machine
	Box      bool // the node is of a sandbox of the member
	Failed   bool // the member cannot attach
	Failures int  // how often it could not, since it last did, or discovery had news of the node
}

// view is all that one member knows when it decides about a node.
type view struct {
	Node   string
	Self   string
	Seen   []sight // by the members in sight, this one included if it does
	Holder string  // whose claim counts; empty when there is none

	// Of this member alone:
	Attached bool // its connection is up
	Local    bool // the node is on its machine
	Listed   bool // it shows the node, though perhaps nothing names it any more
	Early    bool // others may see the node and not have said so yet
	Joining  bool // this member does not know yet what others own
}

// action is what a member does about a node.
type action string

const (
	wait    action = "wait"    // somebody else has it, or is to claim it
	claim   action = "claim"   // make it ours
	keep    action = "keep"    // it is ours and stays so
	release action = "release" // let another one have it
)

// decide is the whole of placement: a function of what is known, so that members
// that know the same decide for the same one.
//
// A node without a holder goes to the best of those who see it, by compare. A
// holder keeps it against all who are merely as good, so that it never moves for
// an order's sake; it gives it up only
//
//   - to one whose sandbox the node is of, when it is not of one of its own;
//   - to one who can, when it cannot attach itself;
//   - to one on the node's machine who never failed at it, when it is on another
//     machine, or who failed as everybody has, when it has too;
//   - when it neither sees the node nor is attached to it.
//
// A node that two members have found by one name need not be one node: 127.0.0.1 is
// another place on each machine. Of these a sandbox's is the one that is attached to,
// by the member that runs it, whether it can or not: nobody else has its cookie.
//
// Each of these moves is towards a better one, and a member that has failed is
// not tried again by a holder that is attached: so they come to an end, however
// the members' words reach each other.
func decide(v view) (act action, why string) {
	mine, others := v.split()
	switch {
	case v.Holder == v.Self:
		if mine == nil && !v.Attached {
			if len(others) == 0 && v.Listed {
				return keep, ""
			}
			return release, "discovery does not find it here any more"
		}
		if len(others) == 0 {
			return keep, ""
		}
		if mine == nil { // discovery errs, the connection is up
			mine = &sight{Member: v.Self, Local: v.Local}
		}
		return mine.gives(others[0], v.Attached)
	case v.Holder != "":
		return wait, fmt.Sprintf("member %s has it", v.Holder)
	case v.Joining:
		return wait, "this member is joining its cluster"
	case mine == nil && v.Attached:
		return claim, ""
	case mine == nil:
		return wait, "discovery does not find it here"
	case len(others) > 0 && compare(v.Node, others[0], *mine) < 0:
		return wait, fmt.Sprintf("member %s is to attach to it", others[0].Member)
	case v.Early && !mine.Local && !mine.Box:
		return wait, "a member on its machine may find it"
	}
	return claim, ""
}

// split returns our own sight, nil without one, and the others', best first.
func (v view) split() (mine *sight, others []sight) {
	for _, s := range v.Seen {
		if s.Member == v.Self {
			mine = &s
		} else {
			others = append(others, s)
		}
	}
	slices.SortFunc(others, func(a, b sight) int { return compare(v.Node, a, b) })
	return mine, others
}

// gives tells whether a holder gives the node up to the best of the others.
func (h sight) gives(o sight, attached bool) (action, string) {
	failed := h.Failed && !attached
	switch {
	case o.Box && !h.Box:
		return release, fmt.Sprintf("it is a sandbox of member %s", o.Member)
	case h.Box && !o.Box:
	case failed && !o.Failed:
		return release, fmt.Sprintf("this member cannot attach, member %s may", o.Member)
	case !o.Local || h.Local:
	case !o.Failed && o.Failures == 0:
		return release, fmt.Sprintf("member %s is on its machine", o.Member)
	case failed && o.Failed:
		return release, fmt.Sprintf("nobody can attach, and member %s is on its machine", o.Member)
	}
	return keep, ""
}

// compare orders those who see a node, the best first: of whose sandboxes it is; who
// can attach, on the node's machine, without a failure behind it; and among equals
// each node has an order of its own, the same for all members, so that nodes spread
// evenly.
func compare(node string, a, b sight) int {
	return cmp.Or(
		first(a.Box, b.Box),
		first(!a.Failed, !b.Failed),
		first(a.Local, b.Local),
		first(a.Failures == 0, b.Failures == 0),
		cmp.Compare(sdk.Rendezvous(node, b.Member), sdk.Rendezvous(node, a.Member)),
		cmp.Compare(a.Member, b.Member),
	)
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
