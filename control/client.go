package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	controlpb "github.com/debughost/debughost/control/proto"
)

// maxAnswer bounds one message from the server.
const maxAnswer = 16 << 20

// Client calls one member. Its errors are *Error where the server or the
// connection failed. It may be used from any goroutine.
type Client struct {
	Targets   controlpb.TargetsClient
	Processes controlpb.ProcessesClient
	Events    controlpb.EventsClient
	Member    controlpb.MemberClient
	Cluster   controlpb.ClusterClient
	Registry  controlpb.RegistryClient
	Nodes     controlpb.NodesClient
	Tables    controlpb.TablesClient
	Resources controlpb.ResourcesClient
	Systems   controlpb.SystemsClient
	Logs      controlpb.LogsClient
	Findings  controlpb.FindingsClient
	Depth     controlpb.DepthClient
	Acts      controlpb.ActsClient
	Shell     controlpb.ShellClient
	Children  controlpb.ChildrenClient
	Placement controlpb.PlacementClient

	conn  *grpc.ClientConn
	first *handOver
}

// Dial connects to the member at an address as ParseAddr takes it. It returns
// only once somebody answers there.
func Dial(ctx context.Context, addr string) (*Client, error) {
	path, err := ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, dialError(path, err)
	}
	first := &handOver{conn: conn}
	cc, err := grpc.NewClient("passthrough:///"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if c := first.take(); c != nil {
				return c, nil
			}
			return dial(ctx)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithUnaryInterceptor(unaryErrors),
		grpc.WithStreamInterceptor(streamErrors),
		grpc.WithAuthority("debughost"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	cc.Connect() // now: the server soon gives up on a silent connection
	return &Client{
		Targets:   controlpb.NewTargetsClient(cc),
		Processes: controlpb.NewProcessesClient(cc),
		Events:    controlpb.NewEventsClient(cc),
		Member:    controlpb.NewMemberClient(cc),
		Cluster:   controlpb.NewClusterClient(cc),
		Registry:  controlpb.NewRegistryClient(cc),
		Nodes:     controlpb.NewNodesClient(cc),
		Tables:    controlpb.NewTablesClient(cc),
		Resources: controlpb.NewResourcesClient(cc),
		Systems:   controlpb.NewSystemsClient(cc),
		Logs:      controlpb.NewLogsClient(cc),
		Findings:  controlpb.NewFindingsClient(cc),
		Depth:     controlpb.NewDepthClient(cc),
		Acts:      controlpb.NewActsClient(cc),
		Shell:     controlpb.NewShellClient(cc),
		Children:  controlpb.NewChildrenClient(cc),
		Placement: controlpb.NewPlacementClient(cc),
		conn:      cc,
		first:     first,
	}, nil
}

// Close ends the connection and what runs over it.
func (c *Client) Close() error {
	err := c.conn.Close()
	if unused := c.first.take(); unused != nil {
		unused.Close()
	}
	return err
}

// handOver gives away the connection that Dial made, once.
type handOver struct {
	mu   sync.Mutex
	conn net.Conn
}

func (h *handOver) take() net.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conn
	h.conn = nil
	return c
}

// dialError says what it means that nobody could be reached.
func dialError(path string, err error) error {
	e := &Error{Tried: "connect to " + path}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Code, e.Cause = NotRunning, "there is no such socket"
		e.Hint = "is debughost running? start it with `debughost run`, or say where it is with --addr or --data-dir"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Code, e.Cause = NotRunning, "nobody answers on this socket"
		e.Hint = "debughost ended without removing it; start it again with `debughost run`"
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Cause = Denied, "permission denied"
		e.Hint = "only the user that runs debughost and root may: try sudo"
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Cause = Timeout, "no answer in time"
		e.Hint = "it may be stopped or overloaded"
	case errors.Is(err, context.Canceled):
		e.Code, e.Cause = Canceled, "given up"
	default:
		e.Code, e.Cause = NotRunning, err.Error()
	}
	e.Cause = e.Tried + ": " + e.Cause
	return e
}

func unaryErrors(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return fromStatus(call(ctx, method, req, reply, cc, opts...))
}

func streamErrors(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, fromStatus(err)
	}
	return errorStream{s}, nil
}

// errorStream turns the errors of a stream into *Error.
type errorStream struct{ grpc.ClientStream }

func (s errorStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == io.EOF {
		return err
	}
	return fromStatus(err)
}
