package registry

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFanOut spreads changes among many members over a network that loses a
// tenth of all messages, by members telling others.
func TestFanOut(t *testing.T) {
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("m%02d", i))
	}
	s := newSim(t, names, 7)
	s.noticeAll()
	s.run(2 * time.Second)
	const n = 20
	sent := len(s.wire)
	for i := range n {
		_, err := s.register(names[i], Claim{Key: fmt.Sprint("k", i), Owner: ByMember(names[i])})
		require.NoError(t, err)
		for len(s.wire) > 0 {
			sent++
			if s.rng.IntN(10) == 0 {
				s.wire = s.wire[1:]
				continue
			}
			s.deliver(0, false)
		}
	}
	have := 0
	for _, m := range s.members {
		have += m.core.index.shown
	}
	t.Logf("%d of %d at once, with %d messages for each change", have, n*len(names), sent/n)
	require.Greater(t, have, n*len(names)*9/10)
	require.Less(t, sent/n, len(names)*(fanOut(len(names))+1))
	s.run(3 * time.Second)
	for _, name := range names {
		require.Equal(t, n, s.members[name].core.index.shown, name)
		s.check(s.members[name])
	}
	// Metadata travels alike.
	s.do("m00", func(c *core, now time.Time) { require.NoError(t, c.putMeta(now, "limit", []byte("1"), false)) })
	s.run(3 * time.Second)
	for _, name := range names {
		require.Contains(t, s.members[name].core.meta.values, "limit", name)
	}
}

// TestUnknownMembers has a peer speak of more members than there can be.
func TestUnknownMembers(t *testing.T) {
	s := newSim(t, []string{"a"}, 1)
	c := s.members["a"].core
	for i := range 2 * maxUnknown {
		l := &life{name: fmt.Sprint("ghost", i), epoch: 1, applied: 1}
		msg, _ := l.piece(0, 0, 0, fullFrame)
		require.NoError(t, c.receive(s.now, "b", msg))
	}
	require.LessOrEqual(t, len(c.origins), maxUnknown+1)
	require.Zero(t, c.index.shown)
}

// TestMetaInPieces exchanges more metadata than goes into one message, and
// forgets deletions after a day.
func TestMetaInPieces(t *testing.T) {
	s := newSim(t, []string{"a", "b"}, 1)
	for _, n := range s.names {
		s.do(n, func(c *core, now time.Time) {
			for i := range 3 {
				require.NoError(t, c.putMeta(now, fmt.Sprint(n, i), make([]byte, 60_000), false))
			}
			require.NoError(t, c.putMeta(now, n+"0", nil, true))
		})
	}
	s.noticeAll()
	s.run(time.Second)
	require.Equal(t, dump(s.members["a"].core), dump(s.members["b"].core))
	require.Len(t, s.members["a"].core.meta.values, 6)
	s.now = s.now.Add(25 * time.Hour)
	s.run(2 * time.Second)
	for _, n := range s.names {
		require.Len(t, s.members[n].core.meta.values, 4)
		require.Equal(t, 4*(60_000+2+metaOverhead), s.members[n].core.meta.size)
	}
}
