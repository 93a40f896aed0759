// Package placementresources is the strategy placement-resources: it chooses the
// member that has the most room, by memory, processors and the number of
// children, each weighted.
//
// What was placed lately and does not show in a member's figures yet counts as
// if it did, so that a hundred children that are started at once do not all go to
// the member that was idle before. A child with a memory limit goes only where
// so much is free, and no member is filled to the brim.
//
// A child that runs moves only to a member that is clearly better: figures
// waver, and a move costs a restart.
package placementresources

import (
	"context"
	"errors"
	"fmt"

	"github.com/debughost/debughost/sdk"
)

// Name is the plugin's.
const Name = "placement-resources"

// Config is the plugin's section.
type Config struct {
	Memory   float64 `json:"memory" min:"0" max:"1" doc:"weight of the part of the memory that is free"`
	CPU      float64 `json:"cpu" min:"0" max:"1" doc:"weight of how idle the processors are: 1 when there is no load, one half when there is as much as there are processors"`
	Children float64 `json:"children" min:"0" max:"1" doc:"weight of how few children there are: one half for as many as the members have on average"`
	Headroom float64 `json:"headroom" min:"0" max:"0.9" doc:"part of a member's memory that is to stay free; a member that has less takes no children"`
	Margin   float64 `json:"margin" min:"0" max:"1" doc:"how much better, of a score of at most 1, another member must be for a running child to move to it"`
}

// Strategy implements sdk.Placement.
type Strategy struct {
	version string
	config  Config
}

var (
	_ sdk.Placement  = (*Strategy)(nil)
	_ sdk.Configured = (*Strategy)(nil)
)

// New is the strategy with its defaults. An empty version is the build's own.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, config: Config{Memory: 0.5, CPU: 0.3, Children: 0.2, Headroom: 0.05, Margin: 0.1}}
}

// Describe implements sdk.Strategy.
func (s *Strategy) Describe() sdk.Info {
	return sdk.Info{Name: Name, Version: s.version, Config: &s.config}
}

// Configured implements sdk.Configured.
func (s *Strategy) Configured(context.Context) error {
	if s.config.Memory+s.config.CPU+s.config.Children == 0 {
		return sdk.Invalid("memory", "memory, cpu and children all weigh nothing")
	}
	return nil
}

// Choose implements sdk.Placement.
func (s *Strategy) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	scores := make([]sdk.Score, len(r.Members))
	children, candidates, short := 0, 0, false
	for i, m := range r.Members {
		scores[i] = sdk.Score{Member: m.Name, Excluded: r.Excludes(m)}
		if scores[i].Excluded == "" {
			scores[i].Excluded = s.config.tooFull(r, m)
			short = short || scores[i].Excluded != ""
		}
		if scores[i].Excluded == "" {
			children += r.Others(m)
			candidates++
		}
	}
	average := float64(children+1) / float64(max(candidates, 1))
	for i, m := range r.Members {
		if scores[i].Excluded == "" {
			scores[i].Parts = s.config.parts(r, m, average)
			scores[i].Total = sum(scores[i].Parts)
		}
	}
	d, err := r.Best(scores)
	if errors.Is(err, sdk.ErrNoCandidate) && short {
		err = sdk.WithHint(err, fmt.Sprintf("the child's memory limit, headroom = %v of [placement.resources], or another member would help", s.config.Headroom))
	}
	return d, err
}
