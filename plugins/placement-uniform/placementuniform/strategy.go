// Package placementuniform is the strategy placement-uniform: it spreads
// children evenly over all members by rendezvous hashing of their ids, whatever
// they need and the members have.
//
// Equal specs spread, since ids differ. A member that is lost gives its children
// to all others; one that joins takes its share from all others; no child moves
// between those that stay.
package placementuniform

import (
	"context"

	"github.com/debughost/debughost/plugins/internal/placement"
	"github.com/debughost/debughost/sdk"
)

// Name is the plugin's.
const Name = "placement-uniform"

// Config is the plugin's section.
type Config struct {
	Slack float64 `json:"slack" min:"0" max:"1" doc:"how far a member may be above its share of the children before the next one in line is taken, as a fraction of the share; two children more are always allowed"`
}

// Strategy implements sdk.Placement.
type Strategy struct {
	version string
	config  Config
}

var _ sdk.Placement = (*Strategy)(nil)

// New is the strategy with its defaults. An empty version is the build's own.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, config: Config{Slack: placement.Slack}}
}

// Describe implements sdk.Strategy.
func (s *Strategy) Describe() sdk.Info {
	return sdk.Info{Name: Name, Version: s.version, Config: &s.config}
}

// Choose implements sdk.Placement.
func (s *Strategy) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	return placement.Uniform(r, s.config.Slack)
}
