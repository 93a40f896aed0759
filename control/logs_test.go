package control

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// Logs tells one kept report, and one event of each node that the member owns,
// when it does; n1@h says everything that there is to say.
func (f fakeQuestions) Logs(ctx context.Context, q target.LogQuery, out target.LogSink) error {
	if !q.Since.IsZero() || !q.Follow {
		at := startOfTests.Add(time.Duration(10-len(f.m.name)) * time.Second)
		err := out.Event(target.LogEvent{Node: "kept@h", Time: at, Message: f.m.name, Report: &target.LogReport{
			Kind: "crash", Reason: "r", Stack: []target.Frame{{Function: "m:f/1", Line: 3}}, Fields: []target.KeyValue{{Key: "k", Value: "v"}},
		}})
		if err != nil {
			return err
		}
	}
	said := map[string]bool{}
	for q.Follow && ctx.Err() == nil {
		changed := f.m.Changed()
		for _, t := range f.m.c.nodesOf(f.m.name) {
			if said[t] {
				continue
			}
			said[t] = true
			if err := out.Event(target.LogEvent{Node: t, Message: fmt.Sprint(f.m.name, " ", q.Level, " ", q.SetLevel, " ", q.Rate)}); err != nil {
				return err
			}
			if t == "n1@h" {
				_ = out.Started(target.LogStart{Node: t, Primary: "notice", Note: "note"})
				_ = out.Dropped(t, 7)
				_ = out.Failed(target.NodeError{Node: t, Err: target.ErrTimeout})
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// nodesOf are the nodes that a member owns.
func (c *testCluster) nodesOf(member string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for n, owner := range c.owners {
		if owner == member {
			out = append(out, n)
		}
	}
	return out
}

// logAnswer is what a call tells, by node.
type logAnswer struct {
	mu    sync.Mutex
	parts []string
	err   error
}

func followLogs(t *testing.T, c *Client, req *controlpb.FollowLogsRequest) (*logAnswer, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	stream, err := c.Logs.Follow(ctx, req)
	require.NoError(t, err)
	return readLogs(t, stream, cancel)
}

func readLogs(t *testing.T, stream controlpb.Logs_FollowClient, cancel func()) (*logAnswer, func()) {
	a := &logAnswer{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			res, err := stream.Recv()
			a.mu.Lock()
			if err != nil {
				a.err = err
				a.mu.Unlock()
				return
			}
			switch p := res.GetPart().(type) {
			case *controlpb.FollowLogsResponse_Event:
				a.parts = append(a.parts, p.Event.GetNode()+" "+p.Event.GetMessage())
			case *controlpb.FollowLogsResponse_Start:
				a.parts = append(a.parts, "start "+p.Start.GetNode()+" "+p.Start.GetPrimaryLevel())
			case *controlpb.FollowLogsResponse_Dropped:
				a.parts = append(a.parts, fmt.Sprint("dropped ", p.Dropped.GetNode(), " ", p.Dropped.GetCount()))
			case *controlpb.FollowLogsResponse_Error:
				a.parts = append(a.parts, "error "+p.Error.GetNode()+" "+p.Error.GetCode())
			}
			a.mu.Unlock()
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return a, stop
}

func (a *logAnswer) has(t *testing.T, wanted ...string) {
	t.Helper()
	ok := assert.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, w := range wanted {
			if !slices.Contains(a.parts, w) {
				return false
			}
		}
		return true
	}, 30*time.Second, 5*time.Millisecond)
	if !ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		t.Fatalf("got %q, %v; want %q", a.parts, a.err, wanted)
	}
}

// Whoever is asked follows the nodes of all members, and a node goes on where its
// next owner is.
func TestFollowLogs(t *testing.T) {
	c := newTestCluster(t, "a", "bb", "ccc")
	c.own("a", "n1@h")
	c.own("bb", "n2@h")
	a, stop := followLogs(t, c.members["a"].dial(t), &controlpb.FollowLogsRequest{
		Follow: true, Level: "error", Rate: 5, Since: timestamppb.New(startOfTests),
	})
	a.has(t, "n1@h a error false 5", "start n1@h notice", "dropped n1@h 7", "error n1@h timeout", "n2@h bb error false 5",
		"kept@h a", "kept@h bb", "kept@h ccc")
	c.own("ccc", "n3@h")
	a.has(t, "n3@h ccc error false 5")
	c.kill("bb")
	a.has(t, "error n2@h unreachable_member")
	c.own("ccc", "n2@h")
	a.has(t, "n2@h ccc error false 5")
	stop()
	requireCode(t, a.err, Canceled)
}

// What is kept comes from all members, oldest first, and then the call ends.
func TestKeptLogs(t *testing.T) {
	c := newTestCluster(t, "a", "bb", "ccc")
	c.own("a", "n1@h")
	a, _ := followLogs(t, c.members["bb"].dial(t), &controlpb.FollowLogsRequest{})
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.err != nil
	}, 30*time.Second, 5*time.Millisecond)
	assert.EqualError(t, a.err, "EOF")
	assert.Equal(t, []string{"kept@h ccc", "kept@h bb", "kept@h a"}, a.parts)
}

// Lowering levels is written down, at the member that does it, too.
func TestFollowLogsAtLevel(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n2@h")
	ctx, cancel := context.WithCancel(testContext(t))
	stream, err := c.members["a"].dial(t).Logs.FollowAtLevel(ctx, &controlpb.FollowLogsRequest{Follow: true, Level: "debug"})
	require.NoError(t, err)
	a, _ := readLogs(t, stream, cancel)
	a.has(t, "n2@h b debug true 0")
	for _, m := range c.members {
		require.Len(t, m.audit.all(), 1, m.name)
		assert.Equal(t, "FollowAtLevel", m.audit.all()[0].Method)
		assert.Contains(t, string(m.audit.all()[0].Args), `"debug"`)
	}
}

// Nodes that are not attached, or not known, are told of.
func TestFollowLogsOfNodesThatAreNot(t *testing.T) {
	c := newTestCluster(t, "a")
	c.own("a", "n1@h", "n2@h")
	c.change(func() {
		c.owners["n2@h"] = ""
		c.infos["n2@h"] = target.Info{Node: "n2@h", State: target.Refused, Reason: "wrong cookie", Topologies: []string{"x"}}
	})
	a, _ := followLogs(t, c.members["a"].dial(t), &controlpb.FollowLogsRequest{Follow: true, Nodes: []string{"n1", "n2", "n9"}})
	a.has(t, "error n2@h not_attached", "error n9 unknown_node", "n1@h a  false 0")
	for _, req := range []*controlpb.FollowLogsRequest{
		{Level: "loud"}, {Rate: 1 << 31}, {Process: string(make([]byte, 1<<12))}, {Nodes: []string{""}},
		{Since: &timestamppb.Timestamp{Nanos: -1}},
	} {
		a, _ := followLogs(t, c.members["a"].dial(t), req)
		require.Eventually(t, func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.err != nil
		}, 30*time.Second, 5*time.Millisecond)
		requireCode(t, a.err, BadRequest)
	}
}
