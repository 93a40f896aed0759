package control

import (
	"cmp"
	"context"
	"slices"
	"strings"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

// placementService asks the placement strategies of this member.
type placementService struct {
	controlpb.UnimplementedPlacementServer
	children *childService
}

func (s *placementService) ExplainPlacement(ctx context.Context, req *controlpb.ExplainPlacementRequest) (*controlpb.ExplainPlacementResponse, error) {
	id := cmp.Or(req.GetId(), req.GetSpec().GetId())
	tried := "explain the placement of " + clean(id)
	if err := s.children.child(tried, id); err != nil {
		return nil, err
	}
	spec, err := s.spec(ctx, tried, req)
	if err != nil {
		return nil, err
	}
	x, err := s.children.engine.Explain(ctx, spec)
	if err != nil {
		return nil, childError(tried, err)
	}
	return explanationPB(x), nil
}

// spec is the one that is meant: of a child that is there, or the request's.
func (s *placementService) spec(ctx context.Context, tried string, req *controlpb.ExplainPlacementRequest) (supervisor.Spec, error) {
	switch {
	case req.GetId() != "" && req.GetSpec() != nil:
		return supervisor.Spec{}, badRequest(tried, "it names a child and has a spec, and only one of them can count")
	case req.GetSpec() != nil:
		return specOf(tried, req.GetSpec())
	}
	child, err := s.children.engine.ChildByID(ctx, req.GetId())
	if err != nil {
		return supervisor.Spec{}, childError(tried, err)
	}
	return child.Spec, nil
}

func explanationPB(x supervisor.Explanation) *controlpb.ExplainPlacementResponse {
	res := &controlpb.ExplainPlacementResponse{Strategy: clean(x.Strategy), Chosen: clean(x.Chosen), Reason: clean(x.Reason)}
	scores := slices.Clone(x.Scores)
	slices.SortFunc(scores, func(a, b sdk.Score) int {
		return cmp.Or(rank(a, x.Chosen)-rank(b, x.Chosen), cmp.Compare(b.Total, a.Total), strings.Compare(a.Member, b.Member))
	})
	for _, score := range scores {
		p := &controlpb.PlacementScore{
			Member: clean(score.Member), Total: score.Total, Parts: map[string]float64{}, Excluded: clean(score.Excluded),
		}
		for name, part := range score.Parts {
			p.Parts[clean(name)] = part
		}
		res.Scores = append(res.Scores, p)
	}
	return res
}

// rank puts the chosen member first and those that could not be chosen last.
func rank(s sdk.Score, chosen string) int {
	switch {
	case s.Member == chosen && chosen != "":
		return 0
	case s.Excluded == "":
		return 1
	}
	return 2
}
