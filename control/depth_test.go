package control

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// fakeDepth answers questions about one process, and notes them.
type fakeDepth struct {
	Questions
	asked []any
	err   error
}

func (f *fakeDepth) State(_ context.Context, q target.StateQuery) (target.ProcessState, error) {
	f.asked = append(f.asked, q)
	return target.ProcessState{
		Node: q.Node, Pid: "<0.1.0>", Behaviour: "GenServer", Path: q.Path, Text: "%{a: \xff}",
		Tree: target.StateNode{Kind: "map", Size: 80, More: 2, Children: []target.StateNode{{Kind: "atom", Key: "a", Path: ".a", Text: "b"}}},
	}, f.err
}

func (f *fakeDepth) Graph(_ context.Context, q target.GraphQuery) (target.Graph, error) {
	f.asked = append(f.asked, q)
	return target.Graph{
		Nodes:   []target.GraphNode{{ID: "<0.1.0>", Ref: target.ProcessRef{Kind: "process", Pid: "<0.1.0>"}}, {ID: "x", Step: -1}},
		Edges:   []target.GraphEdge{{From: "<0.1.0>", To: "x", Kind: "link"}},
		LeftOut: 7,
	}, f.err
}

func (f *fakeDepth) Act(_ context.Context, a target.Act) (target.Done, error) {
	f.asked = append(f.asked, a)
	return target.Done{Kind: a.Kind, Node: a.Node, Pid: "<0.1.0>", Message: a.Term, Flag: a.Flag, Child: a.Child}, f.err
}

func TestGetState(t *testing.T) {
	f := &fakeDepth{}
	c := serve(t, &fakeEngine{}, Options{Questions: f}).dial(t)
	res, err := c.Depth.GetState(testContext(t), &controlpb.GetStateRequest{
		Node: "a", Process: "p", Path: ".x", Depth: 3, Width: 4, Offset: 5, MaxBytes: 6, Syntax: "elixir", Force: true, Timeout: durationpb.New(time.Second),
	})
	require.NoError(t, err)
	assert.Equal(t, target.StateQuery{Node: "a", Process: "p", Path: ".x", Depth: 3, Width: 4, Offset: 5, MaxBytes: 6, Elixir: true, Force: true, Timeout: time.Second}, f.asked[0])
	assert.Equal(t, "%{a: \uFFFD}", res.GetText())
	assert.Equal(t, uint64(2), res.GetState().GetMore())
	assert.Equal(t, ".a", res.GetState().GetChildren()[0].GetPath())

	for _, req := range []*controlpb.GetStateRequest{
		{Process: "p"},
		{Node: "a"},
		{Node: "a", Process: "p", Depth: 21},
		{Node: "a", Process: "p", Width: 1001},
		{Node: "a", Process: "p", Offset: 1 << 31},
		{Node: "a", Process: "p", MaxBytes: 1 << 20},
		{Node: "a", Process: "p", Syntax: "lisp"},
		{Node: "a", Process: "p", Path: strings.Repeat("x", 5000)},
		{Node: "a", Process: "p", Timeout: durationpb.New(-1)},
	} {
		_, err := c.Depth.GetState(testContext(t), req)
		requireCode(t, err, BadRequest)
	}
	require.Len(t, f.asked, 1)
	for cause, code := range map[error]Code{target.ErrLarge: TooLarge, target.ErrNoState: NoState, target.ErrTimeout: Timeout} {
		f.err = fmt.Errorf("show the state of <0.1.0> on a: %w", cause)
		_, err := c.Depth.GetState(testContext(t), &controlpb.GetStateRequest{Node: "a", Process: "p"})
		requireCode(t, err, code)
	}
}

func TestGetGraph(t *testing.T) {
	f := &fakeDepth{}
	c := serve(t, &fakeEngine{}, Options{Questions: f}).dial(t)
	res, err := c.Depth.GetGraph(testContext(t), &controlpb.GetGraphRequest{Node: "a", Process: "p", Depth: 2, Limit: 3})
	require.NoError(t, err)
	assert.Equal(t, target.GraphQuery{Node: "a", Process: "p", Depth: 2, Limit: 3}, f.asked[0])
	assert.Equal(t, int32(-1), res.GetNodes()[1].GetStep())
	assert.Equal(t, "link", res.GetEdges()[0].GetKind())
	assert.Equal(t, uint64(7), res.GetLeftOut())
	for _, req := range []*controlpb.GetGraphRequest{
		{Process: "p"}, {Node: "a", Process: "p", Depth: 11}, {Node: "a", Process: "p", Limit: 2001}, {Node: "a", Process: "p", Timeout: durationpb.New(-1)},
	} {
		_, err := c.Depth.GetGraph(testContext(t), req)
		requireCode(t, err, BadRequest)
	}
	f.err = target.ErrNoProcess
	_, err = c.Depth.GetGraph(testContext(t), &controlpb.GetGraphRequest{Node: "a", Process: "p"})
	requireCode(t, err, NoProcess)
}

// TestActs has each act translated, done by the owner, and audited.
func TestActs(t *testing.T) {
	f := &fakeDepth{}
	var audit auditList
	c := serve(t, &fakeEngine{}, Options{Questions: f, Audit: &audit}).dial(t)
	ctx := testContext(t)
	act := &controlpb.ActRequest{Node: "a", Process: "p", Force: true, Timeout: durationpb.New(time.Second)}
	child := &controlpb.ChildRequest{Node: "a", Process: "p", Child: "c"}
	for _, k := range []struct {
		want target.Act
		do   func() (*controlpb.ActResponse, error)
	}{
		{target.Act{Kind: target.ActSend, Term: ":hi", ElixirGuess: true}, func() (*controlpb.ActResponse, error) {
			return c.Acts.SendMessage(ctx, &controlpb.SendMessageRequest{Node: "a", Process: "p", Term: ":hi"})
		}},
		{target.Act{Kind: target.ActCollect, Force: true, Timeout: time.Second}, func() (*controlpb.ActResponse, error) { return c.Acts.CollectGarbage(ctx, act) }},
		{target.Act{Kind: target.ActSuspend, Force: true, Timeout: time.Second}, func() (*controlpb.ActResponse, error) { return c.Acts.SuspendProcess(ctx, act) }},
		{target.Act{Kind: target.ActResume, Force: true, Timeout: time.Second}, func() (*controlpb.ActResponse, error) { return c.Acts.ResumeProcess(ctx, act) }},
		{target.Act{Kind: target.ActFlag, Flag: "f", Value: "v"}, func() (*controlpb.ActResponse, error) {
			return c.Acts.SetProcessFlag(ctx, &controlpb.SetProcessFlagRequest{Node: "a", Process: "p", Flag: "f", Value: "v"})
		}},
		{target.Act{Kind: target.ActTerminateChild, Child: "c"}, func() (*controlpb.ActResponse, error) { return c.Acts.TerminateChild(ctx, child) }},
		{target.Act{Kind: target.ActRestartChild, Child: "c"}, func() (*controlpb.ActResponse, error) { return c.Acts.RestartChild(ctx, child) }},
	} {
		f.asked = nil
		k.want.Node, k.want.Process = "a", "p"
		res, err := k.do()
		require.NoError(t, err, k.want.Kind)
		require.Equal(t, []any{k.want}, f.asked)
		require.Equal(t, string(k.want.Kind), res.GetAct())
		require.Equal(t, "<0.1.0>", res.GetPid())
	}
	require.Len(t, audit.all(), 7)
	assert.Equal(t, "SendMessage", audit.all()[0].Method)

	f.asked = nil
	for _, err := range []error{
		errorOf(c.Acts.SendMessage(ctx, &controlpb.SendMessageRequest{Node: "a", Process: "p"})),
		errorOf(c.Acts.SendMessage(ctx, &controlpb.SendMessageRequest{Node: "a", Process: "p", Term: "x", Syntax: "lisp"})),
		errorOf(c.Acts.SendMessage(ctx, &controlpb.SendMessageRequest{Node: "a", Process: "p", Term: strings.Repeat("x", maxTerm+1)})),
		errorOf(c.Acts.SuspendProcess(ctx, &controlpb.ActRequest{Node: "a"})),
		errorOf(c.Acts.SuspendProcess(ctx, &controlpb.ActRequest{Node: "a", Process: "p", Timeout: durationpb.New(-1)})),
		errorOf(c.Acts.SetProcessFlag(ctx, &controlpb.SetProcessFlagRequest{Node: "a", Process: "p", Flag: strings.Repeat("x", 2000)})),
		errorOf(c.Acts.TerminateChild(ctx, &controlpb.ChildRequest{Node: "a", Process: "p"})),
		errorOf(c.Acts.RestartChild(ctx, &controlpb.ChildRequest{Node: "a", Process: "p", Child: strings.Repeat("x", 2000)})),
	} {
		requireCode(t, err, BadRequest)
	}
	assert.Empty(t, f.asked)
	f.err = fmt.Errorf("suspend <0.1.0> on a: %w", target.ErrConflict)
	e := requireCode(t, errorOf(c.Acts.SuspendProcess(ctx, act)), Conflict)
	assert.Equal(t, "suspend <0.1.0> on a: not possible as things are", e.Cause)
	f.err = fmt.Errorf("find p on a: %w", target.ErrNoProcess)
	e = requireCode(t, errorOf(c.Acts.SetProcessFlag(ctx, &controlpb.SetProcessFlagRequest{Node: "a", Process: "p", Flag: "x", Value: "y"})), NoProcess)
	assert.Equal(t, "set a flag of p on a: find p on a: noproc", e.Cause)
}

func errorOf(_ *controlpb.ActResponse, err error) error { return err }

func TestForwardedActNamesItself(t *testing.T) {
	assert.Equal(t, "call SuspendProcess for p on a", triedOf("/debughost.control.v1.Acts/SuspendProcess", &controlpb.ActRequest{Node: "a", Process: "p"}))
}
