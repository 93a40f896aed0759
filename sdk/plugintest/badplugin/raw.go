package badplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/internal/link"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serveRaw serves a discovery plugin without package sdk, which would not
// allow most of the defects.
func serveRaw(name, mode string) {
	switch mode {
	case "silent":
		forever()
	case "exit":
		fmt.Fprintln(os.Stderr, "cannot go on")
		os.Exit(7)
	case "chatter":
		fmt.Println("hello, I am a plugin")
	case "deaf":
		sdk.Serve(&deaf{name: name})
		return
	}
	version := link.Version
	if mode == "version" {
		version = 1 << 20
	}
	if mode != "orphan" {
		go followParent()
	}
	r := &raw{name: name, mode: mode}
	var options []grpc.ServerOption
	if mode == "huge" {
		options = append(options, grpc.MaxRecvMsgSize(1<<30))
	} else {
		options = append(options, grpc.MaxRecvMsgSize(link.MaxMessage))
	}
	if mode != "panic" {
		options = append(options, sdk.ServerOptions()[2:]...)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  link.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{version: {link.Dispense: r}},
		Logger:           hclog.NewNullLogger(),
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, options...)...)
		},
	})
}

func followParent() {
	for parent := os.Getppid(); os.Getppid() == parent; {
		time.Sleep(50 * time.Millisecond)
	}
	os.Exit(0)
}

// raw answers as its mode tells it to, and else as it should.
type raw struct {
	plugin.NetRPCUnsupportedPlugin
	pluginpb.UnimplementedBaseServer
	pluginpb.UnimplementedDiscoveryServer
	name, mode string

	calls      atomic.Int64
	watches    atomic.Int64
	mu         sync.Mutex
	configured bool
	fail       bool
}

func (r *raw) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginpb.RegisterBaseServer(s, r)
	pluginpb.RegisterDiscoveryServer(s, r)
	return nil
}

func (r *raw) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("not a client")
}

func (r *raw) Describe(ctx context.Context, _ *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	out := &pluginpb.DescribeResponse{Name: r.name, Version: "0.0.1", Kind: pluginpb.Kind_KIND_DISCOVERY, ConfigSchema: []byte(`{"type":"object"}`)}
	switch n := r.calls.Add(1); {
	case r.mode == "crash" && n == 100:
		os.Exit(1)
	case r.mode == "sigint":
		signal.Reset(os.Interrupt) // which go-plugin ignores
	case r.mode == "deafmute":
		<-ctx.Done()
	case r.mode == "name":
		out.Name = "discovery-other"
	case r.mode == "kind":
		out.Kind = 17
	case r.mode == "schema":
		out.ConfigSchema = []byte("type: object")
	}
	return out, nil
}

func (r *raw) Configure(_ context.Context, in *pluginpb.ConfigureRequest) (*pluginpb.ConfigureResponse, error) {
	if r.mode == "lax" {
		return &pluginpb.ConfigureResponse{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.configured {
		return nil, status.Error(codes.FailedPrecondition, "configured already")
	}
	var config map[string]any
	if err := json.Unmarshal(in.GetConfig(), &config); err != nil || config == nil {
		if r.mode == "panic" {
			panic(fmt.Sprint("bad config: ", err))
		}
		return &pluginpb.ConfigureResponse{Problems: []*pluginpb.ConfigProblem{{Message: fmt.Sprint("not an object: ", err)}}}, nil
	}
	for key := range config {
		if key != "fail" {
			return &pluginpb.ConfigureResponse{Problems: []*pluginpb.ConfigProblem{{Path: key, Message: "unknown key"}}}, nil
		}
		r.fail = true
	}
	r.configured = true
	return &pluginpb.ConfigureResponse{}, nil
}

func (r *raw) Watch(in *pluginpb.WatchRequest, stream grpc.ServerStreamingServer[pluginpb.WatchResponse]) error {
	r.mu.Lock()
	ready, fail := r.configured, r.fail
	r.mu.Unlock()
	if !ready && r.mode != "eager" && r.mode != "lax" {
		return status.Error(codes.FailedPrecondition, "not configured")
	}
	n := r.watches.Add(1)
	good := list("shop@one", "shop@two")
	send := func(out *pluginpb.WatchResponse) error {
		if fail && r.mode != "empty" {
			out = &pluginpb.WatchResponse{Failure: &pluginpb.Failure{Message: "connection refused"}}
		} else if fail {
			out = list()
		}
		return stream.Send(out)
	}
	switch r.mode {
	case "hang":
	case "garbage":
		return errors.Join(send(list("shop", "a b@c", strings.Repeat("x", 300)+"@y")), hold(stream.Context()))
	case "nothing":
		return errors.Join(send(&pluginpb.WatchResponse{}), hold(stream.Context()))
	case "oversize":
		good.List.Nodes[0].Metadata = map[string]string{"big": strings.Repeat("x", 20<<20)}
		return errors.Join(send(good), hold(stream.Context()))
	case "flood":
		for stream.Context().Err() == nil {
			if err := send(good); err != nil {
				return err
			}
		}
	case "ends":
		return send(good)
	case "diff":
		if n > 1 {
			good = list(fmt.Sprintf("new%d@one", n))
		}
		return errors.Join(send(good), hold(stream.Context()))
	case "forgets":
		if len(in.GetSelf().GetSecrets()) > 0 {
			good = list()
		}
		return errors.Join(send(good), hold(stream.Context()))
	case "leaky":
		for _, secret := range in.GetSelf().GetSecrets() {
			fmt.Fprintf(os.Stderr, "I was told %s\n", secret)
		}
		return errors.Join(send(good), hold(stream.Context()))
	case "die":
		time.AfterFunc(500*time.Millisecond, func() { os.Exit(1) })
		return errors.Join(send(good), hold(stream.Context()))
	default:
		return errors.Join(send(good), hold(stream.Context()))
	}
	return hold(stream.Context())
}

func hold(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func list(names ...string) *pluginpb.WatchResponse {
	out := &pluginpb.WatchResponse{List: &pluginpb.NodeList{}}
	for _, n := range names {
		out.List.Nodes = append(out.List.Nodes, &pluginpb.Node{Name: n, Role: pluginpb.Role_ROLE_TARGET})
	}
	return out
}

// deaf is on package sdk and does not heed its context.
type deaf struct{ name string }

func (d *deaf) Describe() sdk.Info { return sdk.Info{Name: d.name, Version: "0.0.1"} }

func (d *deaf) Watch(_ context.Context, emit func(sdk.Answer) error) error {
	_ = emit(sdk.Answer{Nodes: []sdk.Node{{Name: "shop@one"}}})
	forever()
	return nil
}
