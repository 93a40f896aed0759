package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

func TestListTargets(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := &fakeEngine{targets: []target.Info{
		{Node: "b@h", State: target.Refused, Reason: "wrong cookie", Hint: "set it"},
		{Node: "a@h", State: target.Attached, OTPRelease: "27", Owner: "m1", Since: at, Topologies: []string{"local"}, Creation: 3, Agent: "loaded"},
	}}
	res, err := serve(t, e, Options{}).dial(t).Targets.ListTargets(testContext(t), &controlpb.ListTargetsRequest{})
	require.NoError(t, err)
	require.Len(t, res.GetTargets(), 2)
	a, b := res.GetTargets()[0], res.GetTargets()[1]
	assert.Equal(t, "a@h attached 27 m1 [local] 3 loaded", fmt.Sprintln(a.GetNode(), a.GetState(), a.GetOtpRelease(), a.GetOwner(), a.GetTopologies(), a.GetCreation(), a.GetAgent())[:35])
	assert.Equal(t, at, a.GetSince().AsTime())
	assert.Equal(t, "b@h refused wrong cookie set it", fmt.Sprint(b.GetNode(), " ", b.GetState(), " ", b.GetReason(), " ", b.GetHint()))
	assert.Nil(t, b.GetSince())
	assert.Equal(t, "b@h", e.targets[0].Node, "the engine's slice was sorted")
}

func TestStatusPluginsVersion(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := &fakeEngine{
		targets: []target.Info{{State: target.Attached}, {State: target.Attached}, {State: target.Gone}},
		status: Status{
			Member: "m1", Node: "debughost-1@h", Started: at, ConfigFile: "/c", DataDir: "/d", Warnings: []string{"w"},
			Topologies: []Topology{{Name: "local", Strategy: "discovery-epmd", State: "ok", Reason: "r", Nodes: 3, Updated: at}},
		},
		plugins: []Plugin{{Name: "discovery-epmd", Kind: "discovery", State: "running", Version: "v1", OSPid: 42, Reason: "r", Restarts: 2, Since: at}},
	}
	c := serve(t, e, Options{Version: Version{"v9", "abc", "go1"}}).dial(t)
	st, err := c.Member.GetStatus(testContext(t), &controlpb.GetStatusRequest{})
	require.NoError(t, err)
	assert.Equal(t, "m1 v9 debughost-1@h /c /d", fmt.Sprint(st.GetMember(), " ", st.GetVersion(), " ", st.GetNode(), " ", st.GetConfigFile(), " ", st.GetDataDir()))
	assert.Equal(t, int64(os.Getpid()), st.GetOsPid())
	assert.Equal(t, map[string]uint32{"attached": 2, "gone": 1}, st.GetTargets())
	assert.Equal(t, uint32(3), st.GetTopologies()[0].GetNodes())
	assert.Equal(t, []string{"w"}, st.GetWarnings())
	assert.Len(t, st.GetPlugins(), 1)
	assert.Greater(t, st.GetRss(), uint64(1<<20))

	pl, err := c.Member.ListPlugins(testContext(t), &controlpb.ListPluginsRequest{})
	require.NoError(t, err)
	p := pl.GetPlugins()[0]
	assert.Equal(t, "discovery-epmd discovery running v1 r", fmt.Sprint(p.GetName(), " ", p.GetKind(), " ", p.GetState(), " ", p.GetVersion(), " ", p.GetReason()))
	assert.Equal(t, int64(42), p.GetPid())
	assert.Equal(t, uint32(2), p.GetRestarts())

	v, err := c.Member.GetVersion(testContext(t), &controlpb.GetVersionRequest{})
	require.NoError(t, err)
	assert.Equal(t, "v9 abc go1", fmt.Sprint(v.GetVersion(), " ", v.GetCommit(), " ", v.GetGoVersion()))
}

func TestReload(t *testing.T) {
	var result error
	e := &fakeEngine{reload: func(context.Context) error { return result }}
	c := serve(t, e, Options{}).dial(t)
	_, err := c.Member.ReloadConfig(testContext(t), &controlpb.ReloadConfigRequest{})
	require.NoError(t, err)
	result = errors.New("read configuration: log.level: no such level")
	_, err = c.Member.ReloadConfig(testContext(t), &controlpb.ReloadConfigRequest{})
	assert.Equal(t, "reload config: read configuration: log.level: no such level", requireCode(t, err, BadConfig).Cause)
}

func watch(t *testing.T, ctx context.Context, c *Client, req *controlpb.WatchEventsRequest) controlpb.Events_WatchEventsClient {
	t.Helper()
	s, err := c.Events.WatchEvents(ctx, req)
	require.NoError(t, err)
	return s
}

// types reads to the end of a stream.
func types(t *testing.T, s controlpb.Events_WatchEventsClient) []string {
	t.Helper()
	var out []string
	for {
		e, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, e.GetType())
	}
}

func TestEventHistory(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := &fakeEngine{bus: events.New(events.Options{Member: "m1", Now: func() time.Time { return now }})}
	e.bus.Publish(events.Event{Type: events.MemberStarted})
	now = now.Add(time.Minute)
	e.bus.Publish(events.Event{
		Type: events.TargetLost, Node: "a@h", Plugin: "p", Topology: "t", Reason: "r", Fields: map[string]string{"k": "v\xff"},
	})
	e.bus.Publish(events.Event{Type: events.PluginExited})
	c := serve(t, e, Options{}).dial(t)
	ctx := testContext(t)

	assert.Equal(t, []string{"member_started", "target_lost", "plugin_exited"}, types(t, watch(t, ctx, c, &controlpb.WatchEventsRequest{})))
	assert.Equal(t, []string{"target_lost", "plugin_exited"}, types(t, watch(t, ctx, c, &controlpb.WatchEventsRequest{Since: timestamppb.New(now)})))
	assert.Equal(t, []string{"plugin_exited"}, types(t, watch(t, ctx, c, &controlpb.WatchEventsRequest{AfterSeq: 2})))
	one := watch(t, ctx, c, &controlpb.WatchEventsRequest{Types: []string{"target_lost"}})
	ev, err := one.Recv()
	require.NoError(t, err)
	assert.Equal(t, "2 a@h p t r m1", fmt.Sprint(ev.GetSeq(), " ", ev.GetNode(), " ", ev.GetPlugin(), " ", ev.GetTopology(), " ", ev.GetReason(), " ", ev.GetMember()))
	assert.Equal(t, map[string]string{"k": "v\uFFFD"}, ev.GetFields())
	assert.Equal(t, now, ev.GetTime().AsTime())
	assert.Empty(t, types(t, one))

	_, err = watch(t, ctx, c, &controlpb.WatchEventsRequest{Types: []string{"target_eaten"}}).Recv()
	assert.Contains(t, requireCode(t, err, BadRequest).Hint, "target_found")
	_, err = watch(t, ctx, c, &controlpb.WatchEventsRequest{Since: &timestamppb.Timestamp{Nanos: -1}}).Recv()
	requireCode(t, err, BadRequest)
}

func TestEventsFollow(t *testing.T) {
	e := &fakeEngine{}
	e.Events().Publish(events.Event{Type: events.MemberStarted})
	s := serve(t, e, Options{})
	c := s.dial(t)
	ctx, cancel := context.WithCancel(testContext(t))
	stream := watch(t, ctx, c, &controlpb.WatchEventsRequest{Follow: true, Types: []string{"target_found", "member_started"}})
	_, err := stream.Header() // subscribed
	require.NoError(t, err)
	ev, err := stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, "member_started", ev.GetType())
	e.bus.Publish(events.Event{Type: events.TargetLost})
	e.bus.Publish(events.Event{Type: events.TargetFound, Node: "a@h"})
	ev, err = stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, "a@h", ev.GetNode())
	cancel()
	_, err = stream.Recv()
	requireCode(t, err, Canceled)
}

// Who follows hears how the member stops, and that it does.
func TestStopEndsFollowers(t *testing.T) {
	e := &fakeEngine{}
	s := serve(t, e, Options{Drain: time.Minute})
	stream := watch(t, testContext(t), s.dial(t), &controlpb.WatchEventsRequest{Follow: true})
	_, err := stream.Header()
	require.NoError(t, err)
	e.bus.Publish(events.Event{Type: events.MemberStopping})
	require.NoError(t, s.stop())
	ev, err := stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, "member_stopping", ev.GetType())
	_, err = stream.Recv()
	requireCode(t, err, Stopping)
}

// A call under way is finished when the server stops.
func TestStopDrains(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	e := &fakeEngine{kill: func(context.Context, target.KillQuery) (target.KillResult, error) {
		close(began)
		<-release
		return target.KillResult{Pid: "<0.1.0>"}, nil
	}}
	s := serve(t, e, Options{Drain: time.Minute})
	c := s.dial(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: "n", Process: "p"})
		done <- err
	}()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	require.Eventually(t, func() bool { // it takes no new callers
		late, err := Dial(testContext(t), s.path)
		if err == nil {
			late.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	close(release)
	require.NoError(t, <-done)
	require.NoError(t, <-stopped)
}

// A call that does not end is canceled when the time is up.
func TestStopHasADeadline(t *testing.T) {
	began := make(chan struct{})
	e := &fakeEngine{kill: func(ctx context.Context, _ target.KillQuery) (target.KillResult, error) {
		close(began)
		<-ctx.Done()
		return target.KillResult{}, ctx.Err()
	}}
	s := serve(t, e, Options{Drain: time.Millisecond})
	c := s.dial(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: "n", Process: "p"})
		done <- err
	}()
	<-began
	require.NoError(t, s.stop())
	require.Error(t, <-done)
}

// Whoever talks something else than gRPC costs nothing but his connection.
func TestGarbageOnTheSocket(t *testing.T) {
	s := serve(t, &fakeEngine{}, Options{})
	conn, err := net.Dial("unix", s.path)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = io.Copy(io.Discard, conn)
	require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the connection stays open")
	_, err = s.dial(t).Member.GetVersion(testContext(t), &controlpb.GetVersionRequest{})
	require.NoError(t, err)
}

// Whoever connects and says nothing does not hold up the stop.
func TestSilentCallerDoesNotDelayStop(t *testing.T) {
	s := serve(t, &fakeEngine{}, Options{Drain: time.Millisecond})
	conn, err := net.Dial("unix", s.path)
	require.NoError(t, err)
	defer conn.Close()
	s.dial(t) // its connection was accepted after the silent one
	began := time.Now()
	require.NoError(t, s.stop())
	assert.Less(t, time.Since(began), 10*handshakeTime)
}

func TestServerNeedsNoLog(t *testing.T) {
	s := NewServer(&fakeEngine{}, Options{Socket: filepath.Join(socketDir(t), "s")})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, s.Run(ctx))
}

func TestDescribe(t *testing.T) {
	wrapped := fmt.Errorf("ask a@b: %w", &target.HintError{Err: fmt.Errorf("x: %w", target.ErrNoProcess), Hint: "h"})
	assert.Equal(t, &Error{Code: NoProcess, Tried: "inspect p", Cause: "inspect p: ask a@b: x: noproc", Hint: "h"}, describe("inspect p", wrapped))
	assert.Equal(t, Canceled, describe("x", fmt.Errorf("x: %w", context.Canceled)).Code)
	assert.Equal(t, Failed, describe("", io.ErrUnexpectedEOF).Code)
	own := &Error{Code: Denied}
	assert.Same(t, own, describe("x", fmt.Errorf("y: %w", own)))
}

func TestErrorsTravel(t *testing.T) {
	for code := range grpcCodes {
		e := &Error{Code: code, Tried: "t", Cause: "c", Hint: "h", Node: "n"}
		assert.Equal(t, e, fromStatus(e.GRPCStatus().Err()), code)
	}
	odd := &Error{Code: "newer", Cause: "c"}
	assert.Equal(t, codes.Unknown, odd.GRPCStatus().Code())
	for grpcCode, code := range map[codes.Code]Code{
		codes.DeadlineExceeded: Timeout, codes.Canceled: Canceled, codes.Unavailable: NotRunning,
		codes.Unimplemented: BadRequest, codes.Internal: Failed,
	} {
		e := requireCode(t, fromStatus(status.Error(grpcCode, "x")), code)
		assert.Contains(t, e.Cause, "call debughost: ")
	}
	require.NoError(t, fromStatus(nil))
	assert.Equal(t, io.ErrClosedPipe, fromStatus(io.ErrClosedPipe))
	assert.Equal(t, Failed, fromStatus(status.Error(codes.Unknown, "x")).(*Error).Code)
}

// An old server that lacks a call is told apart from one that fails.
func TestUnknownCall(t *testing.T) {
	c := serve(t, &fakeEngine{}, Options{}).dial(t)
	err := fromStatus(c.conn.Invoke(testContext(t), "/debughost.control.v1.Nothing/Nope", &controlpb.GetVersionRequest{}, &controlpb.GetVersionResponse{}, grpc.WaitForReady(true)))
	assert.Contains(t, err.Error(), "does not know this call")
}

func TestDetailsThatFail(t *testing.T) {
	st := (&Error{Code: Failed, Cause: "c", Tried: "\xff"}).GRPCStatus()
	assert.Equal(t, "c", st.Message())
}
