package node_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

func acceptConfig(name string, epmdPort int, cookie string) node.Config {
	return node.Config{
		Name: name, EPMD: &epmd.Client{Port: epmdPort},
		Accept: &node.AcceptConfig{Cookie: func(dist.Peer) dist.Cookie { return dist.NewCookie(cookie) }},
	}
}

func startAccepting(t testing.TB, cfg node.Config) *node.Node {
	n := startNode(t, cfg)
	<-n.Started()
	return n
}

func TestAcceptFromBeam(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		for _, long := range []bool{false, true} {
			b := erltest.Start(t, erltest.Options{OTP: otp, Long: long})
			host, otherHost := "localhost", "127.0.0.1"
			if long {
				host, otherHost = otherHost, host
			}
			n := startAccepting(t, acceptConfig(randomName(host), b.EPMDPort, b.Cookie))
			require.Equal(t, "pong", b.MustEval(t, "net_adm:ping('"+n.Name()+"')"))
			require.Equal(t, "{[],[\""+n.Name()+"\"]}", b.MustEval(t, "{nodes(), [atom_to_list(N) || N <- nodes(hidden)]}"))
			p := n.Peer(b.Name)
			require.NotNil(t, p)
			require.Equal(t, atom(b.Name), mustCall(t, p, "erlang", "node"))
			require.Same(t, p, reach(t, n, b))

			// To a name of ours that dials.
			p.Close()
			b.Await(t, "nodes(hidden)", "[]") // what is sent before that is lost
			mb := n.NewMailbox(1)
			require.NoError(t, mb.Register("box"))
			b.MustEval(t, "{box, '"+n.Name()+"'} ! hello")
			_, got := receive(t, mb)
			require.Equal(t, atom("hello"), got)

			// We run nothing for others.
			require.Equal(t, "{error,{erpc,notsup}}", b.MustEval(t, "try erpc:call('"+n.Name()+"', erlang, node, []) catch C:E -> {C, E} end"))
			require.Equal(t, "pong", b.MustEval(t, "net_adm:ping('"+n.Name()+"')"))

			// A BEAM node does not dial a name of the other form.
			other := startAccepting(t, acceptConfig(randomName(otherHost), b.EPMDPort, b.Cookie))
			require.Equal(t, "pang", b.MustEval(t, "net_adm:ping('"+other.Name()+"')"))
			reach(t, other, b)
			require.Equal(t, "pong", b.MustEval(t, "net_adm:ping('"+other.Name()+"')"), "over the connection that we made")
		}
	})
}

func TestAcceptRefuses(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	n := startAccepting(t, acceptConfig(randomName("localhost"), b.EPMDPort, "another cookie"))
	require.Equal(t, "pang", b.MustEval(t, "net_adm:ping('"+n.Name()+"')"))
	none := startAccepting(t, acceptConfig(randomName("localhost"), b.EPMDPort, ""))
	require.Equal(t, "pang", b.MustEval(t, "net_adm:ping('"+none.Name()+"')"))
	for _, script := range [][]erltest.Step{
		{},
		{erltest.Garbage(100), erltest.Silence()},
		{erltest.SendHandshake('N'), erltest.Silence()},
	} {
		_ = erltest.DialFake(n.Addr(), "fake@localhost", "x", script...)
	}
	require.Error(t, erltest.DialFake(n.Addr(), "fake@localhost", "x", erltest.AsDialer()))
	require.Empty(t, n.Peers())
}

func TestAcceptCannotListen(t *testing.T) {
	checkLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg := acceptConfig(randomName("localhost"), unusedPort(t), "x")
	cfg.Accept.Addr = l.Addr().String()
	n, err := node.New(cfg)
	require.NoError(t, err)
	require.ErrorContains(t, n.Run(within(t)), "listen for nodes")

	cfg.Accept.Addr = ""
	n, err = node.New(cfg)
	require.NoError(t, err)
	require.ErrorContains(t, n.Run(within(t)), "is epmd running")
	_, err = n.Connect(within(t), "x@localhost", node.DialOptions{})
	require.ErrorIs(t, err, node.ErrClosed)
}

// When EPMD was restarted the node is registered again.
func TestAcceptRegistersAgain(t *testing.T) {
	checkLeaks(t)
	e := erltest.StartEPMD(t)
	n := startAccepting(t, acceptConfig(randomName("localhost"), e.Port, "x"))
	short, _, _ := strings.Cut(n.Name(), "@")
	registered := func(names map[string]int) bool { return names[short] != 0 }
	require.NoError(t, e.WaitNames(within(t), registered))
	e.Kill()
	require.NoError(t, e.Restart())
	require.NoError(t, e.WaitNames(within(t), registered))
}

// pair starts two nodes of ours that can reach each other.
func pair(t *testing.T) (a, b *node.Node, toA, toB node.DialOptions) {
	fake := erltest.StartFakeEPMD(t)
	a = startAccepting(t, acceptConfig(randomName("localhost"), fake.Port, "x"))
	b = startAccepting(t, acceptConfig(randomName("localhost"), fake.Port, "x"))
	o := node.DialOptions{Cookie: dist.NewCookie("x"), EPMD: &epmd.Client{Port: fake.Port}}
	return a, b, o, o
}

func TestBetweenOurs(t *testing.T) {
	checkLeaks(t)
	a, b, _, toB := pair(t)
	p, err := a.Connect(within(t), b.Name(), toB)
	require.NoError(t, err)
	_, err = p.Call(within(t), "erlang", "node")
	var se *node.SpawnError
	require.ErrorAs(t, err, &se)
	require.ErrorContains(t, err, "is it a BEAM node?")

	ma, mb := a.NewMailbox(10), b.NewMailbox(10)
	require.NoError(t, ma.Send(mb.Pid(), atom("hi")))
	m, got := receive(t, mb)
	require.Equal(t, atom("hi"), got)
	require.Equal(t, ma.Pid(), m.From)
	require.NoError(t, ma.Link(mb.Pid()))
	require.NoError(t, mb.Link(ma.Pid()))
	ref, err := mb.Monitor(ma.Pid())
	require.NoError(t, err)
	require.NoError(t, mb.Send(ma.Pid(), atom("tied")))
	receive(t, ma)
	ma.Exit(atom("bye"))
	for range 2 {
		m, got = receive(t, mb)
		require.Equal(t, atom("bye"), got)
		require.Equal(t, m.Kind == node.Down, m.Ref == ref)
	}
	require.Zero(t, mb.Len())
}

// Nodes that dial each other at the same time end up with one connection.
func TestSimultaneousConnect(t *testing.T) {
	checkLeaks(t)
	a, b, toA, toB := pair(t)
	for round := range 50 {
		var pa, pb *node.Peer
		g := new(errgroup.Group)
		g.Go(func() (err error) { pa, err = a.Connect(within(t), b.Name(), toB); return err })
		g.Go(func() (err error) { pb, err = b.Connect(within(t), a.Name(), toA); return err })
		require.NoError(t, g.Wait(), "round %d", round)
		ma, mb := a.NewMailbox(1), b.NewMailbox(1)
		require.NoError(t, pa.Send(mb.Pid(), atom("ping")))
		receive(t, mb)
		require.NoError(t, pb.Send(ma.Pid(), atom("pong")))
		receive(t, ma)
		ma.Close()
		mb.Close()
		pa.Close()
		select {
		case <-pb.Done():
		case <-within(t).Done():
			t.Fatal("the other end stays")
		}
	}
}

// A node that dials while we still think that it is connected says that the
// old connection is dead, and takes its place.
func TestAcceptReplaces(t *testing.T) {
	checkLeaks(t)
	fake := erltest.StartFakeEPMD(t)
	n := startAccepting(t, acceptConfig(randomName("localhost"), fake.Port, "x"))
	up, stop := make(chan struct{}), make(chan struct{})
	g := new(errgroup.Group)
	g.Go(func() error {
		return erltest.DialFake(n.Addr(), "fake@localhost", "x", erltest.AsDialer(),
			func(*erltest.FakeConn) error { close(up); return nil }, erltest.Silence())
	})
	<-up
	var old *node.Peer
	require.Eventually(t, func() bool { old = n.Peer("fake@localhost"); return old != nil }, 10*time.Second, time.Millisecond)
	g.Go(func() error {
		return erltest.DialFake(n.Addr(), "fake@localhost", "x", erltest.AsDialer(), erltest.Deaf(stop))
	})
	<-old.Done()
	require.Eventually(t, func() bool { p := n.Peer("fake@localhost"); return p != nil && p != old }, 10*time.Second, time.Millisecond)
	close(stop)
	require.NoError(t, g.Wait())
}

// What a stranger may send to the node itself is answered or dropped, and
// never ends it.
func TestSystemMessages(t *testing.T) {
	checkLeaks(t)
	fake := erltest.StartFakeEPMD(t)
	n := startAccepting(t, acceptConfig(randomName("localhost"), fake.Port, "x"))
	self := etf.Pid{Node: "fake@localhost", ID: 1, Creation: 7}
	ref := etf.Ref{Node: "fake@localhost", Creation: 7, Len: 3}
	genCall := func(tag, req etf.Term) etf.Term {
		return etf.Tuple{atom("$gen_call"), etf.Tuple{self, tag}, req}
	}
	isAuth := etf.Tuple{atom("is_auth"), atom("fake@localhost")}
	alias := etf.ImproperList{Elems: []etf.Term{atom("alias")}, Tail: ref}
	send := func(c *erltest.FakeConn, payload etf.Term) error {
		b, err := etf.Append([]byte{112, 131}, etf.Tuple{etf.Int(6), self, atom(""), atom("net_kernel")})
		if err != nil {
			return err
		}
		if b, err = etf.Append(append(b, 131), payload); err != nil {
			return err
		}
		return c.WriteFrame(b)
	}
	err := erltest.DialFake(n.Addr(), "fake@localhost", "x", erltest.AsDialer(), func(c *erltest.FakeConn) error {
		for i, tc := range []struct {
			msg, want etf.Term // nil: no answer
		}{
			{genCall(ref, isAuth), etf.Tuple{ref, atom("yes")}},
			{genCall(alias, isAuth), etf.Tuple{alias, atom("yes")}},
			{genCall(etf.ImproperList{Elems: []etf.Term{alias}, Tail: ref}, isAuth), etf.Tuple{etf.ImproperList{Elems: []etf.Term{alias}, Tail: ref}, atom("yes")}},
			{genCall(etf.List{alias, etf.Int(1)}, isAuth), etf.Tuple{etf.List{alias, etf.Int(1)}, atom("yes")}},
			{genCall(ref, atom("what")), nil},
			{etf.Tuple{atom("$gen_call"), atom("x"), isAuth}, nil},
			{etf.Tuple{atom("$gen_call"), etf.Tuple{atom("x"), ref}, isAuth}, nil},
			{atom("hello"), nil},
			{etf.Tuple{atom("io_request"), self, ref, etf.Tuple{atom("put_chars"), atom("unicode"), etf.Binary("x")}}, etf.Tuple{atom("io_reply"), ref, atom("ok")}},
			{etf.Tuple{atom("io_request"), self, ref, atom("getopts")}, etf.Tuple{atom("io_reply"), ref, etf.Tuple{atom("error"), atom("enotsup")}}},
			{etf.Tuple{atom("io_request"), atom("x"), ref, atom("getopts")}, nil},
		} {
			if err := send(c, tc.msg); err != nil {
				return err
			}
			if tc.want == nil {
				continue
			}
			frame, err := c.ReadFrame()
			if err != nil {
				return err
			}
			_, rest, err := etf.DecodePrefix(frame[1:], etf.Limits{})
			if err != nil {
				return err
			}
			got, err := etf.Decode(rest, etf.Limits{})
			if err != nil || !etf.Equal(got, tc.want) {
				return fmt.Errorf("%d: got %v, %w", i, got, err)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return n.Stats().UnknownReceiver == 5 }, 10*time.Second, time.Millisecond)
}

func TestSimultaneousConnectWithBeam(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := erltest.Start(t, erltest.Options{OTP: otp})
		// Names on both sides of the node's decide who yields.
		for _, name := range []string{"aa" + randomName("localhost"), "zz" + randomName("localhost")} {
			n := startAccepting(t, acceptConfig(name, b.EPMDPort, b.Cookie))
			for round := range 20 {
				var p *node.Peer
				var pong string
				g := new(errgroup.Group)
				g.Go(func() (err error) { p, err = n.Connect(within(t), b.Name, dialOptions(b)); return err })
				g.Go(func() (err error) { pong, err = b.Eval("net_adm:ping('" + n.Name() + "')"); return err })
				require.NoError(t, g.Wait(), "round %d", round)
				require.Equal(t, "pong", pong, "round %d", round)
				require.Equal(t, atom(b.Name), mustCall(t, p, "erlang", "node"))
				p.Close()
				b.Await(t, "nodes(hidden)", "[]")
			}
		}
	})
}
