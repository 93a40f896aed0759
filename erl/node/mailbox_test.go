package node_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// receive returns the next message and what it carries.
func receive(t testing.TB, mb *node.Mailbox) (node.Message, etf.Term) {
	t.Helper()
	m, err := mb.Receive(within(t))
	require.NoError(t, err)
	term, err := m.Term()
	require.NoError(t, err)
	return m, term
}

func TestMessages(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := erltest.Start(t, erltest.Options{OTP: otp})
		// An echo server, {From, Msg} in, {self(), Msg} out.
		b.MustEval(t, "register(echo, spawn(fun L() -> receive {P, M} -> P ! {self(), M}, L() end end))")
		n, p := connect(t, b)
		echo := mustCall(t, p, "erlang", "whereis", atom("echo")).(etf.Pid)
		mb := n.NewMailbox(10)
		defer mb.Close()

		big := etf.Binary(make([]byte, 1<<20))
		for _, msg := range []etf.Term{atom("hi"), etf.Int(7), etf.Tuple{}, big} {
			require.NoError(t, mb.Send(echo, etf.Tuple{mb.Pid(), msg}))
			m, got := receive(t, mb)
			require.True(t, etf.Equal(etf.Tuple{echo, msg}, got))
			require.Equal(t, node.Send, m.Kind)
			require.Equal(t, b.Name, m.Node)
			require.Equal(t, echo, m.From)
			raw, err := m.Body()
			require.NoError(t, err)
			again, err := etf.Decode(append([]byte{131}, raw...), etf.Limits{})
			require.NoError(t, err)
			require.True(t, etf.Equal(got, again))
		}

		// By name, from the node itself, and to names of ours.
		require.NoError(t, p.SendName("echo", etf.Tuple{mb.Pid(), atom("by_name")}))
		_, got := receive(t, mb)
		require.Equal(t, atom("by_name"), got.(etf.Tuple)[1])
		require.NoError(t, mb.SendName(b.Name, "echo", etf.Tuple{mb.Pid(), atom("by_name")}))
		receive(t, mb)
		require.NoError(t, p.Send(echo, etf.Tuple{mb.Pid(), atom("by_pid")}))
		receive(t, mb)

		require.NoError(t, mb.Register("collector"))
		require.ErrorIs(t, mb.Register("collector"), node.ErrNameTaken)
		require.ErrorIs(t, mb.Register("net_kernel"), node.ErrNameTaken)
		b.MustEval(t, "{collector, '"+n.Name()+"'} ! {to, name}")
		_, got = receive(t, mb)
		require.Equal(t, etf.Tuple{atom("to"), atom("name")}, got)
		mb.Unregister("collector")
		b.MustEval(t, "{collector, '"+n.Name()+"'} ! nobody")

		// An alias is good until it ends.
		alias := mb.Alias()
		mustCall(t, p, "erlang", "send", alias, atom("to_alias"))
		m, got := receive(t, mb)
		require.Equal(t, atom("to_alias"), got)
		require.Equal(t, alias, m.Ref)
		mb.Unalias(alias)
		mustCall(t, p, "erlang", "send", alias, atom("late"))
		mustCall(t, p, "erlang", "send", n.NewMailbox(1).Alias(), atom("elsewhere"))
		require.Eventually(t, func() bool { return n.Stats().UnknownReceiver == 2 }, 10*time.Second, time.Millisecond)
		require.Zero(t, mb.Len())

		// Exit signals arrive as messages, whoever sends them.
		b.MustEval(t, "P = "+pidExpr(p, mb)+", exit(P, {because, 1})")
		m, got = receive(t, mb)
		require.Equal(t, node.Exit, m.Kind)
		require.Equal(t, etf.Tuple{atom("because"), etf.Int(1)}, got)

		// All but kill.
		b.MustEval(t, "P = "+pidExpr(p, mb)+", exit(P, kill)")
		_, err := mb.Receive(within(t))
		require.ErrorIs(t, err, node.ErrMailboxKilled)
		require.ErrorIs(t, mb.Register("x"), node.ErrMailboxClosed)
		<-mb.Done()

		// A pid of an earlier incarnation of ours is nobody.
		stale := mb.Pid()
		stale.Creation++
		mustCall(t, p, "erlang", "send", stale, atom("x"))
		require.Eventually(t, func() bool { return n.Stats().UnknownReceiver >= 3 }, 10*time.Second, time.Millisecond)
	})
}

// pidExpr stores a mailbox's pid on the node and returns the expression for it.
func pidExpr(p *node.Peer, mb *node.Mailbox) string {
	key := fmt.Sprintf("mb_%d", mb.Pid().ID)
	_, _ = p.Call(context.Background(), "persistent_term", "put", etf.Atom(key), mb.Pid())
	return "persistent_term:get(" + key + ")"
}

func TestPriorityMessages(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{OTP: "29"})
	n, p := connect(t, b)
	mb := n.NewMailbox(10)
	box := pidExpr(p, mb)
	require.NoError(t, mb.Register("box"))
	alias := mb.Alias()
	b.MustEval(t, "erlang:send("+box+", one, [priority])")
	_, got := receive(t, mb)
	require.Equal(t, atom("one"), got)
	b.MustEval(t, "erlang:send({box, '"+n.Name()+"'}, two, [priority])")
	_, got = receive(t, mb)
	require.Equal(t, atom("two"), got)
	mustCall(t, p, "erlang", "send", alias, atom("three"), etf.List{atom("priority")})
	_, got = receive(t, mb)
	require.Equal(t, atom("three"), got)
	b.MustEval(t, "exit("+box+", four, [priority])")
	m, got := receive(t, mb)
	require.Equal(t, node.Exit, m.Kind)
	require.Equal(t, atom("four"), got)
}

// A flood never grows memory: the mailbox is closed, and who is tied to it
// hears so, or what is too much is dropped. The connection goes on.
func TestFlood(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n, p := connect(t, b)
	flood := func(mb *node.Mailbox, count, size int) {
		b.MustEval(t, fmt.Sprintf("P = %s, B = binary:copy(<<1>>, %d), [P ! B || _ <- lists:seq(1, %d)], ok", pidExpr(p, mb), size, count))
	}

	mb := n.NewMailbox(100)
	b.MustEval(t, "P = "+pidExpr(p, mb)+`, S = self(), register(tied, spawn(fun() -> process_flag(trap_exit, true), link(P),
		monitor(process, P), S ! go, receive {'EXIT', _, E} -> receive {'DOWN', _, _, _, D} -> receive {ask, Q} -> Q ! {E, D} end end end end)), receive go -> ok end`)
	flood(mb, 1000, 10)
	<-mb.Done()
	for range 100 {
		_, err := mb.Receive(within(t))
		require.NoError(t, err)
	}
	_, err := mb.Receive(within(t))
	require.ErrorIs(t, err, node.ErrMailboxOverflow)
	require.Equal(t, "{killed,killed}", b.MustEval(t, "tied ! {ask, self()}, receive X -> X end"))

	mb = n.NewMailboxWith(node.MailboxOptions{Bytes: 10_000})
	flood(mb, 20, 1000)
	<-mb.Done()
	for range 8 {
		_, err := mb.Receive(within(t))
		require.NoError(t, err)
	}
	_, err = mb.Receive(within(t))
	require.ErrorIs(t, err, node.ErrMailboxOverflow)

	mb = n.NewMailboxWith(node.MailboxOptions{Messages: 10, Drop: true})
	_, err = mb.MonitorName(b.Name, "nobody")
	require.NoError(t, err)
	flood(mb, 1000, 10)
	require.Eventually(t, func() bool { return mb.Dropped() == 991 && mb.Len() == 10 }, 10*time.Second, time.Millisecond)
	_, err = mb.MonitorName(b.Name, "nobody") // its Down finds room
	require.NoError(t, err)
	require.Eventually(t, func() bool { return mb.Len() == 11 }, 10*time.Second, time.Millisecond)

	// One message of any size fits into an empty mailbox.
	mb = n.NewMailboxWith(node.MailboxOptions{Bytes: 10})
	flood(mb, 1, 100_000)
	receive(t, mb)

	require.Equal(t, atom(b.Name), mustCall(t, p, "erlang", "node"))
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err = mb.Receive(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// Messages of one sender keep their order, with several receivers too nothing
// is lost.
func TestMessageOrder(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n, p := connect(t, b)
	mb := n.NewMailbox(20_000)
	b.MustEval(t, "P = "+pidExpr(p, mb)+", [P ! {I, binary:copy(<<1>>, case I rem 1000 of 0 -> 200000; _ -> 1 end)} || I <- lists:seq(1, 10000)], ok")
	for i := range 10_000 {
		_, got := receive(t, mb)
		require.Equal(t, etf.Int(i+1), got.(etf.Tuple)[0])
	}

	b.MustEval(t, "register(sink, spawn(fun() -> F = fun F(10001) -> ok; F(I) -> receive {I, _} -> F(I + 1); {J, _} when is_integer(J) -> {I, J} end end, R = F(1), receive {ask, P} -> P ! R end end))")
	sink := mustCall(t, p, "erlang", "whereis", atom("sink")).(etf.Pid)
	for i := range 10_000 {
		size := 1
		if i%1000 == 0 {
			size = 200_000
		}
		msg := etf.Tuple{etf.Int(i + 1), etf.Binary(make([]byte, size))}
		require.Eventually(t, func() bool {
			err := mb.Send(sink, msg)
			if err != nil {
				require.ErrorIs(t, err, dist.ErrQueueFull)
			}
			return err == nil
		}, 10*time.Second, time.Millisecond)
	}
	require.Equal(t, "ok", b.MustEval(t, "sink ! {ask, self()}, receive R -> R end"))
}
