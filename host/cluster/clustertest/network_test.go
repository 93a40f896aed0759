package clustertest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const longEnough = 30 * time.Second

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), longEnough)
	t.Cleanup(cancel)
	return c
}

// pair connects two hosts.
func pair(t *testing.T, n *Network) (a, b net.Conn) {
	_, l, err := n.Host("10.0.0.2").Listen(ctx(t), "10.0.0.2:0")
	require.NoError(t, err)
	a, err = n.Host("10.0.0.1").Dial(ctx(t), l.Addr().String())
	require.NoError(t, err)
	b, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close(); l.Close() })
	return a, b
}

func TestStreamsAreConns(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		n := New(Options{})
		_, l, err := n.Host("10.0.0.2").Listen(t.Context(), "10.0.0.2:0")
		if err != nil {
			return nil, nil, nil, err
		}
		a, err := n.Host("10.0.0.1").Dial(t.Context(), l.Addr().String())
		if err != nil {
			return nil, nil, nil, err
		}
		b, err := l.Accept()
		return a, b, func() { a.Close(); b.Close(); l.Close() }, err
	})
}

func TestPackets(t *testing.T) {
	n := New(Options{Delay: time.Microsecond})
	a, _, err := n.Host("10.0.0.1").Listen(ctx(t), ":7946")
	require.NoError(t, err)
	b, l, err := n.Host("10.0.0.2").Listen(ctx(t), ":7946")
	require.NoError(t, err)
	assert.Equal(t, "10.0.0.2:7946", l.Addr().String())
	_, _, err = n.Host("10.0.0.2").Listen(ctx(t), ":7946")
	assert.ErrorIs(t, err, syscall.EADDRINUSE)
	_, err = a.WriteTo([]byte("hello"), b.LocalAddr())
	require.NoError(t, err)
	buf := make([]byte, 10)
	k, from, err := b.ReadFrom(buf)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(buf[:k]))
	assert.Equal(t, a.LocalAddr().String(), from.String())
	packets, bytes := n.Traffic()
	assert.Equal(t, []uint64{1, 5}, []uint64{packets, bytes})
	n.Kill("10.0.0.2")
	_, _, err = b.ReadFrom(buf)
	assert.ErrorIs(t, err, net.ErrClosed)
	_, err = a.WriteTo([]byte("hello"), b.LocalAddr())
	assert.NoError(t, err, "into the void")
	require.NoError(t, a.Close())
	_, err = a.WriteTo([]byte("hello"), b.LocalAddr())
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestLoss(t *testing.T) {
	n := New(Options{Loss: 0.5, Seed: 3})
	a, _, err := n.Host("10.0.0.1").Listen(ctx(t), ":1")
	require.NoError(t, err)
	b, _, err := n.Host("10.0.0.2").Listen(ctx(t), ":1")
	require.NoError(t, err)
	for range 1000 {
		_, err := a.WriteTo([]byte("x"), b.LocalAddr())
		require.NoError(t, err)
	}
	got := len(b.(*packetConn).packets)
	assert.InDelta(t, 500, got, 100)
}

func TestRefusedDial(t *testing.T) {
	n := New(Options{})
	_, err := n.Host("10.0.0.1").Dial(ctx(t), "10.0.0.2:1")
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, err = n.Host("10.0.0.1").Dial(ctx(t), "x")
	assert.Error(t, err)
}

func TestPartitionHoldsStreamsAndDials(t *testing.T) {
	n := New(Options{})
	a, b := pair(t, n)
	n.Partition([]string{"10.0.0.1"})
	_, err := a.Write([]byte("held"))
	require.NoError(t, err)
	require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err = b.Read(make([]byte, 9))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = n.Host("10.0.0.1").Dial(short, b.LocalAddr().String())
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	n.Heal()
	require.NoError(t, b.SetReadDeadline(time.Time{}))
	buf := make([]byte, 9)
	k, err := b.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "held", string(buf[:k]))
}

func TestBlockIsOneWay(t *testing.T) {
	n := New(Options{})
	a, b := pair(t, n)
	n.Block("10.0.0.1", "10.0.0.2")
	_, err := b.Write([]byte("x"))
	require.NoError(t, err)
	_, err = a.Read(make([]byte, 1))
	require.NoError(t, err)
	_, err = a.Write([]byte("y"))
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() { _, err := b.Read(make([]byte, 1)); got <- err }()
	n.Heal()
	assert.NoError(t, <-got)
}

func TestFrozenHostAcceptsAndIsSilent(t *testing.T) {
	n := New(Options{})
	a, b := pair(t, n)
	n.Freeze("10.0.0.2")
	c, err := n.Host("10.0.0.1").Dial(ctx(t), b.LocalAddr().String())
	require.NoError(t, err, "its kernel does")
	defer c.Close()
	_, err = b.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, a.SetDeadline(time.Now().Add(time.Millisecond)))
	_, err = a.Read(make([]byte, 1))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	n.Thaw("10.0.0.2")
	require.NoError(t, a.SetDeadline(time.Time{}))
	_, err = a.Read(make([]byte, 1))
	assert.NoError(t, err)
}

func TestKillEndsStreams(t *testing.T) {
	n := New(Options{})
	a, b := pair(t, n)
	n.Kill("10.0.0.2")
	_, err := a.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
	_, err = b.Read(make([]byte, 1))
	assert.ErrorIs(t, err, net.ErrClosed)
	_, err = a.Write([]byte("x"))
	assert.Error(t, err)
	_, err = n.Host("10.0.0.1").Dial(ctx(t), b.LocalAddr().String())
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.True(t, errors.Is(a.Close(), nil))
}
