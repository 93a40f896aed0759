package node_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// startNode starts a node that ends with the test. It is registered before the
// BEAM nodes of the test are started, so that the check for leaked goroutines
// runs last.
func startNode(t testing.TB, cfg node.Config) *node.Node {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = randomName("localhost")
	}
	n, err := node.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return n
}

func randomName(host string) string {
	var b [5]byte
	_, _ = rand.Read(b[:])
	return "go" + hex.EncodeToString(b[:]) + "@" + host
}

// checkLeaks fails the test if goroutines are left at its end. Call it first.
func checkLeaks(t testing.TB) {
	opt := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, opt) })
}

func dialOptions(b *erltest.Beam) node.DialOptions {
	return node.DialOptions{Cookie: dist.NewCookie(b.Cookie), EPMD: &epmd.Client{Port: b.EPMDPort}}
}

// connect starts a node and connects it to b.
func connect(t testing.TB, b *erltest.Beam) (*node.Node, *node.Peer) {
	t.Helper()
	n := startNode(t, node.Config{})
	return n, reach(t, n, b)
}

func reach(t testing.TB, n *node.Node, b *erltest.Beam) *node.Peer {
	t.Helper()
	p, err := n.Connect(within(t), b.Name, dialOptions(b))
	require.NoError(t, err)
	return p
}

// within is the context of everything that has to come about.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func atom(s string) etf.Term { return etf.Atom(s) }

func TestCall(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		b := erltest.Start(t, erltest.Options{OTP: otp})
		n, p := connect(t, b)
		got, err := p.Call(within(t), "lists", "sum", etf.List{etf.Int(1), etf.Int(2)})
		require.NoError(t, err)
		require.Equal(t, etf.Int(3), got)
		require.Equal(t, "[]", b.MustEval(t, "nodes()"))
		require.Equal(t, "["+n.Name()+"]", b.MustEval(t, "nodes(hidden)"))
		require.Zero(t, p.Pending())
	})
}

func hostname(t testing.TB) string {
	h, err := os.Hostname()
	require.NoError(t, err)
	return h
}
