package placementquorum

import (
	"strings"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

// members are a letter each: alive, suspect, dead, left, or draining and alive.
func members(states string) []sdk.Member {
	var out []sdk.Member
	for i, c := range states {
		m := sdk.Member{Name: string(rune('a' + i)), Draining: c == 'r'}
		m.State = map[rune]sdk.MemberState{'a': sdk.MemberAlive, 'r': sdk.MemberAlive, 's': sdk.MemberSuspect, 'd': sdk.MemberDead, 'l': sdk.MemberLeft}[c]
		out = append(out, m)
	}
	return out
}

func TestQuorum(t *testing.T) {
	for _, c := range []struct {
		members, config string
		err             error
		stop            bool
	}{
		{"a", `{}`, nil, false},
		{"aa", `{}`, nil, false},
		{"aad", `{}`, nil, false},
		{"aas", `{}`, nil, false},
		{"ad", `{}`, sdk.ErrNoQuorum, false}, // one half is no majority
		{"aadd", `{}`, sdk.ErrNoQuorum, false},
		{"add", `{}`, sdk.ErrNoQuorum, false},
		{"aaadd", `{}`, nil, false},
		{"", `{}`, sdk.ErrNoQuorum, false},
		// Those that left do not count.
		{"al", `{}`, nil, false},
		{"adl", `{}`, sdk.ErrNoQuorum, false},
		{"aadlll", `{}`, nil, false},
		// A majority that drains is a majority, but takes nothing.
		{"rrd", `{}`, sdk.ErrNoCandidate, false},
		{"rad", `{}`, nil, false},
		// Stopped only for the dead: suspects may come back in a moment.
		{"add", `{"minority": "stop"}`, sdk.ErrNoQuorum, true},
		{"ads", `{"minority": "stop"}`, sdk.ErrNoQuorum, false},
		{"ass", `{"minority": "stop"}`, sdk.ErrNoQuorum, false},
		{"adds", `{"minority": "stop"}`, sdk.ErrNoQuorum, true},
		{"rr", `{"minority": "stop"}`, sdk.ErrNoCandidate, false},
		// Members that have not been heard of yet.
		{"a", `{"members": 3}`, sdk.ErrNoQuorum, false},
		{"aa", `{"members": 3}`, nil, false},
		{"aal", `{"members": 3}`, nil, false},
		{"a", `{"members": 3, "minority": "stop"}`, sdk.ErrNoQuorum, true},
		{"aaddd", `{"members": 3}`, sdk.ErrNoQuorum, false},
	} {
		s := New("1").(*Strategy)
		require.NoError(t, sdk.DecodeConfig([]byte(c.config), &s.config))
		d, err := s.Choose(t.Context(), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box"}, Members: members(c.members)})
		require.ErrorIs(t, err, c.err, "%s %s", c.members, c.config)
		require.Equal(t, c.stop, d.Stop, "%s %s", c.members, c.config)
		require.Equal(t, c.err == nil, d.Member != "")
		require.Len(t, d.Scores, len(c.members))
		for _, score := range d.Scores {
			require.Equal(t, c.err != nil || !strings.ContainsRune("a", rune(c.members[score.Member[0]-'a'])), score.Excluded != "", "%s %s: %+v", c.members, c.config, score)
		}
	}
}

func TestReason(t *testing.T) {
	d, err := New("1").(*Strategy).Choose(t.Context(), sdk.PlacementRequest{Members: members("adsl")})
	require.EqualError(t, err, "no quorum: of 3 members 2 must be alive, and only 1 are")
	why := map[string]string{}
	for _, s := range d.Scores {
		why[s.Member] = s.Excluded
	}
	require.Equal(t, map[string]string{"a": "there is no quorum", "b": "it is dead", "c": "it is suspect", "d": "it has left"}, why)
}
