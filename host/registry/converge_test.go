package registry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestConverge does everything at random, over a network that loses, repeats
// and reorders, between members whose clocks differ and who see each other or
// do not; then everything works again, and all must be equal.
func TestConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e"}[:rapid.IntRange(2, 5).Draw(t, "members")]
		s := newSim(t, names, rapid.Uint64().Draw(t, "seed"))
		if rapid.IntRange(0, 3).Draw(t, "fan-out") == 0 {
			s.direct = 1
		}
		s.small = rapid.Bool().Draw(t, "small")
		for _, n := range names {
			m := s.members[n]
			m.skew = rapid.SampledFrom([]time.Duration{0, 0, time.Second, -time.Second, -10 * time.Minute, 5 * time.Minute}).Draw(t, "skew")
			s.start(n)
		}
		s.noticeAll()
		r := &randomRun{s: s, mine: map[string]Entry{}, restarts: rapid.Bool().Draw(t, "restarts")}
		steps := rapid.IntRange(1, 120).Draw(t, "steps")
		for range steps {
			r.step(t)
			for _, n := range names {
				s.check(s.members[n])
			}
		}
		r.heal(t)
	})
}

type randomRun struct {
	s     *sim
	mine  map[string]Entry // what was registered, and has not been taken back
	metas int

	restarts bool // some members may
}

func (r *randomRun) id(e Entry) string { return fmt.Sprintf("%s|%s|%s", e.Origin, e.Key, e.Owner) }

func (r *randomRun) step(t *rapid.T) {
	s := r.s
	name := rapid.SampledFrom(s.names).Draw(t, "member")
	m := s.members[name]
	key := func() string { return fmt.Sprintf("k%d", rapid.IntRange(0, 3).Draw(t, "key")) }
	owner := func() Owner {
		switch rapid.IntRange(0, 2).Draw(t, "owner") {
		case 0:
			return ByMember(name)
		case 1:
			return ByChild("child of " + name)
		}
		return ByPid("n@h", fmt.Sprintf("<0.%d.0>", rapid.IntRange(0, 2).Draw(t, "pid")), 1) // of any member
	}
	switch op := rapid.IntRange(0, 19).Draw(t, "op"); op {
	case 0, 1, 2, 3:
		cl := Claim{Key: key(), Owner: owner(), Value: []byte{byte(rapid.IntRange('0', '3').Draw(t, "value"))}}
		if e, err := s.register(name, cl); err == nil {
			r.mine[r.id(e)] = e
		}
	case 4:
		cl := Claim{Key: "d" + key(), Owner: owner(), Duplicate: true}
		if e, err := s.register(name, cl); err == nil {
			r.mine[r.id(e)] = e
		}
	case 5, 6:
		_, _ = s.register(name, Claim{Key: "q" + key(), Owner: owner(), Consistency: Quorum})
	case 7:
		k := rapid.SampledFrom([]string{"", "d", "q"}).Draw(t, "prefix") + key()
		s.do(name, func(c *core, now time.Time) {
			_ = c.mine(k, nil, func(rec *record) {
				delete(r.mine, r.id(rec.entry()))
				c.deleteOwn(now, rec)
			})
		})
	case 8:
		o := owner()
		s.do(name, func(c *core, now time.Time) { c.endOwner(now, packOwner(o)) })
		for id, e := range r.mine {
			if e.Origin == name && e.Owner == o {
				delete(r.mine, id)
			}
		}
	case 9:
		var left, right []string
		for _, n := range s.names {
			if rapid.Bool().Draw(t, "side") {
				left = append(left, n)
			} else {
				right = append(right, n)
			}
		}
		s.partition(left, right)
	case 10:
		s.partition()
		s.noticeAll()
	case 11:
		s.notice(name)
	case 12:
		other := rapid.SampledFrom(s.names).Draw(t, "other")
		m.hides[other] = !m.hides[other] && other != name
		s.notice(name)
	case 13:
		if r.restarts && rapid.IntRange(0, 2).Draw(t, "kill") == 0 {
			s.stop(name)
			for id, e := range r.mine {
				if e.Origin == name {
					delete(r.mine, id)
				}
			}
			s.start(name)
			s.notice(name)
		}
	case 14:
		s.advance(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
	case 15:
		s.do(name, func(c *core, now time.Time) {
			r.metas++
			_ = c.putMeta(now, key(), fmt.Append(nil, r.metas), rapid.IntRange(0, 3).Draw(t, "delete") == 0)
		})
	default:
		for n := rapid.IntRange(0, 20).Draw(t, "packets"); n > 0 && len(s.wire) > 0; n-- {
			i := rapid.IntRange(0, min(len(s.wire)-1, 5)).Draw(t, "packet")
			switch rapid.IntRange(0, 9).Draw(t, "fate") {
			case 0: // lost
				s.wire = slices.Delete(s.wire, i, i+1)
			case 1: // repeated
				s.deliver(i, true)
			default:
				s.deliver(i, false)
			}
		}
	}
}

// heal lets everything work, and checks that it has come to the same everywhere.
func (r *randomRun) heal(t *rapid.T) {
	s := r.s
	s.partition()
	for _, n := range s.names {
		s.members[n].hides = map[string]bool{}
	}
	s.noticeAll()
	s.run(70 * time.Second)
	for _, n := range s.names {
		require.Empty(t, s.members[n].waiting, "a quorum registration was not decided")
		for _, cl := range s.members[n].retries {
			require.GreaterOrEqual(t, cl.tries, 100)
		}
		s.check(s.members[n])
	}
	want := dump(s.members[s.names[0]].core)
	for _, n := range s.names[1:] {
		require.Equal(t, want, dump(s.members[n].core), "%s and %s differ", s.names[0], n)
	}

	c := s.members[s.names[0]].core
	for _, sl := range c.index.slots.all() {
		require.True(t, len(sl.claims) == 1 || sl.claims[0].dup, "%q has several claims: %d", sl.key, len(sl.claims))
		require.False(t, sl.claims[0].pending, "%q is still pending", sl.key)
	}
	r.checkLosers(t, c)
	r.checkConfirmed(t)
}

// checkLosers checks that every registration is there, or that its member was
// told why not, once.
func (r *randomRun) checkLosers(t *rapid.T, c *core) {
	told := map[string]int{}
	for _, x := range r.s.conflicts {
		require.Equal(t, x.member, x.Loser.Origin, "the loser's member is told")
		require.NotEqual(t, x.Loser.Owner, x.Winner.Owner)
		told[fmt.Sprintf("%s|%d", r.id(x.Loser), x.Loser.Claimed)]++
	}
	for id, n := range told {
		require.LessOrEqual(t, n, 1, "%s was told %d times", id, n)
	}
	for id, e := range r.mine {
		if e.Owner.Kind == OwnerPid {
			continue // another member may have taken it over, and lost it
		}
		there := false
		if s := c.index.slots.slot(e.Key); s != nil {
			for _, q := range s.claims {
				there = there || q.owner == packOwner(e.Owner)
			}
		}
		if told[fmt.Sprintf("%s|%d", id, e.Claimed)] == 0 && !there {
			t.Fatalf("%s (%d) is gone, and nobody was told", id, e.Claimed)
		}
	}
}

// checkConfirmed checks that what a majority agreed to was never lost to what
// came later. Who restarts forgets what it agreed to.
func (r *randomRun) checkConfirmed(t *rapid.T) {
	if r.s.restarts > 0 {
		return
	}
	at := func(e Entry) int {
		return slices.IndexFunc(r.s.confirmed, func(c Entry) bool {
			return c.Key == e.Key && c.Origin == e.Origin && c.Owner == e.Owner && c.Claimed == e.Claimed
		})
	}
	for _, x := range r.s.conflicts {
		loser, winner := at(x.Loser), at(x.Winner)
		if loser < 0 {
			continue
		}
		require.GreaterOrEqual(t, winner, 0, "%v lost to %v, to which nobody agreed", x.Loser, x.Winner)
		require.Less(t, winner, loser, "%v lost to %v, which was confirmed later", x.Loser, x.Winner)
	}
}
