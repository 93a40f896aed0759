package sdk

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// MaxParts is how many Parts a Score may have.
const MaxParts = 32

// Excludes says why the member cannot take the child, whatever the strategy: it
// is not alive or is draining, or the child's constraints are against it. It is
// empty when the member can. A choice that the request excludes is refused.
func (r PlacementRequest) Excludes(m Member) string {
	switch m.State {
	case MemberAlive:
	case MemberLeft:
		return "it has left"
	default:
		return "it is " + string(m.State)
	}
	var reasons []string
	if m.Draining {
		reasons = append(reasons, "it is draining")
	}
	for label, want := range r.Child.Constraints {
		switch have, ok := m.Labels[label]; {
		case !ok:
			reasons = append(reasons, "it has no label "+label)
		case have != want:
			reasons = append(reasons, fmt.Sprintf("its label %s is %q, not %q", label, have, want))
		}
	}
	if near := r.Child.Near; near != "" && !slices.Contains(m.Targets, near) {
		reasons = append(reasons, near+" is not on its machine")
	}
	for _, id := range m.Children {
		if id != r.Child.ID && slices.Contains(r.Child.Apart, id) {
			reasons = append(reasons, "the child "+id+" is there")
		}
	}
	slices.Sort(reasons) // maps have no order
	return strings.Join(reasons, ", ")
}

// Others is how many children the member has, and will have, beside the
// request's own. A strategy that counts the child itself sees a better place
// wherever the child is not, and never comes to rest.
func (r PlacementRequest) Others(m Member) int {
	n := m.Resources.Children + m.Resources.Reserved.Children
	if m.Name == r.Previous {
		n--
	}
	return max(n, 0)
}

// Best chooses the member with the highest total among those that are not
// excluded. Of equal ones it is the one where the child is already, else that
// of the highest Rendezvous, so that equal choices spread. It sorts the scores,
// best first, and fails with ErrNoCandidate when all are excluded.
func (r PlacementRequest) Best(scores []Score) (Decision, error) {
	slices.SortFunc(scores, func(a, b Score) int {
		c := cmp.Or(first(a.Excluded == "", b.Excluded == ""), cmp.Compare(b.Total, a.Total), first(a.Member == r.Previous, b.Member == r.Previous))
		if c == 0 && a.Excluded == "" {
			c = cmp.Compare(Rendezvous(r.Child.ID, b.Member), Rendezvous(r.Child.ID, a.Member))
		}
		return cmp.Or(c, cmp.Compare(a.Member, b.Member))
	})
	if len(scores) == 0 {
		return Decision{}, fmt.Errorf("%w: there are no members", ErrNoCandidate)
	}
	if scores[0].Excluded != "" {
		return Decision{Scores: scores}, fmt.Errorf("%w: %s", ErrNoCandidate, why(scores))
	}
	return Decision{Member: scores[0].Member, Scores: scores}, nil
}

// first sorts what is true before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// why names the reasons of a few members and counts the others.
func why(scores []Score) string {
	const most = 5
	var reasons []string
	for _, s := range scores[:min(len(scores), most)] {
		reasons = append(reasons, s.Member+": "+s.Excluded)
	}
	if left := len(scores) - most; left > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", left))
	}
	return strings.Join(reasons, "; ")
}

// Rendezvous is the weight of a member for a child, or for whatever else members
// share out, from 0 to below 1, the same everywhere and for good. Among any members
// a child belongs to the one of the highest weight: that spreads children evenly, and
// when a member comes or goes no child moves between the others (highest random
// weight hashing, Thaler and Ravishankar, 1998).
func Rendezvous(child, member string) float64 {
	return float64(mix(hash(child)^mix(hash(member)))>>11) / (1 << 53)
}

// hash is FNV-1a, written out since hash/fnv allocates. Its upper bits hardly
// depend on the last bytes; mix mends that.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h ^= uint64(s[i])
		h *= 1099511628211
	}
	return mix(h)
}

// mix is how murmur3 ends: each bit of the result depends on all of x.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
