package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pluginpb "github.com/debughost/debughost/sdk/proto"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type sandboxServer struct {
	pluginpb.UnimplementedSandboxServer
	base        *baseServer
	sandbox     Sandbox
	snapshotter Snapshotter // nil without the capability, as what follows
	reloader    Reloader
	operator    Operator
}

func newSandboxServer(base *baseServer, sandbox Sandbox) *sandboxServer {
	s := &sandboxServer{base: base, sandbox: sandbox}
	s.snapshotter, _ = sandbox.(Snapshotter)
	s.reloader, _ = sandbox.(Reloader)
	s.operator, _ = sandbox.(Operator)
	return s
}

func (s *sandboxServer) Create(ctx context.Context, in *pluginpb.SandboxCreateRequest) (*pluginpb.SandboxCreateResponse, error) {
	if err := s.base.ready(); err != nil {
		return nil, err
	}
	h, err := s.sandbox.Create(ctx, sandboxSpecIn(in.GetSpec()))
	if err != nil {
		return nil, toStatusOf(err, MaxFailure)
	}
	return &pluginpb.SandboxCreateResponse{Handle: sandboxHandleOut(h)}, nil
}

func (s *sandboxServer) Inspect(ctx context.Context, in *pluginpb.SandboxInspectRequest) (*pluginpb.SandboxInspectResponse, error) {
	if err := s.base.ready(); err != nil {
		return nil, err
	}
	st, err := s.sandbox.Inspect(ctx, in.GetId())
	if err != nil {
		return nil, toStatus(err)
	}
	state, ok := sandboxStatesOut[st.State]
	if !ok {
		return nil, toStatus(fmt.Errorf("inspect sandbox %.64q: the plugin reports unknown state %q", in.GetId(), st.State))
	}
	return &pluginpb.SandboxInspectResponse{Status: &pluginpb.SandboxStatus{
		Id: clean(st.ID), State: state, Node: clean(st.Node), Addr: clean(st.Addr), CookieFile: clean(st.CookieFile),
		OsPid: int32(st.OSPid), Started: timeOut(st.Started), Exit: sandboxExitOut(st.Exit),
		Memory: st.Memory, Enforced: cleanMap(st.Enforced),
	}}, nil
}

func (s *sandboxServer) Wait(ctx context.Context, in *pluginpb.SandboxWaitRequest) (*pluginpb.SandboxWaitResponse, error) {
	if err := s.base.ready(); err != nil {
		return nil, err
	}
	exit, err := s.sandbox.Wait(ctx, in.GetId())
	if err != nil {
		return nil, toStatus(err)
	}
	return &pluginpb.SandboxWaitResponse{Exit: sandboxExitOut(&exit)}, nil
}

func (s *sandboxServer) Stop(ctx context.Context, in *pluginpb.SandboxStopRequest) (*pluginpb.SandboxStopResponse, error) {
	if err := s.base.ready(); err != nil {
		return nil, err
	}
	return &pluginpb.SandboxStopResponse{}, toStatus(s.sandbox.Stop(ctx, in.GetId(), in.GetTimeout().AsDuration()))
}

func (s *sandboxServer) Destroy(ctx context.Context, in *pluginpb.SandboxDestroyRequest) (*pluginpb.SandboxDestroyResponse, error) {
	if err := s.base.ready(); err != nil {
		return nil, err
	}
	return &pluginpb.SandboxDestroyResponse{}, toStatus(s.sandbox.Destroy(ctx, in.GetId()))
}

func (s *sandboxServer) Recover(ctx context.Context, in *pluginpb.SandboxRecoverRequest) (*pluginpb.SandboxRecoverResponse, error) {
	if err := s.base.ready(); err != nil {
		return nil, err
	}
	handle := SandboxHandle{ID: in.GetHandle().GetId(), State: in.GetHandle().GetState()}
	return &pluginpb.SandboxRecoverResponse{}, toStatus(s.sandbox.Recover(ctx, handle))
}

func (s *sandboxServer) Logs(in *pluginpb.SandboxLogsRequest, stream grpc.ServerStreamingServer[pluginpb.SandboxLogsResponse]) error {
	if err := s.base.ready(); err != nil {
		return err
	}
	options := LogOptions{Tail: int(in.GetTail()), Follow: in.GetFollow()}
	return toStatus(s.sandbox.Logs(stream.Context(), in.GetId(), options, func(l LogLine) error {
		return stream.Send(&pluginpb.SandboxLogsResponse{Time: timeOut(l.Time), Stream: clean(l.Stream), Line: l.Line})
	}))
}

func (s *sandboxServer) Snapshot(in *pluginpb.SandboxSnapshotRequest, stream grpc.ServerStreamingServer[pluginpb.SandboxSnapshotResponse]) error {
	if err := s.can(s.snapshotter != nil); err != nil {
		return err
	}
	return toStatus(s.snapshotter.Snapshot(stream.Context(), in.GetId(), chunkWriter(func(b []byte) error {
		return stream.Send(&pluginpb.SandboxSnapshotResponse{Chunk: b})
	})))
}

func (s *sandboxServer) Restore(stream grpc.ClientStreamingServer[pluginpb.SandboxRestoreRequest, pluginpb.SandboxRestoreResponse]) error {
	if err := s.can(s.snapshotter != nil); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return toStatus(fmt.Errorf("receive sandbox spec: %w", err))
	}
	if first.GetSpec() == nil {
		return toStatus(errors.New("restore sandbox: the spec does not come first"))
	}
	h, err := s.snapshotter.Restore(stream.Context(), sandboxSpecIn(first.GetSpec()), &chunkReader{stream: stream})
	if err != nil {
		return toStatusOf(err, MaxFailure)
	}
	return stream.SendAndClose(&pluginpb.SandboxRestoreResponse{Handle: sandboxHandleOut(h)})
}

func (s *sandboxServer) Reload(ctx context.Context, in *pluginpb.SandboxReloadRequest) (*pluginpb.SandboxReloadResponse, error) {
	if err := s.can(s.reloader != nil); err != nil {
		return nil, err
	}
	report, err := s.reloader.Reload(ctx, sandboxSpecIn(in.GetSpec()))
	if err != nil {
		return nil, toStatusOf(err, MaxFailure)
	}
	return &pluginpb.SandboxReloadResponse{Report: report}, nil
}

func (s *sandboxServer) Operate(ctx context.Context, in *pluginpb.SandboxOperateRequest) (*pluginpb.SandboxOperateResponse, error) {
	if err := s.can(s.operator != nil); err != nil {
		return nil, err
	}
	if n := len(in.GetInput()); n > MaxOperation {
		return nil, toStatus(fmt.Errorf("operate sandbox: the input has %d bytes, and at most %d are allowed", n, MaxOperation))
	}
	output, err := s.operator.Operate(ctx, in.GetId(), in.GetOperation(), in.GetInput())
	if err == nil && len(output) > MaxOperation {
		err = fmt.Errorf("operate sandbox: the output has %d bytes, and at most %d are allowed", len(output), MaxOperation)
	}
	if err != nil {
		return nil, toStatus(err)
	}
	return &pluginpb.SandboxOperateResponse{Output: output}, nil
}

// can fails without an optional ability.
func (s *sandboxServer) can(able bool) error {
	if err := s.base.ready(); err != nil {
		return err
	}
	if !able {
		return toStatus(ErrUnsupported)
	}
	return nil
}

// chunkWriter cuts what is written into messages of a fair size.
type chunkWriter func([]byte) error

const chunkSize = 64 << 10

func (w chunkWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		end := min(n+chunkSize, len(p))
		if err := w(p[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return len(p), nil
}

type chunkReader struct {
	stream interface {
		Recv() (*pluginpb.SandboxRestoreRequest, error)
	}
	rest []byte
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		in, err := r.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		r.rest = in.GetChunk()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

var _ io.Reader = (*chunkReader)(nil)

var sandboxStatesOut = map[SandboxState]pluginpb.SandboxState{
	SandboxStarting: pluginpb.SandboxState_SANDBOX_STATE_STARTING,
	SandboxRunning:  pluginpb.SandboxState_SANDBOX_STATE_RUNNING,
	SandboxStopping: pluginpb.SandboxState_SANDBOX_STATE_STOPPING,
	SandboxExited:   pluginpb.SandboxState_SANDBOX_STATE_EXITED,
}

func sandboxSpecIn(in *pluginpb.SandboxSpec) SandboxSpec {
	l := in.GetLimits()
	return SandboxSpec{
		ID: in.GetId(), Config: in.GetConfig(), Bundle: in.GetBundle(), Orphan: max(in.GetOrphan().AsDuration(), 0),
		Limits: SandboxLimits{Memory: l.GetMemory(), CPUs: l.GetCpus(), Processes: int(l.GetProcesses()), OpenFiles: int(l.GetOpenFiles()), Disk: l.GetDisk()},
	}
}

func sandboxHandleOut(h SandboxHandle) *pluginpb.SandboxHandle {
	return &pluginpb.SandboxHandle{Id: clean(h.ID), State: h.State}
}

func sandboxExitOut(e *SandboxExit) *pluginpb.SandboxExit {
	if e == nil {
		return nil
	}
	return &pluginpb.SandboxExit{Code: int32(e.Code), Signal: int32(e.Signal), OutOfMemory: e.OutOfMemory, Reason: clean(e.Reason), At: timeOut(e.At)}
}

func cleanMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[clean(k)] = clean(v)
	}
	return out
}

func timeOut(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
