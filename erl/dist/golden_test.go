package dist

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "capture the golden connections from real nodes again")

const (
	goldenCookie = "golden"
	goldenName   = "gopher@localhost"
	goldenNode   = "golden@localhost"
)

// capture is what went over one connection.
type capture struct {
	net.Conn
	mu       sync.Mutex
	node, us bytes.Buffer
}

func (c *capture) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.node.Write(p[:n])
	c.mu.Unlock()
	return n, err
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.us.Write(p)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// TestGolden reads connections that were captured from real nodes: the
// handshake, with its proofs, and all packets after it.
func TestGolden(t *testing.T) {
	for _, release := range []string{"25", "27", "29"} {
		for _, side := range []string{"dial", "accept"} {
			t.Run(release+" "+side, func(t *testing.T) {
				base := filepath.Join("testdata", "otp"+release+"-"+side)
				if *update {
					writeCapture(t, base+".gz", captureNode(t, release, side))
				}
				node, us := readCapture(t, base+".gz")
				checkHandshake(t, side, node, us)
				msgs, st, err := receive(node, Config{Flags: withFragments})
				require.ErrorIs(t, err, ErrPeerClosed)
				assert.Zero(t, st.UnknownOps+st.Undecodable+st.Dropped)
				got := describe(t, msgs)
				// All releases say the same, whoever dials.
				file := filepath.Join("testdata", "messages.txt")
				if *update {
					require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				}
				want, err := os.ReadFile(file)
				require.NoError(t, err)
				assert.Equal(t, string(want), got)
			})
		}
	}
}

// checkHandshake reads the handshake off both streams, and leaves them at the
// first packet.
func checkHandshake(t *testing.T, side string, node, us io.Reader) {
	cookie := NewCookie(goldenCookie)
	next := func(r io.Reader) []byte {
		b := far{t, readOnly{r}}.hear()
		require.NotNil(t, b)
		return b
	}
	dialler, acceptor := us, node
	diallerName, acceptorName := goldenName, goldenNode
	if side == "accept" {
		dialler, acceptor = node, us
		diallerName, acceptorName = goldenNode, goldenName
	}
	name, err := parseName(next(dialler))
	require.NoError(t, err)
	assert.Equal(t, diallerName, name.name)
	assert.NotZero(t, name.creation)
	status, err := parseStatus(next(acceptor))
	require.NoError(t, err)
	assert.Equal(t, StatusOK, status)
	challenge, err := parseChallenge(next(acceptor))
	require.NoError(t, err)
	assert.Equal(t, acceptorName, challenge.name)
	reply, sum, err := parseReply(next(dialler))
	require.NoError(t, err)
	assert.True(t, cookie.proves(challenge.challenge, sum))
	sum, err = parseAck(next(acceptor))
	require.NoError(t, err)
	assert.True(t, cookie.proves(reply, sum))
	for _, f := range []Flags{name.flags, challenge.flags} {
		assert.True(t, f.has(mandatory|FlagSpawn|FlagAlias))
	}
}

type readOnly struct{ io.Reader }

func (readOnly) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }

// describe says in a line each what the messages are.
func describe(t *testing.T, msgs []Message) string {
	var b strings.Builder
	text := func(x etf.Term) string { return etf.Format(x, etf.PrintOptions{MaxBytes: 200}) }
	for _, m := range msgs {
		fmt.Fprintf(&b, "%v", m.Op)
		if m.From.Node != "" {
			fmt.Fprintf(&b, " from %s", m.From.Node)
		}
		if m.To.Node != "" {
			fmt.Fprintf(&b, " to %s %d", m.To.Node, m.To.ID)
		}
		if m.ToName != "" {
			fmt.Fprintf(&b, " to %s", m.ToName)
		}
		if m.Ref.Len > 0 && m.Ref.Node == goldenName {
			fmt.Fprintf(&b, " ref %v", m.Ref.Words[:m.Ref.Len])
		}
		if m.Reason != nil {
			fmt.Fprintf(&b, " reason %s", text(m.Reason))
		}
		if !m.Payload.Empty() {
			x, err := m.Payload.Term()
			require.NoError(t, err)
			switch {
			case m.Payload.Len() > 1000:
				fmt.Fprintf(&b, ": %.60s…, %d bytes, %d cached atoms", text(x), m.Payload.Len(), len(m.Payload.Atoms()))
			case m.Op == OpRegSend && m.ToName != "somebody":
				// of global and others; what they say differs
			default:
				fmt.Fprintf(&b, ": %s", text(x))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// captureNode talks with a real node.
func captureNode(t *testing.T, release, side string) *capture {
	node := erltest.Start(t, erltest.Options{OTP: release, Name: goldenNode, Cookie: goldenCookie})
	client := &epmd.Client{Port: node.EPMDPort}
	ctx := t.Context()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	reg, err := client.Register(ctx, epmd.Node{Name: "gopher", Port: ln.Addr().(*net.TCPAddr).Port})
	require.NoError(t, err)
	defer reg.Close()
	cfg := Config{Name: goldenName, Creation: 7, Flags: withFragments}
	cookie := NewCookie(goldenCookie)
	var c *Conn
	var rec *capture
	if side == "dial" {
		n, err := client.Lookup(ctx, "localhost", "golden")
		require.NoError(t, err)
		nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port)))
		require.NoError(t, err)
		rec = &capture{Conn: nc}
		c, err = Connect(ctx, rec, cfg, ConnectOptions{Peer: goldenNode, Cookie: cookie})
		require.NoError(t, err)
	} else {
		go node.Eval("net_kernel:hidden_connect_node('" + goldenName + "')")
		nc, err := ln.Accept()
		require.NoError(t, err)
		rec = &capture{Conn: nc}
		c, err = Accept(ctx, rec, cfg, AcceptOptions{Decide: func(context.Context, Peer) (Decision, error) {
			return Decision{Status: StatusOK, Cookie: cookie}, nil
		}})
		require.NoError(t, err)
	}
	last := make(chan struct{})
	ran := start(c, func(m *Message) {
		if x, _ := m.Payload.Term(); x == etf.Atom("last") {
			close(last)
		}
	})
	node.MustEval(t, `S = {somebody, '`+goldenName+`'},
		S ! {1, 'wörld', "list", <<"binary">>, #{a => 1.5}, [node(), nodes(hidden)]},
		S ! {2, 'wörld', 'wörld', list_to_atom(lists:duplicate(255, $x))},
		S ! [{row, I, <<0:8192>>} || I <- lists:seq(1, 200)],
		R = erlang:monitor(process, S), erlang:demonitor(R),
		S ! last`)
	self := etf.Pid{Node: goldenName, ID: 1, Creation: 7}
	ref := func(n uint32) etf.Ref {
		return etf.Ref{Node: goldenName, Creation: 7, Len: 3, Words: [5]uint32{n, 0, 0}}
	}
	wait(t, last, "the last message")
	require.NoError(t, c.Send(ctx, &Control{Op: OpMonitorP, From: self, ToName: "nobody", Ref: ref(1)}, nil))
	require.NoError(t, c.Send(ctx, &Control{Op: OpSpawnRequest, From: self, Ref: ref(2), Spawn: &SpawnRequest{
		GroupLeader: self, Module: "erlang", Function: "exit", Arity: 1, Opts: etf.List{etf.Atom("monitor"), etf.Atom("link")},
	}}, etf.List{etf.Tuple{etf.Atom("because"), etf.Int(1)}}))
	require.Eventually(t, func() bool { return c.Stats().MessagesIn >= 10 }, 10*time.Second, time.Millisecond)
	require.NoError(t, c.Shutdown(ctx))
	<-ran
	return rec
}

func writeCapture(t *testing.T, file string, c *capture) {
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	fmt.Fprintf(z, "%x\n%x\n", c.node.Bytes(), c.us.Bytes())
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
}

// readCapture returns what the node sent, and what we did.
func readCapture(t testing.TB, file string) (node, us *bytes.Reader) {
	f, err := os.Open(file)
	require.NoError(t, err, "capture it with -update")
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	lines := bufio.NewReaderSize(z, 1<<20)
	next := func() *bytes.Reader {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		b, err := hex.DecodeString(strings.TrimSpace(line))
		require.NoError(t, err)
		return bytes.NewReader(b)
	}
	return next(), next()
}
