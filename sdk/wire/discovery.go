package wire

import (
	"context"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
)

// Discovery is the plugin's strategy. Its Watch returns when ctx or the stream
// has ended, with a *sdk.CallError, or with the error that emit returned; it
// is never nil. An answer that breaks the contract comes to emit as an error,
// so that it does not end the stream and the last list stays in force. emit
// holds the plugin up while it runs: the plugin does not get ahead by more
// than the connection's window. The Self of ctx (sdk.WithSelf) goes to the
// plugin.
func (c *Client) Discovery() sdk.Discovery {
	return &discovery{pluginpb.NewDiscoveryClient(c.conn)}
}

type discovery struct{ rpc pluginpb.DiscoveryClient }

var _ sdk.Discovery = (*discovery)(nil)

func (d *discovery) Watch(ctx context.Context, emit func(sdk.Answer) error) error {
	const method = "Discovery.Watch"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &pluginpb.WatchRequest{}
	if self, ok := sdk.SelfFrom(ctx); ok {
		request.Self = selfOut(self)
	}
	stream, err := d.rpc.Watch(ctx, request)
	if err != nil {
		return callError(ctx, method, err)
	}
	for {
		in, err := stream.Recv()
		if err != nil {
			return callError(ctx, method, err)
		}
		if err := emit(answerIn(method, in)); err != nil {
			return err
		}
	}
}

func selfOut(s sdk.Self) *pluginpb.Self {
	out := &pluginpb.Self{Member: s.Member, Address: s.Addr, Cluster: s.Cluster, Finds: pluginpb.Role_ROLE_TARGET, Incarnation: s.Incarnation}
	if s.Finds == sdk.RoleMember {
		out.Finds = pluginpb.Role_ROLE_MEMBER
	}
	for _, secret := range s.Secrets {
		out.Secrets = append(out.Secrets, secret.Bytes())
	}
	return out
}

var rolesIn = map[pluginpb.Role]sdk.Role{pluginpb.Role_ROLE_TARGET: sdk.RoleTarget, pluginpb.Role_ROLE_MEMBER: sdk.RoleMember}

func answerIn(method string, in *pluginpb.WatchResponse) sdk.Answer {
	var out sdk.Answer
	if f := in.GetFailure(); f != nil {
		out.Err = &sdk.CallError{Method: method, Message: cut(f.GetMessage()), Advice: cut(f.GetHint())}
	}
	if in.GetList() == nil {
		if out.Err == nil {
			out.Err = garbage(method, "an answer has neither a list nor a failure")
		}
		return out
	}
	nodes := make([]sdk.Node, 0, len(in.GetList().GetNodes()))
	for _, n := range in.GetList().GetNodes() {
		role, ok := rolesIn[n.GetRole()]
		if !ok {
			return sdk.Answer{Err: garbage(method, "node %.64q has the unknown role %d", n.GetName(), n.GetRole())}
		}
		nodes = append(nodes, sdk.Node{Name: n.GetName(), Addr: n.GetAddr(), Role: role, Metadata: n.GetMetadata()})
	}
	if err := sdk.ValidateNodes(nodes); err != nil {
		return sdk.Answer{Err: garbage(method, "%w", err)}
	}
	if out.Err == nil || len(nodes) > 0 {
		out.Nodes = nodes
	}
	return out
}
