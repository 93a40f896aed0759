package control

import (
	"context"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// resourcesService tells the ports, timers and groups of nodes.
type resourcesService struct {
	controlpb.UnimplementedResourcesServer
	ask Questions
}

func (s *resourcesService) ListPorts(ctx context.Context, req *controlpb.ListPortsRequest) (*controlpb.ListPortsResponse, error) {
	const tried = "list ports"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	switch {
	case err != nil:
		return nil, err
	case req.GetLimit() > target.MaxPorts:
		return nil, badRequest(tried, "%d ports of each node are wanted, %d may be", req.GetLimit(), target.MaxPorts)
	}
	switch req.GetSort() {
	case "", target.PortsByBytes, target.PortsByQueue, target.PortsByMemory:
	default:
		return nil, badRequest(tried, "sort %q is none of bytes, queue, memory", req.GetSort())
	}
	res := &controlpb.ListPortsResponse{}
	s.ask.Ports(ctx, target.PortsQuery{Ask: ask, Sort: req.GetSort(), Limit: int(req.GetLimit())},
		answersTo(&res.Errors, func(node string, ports target.Ports) {
			res.Totals = append(res.Totals, totalPB(node, uint64(ports.Total)))
			for _, p := range ports.Ports {
				res.Ports = append(res.Ports, portPB(node, p))
			}
		}))
	return unlessGivenUp(ctx, tried, res)
}

func portPB(node string, p target.Port) *controlpb.Port {
	out := &controlpb.Port{
		Node: clean(node), Port: clean(p.Port), Name: clean(p.Name), Kind: clean(p.Kind), Owner: clean(p.Owner), OwnerName: clean(p.OwnerName),
		Input: p.Input, Output: p.Output, QueueSize: p.QueueSize, Memory: p.Memory, OsPid: p.OSPid,
		Local: clean(p.Local), Peer: clean(p.Peer), Protocol: clean(p.Protocol), State: cleanAll(p.State),
		Statistics: map[string]uint64{},
	}
	for _, s := range p.Statistics {
		out.Statistics[clean(s.Name)] = s.Value
	}
	return out
}

func (s *resourcesService) ListTimers(ctx context.Context, req *controlpb.ListTimersRequest) (*controlpb.ListTimersResponse, error) {
	const tried = "list timers"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	switch {
	case err != nil:
		return nil, err
	case req.GetLimit() > target.MaxTimerOwners:
		return nil, badRequest(tried, "%d owners of each node are wanted, %d may be", req.GetLimit(), target.MaxTimerOwners)
	}
	res := &controlpb.ListTimersResponse{}
	s.ask.Timers(ctx, target.TimersQuery{Ask: ask, Limit: int(req.GetLimit())},
		answersTo(&res.Errors, func(node string, timers target.Timers) {
			res.Answered = append(res.Answered, clean(node))
			if !timers.Server {
				return
			}
			res.Totals = append(res.Totals, totalPB(node, timers.Total))
			for _, o := range timers.Owners {
				res.Timers = append(res.Timers, &controlpb.TimerOwner{Node: clean(node), Owner: clean(o.Owner), OwnerName: clean(o.OwnerName), Count: o.Count})
			}
		}))
	return unlessGivenUp(ctx, tried, res)
}

func (s *resourcesService) ListGroups(ctx context.Context, req *controlpb.ListGroupsRequest) (*controlpb.ListGroupsResponse, error) {
	const tried = "list groups"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	switch {
	case err != nil:
		return nil, err
	case max(len(req.GetFilter()), len(req.GetScope())) > maxText:
		return nil, badRequest(tried, "the filter or the scope is longer than %d bytes", maxText)
	case req.GetLimit() > target.MaxGroups:
		return nil, badRequest(tried, "%d groups of each node are wanted, %d may be", req.GetLimit(), target.MaxGroups)
	case req.GetMembers() > target.MaxMembers:
		return nil, badRequest(tried, "%d members of each group are wanted, %d may be", req.GetMembers(), target.MaxMembers)
	}
	res := &controlpb.ListGroupsResponse{}
	s.ask.Groups(ctx, target.GroupsQuery{Ask: ask, Scope: req.GetScope(), Filter: req.GetFilter(), Limit: int(req.GetLimit()), Members: int(req.GetMembers())},
		answersTo(&res.Errors, func(node string, groups target.Groups) {
			res.Answered = append(res.Answered, clean(node))
			for _, s := range groups.Scopes {
				res.Scopes = append(res.Scopes, &controlpb.GroupScope{
					Node: clean(node), Kind: clean(s.Kind), Scope: clean(s.Name), Owner: clean(s.Owner), Keys: clean(s.Keys),
					Partitions: s.Partitions, Total: s.Total, Seen: s.Seen,
				})
			}
			for _, g := range groups.Groups {
				res.Groups = append(res.Groups, groupPB(node, g))
			}
		}))
	return unlessGivenUp(ctx, tried, res)
}

func groupPB(node string, g target.Group) *controlpb.Group {
	out := &controlpb.Group{
		Node: clean(node), Kind: clean(g.Kind), Scope: clean(g.Scope), Group: clean(g.Group), Count: g.Count, LocalCount: g.Local,
	}
	for _, m := range g.Members {
		out.Members = append(out.Members, refPB(m))
	}
	return out
}
