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
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

func (f fakeQuestions) Eval(_ context.Context, q target.EvalQuery) (target.EvalResult, error) {
	if q.Expression == "refuse" {
		return target.EvalResult{}, target.ErrNotHere
	}
	return target.EvalResult{
		Node: q.Node, Language: "erlang", Outcome: target.EvalValue, Value: `"` + f.m.name + `"`,
		Text: fmt.Sprint(q.Expression, " ", q.Language, " ", q.MaxBytes, " ", q.Timeout), Output: "hidden", OutputLeft: 3,
	}, nil
}

// Shell echoes lines after the name of the member.
func (f fakeQuestions) Shell(ctx context.Context, q target.ShellQuery, in <-chan target.ShellInput, out func(target.ShellOutput) error) error {
	if err := out(target.ShellOutput{Kind: target.OutputStarted, Node: q.Node, Language: "erlang"}); err != nil {
		return err
	}
	if err := out(target.ShellOutput{Kind: target.OutputRead, Text: "1> ", Wanted: "expression", More: true}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case i, ok := <-in:
			var err error
			switch {
			case !ok:
				return out(target.ShellOutput{Kind: target.OutputText, Text: "bye"})
			case i.Kind == target.InputLine && i.Line == "q\n":
				return nil
			case i.Kind == target.InputLine && i.Line == "fail\n":
				return errors.New("it broke")
			case i.Kind == target.InputComplete:
				err = out(target.ShellOutput{Kind: target.OutputCompletions, ID: i.ID, Text: "x", Matches: []string{i.Line + "x"}})
			default:
				err = out(target.ShellOutput{Kind: target.OutputText, Text: fmt.Sprint(f.m.name, " ", i.Kind, " ", i.Line, i.Columns, i.Rows)})
			}
			if err != nil {
				return err
			}
		}
	}
}

func startShell(t *testing.T, c *Client, start *controlpb.ShellStart) controlpb.Shell_OpenShellClient {
	t.Helper()
	s, err := c.Shell.OpenShell(testContext(t))
	require.NoError(t, err)
	require.NoError(t, s.Send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Start{Start: start}}))
	return s
}

func typeLine(t *testing.T, s controlpb.Shell_OpenShellClient, line string) {
	t.Helper()
	require.NoError(t, s.Send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Line{
		Line: &controlpb.ShellLine{Content: &controlpb.ShellLine_Text{Text: line}},
	}}))
}

func shellText(t *testing.T, s controlpb.Shell_OpenShellClient) string {
	t.Helper()
	res, err := s.Recv()
	require.NoError(t, err)
	return res.GetText()
}

func TestEvaluate(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	client := c.members["a"].dial(t)
	ctx := testContext(t)
	res, err := client.Shell.Evaluate(ctx, &controlpb.EvaluateRequest{
		Node: "shop", Expression: "1 + 1", Language: "erlang", MaxBytes: 100, Timeout: durationpb.New(time.Second),
	})
	require.NoError(t, err)
	assert.Equal(t, `"b"`, res.GetValue())
	assert.Equal(t, "1 + 1 erlang 100 1s", res.GetText())
	assert.Equal(t, "shop@db1", res.GetNode())
	assert.Equal(t, uint64(3), res.GetOutputLeft())

	// The audit logs of both have the expression, and nothing of what came of it.
	for _, m := range []string{"a", "b"} {
		records := c.members[m].audit.all()
		require.Len(t, records, 1)
		assert.Equal(t, "Evaluate", records[0].Method)
		b, _ := json.Marshal(records[0])
		assert.Contains(t, string(b), "1 + 1")
		assert.NotContains(t, string(b), "hidden")
		assert.NotContains(t, string(b), "erlang 100")
	}

	_, err = client.Shell.Evaluate(ctx, &controlpb.EvaluateRequest{Node: "shop", Expression: "refuse"})
	e := requireCode(t, err, Conflict)
	assert.Contains(t, e.Cause, "evaluate on shop")
	for _, bad := range []*controlpb.EvaluateRequest{
		{}, {Node: "shop", MaxBytes: 1 << 30}, {Node: "shop", Timeout: durationpb.New(-1)},
	} {
		_, err = client.Shell.Evaluate(ctx, bad)
		requireCode(t, err, BadRequest)
	}
	_, err = client.Shell.Evaluate(ctx, &controlpb.EvaluateRequest{Node: "none"})
	requireCode(t, err, UnknownNode)
}

// A shell runs at the owner of its node, whichever member is asked.
func TestOpenShell(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	for _, asked := range []string{"a", "b"} {
		s := startShell(t, c.members[asked].dial(t), &controlpb.ShellStart{Node: "shop@db1", Size: &controlpb.ShellSize{Columns: 80, Rows: 24}})
		res, err := s.Recv()
		require.NoError(t, err)
		assert.Equal(t, "shop@db1", res.GetStarted().GetNode())
		res, err = s.Recv()
		require.NoError(t, err)
		assert.Equal(t, "1> ", res.GetRead().GetPrompt())
		assert.True(t, res.GetRead().GetMore())
		typeLine(t, s, "hello\n")
		assert.Equal(t, "b 1 hello\n0 0", shellText(t, s))
		require.NoError(t, s.Send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Line{
			Line: &controlpb.ShellLine{Content: &controlpb.ShellLine_Password{Password: "xyzzy"}},
		}}))
		assert.Equal(t, "b 1 xyzzy0 0", shellText(t, s))
		require.NoError(t, s.Send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Interrupt{}}))
		assert.Equal(t, "b 2 0 0", shellText(t, s))
		require.NoError(t, s.Send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Size{Size: &controlpb.ShellSize{Columns: 1 << 30, Rows: 3}}}))
		assert.Equal(t, "b 4 10000 3", shellText(t, s))
		require.NoError(t, s.Send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Complete{Complete: &controlpb.ShellComplete{Id: 9, Before: "lists:"}}}))
		res, err = s.Recv()
		require.NoError(t, err)
		assert.Equal(t, uint32(9), res.GetCompletions().GetId())
		assert.Equal(t, []string{"lists:x"}, res.GetCompletions().GetMatches())
		require.NoError(t, s.CloseSend())
		assert.Equal(t, "bye", shellText(t, s))
		_, err = s.Recv()
		assert.ErrorIs(t, err, io.EOF)
	}

	// Lines are in the log, a password is not.
	var methods []string
	for _, r := range c.members["a"].audit.all() {
		methods = append(methods, r.Outcome+" "+string(r.Args))
	}
	all := strings.Join(methods, "\n")
	assert.Contains(t, all, `begun {"start":{"node":"shop@db1"`)
	assert.Contains(t, all, `done {"start":{"node":"shop@db1"`)
	assert.Contains(t, all, `{"line":{"text":"hello\n"}}`)
	assert.NotContains(t, all, "xyzzy")
	assert.NotContains(t, all, "lists:")
	there := c.members["b"].audit.all()
	assert.Equal(t, "a", there[0].Member)
	assert.Equal(t, c.members["a"].audit.all()[0].Call, there[0].Call)
}

func TestOpenShellFails(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	c.own("a", "cart@db1")
	client := c.members["a"].dial(t)
	last := func(s controlpb.Shell_OpenShellClient) error {
		for {
			if _, err := s.Recv(); err != nil {
				return err
			}
		}
	}
	for _, node := range []string{"shop@db1", "cart@db1"} {
		s := startShell(t, client, &controlpb.ShellStart{Node: node})
		typeLine(t, s, "fail\n")
		assert.Contains(t, requireCode(t, last(s), Failed).Cause, "it broke")
		s = startShell(t, client, &controlpb.ShellStart{Node: node})
		typeLine(t, s, "q\n")
		assert.ErrorIs(t, last(s), io.EOF)
		for _, bad := range []*controlpb.OpenShellRequest{
			{},
			{Input: &controlpb.OpenShellRequest_Start{}},
			{Input: &controlpb.OpenShellRequest_Complete{Complete: &controlpb.ShellComplete{Before: strings.Repeat("x", target.MaxShellLine+1)}}},
			{Input: &controlpb.OpenShellRequest_Line{Line: &controlpb.ShellLine{Content: &controlpb.ShellLine_Text{Text: strings.Repeat("x", target.MaxShellLine+1)}}}},
		} {
			s = startShell(t, client, &controlpb.ShellStart{Node: node})
			require.NoError(t, s.Send(bad))
			requireCode(t, last(s), BadRequest)
		}
	}
	requireCode(t, last(startShell(t, client, &controlpb.ShellStart{Node: "none"})), UnknownNode)
	requireCode(t, last(startShell(t, client, &controlpb.ShellStart{})), BadRequest)
	requireCode(t, last(startShell(t, client, &controlpb.ShellStart{Node: "shop", Timeout: durationpb.New(-1)})), BadRequest)
	s, err := client.Shell.OpenShell(testContext(t))
	require.NoError(t, err)
	require.NoError(t, s.Send(&controlpb.OpenShellRequest{}))
	requireCode(t, last(s), BadRequest)

	// The owner is lost, or the member that is asked stops.
	s = startShell(t, client, &controlpb.ShellStart{Node: "shop@db1"})
	_, err = s.Recv()
	require.NoError(t, err)
	c.kill("b")
	requireCode(t, last(s), Unreachable)
	requireCode(t, last(startShell(t, client, &controlpb.ShellStart{Node: "shop@db1"})), Unreachable)
	s = startShell(t, client, &controlpb.ShellStart{Node: "cart@db1"})
	_, err = s.Recv()
	require.NoError(t, err)
	c.members["a"].server.stopCalls()
	requireCode(t, last(s), Stopping)
}
