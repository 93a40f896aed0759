package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

type targetService struct {
	controlpb.UnimplementedTargetsServer
	engine  TargetEngine
	forward *forwarder
}

// costTime is how long the list of targets waits for what other members know.
const costTime = time.Second

// ListTargets tells what this member knows of all targets. What they cost each
// member knows of its own; one that does not answer leaves out the costs of these.
func (s *targetService) ListTargets(ctx context.Context, req *controlpb.ListTargetsRequest) (*controlpb.ListTargetsResponse, error) {
	infos := slices.Clone(s.engine.Targets())
	slices.SortFunc(infos, func(a, b target.Info) int { return strings.Compare(a.Node, b.Node) })
	res := &controlpb.ListTargetsResponse{}
	for _, i := range infos {
		t := targetPB(i)
		if req.GetCosts() {
			t.Cost = costPB(i.Cost)
		}
		res.Targets = append(res.Targets, t)
	}
	if req.GetCosts() && !callerFrom(ctx).Forwarded {
		s.addCosts(ctx, res.GetTargets())
	}
	return res, nil
}

// addCosts asks the members that own some of the targets.
func (s *targetService) addCosts(ctx context.Context, targets []*controlpb.Target) {
	if !slices.ContainsFunc(targets, func(t *controlpb.Target) bool { return t.GetCost() == nil && t.GetOwner() != "" }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, costTime)
	defer cancel()
	answers, _ := s.forward.others(ctx, controlpb.Targets_ListTargets_FullMethodName, &controlpb.ListTargetsRequest{Costs: true})
	for _, t := range targets {
		a, ok := answers[t.GetOwner()].(*controlpb.ListTargetsResponse)
		if !ok || t.GetCost() != nil {
			continue
		}
		for _, theirs := range a.GetTargets() {
			if theirs.GetNode() == t.GetNode() && theirs.GetOwner() == t.GetOwner() {
				t.Cost = theirs.GetCost()
			}
		}
	}
}

func costPB(c target.Cost) *controlpb.TargetCost {
	if c.Since.IsZero() {
		return nil
	}
	return &controlpb.TargetCost{
		Since: timePB(c.Since), Calls: c.Calls, Failed: c.Failed, TimedOut: c.TimedOut, CallTime: durationpb.New(c.CallTime),
		Received: c.Received, Sent: c.Sent, Reductions: c.Reductions, Rows: c.Rows,
		LogEvents: c.LogEvents, LogDropped: c.LogDropped, GarbageCollections: c.Collections, Slowed: c.Slowed, Cut: c.Cut,
	}
}

func targetPB(i target.Info) *controlpb.Target {
	return &controlpb.Target{
		Node:       clean(i.Node),
		State:      string(i.State),
		Reason:     clean(i.Reason),
		Hint:       clean(i.Hint),
		OtpRelease: clean(i.OTPRelease),
		Owner:      clean(i.Owner),
		Since:      timePB(i.Since),
		Topologies: cleanAll(i.Topologies),
		Creation:   i.Creation,
		Agent:      clean(i.Agent),
	}
}
