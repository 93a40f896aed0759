package node_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// Both ends of a connection to a peer that speaks the plainest protocol there
// is: no payload in exit signals, no headers, no fragments.
var (
	wireSelf  = etf.Pid{Node: "fake@localhost", ID: 5, Creation: 7}
	wireOther = etf.Pid{Node: "fake@localhost", ID: 6, Creation: 7}
	wireRef   = etf.Ref{Node: "fake@localhost", Creation: 7, Len: 3, Words: [5]uint32{1, 2, 3}}
)

const empty = etf.Atom("")

// wire connects a node to a script, over a pipe.
func wire(t testing.TB, n *node.Node, script ...erltest.Step) *node.Peer {
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer theirs.Close()
		c := &erltest.FakeConn{Conn: theirs, Name: "fake@localhost", Cookie: "x"}
		for _, step := range append([]erltest.Step{erltest.AsAcceptor()}, script...) {
			if step(c) != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { ours.Close(); <-ended })
	p, err := n.Connect(within(t), "fake@localhost", node.DialOptions{
		Addr: "pipe", Cookie: dist.NewCookie("x"),
		Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
	})
	require.NoError(t, err)
	return p
}

// put writes a control message, with a payload if there is one.
func put(control etf.Tuple, payload ...etf.Term) erltest.Step {
	return func(c *erltest.FakeConn) error {
		b := []byte{112}
		for _, t := range append([]etf.Term{control}, payload...) {
			var err error
			if b, err = etf.Append(append(b, 131), t); err != nil {
				return err
			}
		}
		return c.WriteFrame(b)
	}
}

// want reads a control message and compares it.
func want(t testing.TB, control etf.Tuple) erltest.Step {
	return func(c *erltest.FakeConn) error {
		for {
			b, err := c.ReadFrame()
			if err != nil {
				t.Errorf("want %v: %v", control, err)
				return err
			}
			if len(b) == 0 {
				continue // a tick
			}
			got, _, err := etf.DecodePrefix(b[1:], etf.Limits{})
			if err != nil || !etf.Equal(got, control) {
				t.Errorf("got %v, %v; want %v", got, err, control)
				return fmt.Errorf("unexpected message %w", err)
			}
			return nil
		}
	}
}

func op(n int, rest ...etf.Term) etf.Tuple { return append(etf.Tuple{etf.Int(n)}, rest...) }

func wireNode(t testing.TB) (*node.Node, *node.Mailbox) {
	n := startNode(t, node.Config{Name: "go@localhost", Creation: 9})
	mb := n.NewMailbox(100)
	require.NoError(t, mb.Register("box"))
	return n, mb
}

// What old nodes send in forms of their own is understood, and they are
// answered in those.
func TestPlainProtocol(t *testing.T) {
	checkLeaks(t)
	n, mb := wireNode(t)
	box := mb.Pid()
	gone := box
	gone.ID += 2
	alias := mb.Alias()
	token := etf.Tuple{}
	done, over := make(chan struct{}), make(chan struct{})
	p := wire(t, n,
		put(op(2, empty, box), atom("send")),
		put(op(12, empty, box, token), atom("send_tt")),
		put(op(6, wireSelf, empty, atom("box")), atom("reg_send")),
		put(op(16, wireSelf, empty, atom("box"), token), atom("reg_send_tt")),
		put(op(22, wireSelf, box), atom("send_sender")),
		put(op(23, wireSelf, box, token), atom("send_sender_tt")),
		put(op(33, wireSelf, alias), atom("alias_send")),
		put(op(34, wireSelf, alias, token), atom("alias_send_tt")),
		put(op(8, wireSelf, box, atom("exit2"))),
		put(op(18, wireSelf, box, token, atom("exit2_tt"))),
		put(op(26, wireSelf, box), atom("payload_exit2")),
		put(op(1, wireSelf, box)),
		put(op(3, wireSelf, box, atom("exit"))),
		put(op(1, wireSelf, box)),
		put(op(25, wireSelf, box, token), atom("payload_exit_tt")),
		// Not linked any more, or never.
		put(op(3, wireSelf, box, atom("unheard"))),
		put(op(3, wireSelf, gone, atom("unheard"))),
		put(op(8, wireSelf, gone, atom("unheard"))),
		put(op(1, wireSelf, box)),
		put(op(4, wireSelf, box)), // the obsolete UNLINK
		put(op(3, wireSelf, box, atom("unheard"))),
		// Answered.
		put(op(35, etf.Int(77), wireSelf, box)),
		want(t, op(36, etf.Int(77), box, wireSelf)),
		put(op(1, wireSelf, gone)),
		want(t, op(3, gone, wireSelf, atom("noproc"))),
		put(op(19, wireSelf, gone, wireRef)),
		want(t, op(21, gone, wireSelf, wireRef, atom("noproc"))),
		put(op(19, wireSelf, atom("nobody"), wireRef)),
		want(t, op(21, atom("nobody"), wireSelf, wireRef, atom("noproc"))),
		put(op(29, wireRef, wireSelf, wireSelf, etf.Tuple{atom("m"), atom("f"), etf.Int(0)}, etf.List{}), etf.List{}),
		want(t, op(31, wireRef, wireSelf, etf.Int(0), atom("notsup"))),
		// Meaningless.
		put(op(7, wireSelf, box)),
		put(op(21, wireSelf, box, wireRef, atom("x"))),
		put(op(31, wireRef, box, etf.Int(0), wireSelf)),
		put(op(36, etf.Int(1), wireSelf, box)),
		put(op(20, wireSelf, box, wireRef)),
		put(op(1, wireOther, box)),
		put(op(19, wireOther, box, wireRef)),
		func(*erltest.FakeConn) error { close(done); return nil },
		want(t, op(3, box, wireOther, atom("over"))),
		want(t, op(21, box, wireOther, wireRef, atom("over"))),
		func(*erltest.FakeConn) error { close(over); return nil },
		erltest.Silence(),
	)
	for _, text := range []string{
		"send", "send_tt", "reg_send", "reg_send_tt", "send_sender", "send_sender_tt", "alias_send", "alias_send_tt",
		"exit2", "exit2_tt", "payload_exit2", "exit", "payload_exit_tt",
	} {
		m, got := receive(t, mb)
		require.Equal(t, atom(text), got)
		require.Equal(t, p.Name(), m.Node)
		raw, err := m.Body()
		require.NoError(t, err)
		require.NotEmpty(t, raw)
	}
	<-done
	require.Eventually(t, func() bool { return p.Watchers() == 1 && p.Links() == 1 }, 10*time.Second, time.Millisecond)
	require.Zero(t, mb.Len())
	mb.Exit(atom("over"))
	<-over
	require.EqualValues(t, 2, n.Stats().UnknownSignals)
	require.EqualValues(t, 1, n.Stats().LateReplies)
	p.Close()
}

// The outcome of a call may be in the signal itself.
func TestPlainCall(t *testing.T) {
	checkLeaks(t)
	n, mb := wireNode(t)
	request := func(answer func(ref, from etf.Term) []erltest.Step) erltest.Step {
		return func(c *erltest.FakeConn) error {
			b, err := c.ReadFrame()
			if err != nil {
				return err
			}
			got, _, err := etf.DecodePrefix(b[1:], etf.Limits{})
			if err != nil {
				return err
			}
			req := got.(etf.Tuple)
			for _, step := range answer(req[1], req[2]) {
				if err := step(c); err != nil {
					return err
				}
			}
			return nil
		}
	}
	p := wire(t, n,
		request(func(ref, from etf.Term) []erltest.Step {
			return []erltest.Step{
				put(op(31, ref, from, etf.Int(2), wireSelf)),
				put(op(21, wireSelf, from, ref, etf.Tuple{ref, atom("return"), etf.Int(42)})),
			}
		}),
		request(func(ref, from etf.Term) []erltest.Step {
			return []erltest.Step{put(op(28, wireSelf, from, ref), etf.Tuple{ref, atom("return"), etf.Int(43)})}
		}),
		request(func(ref, from etf.Term) []erltest.Step {
			return []erltest.Step{func(c *erltest.FakeConn) error { // a result of an unknown tag
				b, _ := etf.Append([]byte{112, 131}, op(28, wireSelf, from, ref))
				b, _ = etf.Append(append(b, 131, 104, 3), ref)
				b, _ = etf.Append(b, atom("return"))
				return c.WriteFrame(append(b, 254))
			}}
		}),
		request(func(ref, from etf.Term) []erltest.Step {
			return []erltest.Step{func(c *erltest.FakeConn) error { // an outcome that is none
				b, _ := etf.Append([]byte{112, 131}, op(28, wireSelf, from, ref))
				return c.WriteFrame(append(b, 131, 254))
			}}
		}),
		erltest.Silence(),
	)
	require.Equal(t, etf.Int(42), mustCall(t, p, "m", "f"))
	require.Equal(t, etf.Int(43), mustCall(t, p, "m", "f"))
	var unknown *etf.UnknownTagError
	_, err := p.Call(within(t), "m", "f")
	require.ErrorAs(t, err, &unknown)
	_, err = p.Call(within(t), "m", "f")
	require.ErrorAs(t, err, &unknown)
	require.NoError(t, p.Err(), "the connection does not end for it")
	require.Zero(t, p.Pending())
	mb.Close()
	p.Close()
}

// Messages that do not decode are errors of their own only.
func TestBadMessage(t *testing.T) {
	checkLeaks(t)
	n, mb := wireNode(t)
	wire(t, n, func(c *erltest.FakeConn) error {
		b, err := etf.Append([]byte{112, 131}, op(22, wireSelf, mb.Pid()))
		if err != nil {
			return err
		}
		return c.WriteFrame(append(b, 131, 254))
	}, put(op(22, wireSelf, mb.Pid()), atom("next")), erltest.Silence())
	m, err := mb.Receive(within(t))
	require.NoError(t, err)
	_, err = m.Term()
	require.ErrorContains(t, err, "decode send from fake@localhost")
	_, got := receive(t, mb)
	require.Equal(t, atom("next"), got)
	require.Equal(t, "send exit down kind 9", fmt.Sprint(node.Send, " ", node.Exit, " ", node.Down, " ", node.Kind(9)))
}

// FuzzPeer feeds a connection that is up with whatever bytes: frames whose
// lengths are right and whose content is not.
func FuzzPeer(f *testing.F) {
	box := etf.Pid{Node: "go@localhost", ID: 4, Creation: 9}
	isAuth := etf.Tuple{atom("$gen_call"), etf.Tuple{wireSelf, wireRef}, etf.Tuple{atom("is_auth"), atom("x@y")}}
	for _, m := range []struct {
		control etf.Tuple
		payload []etf.Term
	}{
		{control: op(1, wireSelf, box)}, {control: op(35, etf.Int(1), wireSelf, box)}, {control: op(36, etf.Int(1), wireSelf, box)},
		{control: op(3, wireSelf, box, atom("x"))}, {control: op(8, wireSelf, box, atom("kill"))},
		{control: op(19, wireSelf, atom("box"), wireRef)}, {control: op(20, wireSelf, box, wireRef)},
		{op(6, wireSelf, empty, atom("net_kernel")), []etf.Term{isAuth}}, {op(22, wireSelf, box), []etf.Term{atom("x")}},
		{op(24, wireSelf, box), []etf.Term{atom("x")}}, {op(28, wireSelf, box, wireRef), []etf.Term{atom("x")}},
		{op(33, wireSelf, wireRef), []etf.Term{atom("x")}}, {op(37, etf.Int(16), wireSelf, box), []etf.Term{atom("kill")}},
		{op(29, wireRef, wireSelf, wireSelf, etf.Tuple{atom("m"), atom("f"), etf.Int(0)}, etf.List{}), []etf.Term{etf.List{}}},
		{control: op(31, wireRef, box, etf.Int(0), wireSelf)},
	} {
		b := []byte{112}
		for _, t := range append([]etf.Term{m.control}, m.payload...) {
			b, _ = etf.Append(append(b, 131), t)
		}
		f.Add(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, mb := wireNode(t)
		p := wire(t, n, func(c *erltest.FakeConn) error {
			go func() { // what is answered does not hold up what is sent
				for {
					if _, err := c.ReadFrame(); err != nil {
						return
					}
				}
			}()
			for len(data) >= 2 {
				size := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
				if err := c.WriteFrame(data[2 : 2+size]); err != nil {
					return err
				}
				data = data[2+size:]
			}
			return nil
		})
		<-p.Done()
		mb.Close()
		for {
			m, err := mb.Receive(within(t))
			if err != nil {
				break
			}
			_, _ = m.Term()
		}
	})
}
