package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/cluster"
)

// clusterService serves the membership and the cluster keys.
type clusterService struct {
	controlpb.UnimplementedClusterServer
	engine   ClusterEngine // nil: this debughost knows of no cluster
	children Supervisor    // nil: there are no children
	keys     KeyEngine     // nil: it has no keys
	targets  TargetEngine
	forward  *forwarder
	self     func() string
}

func (s *clusterService) there(tried string) error {
	if s.engine == nil {
		return &Error{Code: Failed, Tried: tried, Cause: tried + ": this debughost is in no cluster"}
	}
	return nil
}

func (s *clusterService) ListMembers(context.Context, *controlpb.ListMembersRequest) (*controlpb.ListMembersResponse, error) {
	if err := s.there("list members"); err != nil {
		return nil, err
	}
	owned := map[string]uint32{}
	for _, t := range s.targets.Targets() {
		owned[t.Owner]++
	}
	quorum := s.engine.Quorum()
	children, draining := childrenOfMembers(s.children)
	res := &controlpb.ListMembersResponse{}
	for _, m := range s.engine.Members() {
		res.Members = append(res.Members, &controlpb.ClusterMember{
			Name: clean(m.Name), State: string(m.State), Since: timePB(m.Since), Address: clean(m.Addr), Version: clean(m.Version),
			Targets: owned[m.Name], Quorum: quorum.Has && m.State.Usable(), Self: m.Self,
			Children: children[m.Name], Draining: slices.Contains(draining, m.Name),
		})
	}
	slices.SortFunc(res.Members, func(a, b *controlpb.ClusterMember) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return res, nil
}

func (s *clusterService) Leave(ctx context.Context, _ *controlpb.LeaveRequest) (*controlpb.LeaveResponse, error) {
	const tried = "leave the cluster"
	if err := s.there(tried); err != nil {
		return nil, err
	}
	if err := s.engine.Leave(ctx); err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.LeaveResponse{Member: s.self()}, nil
}

func (s *clusterService) ForgetMember(_ context.Context, req *controlpb.ForgetMemberRequest) (*controlpb.ForgetMemberResponse, error) {
	tried := "forget " + clean(req.GetMember())
	if err := s.there(tried); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.engine.Members(), func(m cluster.Member) bool { return m.Name == req.GetMember() })
	if i < 0 {
		return nil, &Error{
			Code: UnknownMember, Tried: tried, Cause: tried + ": there is no such member",
			Hint: "`debughost members` lists them",
		}
	}
	if m := s.engine.Members()[i]; m.Self || m.State.Usable() {
		return nil, &Error{
			Code: Conflict, Tried: tried, Cause: fmt.Sprintf("%s: it is running (%s)", tried, m.State),
			Hint: "`debughost leave` on it, or stop it first",
		}
	}
	if err := s.engine.Forget(req.GetMember()); err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.ForgetMemberResponse{}, nil
}

// otherTime is how long another member may take for what asks no target.
const otherTime = 5 * time.Second

// others has every other member that is not known to be gone do a call, all at
// once, and returns answers and errors by member. A frozen one costs otherTime.
func (f *forwarder) others(ctx context.Context, method string, req proto.Message) (map[string]proto.Message, map[string]error) {
	answers, failed := map[string]proto.Message{}, map[string]error{}
	if f.peers == nil {
		return answers, failed
	}
	ctx, cancel := context.WithTimeout(ctx, otherTime)
	defer cancel()
	var mu sync.Mutex
	var g errgroup.Group
	for _, m := range f.peers.Members() {
		if m.Self || m.State == cluster.Left {
			continue
		}
		g.Go(func() error {
			var res proto.Message
			err := error(&lostError{member: m.Name, err: stateError(m)})
			if m.State.Usable() {
				res, err = f.call(ctx, m.Name, method, req)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[m.Name] = err
			} else {
				answers[m.Name] = res
			}
			return nil
		})
	}
	_ = g.Wait()
	return answers, failed
}
