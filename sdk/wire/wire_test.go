package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"github.com/debughost/debughost/sdk/wire"
	"github.com/hashicorp/go-plugin"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect connects to the services that register adds to a server, over real
// gRPC in memory.
func connect(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer(sdk.ServerOptions()...)
	register(server)
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:plugin", append(wire.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-served)
	})
	return conn
}

func dial(t *testing.T, register func(*grpc.Server)) *wire.Client {
	t.Helper()
	return wire.NewClient(connect(t, register))
}

func serve(t *testing.T, s sdk.Strategy) *wire.Client {
	t.Helper()
	return dial(t, func(server *grpc.Server) {
		_, err := sdk.Register(server, s)
		require.NoError(t, err)
	})
}

// configured is serve, with an accepted config.
func configured(t *testing.T, s sdk.Strategy) *wire.Client {
	t.Helper()
	c := serve(t, s)
	require.NoError(t, c.Configure(t.Context(), []byte("{}")))
	return c
}

// finder is a Discovery of one function.
type finder struct {
	Size  int `json:"size" min:"1" doc:"how many"`
	watch func(context.Context, func(sdk.Answer) error) error
	setup func(context.Context) error
}

func (f *finder) Describe() sdk.Info {
	return sdk.Info{Name: "discovery-test", Version: "1.2.3", Config: f}
}

func (f *finder) Watch(ctx context.Context, emit func(sdk.Answer) error) error {
	return f.watch(ctx, emit)
}

func (f *finder) Configured(ctx context.Context) error {
	if f.setup == nil {
		return nil
	}
	return f.setup(ctx)
}

func TestDescribe(t *testing.T) {
	d, err := serve(t, &finder{Size: 3}).Describe(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false,
		"properties":{"size":{"type":"integer","minimum":1,"default":3,"description":"how many"}}}`, string(d.ConfigSchema))
	d.ConfigSchema = nil
	require.Equal(t, sdk.Description{Name: "discovery-test", Version: "1.2.3", Kind: sdk.KindDiscovery}, d)
}

func TestConfigure(t *testing.T) {
	f := &finder{}
	c := serve(t, f)
	err := c.Discovery().Watch(t.Context(), nil)
	require.ErrorIs(t, err, sdk.ErrNotConfigured)

	var problems *sdk.ConfigError
	require.ErrorAs(t, c.Configure(t.Context(), []byte(`{"size": 0, "sise": 1}`)), &problems)
	require.Equal(t, []sdk.Problem{{Path: "sise", Message: "unknown key"}, {Path: "size", Message: "want at least 1"}}, problems.Problems)

	f.setup = func(context.Context) error { return sdk.Invalid("size", "too \xff much") }
	require.EqualError(t, c.Configure(t.Context(), []byte(`{"size": 5}`)), "size: too \ufffd much")
	f.setup = func(context.Context) error {
		return sdk.WithHint(errors.New("open socket: denied"), "run it as another user")
	}
	err = c.Configure(t.Context(), []byte(`{"size": 5}`))
	require.EqualError(t, err, "call Base.Configure: open socket: denied")
	require.Equal(t, "run it as another user", sdk.Hint(err))

	f.setup = nil
	require.NoError(t, c.Configure(t.Context(), []byte(`{"size": 5}`)))
	require.Equal(t, 5, f.Size)
	require.ErrorIs(t, c.Configure(t.Context(), []byte(`{"size": 6}`)), sdk.ErrConfigured)
	require.Equal(t, 5, f.Size)
}

var nodes = []sdk.Node{
	{Name: "shop@db1", Addr: "10.0.0.1:4001", Role: sdk.RoleTarget, Metadata: map[string]string{"zone": "a"}},
	{Name: "member-b", Addr: "[::1]:7946", Role: sdk.RoleMember},
}

// collect watches until n answers were seen.
func collect(t *testing.T, c *wire.Client, n int) []sdk.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	enough := errors.New("enough")
	var answers []sdk.Answer
	err := c.Discovery().Watch(ctx, func(a sdk.Answer) error {
		if answers = append(answers, a); len(answers) == n {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	return answers
}

func TestWatch(t *testing.T) {
	ended := make(chan struct{})
	c := configured(t, &finder{watch: func(ctx context.Context, emit func(sdk.Answer) error) error {
		defer close(ended)
		for _, a := range []sdk.Answer{
			{Nodes: nodes},
			{Err: sdk.WithHint(errors.New("ask db1: refused"), "is it up?")},
			{Nodes: nodes[:1], Err: errors.New("ask db2: refused")},
			{},
			{Nodes: []sdk.Node{}, Err: errors.New("an empty list beside an error is no list")},
		} {
			if err := emit(a); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return emit(sdk.Answer{})
	}})
	got := collect(t, c, 5)
	require.Equal(t, nodes, got[0].Nodes)
	require.NoError(t, got[0].Err)
	require.Nil(t, got[1].Nodes)
	require.EqualError(t, got[1].Err, "call Discovery.Watch: ask db1: refused")
	require.Equal(t, "is it up?", sdk.Hint(got[1].Err))
	require.Equal(t, nodes[:1], got[2].Nodes)
	require.EqualError(t, got[2].Err, "call Discovery.Watch: ask db2: refused")
	require.Equal(t, sdk.Answer{Nodes: []sdk.Node{}}, got[3])
	require.Nil(t, got[4].Nodes)
	require.Error(t, got[4].Err)
	<-ended // the plugin hears of the end
}

func TestWatchThatReturnsEarlyStaysOpen(t *testing.T) {
	c := configured(t, &finder{watch: func(_ context.Context, emit func(sdk.Answer) error) error { return emit(sdk.Answer{Nodes: nodes}) }})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	err := c.Discovery().Watch(ctx, func(sdk.Answer) error {
		time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
		return nil
	})
	require.ErrorIs(t, err, enough)
}

// What a strategy emits wrongly is an error of the answer, for both sides.
func TestWatchOfInvalidNodes(t *testing.T) {
	for want, list := range map[string][]sdk.Node{
		"want name@host":       {{Name: "shop"}},
		"listed twice":         {nodes[0], nodes[0]},
		"unknown role":         {{Name: "a@b", Role: "boss"}},
		"needs an address":     {{Name: "m", Role: sdk.RoleMember}},
		"the name is empty":    {{}},
		"not UTF-8":            {{Name: "a@\xff"}},
		"255 characters":       {{Name: strings.Repeat("x", 256) + "@y"}},
		"control character":    {{Name: "a b@c"}},
		"is not host:port":     {{Name: "a@b", Addr: "b"}},
		"65 metadata entries,": {{Name: "a@b", Metadata: metadata(65)}},
	} {
		refused := make(chan error, 1)
		c := configured(t, &finder{watch: func(ctx context.Context, emit func(sdk.Answer) error) error {
			refused <- emit(sdk.Answer{Nodes: list})
			<-ctx.Done()
			return nil
		}})
		a := collect(t, c, 1)[0]
		require.Nil(t, a.Nodes)
		require.ErrorContains(t, a.Err, want)
		require.ErrorContains(t, <-refused, want)
	}
}

func metadata(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[strconv.Itoa(i)] = "x"
	}
	return m
}

func TestWatchErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		watch func(context.Context, func(sdk.Answer) error) error
		is    error
		text  string
	}{
		"error":    {func(context.Context, func(sdk.Answer) error) error { return errors.New("no such zone \xff") }, nil, "no such zone \ufffd"},
		"panic":    {func(context.Context, func(sdk.Answer) error) error { panic("oh dear") }, sdk.ErrPanic, "plugin panicked: oh dear"},
		"oversize": {oversize, sdk.ErrGarbage, "larger than max"},
	} {
		t.Run(name, func(t *testing.T) {
			c := configured(t, &finder{watch: tc.watch})
			err := c.Discovery().Watch(t.Context(), func(sdk.Answer) error { return nil })
			require.ErrorContains(t, err, tc.text)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			_, err = c.Describe(t.Context()) // it goes on
			require.NoError(t, err)
		})
	}
}

func oversize(_ context.Context, emit func(sdk.Answer) error) error {
	var many []sdk.Node
	for i := range wire.MaxMessage / 256 {
		many = append(many, sdk.Node{Name: strings.Repeat("x", 240) + strconv.Itoa(i) + "@host"})
	}
	return emit(sdk.Answer{Nodes: many})
}

func TestContextEndsCalls(t *testing.T) {
	c := configured(t, &finder{watch: func(ctx context.Context, _ func(sdk.Answer) error) error { <-ctx.Done(); return ctx.Err() }})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Discovery().Watch(ctx, nil), context.DeadlineExceeded)
	_, err := c.Describe(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, c.Configure(ctx, nil), context.DeadlineExceeded)
	require.ErrorIs(t, c.Ping(ctx), context.DeadlineExceeded)
	canceled, cancel2 := context.WithCancel(t.Context())
	cancel2()
	_, err = c.Describe(canceled)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPing(t *testing.T) {
	h := health.NewServer()
	c := dial(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, h) })
	h.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_SERVING)
	require.NoError(t, c.Ping(t.Context()))
	h.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	require.ErrorIs(t, c.Ping(t.Context()), sdk.ErrGarbage)
}

func TestGone(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("no such file") }))
	require.NoError(t, err)
	defer conn.Close()
	_, err = wire.NewClient(conn).Describe(t.Context())
	require.ErrorIs(t, err, sdk.ErrUnavailable)
}

// chooser is a Placement of one function.
type chooser struct {
	choose func(sdk.PlacementRequest) (sdk.Decision, error)
}

func (*chooser) Describe() sdk.Info { return sdk.Info{Name: "placement-test", Version: "1"} }

func (c *chooser) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	return c.choose(r)
}

var request = sdk.PlacementRequest{
	Previous: "b",
	Child: sdk.ChildSpec{
		ID: "box-1", Strategy: "sandbox-x", Config: []byte(`{"a":1}`), Restart: sdk.RestartTransient, MaxRestarts: 3,
		MaxRestartsIn: 5 * time.Second, ShutdownTimeout: time.Minute, Constraints: map[string]string{"zone": "a"}, Handoff: sdk.HandoffSnapshot,
		Limits: sdk.SandboxLimits{Memory: 1 << 40, CPUs: 0.5, Processes: 9, OpenFiles: 1024, Disk: 1 << 30},
	},
	Members: []sdk.Member{
		{Name: "a", State: sdk.MemberAlive, Labels: map[string]string{"zone": "a"}, Resources: sdk.Resources{CPUs: 4, Load: 0.5, MemoryTotal: 8 << 30, MemoryAvailable: 4 << 30, Children: 7}},
		{Name: "b", State: sdk.MemberSuspect}, {Name: "c", State: sdk.MemberDead}, {Name: "d", State: sdk.MemberLeft},
		{Name: "e", State: sdk.MemberAlive, Labels: map[string]string{"zone": "a"}, Draining: true},
	},
}

func TestChoose(t *testing.T) {
	want := sdk.Decision{Member: "a", Scores: []sdk.Score{{Member: "a", Total: 1.5, Parts: map[string]float64{"memory": 1, "load": 0.5}}, {Member: "c", Excluded: "it is dead"}}}
	c := configured(t, &chooser{func(r sdk.PlacementRequest) (sdk.Decision, error) {
		if !slices.EqualFunc(r.Members, request.Members, func(a, b sdk.Member) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) || fmt.Sprint(r.Child) != fmt.Sprint(request.Child) || r.Previous != "b" {
			return sdk.Decision{}, fmt.Errorf("got %+v", r)
		}
		return want, nil
	}})
	got, err := c.Placement().Choose(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestChooseRefusals(t *testing.T) {
	for _, cause := range []error{sdk.ErrNoQuorum, sdk.ErrNoCandidate} {
		stop := cause == sdk.ErrNoQuorum
		c := configured(t, &chooser{func(sdk.PlacementRequest) (sdk.Decision, error) {
			return sdk.Decision{Stop: stop, Scores: []sdk.Score{{Member: "a", Excluded: "alone"}}}, sdk.WithHint(fmt.Errorf("%w: 1 of 4 is alive", cause), "start the others")
		}})
		d, err := c.Placement().Choose(t.Context(), request)
		require.Equal(t, stop, d.Stop)
		require.Equal(t, "start the others", sdk.Hint(err))
		require.ErrorIs(t, err, cause)
		require.EqualError(t, err, "call Placement.Choose: "+cause.Error()+": 1 of 4 is alive")
		require.Equal(t, "alone", d.Scores[0].Excluded)
	}
}

func TestChooseChecksTheRequest(t *testing.T) {
	c := configured(t, &chooser{})
	for want, change := range map[string]func(*sdk.PlacementRequest){
		"unknown restart type": func(r *sdk.PlacementRequest) { r.Child.Restart = "always" },
		"unknown handoff":      func(r *sdk.PlacementRequest) { r.Child.Handoff = "some" },
		"unknown state":        func(r *sdk.PlacementRequest) { r.Members = []sdk.Member{{Name: "x"}} },
		"x is there twice": func(r *sdk.PlacementRequest) {
			r.Members = []sdk.Member{{Name: "x", State: sdk.MemberAlive}, {Name: "x", State: sdk.MemberDead}}
		},
	} {
		r := request
		change(&r)
		_, err := c.Placement().Choose(t.Context(), r)
		require.ErrorContains(t, err, want)
	}
	_, err := serve(t, &chooser{}).Placement().Choose(t.Context(), request)
	require.ErrorIs(t, err, sdk.ErrNotConfigured)
}

// boxes is a Sandbox that remembers what it was asked and answers with err.
type boxes struct {
	err    error
	asked  []any
	status sdk.SandboxStatus
}

func (*boxes) Describe() sdk.Info { return sdk.Info{Name: "sandbox-test", Version: "1"} }

func (b *boxes) note(v ...any) error { b.asked = append(b.asked, v...); return b.err }

func (b *boxes) Create(_ context.Context, s sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	return sdk.SandboxHandle{ID: s.ID, State: []byte{0, 255}}, b.note(s)
}
func (b *boxes) Inspect(_ context.Context, id string) (sdk.SandboxStatus, error) {
	return b.status, b.note(id)
}
func (b *boxes) Wait(_ context.Context, id string) (sdk.SandboxExit, error) {
	return sdk.SandboxExit{Code: 3, Signal: 9, OutOfMemory: true, Reason: "uses too\xff much", At: time.Unix(7, 0).UTC()}, b.note(id)
}
func (b *boxes) Stop(_ context.Context, id string, d time.Duration) error { return b.note(id, d) }
func (b *boxes) Destroy(_ context.Context, id string) error               { return b.note(id) }
func (b *boxes) Recover(_ context.Context, h sdk.SandboxHandle) error     { return b.note(h) }
func (b *boxes) Logs(_ context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	return errors.Join(emit(sdk.LogLine{Time: time.Unix(1, 0).UTC(), Stream: "stderr", Line: []byte("x\xff")}), emit(sdk.LogLine{Stream: "stdout"}), b.note(id, o))
}

// movingBoxes can do snapshots.
type movingBoxes struct {
	boxes
	size int
}

func (b *movingBoxes) Snapshot(_ context.Context, id string, w io.Writer) error {
	if _, err := w.Write(bytes.Repeat([]byte("s"), b.size)); err != nil {
		return err
	}
	return b.note(id)
}

func (b *movingBoxes) Restore(_ context.Context, s sdk.SandboxSpec, r io.Reader) (sdk.SandboxHandle, error) {
	if b.err != nil {
		return sdk.SandboxHandle{}, b.err // without reading
	}
	state, err := io.ReadAll(r)
	return sdk.SandboxHandle{ID: s.ID}, errors.Join(err, b.note(s, len(state)))
}

// changingBoxes take other bundles and operations too; answer is what they say.
type changingBoxes struct {
	movingBoxes
	answer []byte
}

func (b *changingBoxes) Reload(_ context.Context, s sdk.SandboxSpec) ([]byte, error) {
	return b.answer, b.note(s)
}

func (b *changingBoxes) Operate(_ context.Context, id, operation string, input []byte) ([]byte, error) {
	return b.answer, b.note(id, operation, string(input))
}

var spec = sdk.SandboxSpec{ID: "box", Config: []byte("{}"), Bundle: "/blobs/x", Orphan: 1500 * time.Millisecond, Limits: sdk.SandboxLimits{Memory: 1 << 40, CPUs: 0.5, Processes: 9, OpenFiles: 64, Disk: 1 << 33}}

func TestSandbox(t *testing.T) {
	b := &boxes{status: sdk.SandboxStatus{ID: "box", State: sdk.SandboxExited, Node: "n@h", Addr: "h:1", CookieFile: "/c", OSPid: 77, Started: time.Unix(5, 0).UTC(), Exit: &sdk.SandboxExit{Code: 1, Reason: "by itself"}, Memory: 1 << 35, Enforced: map[string]string{"memory": "cgroup v2", "disk": "not held"}}}
	c := configured(t, b)
	d, err := c.Describe(t.Context())
	require.NoError(t, err)
	s, ctx := c.Sandbox(d), t.Context()

	h, err := s.Create(ctx, spec)
	require.NoError(t, err)
	require.Equal(t, sdk.SandboxHandle{ID: "box", State: []byte{0, 255}}, h)
	st, err := s.Inspect(ctx, "box")
	require.NoError(t, err)
	require.Equal(t, b.status, st)
	exit, err := s.Wait(ctx, "box")
	require.NoError(t, err)
	require.Equal(t, sdk.SandboxExit{Code: 3, Signal: 9, OutOfMemory: true, Reason: "uses too\ufffd much", At: time.Unix(7, 0).UTC()}, exit)
	require.NoError(t, s.Stop(ctx, "box", 2*time.Second))
	require.NoError(t, s.Destroy(ctx, "box"))
	require.NoError(t, s.Recover(ctx, h))
	var lines []sdk.LogLine
	require.NoError(t, s.Logs(ctx, "box", sdk.LogOptions{Tail: 5, Follow: true}, func(l sdk.LogLine) error { lines = append(lines, l); return nil }))
	require.Equal(t, []sdk.LogLine{{Time: time.Unix(1, 0).UTC(), Stream: "stderr", Line: []byte("x\xff")}, {Stream: "stdout"}}, lines)
	require.Equal(t, []any{spec, "box", "box", "box", 2 * time.Second, "box", h, "box", sdk.LogOptions{Tail: 5, Follow: true}}, b.asked)

	stop := errors.New("stop")
	require.ErrorIs(t, s.Logs(ctx, "box", sdk.LogOptions{}, func(sdk.LogLine) error { return stop }), stop)
	b.status.State = "sleeping"
	_, err = s.Inspect(ctx, "box")
	require.ErrorContains(t, err, `unknown state "sleeping"`)
}

// A limit below none is none, on either side.
func TestSandboxLimitsBelowNone(t *testing.T) {
	b := &boxes{}
	c := configured(t, b)
	_, err := c.Sandbox(sdk.Description{}).Create(t.Context(), sdk.SandboxSpec{ID: "box", Orphan: -time.Second, Limits: sdk.SandboxLimits{Processes: -1, OpenFiles: -1}})
	require.NoError(t, err)
	require.Equal(t, []any{sdk.SandboxSpec{ID: "box"}}, b.asked)
}

// rooted is a strategy that has a directory.
type rooted struct {
	boxes
	dir chan string
}

func (r *rooted) Configured(ctx context.Context) error {
	dir, ok := sdk.StateDirFrom(ctx)
	if ok != (dir != "") {
		return errors.New("half a directory")
	}
	r.dir <- dir
	return nil
}

func TestStateDirReachesTheStrategy(t *testing.T) {
	for _, want := range []string{"", "/var/lib/debughost/sandboxes/sandbox-test"} {
		r := &rooted{dir: make(chan string, 1)}
		ctx := t.Context()
		if want != "" {
			ctx = sdk.WithStateDir(ctx, want)
		}
		require.NoError(t, serve(t, r).Configure(ctx, []byte("{}")))
		require.Equal(t, want, <-r.dir)
	}
}

func TestSandboxErrors(t *testing.T) {
	ctx := t.Context()
	for _, cause := range []error{sdk.ErrNotFound, sdk.ErrExists, sdk.ErrUnsupported, context.DeadlineExceeded, context.Canceled} {
		b := &movingBoxes{boxes: boxes{err: sdk.WithHint(fmt.Errorf("use box: %w", cause), "try another")}}
		c := configured(t, b)
		s := c.Sandbox(sdk.Description{Capabilities: []string{sdk.CapabilitySnapshot}}).(sdk.Snapshotter)
		_, create := s.Create(ctx, spec)
		_, inspect := s.Inspect(ctx, "box")
		_, wait := s.Wait(ctx, "box")
		_, restore := s.Restore(ctx, spec, bytes.NewReader(make([]byte, 1<<20)))
		for i, err := range []error{
			create, inspect, wait, s.Stop(ctx, "box", 0), s.Destroy(ctx, "box"), s.Recover(ctx, sdk.SandboxHandle{}),
			s.Logs(ctx, "box", sdk.LogOptions{}, func(sdk.LogLine) error { return nil }), s.Snapshot(ctx, "box", io.Discard), restore,
		} {
			require.ErrorIs(t, err, cause, i)
			require.ErrorContains(t, err, "use box: "+cause.Error(), i)
			require.Equal(t, "try another", sdk.Hint(err), i)
		}
	}
}

// What a compiler printed arrives with the error of a start or a reload; other errors,
// and what is longer still, are cut.
func TestLongFailures(t *testing.T) {
	ctx := t.Context()
	for _, long := range []string{strings.Repeat("└─ lib/a.ex\n", 5<<10), strings.Repeat("x", 1<<20)} {
		b := &changingBoxes{movingBoxes: movingBoxes{boxes: boxes{err: errors.New(long)}}}
		c := configured(t, b)
		s := c.Sandbox(sdk.Description{Capabilities: []string{sdk.CapabilitySnapshot, sdk.CapabilityReload}})
		_, create := s.Create(ctx, spec)
		_, restore := s.(sdk.Snapshotter).Restore(ctx, spec, strings.NewReader("x"))
		_, reload := s.(sdk.Reloader).Reload(ctx, spec)
		for i, err := range []error{create, restore, reload} {
			require.ErrorContains(t, err, long[:min(len(long), sdk.MaxFailure)], i)
			require.Less(t, len(err.Error()), sdk.MaxFailure+100, i)
		}
		require.Less(t, len(s.Destroy(ctx, "box").Error()), 9<<10)
	}
}

func TestSandboxNeedsConfig(t *testing.T) {
	ctx := t.Context()
	c := serve(t, &movingBoxes{})
	s := c.Sandbox(sdk.Description{Capabilities: []string{sdk.CapabilitySnapshot}}).(sdk.Snapshotter)
	_, create := s.Create(ctx, spec)
	_, inspect := s.Inspect(ctx, "box")
	_, wait := s.Wait(ctx, "box")
	_, restore := s.Restore(ctx, spec, strings.NewReader("x"))
	for i, err := range []error{
		create, inspect, wait, s.Stop(ctx, "box", 0), s.Destroy(ctx, "box"), s.Recover(ctx, sdk.SandboxHandle{}),
		s.Logs(ctx, "box", sdk.LogOptions{}, nil), s.Snapshot(ctx, "box", io.Discard), restore,
	} {
		require.ErrorIs(t, err, sdk.ErrNotConfigured, i)
	}
}

func TestSnapshots(t *testing.T) {
	ctx := t.Context()
	b := &movingBoxes{size: 3<<20 + 1}
	c := configured(t, b)
	d, err := c.Describe(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{sdk.CapabilitySnapshot}, d.Capabilities)
	s := c.Sandbox(d).(sdk.Snapshotter)
	var state bytes.Buffer
	require.NoError(t, s.Snapshot(ctx, "box", &state))
	require.Equal(t, b.size, state.Len())
	h, err := s.Restore(ctx, spec, &state)
	require.NoError(t, err)
	require.Equal(t, "box", h.ID)
	require.Equal(t, []any{"box", spec, b.size}, b.asked)

	require.ErrorIs(t, s.Snapshot(ctx, "box", failing{}), io.ErrClosedPipe)
	_, err = s.Restore(ctx, spec, failing{})
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (failing) Read([]byte) (int, error)  { return 0, io.ErrClosedPipe }

func TestWithoutSnapshots(t *testing.T) {
	c := configured(t, &boxes{})
	_, can := c.Sandbox(sdk.Description{}).(sdk.Snapshotter)
	require.False(t, can)
	s := c.Sandbox(sdk.Description{Capabilities: []string{sdk.CapabilitySnapshot}}).(sdk.Snapshotter)
	require.ErrorIs(t, s.Snapshot(t.Context(), "box", io.Discard), sdk.ErrUnsupported)
	_, err := s.Restore(t.Context(), spec, strings.NewReader("x"))
	require.ErrorIs(t, err, sdk.ErrUnsupported)
}

func TestReloadAndOperate(t *testing.T) {
	ctx := t.Context()
	b := &changingBoxes{answer: []byte(`{"a":1}`)}
	c := configured(t, b)
	d, err := c.Describe(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{sdk.CapabilitySnapshot, sdk.CapabilityReload, sdk.CapabilityOperate}, d.Capabilities)
	re, op := c.Sandbox(d).(sdk.Reloader), c.Sandbox(d).(sdk.Operator)
	report, err := re.Reload(ctx, spec)
	require.NoError(t, err)
	require.JSONEq(t, `{"a":1}`, string(report))
	output, err := op.Operate(ctx, "box", "versions", []byte(`{"x":2}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"a":1}`, string(output))
	require.Equal(t, []any{spec, "box", "versions", `{"x":2}`}, b.asked)

	for _, answer := range []string{"no JSON", strings.Repeat(" ", sdk.MaxOperation) + "{}"} {
		b.answer = []byte(answer)
		_, err = op.Operate(ctx, "box", "versions", nil)
		require.Error(t, err)
		_, err = re.Reload(ctx, spec)
		require.ErrorIs(t, err, sdk.ErrGarbage)
	}
	b.answer = nil
	output, err = op.Operate(ctx, "box", "versions", nil)
	require.NoError(t, err)
	require.Equal(t, "{}", string(output))
	_, err = op.Operate(ctx, "box", "versions", make([]byte, sdk.MaxOperation+1))
	require.ErrorContains(t, err, "at most 4194304 are allowed")
	b.err = sdk.WithHint(fmt.Errorf("do that: %w", sdk.ErrUnsupported), "do this")
	for _, err := range []error{second(re.Reload(ctx, spec)), second(op.Operate(ctx, "box", "x", nil))} {
		require.ErrorIs(t, err, sdk.ErrUnsupported)
		require.Equal(t, "do this", sdk.Hint(err))
	}
}

func second[T any](_ T, err error) error { return err }

// What a client is, is what the plugin says that it can; of one that says more than
// it can, an error says so.
func TestCapabilities(t *testing.T) {
	c := configured(t, &boxes{})
	for i := range 8 {
		var has []string
		for j, capability := range []string{sdk.CapabilitySnapshot, sdk.CapabilityReload, sdk.CapabilityOperate} {
			if i>>j&1 == 1 {
				has = append(has, capability)
			}
		}
		s := c.Sandbox(sdk.Description{Capabilities: has})
		_, snapshot := s.(sdk.Snapshotter)
		re, reload := s.(sdk.Reloader)
		op, operate := s.(sdk.Operator)
		require.Equal(t, [3]bool{i&1 == 1, i&2 == 2, i&4 == 4}, [3]bool{snapshot, reload, operate})
		if reload {
			require.ErrorIs(t, second(re.Reload(t.Context(), spec)), sdk.ErrUnsupported)
		}
		if operate {
			require.ErrorIs(t, second(op.Operate(t.Context(), "box", "x", nil)), sdk.ErrUnsupported)
		}
	}
}

func TestEnvIsClean(t *testing.T) {
	env := wire.Env([]string{"HOME=/root", "ERL_EPMD_PORT=4370", "RELEASE_COOKIE=secret", "AWS_SECRET_ACCESS_KEY=x", "odd"}, "debug")
	require.Equal(t, []string{"HOME=/root", "ERL_EPMD_PORT=4370", "DEBUGHOST_HOST_PID=" + strconv.Itoa(os.Getpid()), "DEBUGHOST_LOG_LEVEL=debug"}, env)
}

func TestPlugins(t *testing.T) {
	require.NotEmpty(t, wire.Handshake().MagicCookieKey)
	p := wire.Plugins()[1][wire.Name].(plugin.GRPCPlugin)
	require.Error(t, p.GRPCServer(nil, nil))
	c, err := p.GRPCClient(t.Context(), nil, nil)
	require.NoError(t, err)
	require.IsType(t, &wire.Client{}, c)
}

// rawPlacement is the bare gRPC client of a configured placement plugin.
func rawPlacement(t *testing.T) pluginpb.PlacementClient {
	t.Helper()
	conn := connect(t, func(server *grpc.Server) {
		_, err := sdk.Register(server, &chooser{})
		require.NoError(t, err)
	})
	require.NoError(t, wire.NewClient(conn).Configure(t.Context(), []byte("{}")))
	return pluginpb.NewPlacementClient(conn)
}

func TestSelfReachesTheStrategy(t *testing.T) {
	got := make(chan *sdk.Self, 1)
	c := configured(t, &finder{Size: 1, watch: func(ctx context.Context, emit func(sdk.Answer) error) error {
		if self, ok := sdk.SelfFrom(ctx); ok {
			got <- &self
		} else {
			got <- nil
		}
		return errors.New("enough")
	}})
	for _, want := range []*sdk.Self{
		nil,
		{Finds: sdk.RoleTarget},
		{Member: "a", Addr: "10.0.0.1:7946", Cluster: "prod", Finds: sdk.RoleMember, Incarnation: 1 << 63,
			Secrets: []sdk.Secret{sdk.NewSecret([]byte{0, 0xff}), sdk.NewSecret([]byte("old"))}},
	} {
		ctx := t.Context()
		if want != nil {
			ctx = sdk.WithSelf(ctx, *want)
		}
		require.Error(t, c.Discovery().Watch(ctx, nil))
		require.Equal(t, want, <-got)
	}
}

// A role that a later host may ask for is not taken for one of today's.
func TestUnknownRoleOfSelf(t *testing.T) {
	got := make(chan sdk.Self, 1)
	conn := connect(t, func(server *grpc.Server) {
		_, err := sdk.Register(server, &finder{Size: 1, watch: func(ctx context.Context, _ func(sdk.Answer) error) error {
			self, _ := sdk.SelfFrom(ctx)
			got <- self
			return errors.New("enough")
		}})
		require.NoError(t, err)
	})
	require.NoError(t, wire.NewClient(conn).Configure(t.Context(), []byte("{}")))
	stream, err := pluginpb.NewDiscoveryClient(conn).Watch(t.Context(), &pluginpb.WatchRequest{Self: &pluginpb.Self{Finds: 17}})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Error(t, err)
	require.Equal(t, sdk.Role("17"), (<-got).Finds)
}
