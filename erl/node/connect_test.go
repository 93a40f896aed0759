package node_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

func TestNew(t *testing.T) {
	for _, name := range []string{"", "shop", "@host", "shop@", "a@b@c", strings.Repeat("x", 255) + "@h"} {
		_, err := node.New(node.Config{Name: name})
		require.ErrorContains(t, err, "want name@host", "%q", name)
	}
	_, err := node.New(node.Config{Name: "a@b", Accept: &node.AcceptConfig{}})
	require.ErrorContains(t, err, "needs a cookie")
	t.Setenv("ERL_EPMD_PORT", "nonsense")
	_, err = node.New(node.Config{Name: "a@b"})
	require.ErrorContains(t, err, "ERL_EPMD_PORT")
}

// One identity reaches nodes with short and with long names, whatever its own.
func TestConnectShortAndLongNames(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		short := erltest.Start(t, erltest.Options{OTP: otp})
		long := erltest.Start(t, erltest.Options{OTP: otp, Long: true, Cookie: short.Cookie})
		for _, host := range []string{"localhost", "127.0.0.1", "db1.example.org"} {
			n := startNode(t, node.Config{Name: randomName(host)})
			for _, b := range []*erltest.Beam{short, long} {
				got, err := reach(t, n, b).Call(within(t), "erlang", "node")
				require.NoError(t, err)
				require.Equal(t, atom(b.Name), got)
				// Both directions: the node also sends to us, without dialling.
				mb := n.NewMailbox(1)
				_, err = n.Peer(b.Name).Call(within(t), "erlang", "send", mb.Pid(), atom("hello"))
				require.NoError(t, err)
				m, err := mb.Receive(within(t))
				require.NoError(t, err)
				require.Equal(t, b.Name, m.Node)
			}
		}
	})
}

func TestConnectIsShared(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{})
	var dials atomic.Int32
	o := dialOptions(b)
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	peers := make([]*node.Peer, 20)
	var wg sync.WaitGroup
	for i := range peers {
		wg.Go(func() {
			p, err := n.Connect(within(t), b.Name, o)
			if err != nil {
				t.Error(err)
			}
			peers[i] = p
		})
	}
	wg.Wait()
	for _, p := range peers {
		require.Same(t, peers[0], p)
	}
	require.EqualValues(t, 1, dials.Load())
	require.Equal(t, []*node.Peer{peers[0]}, n.Peers())
	require.Same(t, peers[0], n.Peer(b.Name))
	require.Nil(t, n.Peer("other@host"))
	require.Equal(t, b.Name, peers[0].Name())
	require.Equal(t, peers[0].Creation(), peers[0].Info().Creation)
	require.Equal(t, etf.Int(peers[0].Creation()), mustCall(t, peers[0], "erlang", "system_info", atom("creation")))
	require.NotZero(t, peers[0].Stats().BytesIn)
	require.NotZero(t, n.Creation())

	peers[0].Close()
	require.ErrorIs(t, peers[0].Err(), node.ErrNodeDown)
	require.ErrorIs(t, peers[0].Err(), dist.ErrClosed)
	_, err := peers[0].Call(within(t), "erlang", "node")
	require.ErrorIs(t, err, node.ErrNodeDown)
	require.NotSame(t, peers[0], reach(t, n, b))
}

func mustCall(t testing.TB, p *node.Peer, module, function string, args ...etf.Term) etf.Term {
	t.Helper()
	got, err := p.Call(within(t), module, function, args...)
	require.NoError(t, err)
	return got
}

// connectError dials and returns the error, which has to be a *ConnectError of
// a stage.
func connectError(t *testing.T, n *node.Node, name string, o node.DialOptions, stage node.Stage) *node.ConnectError {
	t.Helper()
	_, err := n.Connect(within(t), name, o)
	var ce *node.ConnectError
	require.ErrorAs(t, err, &ce)
	require.Equal(t, stage, ce.Stage, "%v", err)
	require.Contains(t, err.Error(), "connect to "+name+": "+string(stage))
	return ce
}

func TestConnectErrors(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{})

	o := dialOptions(b)
	o.Cookie = dist.NewCookie("wrong")
	err := connectError(t, n, b.Name, o, node.StageHandshake)
	require.ErrorIs(t, err, dist.ErrCookie)
	var he *dist.HandshakeError
	require.ErrorAs(t, err, &he)

	err = connectError(t, n, "nosuch@localhost", dialOptions(b), node.StageEPMD)
	require.ErrorIs(t, err, epmd.ErrNotRegistered)
	require.Contains(t, err.Error(), "is it running")

	err = connectError(t, n, "x@nosuch.invalid", dialOptions(b), node.StageResolve)
	require.Contains(t, err.Error(), "has no address here")

	err = connectError(t, n, "nonsense", dialOptions(b), node.StageResolve)
	require.Contains(t, err.Error(), "name@host")

	o = dialOptions(b)
	o.EPMD = &epmd.Client{Port: unusedPort(t)}
	err = connectError(t, n, b.Name, o, node.StageEPMD)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Contains(t, err.Error(), "no EPMD runs on localhost")

	o = dialOptions(b)
	o.Addr = net.JoinHostPort("127.0.0.1", "1")
	err = connectError(t, n, b.Name, o, node.StageDial)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	o.Addr = net.JoinHostPort("nosuch.invalid", "1")
	connectError(t, n, b.Name, o, node.StageResolve)

	o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, timeoutError{} }
	err = connectError(t, n, b.Name, o, node.StageDial)
	require.Contains(t, err.Error(), "firewall")

	fake := erltest.StartFakeEPMD(t)
	fake.Answer(func([]byte) []byte { return nil })
	o = dialOptions(b)
	o.EPMD = &epmd.Client{Port: fake.Port, Timeout: 50 * time.Millisecond}
	err = connectError(t, n, b.Name, o, node.StageEPMD)
	require.Contains(t, err.Error(), "no answer from EPMD")
	require.Empty(t, n.Peers())
}

type timeoutError struct{}

func (timeoutError) Error() string { return "timed out" }
func (timeoutError) Timeout() bool { return true }

func unusedPort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// The name of this machine may not resolve; a node on it is found anyway.
func TestConnectToThisMachine(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{})
	o := dialOptions(b)
	var asked []string
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		asked = append(asked, addr)
		if len(asked) == 1 {
			return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	short, _, _ := strings.Cut(b.Name, "@")
	_, err := n.Connect(within(t), short+"@"+hostname(t), o)
	require.ErrorIs(t, err, dist.ErrNameMismatch) // it calls itself …@localhost
	require.Len(t, asked, 2)
	require.True(t, strings.HasPrefix(asked[1], "localhost:"))
}

func TestConnectGivenUp(t *testing.T) {
	checkLeaks(t)
	peer := erltest.StartFakePeer(t, nil, erltest.Silence())
	n := startNode(t, node.Config{})
	o := node.DialOptions{Addr: peer.Addr(), Cookie: dist.NewCookie(peer.Cookie)}
	ctx, cancel := context.WithCancel(within(t))
	errs := make(chan error, 2)
	for range 2 {
		go func() { _, err := n.Connect(ctx, peer.Name, o); errs <- err }()
	}
	require.Eventually(t, func() bool { return peer.Accepted() == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	for range 2 {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	// The attempt ended with the last one that wanted it: a new one starts.
	ctx, cancel = context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	require.Eventually(t, func() bool {
		_, err := n.Connect(ctx, peer.Name, o)
		return err != nil && peer.Accepted() == 2
	}, 10*time.Second, time.Millisecond)
}

func TestConnectOutsideOfRun(t *testing.T) {
	checkLeaks(t)
	n, err := node.New(node.Config{Name: randomName("localhost")})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err = n.Connect(ctx, "x@localhost", node.DialOptions{})
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, n.Run(ctx)) // ends at once
	_, err = n.Connect(within(t), "x@localhost", node.DialOptions{})
	require.ErrorIs(t, err, node.ErrClosed)
	require.ErrorContains(t, n.Run(ctx), "runs already")
	_, err = n.NewMailbox(1).Receive(within(t))
	require.ErrorIs(t, err, node.ErrClosed)
}

// What a peer may do wrong costs its own connection only.
func TestConnectToBadPeers(t *testing.T) {
	checkLeaks(t)
	n := startNode(t, node.Config{Dist: dist.Config{HandshakeTimeout: 200 * time.Millisecond, TickTime: 400 * time.Millisecond}})
	for name, script := range map[string][]erltest.Step{
		"garbage":          {erltest.Garbage(1000)},
		"closes at once":   {},
		"closes after us":  {erltest.Expect()},
		"not allowed":      {erltest.Expect(), erltest.SendHandshake([]byte("snot_allowed")...)},
		"silent":           {erltest.Silence()},
		"half a handshake": {erltest.Expect(), erltest.Send(0, 100, 's'), erltest.Silence()},
	} {
		t.Run(name, func(t *testing.T) {
			peer := erltest.StartFakePeer(t, nil, script...)
			o := node.DialOptions{Addr: peer.Addr(), Cookie: dist.NewCookie(peer.Cookie)}
			connectError(t, n, peer.Name, o, node.StageHandshake)
		})
	}
	for name, script := range map[string][]erltest.Step{
		"garbage":      {erltest.Garbage(100_000), erltest.Silence()},
		"huge length":  {erltest.HugeFrame(0xffffffff), erltest.Silence()},
		"half a frame": {erltest.HalfFrame(100, 131, 68), erltest.Silence()},
		"silent":       {erltest.Silence()},
		"closes":       {},
	} {
		t.Run(name+" after the handshake", func(t *testing.T) {
			peer := erltest.StartFakePeer(t, nil, append([]erltest.Step{erltest.AsAcceptor()}, script...)...)
			p, err := n.Connect(within(t), peer.Name, node.DialOptions{Addr: peer.Addr(), Cookie: dist.NewCookie(peer.Cookie)})
			require.NoError(t, err)
			_, err = p.Call(within(t), "erlang", "node")
			var down *node.NodeDownError
			require.ErrorAs(t, err, &down)
			require.Equal(t, peer.Name, down.Node)
			require.ErrorContains(t, err, peer.Name+" is down: ")
			<-p.Done()
			require.Nil(t, n.Peer(peer.Name))
		})
	}
}

func TestNodeKilled(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := erltest.Start(t, erltest.Options{OTP: otp})
		n, p := connect(t, b)
		mb := n.NewMailbox(10)
		pid, err := p.Spawn(within(t), "timer", "sleep", []etf.Term{atom("infinity")}, node.SpawnOptions{Mailbox: mb, Link: true, Monitor: true})
		require.NoError(t, err)
		named, err := mb.MonitorName(b.Name, "init")
		require.NoError(t, err)
		calls := make(chan error, 10)
		for range 10 {
			go func() { _, err := p.Call(within(t), "timer", "sleep", atom("infinity")); calls <- err }()
		}
		require.Eventually(t, func() bool { return p.Pending() == 10 }, 10*time.Second, time.Millisecond)
		start := time.Now()
		b.Kill()
		<-p.Done()
		t.Logf("done %v after the kill, which includes its wait for the process", time.Since(start))
		for range 10 {
			require.ErrorIs(t, <-calls, node.ErrNodeDown)
		}
		require.ErrorIs(t, p.Err(), dist.ErrPeerClosed)
		require.Zero(t, p.Pending())
		kinds := map[node.Kind]int{}
		for range 3 {
			m, err := mb.Receive(within(t))
			require.NoError(t, err)
			reason, err := m.Term()
			require.NoError(t, err)
			require.Equal(t, atom("noconnection"), reason)
			require.Equal(t, b.Name, m.Node)
			if m.FromName == "" {
				require.Equal(t, pid, m.From)
			} else {
				require.Equal(t, named, m.Ref)
			}
			kinds[m.Kind]++
		}
		require.Equal(t, map[node.Kind]int{node.Exit: 1, node.Down: 2}, kinds)
		require.Zero(t, mb.Len())

		// The same name again is another incarnation: old pids do not reach it.
		require.NoError(t, b.Restart(within(t)))
		p2 := reach(t, n, b)
		require.NotEqual(t, p.Creation(), p2.Creation())
		for _, err := range []error{
			p2.Send(pid, atom("x")), p2.Exit(pid, atom("kill")), mb.Send(pid, atom("x")), mb.Link(pid), mb.SendExit(pid, atom("x")),
			errOf(mb.Monitor(pid)), p2.Exit(etf.Pid{Node: pid.Node, ID: pid.ID}, atom("kill")),
		} {
			require.ErrorIs(t, err, node.ErrStalePid)
		}
		require.ErrorIs(t, p2.Send(etf.Pid{Node: "other@host"}, atom("x")), node.ErrForeignPid)
		require.ErrorIs(t, mb.Send(etf.Pid{Node: "other@host"}, atom("x")), node.ErrNotConnected)
		require.ErrorIs(t, p.Send(pid, atom("x")), node.ErrNodeDown)
		require.ErrorIs(t, p.SendName("x", atom("x")), node.ErrNodeDown)
		require.ErrorIs(t, p.Exit(pid, atom("x")), node.ErrNodeDown)
		init := p2.Pid(0, 0)
		require.Equal(t, init, mustCall(t, p2, "erlang", "whereis", atom("init")))
	})
}

func errOf[T any](_ T, err error) error { return err }

// A frozen node is lost after the tick time, and found again when it goes on.
func TestNodeFrozen(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{Dist: dist.Config{TickTime: 500 * time.Millisecond}})
	// The node's own ticks are slower: answers keep the connection up.
	p := reach(t, n, b)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil && p.Err() == nil {
			_, _ = p.Call(ctx, "timer", "sleep", etf.Int(10))
		}
	})
	require.NoError(t, b.Freeze())
	select {
	case <-p.Done():
	case <-within(t).Done():
		t.Fatal("the connection to a frozen node stays")
	}
	cancel()
	wg.Wait()
	require.ErrorIs(t, p.Err(), dist.ErrTickTimeout)
	require.NoError(t, b.Thaw())
	p = reach(t, n, b)
	require.Equal(t, atom(b.Name), mustCall(t, p, "erlang", "node"))
}

func TestRunEndsEverything(t *testing.T) {
	checkLeaks(t)
	b := starter(t, "")
	n, err := node.New(node.Config{Name: randomName("localhost")})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	p := reach(t, n, b)
	mb := n.NewMailbox(1)
	call := make(chan error, 1)
	sleep := func(name string) {
		go func() { _, err := p.Call(within(t), "raise", "sleeper", atom(name)); call <- err }()
		b.Await(t, "is_pid(whereis("+name+"))", "true")
	}
	// A call ends on the node too, with its connection and with the node.
	sleep("first")
	p.Close()
	require.ErrorIs(t, <-call, dist.ErrClosed)
	b.Await(t, "whereis(first)", "undefined")
	p = reach(t, n, b)
	sleep("second")
	cancel()
	require.NoError(t, <-ended)
	require.ErrorIs(t, <-call, node.ErrNodeDown)
	b.Await(t, "whereis(second)", "undefined")
	require.ErrorIs(t, p.Err(), node.ErrClosed)
	_, err = p.Call(within(t), "erlang", "node")
	require.ErrorIs(t, err, node.ErrClosed)
	_, err = mb.Receive(within(t))
	require.ErrorIs(t, err, node.ErrClosed)
	_, err = n.Connect(within(t), b.Name, dialOptions(b))
	require.ErrorIs(t, err, node.ErrClosed)
	var down *node.NodeDownError
	require.True(t, errors.As(p.Err(), &down))
}

// A node that takes nothing does not hold up Close for long.
func TestCloseFrozen(t *testing.T) {
	checkLeaks(t)
	b := starter(t, "")
	_, p := connect(t, b)
	require.NoError(t, b.Freeze())
	p.Close()
	require.ErrorIs(t, p.Err(), dist.ErrClosed)
	_, err := p.Call(within(t), "erlang", "node")
	require.ErrorIs(t, err, node.ErrNodeDown)
}

// A node that calls itself otherwise than was guessed is one node, whichever
// of its names is asked for.
func TestConnectRenamed(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startNode(t, node.Config{})
	short, _, _ := strings.Cut(b.Name, "@")
	guess := dialOptions(b)
	guess.Rename = func(answered string) (dist.Cookie, error) {
		if answered != b.Name {
			return dist.Cookie{}, errors.New("another one")
		}
		return dist.NewCookie(b.Cookie), nil
	}
	guess.Cookie = dist.NewCookie("of the guess")
	p, err := n.Connect(within(t), short+"@127.0.0.1", guess)
	require.NoError(t, err)
	require.Equal(t, b.Name, p.Name())
	require.Same(t, p, n.Peer(b.Name))
	require.Same(t, p, reach(t, n, b))
	again, err := n.Connect(within(t), short+"@127.0.0.1", guess)
	require.NoError(t, err)
	require.Same(t, p, again)
	require.Equal(t, atom(b.Name), mustCall(t, p, "erlang", "node"))

	guess.Rename = func(string) (dist.Cookie, error) { return dist.Cookie{}, errors.New("not wanted") }
	p.Close()
	b.Await(t, "nodes(hidden)", "[]")
	require.ErrorContains(t, connectError(t, n, short+"@127.0.0.1", guess, node.StageHandshake), "not wanted")
}
