package sdk

import (
	"context"
	"errors"
	"fmt"

	pluginpb "github.com/debughost/debughost/sdk/proto"
)

type placementServer struct {
	pluginpb.UnimplementedPlacementServer
	base      *baseServer
	placement Placement
}

func (p *placementServer) Choose(ctx context.Context, in *pluginpb.ChooseRequest) (*pluginpb.ChooseResponse, error) {
	if err := p.base.ready(); err != nil {
		return nil, err
	}
	request, err := placementRequestIn(in)
	if err != nil {
		return nil, toStatus(err)
	}
	decision, err := p.placement.Choose(ctx, request)
	out := &pluginpb.ChooseResponse{}
	switch {
	case errors.Is(err, ErrNoQuorum):
		out.Outcome = refusal(pluginpb.RefusalCode_REFUSAL_CODE_NO_QUORUM, decision, err)
	case errors.Is(err, ErrNoCandidate):
		out.Outcome = refusal(pluginpb.RefusalCode_REFUSAL_CODE_NO_CANDIDATE, decision, err)
	case err != nil:
		return nil, toStatus(err)
	default:
		out.Outcome = &pluginpb.ChooseResponse_Member{Member: clean(decision.Member)}
	}
	for _, s := range decision.Scores {
		out.Scores = append(out.Scores, &pluginpb.Score{Member: clean(s.Member), Total: s.Total, Parts: s.Parts, Excluded: clean(s.Excluded)})
	}
	return out, nil
}

func refusal(code pluginpb.RefusalCode, d Decision, err error) *pluginpb.ChooseResponse_Refusal {
	return &pluginpb.ChooseResponse_Refusal{Refusal: &pluginpb.Refusal{Code: code, Message: clean(err.Error()), Stop: d.Stop, Hint: clean(Hint(err))}}
}

// An enum value that this plugin does not know is an error: to take it for
// another could place a child wrongly.
var (
	restartsIn = map[pluginpb.Restart]Restart{pluginpb.Restart_RESTART_PERMANENT: RestartPermanent, pluginpb.Restart_RESTART_TRANSIENT: RestartTransient, pluginpb.Restart_RESTART_TEMPORARY: RestartTemporary}
	handoffsIn = map[pluginpb.Handoff]Handoff{pluginpb.Handoff_HANDOFF_NONE: HandoffNone, pluginpb.Handoff_HANDOFF_SNAPSHOT: HandoffSnapshot}
	statesIn   = map[pluginpb.MemberState]MemberState{pluginpb.MemberState_MEMBER_STATE_ALIVE: MemberAlive, pluginpb.MemberState_MEMBER_STATE_SUSPECT: MemberSuspect, pluginpb.MemberState_MEMBER_STATE_DEAD: MemberDead, pluginpb.MemberState_MEMBER_STATE_LEFT: MemberLeft}
)

func placementRequestIn(in *pluginpb.ChooseRequest) (PlacementRequest, error) {
	c := in.GetChild()
	out := PlacementRequest{Previous: in.GetPrevious(), Child: ChildSpec{
		ID: c.GetId(), Strategy: c.GetStrategy(), Config: c.GetConfig(),
		MaxRestarts: int(c.GetMaxRestarts()), MaxRestartsIn: c.GetMaxRestartsIn().AsDuration(),
		ShutdownTimeout: c.GetShutdownTimeout().AsDuration(), Constraints: c.GetConstraints(),
		Limits: childLimitsIn(c.GetLimits()), Near: c.GetNear(), Apart: c.GetApart(),
	}}
	var ok bool
	if out.Child.Restart, ok = restartsIn[c.GetRestart()]; !ok {
		return out, fmt.Errorf("read child %.64q: unknown restart type %v", c.GetId(), c.GetRestart())
	}
	if out.Child.Handoff, ok = handoffsIn[c.GetHandoff()]; !ok {
		return out, fmt.Errorf("read child %.64q: unknown handoff %v", c.GetId(), c.GetHandoff())
	}
	for _, m := range in.GetMembers() {
		member := Member{Name: m.GetName(), Labels: m.GetLabels(), Resources: resourcesIn(m.GetResources()),
			Draining: m.GetDraining(), Targets: m.GetTargets(), Children: m.GetChildren()}
		if member.State, ok = statesIn[m.GetState()]; !ok {
			return out, fmt.Errorf("read member %.64q: unknown state %v", m.GetName(), m.GetState())
		}
		out.Members = append(out.Members, member)
	}
	return out, nil
}

func childLimitsIn(l *pluginpb.ChildLimits) SandboxLimits {
	return SandboxLimits{Memory: l.GetMemory(), CPUs: l.GetCpus(), Processes: int(l.GetProcesses()), OpenFiles: int(l.GetOpenFiles()), Disk: l.GetDisk()}
}

func resourcesIn(r *pluginpb.Resources) Resources {
	reserved := r.GetReserved()
	return Resources{
		CPUs: int(r.GetCpus()), Load: r.GetLoad(), MemoryTotal: r.GetMemoryTotal(), MemoryAvailable: r.GetMemoryAvailable(), Children: int(r.GetChildren()),
		Reserved: Reserved{Children: int(reserved.GetChildren()), Memory: reserved.GetMemory(), CPUs: reserved.GetCpus()},
	}
}
