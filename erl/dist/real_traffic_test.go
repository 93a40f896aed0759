package dist_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFragmentsOfRealNode receives a large message of a node in fragments, with
// small ones of another process between them, and sends a large one that the
// node puts together.
func TestFragmentsOfRealNode(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		for name, flags := range map[string]dist.Flags{
			"fragments":             dist.DefaultFlags&^dist.FlagDistHdrAtomCache | dist.FlagFragments,
			"fragments, atom cache": dist.DefaultFlags | dist.FlagDistHdrAtomCache | dist.FlagFragments,
		} {
			t.Run(name, func(t *testing.T) {
				// More than all buffers of the sockets hold: what fits there the
				// node writes in one go.
				l := dialOver(t, b, &slowConn{Conn: rawDial(t, b), perSecond: 48 << 20}, dist.Config{Flags: flags})
				const rows, size = 10_000, 24 << 20
				l.eval(t, `P = spawn(fun P() -> receive stop -> ok after 1 -> Self ! small, P() end end),
					Self ! {large, [{row, I, atom_to_list(node())} || I <- lists:seq(1, 10000)], binary:copy(<<"0123456789abcdef">>, 3 bsl 19)},
					exit(P, kill), done`)
				var small []int64 // fragments that had come before each small one
				between := 0
				for x := etf.Term(nil); x != etf.Atom("done"); {
					m := l.next(t)
					var err error
					x, err = m.Payload.Term()
					require.NoError(t, err)
					large, ok := x.(etf.Tuple)
					if !ok {
						small = append(small, m.fragments)
						continue
					}
					for _, n := range small {
						if 0 < n && n < m.fragments {
							between++
						}
					}
					list := large[1].(etf.List)
					require.Len(t, list, rows)
					assert.Equal(t, size, bytes.Count(large[2].(etf.Binary), []byte("0123456789abcdef"))*16)
					for i, row := range list {
						if !etf.Equal(etf.Tuple{etf.Atom("row"), etf.Int(i + 1), etf.String(b.Name)}, row) {
							t.Fatalf("row %d is %v", i, row)
						}
					}
				}
				assert.Greater(t, l.Stats().FragmentsIn, int64(350))
				assert.NotZero(t, between, "small messages between the fragments")

				echo := l.spawn(t, "erltest_eval", "run", l.self, etf.Binary(`receive X -> {byte_size(X), erlang:crc32(X)} end`))
				data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
				require.NoError(t, l.Send(t.Context(), &dist.Control{Op: dist.OpSendSender, From: l.self, To: echo}, etf.Binary(data)))
				m := l.next(t)
				x, err := m.Payload.Term()
				require.NoError(t, err)
				assert.Equal(t, etf.Int(len(data)), x.(etf.Tuple)[0])
				assert.GreaterOrEqual(t, l.Stats().FragmentsOut, int64(32))
			})
		}
	})
}

// TestAtomCacheOfRealNode has a node send so many atoms that its cache entries
// are replaced, long ones among them.
func TestAtomCacheOfRealNode(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		l := dial(t, b, dist.Config{Flags: dist.DefaultFlags | dist.FlagDistHdrAtomCache | dist.FlagFragments})
		l.eval(t, `[Self ! {I, list_to_atom("atom_" ++ integer_to_list(I rem 3000)), list_to_atom(lists:duplicate(I rem 256, 252))} || I <- lists:seq(1, 9000)], done`)
		cached := 0
		for i := 1; i <= 9000; i++ {
			m := l.next(t)
			x, err := m.Payload.Term()
			require.NoError(t, err)
			want := etf.Tuple{etf.Int(i), etf.Atom("atom_" + itoa(i%3000)), etf.Atom(bytes.Repeat([]byte("ü"), i%256))}
			require.Equal(t, etf.Term(want), x)
			cached += len(m.Payload.Atoms())
		}
		assert.Greater(t, cached, 9000, "atoms came by the cache")
	})
}

func itoa(n int) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// TestTicksBesideLargeMessage keeps a connection with a tick time of a few
// seconds up while 50 MB come in through a reader that is slower than that.
func TestTicksBesideLargeMessage(t *testing.T) {
	const tickTime = 8 * time.Second
	for _, flags := range []dist.Flags{dist.DefaultFlags, dist.DefaultFlags &^ (dist.FlagFragments | dist.FlagDistHdrAtomCache)} {
		t.Run(fmt.Sprintf("%x", uint64(flags)), func(t *testing.T) {
			t.Parallel()
			b := erltest.Start(t, erltest.Options{OTP: "27", NetTickTime: tickTime})
			b.LoadModule(t, "erltest_eval", evalModule)
			slow := &slowConn{Conn: rawDial(t, b), perSecond: 5 << 20}
			l := dialOver(t, b, slow, dist.Config{Flags: flags, TickTime: tickTime})
			begin := time.Now()
			l.eval(t, `binary:copy(<<"0123456789abcdef">>, 3276800)`)
			m := l.next(t)
			took := time.Since(begin)
			x, err := m.Payload.Term()
			require.NoError(t, err)
			assert.Len(t, x, 16*3276800)
			assert.Greater(t, took, tickTime)
			assert.GreaterOrEqual(t, l.Stats().TicksOut, int64(2))
			assert.Less(t, slow.gap(), tickTime*2/3, "between two writes of ours; more than a third means a slow machine")
			assert.Equal(t, "["+string(l.self.Node)+"]", b.MustEval(t, "nodes(hidden)"))
		})
	}
}

// TestFrozenNodeIsNoticed stops a node (SIGSTOP) and expects its connection to
// end by the tick time, whether or not somebody sends, and a thawed node to be
// reachable again.
func TestFrozenNodeIsNoticed(t *testing.T) {
	b := erltest.Start(t, erltest.Options{OTP: "29"})
	b.LoadModule(t, "erltest_eval", evalModule)
	const tickTime = time.Second
	quiet := dial(t, b, dist.Config{TickTime: tickTime})
	busy := dial(t, b, dist.Config{TickTime: tickTime, QueueBytes: 1 << 20})
	to := busy.spawn(t, "erltest_eval", "run", busy.self, etf.Binary("receive never -> ok end"))

	// The node's own tick time is a minute: ticks of its own come too rarely
	// for ours, so somebody has to speak until it freezes.
	for _, l := range []*link{quiet, busy} {
		echo := l.spawn(t, "erltest_eval", "run", l.self, etf.Binary("fun F() -> Self ! x, receive after 100 -> F() end end()"))
		require.NotZero(t, echo.ID)
		l.next(t)
	}
	require.NoError(t, b.Freeze())
	frozen := time.Now()
	go func() {
		payload := etf.Binary(make([]byte, 1<<16))
		for busy.Send(t.Context(), &dist.Control{Op: dist.OpSendSender, From: busy.self, To: to}, payload) == nil {
		}
	}()
	for _, l := range []*link{quiet, busy} {
		require.ErrorIs(t, <-l.ran, dist.ErrTickTimeout)
		assert.Less(t, time.Since(frozen), 3*tickTime)
	}
	require.ErrorIs(t, busy.Send(t.Context(), &dist.Control{Op: dist.OpSendSender, From: busy.self, To: to}, etf.Int(1)), dist.ErrTickTimeout)

	require.NoError(t, b.Thaw())
	again := dial(t, b, dist.Config{})
	again.eval(t, "alive")
	assert.Equal(t, dist.OpSendSender, again.next(t).Op)
}

// TestKilledNodeIsNoticed expects the end of a connection within milliseconds.
func TestKilledNodeIsNoticed(t *testing.T) {
	b := erltest.Start(t, erltest.Options{OTP: "25"})
	l := dial(t, b, dist.Config{})
	b.Kill()
	select {
	case err := <-l.ran:
		require.ErrorIs(t, err, dist.ErrPeerClosed)
	case <-time.After(5 * time.Second):
		t.Fatal("not noticed")
	}
}

// TestSignalsOfRealNode links and monitors processes of a node and sends and
// receives exit signals, aliases and unlinks.
func TestSignalsOfRealNode(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		l := dial(t, b, dist.Config{})
		proc := func() etf.Pid {
			p := l.spawn(t, "erltest_eval", "run", l.self, etf.Binary("process_flag(trap_exit, true), Self ! ready, receive X -> X end"))
			require.Equal(t, dist.OpSendSender, l.next(t).Op)
			return p
		}
		ref := etf.Ref{Node: l.self.Node, Creation: 7, Len: 3, Words: [5]uint32{9, 9, 9}}
		tell := func(m dist.Control) { require.NoError(t, l.Send(t.Context(), &m, nil)) }

		p := proc()
		tell(dist.Control{Op: dist.OpMonitorP, From: l.self, To: p, Ref: ref})
		tell(dist.Control{Op: dist.OpLink, From: l.self, To: p})
		require.NoError(t, l.Send(t.Context(), &dist.Control{Op: dist.OpPayloadExit2, From: l.self, To: p}, etf.Atom("boom")))
		m := l.next(t) // {'EXIT', Self, boom} comes back as the value
		x, err := m.Payload.Term()
		require.NoError(t, err)
		assert.Equal(t, etf.Tuple{etf.Atom("EXIT"), l.self, etf.Atom("boom")}, x)
		seen := map[dist.Op]bool{}
		for range 2 { // the process ends normally
			m := l.next(t)
			seen[m.Op] = true
			assert.Equal(t, p, m.From)
			assert.Equal(t, l.self, m.To)
			reason, err := m.Payload.Term()
			require.NoError(t, err)
			assert.Equal(t, etf.Atom("normal"), reason)
			if m.Op == dist.OpPayloadMonitorPExit {
				assert.Equal(t, ref, m.Ref)
			}
		}
		assert.Equal(t, map[dist.Op]bool{dist.OpPayloadExit: true, dist.OpPayloadMonitorPExit: true}, seen)

		q := proc()
		tell(dist.Control{Op: dist.OpLink, From: l.self, To: q})
		tell(dist.Control{Op: dist.OpUnlinkID, ID: 1<<64 - 1, From: l.self, To: q})
		m = l.next(t)
		assert.Equal(t, dist.Control{Op: dist.OpUnlinkIDAck, ID: 1<<64 - 1, From: q, To: l.self}, m.Control)

		tell(dist.Control{Op: dist.OpMonitorP, From: l.self, ToName: "nobody", Ref: ref})
		m = l.next(t)
		assert.Equal(t, dist.Control{Op: dist.OpPayloadMonitorPExit, FromName: "nobody", To: l.self, Ref: ref}, m.Control)

		// An alias of ours: from OTP 28 on by another signal than before.
		l.eval(t, "receive Alias -> Alias ! by_alias end")
		// (the value of the send comes too)
		last := l.spawn(t, "erltest_eval", "run", l.self, etf.Binary("receive A -> A ! by_alias end"))
		require.NoError(t, l.Send(t.Context(), &dist.Control{Op: dist.OpSendSender, From: l.self, To: last}, ref))
		m = l.next(t)
		assert.Equal(t, ref, m.Ref)
		if b.OTP == "29" {
			assert.Equal(t, dist.OpAltactSig, m.Op)
			assert.EqualValues(t, dist.AltactAlias, m.Flags)
		} else {
			assert.Equal(t, dist.OpAliasSend, m.Op)
		}
	})
}

// TestSpawnRefusedByRealNode asks for what cannot be.
func TestSpawnRefusedByRealNode(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		l := dial(t, b, dist.Config{})
		ref := etf.Ref{Node: l.self.Node, Creation: 7, Len: 3}
		require.NoError(t, l.Send(t.Context(), &dist.Control{Op: dist.OpSpawnRequest, Ref: ref, From: l.self, Spawn: &dist.SpawnRequest{
			GroupLeader: l.self, Module: "erlang", Function: "node", Opts: etf.List{etf.Atom("what")},
		}}, etf.List{}))
		m := l.next(t)
		assert.Equal(t, dist.Control{Op: dist.OpSpawnReply, Ref: ref, To: l.self, Result: etf.Atom("badopt")}, m.Control)
	})
}
