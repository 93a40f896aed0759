package sdk

import (
	"errors"
	"fmt"

	pluginpb "github.com/debughost/debughost/sdk/proto"
	"google.golang.org/grpc"
)

type discoveryServer struct {
	pluginpb.UnimplementedDiscoveryServer
	base      *baseServer
	discovery Discovery
}

func (d *discoveryServer) Watch(in *pluginpb.WatchRequest, stream grpc.ServerStreamingServer[pluginpb.WatchResponse]) error {
	if err := d.base.ready(); err != nil {
		return err
	}
	ctx := stream.Context()
	if in.GetSelf() != nil {
		ctx = WithSelf(ctx, selfIn(in.GetSelf()))
	}
	err := d.discovery.Watch(ctx, func(a Answer) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := ValidateNodes(a.Nodes); err != nil {
			// The host hears of it too: it would otherwise wait in silence.
			err = fmt.Errorf("emit nodes: %w", err)
			return errors.Join(err, stream.Send(answerOut(Answer{Err: WithHint(err, "this is a defect of the plugin")})))
		}
		return stream.Send(answerOut(a))
	})
	if err == nil {
		<-ctx.Done() // the last answer stays true
		return toStatus(ctx.Err())
	}
	return toStatus(err)
}

// selfIn is what the host says of itself. A role that is new to this plugin is
// not to be taken for RoleTarget: it stays what it is, and no strategy's.
func selfIn(in *pluginpb.Self) Self {
	s := Self{Member: in.GetMember(), Addr: in.GetAddress(), Cluster: in.GetCluster(), Incarnation: in.GetIncarnation()}
	switch in.GetFinds() {
	case pluginpb.Role_ROLE_UNSPECIFIED, pluginpb.Role_ROLE_TARGET:
		s.Finds = RoleTarget
	case pluginpb.Role_ROLE_MEMBER:
		s.Finds = RoleMember
	default:
		s.Finds = Role(in.GetFinds().String())
	}
	for _, secret := range in.GetSecrets() {
		s.Secrets = append(s.Secrets, NewSecret(secret))
	}
	return s
}

var rolesOut = map[Role]pluginpb.Role{"": pluginpb.Role_ROLE_TARGET, RoleTarget: pluginpb.Role_ROLE_TARGET, RoleMember: pluginpb.Role_ROLE_MEMBER}

func answerOut(a Answer) *pluginpb.WatchResponse {
	out := &pluginpb.WatchResponse{}
	if a.Err != nil {
		out.Failure = &pluginpb.Failure{Message: clean(a.Err.Error()), Hint: clean(Hint(a.Err))}
	}
	if a.Err == nil || len(a.Nodes) > 0 {
		out.List = &pluginpb.NodeList{Nodes: make([]*pluginpb.Node, len(a.Nodes))}
	}
	for i, n := range a.Nodes {
		node := &pluginpb.Node{Name: n.Name, Addr: clean(n.Addr), Role: rolesOut[n.Role]}
		if len(n.Metadata) > 0 {
			node.Metadata = make(map[string]string, len(n.Metadata))
		}
		for k, v := range n.Metadata {
			node.Metadata[clean(k)] = clean(v)
		}
		out.List.Nodes[i] = node
	}
	return out
}
