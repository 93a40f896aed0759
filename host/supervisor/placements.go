package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/sdk"
)

// placeTime bounds one answer of a placement strategy.
const placeTime = 2 * time.Second

// placeAtOnce bounds the questions that are open to one strategy. Each is told of
// what was placed by those before, which does not show in the load yet, but for
// those that are open: so they are few.
const placeAtOnce = 4

// placer asks one placement strategy.
type placer struct {
	queue []action // under Supervisor.mu
	wake  chan struct{}

	mu    sync.Mutex // goes before Supervisor.mu
	look  *survey
	hangs error // it does not answer
}

// surveyAge is how long a look at all members and children is good for, together
// with what was placed since.
const surveyAge = 250 * time.Millisecond

// place has a strategy asked.
func (s *Supervisor) place(a action) {
	s.mu.Lock()
	p := s.placers[a.spec.Placement]
	if p == nil {
		p = &placer{wake: make(chan struct{}, 1)}
		s.placers[a.spec.Placement] = p
		s.tasks.Go(func() { s.runPlacer(s.ctx, p) })
	}
	p.queue = append(p.queue, a)
	s.mu.Unlock()
	wake(p.wake)
}

func (s *Supervisor) runPlacer(ctx context.Context, p *placer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for ctx.Err() == nil {
			s.mu.Lock()
			batch := p.queue
			p.queue = nil
			s.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			s.placeBatch(ctx, p, batch)
		}
	}
}

// placeBatch asks for several children, a few at a time.
func (s *Supervisor) placeBatch(ctx context.Context, p *placer, batch []action) {
	var asking sync.WaitGroup
	places := make(chan struct{}, placeAtOnce)
	for _, a := range batch {
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			s.placeOne(ctx, p, a)
		})
	}
	asking.Wait()
	p.hangs = nil // the next batch tries anew
}

func (s *Supervisor) placeOne(ctx context.Context, p *placer, a action) {
	p.mu.Lock()
	if p.look == nil || time.Since(p.look.at) > surveyAge || p.look.era != s.era() {
		p.look = s.survey()
	}
	r, err := s.request(p.look, a.spec, a.previous, a.purpose), p.hangs
	for i := range r.Members {
		m := &r.Members[i]
		m.Draining = m.Draining || m.Name == a.avoid && a.purpose != toPlace && a.purpose != toCheck
	}
	p.mu.Unlock()
	var d sdk.Decision
	if err == nil {
		d, err = s.choose(ctx, a.spec, r)
	}
	p.mu.Lock()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		p.hangs = err // nobody in this batch waits for it again
	}
	if err == nil && a.purpose != toCheck && d.Member != a.previous {
		p.look.reserve(d.Member, a.spec)
	}
	p.mu.Unlock()
	s.do(func(c *core, now instant) { c.placed(now, a.id, a.op, d, err) })
}

// era changes when the members do.
func (s *Supervisor) era() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.core.era)
}

// choose asks a strategy once.
func (s *Supervisor) choose(ctx context.Context, spec *Spec, r sdk.PlacementRequest) (sdk.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	p, plugin, err := s.cfg.Placement(ctx, spec.Placement)
	if err != nil {
		return sdk.Decision{}, err
	}
	d, err := p.Choose(ctx, r)
	var call *sdk.CallError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%s does not answer within %s: %w", plugin, placeTime, err)
	case (errors.Is(err, sdk.ErrNoQuorum) || errors.Is(err, sdk.ErrNoCandidate)) && errors.As(err, &call):
		err = &refusalError{call}
	}
	return d, err
}

// refusalError is the answer that nobody may have a child. It is told in the
// strategy's own words: no call has failed.
type refusalError struct{ *sdk.CallError }

func (e *refusalError) Error() string {
	return strings.TrimPrefix(e.CallError.Error(), "call "+e.Method+": ")
}

// survey is what is known of the members at one time, for placements.
type survey struct {
	at      time.Time
	era     uint64
	members []sdk.Member // without what depends on the child
}

// survey looks at all members and children.
func (s *Supervisor) survey() *survey {
	members := s.cfg.Members()
	own := s.readInfo()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &survey{at: time.Now(), era: uint64(s.core.era)}
	at := map[string]int{}
	for _, m := range members {
		i := s.infos[m.Name]
		if m.Name == s.cfg.Member {
			i = own
		}
		at[m.Name] = len(v.members)
		v.members = append(v.members, sdk.Member{
			Name: m.Name, State: memberStates[m.State], Labels: labelled(m.Name, i.Labels), Draining: s.drains[m.Name].On,
			Resources: sdk.Resources{CPUs: i.CPUs, Load: i.Load, MemoryTotal: i.MemoryTotal, MemoryAvailable: i.MemoryAvailable},
		})
	}
	for _, ch := range s.core.children {
		m := ch.assigned()
		n, ok := at[m]
		if !ok {
			continue
		}
		f := ch.fact(m)
		if m == s.cfg.Member {
			f = ch.told
		}
		// One that began after its member last told its load does not show in it.
		if f != nil && f.Running && f.Started > 0 && f.Started < s.infos[m].At {
			v.members[n].Resources.Children++
		} else {
			v.reserveAt(n, ch.rec.Intent.Spec.rest)
		}
	}
	return v
}

var memberStates = map[cluster.State]sdk.MemberState{
	cluster.Alive: sdk.MemberAlive, cluster.Suspect: sdk.MemberSuspect, cluster.Unreachable: sdk.MemberSuspect,
	cluster.Dead: sdk.MemberDead, cluster.Left: sdk.MemberLeft,
}

// reserve notes what was just placed.
func (v *survey) reserve(member string, spec *Spec) {
	if i := slices.IndexFunc(v.members, func(m sdk.Member) bool { return m.Name == member }); i >= 0 {
		v.reserveAt(i, spec)
	}
}

func (v *survey) reserveAt(i int, spec *Spec) {
	r := &v.members[i].Resources.Reserved
	r.Children++
	r.Memory += spec.Limits.Memory
	r.CPUs += spec.Limits.CPUs
}

// request is the question about one child.
func (s *Supervisor) request(v *survey, spec *Spec, previous string, why purpose) sdk.PlacementRequest {
	r := sdk.PlacementRequest{Child: spec.child(), Members: slices.Clone(v.members), Previous: previous}
	var near []string
	if spec.Near != "" && s.cfg.Near != nil {
		near = s.cfg.Near(spec.Near)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.core.assigned(spec.ID)
	for i := range r.Members {
		m := &r.Members[i]
		m.Draining = s.drains[m.Name].On || why == toMove && m.Name == previous // anywhere but there
		if slices.Contains(near, m.Name) {
			m.Targets = []string{spec.Near}
		}
		for _, id := range spec.Apart {
			if id != spec.ID && s.core.assigned(id) == m.Name {
				m.Children = append(m.Children, id)
			}
		}
		// The child itself is no part of the load that it is placed by.
		if counts == m.Name {
			if res := &m.Resources; res.Children > 0 {
				res.Children--
			} else if res.Reserved.Children > 0 {
				res.Reserved.Children--
			}
		}
	}
	return r
}

// assigned is the member that is to run a child now; empty: none.
func (c *core) assigned(id string) string {
	if ch := c.children[id]; ch != nil {
		return ch.assigned()
	}
	return ""
}

func (ch *child) assigned() string {
	if ch.rec.Intent.Wanted != wantRunning {
		return ""
	}
	if _, ended := ch.rec.ended(); ended {
		return ""
	}
	return ch.rec.Assignment.Member
}

// Explain asks what a placement strategy says of a spec, and places nothing. Of a
// child that is there, it says where it would go if it were placed now.
func (s *Supervisor) Explain(ctx context.Context, spec Spec) (Explanation, error) {
	spec = spec.complete()
	if err := spec.check(); err != nil {
		return Explanation{}, err
	}
	s.mu.Lock()
	previous := ""
	if ch := s.core.children[spec.ID]; ch != nil && ch.there() {
		previous = ch.rec.Assignment.Member
	}
	s.mu.Unlock()
	_, plugin, err := s.cfg.Placement(ctx, spec.Placement)
	if err != nil {
		return Explanation{}, fmt.Errorf("place child %s: %w", spec.ID, err)
	}
	d, err := s.choose(ctx, &spec, s.request(s.survey(), &spec, previous, toPlace))
	e := Explanation{Strategy: plugin, Chosen: d.Member, Scores: d.Scores}
	slices.SortFunc(e.Scores, func(a, b sdk.Score) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Member, b.Member))
	})
	switch {
	case err == nil:
		return e, nil
	case errors.Is(err, sdk.ErrNoQuorum) || errors.Is(err, sdk.ErrNoCandidate):
		e.Chosen, e.Reason = "", err.Error()
		return e, nil
	}
	return Explanation{}, fmt.Errorf("place child %s: %w", spec.ID, err)
}

// labelled are the labels of a member with one more, its name: what is to run there
// and nowhere else has it as its constraint.
func labelled(member string, labels map[string]string) map[string]string {
	out := map[string]string{LabelMember: member}
	maps.Copy(out, labels)
	return out
}

// LabelMember is the label that each member has without being given it, with its
// name, unless it is given another.
const LabelMember = "member"
