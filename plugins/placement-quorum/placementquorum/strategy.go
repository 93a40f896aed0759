// Package placementquorum is the strategy placement-quorum: as placement-uniform,
// but only where a majority of the members is alive. So of the two sides of a
// partition at most one places children, and the same child is not started on
// both.
//
// The members are those that the one who asks knows, but for those that left in
// peace. One that is lost counts until it is forgotten.
package placementquorum

import (
	"context"
	"fmt"

	"github.com/debughost/debughost/plugins/internal/placement"
	"github.com/debughost/debughost/sdk"
)

// Name is the plugin's.
const Name = "placement-quorum"

// Config is the plugin's section.
type Config struct {
	Minority string  `json:"minority" enum:"keep,stop" doc:"what becomes of the children that run where there is no majority: keep leaves them running, and while the network is cut the other side starts them too; stop ends them as soon as so many members are dead, not merely suspect, that the others are no majority"`
	Members  int     `json:"members" min:"0" max:"1000" doc:"how many members the cluster is meant to have; fewer are no majority, even when they have not heard of the others yet, as after a start of all at once; 0 means those that are known"`
	Slack    float64 `json:"slack" min:"0" max:"1" doc:"how far a member may be above its share of the children before the next one in line is taken, as a fraction of the share; two children more are always allowed"`
}

// Strategy implements sdk.Placement.
type Strategy struct {
	version string
	config  Config
}

var _ sdk.Placement = (*Strategy)(nil)

// New is the strategy with its defaults. An empty version is the build's own.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, config: Config{Minority: "keep", Slack: placement.Slack}}
}

// Describe implements sdk.Strategy.
func (s *Strategy) Describe() sdk.Info {
	return sdk.Info{Name: Name, Version: s.version, Config: &s.config}
}

// Choose implements sdk.Placement.
func (s *Strategy) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	q := placement.CountQuorum(r.Members, s.config.Members)
	if q.Has() {
		return placement.Uniform(r, s.config.Slack)
	}
	// The scores tell of each member what keeps it out beside the quorum.
	d, _ := placement.Uniform(r, s.config.Slack)
	for i := range d.Scores {
		if d.Scores[i].Excluded == "" {
			d.Scores[i].Excluded = "there is no quorum"
		}
	}
	d.Member, d.Stop = "", s.config.Minority == "stop" && q.Lost()
	return d, fmt.Errorf("%w: of %d members %d must be alive, and only %d are", sdk.ErrNoQuorum, q.Known, q.Needed(), q.Alive)
}
