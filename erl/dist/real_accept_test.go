package dist_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reachable registers a name of ours with the node's EPMD and listens for it.
func reachable(t *testing.T, b *erltest.Beam, name string) (net.Listener, uint32) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	short, _, _ := strings.Cut(name, "@")
	r, err := (&epmd.Client{Port: b.EPMDPort}).Register(t.Context(), epmd.Node{Name: short, Port: ln.Addr().(*net.TCPAddr).Port})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return ln, r.Creation
}

// accept takes the next connection and decides as d says.
func accept(t *testing.T, ln net.Listener, cfg dist.Config, d func(dist.Peer) dist.Decision) (*dist.Conn, error) {
	// A node that does not come is a failure, not a hang.
	require.NoError(t, ln.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)))
	nc, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	return dist.Accept(t.Context(), nc, cfg, dist.AcceptOptions{Decide: func(_ context.Context, p dist.Peer) (dist.Decision, error) {
		return d(p), nil
	}})
}

func always(d dist.Decision) func(dist.Peer) dist.Decision {
	return func(dist.Peer) dist.Decision { return d }
}

// TestRealNodeConnects has a node connect to us, hidden and not.
func TestRealNodeConnects(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		for _, how := range []string{"hidden_connect_node", "connect_node"} {
			t.Run(how, func(t *testing.T) {
				name := ourName()
				ln, creation := reachable(t, b, name)
				cfg := dist.Config{Name: name, Creation: creation}
				connected := make(chan string, 1)
				go func() {
					out, err := b.Eval(fmt.Sprintf("net_kernel:%s('%s')", how, name))
					connected <- fmt.Sprint(out, err)
				}()
				c, err := accept(t, ln, cfg, always(dist.Decision{Status: dist.StatusOK, Cookie: dist.NewCookie(b.Cookie)}))
				require.NoError(t, err)
				l := run(t, c, name)
				assert.Equal(t, "true<nil>", <-connected)
				assert.Equal(t, b.Name, l.Peer().Name)
				assert.Equal(t, "["+name+"]", b.MustEval(t, "nodes(hidden)"), "we are hidden either way")

				b.MustEval(t, fmt.Sprintf("{somebody,'%s'} ! {hello, self()}", name))
				for {
					m := l.next(t)
					if m.Op != dist.OpRegSend || m.ToName != "somebody" {
						continue // global and others greet a new node
					}
					x, err := m.Payload.Term()
					require.NoError(t, err)
					assert.Equal(t, etf.Tuple{etf.Atom("hello"), m.From}, x)
					break
				}
				assert.Equal(t, "true", b.MustEval(t, fmt.Sprintf("erlang:disconnect_node('%s')", name)))
				require.ErrorIs(t, <-l.ran, dist.ErrPeerClosed)
			})
		}
	})
}

func TestRealNodeWithAnotherCookie(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		t.Run("we dial", func(t *testing.T) {
			_, err := tryDial(t, b, dist.Config{Name: ourName()}, "wrong")
			require.ErrorIs(t, err, dist.ErrCookie)
			assert.NotContains(t, err.Error(), b.Cookie)
			var e *dist.HandshakeError
			require.ErrorAs(t, err, &e)
			assert.Equal(t, dist.StageAck, e.Stage)
		})
		t.Run("it dials", func(t *testing.T) {
			name := ourName()
			ln, creation := reachable(t, b, name)
			connected := make(chan string, 1)
			go func() {
				out, _ := b.Eval(fmt.Sprintf("net_kernel:connect_node('%s')", name))
				connected <- out
			}()
			_, err := accept(t, ln, dist.Config{Name: name, Creation: creation}, always(dist.Decision{Status: dist.StatusOK, Cookie: dist.NewCookie("wrong")}))
			require.ErrorIs(t, err, dist.ErrCookie)
			assert.Equal(t, "false", <-connected)
		})
		t.Run("it has one for us alone", func(t *testing.T) {
			name := ourName()
			ln, creation := reachable(t, b, name)
			b.MustEval(t, fmt.Sprintf("erlang:set_cookie('%s', other)", name))
			go b.Eval(fmt.Sprintf("net_kernel:connect_node('%s')", name))
			c, err := accept(t, ln, dist.Config{Name: name, Creation: creation}, always(dist.Decision{Status: dist.StatusOK, Cookie: dist.NewCookie("other")}))
			require.NoError(t, err)
			c.Close()
		})
	})
}

func TestRealNodeRefuses(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		b.MustEval(t, "net_kernel:allow(['friend@localhost'])")
		_, err := tryDial(t, b, dist.Config{Name: ourName()}, b.Cookie)
		require.ErrorIs(t, err, dist.ErrNotAllowed)

		nc, err := net.Dial("tcp", address(t, b))
		require.NoError(t, err)
		_, err = dist.Connect(t.Context(), nc, dist.Config{Name: "friend@localhost"}, dist.ConnectOptions{Peer: "bank@localhost", Cookie: dist.NewCookie(b.Cookie)})
		require.ErrorIs(t, err, dist.ErrNameMismatch)
		require.ErrorContains(t, err, b.Name)
	})
}

// TestReconnectToRealNode comes back under the same name while the node still
// believes in the old connection.
func TestReconnectToRealNode(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		name := ourName()
		old := dial(t, b, dist.Config{Name: name})
		nc, err := net.Dial("tcp", address(t, b))
		require.NoError(t, err)
		asked := false
		_, err = dist.Connect(t.Context(), nc, dist.Config{Name: name}, dist.ConnectOptions{
			Peer: b.Name, Cookie: dist.NewCookie(b.Cookie), KeepOld: func() bool { asked = true; return true }})
		require.ErrorIs(t, err, dist.ErrAlive)
		assert.True(t, asked)
		require.NoError(t, old.Err(), "the old one lives on")

		// Our half of the old one ends without a word to the node: it learns
		// of it a moment later, in the middle of the new handshake. OTP 25 and
		// 27 wait for that, 29 drops the old connection by itself.
		if b.OTP == "25" || b.OTP == "27" {
			time.AfterFunc(100*time.Millisecond, func() { old.Close() })
		}
		l := dial(t, b, dist.Config{Name: name})
		<-old.Done()
		l.eval(t, "again")
		assert.Equal(t, dist.OpSendSender, l.next(t).Op)
		assert.Equal(t, "["+name+"]", b.MustEval(t, "nodes(hidden)"))
	})
}

// TestRealNodeReconnects is the same the other way round: the node comes again
// although we have a connection.
func TestRealNodeReconnects(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		name := ourName()
		ln, creation := reachable(t, b, name)
		cfg := dist.Config{Name: name, Creation: creation}
		cookie := dist.NewCookie(b.Cookie)
		connect := fmt.Sprintf("net_kernel:connect_node('%s')", name)
		go b.Eval(connect)
		c, err := accept(t, ln, cfg, always(dist.Decision{Status: dist.StatusOK, Cookie: cookie}))
		require.NoError(t, err)
		old := run(t, c, name)

		b.Await(t, fmt.Sprintf("lists:member('%s', nodes(connected))", name), "true")
		b.MustEval(t, fmt.Sprintf("erlang:disconnect_node('%s')", name))
		go b.Eval(connect)
		c, err = accept(t, ln, cfg, always(dist.Decision{Status: dist.StatusAlive, Cookie: cookie, Replace: func(context.Context) error {
			old.Close()
			<-old.Done()
			return nil
		}}))
		require.NoError(t, err)
		assert.Error(t, old.Err())
		run(t, c, name)
		assert.Equal(t, "true", b.MustEval(t, connect))
	})
}

// TestSimultaneousConnect has both sides dial at the same time, with a name of
// ours that is less than the node's and one that is greater.
func TestSimultaneousConnect(t *testing.T) {
	forReleases(t, erltest.Options{Name: fmt.Sprintf("m%d", time.Now().UnixNano())}, func(t *testing.T, b *erltest.Beam) {
		for _, name := range []string{"a" + ourName(), "z" + ourName()} {
			t.Run(name[:1], func(t *testing.T) {
				ln, creation := reachable(t, b, name)
				cfg := dist.Config{Name: name, Creation: creation}
				cookie := dist.NewCookie(b.Cookie)
				greater := name > b.Name

				// The node dials us. We hold its name back, so that its attempt
				// is under way when ours comes.
				connected := make(chan string, 1)
				go func() {
					out, _ := b.Eval(fmt.Sprintf("net_kernel:hidden_connect_node('%s')", name))
					connected <- out
				}()
				theirs, err := ln.Accept()
				require.NoError(t, err)

				ours, err := tryDial(t, b, cfg, b.Cookie)
				if !greater {
					// Its name is greater: it refuses ours, and its own goes on.
					require.ErrorIs(t, err, dist.ErrSimultaneous)
				} else {
					require.NoError(t, err)
					assert.Equal(t, b.Name, ours.Peer().Name)
					run(t, ours, name)
				}
				c, err := dist.Accept(t.Context(), theirs, cfg, dist.AcceptOptions{Decide: func(_ context.Context, p dist.Peer) (dist.Decision, error) {
					return dist.Decision{Status: dist.ResolveSimultaneous(name, p.Name), Cookie: cookie}, nil
				}})
				if greater {
					// The node gave its attempt up, or is told to.
					require.Error(t, err)
					assert.True(t, errors.Is(err, dist.ErrSimultaneous) || errors.Is(err, dist.ErrPeerClosed), "%v", err)
				} else {
					require.NoError(t, err)
					run(t, c, name)
				}
				b.Await(t, fmt.Sprintf("lists:member('%s', nodes(hidden))", name), "true")
				<-connected
			})
		}
	})
}
