// Command placement-fewest chooses the member with the fewest children.
package main

import (
	"context"
	"github.com/debughost/debughost/sdk"
)

type fewest struct{}

func (fewest) Describe() sdk.Info {
	return sdk.Info{Name: "placement-fewest", Version: "1.0.0"}
}

func (fewest) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	scores := make([]sdk.Score, len(r.Members))
	for i, m := range r.Members {
		scores[i] = sdk.Score{Member: m.Name, Total: -float64(r.Others(m)), Excluded: r.Excludes(m)}
	}
	return r.Best(scores)
}

func main() { sdk.Serve(fewest{}) }
