package placement

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// uniform is Uniform as a strategy.
type uniform float64

func (u uniform) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	return Uniform(r, float64(u))
}

func members(n int) []sdk.Member {
	out := make([]sdk.Member, n)
	for i := range out {
		out[i] = sdk.Member{Name: "m" + strconv.Itoa(i), State: sdk.MemberAlive}
	}
	return out
}

// off is the largest difference from an equal share, as a part of it.
func off(count map[string]int, members int) float64 {
	total, worst := 0, 0.0
	for _, n := range count {
		total += n
	}
	share := float64(total) / float64(members)
	for _, n := range count {
		worst = max(worst, float64(n)/share-1, 1-float64(n)/share)
	}
	if len(count) < members {
		worst = 1
	}
	return worst
}

var ids = map[string]func(i int) string{
	"numbered": func(i int) string { return "box-" + strconv.Itoa(i) },
	"numbers":  strconv.Itoa,
	"padded":   func(i int) string { return fmt.Sprintf("%08d", i) },
	"suffixed": func(i int) string { return strconv.Itoa(i) + "-worker-of-the-shop" },
	"random":   func(i int) string { return strconv.FormatUint(rand.New(rand.NewPCG(7, uint64(i))).Uint64(), 36) },
}

// 1 000 equal specs over three members: none is off its share by more than 10 %,
// whatever they are called.
func TestEqualSpecsSpread(t *testing.T) {
	for name, id := range ids {
		for _, n := range []int{2, 3, 5} {
			for first := 0; first < 5000; first += 1000 {
				c := plugintest.Cluster{Strategy: uniform(Slack), Members: members(n)}
				for i := range 1000 {
					require.NoError(t, c.Place(t.Context(), sdk.ChildSpec{ID: id(first + i)}))
				}
				require.LessOrEqual(t, off(c.Count(), n), 0.1, "%s %d.. over %d: %v", name, first, n, c.Count())
			}
		}
	}
}

// Members decide at once, and each knows of the others' latest placements only
// later.
func TestSpreadWithStaleFigures(t *testing.T) {
	const arbiters, unknown = 3, 20
	load := make([]int, 3)         // of each member, by all
	var late []int                 // where the latest went
	own := make([][]int, arbiters) // of late, whose it was
	for i := range own {
		own[i] = make([]int, 3)
	}
	for i := range 1000 {
		arbiter := i % arbiters
		ms := members(3)
		for m := range ms {
			ms[m].Resources.Children = load[m]
		}
		for j, at := range late {
			if (i-len(late)+j)%arbiters != arbiter {
				ms[at].Resources.Children--
			}
		}
		d, err := Uniform(sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box-" + strconv.Itoa(i)}, Members: ms}, Slack)
		require.NoError(t, err)
		at := slices.IndexFunc(ms, func(m sdk.Member) bool { return m.Name == d.Member })
		load[at]++
		if late = append(late, at); len(late) > unknown {
			late = late[1:]
		}
	}
	for _, n := range load {
		require.InEpsilon(t, 1000.0/3, n, 0.1, load)
	}
}

// A few children go where hashing alone puts them.
func TestFewChildrenAreHashed(t *testing.T) {
	c := plugintest.Cluster{Strategy: uniform(Slack), Members: members(3)}
	moved := 0
	for i := range 6 {
		id := "box-" + strconv.Itoa(i)
		require.NoError(t, c.Place(t.Context(), sdk.ChildSpec{ID: id}))
		best := slices.MaxFunc(c.Members, func(a, b sdk.Member) int {
			if sdk.Rendezvous(id, a.Name) > sdk.Rendezvous(id, b.Name) {
				return 1
			}
			return -1
		})
		if c.At(id) != best.Name {
			moved++
		}
	}
	require.Zero(t, moved)
}

// cluster draws members with any loads.
func cluster(t *rapid.T) []sdk.Member {
	ms := members(rapid.IntRange(1, 8).Draw(t, "members"))
	for i := range ms {
		ms[i].Resources.Children = rapid.IntRange(0, 50).Draw(t, "children")
		ms[i].Resources.Reserved.Children = rapid.IntRange(0, 5).Draw(t, "reserved")
		ms[i].Draining = rapid.IntRange(0, 9).Draw(t, "draining") == 0
		ms[i].State = rapid.SampledFrom([]sdk.MemberState{sdk.MemberAlive, sdk.MemberAlive, sdk.MemberAlive, sdk.MemberSuspect, sdk.MemberDead, sdk.MemberLeft}).Draw(t, "state")
	}
	return ms
}

// settled is a request for a child that stays where it is.
func settled(t *rapid.T) sdk.PlacementRequest {
	r := sdk.PlacementRequest{Child: sdk.ChildSpec{ID: rapid.String().Draw(t, "id")}, Members: cluster(t)}
	r.Previous = rapid.SampledFrom(r.Members).Draw(t, "previous").Name
	for range len(r.Members) + 1 {
		d, err := Uniform(r, Slack)
		if err != nil {
			t.Skip("nobody can take it")
		}
		if d.Member == r.Previous {
			return r
		}
		for i := range r.Members {
			switch r.Members[i].Name {
			case d.Member:
				r.Members[i].Resources.Children++
			case r.Previous:
				r.Members[i].Resources.Children = max(r.Members[i].Resources.Children-1, 0)
			}
		}
		r.Previous = d.Member
	}
	t.Fatalf("%s does not come to rest", r.Child.ID)
	return r
}

// No move of a child that runs makes the spread worse.
func TestMovesEvenOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := sdk.PlacementRequest{Child: sdk.ChildSpec{ID: rapid.String().Draw(t, "id")}, Members: cluster(t)}
		from := rapid.SampledFrom(r.Members).Draw(t, "from")
		r.Previous = from.Name
		d, err := Uniform(r, Slack)
		if err != nil || r.Excludes(from) != "" {
			t.Skip("it cannot stay")
		}
		to := r.Members[slices.IndexFunc(r.Members, func(m sdk.Member) bool { return m.Name == d.Member })]
		if r.Others(to) > r.Others(from) {
			t.Fatalf("moves from %s with %d others to %s with %d", from.Name, r.Others(from), to.Name, r.Others(to))
		}
	})
}

// Whatever the loads: who joins may take a child, nobody else does.
func TestAJoinMovesOnlyToTheJoiner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := settled(t)
		joiner := sdk.Member{Name: rapid.String().Draw(t, "joiner"), State: sdk.MemberAlive}
		joiner.Resources.Children = rapid.IntRange(0, 20).Draw(t, "its children")
		if slices.ContainsFunc(r.Members, func(m sdk.Member) bool { return m.Name == joiner.Name }) {
			t.Skip("it is there")
		}
		r.Members = append(r.Members, joiner)
		d, err := Uniform(r, Slack)
		if err != nil || d.Member != r.Previous && d.Member != joiner.Name {
			t.Fatalf("moves from %s to %s, %v", r.Previous, d.Member, err)
		}
	})
}

// Whatever the loads: who is lost, or drains, moves no child but its own.
func TestALossMovesOnlyItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := settled(t)
		i := rapid.IntRange(0, len(r.Members)-1).Draw(t, "lost")
		own := r.Members[i].Name == r.Previous
		if rapid.Bool().Draw(t, "drains") {
			r.Members[i].Draining = true
		} else {
			r.Members[i].State = sdk.MemberDead
		}
		d, err := Uniform(r, Slack)
		switch {
		case !own && (err != nil || d.Member != r.Previous):
			t.Fatalf("moves from %s to %s, %v", r.Previous, d.Member, err)
		case own && d.Member == r.Previous:
			t.Fatalf("stays on %s, which is lost", r.Previous)
		}
	})
}

// The order of the members is of no meaning, not even for the scores.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := sdk.PlacementRequest{Child: sdk.ChildSpec{ID: rapid.String().Draw(t, "id")}, Members: cluster(t)}
		r.Previous = rapid.SampledFrom([]string{"", "m0", "m1", "gone"}).Draw(t, "previous")
		want, wantErr := Uniform(r, Slack)
		r.Members = rapid.Permutation(r.Members).Draw(t, "order")
		got, err := Uniform(r, Slack)
		if fmt.Sprint(want, wantErr) != fmt.Sprint(got, err) {
			t.Fatalf("%v, %v\n%v, %v", want, wantErr, got, err)
		}
	})
}

// The two ends of a bound that is as tight as can be: somebody is always below.
func TestSomebodyIsAlwaysWithinTheBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := sdk.PlacementRequest{Child: sdk.ChildSpec{ID: rapid.String().Draw(t, "id")}, Members: cluster(t)}
		possible := slices.ContainsFunc(r.Members, func(m sdk.Member) bool { return r.Excludes(m) == "" })
		if _, err := Uniform(r, 0); (err == nil) != possible {
			t.Fatalf("possible: %v, got %v", possible, err)
		}
	})
}

// When a fourth member joins three it gets its share, from all, and little else
// moves. When one is lost then, only its children do.
func TestChildrenMoveByShares(t *testing.T) {
	const children = 900
	c := plugintest.Cluster{Strategy: uniform(Slack), Members: members(3)}
	for i := range children {
		require.NoError(t, c.Place(t.Context(), sdk.ChildSpec{ID: "box-" + strconv.Itoa(i)}))
	}
	moves, err := c.Rest(t.Context())
	require.NoError(t, err)
	require.Less(t, moves, children/20)

	c.Members = members(4)
	moves, err = c.Rest(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, off(c.Count(), 4), 0.1, c.Count())
	require.InEpsilon(t, children/4, moves, 0.15)

	before := c.Count()
	at := func() map[string]string {
		where := map[string]string{}
		for i := range children {
			where["box-"+strconv.Itoa(i)] = c.At("box-" + strconv.Itoa(i))
		}
		return where
	}
	was := at()
	require.NoError(t, c.Lose(t.Context(), "m0"))
	moved := 0
	for id, m := range at() {
		if was[id] != m {
			require.Equal(t, "m0", was[id])
			moved++
		}
	}
	require.Equal(t, before["m0"], moved)
	require.LessOrEqual(t, off(c.Count(), 3), 0.1, "%v", slices.Sorted(maps.Values(c.Count())))
}
