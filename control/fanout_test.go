package control

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// ranks makes a member answer with ten processes of each node it is asked about,
// whose memory is unlike that of all others.
func ranks(m *testMember) *asked {
	a := &asked{}
	m.engine.processes = func(_ context.Context, q target.ProcessQuery, s target.Sink) error {
		a.note(q)
		var rows []target.Process
		for _, n := range q.Nodes {
			for i := range 10 {
				rows = append(rows, target.Process{Node: n, Pid: fmt.Sprintf("<0.%d.0>", i), Memory: uint64(i*1000) + uint64(n[1]), Status: m.name})
			}
		}
		if q.Limit > 0 {
			return s.Rows(target.Rank(rows, q))
		}
		for chunk := range slices.Chunk(rows, 4) {
			if err := s.Rows(chunk); err != nil {
				return err
			}
		}
		return nil
	}
	return a
}

// asked are the queries that a member got.
type asked struct {
	mu      sync.Mutex
	queries []target.ProcessQuery
}

func (a *asked) note(q target.ProcessQuery) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queries = append(a.queries, q)
}

func (a *asked) last() target.ProcessQuery {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queries[len(a.queries)-1]
}

func rowTexts(a answer) []string {
	var out []string
	for _, r := range a.rows {
		out = append(out, fmt.Sprint(r.GetNode(), " ", r.GetMemory(), " ", r.GetStatus()))
	}
	return out
}

// A ranking over the targets of several members is one ranking.
func TestFanOutRanking(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("a", "n1@h")
	c.own("b", "n2@h", "n3@h")
	c.own("c", "n4@h")
	queries := map[string]*asked{}
	for name, m := range c.members {
		queries[name] = ranks(m)
	}
	client := c.members["a"].dial(t)
	a, err := list(t, client, &controlpb.ListProcessesRequest{
		Limit: 3, Offset: 2, Sort: "memory", Filter: "f", Function: "g", Application: "h",
		Window: durationpb.New(2 * time.Second), Timeout: durationpb.New(4 * time.Second),
	})
	require.NoError(t, err)
	assert.Len(t, a.rows, 3)
	q := queries["b"].last()
	slices.Sort(q.Nodes)
	assert.Equal(t, target.ProcessQuery{
		Nodes: []string{"n2@h", "n3@h"}, Sort: target.ByMemory, Filter: "f", Function: "g", Application: "h",
		Window: 2 * time.Second, Limit: 5, Timeout: 4 * time.Second,
	}, q)

	a, err = list(t, client, &controlpb.ListProcessesRequest{Limit: 3, Offset: 2})
	require.NoError(t, err)
	assert.Equal(t, []string{"n2@h 9050 b", "n1@h 9049 a", "n4@h 8052 c"}, rowTexts(a))
	assert.Equal(t, uint32(4), a.end.GetAnswered())
	assert.Zero(t, a.end.GetFailed())
	assert.Equal(t, uint64(3), a.end.GetRows())
}

// So is a whole table, whose rows come as they arrive.
func TestFanOutTable(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("a", "n1@h")
	c.own("b", "n2@h")
	for _, m := range c.members {
		ranks(m)
	}
	a, err := list(t, c.members["a"].dial(t), &controlpb.ListProcessesRequest{Nodes: []string{"n1", "n2@h", "n2", "n9"}})
	require.NoError(t, err)
	assert.Len(t, a.rows, 20)
	assert.Equal(t, uint64(20), a.end.GetRows())
	require.Len(t, a.errors, 1)
	assert.Equal(t, "unknown_node", a.errors[0].GetCode())
	assert.Equal(t, uint32(2), a.end.GetAnswered())
}

// Targets that failed at their member fail at the one that was asked, each with
// its own error.
func TestFanOutErrors(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n1@h", "n2@h")
	c.members["b"].engine.processes = func(_ context.Context, q target.ProcessQuery, s target.Sink) error {
		return s.Failed(target.NodeError{Node: "n1@h", Err: &target.HintError{Err: fmt.Errorf("n1@h: %w", target.ErrTimeout), Hint: "wait"}})
	}
	client := c.members["a"].dial(t)
	a, err := list(t, client, &controlpb.ListProcessesRequest{Limit: 5})
	require.NoError(t, err)
	require.Len(t, a.errors, 1)
	assert.Equal(t, "n1@h timeout n1@h: no answer in time wait", errorText(a.errors[0]))
	assert.Equal(t, uint32(1), a.end.GetAnswered())

	c.members["b"].engine.processes = func(context.Context, target.ProcessQuery, target.Sink) error {
		return fmt.Errorf("sort by size: %w", target.ErrBadQuery)
	}
	a, err = list(t, client, &controlpb.ListProcessesRequest{Limit: 5})
	require.NoError(t, err)
	require.Len(t, a.errors, 2)
	assert.Equal(t, "bad_request", a.errors[0].GetCode())
}

func errorText(e *controlpb.NodeError) string {
	return strings.Join([]string{e.GetNode(), e.GetCode(), e.GetError(), e.GetHint()}, " ")
}

// A member that can't be reached costs its own targets, and each of them says so.
func TestFanOutMemberOutOfReach(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "n1@h", "n2@h")
	c.own("c", "n3@h")
	ranks(c.members["c"])
	c.members["a"].server.forward.patience = 50 * time.Millisecond
	c.members["b"].listen.cut()
	a, err := list(t, c.members["a"].dial(t), &controlpb.ListProcessesRequest{Limit: 100})
	require.NoError(t, err)
	assert.Len(t, a.rows, 10)
	require.Len(t, a.errors, 2)
	for i, e := range a.errors {
		assert.Equal(t, fmt.Sprintf("n%d@h", i+1), e.GetNode())
		assert.Contains(t, e.GetError(), "member b could not be reached: ")
		assert.Equal(t, "unreachable_member", e.GetCode())
	}
	assert.Equal(t, uint32(1), a.end.GetAnswered())
	assert.Equal(t, uint32(2), a.end.GetFailed())
}

// The targets of a member that is killed are asked again where they are next,
// and no row shows twice.
func TestFanOutMemberKilled(t *testing.T) {
	for _, limit := range []uint32{100, 0} {
		t.Run(fmt.Sprint("limit ", limit), func(t *testing.T) {
			c := newTestCluster(t, "a", "b", "c")
			c.own("b", "n1@h", "n2@h")
			c.own("c", "n3@h")
			ranks(c.members["c"])
			began := make(chan struct{})
			c.members["b"].engine.processes = func(ctx context.Context, _ target.ProcessQuery, _ target.Sink) error {
				close(began)
				<-ctx.Done()
				return ctx.Err()
			}
			go func() {
				<-began
				c.kill("b")
				c.own("c", "n1@h", "n2@h")
			}()
			a, err := list(t, c.members["a"].dial(t), &controlpb.ListProcessesRequest{Limit: limit})
			require.NoError(t, err)
			assert.Len(t, a.rows, 30)
			assert.Empty(t, a.errors)
			assert.Equal(t, uint32(3), a.end.GetAnswered())
		})
	}
}

// Where rows of a table were shown already, its rest is an error.
func TestFanOutTableCutShort(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "n1@h")
	began := make(chan struct{})
	c.members["b"].engine.processes = func(ctx context.Context, _ target.ProcessQuery, s target.Sink) error {
		err := s.Rows([]target.Process{{Node: "n1@h", Pid: "<0.1.0>"}})
		close(began)
		<-ctx.Done()
		return err
	}
	ranks(c.members["c"])
	stream, err := c.members["a"].dial(t).Processes.ListProcesses(testContext(t), &controlpb.ListProcessesRequest{})
	require.NoError(t, err)
	res, err := stream.Recv()
	require.NoError(t, err)
	require.Len(t, res.GetRows().GetProcesses(), 1)
	<-began
	c.kill("b")
	c.own("c", "n1@h")
	res, err = stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, "unreachable_member", res.GetError().GetCode())
	res, err = stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, uint32(1), res.GetEnd().GetFailed())
}

// A member that has let go of a target says so, and the new owner is asked.
func TestFanOutTargetMoved(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("c", "n1@h")
	c.own("b", "n2@h")
	c.members["a"].believes["n1@h"] = "b"
	ranks(c.members["b"])
	ranks(c.members["c"])
	go func() {
		for c.members["a"].server.forward.passed.Load() == 0 {
			runtime.Gosched()
		}
		c.change(func() { delete(c.members["a"].believes, "n1@h") })
	}()
	a, err := list(t, c.members["a"].dial(t), &controlpb.ListProcessesRequest{Nodes: []string{"n1@h", "n2@h"}, Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, []string{"n2@h 9050 b"}, rowTexts(a))
	assert.Empty(t, a.errors)
}

// A target that is being attached is waited for only where it was named.
func TestFanOutYoungTarget(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n1@h")
	c.change(func() {
		c.infos["n1@h"] = target.Info{Node: "n1@h", State: target.Connecting, Owner: "b", Since: time.Now(), Topologies: []string{"t"}}
		c.infos["n0@h"] = target.Info{Node: "n0@h", State: target.Gone}
	})
	attached := false
	c.members["b"].engine.processes = func(_ context.Context, q target.ProcessQuery, s target.Sink) error {
		if !attached {
			attached = len(q.Nodes) == 1
			return s.Failed(target.NodeError{Node: "n1@h", Err: fmt.Errorf("n1@h is %w (connecting)", target.ErrNotAttached)})
		}
		return s.Rows([]target.Process{{Node: "n1@h", Pid: "<0.1.0>"}})
	}
	client := c.members["a"].dial(t)
	a, err := list(t, client, &controlpb.ListProcessesRequest{Limit: 1})
	require.NoError(t, err)
	require.Len(t, a.errors, 1)
	assert.Equal(t, "not_attached", a.errors[0].GetCode())
	attached = false
	a, err = list(t, client, &controlpb.ListProcessesRequest{Nodes: []string{"n1"}, Limit: 1})
	require.NoError(t, err)
	assert.Empty(t, a.errors)
	assert.Len(t, a.rows, 1)
}

// A caller who goes away ends the question everywhere.
func TestFanOutCallerGone(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n1@h")
	began, ended := make(chan struct{}), make(chan struct{})
	c.members["b"].engine.processes = func(ctx context.Context, _ target.ProcessQuery, _ target.Sink) error {
		close(began)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(testContext(t))
	stream, err := c.members["a"].dial(t).Processes.ListProcesses(ctx, &controlpb.ListProcessesRequest{Limit: 1})
	require.NoError(t, err)
	<-began
	cancel()
	_, err = stream.Recv()
	requireCode(t, err, Canceled)
	<-ended
}

// A member that is asked about a target that it does not own says so, for that
// target only.
func TestAskOwn(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n1@h")
	c.own("a", "n2@h")
	ranks(c.members["b"])
	ask := func(nodes ...string) answer {
		conn, err := c.members["a"].Conn("b")
		require.NoError(t, err)
		ctx, cancel := c.members["a"].server.forward.outgoing(testContext(t))
		defer cancel()
		stream, err := controlpb.NewProcessesClient(conn).ListProcesses(ctx, &controlpb.ListProcessesRequest{Nodes: nodes})
		require.NoError(t, err)
		var a answer
		for {
			res, err := stream.Recv()
			if err != nil {
				return a
			}
			a.rows = append(a.rows, res.GetRows().GetProcesses()...)
			if res.GetError() != nil {
				a.errors = append(a.errors, res.GetError())
			}
		}
	}
	got := ask("n1@h", "n2@h", "n9@h")
	assert.Len(t, got.rows, 10)
	require.Len(t, got.errors, 2)
	assert.Equal(t, "n2@h not_owner b is not attached to n2@h any more ", errorText(got.errors[0]))
	assert.Empty(t, ask("n2@h").rows)
}
