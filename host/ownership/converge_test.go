package ownership

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world is one node and the members that may see it, in virtual time. What a
// member says reaches another one when deliver runs for that one, and what two
// have both claimed is resolved when resolve does.
type world struct {
	now     time.Time
	clock   int // of claims
	members []*actor
	moves   int
	holder  map[int]int // by part of the network: who was the last
}

type actor struct {
	id             int
	name           string
	local, able    bool // able: its attempts succeed
	sees, attached bool
	part           int // of the network
	trial          trial
	said           *sight // in its own words; nil: it says nothing
	claimed        int    // 0: it has no claim
	heard          map[int]word
}

// word is what one member knows of another one.
type word struct {
	said    *sight
	claimed int
}

func (w *world) deliver(a *actor) {
	a.heard = map[int]word{}
	for _, o := range w.members {
		if o != a && o.part == a.part {
			a.heard[o.id] = word{o.said, o.claimed}
		}
	}
}

// resolve takes the claim of those who lose it to an older one.
func (w *world) resolve(a *actor) {
	for _, o := range w.members {
		if o != a && o.part == a.part && o.claimed != 0 && a.claimed != 0 && o.claimed < a.claimed {
			a.claimed = 0
		}
	}
}

// step has one member act on what it has heard. It tells whether it did
// anything, and when it is to act again.
func (w *world) step(a *actor) (acted bool, next time.Time) {
	before := *a
	v := view{Node: "n@h", Self: a.name, Attached: a.attached, Local: a.local, Listed: a.sees}
	oldest := a.claimed
	if a.claimed != 0 {
		v.Holder = a.name
	}
	hopeless := false
	for _, id := range slices.Sorted(maps.Keys(a.heard)) {
		o := w.members[id]
		if o.part != a.part {
			continue // out of sight
		}
		h := a.heard[id]
		if h.claimed != 0 && (oldest == 0 || h.claimed < oldest) {
			oldest, v.Holder = h.claimed, o.name
			hopeless = h.said != nil && h.said.Failed
		}
		if h.said != nil {
			v.Seen = append(v.Seen, *h.said)
		}
	}
	is := unknown
	switch {
	case a.attached:
		is = attached
	case a.sees && a.claimed != 0 && !a.able:
		is = failing
	}
	next = a.trial.next(w.now, 1, is, v.Holder == a.name, hopeless)
	a.said = nil
	if a.sees {
		a.said = &sight{Member: a.name, Local: a.local, Failed: a.trial.failed, Failures: a.trial.failures}
		v.Seen = append(v.Seen, *a.said)
	}
	switch act, _ := decide(v); act {
	case claim:
		w.clock++
		a.claimed = w.clock
		a.attached = a.able
	case keep:
		a.attached = a.attached || a.able && a.sees
	case release:
		a.claimed, a.attached = 0, false
	case wait:
		a.attached = false
	}
	w.note()
	said := (before.said == nil) == (a.said == nil) && (a.said == nil || *before.said == *a.said)
	return !said || before.claimed != a.claimed || before.attached != a.attached, next
}

// note counts the moves.
func (w *world) note() {
	for part := range 2 {
		if h := w.winner(part); h != nil && w.holder[part] != h.id {
			w.holder[part] = h.id
			w.moves++
		}
	}
}

func (w *world) winner(part int) (best *actor) {
	for _, a := range w.members {
		if a.part == part && a.claimed != 0 && (best == nil || a.claimed < best.claimed) {
			best = a
		}
	}
	return best
}

// run lets everything reach everybody until nothing happens for a span of
// virtual time.
func (w *world) run(t *rapid.T, span time.Duration) {
	for end := w.now.Add(span); w.now.Before(end); {
		next := end
		for range 1000 {
			acted := false
			next = end
			for _, i := range rapid.Permutation(indices(len(w.members))).Draw(t, "order") {
				a := w.members[i]
				w.deliver(a)
				w.resolve(a)
				did, at := w.step(a)
				acted = acted || did
				if !at.IsZero() && at.Before(next) {
					next = at
				}
			}
			if !acted {
				break
			}
			if w.moves > 1000 {
				t.Fatalf("it does not come to an end")
			}
		}
		w.now = w.now.Add(max(next.Sub(w.now), time.Millisecond))
	}
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// TestConverges has members say, claim, fail, come and go in any order, and hear
// of each other late. When nothing more happens each part of the network in which
// somebody sees the node has one owner, who is attached if anybody can, is on its
// machine if such a one can, and stays.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{now: time.Unix(1e9, 0), holder: map[int]int{0: -1, 1: -1}}
		n := rapid.IntRange(1, 5).Draw(t, "members")
		for i := range n {
			w.members = append(w.members, &actor{
				id: i, name: string(rune('a' + i)),
				local: rapid.Bool().Draw(t, "local"), able: rapid.Bool().Draw(t, "able"), sees: rapid.Bool().Draw(t, "sees"),
			})
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			a := w.members[rapid.IntRange(0, n-1).Draw(t, "member")]
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				a.sees = !a.sees
				a.trial = trial{news: 1} // discovery had news
			case 1:
				a.part = 1 - a.part
			case 2:
				a.able = !a.able
				a.attached = a.attached && a.able
			case 3:
				w.deliver(a)
			case 4:
				w.resolve(a)
			case 5:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 60_000).Draw(t, "ms")) * time.Millisecond)
			default:
				w.step(a)
			}
		}
		w.moves = 0
		w.run(t, 20*time.Second)
		w.check(t, false)
		if w.moves > 6*n {
			t.Fatalf("%d moves until it was quiet, among %d members", w.moves, n)
		}
		w.moves = 0
		w.run(t, 30*time.Minute)
		w.check(t, true)
		for part := range 2 {
			if h := w.winner(part); h != nil && !h.attached && w.moves > 2*12*n {
				t.Fatalf("%d moves in half an hour, though nobody can attach", w.moves)
			}
		}
	})
}

// check is what holds once it is quiet; later, also for those who were not able
// before.
func (w *world) check(t *rapid.T, later bool) {
	for part := range 2 {
		var holders, seers, can, canLocal, failed, failedLocal int
		for _, a := range w.members {
			if a.part != part {
				continue
			}
			if a.claimed != 0 {
				holders++
			} else if a.attached {
				t.Fatalf("%s is attached and does not hold it", a.name)
			}
			if a.sees {
				seers++
				if a.trial.failed {
					failed++
					if a.local {
						failedLocal++
					}
				}
				if a.able && (later || !a.trial.failed) {
					can++
					if a.local && a.trial.failures == 0 {
						canLocal++
					}
				}
			}
		}
		switch h := w.winner(part); {
		case holders > 1 || seers > 0 && holders != 1:
			t.Fatalf("part %d has %d holders, %d see it", part, holders, seers)
		case can > 0 && !h.attached:
			t.Fatalf("%s holds it and is not attached, though %d can", h.name, can)
		case failed > 0 && failed == seers && failedLocal > 0 && !h.local && !h.attached:
			t.Fatalf("%s has it, though one on its machine has failed as everybody has", h.name)
		case canLocal > 0 && !h.local:
			t.Fatalf("%s has it, though one on its machine can", h.name)
		}
	}
}
