package control

import (
	"context"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// nodesService asks nodes about what is not one process.
type nodesService struct {
	controlpb.UnimplementedNodesServer
	ask Questions
}

func (s *nodesService) ListNames(ctx context.Context, req *controlpb.ListNamesRequest) (*controlpb.ListNamesResponse, error) {
	const tried = "list names"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	switch {
	case err != nil:
		return nil, err
	case len(req.GetFilter()) > maxText:
		return nil, badRequest(tried, "the filter is longer than %d bytes", maxText)
	case req.GetLimit() > target.MaxNames:
		return nil, badRequest(tried, "%d names of each node are wanted, %d may be", req.GetLimit(), target.MaxNames)
	}
	res := &controlpb.ListNamesResponse{}
	s.ask.Names(ctx, target.NamesQuery{Ask: ask, Filter: req.GetFilter(), Limit: int(req.GetLimit())},
		answersTo(&res.Errors, func(node string, names target.Names) {
			res.Totals = append(res.Totals, &controlpb.NodeTotal{Node: clean(node), Total: uint64(names.Total)})
			for _, n := range names.Names {
				res.Names = append(res.Names, &controlpb.RegisteredName{
					Node: clean(node), Name: clean(n.Name), Kind: n.Kind, Pid: n.Pid, Memory: n.Memory,
					MessageQueueLen: n.MessageQueueLen, InitialCall: clean(n.InitialCall),
				})
			}
		}))
	if err := ctx.Err(); err != nil {
		return nil, describe(tried, err)
	}
	return res, nil
}
