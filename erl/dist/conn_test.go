package dist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// piped returns a connection whose far end the test plays.
func piped(t testing.TB, cfg Config) (*Conn, net.Conn) {
	cfg.Name = us
	a, b := net.Pipe()
	c := newConn(a, cfg.withDefaults(), Peer{Name: them, Flags: withFragments})
	t.Cleanup(func() { c.Close(); b.Close() })
	return c, b
}

// start runs c and returns what Run returns.
func start(c *Conn, h func(m *Message)) <-chan error {
	ran := make(chan error, 1)
	go func() { ran <- c.Run(context.Background(), HandlerFunc(h)) }()
	return ran
}

func ignore(*Message) {}

// wait returns what comes, or fails the test.
func wait[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(20 * time.Second):
		t.Fatalf("waited for %s in vain", what)
	}
	return v
}

func sendTo(n uint32) *Control {
	return &Control{Op: OpSendSender, From: etf.Pid{Node: us, ID: n}, To: pidB}
}

// TestConversation sends all kinds of messages both ways over TCP, of many
// senders at once, small and large, and checks that those of each sender come
// in order and whole.
func TestConversation(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const senders, each = 8, 60
	for _, flags := range []Flags{withFragments, DefaultFlags, passFlags} {
		t.Run(fmt.Sprintf("%x", uint64(flags&withFragments)), func(t *testing.T) {
			acfg, bcfg := Config{Name: us, Flags: flags, QueueBytes: 100_000, FragmentSize: 5000}, Config{Name: them, Flags: flags}
			a, b := connected(t, acfg, bcfg)
			var mu sync.Mutex
			got := map[uint32][]int{}
			all := make(chan struct{})
			total := 0
			bran := start(b, func(m *Message) {
				x, err := m.Payload.Term()
				if err != nil {
					t.Errorf("payload: %v", err)
					return
				}
				tuple := x.(etf.Tuple)
				size := int(tuple[1].(etf.Int))
				if want := strings.Repeat("x", size); string(tuple[2].(etf.Binary)) != want {
					t.Errorf("a binary of %d bytes came otherwise", size)
				}
				mu.Lock()
				defer mu.Unlock()
				got[m.From.ID] = append(got[m.From.ID], int(tuple[0].(etf.Int)))
				if total++; total == senders*each {
					close(all)
				}
			})
			aran := start(a, ignore)
			var wg sync.WaitGroup
			for s := range uint32(senders) {
				wg.Go(func() {
					for i := range each {
						size := []int{3, 20_000, 1, 4900, 200_000, 9}[(i+int(s))%6]
						x := etf.Tuple{etf.Int(i), etf.Int(size), etf.Binary(bytes.Repeat([]byte("x"), size))}
						if err := a.Send(t.Context(), sendTo(s), x); err != nil {
							t.Errorf("send: %v", err)
						}
					}
				})
			}
			wg.Wait()
			require.NoError(t, a.Flush(t.Context()))
			wait(t, all, "all messages")
			for s := range uint32(senders) {
				for i, n := range got[s] {
					require.Equal(t, i, n, "sender %d", s)
				}
			}
			st := a.Stats()
			assert.EqualValues(t, senders*each, st.MessagesOut)
			if flags.has(FlagFragments) {
				assert.Greater(t, st.FragmentsOut, int64(senders*each))
			} else {
				assert.Zero(t, st.FragmentsOut)
			}
			assert.Equal(t, st.FragmentsOut, b.Stats().FragmentsIn)
			assert.Equal(t, st.BytesOut, b.Stats().BytesIn)

			require.NoError(t, a.Shutdown(t.Context()))
			require.ErrorIs(t, wait(t, aran, "the end"), ErrClosed)
			require.ErrorIs(t, wait(t, bran, "the end"), ErrPeerClosed)
			require.ErrorIs(t, b.Err(), ErrPeerClosed)
		})
	}
}

// frames reads packets from nc, each with its first bytes said in words.
func frames(t testing.TB, nc io.Reader, n int) (out []string) {
	t.Helper()
	for range n {
		b, err := readFrame(nc)
		require.NoError(t, err)
		switch {
		case len(b) == 0:
			out = append(out, "tick")
		case b[1] == distHeader:
			out = append(out, "small")
		case b[1] == distFragment:
			out = append(out, fmt.Sprintf("%d/%d", b[9], b[17]))
		case b[1] == distContinue:
			out = append(out, fmt.Sprintf("%d-%d", b[9], b[17]))
		}
	}
	return out
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(head[0])<<24 | int(head[1])<<16 | int(head[2])<<8 | int(head[3])
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func TestSmallMessagesGoBetweenFragments(t *testing.T) {
	c, peer := piped(t, Config{FragmentSize: 1000})
	put := func(from uint32, size int) {
		require.NoError(t, c.SendEncoded(t.Context(), sendTo(from), body(t, etf.Binary(make([]byte, size)))))
	}
	put(1, 10)   // small
	put(1, 2900) // 1: three fragments and a bit
	put(2, 1900) // 2: two fragments
	put(1, 10)   // behind the large one of its sender
	put(1, 1500) // 3: likewise
	put(1, 11)
	put(3, 10) // overtakes
	start(c, ignore)
	// The peer reads the first packets, and then another sender comes.
	got := frames(t, peer, 3)
	put(4, 10)
	got = append(got, frames(t, peer, 9)...)
	assert.Equal(t, []string{"small", "small", "1/3"}, got[:3])
	order := func(list ...string) {
		at := -1
		for _, f := range list {
			i := at + 1
			for i < len(got) && got[i] != f {
				i++
			}
			require.Less(t, i, len(got), "%s is missing or too early in %v", f, got)
			at = i
		}
	}
	order("1/3", "1-2", "1-1", "small", "3/2", "3-1", "small")
	order("2/2", "2-1")
	order("1/3", "small", "1-1") // the one of sender 4
	order("1/3", "2/2", "1-1")
	assert.EqualValues(t, 8, c.Stats().MessagesOut)
	assert.EqualValues(t, 7, c.Stats().FragmentsOut)
}

func TestControlTupleStaysWhole(t *testing.T) {
	c, peer := piped(t, Config{FragmentSize: 10})
	require.NoError(t, c.Send(t.Context(), sendTo(1), etf.Binary(make([]byte, 25))))
	ran := start(c, ignore)
	var in bytes.Buffer
	for range 4 {
		b, err := readFrame(peer)
		require.NoError(t, err)
		in.Write(packet(b))
	}
	msgs, _, err := receive(&in, Config{})
	require.ErrorIs(t, err, ErrPeerClosed)
	require.Len(t, msgs, 1)
	assert.Equal(t, 30, msgs[0].Payload.Len())
	c.Close()
	require.ErrorIs(t, wait(t, ran, "the end"), ErrClosed)
}

func TestQueueIsBounded(t *testing.T) {
	c, peer := piped(t, Config{QueueBytes: 2000})
	payload := etf.Binary(make([]byte, 900))
	full := func() error {
		for {
			if err := c.TrySend(sendTo(1), payload); err != nil {
				return err
			}
		}
	}
	for range 3 {
		require.NoError(t, c.Send(t.Context(), sendTo(1), payload))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	err := c.Send(ctx, sendTo(1), payload)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "queue is full")
	require.ErrorIs(t, c.Flush(ctx), context.DeadlineExceeded)
	require.ErrorIs(t, full(), ErrQueueFull, "with some to spare")

	waiting := make(chan error, 2)
	go func() { waiting <- c.Send(context.Background(), sendTo(2), payload) }()
	start(c, ignore)
	go io.Copy(io.Discard, peer)
	require.NoError(t, wait(t, waiting, "room"))
	require.NoError(t, c.Flush(t.Context()))
	require.NoError(t, c.Flush(t.Context()), "there is nothing")

	c.Close()
	require.ErrorIs(t, c.Send(t.Context(), sendTo(1), payload), ErrClosed)
	require.ErrorIs(t, c.TrySend(sendTo(1), payload), ErrClosed)
	require.ErrorIs(t, c.Flush(t.Context()), ErrClosed)
}

func TestSendersHearOfTheEnd(t *testing.T) {
	c, _ := piped(t, Config{QueueBytes: 10})
	waiting := make(chan error, 2)
	require.NoError(t, c.Send(t.Context(), sendTo(1), empty))
	go func() { waiting <- c.Send(context.Background(), sendTo(1), empty) }()
	go func() { waiting <- c.Flush(context.Background()) }()
	time.AfterFunc(5*time.Millisecond, func() { c.Close() })
	require.ErrorIs(t, wait(t, waiting, "the sender"), ErrClosed)
	require.ErrorIs(t, wait(t, waiting, "the flush"), ErrClosed)
	wait(t, c.Done(), "Done without Run")
	require.ErrorIs(t, c.Run(t.Context(), HandlerFunc(ignore)), ErrClosed)
	require.NoError(t, c.Close())
}

func TestSendWhatCannotBeSent(t *testing.T) {
	c, _ := piped(t, Config{})
	require.ErrorContains(t, c.Send(t.Context(), &Control{Op: OpLink}, etf.Int(1)), "payload")
	require.ErrorContains(t, c.Send(t.Context(), &Control{Op: OpSendSender}, nil), "payload")
	require.ErrorContains(t, c.SendEncoded(t.Context(), &Control{Op: OpSendSender}, nil), "payload")
	require.Error(t, c.Send(t.Context(), &Control{Op: 99}, nil))
	require.Error(t, c.TrySend(sendTo(1), etf.Atom(strings.Repeat("x", 256))))
	require.Error(t, c.SendEncoded(t.Context(), &Control{Op: OpRegSend, ToName: etf.Atom(strings.Repeat("x", 256))}, []byte{106}))
	require.NoError(t, c.TrySend(&Control{Op: OpLink, From: pidA, To: pidB}, nil))
}

func TestRunEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("context", func(t *testing.T) {
		c, _ := piped(t, Config{})
		gone := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Millisecond, func() { cancel(gone) })
		require.ErrorIs(t, c.Run(ctx, HandlerFunc(ignore)), gone)
		require.ErrorIs(t, c.Err(), gone)
	})
	t.Run("peer closes", func(t *testing.T) {
		c, peer := piped(t, Config{})
		require.NoError(t, c.Err())
		time.AfterFunc(5*time.Millisecond, func() { peer.Close() })
		require.ErrorIs(t, c.Run(t.Context(), HandlerFunc(ignore)), ErrPeerClosed)
	})
	t.Run("peer closes while we write", func(t *testing.T) {
		c, peer := piped(t, Config{})
		require.NoError(t, c.Send(t.Context(), sendTo(1), etf.Binary(make([]byte, 1<<20))))
		time.AfterFunc(5*time.Millisecond, func() { peer.Close() })
		require.ErrorIs(t, c.Run(t.Context(), HandlerFunc(ignore)), ErrPeerClosed)
	})
	t.Run("garbage", func(t *testing.T) {
		c, peer := piped(t, Config{})
		go peer.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		var e *PacketError
		require.ErrorAs(t, c.Run(t.Context(), HandlerFunc(ignore)), &e)
	})
	t.Run("silence", func(t *testing.T) {
		c, peer := piped(t, Config{TickTime: 40 * time.Millisecond})
		go io.Copy(io.Discard, peer)
		begin := time.Now()
		require.ErrorIs(t, c.Run(t.Context(), HandlerFunc(ignore)), ErrTickTimeout)
		assert.Greater(t, time.Since(begin), 40*time.Millisecond)
		assert.GreaterOrEqual(t, c.Stats().TicksOut, int64(2))
	})
	t.Run("peer reads nothing", func(t *testing.T) {
		c, peer := piped(t, Config{TickTime: 80 * time.Millisecond, WriteTimeout: 20 * time.Millisecond})
		require.NoError(t, c.Send(t.Context(), sendTo(1), empty))
		stop := make(chan struct{})
		defer close(stop)
		go func() { // its ticks come all the time
			for {
				if _, err := peer.Write([]byte{0, 0, 0, 0}); err != nil {
					return
				}
			}
		}()
		require.ErrorIs(t, c.Run(t.Context(), HandlerFunc(ignore)), ErrWriteTimeout)
	})
	t.Run("shutdown without half close", func(t *testing.T) {
		c, peer := piped(t, Config{})
		ran := start(c, ignore)
		go io.Copy(io.Discard, peer)
		require.NoError(t, c.Shutdown(t.Context()))
		require.ErrorIs(t, wait(t, ran, "the end"), ErrClosed)
	})
	t.Run("shutdown of a peer that does not close", func(t *testing.T) {
		a, _ := connected(t, Config{Name: us}, Config{Name: them}) // it does not run
		ran := start(a, ignore)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, a.Shutdown(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, wait(t, ran, "the end"), ErrClosed)
	})
	t.Run("shutdown of a frozen peer", func(t *testing.T) {
		c, _ := piped(t, Config{})
		require.NoError(t, c.Send(t.Context(), sendTo(1), empty))
		ran := start(c, ignore)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, c.Shutdown(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, wait(t, ran, "the end"), ErrClosed)
	})
}

func TestTicksKeepAnIdleConnection(t *testing.T) {
	cfg := func(name string) Config { return Config{Name: name, TickTime: 80 * time.Millisecond} }
	a, b := connected(t, cfg(us), cfg(them))
	aran, bran := start(a, ignore), start(b, ignore)
	require.Eventually(t, func() bool { return a.Stats().TicksIn >= 12 && b.Stats().TicksIn >= 12 }, 20*time.Second, time.Millisecond)
	select {
	case err := <-aran:
		t.Fatal(err)
	case err := <-bran:
		t.Fatal(err)
	default:
	}
}

// TestHandlerMayAnswer answers each message from the handler.
func TestHandlerMayAnswer(t *testing.T) {
	a, b := connected(t, Config{Name: us}, Config{Name: them})
	answers := make(chan uint64, 10)
	start(a, func(m *Message) { answers <- m.ID })
	start(b, func(m *Message) {
		err := b.TrySend(&Control{Op: OpUnlinkIDAck, ID: m.ID, From: m.To, To: m.From}, nil)
		if err != nil {
			t.Errorf("answer: %v", err)
		}
	})
	require.NoError(t, a.Send(t.Context(), &Control{Op: OpUnlinkID, ID: 1 << 50, From: pidA, To: pidB}, nil))
	assert.EqualValues(t, 1<<50, wait(t, answers, "the ack"))
}
