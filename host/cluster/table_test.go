package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/debughost/debughost/host/events"
)

var t0 = time.Unix(1_700_000_000, 0)

func as(name string, epoch uint64, s State) seen {
	return seen{name: name, addr: name + ":1", meta: meta{protocol: 1, epoch: epoch, id: "id"}, state: s}
}

// script drives a table, a second a step.
type script struct {
	t   *table
	now time.Time
}

func newScript() *script {
	return &script{t: newTable(Member{Name: "self", Epoch: 1, State: Alive}), now: t0}
}

func (s *script) do(f func(t *table, now time.Time)) string {
	s.now = s.now.Add(time.Second)
	f(s.t, s.now)
	told, _ := s.t.take()
	var out []string
	for _, e := range told {
		out = append(out, strings.TrimSpace(string(e.Type)+" "+e.Fields["member"]))
	}
	return strings.Join(out, ", ")
}

func (s *script) observe(all ...seen) string {
	return s.do(func(t *table, now time.Time) { t.observe(now, all) })
}

func (s *script) state(name string) State {
	if e := s.t.others[name]; e != nil {
		return e.State
	}
	return ""
}

func TestTableFollowsGossip(t *testing.T) {
	s := newScript()
	assert.Equal(t, "member_joined b", s.observe(as("self", 1, Alive), as("b", 1, Alive)))
	assert.Equal(t, "", s.observe(as("b", 1, Alive)))
	assert.Equal(t, "member_suspect b", s.observe(as("b", 1, Suspect)))
	assert.Equal(t, "member_recovered b", s.observe(as("b", 1, Alive)))
	assert.Equal(t, "member_dead b, quorum_lost", s.observe(as("b", 1, Dead)))
	assert.Equal(t, "", s.observe(as("b", 1, Dead)))
	assert.Equal(t, "", s.observe(), "gossip drops the dead, the table does not")
	assert.Equal(t, Dead, s.state("b"))
	assert.Equal(t, "member_recovered b, quorum_regained", s.observe(as("b", 1, Alive)))
	assert.Equal(t, "member_joined b", s.observe(as("b", 2, Alive)), "another life, seen at once")
	assert.Equal(t, "member_left b", s.observe(as("b", 2, Left)))
	assert.Equal(t, "", s.observe(as("b", 2, Dead)), "who has left does not die")
	assert.Equal(t, Left, s.state("b"))
	assert.Equal(t, "member_joined b", s.observe(as("b", 2, Alive)))
	assert.Equal(t, "member_dead b, quorum_lost", s.observe(), "dropped before this member looked")
	assert.Equal(t, "member_joined b, quorum_regained", s.observe(as("b", 3, Alive)))
	assert.Equal(t, "", s.observe(as("b", 3, Alive), as("c", 1, Dead)), "dead before it was known")
	assert.Equal(t, Dead, s.state("c"))
}

func TestTableAndConnections(t *testing.T) {
	s := newScript()
	s.observe(as("b", 1, Alive))
	broken := func(epoch uint64) string {
		return s.do(func(t *table, now time.Time) { t.broken(now, "b", epoch, "connection refused") })
	}
	works := func() string { return s.do(func(t *table, now time.Time) { t.works(now, "b") }) }
	assert.Equal(t, "", broken(7), "of another life")
	assert.Equal(t, "member_unreachable b, quorum_lost", broken(1))
	assert.Equal(t, "", broken(1))
	assert.Equal(t, "", s.observe(as("b", 1, Suspect)), "unreachable says more")
	assert.Equal(t, "", s.observe(as("b", 1, Alive)), "gossip may get through where calls do not")
	assert.Equal(t, Unreachable, s.state("b"))
	assert.Equal(t, "member_recovered b, quorum_regained", works())
	assert.Equal(t, s.now, s.t.others["b"].LastContact)

	broken(1)
	assert.Equal(t, "member_joined b, quorum_regained", s.observe(as("b", 2, Alive)), "a new life has no broken connection")
	broken(2)
	s.t.observe(s.now, []seen{as("b", 2, Dead)})
	told, _ := s.t.take()
	assert.Equal(t, events.MemberDead, told[0].Type)
	assert.Contains(t, told[0].Reason, "connection refused, and it did not answer")
	assert.Equal(t, "", broken(2), "it is dead")
	works()
	assert.Equal(t, Dead, s.state("b"))
	s.do(func(t *table, now time.Time) { t.works(now, "nobody"); t.answered(now, "nobody"); t.answered(now, "b") })
	assert.Equal(t, s.now, s.t.others["b"].LastContact)
}

func TestTableForgets(t *testing.T) {
	s := newScript()
	s.observe(as("b", 5, Alive), as("c", 1, Alive))
	bury := func(name string, epoch uint64) bool {
		var news bool
		s.do(func(t *table, now time.Time) { news = t.bury(now, name, epoch, now) })
		return news
	}
	assert.False(t, bury("self", 9))
	assert.False(t, bury("b", 4), "it has a newer life")
	assert.True(t, bury("b", 5))
	assert.False(t, bury("b", 5), "no news")
	assert.Equal(t, Alive, s.state("b"), "it may not have died for this member yet")
	assert.Equal(t, "", s.observe(as("b", 5, Alive), as("c", 1, Alive)), "nor now")
	assert.Equal(t, "member_suspect b", s.observe(as("b", 5, Suspect), as("c", 1, Alive)))
	assert.Equal(t, "member_forgotten b", s.observe(as("b", 5, Dead), as("c", 1, Alive)))
	assert.Equal(t, "", s.observe(as("b", 5, Dead), as("c", 1, Alive)))
	assert.Equal(t, 2, s.t.quorum().Size)

	// Lists of others do not bring it back, its next life does, or itself.
	claimed := func(epoch uint64) State {
		s.do(func(t *table, now time.Time) { t.learn(now, []claim{{name: "b", epoch: epoch, addr: "b:1"}}) })
		return s.state("b")
	}
	assert.Equal(t, State(""), claimed(5))
	assert.Equal(t, Dead, claimed(6))
	assert.True(t, bury("b", 6))
	assert.Equal(t, State(""), s.state("b"))
	assert.Equal(t, "member_joined b", s.observe(as("b", 6, Alive), as("c", 1, Alive)))
	assert.Equal(t, "member_dead b", s.observe(as("b", 6, Dead), as("c", 1, Alive)), "it ran, after all")

	s.observe(as("b", 6, Alive), as("c", 1, Alive))
	assert.True(t, bury("b", 6))
	s.now = s.now.Add(deathIsHeard)
	s.observe(as("b", 6, Alive), as("c", 1, Alive))
	assert.Equal(t, "member_dead b", s.observe(as("b", 6, Dead), as("c", 1, Alive)), "it was alive for too long since")

	assert.False(t, s.t.bury(s.now, "b", 6, s.now.Add(-2*tombstoneAge)), "too long ago")
	s.t.bury(s.now, "b", 6, s.now)
	s.now = s.now.Add(2 * tombstoneAge)
	s.observe(as("c", 1, Alive))
	assert.Empty(t, s.t.forgotten)
}

func TestTableLearns(t *testing.T) {
	s := newScript()
	s.observe(as("alive", 5, Alive))
	learn := func(c ...claim) { s.do(func(t *table, now time.Time) { t.learn(now, c) }) }
	learn(
		claim{name: "self", epoch: 9}, claim{name: "alive", epoch: 9, left: true},
		claim{name: "x", epoch: 5, age: time.Minute}, claim{name: "y", epoch: 5, left: true},
	)
	assert.Equal(t, Alive, s.state("alive"))
	assert.Equal(t, Dead, s.state("x"))
	assert.Equal(t, s.now.Add(-time.Minute), s.t.others["x"].Since)
	assert.Equal(t, Left, s.state("y"))
	learn(claim{name: "x", epoch: 4, left: true}, claim{name: "y", epoch: 5})
	assert.Equal(t, Dead, s.state("x"), "of an earlier life")
	assert.Equal(t, Left, s.state("y"))
	learn(claim{name: "x", epoch: 5, left: true}, claim{name: "y", epoch: 6})
	assert.Equal(t, Left, s.state("x"), "it is known better that it left")
	assert.Equal(t, Dead, s.state("y"))
	assert.Equal(t, Quorum{Size: 3, Alive: 2, Need: 2, Has: true}, Quorum{3, 2, 2, true})
	assert.Equal(t, Quorum{Size: 3, Alive: 2, Need: 2, Has: true}, s.t.quorum())
	assert.Len(t, s.t.claims(s.now), 2)
}

func TestTableIsBounded(t *testing.T) {
	s := newScript()
	s.observe(as("alive", 1, Alive))
	for i := range maxKnown + 100 {
		s.do(func(t *table, now time.Time) { t.learn(now, []claim{{name: fmt.Sprint("n", i), epoch: 1}}) })
	}
	assert.Len(t, s.t.others, maxKnown)
	assert.Equal(t, Alive, s.state("alive"))
	assert.Equal(t, State(""), s.state("n0"), "the longest gone goes first")
	assert.Len(t, share{gone: s.t.claims(s.now)}.append(nil), len(share{gone: s.t.claims(s.now)[:maxShared]}.append(nil)))
}

func TestTableClash(t *testing.T) {
	s := newScript()
	clash := func(why string) string {
		return s.do(func(t *table, now time.Time) { t.setClash(now, "a:1", why) })
	}
	assert.Equal(t, "quorum_lost", clash("another one"))
	assert.Equal(t, "", clash("another one"))
	assert.Equal(t, "quorum_regained", clash(""))
}

// Whatever the order of what is heard, two tables that hear of the same last
// states agree on who is alive, the quorum follows from the states, and its
// events alternate.
func TestTableProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScript()
		names := []string{"a", "b", "c", "self"}
		had := true
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			epoch := rapid.Uint64Range(1, 3).Draw(t, "epoch")
			said := s.do(func(tab *table, now time.Time) {
				switch rapid.IntRange(0, 5).Draw(t, "what") {
				case 0:
					tab.broken(now, name, epoch, "refused")
				case 1:
					tab.works(now, name)
				case 2:
					tab.bury(now, name, epoch, now)
				case 3:
					tab.learn(now, []claim{{name: name, epoch: epoch, left: epoch == 2}})
				default:
					var all []seen
					for _, n := range names {
						if rapid.Bool().Draw(t, "there") {
							all = append(all, as(n, epoch, rapid.SampledFrom([]State{Alive, Suspect, Dead, Left}).Draw(t, "state")))
						}
					}
					tab.observe(now, all)
				}
			})
			for _, e := range strings.Split(said, ", ") {
				switch e {
				case string(events.QuorumLost):
					require.True(t, had)
					had = false
				case string(events.QuorumRegained):
					require.False(t, had)
					had = true
				}
			}
			q := s.t.quorum()
			require.Equal(t, q.Has, had)
			alive, size := 0, 0
			for _, m := range s.t.members() {
				if m.State != Left {
					size++
				}
				if m.State.Usable() {
					alive++
				}
			}
			require.Equal(t, Quorum{Size: size, Alive: alive, Need: size/2 + 1, Has: 2*alive > size}, q)
			require.NotContains(t, s.t.others, "self")
		}
		last := []seen{as("a", 9, Alive), as("b", 9, Suspect), as("c", 9, Left)}
		other := newScript()
		other.observe(last...)
		rand.Shuffle(len(last), func(i, j int) { last[i], last[j] = last[j], last[i] })
		s.observe(last...)
		require.Equal(t, other.t.view(), s.t.view())
	})
}

func TestMembersAreSorted(t *testing.T) {
	s := newScript()
	s.observe(as("z", 1, Alive), as("a", 1, Alive))
	names := []string{}
	for _, m := range s.t.members() {
		names = append(names, m.Name)
	}
	assert.True(t, slices.IsSorted(names))
	assert.Equal(t, []string{"a", "self", "z"}, names)
}
