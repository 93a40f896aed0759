package wire

import (
	"encoding/json"
	"testing"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// Whatever a plugin sends, a host sees a valid list, an error, or both.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []*pluginpb.WatchResponse{
		{},
		{List: &pluginpb.NodeList{Nodes: []*pluginpb.Node{{Name: "shop@db1", Addr: "[::1]:4001", Role: 1, Metadata: map[string]string{"a": "b"}}}}},
		{List: &pluginpb.NodeList{Nodes: []*pluginpb.Node{{Name: "m", Addr: "h:1", Role: 2}}}, Failure: &pluginpb.Failure{Message: "refused", Hint: "look"}},
	} {
		b, err := proto.Marshal(seed)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in pluginpb.WatchResponse
		if proto.Unmarshal(data, &in) != nil {
			return
		}
		a := answerIn("Discovery.Watch", &in)
		require.NoError(t, sdk.ValidateNodes(a.Nodes))
		if a.Err != nil {
			require.Less(t, len(a.Err.Error()), 32<<10)
			require.True(t, a.Nodes == nil || len(a.Nodes) > 0)
		}
	})
}

// Whatever a plugin answers, a host gets a member that may take the child, or an
// error, and scores that it can tell on.
func FuzzChoice(f *testing.F) {
	request := sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box"}, Members: []sdk.Member{
		{Name: "a", State: sdk.MemberAlive}, {Name: "b", State: sdk.MemberAlive, Draining: true}, {Name: "c", State: sdk.MemberDead},
	}}
	for _, seed := range []*pluginpb.ChooseResponse{
		{},
		{Outcome: &pluginpb.ChooseResponse_Member{Member: "a"}, Scores: []*pluginpb.Score{
			{Member: "a", Total: 1, Parts: map[string]float64{"cpu": 0.5}}, {Member: "b", Excluded: "it is draining"}, {Member: "c", Excluded: "it is dead"}}},
		{Outcome: &pluginpb.ChooseResponse_Member{Member: "b"}},
		{Outcome: &pluginpb.ChooseResponse_Refusal{Refusal: &pluginpb.Refusal{Code: 1, Message: "alone", Stop: true}}},
	} {
		b, err := proto.Marshal(seed)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in pluginpb.ChooseResponse
		if proto.Unmarshal(data, &in) != nil {
			return
		}
		d, err := decisionIn(request, &in)
		require.Equal(t, err == nil, d.Member == "a")
		require.True(t, d.Member == "a" || d.Member == "")
		if d.Stop {
			require.ErrorIs(t, err, sdk.ErrNoQuorum)
		}
		require.LessOrEqual(t, len(d.Scores), len(request.Members))
		_, err = json.Marshal(d)
		require.NoError(t, err)
	})
}
