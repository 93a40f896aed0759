package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/target"
)

// inspects makes a member answer inspections with its own name as the label.
func inspects(m *testMember) {
	m.engine.inspect = func(_ context.Context, q target.InspectQuery) (target.ProcessDetail, error) {
		return target.ProcessDetail{Process: target.Process{Node: q.Node, Pid: "<0.1.0>"}, Label: m.name}, nil
	}
}

func inspect(t *testing.T, c *Client, node string) (*controlpb.ProcessDetail, error) {
	t.Helper()
	res, err := c.Processes.InspectProcess(testContext(t), &controlpb.InspectProcessRequest{Node: node, Process: "<0.1.0>"})
	return res.GetProcess(), err
}

func kill(t *testing.T, c *Client, node string) error {
	t.Helper()
	_, err := c.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: node, Process: "p"})
	return err
}

// A call is done by the owner of its target, whichever member was asked, and
// under the target's full name.
func TestForwardToOwner(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "shop@db1")
	c.own("a", "cart@db2")
	for _, m := range c.members {
		inspects(m)
	}
	for _, asked := range []string{"a", "b", "c"} {
		client := c.members[asked].dial(t)
		p, err := inspect(t, client, "shop")
		require.NoError(t, err)
		assert.Equal(t, "b", p.GetLabel(), "asked "+asked)
		p, err = inspect(t, client, "cart@db2")
		require.NoError(t, err)
		assert.Equal(t, "a", p.GetLabel(), "asked "+asked)
		_, err = inspect(t, client, "mail")
		e := requireCode(t, err, UnknownNode)
		assert.Equal(t, "inspect <0.1.0> on mail: find mail: no such target", e.Cause)
		assert.Equal(t, "look", e.Hint)
	}
	c.own("c", "shop@db9")
	_, err := inspect(t, c.members["a"].dial(t), "shop")
	requireCode(t, err, AmbiguousNode)
}

// An error of the owner arrives as it would from the member that was asked.
func TestForwardedError(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	c.members["b"].engine.kill = func(context.Context, target.KillQuery) (target.KillResult, error) {
		return target.KillResult{}, &target.HintError{Err: fmt.Errorf("kill <0.0.0> on shop@db1: %w: it is init", target.ErrProtected), Hint: "--force"}
	}
	_, err := c.members["a"].dial(t).Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: "shop", Process: "init"})
	e := requireCode(t, err, Protected)
	assert.Equal(t, "kill <0.0.0> on shop@db1: refused: it is init", e.Cause)
	assert.Equal(t, "--force", e.Hint)
}

// Both members write a destructive call down: the one that was asked, and the
// one that did it, which knows for whom.
func TestForwardedAudit(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	c.members["b"].engine.kill = func(_ context.Context, q target.KillQuery) (target.KillResult, error) {
		return target.KillResult{Node: q.Node, Pid: "<0.9.0>", Reason: "kill"}, nil
	}
	require.NoError(t, kill(t, c.members["a"].dial(t), "shop"))
	here, there := c.members["a"].audit.all(), c.members["b"].audit.all()
	require.Len(t, here, 1)
	require.Len(t, there, 1)
	assert.NotNil(t, here[0].UID)
	assert.Empty(t, here[0].Member)
	assert.Len(t, here[0].Call, 16)
	assert.Equal(t, here[0].Call, there[0].Call)
	assert.Nil(t, there[0].UID)
	assert.Equal(t, "a", there[0].Member)
	assert.Equal(t, fmt.Sprintf("uid %d", *here[0].UID), there[0].For)
	assert.Equal(t, "done", there[0].Outcome)
}

// A call goes over one member only: who gets it and is not the owner says so,
// and the first member looks again.
func TestForwardedOnce(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("c", "shop@db1")
	for _, m := range c.members {
		inspects(m)
	}
	c.members["a"].believes["shop@db1"] = "b"
	done := make(chan error, 1)
	go func() {
		p, err := inspect(t, c.members["a"].dial(t), "shop@db1")
		if err == nil && p.GetLabel() != "c" {
			err = errors.New("answered by " + p.GetLabel())
		}
		done <- err
	}()
	require.Eventually(t, func() bool { return c.members["a"].server.forward.again.Load() > 0 }, 20*time.Second, time.Millisecond)
	select {
	case err := <-done:
		t.Fatalf("answered while the members disagree: %v", err)
	default:
	}
	c.change(func() { delete(c.members["a"].believes, "shop@db1") })
	require.NoError(t, <-done)
}

// While the members do not agree in time, the caller hears it.
func TestForwardedToNobody(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("c", "shop@db1")
	c.members["a"].believes["shop@db1"] = "b"
	c.members["a"].server.forward.patience = 20 * time.Millisecond
	_, err := inspect(t, c.members["a"].dial(t), "shop@db1")
	assert.Equal(t, "inspect <0.1.0> on shop@db1: b is not attached to shop@db1 any more", requireCode(t, err, NotOwner).Cause)
}

// blocks makes a member's calls wait until they are given up. began is closed
// when the first came.
func blocks(m *testMember) (began chan struct{}) {
	began = make(chan struct{})
	var once sync.Once
	m.engine.inspect = func(ctx context.Context, _ target.InspectQuery) (target.ProcessDetail, error) {
		once.Do(func() { close(began) })
		<-ctx.Done()
		return target.ProcessDetail{}, ctx.Err()
	}
	m.engine.kill = func(ctx context.Context, _ target.KillQuery) (target.KillResult, error) {
		once.Do(func() { close(began) })
		<-ctx.Done()
		return target.KillResult{}, ctx.Err()
	}
	return began
}

// A question whose member is killed waits for the next owner.
func TestOwnerKilledWhileAsked(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "shop@db1")
	began := blocks(c.members["b"])
	inspects(c.members["c"])
	done := make(chan error, 1)
	go func() {
		p, err := inspect(t, c.members["a"].dial(t), "shop@db1")
		if err == nil && p.GetLabel() != "c" {
			err = errors.New("answered by " + p.GetLabel())
		}
		done <- err
	}()
	<-began
	c.kill("b")
	c.own("", "shop@db1")
	c.own("c", "shop@db1")
	require.NoError(t, <-done)
	assert.Zero(t, c.members["a"].server.forward.failed.Load())
}

// So does one to the member that is about to attach.
func TestWaitsForTheNewOwner(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	var asked atomic.Int32
	c.members["b"].engine.inspect = func(context.Context, target.InspectQuery) (target.ProcessDetail, error) {
		if asked.Add(1) == 1 {
			return target.ProcessDetail{}, fmt.Errorf("shop@db1 is %w (connecting)", target.ErrNotAttached)
		}
		return target.ProcessDetail{Label: "b"}, nil
	}
	c.change(func() {
		c.infos["shop@db1"] = target.Info{Node: "shop@db1", State: target.Connecting, Owner: "b", Since: time.Now()}
	})
	p, err := inspect(t, c.members["a"].dial(t), "shop@db1")
	require.NoError(t, err)
	assert.Equal(t, "b", p.GetLabel())

	// One that can't be attached for long is an error at once.
	c.change(func() {
		c.infos["shop@db1"] = target.Info{Node: "shop@db1", State: target.Refused, Owner: "b", Since: time.Now()}
	})
	asked.Store(0)
	_, err = inspect(t, c.members["a"].dial(t), "shop@db1")
	requireCode(t, err, NotAttached)
}

// An act is not repeated when it may have been done.
func TestOwnerKilledWhileItKills(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "shop@db1")
	began := blocks(c.members["b"])
	c.members["c"].engine.kill = func(context.Context, target.KillQuery) (target.KillResult, error) {
		t.Error("killed once more")
		return target.KillResult{}, nil
	}
	done := make(chan error, 1)
	go func() { done <- kill(t, c.members["a"].dial(t), "shop@db1") }()
	<-began
	c.kill("b")
	c.own("c", "shop@db1")
	e := requireCode(t, <-done, Unreachable)
	assert.Equal(t, "kill p on shop@db1: member b was lost before it answered: it is unknown whether this was done", e.Cause)
	assert.Equal(t, "shop@db1", e.Node)
	assert.Equal(t, uint64(1), c.members["a"].server.forward.failed.Load())
	assert.Equal(t, "unreachable_member", c.members["a"].audit.all()[0].Outcome)
}

// It is, when it surely did not leave this member.
func TestOwnerGoneBeforeItKills(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "shop@db1")
	var killed atomic.Int32
	c.members["c"].engine.kill = func(context.Context, target.KillQuery) (target.KillResult, error) {
		killed.Add(1)
		return target.KillResult{Pid: "<0.1.0>"}, nil
	}
	c.members["b"].listen.cut() // nobody knows that it is dead
	done := make(chan error, 1)
	go func() { done <- kill(t, c.members["a"].dial(t), "shop@db1") }()
	require.Eventually(t, func() bool { return c.members["a"].server.forward.again.Load() > 0 }, 20*time.Second, time.Millisecond)
	c.own("c", "shop@db1")
	require.NoError(t, <-done)
	assert.Equal(t, int32(1), killed.Load())
}

// A member that stays out of reach is named.
func TestOwnerOutOfReach(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	c.members["a"].server.forward.patience = 50 * time.Millisecond
	c.members["b"].listen.cut()
	client := c.members["a"].dial(t)
	_, err := inspect(t, client, "shop@db1")
	e := requireCode(t, err, Unreachable)
	assert.Contains(t, e.Cause, "inspect <0.1.0> on shop@db1: member b could not be reached: ")
	assert.Contains(t, e.Cause, "connection refused")
	assert.Equal(t, "`debughost members` tells how it does", e.Hint)
	requireCode(t, kill(t, client, "shop@db1"), Unreachable)
	c.kill("b")
	_, err = inspect(t, client, "shop@db1")
	assert.Contains(t, requireCode(t, err, Unreachable).Cause, "member b could not be reached: it is dead")
}

// A target that nobody owns is asked for here, which tells why there is no
// answer.
func TestNobodyOwns(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("", "shop@db1")
	c.members["a"].server.forward.patience = 20 * time.Millisecond
	c.members["a"].engine.inspect = func(context.Context, target.InspectQuery) (target.ProcessDetail, error) {
		return target.ProcessDetail{}, fmt.Errorf("shop@db1 is %w (discovered)", target.ErrNotAttached)
	}
	_, err := inspect(t, c.members["a"].dial(t), "shop@db1")
	assert.Equal(t, "inspect <0.1.0> on shop@db1: shop@db1 is not attached (discovered)", requireCode(t, err, NotAttached).Cause)
}

// A frozen member costs the caller's time, and is named before that is over.
func TestFrozenOwner(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	began := blocks(c.members["b"])
	client := c.members["a"].dial(t)
	c.members["a"].server.forward.margin = func(left time.Duration) time.Duration { return left - 100*time.Millisecond }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := client.Processes.InspectProcess(ctx, &controlpb.InspectProcessRequest{Node: "shop@db1", Process: "p", Timeout: durationpb.New(time.Hour)})
		done <- err
	}()
	<-began
	err := <-done
	assert.Equal(t, "inspect p on shop@db1: member b did not answer in time", requireCode(t, err, Timeout).Cause)
}

// Only members may say that they pass a call on.
func TestForwardedMarkOfAProcess(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	inspects(c.members["b"])
	f := newForwarder(nil, nil)
	ctx, cancel := f.outgoing(testContext(t)) // as a member would
	defer cancel()
	res, err := c.members["a"].dial(t).Processes.InspectProcess(ctx, &controlpb.InspectProcessRequest{Node: "shop@db1", Process: "p"})
	require.NoError(t, err)
	assert.Equal(t, "b", res.GetProcess().GetLabel())
}

// Who has no name on the members' listener may nothing, and a member nothing
// that does not exist.
func TestNamelessMember(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	for name, code := range map[string]Code{"": Denied, "a": ""} {
		conn, err := grpc.NewClient("passthrough:///b", grpc.WithTransportCredentials(nameCreds{name: name}),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.members["b"].listen.dial(ctx) }))
		require.NoError(t, err)
		_, err = controlpb.NewMemberClient(conn).GetVersion(testContext(t), &controlpb.GetVersionRequest{})
		if code == "" {
			require.NoError(t, err)
		} else {
			requireCode(t, fromStatus(err), code)
		}
		require.NoError(t, conn.Close())
	}
	g := newGate(Options{}, nil)
	_, err := g.allow("/debughost.link.v1.Link/Exchange", Caller{Member: "a"})
	require.NoError(t, err)
	_, err = g.allow("/debughost.link.v1.Link/Exchange", Caller{})
	requireCode(t, err, Denied)
	_, err = g.allow("/debughost.control.v1.Targets/Nuke", Caller{Member: "a"})
	requireCode(t, err, Denied)
	assert.Equal(t, "member a", Caller{Member: "a"}.String())
	assert.Equal(t, "member a for uid 7", Caller{Member: "a", For: "uid 7"}.String())
	assert.Equal(t, Caller{}, memberCaller(nil)(context.Background()))
}

// What another member, or gRPC for it, says of a call.
func TestPeerErrors(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	alive := context.Background()
	detail := func(code Code) error { return (&Error{Code: code, Tried: "x", Cause: "x: y"}).GRPCStatus().Err() }
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		code Code
		text string
		lost bool
	}{
		"an answer":          {alive, detail(NoProcess), NoProcess, "x: y", false},
		"gave it up":         {alive, detail(Canceled), Unreachable, "member b could not be reached: x: y", true},
		"stops":              {alive, detail(Stopping), Unreachable, "member b could not be reached: x: y", true},
		"gave it up with us": {ended, detail(Canceled), Canceled, "x: y", false},
		"late":               {alive, status.Error(codes.DeadlineExceeded, "z"), Timeout, "member b did not answer in time", false},
		"we gave up":         {ended, status.Error(codes.Canceled, "z"), Canceled, "given up", false},
		"broke":              {alive, status.Error(codes.Unavailable, "z"), Unreachable, "member b could not be reached: z", true},
		"closed":             {alive, status.Error(codes.Canceled, "z"), Unreachable, "member b could not be reached: z", true},
		"old":                {alive, status.Error(codes.Unimplemented, "z"), Failed, "member b does not know this call", false},
		"odd":                {alive, status.Error(codes.ResourceExhausted, "z"), Failed, "member b: z", false},
		"odder":              {alive, io.ErrUnexpectedEOF, Unreachable, "member b could not be reached: unexpected EOF", true},
	} {
		t.Run(name, func(t *testing.T) {
			err := peerError(tc.ctx, "b", true, tc.err)
			var lost *lostError
			assert.Equal(t, tc.lost, errors.As(err, &lost))
			assert.Equal(t, tc.text, err.Error())
			assert.Equal(t, tc.code, describe("", err).Code)
		})
	}
}

// The server leaves the cluster before it cuts the members' connections, and
// once.
func TestGoodbye(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	require.NoError(t, c.members["b"].stop())
	assert.Equal(t, 1, c.members["b"].goodbye)
}

// A member that has left serves its own machine until it is stopped.
func TestMemberListenerClosed(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	b := c.members["b"]
	require.NoError(t, b.listen.Close())
	_, err := b.dial(t).Member.GetVersion(testContext(t), &controlpb.GetVersionRequest{})
	require.NoError(t, err)
	require.NoError(t, b.stop())
}

// A call that another member waits for is finished when the server stops.
func TestStopDrainsMembers(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.members["b"].server.opts.Drain = time.Minute
	c.own("b", "shop@db1")
	began, release := make(chan struct{}), make(chan struct{})
	c.members["b"].engine.kill = func(context.Context, target.KillQuery) (target.KillResult, error) {
		close(began)
		<-release
		return target.KillResult{Pid: "<0.1.0>"}, nil
	}
	done := make(chan error, 1)
	go func() { done <- kill(t, c.members["a"].dial(t), "shop@db1") }()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- c.members["b"].stop() }()
	select {
	case <-stopped:
		t.Fatal("stopped under a call")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-done)
	require.NoError(t, <-stopped)
}

// Calls go on while members are killed and come back: each that could be
// answered is, none is done twice, and no error is without a cause. On a slow
// machine it makes fewer than 10 000 calls.
func TestForwardUnderFire(t *testing.T) {
	const calls, callers, most = 10_000, 16, 15 * time.Second
	names := []string{"a", "b", "c", "d"}
	c := newTestCluster(t, names...)
	nodes := []string{"n1@h", "n2@h", "n3@h", "n4@h", "n5@h", "n6@h"}
	var mu sync.Mutex
	done := map[string]int{} // kills, by process
	for _, m := range c.members {
		inspects(m)
		m.engine.kill = func(_ context.Context, q target.KillQuery) (target.KillResult, error) {
			mu.Lock()
			defer mu.Unlock()
			done[q.Process]++
			return target.KillResult{Node: q.Node, Pid: q.Process}, nil
		}
	}
	// a is asked and lives; the others own everything.
	give := func() { // each target to one that lives
		i := 0
		c.change(func() {
			var alive []string
			for _, n := range names[1:] {
				if c.members[n].state == cluster.Alive {
					alive = append(alive, n)
				}
			}
			for _, node := range nodes {
				if owner := c.owners[node]; owner == "" || c.members[owner].state != cluster.Alive {
					c.owners[node] = alive[i%len(alive)]
					i++
				}
			}
		})
	}
	give()
	client := c.members["a"].dial(t)
	var next, made, answered, unknown atomic.Int64
	var callersDone sync.WaitGroup
	began := time.Now()
	for range callers {
		callersDone.Go(func() {
			for i := next.Add(1); i <= calls && time.Since(began) < most; i = next.Add(1) {
				made.Add(1)
				node, process := nodes[i%int64(len(nodes))], fmt.Sprint("p", i)
				var err error
				if i%2 == 0 {
					_, err = client.Processes.InspectProcess(testContext(t), &controlpb.InspectProcessRequest{Node: node, Process: process})
				} else {
					_, err = client.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: node, Process: process})
				}
				mu.Lock()
				n := done[process]
				mu.Unlock()
				var e *Error
				switch {
				case err == nil && i%2 == 1 && n != 1, n > 1:
					t.Errorf("%s was killed %d times, error %v", process, n, err)
				case err == nil:
					answered.Add(1)
				case errors.As(err, &e) && e.Code == Unreachable && i%2 == 1 && strings.Contains(e.Cause, "it is unknown whether"):
					unknown.Add(1)
				default:
					t.Errorf("call %d could have been answered: %v", i, err)
				}
			}
		})
	}
	fireDone := make(chan struct{})
	var fire sync.WaitGroup
	fire.Go(func() {
		for i := 0; ; i++ {
			victim := names[1+i%3]
			select {
			case <-fireDone:
				return
			case <-time.After(100 * time.Millisecond):
			}
			c.kill(victim)
			give()
			c.start(victim)
			give()
		}
	})
	callersDone.Wait()
	took := time.Since(began)
	close(fireDone)
	fire.Wait()
	assert.Equal(t, made.Load(), answered.Load()+unknown.Load())
	t.Logf("%d calls in %v: %d answered, of %d it is unknown; %d made again", made.Load(), took.Round(time.Millisecond), answered.Load(), unknown.Load(), c.members["a"].server.forward.again.Load())
}
