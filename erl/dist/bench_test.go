package dist

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/require"
)

// BenchmarkReceive reads packets from memory, without decoding payloads.
func BenchmarkReceive(b *testing.B) {
	hello := body(b, etf.Tuple{etf.Atom("hello"), etf.Int(1), pidB})
	small := packet(131, 68, 0, send(b), hello)
	cached := packet(131, 68, 3, 0x00, 0x00, 9, 8, 7, []byte{104, 3, 97, 22, 88, 82, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7,
		88, 82, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 8}, 82, 2)
	set := packet(131, 68, 3, 0x88, 0x08, 9, len(them), them, 8, len(us), us, 7, 5, "hello", send(b), 106)
	large := bytes.Join(fragments(1, 128, append([]byte{0}, send(b)...), make([]byte, 8<<20)), nil)
	for _, bb := range []struct {
		name      string
		once, all []byte
		messages  int
	}{
		{"small", nil, bytes.Repeat(small, 1000), 1000},
		{"small-cached", set, bytes.Repeat(cached, 1000), 1000},
		{"link", nil, bytes.Repeat(packet(131, 68, 0, encoded(b, Control{Op: OpLink, From: pidB, To: pidA})), 1000), 1000},
		{"fragments-8MB", nil, large, 1},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.all)))
			n := 0
			c := newConn(canned{in: bytes.NewReader(bb.once)}, Config{Name: us, Flags: withFragments}.withDefaults(), Peer{Name: them, Flags: withFragments})
			h := HandlerFunc(func(*Message) { n++ })
			c.rd.run(h)
			n = 0
			for b.Loop() {
				c.rd.br.Reset(bytes.NewReader(bb.all))
				if err := c.rd.run(h); err != ErrPeerClosed {
					b.Fatal(err)
				}
			}
			require.Equal(b, b.N*bb.messages, n)
		})
	}
}

// BenchmarkSend writes to a reader that throws everything away, over TCP.
func BenchmarkSend(b *testing.B) {
	for _, bb := range []struct {
		name string
		size int
	}{{"small", 20}, {"4kB", 4 << 10}, {"64kB", 64 << 10}, {"8MB", 8 << 20}} {
		b.Run(bb.name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer ln.Close()
			go func() {
				nc, err := ln.Accept()
				if err == nil {
					io.CopyBuffer(io.Discard, struct{ io.Reader }{nc}, make([]byte, 1<<20))
				}
			}()
			nc, err := net.Dial("tcp", ln.Addr().String())
			require.NoError(b, err)
			c := newConn(nc, Config{Name: us}.withDefaults(), Peer{Name: them, Flags: withFragments})
			ran := start(c, ignore)
			x := etf.Term(etf.Binary(make([]byte, bb.size)))
			m := sendTo(1)
			b.ReportAllocs()
			b.SetBytes(int64(bb.size))
			for b.Loop() {
				if err := c.Send(context.Background(), m, x); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, c.Flush(context.Background()))
			c.Close()
			<-ran
		})
	}
}

// BenchmarkPing sends a small message there and back between two connections
// of ours.
func BenchmarkPing(b *testing.B) {
	x, y := connected(b, Config{Name: us}, Config{Name: them})
	back := make(chan struct{}, 1)
	start(x, func(*Message) { back <- struct{}{} })
	start(y, func(m *Message) { y.TrySend(&Control{Op: OpSendSender, From: m.To, To: m.From}, etf.Atom("pong")) })
	m := sendTo(1)
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Send(context.Background(), m, etf.Atom("ping")); err != nil {
			b.Fatal(err)
		}
		<-back
	}
}
