package dist

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/debughost/debughost/erl/etf"
)

// captures are the golden connections: what the node sent, and what we did.
var captures = []string{
	"testdata/otp25-dial.gz", "testdata/otp25-accept.gz", "testdata/otp27-dial.gz",
	"testdata/otp27-accept.gz", "testdata/otp29-dial.gz", "testdata/otp29-accept.gz",
}

// FuzzHandshake reads any bytes as each message of the handshake. What is
// taken is written again and read to the same.
func FuzzHandshake(f *testing.F) {
	for _, file := range captures {
		node, us := readCapture(f, file)
		for _, r := range []io.Reader{node, us} {
			for range 4 {
				var head [2]byte
				io.ReadFull(r, head[:])
				b := make([]byte, int(head[0])<<8|int(head[1]))
				if _, err := io.ReadFull(r, b); err == nil && len(b) < 1000 {
					f.Add(b)
				}
			}
		}
	}
	f.Add([]byte("salive"))
	f.Add([]byte("n\x00\x05\x00\x00\x00\x00a@b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseName(b); err == nil {
			if again := appendName(nil, m); !bytes.HasPrefix(b, again) {
				t.Errorf("name %x is written as %x", b, again)
			}
		}
		if m, err := parseChallenge(b); err == nil {
			if again := appendChallenge(nil, m); !bytes.HasPrefix(b, again) {
				t.Errorf("challenge %x is written as %x", b, again)
			}
		}
		if s, err := parseStatus(b); err == nil && !bytes.Equal(appendStatus(nil, s), b) {
			t.Errorf("status %q is %q", b, s)
		}
		if c, sum, err := parseReply(b); err == nil && !bytes.HasPrefix(b, appendReply(nil, c, [16]byte(sum))) {
			t.Errorf("reply %x", b)
		}
		if sum, err := parseAck(b); err == nil && !bytes.HasPrefix(b, appendAck(nil, [16]byte(sum))) {
			t.Errorf("ack %x", b)
		}
	})
}

// FuzzHeader reads any bytes as two distribution headers in a row, over one
// cache.
func FuzzHeader(f *testing.F) {
	f.Add([]byte{2, 0x8c, 0, 10, 3, 'a', '@', 'h', 5, 3, 'b', '@', 'h'}, []byte{5, 4, 137, 9, 10, 5, 236, 3, 114, 101, 103, 9, 4, 99, 97, 108, 108, 238, 1, 115})
	f.Add([]byte{1, 0x18, 7, 0, 1, 'x'}, []byte{1, 0, 7})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var c atomCache
		for _, b := range [][]byte{first, second} {
			refs, rest, err := c.parse(b, nil)
			if err != nil {
				continue
			}
			if len(refs) != int(b[0]) || len(rest) > len(b) {
				t.Fatalf("%d atoms and %d bytes of %x", len(refs), len(rest), b)
			}
			for _, a := range refs {
				if _, err := etf.AppendAtom(nil, a); err != nil {
					t.Fatalf("%q is no atom", a)
				}
			}
		}
	})
}

// FuzzControl reads any bytes as a control tuple. What is taken is written
// again and read to the same.
func FuzzControl(f *testing.F) {
	for _, c := range controls {
		b, err := appendControl(nil, &c.m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	read := func(b []byte, refs ...etf.Atom) (m Control, w wire, err error) {
		w = wire{b: b, refs: refs, names: &nameTable{local: us, peer: them}, dec: etf.NewDecoder(etf.Limits{MaxDepth: 100})}
		err = w.parseControl(&m)
		return m, w, err
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, w, err := read(b, "atom", us, them)
		if err != nil || w.soft != nil || !m.Op.known() {
			return
		}
		again, err := appendControl(nil, &m)
		if err != nil {
			// An integer of more than 31 bits as arity, or a reserved name.
			return
		}
		m2, w, err := read(again)
		if err != nil || w.soft != nil {
			t.Fatalf("%+v is written as %x, which is not read: %v, %v", m, again, err, w.soft)
		}
		third, err := appendControl(nil, &m2)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%+v is read as %+v", m, m2)
		}
	})
}

// FuzzPackets reads any bytes as what comes after the handshake, in both
// framings, at once and byte by byte, and decodes all payloads.
func FuzzPackets(f *testing.F) {
	for _, file := range captures {
		acceptor, dialler := readCapture(f, file)
		if strings.Contains(file, "accept") {
			acceptor, dialler = dialler, acceptor
		}
		for i, r := range []*bytes.Reader{dialler, acceptor} {
			for range 2 + i { // name and reply; status, challenge and ack
				var head [2]byte
				io.ReadFull(r, head[:])
				r.Seek(int64(head[0])<<8|int64(head[1]), io.SeekCurrent)
			}
			b, _ := io.ReadAll(io.LimitReader(r, 700))
			f.Add(b, true)
		}
	}
	for _, c := range controls {
		b, payload := encoded(f, c.m), []byte(nil)
		if c.m.Op.hasPayload() {
			payload = []byte{106}
		}
		f.Add(packet(131, 68, 0, b, payload), true)
		f.Add(packet(131, 69, u64(7), u64(1), 0, b, payload), true)
		if payload != nil {
			payload = []byte{131, 106}
		}
		f.Add(packet(112, 131, b, payload), false)
	}
	f.Add(bytes.Join(fragments(1, 3, append([]byte{1, 8, 9, 2, 'h', 'i'}, send(f)...), []byte("m\x00\x00\x00\x05hello")), nil), true)
	f.Fuzz(func(t *testing.T, b []byte, headers bool) {
		cfg := Config{MaxMessage: 10_000, MaxReassembly: 20_000, MaxSequences: 10, Flags: withFragments}
		if !headers {
			cfg.Flags = passFlags
		}
		msgs, st, err := receive(bytes.NewReader(b), cfg)
		slow, st2, err2 := receive(io.MultiReader(bytes.NewReader(b[:len(b)/2]), bytes.NewReader(b[len(b)/2:])), cfg)
		if err == nil || err2 == nil {
			t.Fatal("no end")
		}
		st.BytesIn, st2.BytesIn = 0, 0 // reads ahead
		if st != st2 || len(msgs) != len(slow) || err.Error() != err2.Error() {
			t.Fatalf("in one piece %+v, %v; in two %+v, %v", st, err, st2, err2)
		}
		if int64(len(msgs)) != st.MessagesIn {
			t.Fatalf("%d messages, %+v", len(msgs), st)
		}
		for i, m := range msgs {
			if m.Payload.Len() > 10_000+firstRead {
				t.Fatalf("payload of %d bytes", m.Payload.Len())
			}
			if _, err := m.Payload.Term(); (err == nil) != (slow[i].Payload.Err() == nil && !m.Payload.Empty()) && err == nil {
				t.Fatal("a payload that is none")
			}
		}
	})
}
