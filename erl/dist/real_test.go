package dist_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/require"
)

// releases are those that everything here is run against.
var releases = []string{"25", "27", "29"}

// ourName makes a node name of our own that no other test has.
var ourNumber atomic.Int64

func ourName() string {
	return "go" + strconv.FormatInt(ourNumber.Add(1), 10) + "@localhost"
}

// link is a connection to a node and what came over it.
type link struct {
	*dist.Conn
	self etf.Pid
	in   chan received
	ran  chan error // what Run returned
}

// received is a message, and how many fragments had come when it did.
type received struct {
	dist.Message
	fragments int64
}

// run starts the connection's life, until the end of the test.
func run(t testing.TB, c *dist.Conn, name string) *link {
	l := &link{Conn: c, in: make(chan received, 1<<16), ran: make(chan error, 1)}
	l.self = etf.Pid{Node: etf.Atom(name), ID: 1, Creation: 7}
	go func() {
		l.ran <- c.Run(context.Background(), dist.HandlerFunc(func(m *dist.Message) {
			l.in <- received{*m, c.Stats().FragmentsIn}
		}))
	}()
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
	return l
}

// address finds the distribution port of a node.
func address(t testing.TB, b *erltest.Beam) string {
	name, host, _ := strings.Cut(b.Name, "@")
	n, err := (&epmd.Client{Port: b.EPMDPort}).Lookup(t.Context(), host, name)
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port))
}

// dial connects to a node as one of our own; cfg.Name is filled in.
func dial(t testing.TB, b *erltest.Beam, cfg dist.Config) *link {
	t.Helper()
	return dialOver(t, b, rawDial(t, b), cfg)
}

// dialOver is dial over a given stream to the node.
func dialOver(t testing.TB, b *erltest.Beam, nc net.Conn, cfg dist.Config) *link {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = ourName()
	}
	cfg.Creation = 7
	c, err := dist.Connect(t.Context(), nc, cfg, dist.ConnectOptions{Peer: b.Name, Cookie: dist.NewCookie(b.Cookie)})
	require.NoError(t, err)
	return run(t, c, cfg.Name)
}

func tryDial(t testing.TB, b *erltest.Beam, cfg dist.Config, cookie string) (*dist.Conn, error) {
	return dist.Connect(t.Context(), rawDial(t, b), cfg, dist.ConnectOptions{Peer: b.Name, Cookie: dist.NewCookie(cookie)})
}

// next waits for the next message.
func (l *link) next(t testing.TB) received {
	t.Helper()
	select {
	case m := <-l.in:
		return m
	case <-l.Done():
		t.Fatalf("connection ended: %v", l.Err())
	case <-time.After(30 * time.Second):
		t.Fatalf("no message; %+v", l.Stats())
	}
	return received{}
}

// spawn asks the node to run M:F(Args) and waits for the answer.
func (l *link) spawn(t testing.TB, m, f string, args ...etf.Term) etf.Pid {
	t.Helper()
	ref := etf.Ref{Node: l.self.Node, Creation: 7, Len: 3, Words: [5]uint32{1, 2, 3}}
	err := l.Send(t.Context(), &dist.Control{
		Op: dist.OpSpawnRequest, Ref: ref, From: l.self,
		Spawn: &dist.SpawnRequest{GroupLeader: l.self, Module: etf.Atom(m), Function: etf.Atom(f), Arity: len(args)},
	}, etf.List(args))
	require.NoError(t, err)
	for {
		r := l.next(t)
		if r.Op == dist.OpSpawnReply {
			require.Equal(t, ref, r.Ref)
			require.IsType(t, etf.Pid{}, r.Result, "%v", r.Result)
			return r.Result.(etf.Pid)
		}
	}
}

// eval has the node evaluate an expression with our pid in Self, and send us
// the value.
func (l *link) eval(t testing.TB, expr string) {
	t.Helper()
	l.spawn(t, "erltest_eval", "run", l.self, etf.Binary(expr))
}

// evalModule is on the node: it evaluates text with a binding.
const evalModule = `-module(erltest_eval).
-export([run/2]).
run(Self, Text) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text) ++ "."),
    {ok, Exprs} = erl_parse:parse_exprs(Tokens),
    {value, V, _} = erl_eval:exprs(Exprs, [{'Self', Self}]),
    Self ! V.
`

func rawDial(t testing.TB, b *erltest.Beam) net.Conn {
	nc, err := net.Dial("tcp", address(t, b))
	require.NoError(t, err)
	return nc
}

// slowConn reads at a limited rate and notes the longest time between two
// writes.
type slowConn struct {
	net.Conn
	perSecond int

	mu      sync.Mutex
	last    time.Time
	longest time.Duration
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 64<<10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.perSecond))
	return n, err
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	now := time.Now()
	if !c.last.IsZero() {
		c.longest = max(c.longest, now.Sub(c.last))
	}
	c.last = now
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *slowConn) gap() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.longest, time.Since(c.last))
}
