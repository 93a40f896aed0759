//go:build soak

package cluster

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

var (
	soakTime = flag.Duration("soak", 10*time.Minute, "how long to go on")
	soakSeed = flag.Uint64("seed", 0, "what chose the faults of an earlier run; 0 means a new one")
)

// TestSoak mixes faults at random, and after each round has everything healed
// and looks whether all is as it should be: one view, one owner of each node, and
// every name there that a majority had confirmed. The same seed chooses the same
// faults.
//
//	make soak                       # ten minutes
//	make soak SOAK=1h SEED=123
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	l := newLab(t, "a", "b", "c", "d", "e")
	s := &soak{crew: newCrew(t, l), t: t, rand: rand.New(rand.NewPCG(seed, 0)), keys: map[string]bool{}}
	for _, m := range l.machines {
		s.nodes = append(s.nodes, node(t, m, "n"+m.name, erltest.Options{OTP: []string{"25", "27", "29"}[len(s.nodes)%3]}))
	}
	for _, m := range l.machines[:4] {
		s.start(m.name, m, l.machines)
	}
	s.settle()
	end := time.Now().Add(*soakTime)
	for time.Now().Before(end) {
		s.round()
	}
	t.Logf("seed %d: %d rounds, %d names", seed, s.rounds, len(s.keys))
}

type soak struct {
	*crew
	t      *testing.T
	rand   *rand.Rand
	nodes  []*erltest.Beam
	keys   map[string]bool // confirmed by a majority
	rounds int
	count  int
	frozen []*member
	downed []*erltest.Beam
}

// round does one to three faults, uses the cluster meanwhile, heals and checks.
func (s *soak) round() {
	s.rounds++
	for range 1 + s.rand.IntN(3) {
		s.fault()
		s.use()
		<-time.After(time.Duration(s.rand.IntN(3000)) * time.Millisecond)
		s.use()
	}
	s.heal()
	s.settle()
}

// fault does one. At most one member is down at a time: a name that a majority
// has confirmed is in the memory of two.
func (s *soak) fault() {
	m := s.lab.machines
	p := s.members[s.rand.IntN(len(s.members))]
	down := len(s.frozen) > 0 || len(s.running()) < len(s.members)
	switch n := s.rand.IntN(8); {
	case n == 0 && !down:
		s.log("kill -9 of %s", p.name)
		p.Kill()
	case n == 1 && !down:
		s.log("stop of %s", p.name)
		p.Term(s.t)
	case n == 2 && !down:
		s.log("%s is frozen", p.name)
		require.NoError(s.t, p.Cmd.Process.Signal(syscall.SIGSTOP))
		s.frozen = append(s.frozen, p)
	case n == 3:
		cut := s.rand.IntN(len(m)-1) + 1
		order := s.rand.Perm(len(m))
		var one, two []*machine
		for i, k := range order {
			if i < cut {
				one = append(one, m[k])
			} else {
				two = append(two, m[k])
			}
		}
		s.log("partition of %d and %d machines", len(one), len(two))
		s.lab.partition(one, two)
	case n == 4:
		order := s.rand.Perm(len(m))
		a, b := m[order[0]], m[order[1]]
		s.log("%s hears nothing of %s", a.name, b.name)
		a.deaf(b)
	case n == 5:
		s.log("a tenth of all packets is lost")
		s.lab.lose(0.1)
	case n == 6:
		s.log("the network is whole")
		s.lab.heal()
	default:
		if b := s.nodes[s.rand.IntN(len(s.nodes))]; !slices.Contains(s.downed, b) {
			s.log("%s is killed", b.Name)
			b.Kill()
			s.downed = append(s.downed, b)
		}
	}
}

// use asks and writes at a member that answers. What fails must say why.
func (s *soak) use() {
	var able []*member
	for _, p := range s.running() {
		if !slices.Contains(s.frozen, p) {
			able = append(able, p)
		}
	}
	p := able[s.rand.IntN(len(able))]
	s.count++
	key := fmt.Sprintf("soak/%d", s.count)
	_, stderr, err := p.Try("registry", "register", key, "--ttl", "2h", "--consistency", "quorum", "--timeout", "3s")
	if err == nil {
		s.keys[key] = true
	} else {
		require.NotEmpty(s.t, stderr)
	}
	if _, stderr, err = p.Try("ps", "--limit", "3", "--timeout", "2s"); err != nil {
		require.NotEmpty(s.t, stderr)
	}
}

func (s *soak) heal() {
	s.lab.heal()
	for _, p := range s.frozen {
		require.NoError(s.t, p.Cmd.Process.Signal(syscall.SIGCONT))
	}
	for _, p := range s.members {
		if !slices.Contains(s.running(), p) {
			p.again(s.t)
		}
	}
	for _, b := range s.downed {
		require.NoError(s.t, b.Restart(s.t.Context()))
	}
	s.frozen, s.downed = nil, nil
}

func (s *soak) settle() {
	began := time.Now()
	var keys []string
	for key := range s.keys {
		keys = append(keys, key)
	}
	err := rig.Until(rig.Patience, func() error { return s.oneView(s.nodes, keys) })
	require.NoError(s.t, err, "round %d", s.rounds)
	s.log("settled after %v", time.Since(began).Round(10*time.Millisecond))
}

func (s *soak) log(format string, args ...any) {
	s.t.Logf("%s round %d: %s", time.Now().Format("15:04:05.000"), s.rounds, fmt.Sprintf(format, args...))
}
