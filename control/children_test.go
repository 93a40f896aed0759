package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

func aChild(id, member string, state supervisor.State) supervisor.Child {
	return supervisor.Child{
		Spec:  supervisor.Spec{ID: id, Strategy: "process", Config: json.RawMessage(`{"command":["sleep","9"],"env":{"TOKEN":"hunter2"}}`), Restart: sdk.RestartPermanent},
		State: state, Member: member, Epoch: 3, Since: startOfTests,
	}
}

func fullSpec() *controlpb.ChildSpec {
	return &controlpb.ChildSpec{
		Id: "web", Strategy: "process", Config: `{"command":["sleep","9"],"env":{"TOKEN":"hunter2"}}`, Restart: "transient",
		Limits:      &controlpb.ChildLimits{Memory: 1 << 29, Cpus: 0.5, Processes: 9, OpenFiles: 99, Disk: 1 << 30},
		MaxRestarts: -1, MaxRestartsIn: durationpb.New(time.Minute), ShutdownTimeout: durationpb.New(2 * time.Second), Placement: "quorum",
		Constraints: map[string]string{"zone": "a"}, Near: "shop@db1", Apart: []string{"db"}, Handoff: "snapshot",
	}
}

// What acts on a child is done by its arbiter, whichever member was asked, and shows
// at once where it was asked.
func TestChildrenAtTheArbiter(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.children.arbiter = "b"
	client := c.members["a"].dial(t)
	ctx := testContext(t)
	res, err := client.Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: fullSpec()})
	require.NoError(t, err)
	assert.Equal(t, "web process b starting 0 1", childText(res.GetChild()))
	assert.Equal(t, supervisor.Spec{
		ID: "web", Strategy: "process", Config: json.RawMessage(fullSpec().Config), Restart: sdk.RestartTransient, MaxRestarts: -1, MaxRestartsIn: time.Minute,
		Limits:          sdk.SandboxLimits{Memory: 1 << 29, CPUs: 0.5, Processes: 9, OpenFiles: 99, Disk: 1 << 30},
		ShutdownTimeout: 2 * time.Second, Placement: "quorum", Constraints: map[string]string{"zone": "a"}, Near: "shop@db1",
		Apart: []string{"db"}, Handoff: sdk.HandoffSnapshot,
	}, c.children.children["web"].Spec, "everything arrives")

	_, err = client.Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: fullSpec()})
	e := requireCode(t, err, ChildExists)
	assert.Equal(t, "start child web: it exists already and is starting on member b", e.Cause)
	assert.Contains(t, e.Hint, "child restart web")

	for _, do := range []func() (*controlpb.ChildResponse, error){
		func() (*controlpb.ChildResponse, error) {
			return client.Children.StopChild(ctx, &controlpb.StopChildRequest{Id: "web"})
		},
		func() (*controlpb.ChildResponse, error) {
			return client.Children.RestartChild(ctx, &controlpb.RestartChildRequest{Id: "web"})
		},
		func() (*controlpb.ChildResponse, error) {
			return client.Children.MoveChild(ctx, &controlpb.MoveChildRequest{Id: "web", Member: "c"})
		},
	} {
		_, err := do()
		require.NoError(t, err)
	}
	_, err = client.Children.RemoveChild(ctx, &controlpb.RemoveChildRequest{Id: "web"})
	require.NoError(t, err)
	assert.Equal(t, "b start web, b stop web, b restart web, b move web, b remove web", strings.Join(c.children.did(), ", "))
	_, err = client.Children.StopChild(ctx, &controlpb.StopChildRequest{Id: "web"})
	e = requireCode(t, err, UnknownChild)
	assert.Equal(t, "stop child web: no such child", e.Cause)
	assert.Contains(t, e.Hint, "child list")

	// Both members have written it down, without what may be secret.
	for _, member := range []string{"a", "b"} {
		var methods []string
		for _, r := range c.members[member].audit.all() {
			methods = append(methods, r.Method)
			assert.NotContains(t, string(r.Args), "hunter2")
		}
		assert.Equal(t, "StartChild StartChild StopChild RestartChild MoveChild RemoveChild StopChild", strings.Join(methods, " "), member)
		for _, e := range c.members[member].log.AllEntries() {
			line, err := e.String()
			require.NoError(t, err)
			assert.NotContains(t, line, "hunter2")
		}
	}
	assert.Empty(t, c.members["c"].audit.all())
	var args struct {
		Spec struct{ Config string }
	}
	require.NoError(t, json.Unmarshal(c.members["a"].audit.all()[0].Args, &args))
	assert.JSONEq(t, `{"command":["sleep","9"],"env":{"TOKEN":"…"}}`, args.Spec.Config)
	assert.Equal(t, c.members["a"].audit.all()[0].Call, c.members["b"].audit.all()[0].Call)
}

func childText(c *controlpb.Child) string {
	return fmt.Sprint(c.GetId(), " ", c.GetStrategy(), " ", c.GetMember(), " ", c.GetState(), " ", c.GetRestarts(), " ", c.GetEpoch())
}

// Who gets a call and does not decide says so, and the first member looks again.
func TestArbiterThatIsNone(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.children.put(aChild("web", "c", supervisor.Running))
	c.children.arbiter, c.children.believes["a"] = "c", "b"
	done := make(chan error, 1)
	client := c.members["a"].dial(t)
	go func() {
		_, err := client.Children.StopChild(testContext(t), &controlpb.StopChildRequest{Id: "web"})
		done <- err
	}()
	require.Eventually(t, func() bool { return c.members["a"].server.forward.again.Load() > 0 }, 30*time.Second, time.Millisecond)
	c.children.change(func() { delete(c.children.believes, "a") })
	c.change(func() {})
	require.NoError(t, <-done)
	assert.Equal(t, []string{"c stop web"}, c.children.did())
}

// An arbiter that is lost is waited for, and what it may have begun is not repeated.
func TestLostArbiter(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.children.put(aChild("web", "a", supervisor.Running))
	c.children.arbiter = "b"
	c.members["a"].server.forward.patience = 50 * time.Millisecond
	c.kill("b")
	client := c.members["a"].dial(t)
	_, err := client.Children.StopChild(testContext(t), &controlpb.StopChildRequest{Id: "web"})
	e := requireCode(t, err, Unreachable)
	assert.Contains(t, e.Cause, "stop child web: member b could not be reached: it is dead")
	c.children.change(func() { c.children.arbiter = "" })
	_, err = client.Children.StopChild(testContext(t), &controlpb.StopChildRequest{Id: "web"})
	require.NoError(t, err)
	assert.Equal(t, []string{"a stop web"}, c.children.did())
}

func TestErrorsOfChildren(t *testing.T) {
	c := newTestCluster(t, "a")
	c.children.put(aChild("web", "a", supervisor.Running))
	c.members["a"].server.forward.patience = time.Millisecond
	client := c.members["a"].dial(t)
	for want, err := range map[Code]error{
		BadRequest:    &supervisor.SpecError{ID: "web", Problem: "restart: \"x\" is none"},
		UnknownMember: fmt.Errorf("drain: %w", supervisor.ErrNoMember),
		Conflict:      &supervisor.MemberError{ID: "web", Member: "b", Problem: "it is not alive"},
		Unconfirmed:   &supervisor.UnconfirmedError{ID: "web"},
		Joining:       fmt.Errorf("stop: %w", supervisor.ErrJoining),
		NoQuorum:      fmt.Errorf("place: %w", sdk.ErrNoQuorum),
		NoCandidate:   fmt.Errorf("place: %w", sdk.ErrNoCandidate),
		Failed:        errors.New("the disk is full"),
	} {
		c.children.change(func() { c.children.fail = err })
		_, got := client.Children.StopChild(testContext(t), &controlpb.StopChildRequest{Id: "web"})
		e := requireCode(t, got, want)
		assert.Contains(t, e.Cause, "stop child web: ", want)
		assert.True(t, want == BadRequest || want == Conflict || want == Failed || e.Hint != "", "%s has no hint", want)
	}
	for _, id := range []string{"", "-a", "a b", "a/b", "ü", strings.Repeat("a", 129)} {
		_, err := client.Children.StopChild(testContext(t), &controlpb.StopChildRequest{Id: id})
		requireCode(t, err, BadRequest)
		_, err = client.Children.GetChild(testContext(t), &controlpb.GetChildRequest{Id: id})
		requireCode(t, err, BadRequest)
	}
	for name, spec := range map[string]*controlpb.ChildSpec{
		"no id": {}, "config": {Id: "x", Config: "[]"}, "limit": {Id: "x", Limits: &controlpb.ChildLimits{Processes: 1 << 31}},
		"time": {Id: "x", ShutdownTimeout: durationpb.New(-1)}, "long time": {Id: "x", MaxRestartsIn: durationpb.New(48 * time.Hour)},
	} {
		_, err := client.Children.StartChild(testContext(t), &controlpb.StartChildRequest{Spec: spec})
		requireCode(t, err, BadRequest)
		_, err = client.Placement.ExplainPlacement(testContext(t), &controlpb.ExplainPlacementRequest{Spec: spec})
		requireCode(t, err, BadRequest)
		assert.NotContains(t, c.children.did(), "a start x", name)
	}
}

// A debughost without a supervisor says so.
func TestNoChildren(t *testing.T) {
	client := serve(t, &fakeEngine{}, Options{}).dial(t)
	_, err := client.Children.StopChild(testContext(t), &controlpb.StopChildRequest{Id: "web"})
	assert.Equal(t, "stop child web: this debughost runs no children", requireCode(t, err, Failed).Cause)
	_, err = client.Children.MoveChild(testContext(t), &controlpb.MoveChildRequest{Id: "web", Member: "b"})
	requireCode(t, err, Failed)
	_, err = client.Children.DrainMember(testContext(t), &controlpb.DrainMemberRequest{Member: "b"})
	requireCode(t, err, Failed)
	_, err = listChildren(t, client, &controlpb.ListChildrenRequest{})
	requireCode(t, err, Failed)
}

func listChildren(t *testing.T, c *Client, req *controlpb.ListChildrenRequest) (ids []string, err error) {
	t.Helper()
	stream, err := c.Children.ListChildren(testContext(t), req)
	require.NoError(t, err)
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ids, nil
		}
		if err != nil {
			return ids, err
		}
		assert.LessOrEqual(t, len(res.GetChildren()), childChunk)
		for _, c := range res.GetChildren() {
			ids = append(ids, c.GetId())
		}
	}
}

func TestListChildren(t *testing.T) {
	c := newTestCluster(t, "a")
	for i := range 1200 {
		c.children.put(aChild(fmt.Sprintf("c%04d", i), []string{"a", "b"}[i%2], []supervisor.State{supervisor.Running, supervisor.Failed, supervisor.Stopped}[i%3]))
	}
	client := c.members["a"].dial(t)
	for want, req := range map[string]*controlpb.ListChildrenRequest{
		"1200 c0000 c1199": {},
		"400 c0001 c1198":  {State: "failed"},
		"600 c0001 c1199":  {Member: "b"},
		"0":                {Strategy: "beam"},
		"100 c0100 c0199":  {Prefix: "c01"},
		"7 c0100 c0106":    {After: "c0099", Limit: 7},
		"1 c1199 c1199":    {After: "c1198x"},
	} {
		ids, err := listChildren(t, client, req)
		require.NoError(t, err)
		assert.IsNonDecreasing(t, append(ids, "z"))
		got := fmt.Sprint(len(ids))
		if len(ids) > 0 {
			got += " " + ids[0] + " " + ids[len(ids)-1]
		}
		assert.Equal(t, want, got)
	}
	_, err := listChildren(t, client, &controlpb.ListChildrenRequest{State: "runing"})
	assert.Contains(t, requireCode(t, err, BadRequest).Hint, "states are pending, starting, running")
	_, err = listChildren(t, client, &controlpb.ListChildrenRequest{Prefix: strings.Repeat("x", maxText+1)})
	requireCode(t, err, BadRequest)
}

// The member that runs a child tells of it; while it does not answer, what is known
// here is told.
func TestGetChild(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	child := aChild("web", "b", supervisor.Running)
	child.Spec.Constraints, child.Spec.MaxRestartsIn = map[string]string{"zone": "a"}, time.Minute
	child.Enforced = map[string]string{"memory": "cgroup v2"}
	child.History = []supervisor.Entry{
		{Time: startOfTests, Member: "b", Epoch: 2, What: "exited", Reason: "r", Exit: &sdk.SandboxExit{Code: 1, Signal: 9, OutOfMemory: true, Reason: "too much", At: startOfTests}},
	}
	c.children.put(child)
	client := c.members["a"].dial(t)
	res, err := client.Children.GetChild(testContext(t), &controlpb.GetChildRequest{Id: "web"})
	require.NoError(t, err)
	assert.Equal(t, "web process b running 0 3", childText(res.GetChild()))
	assert.Equal(t, int64(4711), res.GetChild().GetOsPid(), "from b")
	assert.Equal(t, map[string]string{"zone": "a"}, res.GetSpec().GetConstraints())
	assert.JSONEq(t, `{"command":["sleep","9"],"env":{"TOKEN":"…"}}`, res.GetSpec().GetConfig())
	assert.Equal(t, map[string]string{"memory": "cgroup v2"}, res.GetEnforced())
	require.Len(t, res.GetHistory(), 1)
	assert.True(t, proto.Equal(&controlpb.ChildExit{Code: 1, Signal: 9, OutOfMemory: true, Reason: "too much", At: timePB(startOfTests)}, res.GetHistory()[0].GetExit()))
	assert.Nil(t, res.GetTrouble())

	c.kill("b")
	res, err = client.Children.GetChild(testContext(t), &controlpb.GetChildRequest{Id: "web"})
	require.NoError(t, err)
	assert.Zero(t, res.GetChild().GetOsPid())
	assert.Equal(t, "b", res.GetTrouble().GetMember())
	assert.Contains(t, res.GetTrouble().GetError(), "could not be reached")
	_, err = client.Children.GetChild(testContext(t), &controlpb.GetChildRequest{Id: "gone"})
	requireCode(t, err, UnknownChild)
}

func TestHideEnv(t *testing.T) {
	for in, want := range map[string]string{
		``:                              ``,
		`{"command":["a"]}`:             `{"command":["a"]}`,
		`{"env":{"A":"x","B":{}}}`:      `{"env":{"A":"…","B":"…"}}`,
		`{"env":["A=x","B","C=1=2"]}`:   `{"env":["A=…","B=…","C=…"]}`,
		`{"command":["a>&1"],"env":{}}`: `{"command":["a>&1"],"env":{}}`,
		`{"env":"A=x"}`:                 `{"env":"…"}`,
		`{"env":[1]}`:                   `{"env":"…"}`,
		`["A=x"]`:                       `"…"`,
		`{`:                             `"…"`,
	} {
		assert.Equal(t, want, string(hideEnv([]byte(in))), in)
	}
}

func TestWaitChild(t *testing.T) {
	c := newTestCluster(t, "a")
	client := c.members["a"].dial(t)
	ctx := testContext(t)
	wait := func(req *controlpb.WaitChildRequest) (*controlpb.WaitChildResponse, error) {
		req.Id = "web"
		return client.Children.WaitChild(ctx, req)
	}
	_, err := wait(&controlpb.WaitChildRequest{})
	requireCode(t, err, UnknownChild)
	res, err := wait(&controlpb.WaitChildRequest{States: []string{"removed"}})
	require.NoError(t, err)
	assert.True(t, res.GetReached())
	assert.Nil(t, res.GetChild())

	c.children.put(aChild("web", "a", supervisor.Starting))
	res, err = wait(&controlpb.WaitChildRequest{Timeout: durationpb.New(time.Millisecond)})
	require.NoError(t, err)
	assert.False(t, res.GetReached())
	assert.Equal(t, "starting", res.GetChild().GetState())

	done := make(chan *controlpb.WaitChildResponse, 1)
	go func() {
		res, _ := wait(&controlpb.WaitChildRequest{Epoch: 4, Timeout: durationpb.New(time.Minute)})
		done <- res
	}()
	c.children.put(aChild("web", "a", supervisor.Running)) // of the epoch before
	later := aChild("web", "a", supervisor.Failed)
	later.Epoch = 5
	c.children.put(later)
	assert.Equal(t, "failed", (<-done).GetChild().GetState())
	for _, req := range []*controlpb.WaitChildRequest{{States: []string{"happy"}}, {Timeout: durationpb.New(-1)}} {
		_, err = wait(req)
		requireCode(t, err, BadRequest)
	}
}

func TestExplainPlacement(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.children.put(aChild("web", "b", supervisor.Running))
	c.children.explains = supervisor.Explanation{
		Strategy: "placement-uniform", Chosen: "b",
		Scores: []sdk.Score{{Member: "a", Total: 9, Excluded: "it is being drained"}, {Member: "c", Total: 3}, {Member: "b", Total: 2, Parts: map[string]float64{"hash": 2}}, {Member: "d", Total: 4}},
	}
	client := c.members["a"].dial(t)
	res, err := client.Placement.ExplainPlacement(testContext(t), &controlpb.ExplainPlacementRequest{Id: "web"})
	require.NoError(t, err)
	assert.Equal(t, "web", c.children.explain.ID)
	assert.Equal(t, "placement-uniform b", res.GetStrategy()+" "+res.GetChosen())
	var order []string
	for _, s := range res.GetScores() {
		order = append(order, s.GetMember())
	}
	assert.Equal(t, []string{"b", "d", "c", "a"}, order, "the chosen one first, those left out last")
	assert.Equal(t, map[string]float64{"hash": 2}, res.GetScores()[0].GetParts())
	assert.Equal(t, "it is being drained", res.GetScores()[3].GetExcluded())

	_, err = client.Placement.ExplainPlacement(testContext(t), &controlpb.ExplainPlacementRequest{Spec: fullSpec()})
	require.NoError(t, err)
	assert.Equal(t, "quorum", c.children.explain.Placement)
	assert.Len(t, c.children.did(), 0)
	_, err = client.Placement.ExplainPlacement(testContext(t), &controlpb.ExplainPlacementRequest{Id: "gone"})
	requireCode(t, err, UnknownChild)
	_, err = client.Placement.ExplainPlacement(testContext(t), &controlpb.ExplainPlacementRequest{Id: "web", Spec: fullSpec()})
	requireCode(t, err, BadRequest)
}

func TestMembersHaveChildren(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.children.put(aChild("x", "b", supervisor.Running))
	c.children.put(aChild("y", "b", supervisor.Failed))
	c.children.put(aChild("z", "", supervisor.Pending))
	c.children.draining["a"] = true
	client := c.members["a"].dial(t)
	res, err := client.Cluster.ListMembers(testContext(t), &controlpb.ListMembersRequest{})
	require.NoError(t, err)
	assert.True(t, res.GetMembers()[0].GetDraining())
	assert.Equal(t, uint32(2), res.GetMembers()[1].GetChildren())
	for _, local := range []bool{true, false} {
		st, err := client.Member.GetStatus(testContext(t), &controlpb.GetStatusRequest{Local: local})
		require.NoError(t, err)
		assert.Equal(t, map[string]uint32{"running": 1, "failed": 1, "pending": 1}, st.GetChildren())
		assert.True(t, st.GetMembers()[0].GetDraining())
	}
	st, err := client.Member.GetStatus(testContext(t), &controlpb.GetStatusRequest{})
	require.NoError(t, err)
	assert.Equal(t, uint32(2), st.GetMembers()[1].GetChildren())

	addr := freeAddr(t)
	m := c.members["a"]
	serve(t, clusterEngine{m.engine, m}, Options{Metrics: addr, Cluster: m, Supervisor: memberChildren{c.children, "b"}, Peers: m})
	text := scrape(t, addr)
	for _, want := range []string{
		`debughost_children{state="running"} 1`, `debughost_children{state="pending"} 1`, `debughost_children{state="moving"} 0`,
		`debughost_child_restarts_total 7`, `debughost_members_draining 1`, `debughost_children_assigned 0`,
	} {
		assert.Contains(t, text, "\n"+want)
	}
}

func TestDrain(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	for id, state := range map[string]supervisor.State{"x": supervisor.Running, "y": supervisor.Backoff, "s": supervisor.Stopped} {
		c.children.put(aChild(id, "b", state))
	}
	c.children.put(aChild("other", "c", supervisor.Running))
	client := c.members["a"].dial(t)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	_, err := client.Children.DrainMember(ctx, &controlpb.DrainMemberRequest{Member: "nobody"})
	requireCode(t, err, UnknownMember)
	_, err = client.Children.DrainMember(ctx, &controlpb.DrainMemberRequest{Member: "b", Undo: true})
	requireCode(t, err, Conflict)
	res, err := client.Children.DrainMember(ctx, &controlpb.DrainMemberRequest{Member: "b"})
	require.NoError(t, err)
	assert.Equal(t, uint32(2), res.GetChildren(), "a stopped one does not run there")
	_, err = client.Children.MoveChild(ctx, &controlpb.MoveChildRequest{Id: "other", Member: "b"})
	assert.Equal(t, "move child other to b: it is being drained, and takes no children", requireCode(t, err, Conflict).Cause)
	_, err = client.Children.MoveChild(ctx, &controlpb.MoveChildRequest{Id: "other", Member: "nobody"})
	requireCode(t, err, UnknownMember)

	stream, err := client.Children.WatchDrain(ctx, &controlpb.WatchDrainRequest{Member: "b"})
	require.NoError(t, err)
	next := func() string {
		t.Helper()
		res, err := stream.Recv()
		require.NoError(t, err)
		var ids []string
		for _, c := range res.GetChildren() {
			ids = append(ids, c.GetId())
		}
		return fmt.Sprint(res.GetDraining(), res.GetLeft(), "/", res.GetOf(), ids)
	}
	assert.Equal(t, "true 2/2 [x y]", next())
	c.children.put(aChild("x", "c", supervisor.Moving)) // it still runs on b
	assert.Equal(t, "true 2/2 [x y]", next())
	c.children.put(aChild("x", "c", supervisor.Running))
	assert.Equal(t, "true 1/2 [y]", next())
	c.children.put(aChild("y", "a", supervisor.Starting))
	assert.Equal(t, "true 0/2 []", next())
	_, err = stream.Recv()
	assert.ErrorIs(t, err, io.EOF)

	// An undo ends who watches.
	c.children.put(aChild("y", "b", supervisor.Running))
	stream, err = client.Children.WatchDrain(ctx, &controlpb.WatchDrainRequest{Member: "b"})
	require.NoError(t, err)
	next()
	_, err = client.Children.DrainMember(ctx, &controlpb.DrainMemberRequest{Member: "b", Undo: true})
	require.NoError(t, err)
	assert.Equal(t, "false 1/1 [y]", next())
	_, err = stream.Recv()
	assert.ErrorIs(t, err, io.EOF)
}
