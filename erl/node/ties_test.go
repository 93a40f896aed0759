package node_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// server starts a process on the node that evaluates what it is sent as
// {eval, From, Fun}, and traps exits; it is registered as server.
const server = `S = self(), spawn(fun() -> process_flag(trap_exit, true), register(server, self()), S ! up,
	(fun L() -> receive {eval, P, F} -> P ! {answer, F()}, L(); stop -> exit(stopped) end end)() end), receive up -> ok end`

// inServer evaluates an expression in that process.
func inServer(expr string) string {
	return "server ! {eval, self(), fun() -> " + expr + " end}, receive {answer, A} -> A end"
}

func TestLinks(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := erltest.Start(t, erltest.Options{OTP: otp})
		n, p := connect(t, b)
		mb := n.NewMailbox(10)
		box := pidExpr(p, mb)
		links := func() string { return b.MustEval(t, inServer("{links, L} = process_info(self(), links), length(L)")) }

		b.MustEval(t, server)
		srv := mustCall(t, p, "erlang", "whereis", atom("server")).(etf.Pid)

		// Ours: a link, an unlink, a link again, and its end.
		require.NoError(t, mb.Link(srv))
		require.NoError(t, mb.Link(srv))
		b.Await(t, inServer("{links, L} = process_info(self(), links), length(L)"), "1")
		require.NoError(t, mb.Unlink(srv))
		require.NoError(t, mb.Unlink(srv))
		b.Await(t, inServer("{links, L} = process_info(self(), links), length(L)"), "0")
		require.NoError(t, mb.Link(srv))
		require.NoError(t, mb.Unlink(srv))
		require.NoError(t, mb.Link(srv))
		b.Await(t, inServer("{links, L} = process_info(self(), links), length(L)"), "1")
		require.NoError(t, mb.Send(srv, atom("stop")))
		m, reason := receive(t, mb)
		require.Equal(t, node.Exit, m.Kind)
		require.Equal(t, srv, m.From)
		require.Equal(t, atom("stopped"), reason)
		require.NoError(t, mb.Unlink(srv))
		require.NoError(t, mb.Unlink(etf.Pid{Node: "other@host"}))

		// To a process that is gone.
		require.NoError(t, mb.Link(srv))
		_, reason = receive(t, mb)
		require.Equal(t, atom("noproc"), reason)

		// Theirs: a link, an unlink, and a link that our end ends.
		b.MustEval(t, server)
		srv = mustCall(t, p, "erlang", "whereis", atom("server")).(etf.Pid)
		require.Equal(t, "true", b.MustEval(t, inServer("link("+box+")")))
		require.Equal(t, "1", links())
		require.Equal(t, "true", b.MustEval(t, inServer("unlink("+box+")")))
		require.Equal(t, "true", b.MustEval(t, inServer("link("+box+")")))
		require.Eventually(t, func() bool { return p.Links() == 1 }, 10*time.Second, time.Millisecond)
		mb.Exit(etf.Tuple{atom("done"), etf.Int(1)})
		want := "{'EXIT'," + "true" + ",{done,1}}"
		require.Equal(t, want, b.MustEval(t, inServer("receive {'EXIT', P, R} -> {'EXIT', P =:= "+box+", R} end")))
		require.ErrorIs(t, mb.Link(srv), node.ErrMailboxClosed)
		_, err := mb.Receive(within(t))
		require.ErrorIs(t, err, node.ErrMailboxClosed)

		// To a mailbox that is gone.
		require.Equal(t, "noproc", b.MustEval(t, inServer("link("+box+"), receive {'EXIT', _, R} -> R end")))
		require.Equal(t, "true", b.MustEval(t, inServer("unlink("+box+")")))
		require.Equal(t, "0", links())
	})
}

func TestMonitors(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := erltest.Start(t, erltest.Options{OTP: otp})
		n, p := connect(t, b)
		mb := n.NewMailbox(10)
		box := pidExpr(p, mb)
		b.MustEval(t, server)
		srv := mustCall(t, p, "erlang", "whereis", atom("server")).(etf.Pid)
		monitors := inServer("{monitored_by, L} = process_info(self(), monitored_by), length(L)")

		// Ours, by pid and by name; one is taken back.
		byPid, err := mb.Monitor(srv)
		require.NoError(t, err)
		byName, err := mb.MonitorName(b.Name, "server")
		require.NoError(t, err)
		dropped, err := mb.Monitor(srv)
		require.NoError(t, err)
		b.Await(t, monitors, "3")
		mb.Demonitor(dropped)
		mb.Demonitor(dropped)
		mb.Demonitor(etf.Ref{})
		b.Await(t, monitors, "2")
		require.NoError(t, mb.SendName(b.Name, "server", atom("stop")))
		got := map[etf.Ref]node.Message{}
		for range 2 {
			m, reason := receive(t, mb)
			require.Equal(t, node.Down, m.Kind)
			require.Equal(t, atom("stopped"), reason)
			got[m.Ref] = m
		}
		require.Equal(t, srv, got[byPid].From)
		require.Equal(t, etf.Atom("server"), got[byName].FromName)

		// What is not there.
		ref, err := mb.Monitor(srv)
		require.NoError(t, err)
		m, reason := receive(t, mb)
		require.Equal(t, ref, m.Ref)
		require.Equal(t, atom("noproc"), reason)
		_, err = mb.MonitorName(b.Name, "nobody")
		require.NoError(t, err)
		_, reason = receive(t, mb)
		require.Equal(t, atom("noproc"), reason)
		_, err = mb.MonitorName("other@host", "x")
		require.ErrorIs(t, err, node.ErrNotConnected)

		// Theirs, by pid and by name, with one taken back.
		b.MustEval(t, server)
		require.NoError(t, mb.Register("box"))
		b.MustEval(t, inServer("monitor(process, "+box+"), monitor(process, {box, '"+n.Name()+"'}), demonitor(monitor(process, "+box+")), ok"))
		require.Eventually(t, func() bool { return p.Watchers() == 2 }, 10*time.Second, time.Millisecond)
		mb.Exit(atom("over"))
		require.Equal(t, "[over,over]", b.MustEval(t, inServer("[receive {'DOWN', _, process, _, R} -> R end || _ <- [1, 2]]")))
		require.Equal(t, "[noproc,noproc]", b.MustEval(t, inServer("monitor(process, "+box+"), monitor(process, {box, '"+n.Name()+"'}), [receive {'DOWN', _, process, _, R} -> R end || _ <- [1, 2]]")))
		require.Equal(t, "0", b.MustEval(t, inServer("{message_queue_len, N} = process_info(self(), message_queue_len), N")))
		_, err = mb.Monitor(srv)
		require.ErrorIs(t, err, node.ErrMailboxClosed)
	})
}

func TestSpawn(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := erltest.Start(t, erltest.Options{OTP: otp})
		n, p := connect(t, b)
		mb := n.NewMailbox(10)
		var ref etf.Ref
		pid, err := p.Spawn(within(t), "timer", "sleep", []etf.Term{atom("infinity")},
			node.SpawnOptions{Mailbox: mb, Link: true, Monitor: true, Ref: &ref, Opts: etf.List{etf.Tuple{atom("priority"), atom("low")}}})
		require.NoError(t, err)
		require.Equal(t, etf.Tuple{atom("priority"), atom("low")}, mustCall(t, p, "erlang", "process_info", pid, atom("priority")))
		require.NoError(t, p.Exit(pid, atom("enough")))
		seen := map[node.Kind]bool{}
		for range 2 {
			m, reason := receive(t, mb)
			require.Equal(t, pid, m.From)
			require.Equal(t, atom("enough"), reason)
			if m.Kind == node.Down {
				require.Equal(t, ref, m.Ref)
			}
			seen[m.Kind] = true
		}
		require.Len(t, seen, 2)

		// A process that has no mailbox lives on its own.
		pid, err = p.Spawn(within(t), "timer", "sleep", []etf.Term{atom("infinity")}, node.SpawnOptions{Link: true, Monitor: true})
		require.NoError(t, err)
		require.Equal(t, etf.Tuple{atom("links"), etf.List{}}, mustCall(t, p, "erlang", "process_info", pid, atom("links")))
		require.NoError(t, p.Exit(pid, atom("kill")))
		b.Await(t, "[P || P <- processes(), {current_function, {timer, sleep, 1}} <- [process_info(P, current_function)]]", "[]")

		// The parent's end is the child's.
		pid, err = p.Spawn(within(t), "timer", "sleep", []etf.Term{atom("infinity")}, node.SpawnOptions{Mailbox: mb, Link: true})
		require.NoError(t, err)
		require.Equal(t, atom("true"), mustCall(t, p, "erlang", "is_process_alive", pid))
		mb.Exit(atom("shutdown"))
		require.Eventually(t, func() bool { return mustCall(t, p, "erlang", "is_process_alive", pid) == atom("false") }, 10*time.Second, time.Millisecond)

		// A closed mailbox has no children.
		pid, err = p.Spawn(within(t), "timer", "sleep", []etf.Term{atom("infinity")}, node.SpawnOptions{Mailbox: mb, Link: true, Monitor: true})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return mustCall(t, p, "erlang", "is_process_alive", pid) == atom("false") }, 10*time.Second, time.Millisecond)
		require.Zero(t, p.Pending())
	})
}

// A peer that ties itself to our mailboxes without end is told system_limit.
func TestTooManyTies(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{MaxIncoming: 10})
	p := reach(t, n, b)
	box := pidExpr(p, n.NewMailbox(10))
	b.MustEval(t, server)
	require.Equal(t, "[system_limit,system_limit]", b.MustEval(t, inServer(
		"[monitor(process, "+box+") || _ <- lists:seq(1, 12)], [receive {'DOWN', _, _, _, R} -> R end || _ <- [1, 2]]")))
	require.Equal(t, "system_limit", b.MustEval(t, inServer("link("+box+"), receive {'EXIT', _, R} -> R end")))
}

// Signals to a peer that does not read wait in their order, and the
// connection ends when they are too many.
func TestSignalsWait(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{Dist: dist.Config{QueueBytes: 1 << 10}})
	p := reach(t, n, b)
	b.MustEval(t, "register(hole, spawn(timer, sleep, [infinity]))")
	hole := mustCall(t, p, "erlang", "whereis", atom("hole")).(etf.Pid)
	require.NoError(t, b.Freeze())
	mb := n.NewMailbox(10_000)
	var refs []etf.Ref
	require.Eventually(t, func() bool {
		ref, err := mb.Monitor(hole)
		require.NoError(t, err)
		refs = append(refs, ref)
		return p.Backlog() > 1000
	}, 20*time.Second, time.Microsecond)
	require.ErrorIs(t, mb.Send(hole, atom("x")), dist.ErrQueueFull)
	require.NoError(t, mb.Link(hole))
	for _, ref := range refs {
		mb.Demonitor(ref)
	}
	require.NoError(t, b.Thaw())
	b.Await(t, "process_info(whereis(hole), monitored_by)", "{monitored_by,[]}")
	require.Eventually(t, func() bool { return p.Backlog() == 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, mb.Send(hole, atom("x")))
	require.NoError(t, p.Exit(hole, atom("kill")))
	m, reason := receive(t, mb)
	require.Equal(t, node.Exit, m.Kind)
	require.Equal(t, atom("killed"), reason)
	require.NoError(t, p.Err())
}

func TestSignalsTooMany(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{Dist: dist.Config{QueueBytes: 1 << 10}})
	p := reach(t, n, b)
	init := mustCall(t, p, "erlang", "whereis", atom("init")).(etf.Pid)
	require.NoError(t, b.Freeze())
	mb := n.NewMailbox(1)
	for p.Err() == nil {
		if _, err := mb.Monitor(init); err != nil {
			require.ErrorIs(t, err, node.ErrNodeDown)
			break
		}
	}
	<-p.Done()
	require.ErrorContains(t, p.Err(), "does not read")
}
