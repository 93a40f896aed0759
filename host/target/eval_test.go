package target_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

func (r *rig) eval(t testing.TB, q target.EvalQuery) target.EvalResult {
	t.Helper()
	if q.Timeout == 0 {
		q.Timeout = 30 * time.Second
	}
	res, err := r.Eval(t.Context(), q)
	require.NoError(t, err)
	return res
}

func TestEvalErlang(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, func(*target.Config) {}, b)
		for _, c := range []struct{ expression, outcome, value, text, output string }{
			{"1 + 1", "value", "2", "2", ""},
			{"X = 20, Y = 22, X + Y.", "value", "42", "42", ""},
			{`{ok, <<"é"/utf8>>, "text", [1,2]}`, "value", `["ok","é","text",[1,2]]`, `{ok,<<"é"/utf8>>,"text",[1,2]}`, ""},
			{`io:format("hello ~ts~n", ["wörld"]), io:put_chars("more"), ok`, "value", `"ok"`, "ok", "hello wörld\nmore"},
			{`io:get_line("? ")`, "value", `"eof"`, "eof", ""},
			{`{io:columns(), io:getopts(), io:setopts([binary]), io:get_password(), io:read("? "), io:get_chars("? ", 3)}`, "value", "*", "*", ""},
			{"1 +", "exception", "null", "** 1:4: syntax error before: '.'", ""},
			{"#", "exception", "null", "*", ""},
			{"\"", "exception", "null", "*", ""},
			{`io:format("before"), lists:last([])`, "exception", "null", "*", "before"},
			{"erlang:error({no, reason})", "exception", "null", "** exception error: {no,reason}", ""},
			{"throw(it)", "exception", "null", "** exception throw: it", ""},
			{"exit(bye)", "exception", "null", "** exception exit: bye", ""},
			{"pwd()", "value", `"ok"`, "ok", "*"},
			{"nosuch(1)", "exception", "null", "*", ""},
			{"exit(self(), kill), receive after infinity -> ok end", "killed", "null", "*", ""},
			{"exit(self(), bye), receive after infinity -> ok end", "killed", "null", "its process ended with bye", ""},
		} {
			res := r.eval(t, target.EvalQuery{Node: b.Name, Expression: c.expression})
			assert.Equal(t, c.outcome, res.Outcome, c.expression)
			assert.Equal(t, "erlang", res.Language)
			for got, want := range map[string]string{res.Value: c.value, res.Text: c.text, res.Output: c.output} {
				if want != "*" {
					assert.Equal(t, want, got, c.expression)
				}
			}
			assert.True(t, json.Valid([]byte(res.Value)), res.Value)
		}
		res := r.eval(t, target.EvalQuery{Node: b.Name, Expression: "lists:last([])"})
		assert.Contains(t, res.Text, "** exception error: no function clause matching")
		assert.NotContains(t, res.Text, "debughost")
		assert.NotContains(t, res.Text, "erl_eval")

		r.stop()
		b.Await(t, agents, unloaded)
	})
}

func TestEvalElixir(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Elixir: true})
		r := attach(t, func(*target.Config) {}, b)
		for _, c := range []struct{ expression, outcome, value, text, output string }{
			{"1 + 1", "value", "2", "2", ""},
			{`%{b: {~D[2026-01-31], 1.5, nil}}`, "value", "*", `%{b: {~D[2026-01-31], 1.5, nil}}`, ""},
			{`IO.puts("hé"); :ok`, "value", `"ok"`, ":ok", "hé\n"},
			{`raise "oops"`, "exception", "null", "*", ""},
			{"exit(:bye)", "exception", "null", "*", ""},
			{"nosuch", "exception", "null", "*", "*"},
			{"1 +", "exception", "null", "*", "*"},
		} {
			res := r.eval(t, target.EvalQuery{Node: b.Name, Expression: c.expression})
			assert.Equal(t, c.outcome, res.Outcome, c.expression)
			assert.Equal(t, "elixir", res.Language)
			for got, want := range map[string]string{res.Value: c.value, res.Text: c.text, res.Output: c.output} {
				if want != "*" {
					assert.Equal(t, want, got, c.expression)
				}
			}
			assert.NotContains(t, res.Text, "debughost")
		}
		res := r.eval(t, target.EvalQuery{Node: b.Name, Expression: "nosuch"})
		assert.Contains(t, res.Text+res.Output, "undefined")
		res = r.eval(t, target.EvalQuery{Node: b.Name, Expression: `raise "oops"`})
		assert.Contains(t, []string{"** (RuntimeError) oops", "** (RuntimeError) oops\n    eval:1: (file)"}, res.Text)
		res = r.eval(t, target.EvalQuery{Node: b.Name, Expression: "{elixir, no}.", Language: target.LanguageErlang})
		assert.Equal(t, "{elixir,no}", res.Text)
	})
}

// What is large is cut on the node, and says so.
func TestEvalIsBounded(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, func(*target.Config) {}, b)
	res := r.eval(t, target.EvalQuery{Node: b.Name, Expression: `[io:put_chars(lists:duplicate(1000, $é)) || _ <- lists:seq(1, 100)], lists:seq(1, 100000)`, MaxBytes: 5001})
	assert.Equal(t, 5000, len(res.Output))
	assert.Equal(t, uint64(200_000-5000), res.OutputLeft)
	assert.LessOrEqual(t, len(res.Text), 5001)
	assert.Less(t, len(res.Value), 64<<10)
	assert.Contains(t, res.Value, `"..."`)
	res = r.eval(t, target.EvalQuery{Node: b.Name, Expression: "length(lists:seq(1, 200000000))", Timeout: time.Minute})
	assert.Equal(t, target.EvalKilled, res.Outcome)
	assert.Contains(t, res.Text, "512 MB")
	for _, large := range []string{
		"binary:copy(<<1>>, 1 bsl 20)", "erlang:make_tuple(100000, a)", "maps:from_keys(lists:seq(1, 100000), {x})",
		"1 bsl 100000", "fun() -> ok end", "[1 | 2]", "erlang:error(lists:seq(1, 1000000))", "exit(binary:copy(<<255>>, 1 bsl 22))",
	} {
		res := r.eval(t, target.EvalQuery{Node: b.Name, Expression: large, MaxBytes: 5001})
		assert.LessOrEqual(t, len(res.Text), 5001, large)
		assert.Less(t, len(res.Value), 256<<10, large)
		assert.True(t, json.Valid([]byte(res.Value)))
	}
}

// An evaluation that does not end is killed, whether its time is over or the
// one who asked has gone, and whatever it does about it.
func TestEvalEnds(t *testing.T) {
	t.Parallel()
	const forever = `register(forever, self()), process_flag(trap_exit, true), io:format("begun"), F = fun(F) -> receive _ -> F(F) end end, F(F)`
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, func(*target.Config) {}, b)
		res, err := r.Eval(t.Context(), target.EvalQuery{Node: b.Name, Expression: forever, Timeout: 300 * time.Millisecond})
		require.NoError(t, err)
		assert.Equal(t, target.EvalTimeout, res.Outcome)
		assert.Equal(t, "it did not end within 300ms and was killed", res.Text)
		assert.Equal(t, "begun", res.Output)
		b.Await(t, "whereis(forever)", "undefined")

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := r.Eval(ctx, target.EvalQuery{Node: b.Name, Expression: forever, Timeout: time.Minute})
			done <- err
		}()
		b.Await(t, "is_pid(whereis(forever))", "true")
		cancel()
		assert.ErrorIs(t, <-done, context.Canceled)
		b.Await(t, "whereis(forever)", "undefined")

		go func() {
			res, err := r.Eval(t.Context(), target.EvalQuery{Node: b.Name, Expression: forever, Timeout: time.Minute})
			if err == nil && res.Outcome == target.EvalKilled { // it may get to say so
				err = errors.New(res.Text)
			}
			done <- err
		}()
		b.Await(t, "is_pid(whereis(forever))", "true")
		r.stop()
		assert.Error(t, <-done)
		b.Await(t, "whereis(forever)", "undefined")
		b.Await(t, agents, unloaded)
	})
}

func TestEvalRefuses(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
	_, err := r.Eval(t.Context(), target.EvalQuery{Node: b.Name, Expression: "1"})
	assert.ErrorIs(t, err, target.ErrNotHere)
	assert.ErrorContains(t, err, "helper module")
	for _, q := range []target.EvalQuery{
		{Expression: ""}, {Expression: "\xff"}, {Expression: strings.Repeat(" ", target.MaxExpression+1)}, {Expression: "1", Language: "lfe"},
	} {
		q.Node = b.Name
		_, err := r.Eval(t.Context(), q)
		assert.ErrorIs(t, err, target.ErrBadQuery)
	}
	_, err = r.Eval(t.Context(), target.EvalQuery{Node: "none", Expression: "1"})
	assert.ErrorIs(t, err, target.ErrNoTarget)

	r = attach(t, func(*target.Config) {}, b)
	_, err = r.Eval(t.Context(), target.EvalQuery{Node: b.Name, Expression: "1", Language: target.LanguageElixir})
	assert.ErrorIs(t, err, target.ErrNotHere)
	assert.ErrorContains(t, err, "Elixir")
}
