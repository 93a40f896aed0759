package placementresources

import (
	"fmt"
	"math"

	"github.com/debughost/debughost/sdk"
)

// tooFull says why the child does not fit into the member's memory, or "". The
// child's own use cannot be told from the figures of the member that it runs on,
// so it fits there.
func (c Config) tooFull(r sdk.PlacementRequest, m sdk.Member) string {
	need, have := r.Child.Limits.Memory, m.Resources
	switch kept := uint64(float64(have.MemoryTotal) * c.Headroom); {
	case m.Name == r.Previous || have.MemoryTotal == 0 && need == 0:
		return ""
	case have.MemoryTotal == 0:
		return fmt.Sprintf("its memory is not known, and the child may use %s", size(need))
	case free(have) < need || free(have)-need < kept:
		return fmt.Sprintf("it has %s free, the child may use %s, and %s are to stay free", size(free(have)), size(need), size(kept))
	}
	return ""
}

// free is the memory that nothing uses, and nothing is about to.
func free(r sdk.Resources) uint64 {
	available := min(r.MemoryAvailable, r.MemoryTotal)
	return available - min(r.Reserved.Memory, available)
}

// parts are the member's, with the child on it. Together they are 1 at most, but
// for the bonus of the member where the child is.
func (c Config) parts(r sdk.PlacementRequest, m sdk.Member, average float64) map[string]float64 {
	memory, cpus := r.Child.Limits.Memory, r.Child.Limits.CPUs
	stays := m.Name == r.Previous
	if stays { // it shows already
		memory, cpus = 0, 0
	}
	weights := c.Memory + c.CPU + c.Children
	parts := map[string]float64{
		"memory":   rounded(c.Memory / weights * freePart(m.Resources, memory)),
		"cpu":      rounded(c.CPU / weights * idlePart(m.Resources, cpus)),
		"children": rounded(c.Children / weights * lessFor(float64(r.Others(m))/average)),
	}
	if stays {
		parts["stay"] = rounded(c.Margin)
	}
	return parts
}

// freePart is the part of the memory that is free with the child there.
func freePart(r sdk.Resources, child uint64) float64 {
	if r.MemoryTotal == 0 {
		return 0
	}
	return float64(free(r)-min(child, free(r))) / float64(r.MemoryTotal)
}

// idlePart is 1 without load and one half with as much as there are processors.
func idlePart(r sdk.Resources, child float64) float64 {
	load := amount(r.Load) + amount(r.Reserved.CPUs) + amount(child)
	if r.CPUs == 0 {
		return 0
	}
	return lessFor(load / float64(r.CPUs))
}

// lessFor is 1 for nothing and one half for 1; unlike a difference it tells much
// from more.
func lessFor(x float64) float64 { return 1 / (1 + x) }

// amount is a figure that may come from anywhere.
func amount(x float64) float64 {
	if math.IsNaN(x) || x < 0 {
		return 0
	}
	return min(x, 1e9)
}

// sum adds the parts in one order: additions of floating point numbers depend on
// it.
func sum(parts map[string]float64) float64 {
	return rounded(parts["memory"] + parts["cpu"] + parts["children"] + parts["stay"])
}

// rounded makes equal what differs by the rounding of different processors, or
// by less than matters.
func rounded(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// size is a number of bytes for people.
func size(bytes uint64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprintf("%d GB", bytes>>30)
	case bytes >= 1<<20:
		return fmt.Sprintf("%d MB", bytes>>20)
	}
	return fmt.Sprintf("%d kB", bytes>>10)
}
