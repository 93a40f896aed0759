package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Sandbox is the plugin's strategy. It is an sdk.Snapshotter, an sdk.Reloader and an
// sdk.Operator if the description has the capability for that.
func (c *Client) Sandbox(d sdk.Description) sdk.Sandbox {
	rpc := pluginpb.NewSandboxClient(c.conn)
	s, sn, re, op := &sandbox{rpc}, snapshots{rpc}, reloads{rpc}, operations{rpc}
	switch [3]bool{d.Has(sdk.CapabilitySnapshot), d.Has(sdk.CapabilityReload), d.Has(sdk.CapabilityOperate)} {
	case [3]bool{true, false, false}:
		return struct {
			*sandbox
			snapshots
		}{s, sn}
	case [3]bool{false, true, false}:
		return struct {
			*sandbox
			reloads
		}{s, re}
	case [3]bool{false, false, true}:
		return struct {
			*sandbox
			operations
		}{s, op}
	case [3]bool{true, true, false}:
		return struct {
			*sandbox
			snapshots
			reloads
		}{s, sn, re}
	case [3]bool{true, false, true}:
		return struct {
			*sandbox
			snapshots
			operations
		}{s, sn, op}
	case [3]bool{false, true, true}:
		return struct {
			*sandbox
			reloads
			operations
		}{s, re, op}
	case [3]bool{true, true, true}:
		return all{s, sn, re, op}
	}
	return s
}

type all struct {
	*sandbox
	snapshots
	reloads
	operations
}

type sandbox struct{ rpc pluginpb.SandboxClient }

var (
	_ sdk.Sandbox     = (*sandbox)(nil)
	_ sdk.Snapshotter = all{}
	_ sdk.Reloader    = all{}
	_ sdk.Operator    = all{}
)

func (s *sandbox) Create(ctx context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	const method = "Sandbox.Create"
	in, err := s.rpc.Create(ctx, &pluginpb.SandboxCreateRequest{Spec: sandboxSpecOut(spec)})
	if err != nil {
		return sdk.SandboxHandle{}, callErrorOf(ctx, method, err, sdk.MaxFailure)
	}
	return sandboxHandleIn(method, spec.ID, in.GetHandle())
}

// maxEnforced bounds what a plugin says about limits, of which there are five.
const maxEnforced = 64

var sandboxStatesIn = map[pluginpb.SandboxState]sdk.SandboxState{
	pluginpb.SandboxState_SANDBOX_STATE_STARTING: sdk.SandboxStarting,
	pluginpb.SandboxState_SANDBOX_STATE_RUNNING:  sdk.SandboxRunning,
	pluginpb.SandboxState_SANDBOX_STATE_STOPPING: sdk.SandboxStopping,
	pluginpb.SandboxState_SANDBOX_STATE_EXITED:   sdk.SandboxExited,
}

func (s *sandbox) Inspect(ctx context.Context, id string) (sdk.SandboxStatus, error) {
	const method = "Sandbox.Inspect"
	in, err := s.rpc.Inspect(ctx, &pluginpb.SandboxInspectRequest{Id: id})
	if err != nil {
		return sdk.SandboxStatus{}, callError(ctx, method, err)
	}
	st := in.GetStatus()
	state, ok := sandboxStatesIn[st.GetState()]
	switch {
	case !ok:
		return sdk.SandboxStatus{}, garbage(method, "%.64q is in the unknown state %d", id, st.GetState())
	case st.GetId() != id:
		return sdk.SandboxStatus{}, garbage(method, "asked for %.64q it answers for %.64q", id, st.GetId())
	case max(len(st.GetNode()), len(st.GetAddr()), len(st.GetCookieFile())) > maxPlace:
		return sdk.SandboxStatus{}, garbage(method, "the node, address or cookie file of %.64q has more than %d bytes", id, maxPlace)
	case len(st.GetEnforced()) > maxEnforced:
		return sdk.SandboxStatus{}, garbage(method, "it says of %d limits of %.64q how they are held", len(st.GetEnforced()), id)
	case (state == sdk.SandboxExited) != (st.GetExit() != nil):
		return sdk.SandboxStatus{}, garbage(method, "%.64q is %s, and its exit does not fit that", id, state)
	}
	out := sdk.SandboxStatus{ID: id, State: state, Node: st.GetNode(), Addr: st.GetAddr(), CookieFile: st.GetCookieFile(), OSPid: int(st.GetOsPid()), Started: timeIn(st.GetStarted()), Memory: st.GetMemory(), Enforced: st.GetEnforced()}
	if st.GetExit() != nil {
		exit := sandboxExitIn(st.GetExit())
		out.Exit = &exit
	}
	return out, nil
}

func (s *sandbox) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	const method = "Sandbox.Wait"
	in, err := s.rpc.Wait(ctx, &pluginpb.SandboxWaitRequest{Id: id})
	if err != nil {
		return sdk.SandboxExit{}, callError(ctx, method, err)
	}
	if in.GetExit() == nil {
		return sdk.SandboxExit{}, garbage(method, "it does not say how %.64q ended", id)
	}
	return sandboxExitIn(in.GetExit()), nil
}

func (s *sandbox) Stop(ctx context.Context, id string, timeout time.Duration) error {
	_, err := s.rpc.Stop(ctx, &pluginpb.SandboxStopRequest{Id: id, Timeout: durationpb.New(timeout)})
	return callError(ctx, "Sandbox.Stop", err)
}

func (s *sandbox) Destroy(ctx context.Context, id string) error {
	_, err := s.rpc.Destroy(ctx, &pluginpb.SandboxDestroyRequest{Id: id})
	return callError(ctx, "Sandbox.Destroy", err)
}

func (s *sandbox) Recover(ctx context.Context, h sdk.SandboxHandle) error {
	_, err := s.rpc.Recover(ctx, &pluginpb.SandboxRecoverRequest{Handle: &pluginpb.SandboxHandle{Id: h.ID, State: h.State}})
	return callError(ctx, "Sandbox.Recover", err)
}

func (s *sandbox) Logs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	const method = "Sandbox.Logs"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.rpc.Logs(ctx, &pluginpb.SandboxLogsRequest{Id: id, Tail: uint32(max(o.Tail, 0)), Follow: o.Follow})
	if err != nil {
		return callError(ctx, method, err)
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return callError(ctx, method, err)
		}
		if err := emit(sdk.LogLine{Time: timeIn(in.GetTime()), Stream: in.GetStream(), Line: in.GetLine()}); err != nil {
			return err
		}
	}
}

type snapshots struct{ rpc pluginpb.SandboxClient }

func (s snapshots) Snapshot(ctx context.Context, id string, w io.Writer) error {
	const method = "Sandbox.Snapshot"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.rpc.Snapshot(ctx, &pluginpb.SandboxSnapshotRequest{Id: id})
	if err != nil {
		return callError(ctx, method, err)
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return callError(ctx, method, err)
		}
		if _, err := w.Write(in.GetChunk()); err != nil {
			return err
		}
	}
}

func (s snapshots) Restore(ctx context.Context, spec sdk.SandboxSpec, r io.Reader) (sdk.SandboxHandle, error) {
	const method = "Sandbox.Restore"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.rpc.Restore(ctx)
	if err != nil {
		return sdk.SandboxHandle{}, callError(ctx, method, err)
	}
	// Send fails with io.EOF when the plugin has answered already; the answer
	// says why.
	err = stream.Send(&pluginpb.SandboxRestoreRequest{Part: &pluginpb.SandboxRestoreRequest_Spec{Spec: sandboxSpecOut(spec)}})
	for buf := make([]byte, 64<<10); err == nil; {
		n, readErr := r.Read(buf)
		if n > 0 {
			err = stream.Send(&pluginpb.SandboxRestoreRequest{Part: &pluginpb.SandboxRestoreRequest_Chunk{Chunk: buf[:n]}})
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return sdk.SandboxHandle{}, readErr
		}
	}
	in, err := stream.CloseAndRecv()
	if err != nil {
		return sdk.SandboxHandle{}, callErrorOf(ctx, method, err, sdk.MaxFailure)
	}
	return sandboxHandleIn(method, spec.ID, in.GetHandle())
}

type reloads struct{ rpc pluginpb.SandboxClient }

func (s reloads) Reload(ctx context.Context, spec sdk.SandboxSpec) ([]byte, error) {
	const method = "Sandbox.Reload"
	in, err := s.rpc.Reload(ctx, &pluginpb.SandboxReloadRequest{Spec: sandboxSpecOut(spec)})
	if err != nil {
		return nil, callErrorOf(ctx, method, err, sdk.MaxFailure)
	}
	return jsonIn(method, spec.ID, in.GetReport())
}

type operations struct{ rpc pluginpb.SandboxClient }

func (s operations) Operate(ctx context.Context, id, operation string, input []byte) ([]byte, error) {
	const method = "Sandbox.Operate"
	if len(input) > sdk.MaxOperation {
		return nil, &sdk.CallError{Method: method, Message: fmt.Sprintf("the input has %d bytes, and at most %d are allowed", len(input), sdk.MaxOperation)}
	}
	in, err := s.rpc.Operate(ctx, &pluginpb.SandboxOperateRequest{Id: id, Operation: operation, Input: input})
	if err != nil {
		return nil, callError(ctx, method, err)
	}
	return jsonIn(method, id, in.GetOutput())
}

// jsonIn is an answer in the strategy's own terms; nothing at all is {}.
func jsonIn(method, id string, answer []byte) ([]byte, error) {
	switch {
	case len(answer) == 0:
		return []byte("{}"), nil
	case len(answer) > sdk.MaxOperation:
		return nil, garbage(method, "of %.64q it answers with %d bytes, want at most %d", id, len(answer), sdk.MaxOperation)
	case !json.Valid(answer):
		return nil, garbage(method, "what it answers of %.64q is no JSON", id)
	}
	return answer, nil
}

func sandboxSpecOut(s sdk.SandboxSpec) *pluginpb.SandboxSpec {
	l := s.Limits
	return &pluginpb.SandboxSpec{Id: s.ID, Config: s.Config, Bundle: s.Bundle, Orphan: durationpb.New(s.Orphan), Limits: &pluginpb.SandboxLimits{
		Memory: l.Memory, Cpus: l.CPUs, Processes: count(l.Processes), OpenFiles: count(l.OpenFiles), Disk: l.Disk,
	}}
}

func sandboxHandleIn(method, id string, in *pluginpb.SandboxHandle) (sdk.SandboxHandle, error) {
	if in.GetId() != id {
		return sdk.SandboxHandle{}, garbage(method, "asked for %.64q it answers with the handle of %.64q", id, in.GetId())
	}
	if len(in.GetState()) > maxHandle {
		return sdk.SandboxHandle{}, garbage(method, "the handle of %.64q has %d bytes, want at most %d", id, len(in.GetState()), maxHandle)
	}
	return sdk.SandboxHandle{ID: id, State: in.GetState()}, nil
}

// maxHandle bounds the state of a handle, which the host keeps on disk for as long
// as the sandbox lives. maxPlace bounds the name of a node, its address and the path
// of its cookie.
const (
	maxHandle = 64 << 10
	maxPlace  = 4 << 10
)

func sandboxExitIn(in *pluginpb.SandboxExit) sdk.SandboxExit {
	return sdk.SandboxExit{Code: int(in.GetCode()), Signal: int(in.GetSignal()), OutOfMemory: in.GetOutOfMemory(), Reason: cut(in.GetReason()), At: timeIn(in.GetAt())}
}

func timeIn(t *timestamppb.Timestamp) time.Time {
	if t == nil || !t.IsValid() {
		return time.Time{}
	}
	return t.AsTime()
}
