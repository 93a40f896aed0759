package sdk

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestExcludes(t *testing.T) {
	r := PlacementRequest{Child: ChildSpec{
		ID: "box-1", Constraints: map[string]string{"zone": "a", "disk": "ssd"}, Near: "shop@db1", Apart: []string{"box-2", "box-3", "box-1"},
	}}
	good := Member{State: MemberAlive, Labels: map[string]string{"zone": "a", "disk": "ssd", "more": ""}, Targets: []string{"x@y", "shop@db1"}, Children: []string{"box-1", "box-9"}}
	for want, change := range map[string]func(*Member){
		"":                               func(*Member) {},
		"it is dead":                     func(m *Member) { m.State, m.Draining = MemberDead, true },
		"it has left":                    func(m *Member) { m.State = MemberLeft },
		"it is suspect":                  func(m *Member) { m.State = MemberSuspect },
		"it is draining":                 func(m *Member) { m.Draining = true },
		"it has no label zone":           func(m *Member) { m.Labels = map[string]string{"disk": "ssd"} },
		`its label zone is "b", not "a"`: func(m *Member) { m.Labels = map[string]string{"disk": "ssd", "zone": "b"} },
		"shop@db1 is not on its machine": func(m *Member) { m.Targets = nil },
		"the child box-3 is there":       func(m *Member) { m.Children = []string{"box-3"} },
		"it has no label disk, it has no label zone, it is draining, shop@db1 is not on its machine, the child box-2 is there, the child box-3 is there": func(m *Member) {
			*m = Member{State: MemberAlive, Draining: true, Children: []string{"box-3", "box-2"}}
		},
	} {
		m := good
		change(&m)
		require.Equal(t, want, r.Excludes(m))
	}
	require.Empty(t, PlacementRequest{}.Excludes(Member{State: MemberAlive}))
}

func TestOthers(t *testing.T) {
	r := PlacementRequest{Previous: "a"}
	m := Member{Name: "a", Resources: Resources{Children: 3, Reserved: Reserved{Children: 2}}}
	require.Equal(t, 4, r.Others(m))
	m.Name = "b"
	require.Equal(t, 5, r.Others(m))
	require.Zero(t, r.Others(Member{Name: "a"}))
}

func TestBest(t *testing.T) {
	r := PlacementRequest{Child: ChildSpec{ID: "box"}}
	d, err := r.Best([]Score{{Member: "a", Total: 1}, {Member: "b", Total: 3, Excluded: "it is dead"}, {Member: "c", Total: 2}})
	require.NoError(t, err)
	require.Equal(t, Decision{Member: "c", Scores: []Score{{Member: "c", Total: 2}, {Member: "a", Total: 1}, {Member: "b", Total: 3, Excluded: "it is dead"}}}, d)

	equal := func() []Score { return []Score{{Member: "a"}, {Member: "b"}, {Member: "c"}} }
	for _, previous := range []string{"a", "b", "c"} {
		r.Previous = previous
		d, err = r.Best(equal())
		require.NoError(t, err)
		require.Equal(t, previous, d.Member)
	}
	r.Previous = ""
	chosen := map[string]int{}
	for i := range 300 {
		r.Child.ID = strconv.Itoa(i)
		d, err = r.Best(equal())
		require.NoError(t, err)
		chosen[d.Member]++
	}
	for _, m := range []string{"a", "b", "c"} {
		require.InDelta(t, 100, chosen[m], 40)
	}
}

func TestBestRefuses(t *testing.T) {
	var r PlacementRequest
	d, err := r.Best(nil)
	require.ErrorIs(t, err, ErrNoCandidate)
	require.EqualError(t, err, "no candidate: there are no members")
	require.Empty(t, d.Member)

	var scores []Score
	for i := range 7 {
		scores = append(scores, Score{Member: fmt.Sprint("m", 6-i), Excluded: "it is dead"})
	}
	r.Child.ID = "box"
	d, err = r.Best(scores)
	require.ErrorIs(t, err, ErrNoCandidate)
	require.EqualError(t, err, "no candidate: m0: it is dead; m1: it is dead; m2: it is dead; m3: it is dead; m4: it is dead; and 2 more")
	require.Len(t, d.Scores, 7)
	require.Empty(t, d.Member)
}

// All members must agree on weights, whatever version they are of.
func TestRendezvousStaysAsItIs(t *testing.T) {
	for want, pair := range map[float64][2]string{
		0.5743636295030624:  {"", ""},
		0.27768334409714734: {"box-1", "a"},
		0.8762775964943198:  {"a", "box-1"},
		0.4067685333825414:  {"box-2", "db1-7f3a9c21"},
	} {
		require.Equal(t, want, Rendezvous(pair[0], pair[1]), pair)
	}
	rapid.Check(t, func(t *rapid.T) {
		w := Rendezvous(rapid.String().Draw(t, "child"), rapid.String().Draw(t, "member"))
		if w < 0 || w >= 1 {
			t.Fatalf("weight %v", w)
		}
	})
}

// Whatever ids and members are called, shares differ no more than those of dice
// do: the sum of the squared errors is that of a chi-squared distribution.
func TestRendezvousSpreads(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ids := map[string]func(i int) string{
		"numbered": func(i int) string { return "box-" + strconv.Itoa(i) },
		"numbers":  strconv.Itoa,
		"padded":   func(i int) string { return fmt.Sprintf("%08d", i) },
		"suffixed": func(i int) string { return strconv.Itoa(i) + "-worker-of-the-shop" },
		"bytes":    func(i int) string { return string([]byte{byte(i), byte(i >> 8), byte(i >> 16)}) },
		"zeros":    func(i int) string { return string(make([]byte, i)) },
		"random":   func(int) string { return fmt.Sprintf("%016x", r.Uint64()) },
	}
	members := map[string]func(i int) string{
		"letters": func(i int) string { return string(rune('a' + i)) },
		"hosts":   func(i int) string { return fmt.Sprintf("db%d-7f3a9c2%d", i, i) },
		"long":    func(i int) string { return "debughost-of-the-shop-in-zone-a-number-" + strconv.Itoa(i) },
	}
	const children = 1000
	for idName, id := range ids {
		for memberName, member := range members {
			for _, n := range []int{2, 3, 5, 16, 50} {
				count := make([]int, n)
				for i := range children {
					best, at := -1.0, 0
					for m := range n {
						if w := Rendezvous(id(i), member(m)); w > best {
							best, at = w, m
						}
					}
					count[at]++
				}
				share, chi := float64(children)/float64(n), 0.0
				for _, c := range count {
					chi += (float64(c) - share) * (float64(c) - share) / share
				}
				// Five standard deviations of it.
				free := float64(n - 1)
				require.Less(t, chi, free+5*math.Sqrt(2*free)+5, "%s over %d %s: %v", idName, n, memberName, count)
			}
		}
	}
}
