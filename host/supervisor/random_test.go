package supervisor

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk"
)

var (
	simSeed  = flag.Uint64("seed", 0, "run this one random schedule, and print what happens")
	simSeeds = flag.Int("seeds", 1000, "how many random schedules to run")
)

// seeing bounds how long a child may run twice on members that see each other:
// as long as they need to notice that they do, and to stop one.
const seeing = 4 * time.Second

// passing is the same for a child whose moves take its state along: there the old
// run goes on for as long as the new one takes to begin, and the word of that to
// come.
const passing = 6 * time.Second

// moment is as long as two members take that have come into sight at different
// times. One that comes back while its child is being placed elsewhere starts it,
// and hears of that then.
const moment = 500 * time.Millisecond

// TestRandomSchedules has clusters of three to five members go through kills,
// restarts, freezes, partitions, clock jumps, lost messages, failing plugins,
// crashing children, reloads and impatient operators; then lets all that live see each
// other, and looks whether each child runs exactly once, and what its spec says. A schedule that fails
// is run again, with all that happens, by -seed.
func TestRandomSchedules(t *testing.T) {
	if *simSeed != 0 {
		s, wrong := schedule(*simSeed, true)
		t.Log("\n" + strings.Join(s.log, "\n"))
		if wrong != "" {
			t.Errorf("seed %d: %s", *simSeed, wrong)
		}
		return
	}
	handed, loaded, dropped := 0, 0, 0
	for seed := uint64(1); seed <= uint64(*simSeeds); seed++ {
		s, wrong := schedule(seed, false)
		handed, loaded, dropped = handed+s.handed, loaded+s.loaded, dropped+s.dropped
		if wrong != "" {
			t.Errorf("seed %d: %s (again: go test ./host/supervisor -run TestRandomSchedules -seed %d)", seed, wrong, seed)
		}
	}
	t.Logf("%d children were handed over, %d reloaded, %d starts dropped", handed, loaded, dropped)
	if *simSeeds >= 100 && (min(handed, loaded) < *simSeeds/10 || dropped < *simSeeds/20) {
		t.Errorf("%d children were handed over, %d reloaded, %d starts dropped in %d schedules: that tries little", handed, loaded, dropped, *simSeeds)
	}
}

// A schedule of every third seed has no partitions, freezes or clock jumps:
// there, no child may run twice at any time for longer than a moment, not
// even on a member that nobody sees.
func tame(seed uint64) bool { return seed%3 == 0 }

func schedule(seed uint64, loud bool) (*sim, string) {
	names := strings.Split("abcde", "")[:3+seed%3]
	if seed%9 >= 6 {
		names = names[:3]
	}
	s := newSim(seed, names...)
	if loud {
		s.log = []string{}
	}
	s.loss, s.quorum, s.active = []float64{0, 0.05, 0.3}[s.rng.IntN(3)], s.rng.IntN(4) == 0, s.rng.IntN(3) == 0
	f := &faults{sim: s, tame: tame(seed), loud: loud, gone: seed%4 == 1}
	s.badPlace = func() error {
		if f.badPlace {
			return sdk.ErrUnavailable
		}
		return nil
	}
	s.badCreate = func(string, string) error {
		if s.rng.IntN(25) == 0 {
			return errors.New("no such file")
		}
		return nil
	}
	s.badLoad = func(string) error {
		switch s.rng.IntN(10) {
		case 0:
			return errors.New("it does not compile")
		case 1:
			return fmt.Errorf("half of it: %w", sdk.ErrPanic)
		}
		return nil
	}
	s.badHand = func(string, string, string) (bool, error) {
		switch s.rng.IntN(10) {
		case 0:
			return false, errors.New("the snapshot is of another version")
		case 1:
			return true, sdk.ErrUnavailable
		}
		return false, nil
	}
	for _, n := range names {
		s.start(n)
	}
	s.run(2 * time.Second)
	for range 60 {
		f.one()
		s.run(s.between(20*time.Millisecond, 1200*time.Millisecond))
	}
	f.end()
	s.run(20 * time.Second)
	switch {
	case f.tame && s.any > moment:
		return s, fmt.Sprintf("a child ran twice for %s, without any partition", s.any)
	case s.handing > passing:
		return s, fmt.Sprintf("a child was handed over for %s", s.handing)
	case s.worst > seeing:
		return s, fmt.Sprintf("%s ran twice for %s on members that see each other", s.who, s.worst)
	}
	return s, s.settled()
}

// faults does what goes wrong in a schedule.
type faults struct {
	*sim
	tame     bool
	gone     bool
	loud     bool
	badPlace bool
}

func (f *faults) say(format string, args ...any) {
	if f.loud {
		f.logf("# "+format, args...)
	}
}

func (f *faults) pick() string { return f.names[f.rng.IntN(len(f.names))] }

// one does one thing.
func (f *faults) one() {
	m := f.pick()
	n := f.nodes[m]
	switch k := f.rng.IntN(30); {
	case k < 9:
		f.operator()
	case k < 12:
		id := f.child()
		f.say("crash %s", id)
		f.crash(id)
	case k < 20 && f.tame && n.core != nil && !f.calm():
	case k < 15 && n.core != nil && !n.core.leaving:
		f.say("kill %s", m)
		f.kill(m)
	case k < 19 && n.core == nil:
		f.say("start %s", m)
		f.start(m)
	case k < 20 && n.core != nil && !n.frozen && !n.core.leaving:
		f.say("leave %s", m)
		f.leave(m)
	case k < 21:
		f.badPlace = !f.badPlace
		f.say("placement bad: %v", f.badPlace)
	case k < 22:
		f.box(m, !n.badBox)
		f.say("sandboxes of %s bad: %v", m, n.badBox)
	case k < 24:
		on := f.rng.IntN(2) == 0
		f.say("drain %s: %v", m, on)
		f.drain(m, on)
	case f.tame:
	default:
		f.wild(m, n)
	}
}

// calm tells whether all members have been there for a while: without that,
// what is known best may be known by those only that are gone.
func (f *faults) calm() bool {
	for _, n := range f.nodes {
		if n.core == nil || n.core.leaving || f.now-n.since < 3*time.Second {
			return false
		}
	}
	return true
}

func (f *faults) wild(m string, n *simNode) {
	switch k := f.rng.IntN(10); {
	case k < 3:
		f.cut = map[[2]string]bool{}
		sides := map[string]int{}
		for _, a := range f.names {
			sides[a] = f.rng.IntN(2)
		}
		for _, a := range f.names {
			for _, b := range f.names {
				if sides[a] != sides[b] {
					f.cut[[2]string{a, b}] = true
				}
			}
		}
		f.say("partition %v", sides)
	case k < 4:
		a, b := f.pick(), f.pick()
		f.say("cut %s %s", a, b)
		f.cut[[2]string{a, b}] = true
	case k < 7:
		f.say("heal")
		f.cut = map[[2]string]bool{}
	case k < 8 && n.core != nil && !n.frozen:
		f.say("freeze %s", m)
		f.freeze(m)
	case k < 9:
		f.say("thaw %s", m)
		f.thaw(m)
	default:
		n.skew = f.between(-time.Hour, time.Hour)
		f.say("clock of %s: %s", m, n.skew)
	}
}

// bundleID is the id of one of many blobs.
func bundleID(n int) string { return fmt.Sprintf("%064x", n) }

func (f *faults) child() string { return fmt.Sprintf("x%d", f.rng.IntN(10)) }

func (f *faults) operator() {
	r := request{id: f.child(), member: f.pick(), kind: []requestKind{askStart, askStart, askStart, askStart, askStop, askRestart, askRestart, askMove, askRemove, askReload, askReload, askReload}[f.rng.IntN(12)]}
	if r.kind == askStart {
		s := Spec{ID: r.id, Strategy: "process", Restart: []sdk.Restart{sdk.RestartPermanent, sdk.RestartPermanent, sdk.RestartTransient, sdk.RestartTemporary}[f.rng.IntN(4)]}
		if f.rng.IntN(2) == 0 {
			s.Handoff = sdk.HandoffSnapshot
		}
		s = s.complete()
		r.spec = &s
	}
	if r.kind == askReload {
		r.bundle = bundleID(f.rng.IntN(1000))
	}
	at := f.pick()
	err := f.request(at, r)
	f.say("%s %s %s at %s: %v", r.kind, r.id, r.member, at, err)
}

// end has everything well again. In some schedules members are gone for good,
// and with them perhaps what they alone had confirmed.
func (f *faults) end() {
	if f.gone {
		clear(f.sure)
		f.quorum = false // there may be no majority any more
	}
	f.say("end")
	f.cut = map[[2]string]bool{}
	f.badPlace, f.loss = false, 0
	for i, m := range f.names {
		n := f.nodes[m]
		f.thaw(m)
		if n.core != nil && n.core.leaving {
			f.kill(m)
		}
		f.box(m, false)
		f.drain(m, false)
		if n.core == nil && (i == 0 || !f.gone || f.rng.IntN(3) > 0) {
			f.start(m)
		}
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
