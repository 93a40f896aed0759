package placementresources

import (
	"context"
	"math"
	"strconv"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const gb = 1 << 30

// member is idle and has 16 GB, all free, and 8 processors.
func member(name string, change ...func(*sdk.Resources)) sdk.Member {
	m := sdk.Member{Name: name, State: sdk.MemberAlive, Resources: sdk.Resources{CPUs: 8, MemoryTotal: 16 * gb, MemoryAvailable: 16 * gb}}
	for _, c := range change {
		c(&m.Resources)
	}
	return m
}

func strategy(t require.TestingT, config string) *Strategy {
	s := New("1").(*Strategy)
	require.NoError(t, sdk.DecodeConfig([]byte(config), &s.config))
	require.NoError(t, s.Configured(context.Background()))
	return s
}

func choose(t *testing.T, s *Strategy, r sdk.PlacementRequest) sdk.Decision {
	t.Helper()
	d, err := s.Choose(t.Context(), r)
	require.NoError(t, err)
	return d
}

func TestLeastLoaded(t *testing.T) {
	for name, change := range map[string]func(*sdk.Resources){
		"memory":              func(r *sdk.Resources) { r.MemoryAvailable = 8 * gb },
		"reserved memory":     func(r *sdk.Resources) { r.Reserved.Memory = 8 * gb },
		"load":                func(r *sdk.Resources) { r.Load = 4 },
		"reserved processors": func(r *sdk.Resources) { r.Reserved.CPUs = 4 },
		"fewer processors":    func(r *sdk.Resources) { r.CPUs = 2 },
		"children":            func(r *sdk.Resources) { r.Children = 9 },
		"reserved children":   func(r *sdk.Resources) { r.Reserved.Children = 9 },
		"unknown processors":  func(r *sdk.Resources) { r.CPUs = 0 },
	} {
		for i := range 20 {
			spec := sdk.ChildSpec{ID: strconv.Itoa(i), Limits: sdk.SandboxLimits{Memory: gb, CPUs: 1}}
			d := choose(t, strategy(t, `{}`), sdk.PlacementRequest{Child: spec, Members: []sdk.Member{member("a", change), member("b")}})
			require.Equal(t, "b", d.Member, name)
		}
	}
}

// A figure that weighs nothing decides nothing.
func TestWeights(t *testing.T) {
	full := member("full", func(r *sdk.Resources) { r.MemoryAvailable = 2 * gb })
	busy := member("busy", func(r *sdk.Resources) { r.Load = 16 })
	many := member("many", func(r *sdk.Resources) { r.Children = 50 })
	for config, worst := range map[string]string{
		`{"memory": 1, "cpu": 0, "children": 0}`:   "full",
		`{"memory": 0, "cpu": 0.1, "children": 0}`: "busy",
		`{"memory": 0, "cpu": 0, "children": 0.5}`: "many",
	} {
		d := choose(t, strategy(t, config), sdk.PlacementRequest{Members: []sdk.Member{full, busy, many}})
		require.Equal(t, worst, d.Scores[2].Member, config)
		require.Equal(t, d.Scores[0].Total, d.Scores[1].Total)
		require.Greater(t, d.Scores[1].Total, d.Scores[2].Total)
	}
	s := New("1").(*Strategy)
	s.config = Config{}
	var problems *sdk.ConfigError
	require.ErrorAs(t, s.Configured(t.Context()), &problems)
	require.Equal(t, "memory", problems.Problems[0].Path)
}

// Members that are equal share children, by their ids.
func TestEqualMembersShare(t *testing.T) {
	chosen := map[string]int{}
	for i := range 300 {
		chosen[choose(t, strategy(t, `{}`), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: strconv.Itoa(i)}, Members: []sdk.Member{member("a"), member("b"), member("c")}}).Member]++
	}
	for _, n := range chosen {
		require.InDelta(t, 100, n, 40)
	}
}

// A hundred children that start at once, of which the figures show nothing yet:
// they do not all go to the member that is idle.
func TestReservationsSpreadAHerd(t *testing.T) {
	idle, busy := member("idle"), member("busy", func(r *sdk.Resources) { r.Load, r.MemoryAvailable = 4, 10*gb })
	c := plugintest.Cluster{Strategy: strategy(t, `{}`), Members: []sdk.Member{idle, busy}, Late: 1000}
	for i := range 100 {
		require.NoError(t, c.Place(t.Context(), sdk.ChildSpec{ID: strconv.Itoa(i), Limits: sdk.SandboxLimits{Memory: gb / 10, CPUs: 0.1}}))
	}
	require.Greater(t, c.Count()["idle"], c.Count()["busy"])
	require.Greater(t, c.Count()["busy"], 20)
}

func TestMemoryMustFit(t *testing.T) {
	small := member("small", func(r *sdk.Resources) { r.MemoryAvailable = 4 * gb })
	taken := member("taken", func(r *sdk.Resources) { r.Reserved.Memory = 13 * gb })
	request := func(memory uint64, ms ...sdk.Member) sdk.PlacementRequest {
		return sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box", Limits: sdk.SandboxLimits{Memory: memory}}, Members: ms}
	}
	s := strategy(t, `{"headroom": 0.125}`) // 2 GB
	d, err := s.Choose(t.Context(), request(3*gb, small, taken))
	require.ErrorIs(t, err, sdk.ErrNoCandidate)
	require.EqualError(t, err, "no candidate: small: it has 4096 MB free, the child may use 3072 MB, and 2048 MB are to stay free; taken: it has 3072 MB free, the child may use 3072 MB, and 2048 MB are to stay free")
	require.Contains(t, sdk.Hint(err), "headroom")
	require.Len(t, d.Scores, 2)

	require.Equal(t, "small", choose(t, s, request(2*gb, small, taken)).Member)
	require.Equal(t, "big", choose(t, s, request(14*gb, small, taken, member("big"))).Member)
	_, err = s.Choose(t.Context(), request(14*gb+1, member("big")))
	require.ErrorIs(t, err, sdk.ErrNoCandidate)
	_, err = s.Choose(t.Context(), request(math.MaxUint64, member("big")))
	require.ErrorIs(t, err, sdk.ErrNoCandidate)

	// One that is full takes not even a child without a limit.
	full := member("full", func(r *sdk.Resources) { r.MemoryAvailable = gb })
	_, err = s.Choose(t.Context(), request(0, full))
	require.ErrorIs(t, err, sdk.ErrNoCandidate)

	// What is not known is enough for a child without a limit alone.
	unknown := sdk.Member{Name: "unknown", State: sdk.MemberAlive}
	require.Equal(t, "unknown", choose(t, s, request(0, unknown)).Member)
	require.Equal(t, "big", choose(t, s, request(0, unknown, member("big"))).Member)
	_, err = s.Choose(t.Context(), request(1, unknown))
	require.ErrorContains(t, err, "its memory is not known")

	// No hint about memory where it is not memory.
	_, err = s.Choose(t.Context(), request(0, sdk.Member{Name: "a", State: sdk.MemberDead}))
	require.Empty(t, sdk.Hint(err))
}

func TestMovesOnlyForMuch(t *testing.T) {
	s := strategy(t, `{}`)
	ask := func(available uint64) string {
		here := member("here", func(r *sdk.Resources) { r.Children, r.MemoryAvailable = 1, available })
		return choose(t, s, sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box"}, Members: []sdk.Member{here, member("there")}, Previous: "here"}).Member
	}
	require.Equal(t, "here", ask(16*gb))
	require.Equal(t, "here", ask(13*gb))
	require.Equal(t, "there", ask(12*gb))
	// It is not put out of where it is for want of memory, which may be its own.
	d := choose(t, s, sdk.PlacementRequest{Child: sdk.ChildSpec{Limits: sdk.SandboxLimits{Memory: 15 * gb}}, Previous: "here", Members: []sdk.Member{
		member("here", func(r *sdk.Resources) { r.Children, r.MemoryAvailable = 1, gb/2 }),
	}})
	require.Equal(t, "here", d.Member)
}

// The total is what the parts add up to, and always a number between 0 and 1,
// but for the bonus; also with figures that make no sense.
func TestPartsExplainTheTotal(t *testing.T) {
	s := strategy(t, `{}`)
	figure := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -1}))
	rapid.Check(t, func(t *rapid.T) {
		r := sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box", Limits: sdk.SandboxLimits{Memory: rapid.Uint64().Draw(t, "limit"), CPUs: figure.Draw(t, "cpus")}}}
		for i := range rapid.IntRange(0, 5).Draw(t, "members") {
			r.Members = append(r.Members, sdk.Member{Name: strconv.Itoa(i), State: sdk.MemberAlive, Resources: sdk.Resources{
				CPUs: rapid.IntRange(0, math.MaxInt32).Draw(t, "processors"), Load: figure.Draw(t, "load"),
				MemoryTotal: rapid.Uint64().Draw(t, "total"), MemoryAvailable: rapid.Uint64().Draw(t, "available"), Children: rapid.IntRange(0, math.MaxInt32).Draw(t, "children"),
				Reserved: sdk.Reserved{Children: rapid.IntRange(0, 9).Draw(t, "more children"), Memory: rapid.Uint64().Draw(t, "reserved"), CPUs: figure.Draw(t, "more cpus")},
			}})
		}
		r.Previous = rapid.SampledFrom([]string{"", "0", "1"}).Draw(t, "previous")
		d, err := s.Choose(t.Context(), r)
		if err == nil && d.Member == "" {
			t.Fatal("neither an answer nor an error")
		}
		for _, score := range d.Scores {
			total := 0.0
			for _, part := range score.Parts {
				total += part
			}
			most := 1.000003
			if score.Member == r.Previous {
				most += s.config.Margin
			}
			if math.Abs(total-score.Total) > 1e-9 || math.IsNaN(total) || total < 0 || total > most {
				t.Fatalf("%+v adds up to %v", score, total)
			}
		}
	})
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0 kB", 5 << 10: "5 kB", 64 << 20: "64 MB", 9 * gb: "9216 MB", 10 * gb: "10 GB"} {
		require.Equal(t, want, size(bytes))
	}
}
