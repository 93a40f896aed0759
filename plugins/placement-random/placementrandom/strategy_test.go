package placementrandom

import (
	"strconv"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
	"github.com/stretchr/testify/require"
)

func members(n int) []sdk.Member {
	out := make([]sdk.Member, n)
	for i := range out {
		out[i] = sdk.Member{Name: "m" + strconv.Itoa(i), State: sdk.MemberAlive}
	}
	return out
}

func strategy(draws int) *Strategy {
	s := New("1").(*Strategy)
	s.config.Draws = draws
	return s
}

// With two draws the fullest member is hardly above the average; with one it is
// as chance has it.
func TestDrawsEvenOut(t *testing.T) {
	for draws, most := range map[int]float64{1: 60, 2: 5, 3: 3, 16: 1} {
		c := plugintest.Cluster{Strategy: strategy(draws), Members: members(3)}
		for i := range 1000 {
			require.NoError(t, c.Place(t.Context(), sdk.ChildSpec{ID: "box-" + strconv.Itoa(i)}))
		}
		for _, n := range c.Count() {
			require.InDelta(t, 1000.0/3, n, most, "%d draws: %v", draws, c.Count())
		}
	}
}

// Each placement draws anew: where a child goes after a loss does not follow from
// where the others of that member go, nor from its id alone.
func TestEachPlacementDrawsAnew(t *testing.T) {
	s := strategy(1)
	first := map[string]string{}
	for i := range 300 {
		id := "box-" + strconv.Itoa(i)
		d, err := s.Choose(t.Context(), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: id}, Members: members(4)})
		require.NoError(t, err)
		first[id] = d.Member
	}
	same, after := 0, map[string]int{}
	for id, was := range first {
		ms := members(4)
		for i := range ms {
			ms[i].Draining = ms[i].Name == was
		}
		d, err := s.Choose(t.Context(), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: id}, Members: ms, Previous: was})
		require.NoError(t, err)
		require.NotEqual(t, was, d.Member)
		after[d.Member]++
		// Back with four members, from where it is now draining.
		for i := range ms {
			ms[i].Draining = ms[i].Name == d.Member
		}
		d, err = s.Choose(t.Context(), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: id}, Members: ms, Previous: d.Member})
		require.NoError(t, err)
		if d.Member == was {
			same++
		}
	}
	require.InDelta(t, 100, same, 40) // one of three
	for _, n := range after {
		require.InDelta(t, 75, n, 35, after)
	}
}

func TestARunningChildStays(t *testing.T) {
	ms := members(3)
	ms[1].Resources.Children = 100
	d, err := strategy(2).Choose(t.Context(), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box"}, Members: ms, Previous: "m1"})
	require.NoError(t, err)
	require.Equal(t, "m1", d.Member)
	for _, s := range d.Scores[1:] {
		require.Equal(t, "the child stays on m1", s.Excluded)
	}
}

func TestWhoWasNotDrawnSaysSo(t *testing.T) {
	ms := members(5)
	ms[0].State = sdk.MemberDead
	d, err := strategy(2).Choose(t.Context(), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box"}, Members: ms})
	require.NoError(t, err)
	why := map[string]int{}
	for _, s := range d.Scores {
		why[s.Excluded]++
	}
	require.Equal(t, map[string]int{"": 2, "it was not drawn": 2, "it is dead": 1}, why)
}
