package badplugin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/debughost/debughost/sdk"
)

// servePlacement serves a rendezvous placement that its mode spoils.
func servePlacement(name, mode string) { sdk.Serve(&Placement{Name: name, mode: mode}) }

// Placement is a good and small placement strategy: a child goes to the member
// of the highest Rendezvous.
type Placement struct {
	Name  string
	mode  string
	calls atomic.Int64
}

var _ sdk.Placement = (*Placement)(nil)

// Describe implements sdk.Strategy.
func (p *Placement) Describe() sdk.Info { return sdk.Info{Name: p.Name, Version: "0.0.1"} }

// Choose implements sdk.Placement.
func (p *Placement) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	turn := int(p.calls.Add(1))
	scores := make([]sdk.Score, len(r.Members))
	for i, m := range r.Members {
		s := &scores[i]
		*s = sdk.Score{Member: m.Name, Total: sdk.Rendezvous(r.Child.ID, m.Name), Excluded: p.excludes(r, m)}
		switch p.mode {
		case "random":
			s.Total = rand.Float64()
		case "order":
			s.Total = float64(len(r.Members) - i)
		case "turns":
			s.Total = float64((i + turn) % len(r.Members))
		case "modulo":
			s.Total = sdk.Rendezvous(r.Child.ID+fmt.Sprint(len(r.Members)), m.Name)
		case "restless":
			s.Total = -float64(m.Resources.Children + m.Resources.Reserved.Children)
		}
	}
	d, err := r.Best(scores)
	return p.spoil(r, d, err)
}

// excludes forgets what the mode is about.
func (p *Placement) excludes(r sdk.PlacementRequest, m sdk.Member) string {
	switch p.mode {
	case "dead":
		m.State = sdk.MemberAlive
	case "draining":
		m.Draining = false
	case "labels":
		r.Child.Constraints = nil
	case "far":
		r.Child.Near = ""
	case "beside":
		r.Child.Apart = nil
	}
	return r.Excludes(m)
}

// spoil changes a good answer.
func (p *Placement) spoil(r sdk.PlacementRequest, d sdk.Decision, err error) (sdk.Decision, error) {
	switch p.mode {
	case "mute":
		d.Scores = nil
	case "worse":
		for i := range d.Scores {
			d.Scores[i].Total = -d.Scores[i].Total
		}
	case "slow":
		time.Sleep(time.Duration(len(r.Members)) * 5 * time.Millisecond)
	case "always":
		if err != nil {
			return sdk.Decision{Member: "somebody"}, nil
		}
	case "nothing":
		return d, nil
	case "wordless":
		if err != nil {
			return d, sdk.ErrNoCandidate
		}
	case "stops":
		d.Stop = true
	}
	return d, err
}
