package plugintest

import (
	"context"
	"errors"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

// What a strategy is told of the cluster.
func TestClusterTellsHowItIs(t *testing.T) {
	var told sdk.PlacementRequest
	to := "a"
	c := Cluster{
		Strategy: chooser(func(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
			told = r
			return sdk.Decision{Member: to}, nil
		}),
		Members: []sdk.Member{
			{Name: "a", State: sdk.MemberAlive, Resources: sdk.Resources{MemoryTotal: 100, MemoryAvailable: 90, Load: 1}},
			{Name: "b", State: sdk.MemberAlive},
		},
		Late: 1,
	}
	ctx, limits := t.Context(), sdk.SandboxLimits{Memory: 10, CPUs: 0.5}
	for _, id := range []string{"1", "2", "3"} {
		require.NoError(t, c.Place(ctx, sdk.ChildSpec{ID: id, Limits: limits}))
		require.Empty(t, told.Previous)
	}
	to = "b"
	require.NoError(t, c.Place(ctx, sdk.ChildSpec{ID: "4", Apart: []string{"1", "3"}}))
	require.Equal(t, sdk.Resources{MemoryTotal: 100, MemoryAvailable: 70, Load: 2, Children: 2, Reserved: sdk.Reserved{Children: 1, Memory: 10, CPUs: 0.5}}, told.Members[0].Resources)
	require.Equal(t, []string{"1", "3"}, told.Members[0].Children)
	require.Zero(t, told.Members[1].Resources)
	require.Equal(t, map[string]int{"a": 3, "b": 1}, c.Count())
	require.Equal(t, "b", c.At("4"))
	require.Empty(t, c.At("5"))

	moves, err := c.Rest(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, moves)
	require.Equal(t, map[string]int{"b": 4}, c.Count())
	require.Equal(t, "b", told.Previous)

	to = "a"
	require.NoError(t, c.Lose(ctx, "b"))
	require.Equal(t, map[string]int{"a": 4}, c.Count())
	require.Equal(t, sdk.MemberDead, told.Members[1].State)
	require.Equal(t, "b", told.Previous)
	require.Equal(t, uint64(80), told.Members[0].Resources.MemoryAvailable)
}

func TestClusterEnds(t *testing.T) {
	other := map[string]string{"a": "b", "b": "a", "": "a"}
	c := Cluster{Members: []sdk.Member{{Name: "a"}, {Name: "b"}}, Strategy: chooser(func(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
		return sdk.Decision{Member: other[r.Previous]}, nil
	})}
	require.NoError(t, c.Place(t.Context(), sdk.ChildSpec{ID: "1"}))
	moves, err := c.Rest(t.Context())
	require.ErrorContains(t, err, "20 times, 20 moves")
	require.Equal(t, 20, moves)

	refused := errors.New("refused")
	c.Strategy = chooser(func(context.Context, sdk.PlacementRequest) (sdk.Decision, error) { return sdk.Decision{}, refused })
	require.ErrorIs(t, c.Place(t.Context(), sdk.ChildSpec{ID: "2"}), refused)
	require.ErrorIs(t, c.Lose(t.Context(), "a"), refused)
	require.Empty(t, c.Count())
}
