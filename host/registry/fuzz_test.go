package registry

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// messages returns one message of each type, as members send them.
func messages(t require.TestingT) map[byte][]byte {
	s := newSim(t, []string{"a", "b"}, 1)
	s.noticeAll()
	out := map[byte][]byte{}
	step := func(d time.Duration) {
		for len(s.wire) > 0 {
			m := s.wire[0].msg
			if len(m) > len(out[m[1]]) {
				out[m[1]] = m
			}
			s.deliver(0, false)
		}
		s.advance(d)
	}
	_, err := s.register("a", Claim{Key: "x", Owner: ByPid("shop@db1", "<0.1.0>", 7), Value: []byte("{}")})
	require.NoError(t, err)
	_, err = s.register("a", Claim{Key: "pool", Owner: ByChild("c"), Duplicate: true})
	require.NoError(t, err)
	_, err = s.register("a", Claim{Key: "l", Owner: ByLease("l1"), TTL: time.Minute})
	require.NoError(t, err)
	s.do("a", func(c *core, now time.Time) {
		c.endOwner(now, packOwner(ByChild("c")))
		require.NoError(t, c.putMeta(now, "limit", []byte("10"), false))
	})
	step(0)
	// One claim is pending at a when b claims the same: b's vote names a holder.
	_, err = s.register("a", Claim{Key: "q", Owner: ByMember("a"), Consistency: Quorum})
	require.NoError(t, err)
	_, err = s.register("b", Claim{Key: "q", Owner: ByMember("b"), Consistency: Quorum})
	require.NoError(t, err)
	s.advance(time.Second)
	step(0)
	_, err = s.register("a", Claim{Key: "y", Owner: ByMember("a")})
	require.NoError(t, err)
	s.wire = nil // lost
	for range 4 {
		step(time.Second)
	}
	s.stop("a")
	s.start("a")
	s.noticeAll()
	step(0)
	return out
}

// TestWire compares the messages with what they were: a change of the format
// needs another version.
func TestWire(t *testing.T) {
	m := messages(t)
	want := map[byte]string{}
	for typ := byte(msgDigest); typ <= msgMeta; typ++ {
		require.NotEmpty(t, m[typ], "type %d", typ)
		if got := hex.EncodeToString(m[typ]); golden[typ] != got {
			want[typ] = got
		}
	}
	require.Empty(t, want, "differ from the golden ones")
}

var golden = map[byte]string{
	msgDigest: "0101d373403293b05fe8851643b3ec27773c",
	msgHeads:  "010200000000000000000001610000000000000001000162000000000000000200",
	msgWant:   "01030161000000000000000100000000000000050000000000000005",
	msgDelta:  "010400016100000000000000010000000000000000000000000000000100000000000000010000000000000000100101780873686f7040646231073c302e312e303e0700038d7ea4c680000000027b7d",
	msgVote:   "010501710000000000000001000000000000000500000000000000000000010162000000000000000234010171016200038d7ea4c68004000000",
	msgAsk:    "010601710000000000000001000000000000000501",
	msgRecall: "010700000000000000010000000000000000",
	msgPast:   "010800000000000000010000000000000000000000000000000701100101780873686f7040646231073c302e312e303e0700038d7ea4c680000000027b7d4002016c026c3100038d7ea4c680020080b09dc2df0100",
	msgMeta:   "0109056c696d6974016100038d7ea4c6800300023130",
}

// FuzzMessages has a member that knows something receive what is no message, or
// nearly one; it must stay in order, and be able to go on.
func FuzzMessages(f *testing.F) {
	for _, typ := range slices.Sorted(func(yield func(byte) bool) {
		for typ := range messages(f) {
			if !yield(typ) {
				return
			}
		}
	}) {
		m := messages(f)[typ]
		f.Add(m, m)
		f.Add(m[:len(m)/2], append(slices.Clone(m), 0))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := newSim(t, []string{"a", "b", "c"}, 1)
		s.noticeAll()
		for _, n := range s.names {
			_, err := s.register(n, Claim{Key: "pool", Owner: ByMember(n), Duplicate: true})
			require.NoError(t, err)
			_, err = s.register(n, Claim{Key: n, Owner: ByChild(n), Value: []byte("1")})
			require.NoError(t, err)
		}
		s.drain()
		_, err := s.register("b", Claim{Key: "q", Owner: ByMember("b"), Consistency: Quorum})
		require.NoError(t, err)
		s.wire = nil
		for _, msg := range [][]byte{first, second, first} {
			for _, from := range []string{"a", "x"} {
				s.do("b", func(c *core, now time.Time) {
					before := dump(c)
					if c.receive(now, from, slices.Clone(msg)) != nil {
						require.Equal(t, before, dump(c), "a message that is refused changes nothing")
					}
				})
				s.check(s.members["b"])
			}
			s.wire = nil
			s.advance(time.Second)
		}
		_, err = s.register("b", Claim{Key: "still here", Owner: ByMember("b")})
		require.NoError(t, err)
	})
}
