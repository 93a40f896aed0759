package plugintest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/debughost/debughost/sdk"
)

var placementChecks = []check{
	{name: "placement/choice", kind: sdk.KindPlacement, run: withConfig(checkChoice),
		about: "The choice is an alive member that is not draining and that the child's labels, near and apart allow."},
	{name: "placement/scores", kind: sdk.KindPlacement, run: withConfig(checkScores),
		about: "Each member of the request has a score, also in a refusal; the chosen one has the highest of those that are not excluded, and who could not be chosen is excluded with a reason."},
	{name: "placement/deterministic", kind: sdk.KindPlacement, run: withConfig(checkDeterministic),
		about: "The same request gets the same answer: again, in another order of members, after other requests, and from another process."},
	{name: "placement/refusal", kind: sdk.KindPlacement, run: withConfig(checkRefusal),
		about: "Where nobody may take the child the answer is a refusal with a reason, never a member and never nothing; a child is to be stopped only for want of a quorum."},
	{name: "placement/movement", kind: sdk.KindPlacement, run: withConfig(checkMovement),
		about: "Children come to rest. When a member joins about its share of them moves at most, and when one is lost hardly any but its own."},
	{name: "placement/bounded", kind: sdk.KindPlacement, run: withConfig(checkBounded),
		about: "A choice among a thousand members takes less than a second."},
}

// sample is a request that depends on its number alone. All its members are
// alive when it is even; the first one always may take the child.
func sample(n, members int) sdk.PlacementRequest {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	out := sdk.PlacementRequest{Child: sdk.ChildSpec{
		ID: "child-" + strconv.Itoa(n), Strategy: "sandbox-plugintest", Config: []byte("{}"),
		MaxRestarts: 3, MaxRestartsIn: 5 * time.Second, ShutdownTimeout: 5 * time.Second,
		Limits: sdk.SandboxLimits{Memory: 256 << 20, CPUs: 0.5},
	}}
	for i := range members {
		m := sdk.Member{Name: "member-" + strconv.Itoa(i), State: sdk.MemberAlive, Labels: map[string]string{"zone": "a"}, Resources: sdk.Resources{
			CPUs: 1 + r.IntN(64), Load: r.Float64() * 8, MemoryTotal: 64 << 30, MemoryAvailable: 8<<30 + r.Uint64N(56<<30), Children: r.IntN(100),
			Reserved: sdk.Reserved{Children: r.IntN(5), Memory: r.Uint64N(1 << 30), CPUs: r.Float64()},
		}}
		if n%2 == 1 && i%4 == 3 {
			m.State = []sdk.MemberState{sdk.MemberSuspect, sdk.MemberDead, sdk.MemberLeft}[r.IntN(3)]
		}
		out.Members = append(out.Members, m)
	}
	if n%3 == 0 {
		out.Previous = out.Members[r.IntN(members)].Name
	}
	if n%5 > 0 {
		constrain(&out, n%5)
	}
	return out
}

// constrain lets only every second member take the child, in one of four ways.
func constrain(r *sdk.PlacementRequest, way int) {
	switch way {
	case 1:
		r.Child.Constraints = map[string]string{"zone": "b"}
	case 2:
		r.Child.Near = "shop@db1"
	case 3:
		r.Child.Apart = []string{"child-other"}
	}
	for i := range r.Members {
		m, takes := &r.Members[i], i%2 == 0
		switch {
		case way == 1 && takes:
			m.Labels = map[string]string{"zone": "b", "disk": "ssd"}
		case way == 2 && takes:
			m.Targets = []string{"shop@db1"}
		case way == 3 && !takes:
			m.Children = []string{"child-other"}
		case way == 4 && !takes:
			m.Draining = true
		}
	}
}

func (s *process) choose(ctx context.Context, r sdk.PlacementRequest) (d sdk.Decision, err error) {
	err = within(ctx, s.plugin.Timeout, "choose for "+r.Child.ID, func(ctx context.Context) error {
		d, err = s.Placement().Choose(ctx, r)
		return err
	})
	return d, s.explain(err)
}

// checkChoice leaves it to package wire to see a choice that is not allowed.
func checkChoice(ctx context.Context, s *process) error {
	for n := range 200 {
		if _, err := s.choose(ctx, sample(n, 1+n%9)); err != nil {
			return err
		}
	}
	return nil
}

func checkScores(ctx context.Context, s *process) error {
	for n := range 200 {
		r := sample(n, 1+n%9)
		d, err := s.choose(ctx, r)
		if err != nil {
			return err
		}
		if err := explained(r, d); err != nil {
			return fmt.Errorf("choose for %s: %w", r.Child.ID, err)
		}
	}
	for what, r := range impossible() {
		d, _ := s.choose(ctx, r)
		if err := explained(r, d); err != nil {
			return fmt.Errorf("choose among %s: %w", what, err)
		}
	}
	return nil
}

// explained checks the scores of a decision, or of a refusal.
func explained(r sdk.PlacementRequest, d sdk.Decision) error {
	scores := make(map[string]sdk.Score)
	for _, score := range d.Scores {
		scores[score.Member] = score
	}
	for _, m := range r.Members {
		score, ok := scores[m.Name]
		switch why := r.Excludes(m); {
		case !ok:
			return fmt.Errorf("%s has no score", m.Name)
		case why != "" && score.Excluded == "":
			return fmt.Errorf("%s is not excluded, though %s", m.Name, why)
		case d.Member == "" && score.Excluded == "":
			return fmt.Errorf("it refuses, and %s is not excluded", m.Name)
		case d.Member == m.Name && score.Excluded != "":
			return fmt.Errorf("%s is chosen and excluded at once: %s", m.Name, score.Excluded)
		case d.Member != "" && score.Excluded == "" && score.Total > scores[d.Member].Total:
			return fmt.Errorf("it chooses %s with a score of %v, and %s has %v", d.Member, scores[d.Member].Total, m.Name, score.Total)
		}
	}
	return nil
}

func checkDeterministic(ctx context.Context, a *process) error {
	return withConfig(func(ctx context.Context, b *process) error { return agree(ctx, a, b) })(ctx, a.plugin)
}

// agree asks two processes of one plugin the same.
func agree(ctx context.Context, a, b *process) error {
	for n := range 100 {
		r := sample(n, 5+n%5)
		want, err := a.choose(ctx, r)
		if err != nil {
			return err
		}
		rand.New(rand.NewPCG(uint64(n), 2)).Shuffle(len(r.Members), func(i, j int) { r.Members[i], r.Members[j] = r.Members[j], r.Members[i] })
		// Only the other process has not been asked anything before the first.
		for how, s := range map[string]*process{"again in another order": a, "by another process": b} {
			got, err := s.choose(ctx, r)
			if err != nil {
				return err
			}
			if got.Member != want.Member {
				return fmt.Errorf("%s went to %s, and %s to %s", r.Child.ID, want.Member, how, got.Member)
			}
			if !maps.EqualFunc(totals(got), totals(want), func(a, b float64) bool { return a == b }) {
				return fmt.Errorf("%s was scored %v, and %s %v", r.Child.ID, totals(want), how, totals(got))
			}
		}
	}
	return nil
}

func totals(d sdk.Decision) map[string]float64 {
	out := make(map[string]float64, len(d.Scores))
	for _, s := range d.Scores {
		out[s.Member] = s.Total
	}
	return out
}

// impossible are requests that nobody may be chosen for.
func impossible() map[string]sdk.PlacementRequest {
	with := func(change func(*sdk.PlacementRequest, *sdk.Member)) sdk.PlacementRequest {
		r := sample(10, 3)
		for i := range r.Members {
			change(&r, &r.Members[i])
		}
		return r
	}
	return map[string]sdk.PlacementRequest{
		"no members":            {Child: sample(10, 1).Child},
		"dead members only":     with(func(_ *sdk.PlacementRequest, m *sdk.Member) { m.State = sdk.MemberDead }),
		"suspects only":         with(func(_ *sdk.PlacementRequest, m *sdk.Member) { m.State = sdk.MemberSuspect }),
		"draining members only": with(func(_ *sdk.PlacementRequest, m *sdk.Member) { m.Draining = true }),
		"members without the label": with(func(r *sdk.PlacementRequest, _ *sdk.Member) {
			r.Child.Constraints = map[string]string{"plugintest": "nowhere"}
		}),
		"members far from the target": with(func(r *sdk.PlacementRequest, _ *sdk.Member) { r.Child.Near = "plugintest@nowhere" }),
		"members with the child it is to be apart from": with(func(r *sdk.PlacementRequest, m *sdk.Member) {
			r.Child.Apart, m.Children = []string{"child-other"}, []string{"child-other"}
		}),
	}
}

func checkRefusal(ctx context.Context, s *process) error {
	requests := impossible()
	for _, what := range slices.Sorted(maps.Keys(requests)) {
		d, err := s.choose(ctx, requests[what])
		if !errors.Is(err, sdk.ErrNoQuorum) && !errors.Is(err, sdk.ErrNoCandidate) {
			return fmt.Errorf("choose among %s: got %q and %v, want a refusal", what, d.Member, err)
		}
		var refusal *sdk.CallError
		if errors.As(err, &refusal) && (refusal.Message == "" || refusal.Message == refusal.Cause.Error()) {
			return fmt.Errorf("choose among %s: the refusal has no reason beside %q", what, refusal.Message)
		}
	}
	return s.answers(ctx, "a refusal")
}

// checkMovement plays a small cluster through.
func checkMovement(ctx context.Context, s *process) error {
	const children, members = 241, 3 // never the same number for each member
	c := Cluster{Strategy: chooser(s.choose), Late: children / 10}
	join := func(i int) {
		c.Members = append(c.Members, sdk.Member{Name: "member-" + strconv.Itoa(i), State: sdk.MemberAlive, Resources: sdk.Resources{
			CPUs: 32, MemoryTotal: 64 << 30, MemoryAvailable: 60 << 30,
		}})
	}
	for i := range members {
		join(i)
	}
	for i := range children {
		if err := c.Place(ctx, sdk.ChildSpec{ID: "child-" + strconv.Itoa(i), Limits: sdk.SandboxLimits{Memory: 64 << 20, CPUs: 0.05}}); err != nil {
			return err
		}
	}
	rest := func(after string, most int) error {
		moves, err := c.Rest(ctx)
		if err == nil && moves > most {
			err = fmt.Errorf("%d of %d children were moved, want at most %d", moves, children, most)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", after, err)
		}
		return nil
	}
	if err := rest("after the start of all", children/5); err != nil {
		return err
	}
	join(members)
	if err := rest("after a fourth member joined three", children/(members+1)*3/2); err != nil {
		return err
	}
	if err := c.Lose(ctx, "member-0"); err != nil {
		return err
	}
	return rest("after one of four members was lost and its children were placed anew", children/10)
}

// chooser is a function as a strategy.
type chooser func(context.Context, sdk.PlacementRequest) (sdk.Decision, error)

func (f chooser) Choose(ctx context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	return f(ctx, r)
}

func checkBounded(ctx context.Context, s *process) error {
	return within(ctx, time.Second, "choose among a thousand", func(ctx context.Context) error {
		_, err := s.choose(ctx, sample(0, 1000))
		return err
	})
}
