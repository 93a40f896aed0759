package placementuniform

import (
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

// The slack is what decides whether the member that the child's id belongs to is
// too full.
func TestSlack(t *testing.T) {
	a := sdk.Member{Name: "a", State: sdk.MemberAlive, Resources: sdk.Resources{Children: 110}}
	b := sdk.Member{Name: "b", State: sdk.MemberAlive, Resources: sdk.Resources{Children: 90}}
	id := "box"
	for sdk.Rendezvous(id, "a") < sdk.Rendezvous(id, "b") {
		id += "x"
	}
	for config, want := range map[string]string{`{}`: "b", `{"slack": 0.2}`: "a"} {
		s := New("1").(*Strategy)
		require.NoError(t, sdk.DecodeConfig([]byte(config), &s.config))
		d, err := s.Choose(t.Context(), sdk.PlacementRequest{Child: sdk.ChildSpec{ID: id}, Members: []sdk.Member{a, b}})
		require.NoError(t, err)
		require.Equal(t, want, d.Member)
		if want == "b" {
			require.Equal(t, "it has 110 children, and its share is 100", d.Scores[1].Excluded)
		}
	}
}

func TestConfigIsBounded(t *testing.T) {
	for config, path := range map[string]string{`{"slack": -0.1}`: "slack", `{"slack": 1.1}`: "slack", `{"slak": 0.1}`: "slak"} {
		s := New("1").(*Strategy)
		var problems *sdk.ConfigError
		require.ErrorAs(t, sdk.DecodeConfig([]byte(config), s.Describe().Config), &problems)
		require.Equal(t, path, problems.Problems[0].Path)
	}
}
