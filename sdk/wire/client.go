package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Client talks to one plugin's process. It is safe for concurrent use. Every
// method ends with its context at the latest; a plugin that hangs holds up
// nobody who sets a deadline. Errors are *sdk.CallError, or *sdk.ConfigError
// for a config that was refused.
type Client struct {
	conn grpc.ClientConnInterface
	base pluginpb.BaseClient
}

// NewClient is a client on a connection, which stays the caller's.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{conn: conn, base: pluginpb.NewBaseClient(conn)}
}

var kindsIn = map[pluginpb.Kind]sdk.Kind{
	pluginpb.Kind_KIND_DISCOVERY: sdk.KindDiscovery,
	pluginpb.Kind_KIND_PLACEMENT: sdk.KindPlacement,
	pluginpb.Kind_KIND_SANDBOX:   sdk.KindSandbox,
}

// Describe asks the plugin who it is. The answer is valid: a known kind, a
// name that begins with it, a version, and a schema that is a JSON object.
func (c *Client) Describe(ctx context.Context) (sdk.Description, error) {
	const method = "Base.Describe"
	in, err := c.base.Describe(ctx, &pluginpb.DescribeRequest{})
	if err != nil {
		return sdk.Description{}, callError(ctx, method, err)
	}
	kind, ok := kindsIn[in.GetKind()]
	if !ok {
		return sdk.Description{}, garbage(method, "it reports the unknown kind %d", in.GetKind())
	}
	d := sdk.Description{Name: in.GetName(), Version: in.GetVersion(), Kind: kind, Capabilities: in.GetCapabilities(), ConfigSchema: in.GetConfigSchema()}
	if err := d.Validate(); err != nil {
		return sdk.Description{}, garbage(method, "%w", err)
	}
	if len(d.Version) > 128 || len(d.Capabilities) > 64 {
		return sdk.Description{}, garbage(method, "its version or its list of capabilities is too long")
	}
	var schema map[string]any
	if err := json.Unmarshal(d.ConfigSchema, &schema); err != nil {
		return sdk.Description{}, garbage(method, "its config schema is no JSON object: %w", err)
	}
	return d, nil
}

// Configure hands the plugin its config section, a JSON object. It must
// succeed once before anything else is asked. A config that the plugin refuses
// is an *sdk.ConfigError with all that is wrong, and another may be tried. A
// second success is not possible: another config is for another process.
//
// A context of sdk.WithStateDir tells the plugin of its directory.
func (c *Client) Configure(ctx context.Context, config []byte) error {
	dir, _ := sdk.StateDirFrom(ctx)
	in, err := c.base.Configure(ctx, &pluginpb.ConfigureRequest{Config: config, StateDir: dir})
	if status.Code(err) == codes.FailedPrecondition && ctx.Err() == nil {
		return &sdk.CallError{Method: "Base.Configure", Cause: sdk.ErrConfigured}
	}
	if err != nil {
		return callError(ctx, "Base.Configure", err)
	}
	if len(in.GetProblems()) == 0 {
		return nil
	}
	problems := &sdk.ConfigError{}
	for _, p := range in.GetProblems() {
		problems.Problems = append(problems.Problems, sdk.Problem{Path: p.GetPath(), Message: p.GetMessage()})
	}
	return problems
}

// Ping asks whether the process serves. It does not ask the strategy.
func (c *Client) Ping(ctx context.Context) error {
	in, err := grpc_health_v1.NewHealthClient(c.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "plugin"})
	if err != nil {
		return callError(ctx, "Health.Check", err)
	}
	if in.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return garbage("Health.Check", "it is %v", in.GetStatus())
	}
	return nil
}

// causes is sdk's table of statuses read the other way.
var causes = map[codes.Code]error{
	codes.DeadlineExceeded:   context.DeadlineExceeded,
	codes.Canceled:           context.Canceled,
	codes.NotFound:           sdk.ErrNotFound,
	codes.AlreadyExists:      sdk.ErrExists,
	codes.Unimplemented:      sdk.ErrUnsupported,
	codes.Aborted:            sdk.ErrPanic,
	codes.DataLoss:           sdk.ErrUnsure,
	codes.Internal:           sdk.ErrGarbage, // what gRPC could not decode
	codes.ResourceExhausted:  sdk.ErrGarbage, // a message beyond the limit
	codes.FailedPrecondition: sdk.ErrNotConfigured,
	codes.Unavailable:        sdk.ErrUnavailable,
}

// callError makes a gRPC error one of ours. The caller's own context comes
// first: gRPC reports its end in several ways.
func callError(ctx context.Context, method string, err error) error {
	return callErrorOf(ctx, method, err, maxText)
}

func callErrorOf(ctx context.Context, method string, err error, longest int) error {
	if err == nil {
		return nil
	}
	if ctxErr := context.Cause(ctx); ctxErr != nil {
		return &sdk.CallError{Method: method, Cause: ctxErr}
	}
	if errors.Is(err, io.EOF) {
		return &sdk.CallError{Method: method, Message: "the plugin ended the stream", Cause: sdk.ErrGarbage}
	}
	s := status.Convert(err)
	out := &sdk.CallError{Method: method, Message: cutTo(s.Message(), longest), Cause: causes[s.Code()]}
	for _, d := range s.Details() {
		if f, ok := d.(*pluginpb.Failure); ok {
			out.Advice = cut(f.GetHint())
		}
	}
	return out
}

// garbage is the error for an answer that breaks the contract.
func garbage(method, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &sdk.CallError{Method: method, Message: cut(err.Error()), Cause: sdk.ErrGarbage, Advice: "this is a defect of the plugin"}
}

// cut bounds what a plugin says to what a person reads.
func cut(s string) string { return cutTo(s, maxText) }

const maxText = 8 << 10

func cutTo(s string, longest int) string {
	if len(s) <= longest {
		return s
	}
	for n := longest; ; n-- {
		if utf8.RuneStart(s[n]) {
			return s[:n] + "…"
		}
	}
}
