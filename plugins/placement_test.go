package main

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
	"github.com/stretchr/testify/require"
)

// placements are the bundled placement strategies with configs of theirs.
var placements = map[string][]string{
	"placement-uniform":   {`{}`, `{"slack": 0}`, `{"slack": 1}`},
	"placement-quorum":    {`{}`, `{"minority": "stop"}`},
	"placement-random":    {`{}`, `{"draws": 1}`},
	"placement-resources": {`{}`, `{"memory": 0, "cpu": 0}`, `{"memory": 1, "cpu": 1, "children": 1, "headroom": 0.1, "margin": 0}`},
}

// Each placement strategy keeps the contract: built alone with its first config,
// as a link to the file that holds all plugins with the others.
func TestPlacementConformance(t *testing.T) {
	t.Parallel()
	for name, configs := range placements {
		link := linked(t, name)
		for i, config := range configs {
			p := plugintest.Plugin{Path: link, Kind: sdk.KindPlacement, Config: config}
			if i == 0 {
				p.Path = build(t, "./"+name, name)
			} else {
				p.Only = []string{"placement/"}
			}
			t.Run(name+" "+config, func(t *testing.T) {
				t.Parallel()
				plugintest.Run(t, p)
			})
		}
	}
}

// What a config cannot hold is refused by the process with the key's path.
func TestPlacementConfigs(t *testing.T) {
	t.Parallel()
	for config, name := range map[string]string{
		`{"slack": 2}`:                           "placement-uniform",
		`{"minority": "panic"}`:                  "placement-quorum",
		`{"draws": 0}`:                           "placement-random",
		`{"margin": -1}`:                         "placement-resources",
		`{"memory": 0, "cpu": 0, "children": 0}`: "placement-resources",
	} {
		failed := plugintest.Failed(plugintest.Check(t.Context(), plugintest.Plugin{Path: linked(t, name), Config: config, Only: []string{"base/configure"}}))
		require.NotEmpty(t, failed, config)
		require.Equal(t, "base/configure", failed[0].Check)
	}
}

// BenchmarkChoose is one choice among 3 and among 50 members: in a process alone,
// and asked for as debughost does it, of another process over gRPC with mutual
// TLS.
func BenchmarkChoose(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(placements)) {
		client, stop, err := plugintest.Dial(b.Context(), plugintest.Plugin{Path: linked(b, name)})
		require.NoError(b, err)
		b.Cleanup(stop)
		alone, _ := find(name)
		for how, strategy := range map[string]sdk.Placement{"alone": alone.(sdk.Placement), "grpc": client.Placement()} {
			for _, members := range []int{3, 50} {
				r := crowd(members)
				b.Run(fmt.Sprintf("%s/%s/%d", name, how, members), func(b *testing.B) {
					for b.Loop() {
						_, err := strategy.Choose(b.Context(), r)
						require.NoError(b, err)
					}
				})
			}
		}
	}
}

// crowd is a request with that many members.
func crowd(members int) sdk.PlacementRequest {
	r := sdk.PlacementRequest{Child: sdk.ChildSpec{ID: "box-1"}}
	for i := range members {
		r.Members = append(r.Members, sdk.Member{Name: fmt.Sprint("db", i), State: sdk.MemberAlive, Resources: sdk.Resources{
			CPUs: 8, Load: 1.5, MemoryTotal: 64 << 30, MemoryAvailable: 40 << 30, Children: 10,
		}})
	}
	return r
}
