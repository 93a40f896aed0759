package cluster

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

// family is a crew with children that write down who they are, where and when:
// what runs twice shows in that, whatever debughost says.
type family struct {
	*crew
	a, b, c *member
	diary   string
	ids     []string
}

const familySize = 18

func newFamily(t *testing.T) *family {
	l := newLab(t, "a", "b", "c")
	m := l.machines
	diary, err := os.MkdirTemp("", "diary")
	require.NoError(t, err)
	t.Cleanup(func() { // those that outlive their members for a while still write
		assert.NoError(t, rig.Until(rig.Patience, func() error { return os.RemoveAll(diary) }))
	})
	f := &family{crew: newCrew(t, l), diary: diary}
	f.a = f.start("a", m[0], nil)
	f.b = f.start("b", m[1], nil)
	f.c = f.start("c", m[2], nil)
	for _, p := range f.members {
		p.awaitStates(t, map[string]string{"a": "alive", "b": "alive", "c": "alive"})
	}
	var starts sync.WaitGroup
	errs := make([]error, familySize)
	for i := range familySize {
		id := fmt.Sprintf("child-%d", i)
		f.ids = append(f.ids, id)
		starts.Go(func() {
			p := f.members[i%3] // what Try adds at the end is the shell's, which ignores it
			_, stderr, err := p.Try("--data-dir", p.Dir, "child", "start", id, "--", "sh", "-c", f.script(id))
			if err != nil {
				errs[i] = fmt.Errorf("%w: %s", err, stderr)
			}
		})
		if i%6 == 5 {
			starts.Wait()
		}
	}
	starts.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	f.allRun(t, f.members)
	return f
}

// beat is how often a child writes.
const beat = 100 * time.Millisecond

// script has a child write down which run of it this is, by its machine and its
// start, and the time.
func (f *family) script(id string) string {
	return fmt.Sprintf(`m=$(readlink /proc/self/ns/net)-$(date +%%s%%N); while :; do echo "$m $(date +%%s%%N)" >> %s; sleep %.1f; done`,
		filepath.Join(f.diary, id), beat.Seconds())
}

type childRow struct {
	ID, Member, State, Reason string
	Epoch                     uint64
}

func (p *member) children() (map[string]childRow, error) {
	var a struct{ Children []childRow }
	if err := p.TryJSON(&a, "child", "list"); err != nil {
		return nil, err
	}
	out := map[string]childRow{}
	for _, c := range a.Children {
		out[c.ID] = c
	}
	return out, nil
}

// allRun waits until members say of all children that they run, and agree where.
func (f *family) allRun(t *testing.T, members []*member) {
	t.Helper()
	members[0].Eventually(t, func() error {
		var first map[string]childRow
		for _, p := range members {
			got, err := p.children()
			if err != nil {
				return err
			}
			for _, id := range f.ids {
				if got[id].State != "running" || first != nil && first[id].Member != got[id].Member {
					return fmt.Errorf("%s says of %s: %+v", p.name, id, got[id])
				}
			}
			first = got
		}
		return nil
	})
}

// beats are the times at which a child wrote, by run.
func (f *family) beats(t *testing.T, id string) map[string][]time.Time {
	t.Helper()
	file, err := os.Open(filepath.Join(f.diary, id))
	require.NoError(t, err)
	defer file.Close()
	out := map[string][]time.Time{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		where, when, ok := strings.Cut(lines.Text(), " ")
		ns, err := strconv.ParseInt(when, 10, 64)
		if !ok || err != nil {
			continue // it was killed while it wrote
		}
		out[where] = append(out[where], time.Unix(0, ns))
	}
	return out
}

// twice is for how long two runs of a child went on at once after a time.
func (f *family) twice(t *testing.T, id string, after time.Time) time.Duration {
	t.Helper()
	type span struct{ first, last time.Time }
	var all []span
	for _, times := range f.beats(t, id) {
		times = slices.DeleteFunc(times, func(x time.Time) bool { return !x.After(after) })
		if len(times) > 0 {
			all = append(all, span{times[0], times[len(times)-1]})
		}
	}
	slices.SortFunc(all, func(x, y span) int { return x.first.Compare(y.first) })
	var worst time.Duration
	for i := 1; i < len(all); i++ {
		worst = max(worst, all[i-1].last.Sub(all[i].first))
	}
	return worst
}

func (f *family) noneTwice(t *testing.T, after time.Time) {
	t.Helper()
	for _, id := range f.ids {
		assert.Zero(t, f.twice(t, id, after), "%s ran twice", id)
	}
}

// beating waits until each child has written something since a time.
func (f *family) beating(t *testing.T, since time.Time) {
	t.Helper()
	f.members[0].Eventually(t, func() error {
		for _, id := range f.ids {
			alive := false
			for _, times := range f.beats(t, id) {
				alive = alive || times[len(times)-1].After(since)
			}
			if !alive {
				return fmt.Errorf("%s has not written since", id)
			}
		}
		return nil
	})
}

// A member is killed: none of its children is lost, and none runs twice, not even
// where nobody sees it. When it is back it leaves what has moved where it is.
func TestChildrenOfAMemberThatIsKilled(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	began := time.Now()
	f.b.Kill()
	rest := []*member{f.a, f.c}
	for _, p := range rest {
		p.awaitStates(t, map[string]string{"b": "dead"})
	}
	f.allRun(t, rest)
	f.beating(t, time.Now())
	f.b.again(t)
	f.allRun(t, f.members)
	f.beating(t, time.Now())
	f.noneTwice(t, began.Add(-time.Minute))
}

// A member that is killed and back at once takes over what runs.
func TestChildrenOfAMemberThatIsRestarted(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	before, err := f.b.children()
	require.NoError(t, err)
	f.b.Kill()
	f.b.again(t)
	f.allRun(t, f.members)
	f.beating(t, time.Now())
	f.noneTwice(t, time.Time{})
	after, err := f.b.children()
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

// Both sides of a partition run all children; five seconds after it none runs
// twice.
func TestChildrenInAPartition(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	m := f.lab.machines
	f.lab.partition(m[:1], m[1:])
	f.a.awaitStates(t, map[string]string{"b": "dead", "c": "dead"})
	f.b.awaitStates(t, map[string]string{"a": "dead", "c": "alive"})
	f.allRun(t, []*member{f.a})
	f.allRun(t, []*member{f.b, f.c})
	f.lab.heal()
	healed := time.Now()
	f.allRun(t, f.members)
	f.beating(t, healed.Add(5*time.Second))
	f.allRun(t, f.members)
	f.noneTwice(t, healed.Add(5*time.Second))
}

// A frozen member is replaced; five seconds after it has thawed none runs twice.
func TestChildrenOfAMemberThatIsFrozen(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	require.NoError(t, f.b.Cmd.Process.Signal(syscall.SIGSTOP))
	rest := []*member{f.a, f.c}
	for _, p := range rest {
		p.awaitStates(t, map[string]string{"b": "dead"})
	}
	f.allRun(t, rest)
	require.NoError(t, f.b.Cmd.Process.Signal(syscall.SIGCONT))
	thawed := time.Now()
	f.allRun(t, f.members)
	f.beating(t, thawed.Add(5*time.Second))
	f.allRun(t, f.members)
	f.noneTwice(t, thawed.Add(5*time.Second))
}

// A member that leaves hands its children over, and one that is drained is empty
// then; a planned move runs nothing twice.
func TestChildrenOfAMemberThatLeaves(t *testing.T) {
	t.Parallel()
	f := newFamily(t)
	f.a.Exit(t, 0, "drain", "c")
	got, err := f.a.children()
	require.NoError(t, err)
	for id, c := range got {
		assert.NotEqual(t, "c", c.Member, id)
	}
	f.a.Exit(t, 0, "drain", "c", "--undo")
	f.b.Term(t)
	rest := []*member{f.a, f.c}
	f.allRun(t, rest)
	f.beating(t, time.Now())
	f.noneTwice(t, time.Time{})
}
