package dist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// canned is a connection from which a fixed input is read.
type canned struct {
	net.Conn
	in io.Reader
}

func (c canned) Read(p []byte) (int, error) { return c.in.Read(p) }
func (c canned) Close() error               { return nil }

const (
	withFragments = DefaultFlags | FlagFragments | FlagDistHdrAtomCache
	passFlags     = DefaultFlags &^ (FlagFragments | FlagDistHdrAtomCache)
)

// receive reads everything from in and returns the messages and the end.
func receive(in io.Reader, cfg Config) (msgs []Message, st Stats, err error) {
	cfg.Name = us
	if cfg.Flags == 0 {
		cfg.Flags = withFragments
	}
	c := newConn(canned{in: in}, cfg.withDefaults(), Peer{Name: them, Flags: cfg.Flags | mandatory})
	err = c.rd.run(HandlerFunc(func(m *Message) { msgs = append(msgs, *m) }))
	return msgs, c.Stats(), err
}

// packet is b with its length in front.
func packet(parts ...any) []byte {
	b := []byte{0, 0, 0, 0}
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func encoded(t testing.TB, m Control) []byte {
	b, err := appendControl(nil, &m)
	require.NoError(t, err)
	return b
}

func body(t testing.TB, x etf.Term) []byte {
	b, err := etf.Append(nil, x)
	require.NoError(t, err)
	return b
}

func send(t testing.TB) []byte { return encoded(t, Control{Op: OpSendSender, From: pidB, To: pidA}) }

func TestReceive(t *testing.T) {
	hello := body(t, etf.Atom("hello"))
	link := encoded(t, Control{Op: OpLink, From: pidB, To: pidA})
	t.Run("with headers", func(t *testing.T) {
		in := bytes.Join([][]byte{
			{0, 0, 0, 0}, // tick
			packet(131, 68, 0, send(t), hello),
			packet(131, 68, 1, 8, 9, 2, "hi", send(t), 82, 0), // {hi} by the cache
			packet(131, 68, 0, link),
			packet(131, 68, 1, 0, 9, send(t), 82, 0), // and once more
			{0, 0, 0, 0},
		}, nil)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(in), "byte by byte": iotest.OneByteReader(bytes.NewReader(in))} {
			t.Run(name, func(t *testing.T) {
				msgs, st, err := receive(r, Config{})
				require.ErrorIs(t, err, ErrPeerClosed)
				require.Len(t, msgs, 4)
				for i, want := range []etf.Term{etf.Atom("hello"), etf.Atom("hi"), nil, etf.Atom("hi")} {
					got, err := msgs[i].Payload.Term()
					if want == nil {
						require.ErrorIs(t, err, ErrNoPayload)
						assert.True(t, msgs[i].Payload.Empty())
						assert.Equal(t, OpLink, msgs[i].Op)
						continue
					}
					require.NoError(t, err)
					assert.Equal(t, want, got)
					assert.Equal(t, Control{Op: OpSendSender, From: pidB, To: pidA}, msgs[i].Control)
				}
				assert.Equal(t, []etf.Atom{"hi"}, msgs[1].Payload.Atoms())
				assert.Equal(t, []byte{82, 0}, msgs[1].Payload.Body())
				assert.Equal(t, 2, msgs[1].Payload.Len())
				assert.Equal(t, Stats{BytesIn: int64(len(in)), MessagesIn: 4, TicksIn: 2}, st)
			})
		}
	})
	t.Run("pass-through", func(t *testing.T) {
		in := bytes.Join([][]byte{packet(112, 131, send(t), 131, hello), packet(112, 131, link)}, nil)
		msgs, _, err := receive(bytes.NewReader(in), Config{Flags: passFlags})
		require.ErrorIs(t, err, ErrPeerClosed)
		require.Len(t, msgs, 2)
		got, err := msgs[0].Payload.Term()
		require.NoError(t, err)
		assert.Equal(t, etf.Atom("hello"), got)
	})
}

func TestReceiveOddMessages(t *testing.T) {
	unknown := body(t, etf.Tuple{etf.Int(99), etf.Atom("x")})
	undecodable := encoded(t, Control{Op: OpExit, From: pidB, To: pidA, Reason: empty})
	undecodable[len(undecodable)-2] = 255
	in := bytes.Join([][]byte{
		packet(131, 68, 0, unknown),
		packet(131, 68, 0, unknown, body(t, etf.Int(1))),
		packet(131, 68, 0, undecodable),
		packet(131, 68, 0, send(t), 255),
		packet(131, 68, 0, send(t), body(t, etf.Int(1)), 0),
		packet(131, 68, 0, send(t), body(t, etf.Int(7))),
	}, nil)
	msgs, st, err := receive(bytes.NewReader(in), Config{})
	require.ErrorIs(t, err, ErrPeerClosed)
	require.Len(t, msgs, 6)
	assert.Equal(t, etf.Tuple{etf.Int(99), etf.Atom("x")}, msgs[0].Other)
	assert.True(t, msgs[0].Payload.Empty())
	assert.False(t, msgs[1].Payload.Empty())
	assert.Equal(t, OpExit, msgs[2].Op)
	assert.Error(t, msgs[2].Payload.Err())
	assert.Nil(t, msgs[2].Reason)
	var unknownTag *etf.UnknownTagError
	_, err = msgs[3].Payload.Term()
	assert.ErrorAs(t, err, &unknownTag)
	_, err = msgs[4].Payload.Term()
	assert.Error(t, err, "a byte too many")
	got, err := msgs[5].Payload.Term()
	require.NoError(t, err)
	assert.Equal(t, etf.Int(7), got)
	assert.EqualValues(t, 2, st.UnknownOps)
	assert.EqualValues(t, 1, st.Undecodable)
}

// fragments cuts a message into n fragments of sequence id.
func fragments(id uint64, n int, head, body []byte) (out [][]byte) {
	size := (len(body) + n - 1) / n
	for left := n; left > 0; left-- {
		part := body[:min(size, len(body))]
		body = body[len(part):]
		if left == n {
			out = append(out, packet(131, 69, u64(id), u64(uint64(left)), head, part))
		} else {
			out = append(out, packet(131, 70, u64(id), u64(uint64(left)), part))
		}
	}
	return out
}

func TestReceiveFragments(t *testing.T) {
	text := func(c string, n int) (etf.Term, []byte) {
		x := etf.Binary(strings.Repeat(c, n))
		return x, body(t, x)
	}
	large, largeBody := text("a", 700_000)
	other, otherBody := text("b", 1000)
	a := fragments(1, 10, append([]byte{1, 8, 9, 2, 'h', 'i'}, send(t)...), largeBody)
	b := fragments(2, 3, append([]byte{0}, send(t)...), otherBody)
	small := packet(131, 68, 1, 0, 9, send(t), 82, 0)
	single := fragments(3, 1, append([]byte{0}, send(t)...), otherBody)
	in := bytes.Join([][]byte{a[0], b[0], a[1], small, b[1], b[2], a[2], a[3], a[4], {0, 0, 0, 0}, a[5], a[6], single[0], a[7], a[8], a[9]}, nil)
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(in), "in halves": iotest.HalfReader(bytes.NewReader(in))} {
		t.Run(name, func(t *testing.T) {
			msgs, st, err := receive(r, Config{})
			require.ErrorIs(t, err, ErrPeerClosed)
			require.Len(t, msgs, 4)
			for i, want := range []etf.Term{etf.Atom("hi"), other, other, large} {
				got, err := msgs[i].Payload.Term()
				require.NoError(t, err)
				assert.True(t, etf.Equal(want, got), "message %d", i)
				assert.Equal(t, OpSendSender, msgs[i].Op)
			}
			assert.Equal(t, []etf.Atom{"hi"}, msgs[3].Payload.Atoms())
			assert.EqualValues(t, 14, st.FragmentsIn)
			assert.EqualValues(t, 4, st.MessagesIn)
		})
	}
}

func TestTooLargeInFragments(t *testing.T) {
	head := append([]byte{0}, send(t)...)
	small := packet(131, 68, 0, send(t), body(t, etf.Int(7)))
	part := make([]byte, 1000)
	t.Run("one message", func(t *testing.T) {
		f := fragments(1, 3, head, make([]byte, 300_000))
		msgs, st, err := receive(bytes.NewReader(bytes.Join([][]byte{f[0], f[1], small, f[2], small}, nil)), Config{MaxMessage: 250_000})
		require.ErrorIs(t, err, ErrPeerClosed)
		require.Len(t, msgs, 3)
		require.ErrorIs(t, msgs[1].Payload.Err(), ErrTooLarge)
		assert.Equal(t, pidA, msgs[1].To, "the receiver hears of it")
		assert.False(t, msgs[1].Payload.Empty())
		_, err = msgs[1].Payload.Term()
		require.ErrorIs(t, err, ErrTooLarge)
		assert.EqualValues(t, 1, st.Dropped)
	})
	t.Run("first fragment", func(t *testing.T) {
		f := fragments(1, 2, head, make([]byte, 3000))
		msgs, _, err := receive(bytes.NewReader(bytes.Join(f, nil)), Config{MaxMessage: 1000})
		require.ErrorIs(t, err, ErrPeerClosed)
		require.Len(t, msgs, 1)
		require.ErrorIs(t, msgs[0].Payload.Err(), ErrTooLarge)
	})
	t.Run("all messages together", func(t *testing.T) {
		a, b := fragments(1, 2, head, part), fragments(2, 2, head, part)
		msgs, _, err := receive(bytes.NewReader(bytes.Join([][]byte{a[0], b[0], a[1], b[1]}, nil)), Config{MaxReassembly: 1500})
		require.ErrorIs(t, err, ErrPeerClosed)
		require.Len(t, msgs, 2)
		require.NoError(t, msgs[0].Payload.Err())
		require.NoError(t, msgs[1].Payload.Err(), "the first one had made room")
		msgs, _, err = receive(bytes.NewReader(bytes.Join([][]byte{a[0], b[0], a[1], b[1]}, nil)), Config{MaxReassembly: 1499})
		require.ErrorIs(t, err, ErrPeerClosed)
		require.Len(t, msgs, 2)
		require.ErrorIs(t, msgs[0].Payload.Err(), ErrTooLarge)
		require.NoError(t, msgs[1].Payload.Err())
	})
	t.Run("what is silent makes room", func(t *testing.T) {
		a, b := fragments(1, 2, head, part), fragments(2, 2, head, part)
		msgs, _, err := receive(bytes.NewReader(bytes.Join([][]byte{a[0], b[0], b[1], a[1]}, nil)), Config{MaxReassembly: 1499, TickTime: 1})
		require.ErrorIs(t, err, ErrPeerClosed)
		require.Len(t, msgs, 2)
		require.NoError(t, msgs[0].Payload.Err())
		require.ErrorIs(t, msgs[1].Payload.Err(), ErrTooLarge)
	})
	t.Run("too many", func(t *testing.T) {
		var in []byte
		for i := range uint64(3) {
			in = append(in, fragments(i, 2, head, part)[0]...)
		}
		_, _, err := receive(bytes.NewReader(in), Config{MaxSequences: 2})
		require.ErrorIs(t, err, ErrTooLarge)
		_, _, err = receive(bytes.NewReader(in), Config{MaxSequences: 2, TickTime: 1})
		require.ErrorIs(t, err, ErrPeerClosed, "silent ones are given up")
	})
}

func TestReceiveGarbage(t *testing.T) {
	frag := func(kind int, id, left uint64, rest ...any) []byte {
		return packet(append([]any{131, kind, u64(id), u64(left)}, rest...)...)
	}
	head := append([]byte{0}, send(t)...)
	first := frag(69, 1, 3, head, "ab")
	tests := []struct {
		name  string
		in    []byte
		flags Flags
		want  string
	}{
		{"one byte", []byte("\x00\x00\x00\x01x"), 0, "length 1"},
		{"another protocol", []byte("GET / HTTP/1.1\r\n"), 0, "length 1195725856 is over the limit"},
		{"random", []byte("\x00\x00\x00\x10abcdefghijklmnop"), 0, "starts with 97, 98"},
		{"pass-through where headers are due", packet(112, 131, send(t)), 0, "starts with 112, 131"},
		{"header where pass-through is due", packet(131, 68, 0, send(t)), passFlags, "starts with 131, 68"},
		{"no version of the control message", packet(112, send(t)), passFlags, "version byte 131 is missing"},
		{"no version of the payload", packet(112, 131, send(t), 106), passFlags, "version byte 131 is missing"},
		{"no atoms", packet(131, 68, 200), 0, "header ends early"},
		{"unset atom", packet(131, 68, 1, 0, 0, send(t)), 0, "was never set"},
		{"no control", packet(131, 68, 0), 0, "ends early"},
		{"control of the wrong size", packet(131, 68, 0, 104, 1, 97, 1), 0, "LINK as a tuple of 1"},
		{"no payload", packet(131, 68, 0, send(t)), 0, "SEND_SENDER without its payload"},
		{"fragment that was not negotiated", frag(69, 1, 2, head), DefaultFlags&^FlagFragments | FlagDistHdrAtomCache, "not negotiated"},
		{"short fragment", packet(131, 70, 1, 2, 3), 0, "fragment header ends early"},
		{"continuation of nothing", frag(70, 1, 1, "x"), 0, "was never started"},
		{"started twice", append(first, first...), 0, "starts twice"},
		{"no fragments", frag(69, 1, 0, head), 0, "no fragments"},
		{"wrong order", append(first, frag(70, 1, 1, "x")...), 0, "fragment 1 of sequence 0x1 follows 3"},
		{"one too many", append(first, frag(70, 1, 3, "x")...), 0, "fragment 3 of sequence 0x1 follows 3"},
		{"fragment without atoms", frag(69, 1, 2), 0, "header ends early"},
		{"fragment without control", frag(69, 1, 2, 0), 0, "ends early"},
		{"fragments without payload", append(frag(69, 1, 2, head), frag(70, 1, 1)...), 0, "without its payload"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ok := packet(131, 68, 0, send(t), 106)
			if tt.flags == passFlags {
				ok = packet(112, 131, send(t), 131, 106)
			}
			msgs, _, err := receive(bytes.NewReader(append(ok, tt.in...)), Config{Flags: tt.flags})
			var e *PacketError
			require.ErrorAs(t, err, &e)
			require.ErrorContains(t, err, tt.want)
			assert.GreaterOrEqual(t, e.Offset, int64(len(ok)))
			assert.Len(t, msgs, 1, "what came before is delivered")
		})
	}
}

func TestReceiveHalf(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 100_000)
	in := bytes.Join([][]byte{
		packet(131, 68, 0, send(t), 109, []byte{0, 0, 0, 1}, "x"),
		packet(131, 68, 0, send(t), large),
		packet(131, 69, u64(1), u64(2), 0, send(t), large),
		packet(131, 70, u64(1), u64(1), large),
	}, nil)
	for _, n := range []int{1, 3, 4, 5, 6, 20, 70, 100, 50_000, 100_100, 100_110, 100_130, 150_000, 200_210, 200_220, 250_000, len(in) - 1} {
		_, _, err := receive(bytes.NewReader(in[:n]), Config{})
		require.ErrorIs(t, err, ErrPeerClosed, "cut at %d", n)
	}
	broken := errors.New("no route")
	_, _, err := receive(io.MultiReader(bytes.NewReader(in[:9]), iotest.ErrReader(broken)), Config{})
	require.Equal(t, broken, err)
}

// TestLengthsAllocateNothing announces much and sends little.
func TestLengthsAllocateNothing(t *testing.T) {
	const limit = 512 << 20
	for name, in := range map[string][]byte{
		"packet":   append(binary.BigEndian.AppendUint32(nil, limit), packet(131, 68, 0, send(t))[4:]...),
		"fragment": append(binary.BigEndian.AppendUint32(nil, limit), packet(131, 69, u64(1), u64(1<<60), 0, send(t))[4:]...),
		"more": append(packet(131, 69, u64(1), u64(1<<60), 0, send(t), 106),
			append(binary.BigEndian.AppendUint32(nil, limit), packet(131, 70, u64(1), u64(1<<60-1), "x")[4:]...)...),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := receive(bytes.NewReader(in), Config{MaxMessage: limit})
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, ErrPeerClosed)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
		})
	}
}

func TestRoom(t *testing.T) {
	for _, tt := range []struct{ have, total, want int }{
		{0, 10, 10}, {0, 1 << 30, firstRead}, {firstRead, 1 << 30, firstRead}, {1 << 20, 1 << 30, 1 << 20},
		{1 << 20, 1<<20 + 5, 5}, {10, 5, 1},
	} {
		assert.Equal(t, tt.want, room(tt.have, tt.total), fmt.Sprint(tt))
	}
	s := sequence{body: make([]byte, 100)}
	assert.Equal(t, 100+3*10, s.expect(10, 3))
	assert.LessOrEqual(t, s.expect(1<<20, 1<<60), 1<<40+100)
	assert.Equal(t, 100, s.expect(0, 1<<60))
}
