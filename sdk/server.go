package sdk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/debughost/debughost/sdk/internal/link"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Register adds a strategy's services to a gRPC server: the base service and
// that of its kind. Serve does it in a plugin; a test may do it in its own
// process. The server needs the options of ServerOptions.
func Register(server grpc.ServiceRegistrar, strategy Strategy) (Description, error) {
	info := strategy.Describe()
	d, err := describe(strategy, info)
	if err != nil {
		return Description{}, err
	}
	register(server, strategy, info, d)
	return d, nil
}

func register(server grpc.ServiceRegistrar, strategy Strategy, info Info, d Description) {
	base := &baseServer{description: d, info: info, strategy: strategy}
	pluginpb.RegisterBaseServer(server, base)
	switch d.Kind {
	case KindDiscovery:
		pluginpb.RegisterDiscoveryServer(server, &discoveryServer{base: base, discovery: strategy.(Discovery)})
	case KindPlacement:
		pluginpb.RegisterPlacementServer(server, &placementServer{base: base, placement: strategy.(Placement)})
	case KindSandbox:
		pluginpb.RegisterSandboxServer(server, newSandboxServer(base, strategy.(Sandbox)))
	}
}

type baseServer struct {
	pluginpb.UnimplementedBaseServer
	description Description
	info        Info
	strategy    Strategy

	mu         sync.Mutex // held during Configure: one at a time
	configured atomic.Bool
}

var kindsOut = map[Kind]pluginpb.Kind{
	KindDiscovery: pluginpb.Kind_KIND_DISCOVERY,
	KindPlacement: pluginpb.Kind_KIND_PLACEMENT,
	KindSandbox:   pluginpb.Kind_KIND_SANDBOX,
}

func (b *baseServer) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	return &pluginpb.DescribeResponse{
		Name:         b.description.Name,
		Version:      b.description.Version,
		Kind:         kindsOut[b.description.Kind],
		Capabilities: b.description.Capabilities,
		ConfigSchema: b.description.ConfigSchema,
	}, nil
}

func (b *baseServer) Configure(ctx context.Context, in *pluginpb.ConfigureRequest) (*pluginpb.ConfigureResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.configured.Load() {
		return nil, toStatus(ErrConfigured)
	}
	err := DecodeConfig(in.GetConfig(), b.info.Config)
	if c, ok := b.strategy.(Configured); ok && err == nil {
		err = c.Configured(WithStateDir(ctx, in.GetStateDir()))
	}
	if err == nil {
		b.configured.Store(true)
		return &pluginpb.ConfigureResponse{}, nil
	}
	var problems *ConfigError
	if !errors.As(err, &problems) {
		return nil, toStatus(err)
	}
	out := &pluginpb.ConfigureResponse{}
	for _, p := range problems.Problems {
		out.Problems = append(out.Problems, &pluginpb.ConfigProblem{Path: clean(p.Path), Message: clean(p.Message)})
	}
	return out, nil
}

// ready fails until the plugin is configured.
func (b *baseServer) ready() error {
	if !b.configured.Load() {
		return toStatus(ErrNotConfigured)
	}
	return nil
}

// statusCodes is how a cause travels. Package wire has the way back.
var statusCodes = []struct {
	cause error
	code  codes.Code
}{
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{context.Canceled, codes.Canceled},
	{ErrNotFound, codes.NotFound},
	{ErrExists, codes.AlreadyExists},
	{ErrUnsupported, codes.Unimplemented},
	{ErrNotConfigured, codes.FailedPrecondition},
	{ErrConfigured, codes.FailedPrecondition},
	{ErrPanic, codes.Aborted},
	{ErrUnsure, codes.DataLoss},
}

// toStatus is the gRPC status of an error, with its hint as a detail.
func toStatus(err error) error { return toStatusOf(err, maxText) }

func toStatusOf(err error, longest int) error {
	if err == nil {
		return nil
	}
	code := codes.Unknown
	for _, c := range statusCodes {
		if errors.Is(err, c.cause) {
			code = c.code
			break
		}
	}
	s := status.New(code, cleanTo(err.Error(), longest))
	if hint := Hint(err); hint != "" {
		if with, err := s.WithDetails(&pluginpb.Failure{Message: s.Message(), Hint: clean(hint)}); err == nil {
			s = with
		}
	}
	return s.Err()
}

// clean bounds a text and makes it UTF-8, which protobuf insists on: one bad
// byte in an error would otherwise hide the error.
func clean(s string) string { return cleanTo(s, maxText) }

// maxText bounds what is said in passing.
const maxText = 8 << 10

func cleanTo(s string, longest int) string {
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// ServerOptions are what a gRPC server of a plugin needs: the message limit,
// and that a panic in a method fails the call and not the process.
func ServerOptions() []grpc.ServerOption {
	return serverOptions(&calls{})
}

func serverOptions(c *calls) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(link.MaxMessage),
		grpc.MaxSendMsgSize(link.MaxMessage),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
			defer c.begin(info.FullMethod)()
			defer recovered(info.FullMethod, &err)
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer c.begin(info.FullMethod)()
			defer recovered(info.FullMethod, &err)
			return handler(srv, stream)
		}),
	}
}

func recovered(method string, err *error) {
	if r := recover(); r != nil {
		Logger().Error("panic in a method", "method", method, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		*err = toStatus(fmt.Errorf("%w: %v", ErrPanic, r))
	}
}

// calls counts the methods of a strategy that run, so that it can be closed
// after the last of them.
type calls struct {
	mu      sync.Mutex
	running map[string]int
	idle    chan struct{} // closed when running gets empty, if somebody waits
}

func (c *calls) begin(method string) (end func()) {
	if !strings.HasPrefix(method, "/debughost.") {
		return func() {} // go-plugin's own
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = make(map[string]int)
	}
	c.running[method]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running[method]--; c.running[method] == 0 {
			delete(c.running, method)
		}
		if c.idle != nil && len(c.running) == 0 {
			close(c.idle)
			c.idle = nil
		}
	}
}

// wait returns the methods that still run after the timeout. It is called
// once, when no new call can begin.
func (c *calls) wait(timeout time.Duration) []string {
	c.mu.Lock()
	if len(c.running) == 0 {
		c.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	c.idle = idle
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-time.After(timeout):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.running))
}
