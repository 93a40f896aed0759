package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/target"
)

// logQuestions answers with something of everything that a log may have, and
// ends at once, also where somebody wants to follow.
type logQuestions struct {
	control.Questions
	m     *member
	quiet bool
}

func (l logQuestions) Logs(_ context.Context, q target.LogQuery, out target.LogSink) error {
	l.m.note(q)
	if l.quiet {
		return nil
	}
	at := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	if q.Follow {
		_ = out.Started(target.LogStart{Node: "shop@db1", Primary: "notice", Note: "the logger of shop@db1 lets through notice and above only, not info"})
		_ = out.Started(target.LogStart{Node: "cart@db2", Primary: "notice", Note: "the logger of cart@db2 lets through notice and above only, not info"})
		_ = out.Started(target.LogStart{Node: "cart@db3", Primary: "info", Lowered: true})
		_ = out.Event(target.LogEvent{
			Node: "cart@db2", Time: at(1), Level: "warning", Pid: "<0.7.0>", RegisteredName: "Elixir.Cart.Sweeper", Application: "cart",
			MFA: "Elixir.Cart.Sweeper:sweep/1", File: "lib/cart/sweeper.ex", Line: 12, Message: "two\n    lines\x1b[2J\n\n      more",
		})
		_ = out.Event(target.LogEvent{
			Node: "cart@db2", Time: at(2), Level: "notice", Message: "",
			Report: &target.LogReport{Kind: "report", Fields: []target.KeyValue{{Key: "n", Value: "3"}}},
		})
		_ = out.Dropped("cart@db2", 9801)
		_ = out.Failed(target.NodeError{Node: "mail@db2", Err: hinted("mail@db2 is not attached", "set [targets] cookie_file")})
	}
	_ = out.Event(target.LogEvent{
		Node: "shop@db1", Time: at(3), Level: "error", Pid: "<0.123.0>", RegisteredName: "Elixir.Shop.Orders", Application: "shop",
		MFA: "gen_server:error_info/8", Message: "GenServer Shop.Orders terminating",
		Report: &target.LogReport{
			Kind: "terminate", Name: "Shop.Orders", Reason: `%RuntimeError{message: "no room"}`,
			Stack:       []target.Frame{{Function: "Elixir.Shop.Orders:handle_cast/2", File: "lib/orders.ex", Line: 41}, {Function: "gen_server:try_dispatch/4"}},
			LastMessage: `{:"$gen_cast", :pay}`, State: "%{cart: \"" + strings.Repeat("ü", 400) + "\"}", Ancestors: []string{"<0.99.0>", "Shop.Supervisor"},
			Fields: []target.KeyValue{{Key: "client_info", Value: "undefined"}},
		},
	})
	_ = out.Event(target.LogEvent{
		Node: "shop@db1", Time: at(4), Level: "error", Pid: "<0.99.0>", Application: "shop", Message: "Supervisor: …",
		Report: &target.LogReport{
			Kind: "supervisor", Name: "{local,shop_sup}", Child: "Elixir.Shop.Orders", ChildPid: "<0.123.0>", Reason: "killed",
			Fields: []target.KeyValue{{Key: "context", Value: "child_terminated"}},
		},
	})
	stack := make([]target.Frame, 10)
	for i := range stack {
		stack[i] = target.Frame{Function: "m:f/1"}
	}
	return out.Event(target.LogEvent{
		Node: "shop@db1", Time: at(5), Level: "error", Pid: "<0.124.0>", Message: "  crasher: …",
		Report: &target.LogReport{Kind: "crash", Class: "error", Reason: "oops", Stack: stack},
	})
}

func logShop(t *testing.T, quiet bool) *member {
	m := &member{targets: []target.Info{{Node: "shop@db1", State: target.Attached, Owner: "m1"}}}
	m.options = func(o *control.Options) { o.Questions = logQuestions{m: m, quiet: quiet} }
	return serve(t, m)
}

func TestLogs(t *testing.T) {
	m := logShop(t, false)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "logs-"+format, m.do("logs", "-f", "-o", format))
	}
	r := m.do("logs", "-f", "--level", "debug", "--process", "x")
	assert.Contains(t, r.err, "note: the logger of cart@db2")
	golden(t, "logs-kept", m.do("logs"))
	r = commandWith(func(a *app) { a.outTTY = true }, "--addr", m.addr, "logs", "-f")
	assert.Contains(t, r.out, "\x1b[1;31merror    \x1b[0m")
}

func TestLogsQuery(t *testing.T) {
	m := logShop(t, true)
	r := m.do("logs", "-f", "shop@db1", "--level", "debug", "--application", "shop", "--process", "My.Worker", "--rate", "7", "--since", "10m", "--set-level")
	assert.Zero(t, r.code, r.err)
	assert.Equal(t, target.LogQuery{
		Nodes: []string{"shop@db1"}, Level: "debug", Application: "shop", Process: "My.Worker", Rate: 7, Follow: true, SetLevel: true,
		Since: noon.Add(-10 * time.Minute),
	}, m.last())
	r = m.do("logs")
	assert.Contains(t, r.err, "no crash reports are kept")
	for _, args := range [][]string{{"--set-level"}, {"--since", "soon"}, {"--level", "loud"}} {
		r := m.do(append([]string{"logs"}, args...)...)
		assert.NotZero(t, r.code, args)
	}
}
