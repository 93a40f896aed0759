package ownership

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecide(t *testing.T) {
	see := func(member string, changes ...func(*sight)) sight {
		s := sight{Member: member}
		for _, f := range changes {
			f(&s)
		}
		return s
	}
	local := func(s *sight) { s.Local = true }
	failed := func(s *sight) { s.Failed, s.Failures = true, 1 }
	once := func(s *sight) { s.Failures = 1 }
	box := func(s *sight) { s.Box = true }
	// best and other are two members in the order that the node has for equals.
	best, other := "a", "b"
	if compare("n@h", sight{Member: "a"}, sight{Member: "b"}) > 0 {
		best, other = "b", "a"
	}
	for _, c := range []struct {
		name string
		view view
		want action
		why  string
	}{
		{"alone", view{Self: best, Seen: []sight{see(best)}}, claim, ""},
		{"not seen", view{Self: best}, wait, "does not find it here"},
		{"seen by another", view{Self: best, Seen: []sight{see(other)}}, wait, "does not find it here"},
		{"the best of equals", view{Self: best, Seen: []sight{see(best), see(other)}}, claim, ""},
		{"the second of equals", view{Self: other, Seen: []sight{see(best), see(other)}}, wait, "member " + best + " is to"},
		{"local comes first", view{Self: other, Seen: []sight{see(best), see(other, local)}}, claim, ""},
		{"failed comes last", view{Self: other, Seen: []sight{see(best, local, failed), see(other)}}, claim, ""},
		{"all failed", view{Self: best, Seen: []sight{see(best, failed), see(other, failed)}}, claim, ""},
		{"all failed, one local", view{Self: best, Seen: []sight{see(best, failed), see(other, failed, local)}}, wait, ""},
		{"early", view{Self: best, Seen: []sight{see(best)}, Early: true}, wait, "on its machine"},
		{"early, but local", view{Self: best, Seen: []sight{see(best, local)}, Early: true}, claim, ""},
		{"joining", view{Self: best, Seen: []sight{see(best, local)}, Joining: true}, wait, "joining"},
		{"joining, held", view{Self: best, Holder: best, Seen: []sight{see(best, local)}, Joining: true}, keep, ""},
		{"attached, unseen, without a holder", view{Self: other, Seen: []sight{see(best)}, Attached: true}, claim, ""},

		{"another one holds it", view{Self: best, Holder: other, Seen: []sight{see(best, local), see(other, failed)}}, wait, "member " + other + " has it"},
		{"another one holds what we are attached to", view{Self: best, Holder: other, Seen: []sight{see(best)}, Attached: true}, wait, "has it"},

		{"kept", view{Self: best, Holder: best, Seen: []sight{see(best)}}, keep, ""},
		{"kept from an equal", view{Self: other, Holder: other, Seen: []sight{see(best), see(other)}}, keep, ""},
		{"kept from an equal, local", view{Self: other, Holder: other, Seen: []sight{see(best, local), see(other, local)}}, keep, ""},
		{"given to a local one", view{Self: best, Holder: best, Seen: []sight{see(best), see(other, local)}, Attached: true}, release, "is on its machine"},
		{"kept from a local one that failed once", view{Self: best, Holder: best, Seen: []sight{see(best), see(other, local, once)}, Attached: true}, keep, ""},
		{"kept from a failed one", view{Self: best, Holder: best, Seen: []sight{see(best), see(other, local, failed)}}, keep, ""},
		{"failed, given to one who may", view{Self: best, Holder: best, Seen: []sight{see(best, local, failed), see(other, once)}}, release, "cannot attach"},
		{"failed, alone", view{Self: best, Holder: best, Seen: []sight{see(best, failed)}}, keep, ""},
		{"all failed, kept", view{Self: other, Holder: other, Seen: []sight{see(best, failed), see(other, failed)}}, keep, ""},
		{"all failed, given to a local one", view{Self: best, Holder: best, Seen: []sight{see(best, failed), see(other, failed, local)}}, release, "nobody can attach"},
		{"failed, then attached after all", view{Self: best, Holder: best, Seen: []sight{see(best, failed), see(other)}, Attached: true}, keep, ""},

		{"a sandbox, of this member", view{Self: other, Seen: []sight{see(best, local), see(other, box, failed)}, Early: true}, claim, ""},
		{"a sandbox, of another", view{Self: best, Seen: []sight{see(best, local), see(other, box, failed)}}, wait, "member " + other + " is to"},
		{"a sandbox, kept by its member", view{Self: best, Holder: best, Seen: []sight{see(best, box, failed), see(other, local)}}, keep, ""},
		{"a sandbox, given to its member", view{Self: best, Holder: best, Seen: []sight{see(best, local), see(other, box, failed)}, Attached: true}, release, "sandbox of member " + other},
		{"a sandbox, found after it was dropped here", view{Self: best, Holder: best, Seen: []sight{see(other, box)}, Attached: true, Local: true}, release, "sandbox of"},
		{"two sandboxes of one name", view{Self: other, Holder: other, Seen: []sight{see(best, box), see(other, box)}}, keep, ""},
		{"two sandboxes of one name, the second", view{Self: best, Holder: other, Seen: []sight{see(best, box), see(other, box)}}, wait, "has it"},

		{"dropped, attached", view{Self: best, Holder: best, Seen: []sight{see(other)}, Attached: true}, keep, ""},
		{"dropped, attached, local", view{Self: best, Holder: best, Seen: []sight{see(other, local)}, Attached: true, Local: true}, keep, ""},
		{"dropped, attached, a local one sees it", view{Self: best, Holder: best, Seen: []sight{see(other, local)}, Attached: true}, release, ""},
		{"dropped, attached, nobody sees it", view{Self: best, Holder: best, Attached: true}, keep, ""},
		{"dropped, another one sees it", view{Self: best, Holder: best, Seen: []sight{see(other, failed)}, Listed: true}, release, "does not find it"},
		{"dropped, still shown", view{Self: best, Holder: best, Listed: true}, keep, ""},
		{"dropped for good", view{Self: best, Holder: best}, release, "does not find it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.view.Node = "n@h"
			act, why := decide(c.view)
			require.Equal(t, c.want, act, why)
			require.Contains(t, why, c.why)
		})
	}
}

// TestWeightSpreads has nodes go to all members alike, and few of them move when
// a member is added.
func TestWeightSpreads(t *testing.T) {
	members := []string{"debughost-1", "debughost-2", "debughost-3", "debughost-4", "debughost-5"}
	pick := func(node string, members []string) string {
		best := members[0]
		for _, m := range members {
			if compare(node, sight{Member: m}, sight{Member: best}) < 0 {
				best = m
			}
		}
		return best
	}
	const nodes = 5000
	count := map[string]int{}
	moved := 0
	for i := range nodes {
		node := fmt.Sprintf("shop%d@db%d", i%10, i/10)
		count[pick(node, members)]++
		if was := pick(node, members[:4]); was != pick(node, members) {
			moved++
		}
	}
	for _, m := range members {
		require.InDelta(t, nodes/5, count[m], nodes/25, m)
	}
	require.InDelta(t, nodes/5, moved, nodes/25)
}
