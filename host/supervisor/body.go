package supervisor

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

// body is a complete spec but for its ID, as records have it. Nobody changes one, so
// that children whose specs are equal have one in common, and those that differ in
// their configs the rest. Its JSON is that of the spec.
type body struct {
	config json.RawMessage
	rest   *Spec
}

// bodyOf is the body of a complete spec, which nobody changes any more.
func bodyOf(s *Spec) *body {
	rest := *s
	rest.ID, rest.Config = "", nil
	b := &body{s.Config, recentRests.share(&rest, maphash.Comparable(seed, rest.scalars()), equalRests)}
	return b.shared()
}

// shared is b, or one that is equal to it.
func (b *body) shared() *body {
	return recentBodies.share(b, maphash.Bytes(seed, b.config), func(a, b *body) bool { return a.rest == b.rest && bytes.Equal(a.config, b.config) })
}

// spec is the spec of an ID.
func (b *body) spec(id string) *Spec {
	s := *b.rest
	s.ID, s.Config = id, b.config
	return &s
}

// MarshalJSON leaves out what complete puts in again.
func (b *body) MarshalJSON() ([]byte, error) {
	s := b.rest.sparse()
	s.Config = b.config
	return marshal(&s)
}

// UnmarshalJSON reads a spec.
func (b *body) UnmarshalJSON(data []byte) error {
	var s Spec
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	s = s.complete()
	*b = *bodyOf(&s) // whoever has the pointer asks for the shared one
	return nil
}

// recent finds what is equal to what came lately. What is not found costs nothing:
// it is a chance to share memory, and no more.
type recent[T any] struct {
	mu    sync.Mutex
	slots [256]*T
}

var (
	seed         = maphash.MakeSeed()
	recentRests  recent[Spec]
	recentBodies recent[body]
)

// share returns v, or what came before and is equal to it.
func (r *recent[T]) share(v *T, hash uint64, equal func(a, b *T) bool) *T {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := &r.slots[hash%uint64(len(r.slots))]
	if *slot == nil || !equal(*slot, v) {
		*slot = v
	}
	return *slot
}

// scalars is what a rest has beside its labels and ids.
type scalars struct {
	strategy, placement, near    string
	bundle, seed                 string
	restart                      sdk.Restart
	handoff                      sdk.Handoff
	limits                       sdk.SandboxLimits
	maxRestarts                  int
	maxRestartsIn, shutdownAfter time.Duration
}

func (s *Spec) scalars() scalars {
	return scalars{s.Strategy, s.Placement, s.Near, s.Bundle, s.Seed, s.Restart, s.Handoff, s.Limits, s.MaxRestarts, s.MaxRestartsIn, s.ShutdownTimeout}
}

func equalRests(a, b *Spec) bool {
	return a.scalars() == b.scalars() && maps.Equal(a.Constraints, b.Constraints) && slices.Equal(a.Apart, b.Apart) &&
		slices.EqualFunc(a.Versions, b.Versions, func(v, w Version) bool { return v.Bundle == w.Bundle && v.Note == w.Note && v.At.Equal(w.At) })
}
