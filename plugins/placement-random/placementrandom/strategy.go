// Package placementrandom is the strategy placement-random: it draws members by
// lot and takes the one of them that has the fewest children.
//
// All members must draw the same lots, so chance is a hash: of the child's id,
// of where it ran last, and of who may take it. A child that is placed again
// after its member was lost thus draws anew, and ends anywhere; with
// placement-uniform it goes where its id belongs.
//
// Two draws are much better than one: of n children over m members the fullest
// is then about log log m above the average, instead of by the square root of
// n/m (Mitzenmacher, "The power of two choices in randomized load balancing",
// 2001). A child that runs stays where it is: chance has no reason to move it.
package placementrandom

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/debughost/debughost/sdk"
)

// Name is the plugin's.
const Name = "placement-random"

// Config is the plugin's section.
type Config struct {
	Draws int `json:"draws" min:"1" max:"16" doc:"how many members are drawn for a child, of which the one with the fewest children gets it; 1 is chance alone"`
}

// Strategy implements sdk.Placement.
type Strategy struct {
	version string
	config  Config
}

var _ sdk.Placement = (*Strategy)(nil)

// New is the strategy with its defaults. An empty version is the build's own.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, config: Config{Draws: 2}}
}

// Describe implements sdk.Strategy.
func (s *Strategy) Describe() sdk.Info {
	return sdk.Info{Name: Name, Version: s.version, Config: &s.config}
}

// candidate is a member that may be drawn.
type candidate struct {
	score  *sdk.Score
	lot    float64
	others int
}

// Choose implements sdk.Placement.
func (s *Strategy) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	scores := make([]sdk.Score, len(r.Members))
	var candidates []candidate
	stays := false
	for i, m := range r.Members {
		scores[i] = sdk.Score{Member: m.Name, Excluded: r.Excludes(m)}
		if scores[i].Excluded == "" {
			candidates = append(candidates, candidate{score: &scores[i], others: r.Others(m)})
			stays = stays || m.Name == r.Previous
		}
	}
	draw(r, candidates)
	for i, c := range candidates {
		// A lot is below 1 and decides between equal numbers of children.
		c.score.Parts = map[string]float64{"children": -float64(c.others), "lot": c.lot}
		c.score.Total = c.lot - float64(c.others)
		switch {
		case stays && c.score.Member != r.Previous:
			c.score.Excluded = "the child stays on " + r.Previous
		case !stays && i >= s.config.Draws:
			c.score.Excluded = "it was not drawn"
		}
	}
	return r.Best(scores)
}

// draw gives the candidates their lots and sorts them by these.
func draw(r sdk.PlacementRequest, candidates []candidate) {
	names := make([]string, len(candidates))
	for i, c := range candidates {
		names[i] = c.score.Member
	}
	slices.Sort(names)
	// All of the situation as one short word, or each lot would read it anew.
	urn := strings.Join(append([]string{r.Child.ID, r.Previous}, names...), "\x00")
	urn = strconv.FormatFloat(sdk.Rendezvous(urn, ""), 'x', -1, 64)
	for i, c := range candidates {
		candidates[i].lot = sdk.Rendezvous(urn, c.score.Member)
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.lot, a.lot), cmp.Compare(a.score.Member, b.score.Member))
	})
}
