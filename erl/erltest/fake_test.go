package erltest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
)

// A real client, and real nodes, take the fake EPMD for a real one.
func TestFakeEPMD(t *testing.T) {
	checkLeaks(t)
	e := erltest.StartFakeEPMD(t)
	c := &epmd.Client{Port: e.Port}
	e.Set("shop", 1234)
	found, err := c.Lookup(within(t), "localhost", "shop")
	require.NoError(t, err)
	require.Equal(t, 1234, found.Port)
	e.Remove("shop")
	_, err = c.Lookup(within(t), "localhost", "shop")
	require.ErrorIs(t, err, epmd.ErrNotRegistered)
	require.Equal(t, 2, e.Asked())

	reg, err := c.Register(within(t), epmd.Node{Name: "mine", Port: 4321})
	require.NoError(t, err)
	require.Equal(t, 4321, e.Lookup("mine"))
	names, err := c.Names(within(t), "localhost")
	require.NoError(t, err)
	require.Equal(t, []epmd.Name{{Name: "mine", Port: 4321}}, names)
	require.NoError(t, reg.Close())
	require.Eventually(t, func() bool { return e.Lookup("mine") == 0 }, 10*time.Second, time.Millisecond)

	e.Answer(func(req []byte) []byte { return []byte("garbage") })
	_, err = c.Names(within(t), "localhost")
	require.ErrorIs(t, err, epmd.ErrProtocol)
	e.Answer(func([]byte) []byte { return nil })
	ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	_, err = c.Names(ctx, "localhost")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	e.Answer(nil)
	for _, req := range []string{"\x00\x01", "\x00\x00", "\x00\x02x\x00", "\x00\x03x\x00\x01", "\x00\x01?"} {
		nc, err := net.Dial("tcp", e.Addr())
		require.NoError(t, err)
		_, err = io.WriteString(nc, req)
		require.NoError(t, err)
		require.NoError(t, nc.(*net.TCPConn).CloseWrite())
		_, _ = io.ReadAll(nc)
		require.NoError(t, nc.Close())
	}
	e.Setenv(t)
	require.Equal(t, strconv.Itoa(e.Port), os.Getenv("ERL_EPMD_PORT"))
}

// The two sides of the fake handshake agree, and a real node agrees with both.
func TestFakeHandshake(t *testing.T) {
	checkLeaks(t)
	e := erltest.StartFakeEPMD(t)
	p := erltest.StartFakePeer(t, e, erltest.AsAcceptor(), erltest.SendFrame([]byte("hello")...), erltest.Silence())
	short, _, _ := strings.Cut(p.Name, "@")
	require.Equal(t, p.Port, e.Lookup(short))
	var got []byte
	err := erltest.DialFake(p.Addr(), "caller@localhost", p.Cookie, erltest.AsDialer(), func(c *erltest.FakeConn) (err error) {
		require.Equal(t, p.Name, c.PeerName)
		require.NotZero(t, c.PeerFlags)
		got, err = c.ReadFrame()
		return err
	})
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.Equal(t, 1, p.Accepted())
	require.Error(t, erltest.DialFake(p.Addr(), "caller@localhost", "wrong", erltest.AsDialer()))

	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp})
		names, err := b.EPMD.Names()
		require.NoError(t, err)
		short, _, _ := strings.Cut(b.Name, "@")
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(names[short]))
		stop, up := make(chan struct{}), make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- erltest.DialFake(addr, "caller@localhost", b.Cookie, erltest.AsDialer(),
				func(*erltest.FakeConn) error { close(up); return nil }, erltest.Deaf(stop))
		}()
		<-up
		b.Await(t, "nodes(hidden)", "[caller@localhost]")
		close(stop)
		require.NoError(t, <-ended)
		require.Error(t, erltest.DialFake(addr, "caller@localhost", "wrong", erltest.AsDialer()))

		// A real node dials the fake peer.
		peer := erltest.StartFakePeer(t, nil, erltest.AsAcceptor(), erltest.Silence())
		host := erltest.StartFakeEPMD(t)
		name, _, _ := strings.Cut(peer.Name, "@")
		host.Set(name, peer.Port)
		c := erltest.Start(t, erltest.Options{OTP: otp, Cookie: peer.Cookie, Env: host.Env()})
		require.Equal(t, "true", c.MustEval(t, fmt.Sprintf("net_kernel:hidden_connect_node('%s')", peer.Name)))
	})
}

// Each step puts what it says on the wire.
func TestSteps(t *testing.T) {
	checkLeaks(t)
	for name, tc := range map[string]struct {
		step erltest.Step
		want string
	}{
		"send":      {erltest.Send(1, 2), "\x01\x02"},
		"handshake": {erltest.SendHandshake('s', 'o'), "\x00\x02so"},
		"frame":     {erltest.SendFrame('x'), "\x00\x00\x00\x01x"},
		"tick":      {erltest.SendFrame(), "\x00\x00\x00\x00"},
		"huge":      {erltest.HugeFrame(0xffffffff), "\xff\xff\xff\xff"},
		"half":      {erltest.HalfFrame(9, 'x'), "\x00\x00\x00\x09x"},
	} {
		p := erltest.StartFakePeer(t, nil, tc.step)
		require.Equal(t, tc.want, dialAndRead(t, p), name)
	}
	p := erltest.StartFakePeer(t, nil, erltest.Garbage(100))
	require.Len(t, dialAndRead(t, p), 100)
	p = erltest.StartFakePeer(t, nil, erltest.Expect(), erltest.Send('!'))
	require.Equal(t, "!", dialAndRead(t, p, "\x00\x03abc"))
	require.Empty(t, dialAndRead(t, p, "\x00\x03a"))

	p = erltest.StartFakePeer(t, nil, erltest.HugeFrame(0xffffffff))
	require.ErrorContains(t, erltest.DialFake(p.Addr(), "a@b", "x", func(c *erltest.FakeConn) error { _, err := c.ReadFrame(); return err }), "too many")
	for _, script := range [][]erltest.Step{
		{}, {erltest.Expect()}, {erltest.SendHandshake('x')},
		{erltest.Expect(), erltest.SendHandshake([]byte("snok")...)},
		{erltest.Expect(), erltest.SendHandshake([]byte("sok")...), erltest.SendHandshake('x')},
		{erltest.Expect(), erltest.SendHandshake([]byte("sok")...)},
	} {
		p := erltest.StartFakePeer(t, nil, script...)
		require.Error(t, erltest.DialFake(p.Addr(), "a@b", "x", erltest.AsDialer()))
	}
	p = erltest.StartFakePeer(t, nil, erltest.AsAcceptor())
	require.Empty(t, dialAndRead(t, p, "\x00\x01x"))
	p.Close()
	require.Error(t, erltest.DialFake(p.Addr(), "a@b", "x"))
}

func dialAndRead(t *testing.T, p *erltest.FakePeer, say ...string) string {
	nc, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer nc.Close()
	_, err = io.WriteString(nc, strings.Join(say, ""))
	require.NoError(t, err)
	require.NoError(t, nc.(*net.TCPConn).CloseWrite())
	b, err := io.ReadAll(nc)
	require.NoError(t, err)
	return string(b)
}
