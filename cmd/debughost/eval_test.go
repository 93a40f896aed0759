package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/target"
)

// shells answers evaluations with what a test says, and runs its shell.
type shells struct {
	control.Questions
	m      *member
	result target.EvalResult
	run    func(ctx context.Context, q target.ShellQuery, in <-chan target.ShellInput, out func(target.ShellOutput) error) error
}

func (s *shells) Eval(_ context.Context, q target.EvalQuery) (target.EvalResult, error) {
	s.m.note(q)
	return s.result, s.m.acted
}

func (s *shells) Shell(ctx context.Context, q target.ShellQuery, in <-chan target.ShellInput, out func(target.ShellOutput) error) error {
	s.m.note(q)
	return s.run(ctx, q, in, out)
}

// shellMember is a member whose nodes run code.
func shellMember(t *testing.T) (*member, *shells) {
	s := &shells{m: &member{targets: []target.Info{{Node: "shop@db1", State: target.Attached}}}}
	s.m.options = func(o *control.Options) { o.Questions = s }
	return serve(t, s.m), s
}

func TestEval(t *testing.T) {
	m, s := shellMember(t)
	s.result = target.EvalResult{
		Node: "shop@db1", Language: "elixir", Outcome: target.EvalValue, Value: `{"a":[1,"\u001b[2J"]}`, Text: "%{a: [1, \"\x1b[2J\"]}", Output: "printed\x07",
	}
	golden(t, "eval-table", m.do("eval", "shop@db1", "x"))
	golden(t, "eval-json", m.do("eval", "shop@db1", "x", "-o", "json"))
	assert.Equal(t, target.EvalQuery{Node: "shop@db1", Expression: "x", Language: "auto", MaxBytes: control.MaxBytes}, m.last())

	s.result = target.EvalResult{Node: "shop@db1", Outcome: target.EvalException, Value: "null", Text: "** (RuntimeError) oops\n    eval:1: (file)", Truncated: true, Output: "printed\n", OutputLeft: 12}
	golden(t, "eval-exception", m.do("eval", "shop@db1", "x"))
	s.result.Language = control.LanguageErlang
	assert.Contains(t, m.do("eval", "shop@db1", "x").err, "note: this was evaluated as Erlang, since shop@db1 does not run Elixir")
	assert.NotContains(t, m.do("eval", "shop@db1", "x", "--erlang").err, "note:", "as was asked for")
	s.result.Language = control.LanguageElixir
	golden(t, "eval-exception-json", m.do("eval", "shop@db1", "x", "-o", "json"))
	s.result = target.EvalResult{Node: "shop@db1", Outcome: target.EvalTimeout, Value: "null", Text: "it did not end within 5s and was killed"}
	golden(t, "eval-timeout", m.do("eval", "shop@db1", "--erlang", "--timeout", "5s", "x"))
	assert.Equal(t, target.EvalQuery{Node: "shop@db1", Expression: "x", Language: "erlang", MaxBytes: control.MaxBytes, Timeout: 5 * time.Second}, m.last())
	s.result.Outcome = target.EvalKilled
	assert.Equal(t, exitFailed, m.do("eval", "shop@db1", "--elixir", "x").code)
	m.acted = hinted("the node does not have Elixir", "--erlang does without it")
	assert.Contains(t, m.do("eval", "shop@db1", "x").err, "hint: --erlang does without it")
}

func TestEvalReads(t *testing.T) {
	m, _ := shellMember(t)
	file := filepath.Join(t.TempDir(), "fix.exs")
	require.NoError(t, os.WriteFile(file, []byte("from(file)"), 0o600))
	m.do("eval", "shop@db1", "--file", file)
	assert.Equal(t, "from(file)", m.last().(target.EvalQuery).Expression)
	commandWith(func(a *app) { a.in = strings.NewReader("from(stdin)") }, "--addr", m.addr, "eval", "shop@db1", "-")
	assert.Equal(t, "from(stdin)", m.last().(target.EvalQuery).Expression)

	for _, args := range [][]string{
		{"eval", "shop@db1"}, {"eval", "shop@db1", "x", "y"}, {"eval", "shop@db1", "x", "--file", file}, {"eval", "shop@db1", "--erlang", "--elixir", "x"},
		{"eval", "shop@db1", "x", "-o", "csv"}, {"remsh", "shop@db1", "-o", "json"}, {"remsh", "shop@db1", "--erlang", "--elixir"}, {"remsh"},
	} {
		assert.Equal(t, exitUsage, m.do(args...).code, args)
	}
	assert.Equal(t, exitFailed, m.do("eval", "shop@db1", "--file", "/nowhere").code)
	require.NoError(t, os.WriteFile(file, make([]byte, target.MaxExpression+1), 0o600))
	assert.Equal(t, exitUsage, m.do("eval", "shop@db1", "--file", file).code)
	r := commandWith(func(a *app) { a.in = brokenReader{} }, "--addr", m.addr, "eval", "shop@db1", "-")
	assert.Contains(t, r.err, "standard input")
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }
