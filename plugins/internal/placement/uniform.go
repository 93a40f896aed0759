// Package placement is what several placement strategies have in common. It is
// pure: a decision depends on the request alone, whatever machine makes it.
package placement

import (
	"fmt"

	"github.com/debughost/debughost/sdk"
)

// Slack is the usual one for Uniform: with it, of 1 000 children over three
// members none has 10 % more or less than its share, which plain rendezvous
// hashing misses once in fifteen times.
const Slack = 0.04

// spare is what a member may have above its share in any case. Among a handful
// of children hashing decides alone, and they can be found by it.
const spare = 2

// Uniform chooses by rendezvous hashing with bounded loads.
//
// A child that runs nowhere goes to the member of the highest weight that is not
// above its share of all children by more than the slack, a fraction. (The idea
// is of Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded
// loads", 2016.)
//
// A child that runs stays, unless a member of a higher weight has no more other
// children than its own member has. So such moves never make the spread worse,
// and they come to an end: each makes the sum of the squared loads smaller, or
// leaves it and raises a weight. When a member is lost nothing moves between the
// others; when one joins, children move only to it, until it has its share.
func Uniform(r sdk.PlacementRequest, slack float64) (sdk.Decision, error) {
	scores := make([]sdk.Score, len(r.Members))
	children, candidates, home := 0, 0, -1
	for i, m := range r.Members {
		weight := sdk.Rendezvous(r.Child.ID, m.Name)
		scores[i] = sdk.Score{Member: m.Name, Total: weight, Parts: map[string]float64{"hash": weight}, Excluded: r.Excludes(m)}
		if scores[i].Excluded != "" {
			continue
		}
		children += r.Others(m)
		candidates++
		if m.Name == r.Previous {
			home = i
		}
	}
	share := float64(children+1) / float64(max(candidates, 1))
	// The conversion keeps processors that multiply and add at once from
	// rounding otherwise than the others.
	bound := float64(share*(1+slack)) + spare
	for i, m := range r.Members {
		others := r.Others(m)
		switch {
		case scores[i].Excluded != "" || i == home:
		case home >= 0 && scores[i].Total > scores[home].Total && others > r.Others(r.Members[home]):
			scores[i].Excluded = fmt.Sprintf("the child stays on %s, which has %d others, not %d", r.Previous, r.Others(r.Members[home]), others)
		case home < 0 && float64(others+1) > bound:
			scores[i].Excluded = fmt.Sprintf("it has %d children, and its share is %.0f", others, share)
		}
	}
	return r.Best(scores)
}
