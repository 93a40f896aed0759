package wire

import (
	"context"
	"fmt"
	"math"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

const chooseMethod = "Placement.Choose"

// Placement is the plugin's strategy. A member that it chooses is one that the
// request does not exclude. With sdk.ErrNoQuorum and sdk.ErrNoCandidate the decision
// has the scores.
func (c *Client) Placement() sdk.Placement {
	return &placement{pluginpb.NewPlacementClient(c.conn)}
}

type placement struct{ rpc pluginpb.PlacementClient }

var _ sdk.Placement = (*placement)(nil)

func (p *placement) Choose(ctx context.Context, request sdk.PlacementRequest) (sdk.Decision, error) {
	out, err := placementRequestOut(request)
	if err != nil {
		return sdk.Decision{}, err
	}
	in, err := p.rpc.Choose(ctx, out)
	if err != nil {
		return sdk.Decision{}, callError(ctx, chooseMethod, err)
	}
	return decisionIn(request, in)
}

// decisionIn is the answer to a request, if it keeps to the contract.
func decisionIn(request sdk.PlacementRequest, in *pluginpb.ChooseResponse) (sdk.Decision, error) {
	members := make(map[string]sdk.Member, len(request.Members))
	for _, m := range request.Members {
		members[m.Name] = m
	}
	scores, err := scoresIn(members, in.GetScores())
	if err != nil {
		return sdk.Decision{}, err
	}
	d := sdk.Decision{Scores: scores}
	switch o := in.GetOutcome().(type) {
	case *pluginpb.ChooseResponse_Member:
		m, ok := members[o.Member]
		if !ok {
			return sdk.Decision{}, garbage(chooseMethod, "it chose %.64q, which is no member of the request", o.Member)
		}
		if why := request.Excludes(m); why != "" {
			return sdk.Decision{}, garbage(chooseMethod, "it chose %.64q, which cannot take the child: %s", o.Member, why)
		}
		d.Member = o.Member
		return d, nil
	case *pluginpb.ChooseResponse_Refusal:
		cause := map[pluginpb.RefusalCode]error{
			pluginpb.RefusalCode_REFUSAL_CODE_NO_QUORUM:    sdk.ErrNoQuorum,
			pluginpb.RefusalCode_REFUSAL_CODE_NO_CANDIDATE: sdk.ErrNoCandidate,
		}[o.Refusal.GetCode()]
		switch d.Stop = o.Refusal.GetStop(); {
		case cause == nil:
			return sdk.Decision{}, garbage(chooseMethod, "it refused with the unknown code %d", o.Refusal.GetCode())
		case d.Stop && cause != sdk.ErrNoQuorum:
			return sdk.Decision{}, garbage(chooseMethod, "it wants a running child stopped, though there is a quorum")
		}
		return d, &sdk.CallError{Method: chooseMethod, Message: cut(o.Refusal.GetMessage()), Advice: cut(o.Refusal.GetHint()), Cause: cause}
	}
	return sdk.Decision{}, garbage(chooseMethod, "it neither chose nor refused")
}

// scoresIn checks that the scores are of members, and are numbers that can be
// told on: JSON has no infinity.
func scoresIn(members map[string]sdk.Member, in []*pluginpb.Score) ([]sdk.Score, error) {
	if len(in) > len(members) {
		return nil, garbage(chooseMethod, "it has %d scores for %d members", len(in), len(members))
	}
	var scores []sdk.Score
	scored := make(map[string]bool, len(in))
	for _, s := range in {
		name := s.GetMember()
		if _, ok := members[name]; !ok {
			return nil, garbage(chooseMethod, "it scores %.64q, which is no member of the request", name)
		}
		if scored[name] {
			return nil, garbage(chooseMethod, "it scores %.64q twice", name)
		}
		scored[name] = true
		if !finite(s.GetTotal()) {
			return nil, garbage(chooseMethod, "the score of %.64q is not a finite number", name)
		}
		if len(s.GetParts()) > sdk.MaxParts {
			return nil, garbage(chooseMethod, "the score of %.64q has %d parts, want at most %d", name, len(s.GetParts()), sdk.MaxParts)
		}
		for part, value := range s.GetParts() {
			if len(part) > 64 || !finite(value) {
				return nil, garbage(chooseMethod, "the score of %.64q has the part %.64q: want a name of 64 bytes at most and a finite number", name, part)
			}
		}
		scores = append(scores, sdk.Score{Member: name, Total: s.GetTotal(), Parts: s.GetParts(), Excluded: cut(s.GetExcluded())})
	}
	return scores, nil
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

var (
	restartsOut = map[sdk.Restart]pluginpb.Restart{"": pluginpb.Restart_RESTART_PERMANENT, sdk.RestartPermanent: pluginpb.Restart_RESTART_PERMANENT, sdk.RestartTransient: pluginpb.Restart_RESTART_TRANSIENT, sdk.RestartTemporary: pluginpb.Restart_RESTART_TEMPORARY}
	handoffsOut = map[sdk.Handoff]pluginpb.Handoff{"": pluginpb.Handoff_HANDOFF_NONE, sdk.HandoffNone: pluginpb.Handoff_HANDOFF_NONE, sdk.HandoffSnapshot: pluginpb.Handoff_HANDOFF_SNAPSHOT}
	statesOut   = map[sdk.MemberState]pluginpb.MemberState{sdk.MemberAlive: pluginpb.MemberState_MEMBER_STATE_ALIVE, sdk.MemberSuspect: pluginpb.MemberState_MEMBER_STATE_SUSPECT, sdk.MemberDead: pluginpb.MemberState_MEMBER_STATE_DEAD, sdk.MemberLeft: pluginpb.MemberState_MEMBER_STATE_LEFT}
)

func placementRequestOut(r sdk.PlacementRequest) (*pluginpb.ChooseRequest, error) {
	c := r.Child
	out := &pluginpb.ChooseRequest{Previous: r.Previous, Child: &pluginpb.ChildSpec{
		Id: c.ID, Strategy: c.Strategy, Config: c.Config, MaxRestarts: count(c.MaxRestarts), MaxRestartsIn: durationpb.New(c.MaxRestartsIn),
		ShutdownTimeout: durationpb.New(c.ShutdownTimeout), Constraints: c.Constraints, Near: c.Near, Apart: c.Apart,
		Limits: &pluginpb.ChildLimits{Memory: c.Limits.Memory, Cpus: c.Limits.CPUs, Processes: count(c.Limits.Processes), OpenFiles: count(c.Limits.OpenFiles), Disk: c.Limits.Disk},
	}}
	var ok bool
	if out.Child.Restart, ok = restartsOut[c.Restart]; !ok {
		return nil, fmt.Errorf("place child %q: unknown restart type %q", c.ID, c.Restart)
	}
	if out.Child.Handoff, ok = handoffsOut[c.Handoff]; !ok {
		return nil, fmt.Errorf("place child %q: unknown handoff %q", c.ID, c.Handoff)
	}
	named := make(map[string]bool, len(r.Members))
	for _, m := range r.Members {
		state, ok := statesOut[m.State]
		if !ok {
			return nil, fmt.Errorf("place child %q: member %s has the unknown state %q", c.ID, m.Name, m.State)
		}
		if named[m.Name] {
			return nil, fmt.Errorf("place child %q: member %s is there twice", c.ID, m.Name)
		}
		named[m.Name] = true
		out.Members = append(out.Members, &pluginpb.Member{Name: m.Name, State: state, Labels: m.Labels, Resources: resourcesOut(m.Resources),
			Draining: m.Draining, Targets: m.Targets, Children: m.Children})
	}
	return out, nil
}

func resourcesOut(r sdk.Resources) *pluginpb.Resources {
	return &pluginpb.Resources{
		Cpus: count(r.CPUs), Load: r.Load, MemoryTotal: r.MemoryTotal, MemoryAvailable: r.MemoryAvailable, Children: count(r.Children),
		Reserved: &pluginpb.Reserved{Children: count(r.Reserved.Children), Memory: r.Reserved.Memory, Cpus: r.Reserved.CPUs},
	}
}

// count is a number of things as the wire has it: never negative.
func count(n int) uint32 { return uint32(min(uint64(max(n, 0)), math.MaxUint32)) }
