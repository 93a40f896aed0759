package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/test/rig"
)

// childSource is what each child runs. It holds a lock that belongs to its id: one that
// runs beside another of the same id cannot have it, and writes so into the log, as it
// writes when it begins. The kernel lets go of the lock when the child has ended, so that
// no overlap is missed, however short. It is in C, so as to take little of the machine:
// what hundreds of them take at once is measured with the rest.
const childSource = `
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char *id;
static int log_fd;

static int says(const char *what) {
	char line[256];
	int n = snprintf(line, sizeof line, "%s %s %d\n", what, id, (int)getpid());
	return write(log_fd, line, n) == n;
}

int main(int argc, char **argv) { /* TOKEN ID DIR */
	char path[4096];
	if (argc != 4)
		return 2;
	id = argv[2];
	snprintf(path, sizeof path, "%s/log", argv[3]);
	if ((log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666)) < 0)
		return 3;
	snprintf(path, sizeof path, "%s/%s.lock", argv[3], id);
	int lock = open(path, O_RDWR | O_CREAT, 0666);
	if (lock < 0)
		return 4;
	if (flock(lock, LOCK_EX | LOCK_NB) != 0 && !(says("twice") && flock(lock, LOCK_EX) == 0 && says("alone")))
		return 5;
	if (!says("begins"))
		return 6;
	for (;;)
		pause();
}
`

// childProgram is childSource, compiled beside the programs under test.
var childProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(rig.Bin, "test-child")
	cmd := exec.Command("cc", "-static", "-O1", "-o", program, "-x", "c", "-")
	cmd.Stdin = strings.NewReader(childSource)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile what the children run: %w: %s", err, out)
	}
	return program, nil
})

// nursery watches the children that it has had started.
type nursery struct {
	t       testing.TB
	crew    *crew
	dir     string // of locks and log
	program string
	token   string // what the arguments of its children begin with
	ids     []string
}

func newNursery(t testing.TB, c *crew) *nursery {
	t.Helper()
	dir := rig.TempDir(t)
	require.NoError(t, os.Chmod(dir, 0o777))
	program, err := childProgram()
	require.NoError(t, err)
	n := &nursery{t: t, crew: c, dir: dir, program: program, token: "dhchild-" + filepath.Base(dir)}
	t.Cleanup(n.empty)
	return n
}

// empty checks that nothing outlives the members, once these are gone, and ends
// what does.
func (n *nursery) empty() {
	for _, p := range n.crew.running() {
		p.Kill()
	}
	err := rig.Until(rig.Patience, func() error {
		if left := n.processes(); len(left) > 0 {
			return fmt.Errorf("children without a member: %v", left)
		}
		return nil
	})
	for _, pids := range n.processes() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if err != nil {
		n.t.Error(err)
	}
}

// start has count children started through one member.
func (n *nursery) start(p *member, count int, change func(*controlpb.ChildSpec)) {
	n.t.Helper()
	client := p.dial(n.t)
	g, ctx := errgroup.WithContext(n.t.Context())
	g.SetLimit(16)
	for i := range count {
		id := fmt.Sprintf("child-%04d", len(n.ids)+i)
		spec := n.spec(id)
		if change != nil {
			change(spec)
		}
		g.Go(func() error {
			_, err := client.Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: spec})
			return err
		})
		defer func() { n.ids = append(n.ids, id) }()
	}
	require.NoError(n.t, g.Wait())
}

func (n *nursery) spec(id string) *controlpb.ChildSpec {
	config, err := json.Marshal(map[string]any{"command": []string{n.program, n.token, id, n.dir}})
	require.NoError(n.t, err)
	return &controlpb.ChildSpec{Id: id, Strategy: "process", Config: string(config), ShutdownTimeout: durationpb.New(2 * time.Second)}
}

// processes are the OS processes of the children by id: those that hold the lock,
// and those that wait for it.
func (n *nursery) processes() map[string][]int {
	out := map[string][]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		args := strings.Split(string(bytes.TrimRight(raw, "\x00")), "\x00")
		id := ""
		if len(args) > 2 && args[0] == n.program && args[1] == n.token {
			id = args[2]
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && id != "" {
			out[id] = append(out[id], pid)
		}
	}
	return out
}

// once checks that each child that should run does so once.
func (n *nursery) once() error {
	procs := n.processes()
	var errs []error
	for _, id := range n.ids {
		if len(procs[id]) != 1 {
			errs = append(errs, fmt.Errorf("%s runs %d times", id, len(procs[id])))
		}
	}
	if len(errs) > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d others", len(errs)-5))
	}
	return errors.Join(errs...)
}

// settled waits until each child runs once, and all members say so.
func (n *nursery) settled(limit time.Duration) {
	n.t.Helper()
	began := time.Now()
	require.NoError(n.t, rig.Until(limit, func() error {
		if err := n.once(); err != nil {
			return err
		}
		for _, p := range n.crew.running() {
			if err := n.agrees(p); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		return nil
	}))
	n.t.Logf("each child runs once after %v", time.Since(began).Round(10*time.Millisecond))
}

// agrees checks that a member knows of all children that they run.
func (n *nursery) agrees(p *member) error {
	rows, err := p.children()
	if err != nil {
		return err
	}
	for _, id := range n.ids {
		if r := rows[id]; r.State != "running" || r.Member == "" {
			return fmt.Errorf("says that %s is %+v", id, r)
		}
	}
	return nil
}

// overlaps is how many times a child began beside itself.
func (n *nursery) overlaps() int { return n.noted("twice ") }

// noted is how many lines of the log begin so. It is asked for while others work, and
// costs little.
func (n *nursery) noted(what string) int {
	n.t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.dir, "log"))
	require.NoError(n.t, err)
	return bytes.Count(append([]byte("\n"), raw...), []byte("\n"+what))
}

// begun is how many times a child has begun.
func (n *nursery) begun() int { return n.noted("begins ") }

// on is how many children a member says that another has.
func (n *nursery) on(p *member, name string) (count int) {
	n.t.Helper()
	rows, err := p.children()
	require.NoError(n.t, err)
	for _, r := range rows {
		if r.Member == name {
			count++
		}
	}
	return count
}

// lastBegin is when the last of the children began, which is when one wrote last.
func (n *nursery) lastBegin() time.Time {
	n.t.Helper()
	log, err := os.Stat(filepath.Join(n.dir, "log"))
	require.NoError(n.t, err)
	return log.ModTime()
}

// threeMembers starts three members, each on a machine of its own, that see each other.
func threeMembers(t testing.TB) (*lab, *crew) {
	l := newLab(t, "a", "b", "c")
	c := newCrew(t, l)
	for _, m := range l.machines {
		c.start(m.name, m, nil)
	}
	c.settled(nil)
	return l, c
}

// All members are killed at once: what was confirmed is there again.
func TestAllMembersKilled(t *testing.T) {
	_, c := threeMembers(t)
	n := newNursery(t, c)
	n.start(c.members[0], 30, nil)
	for _, p := range c.members {
		p.Kill()
	}
	for _, p := range c.members {
		o := p.opts
		o.NoWait = true
		p.Host = rig.Start(t, o)
	}
	c.settled(nil)
	n.settled(rig.Patience)
}

// BenchmarkFailover: 900 children over three members, of which one is killed.
func BenchmarkFailover(b *testing.B) {
	for b.Loop() {
		_, c := threeMembers(b)
		n := newNursery(b, c)
		began := time.Now()
		n.start(c.members[0], 900, nil)
		starts := time.Since(began)
		n.settled(2 * time.Minute)
		before := n.overlaps()
		client, want := c.members[0].dial(b), n.begun()+n.on(c.members[0], "c")
		killed := time.Now()
		c.members[2].Kill()
		dead := await(b, client, func(state map[string]string) bool { return state["c"] == "dead" })
		require.NoError(b, rig.Until(2*time.Minute, func() error {
			if got := n.begun(); got < want {
				return fmt.Errorf("%d of %d have begun", got, want)
			}
			return nil
		}))
		n.settled(2 * time.Minute)
		b.ReportMetric(float64(900)/starts.Seconds(), "starts/s")
		b.ReportMetric(dead.Sub(killed).Seconds(), "s-until-dead")
		b.ReportMetric(n.lastBegin().Sub(dead).Seconds(), "s-from-dead-to-all-running")
		b.ReportMetric(float64(n.overlaps()-before), "twice")
		n.empty()
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHeal: 300 children, a partition of six seconds, and what runs twice five
// seconds after it has healed. The seconds are those until nothing did.
func BenchmarkHeal(b *testing.B) {
	for b.Loop() {
		l, c := threeMembers(b)
		n := newNursery(b, c)
		n.start(c.members[0], 300, nil)
		n.settled(2 * time.Minute)
		l.partition(l.machines[:2], l.machines[2:])
		pause(b, 6*time.Second)
		l.heal()
		n.untilOnce(b)
		n.settled(2 * time.Minute)
		n.empty()
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkThaw: 300 children, and a member that is frozen for a minute.
func BenchmarkThaw(b *testing.B) {
	for b.Loop() {
		_, c := threeMembers(b)
		n := newNursery(b, c)
		n.start(c.members[0], 300, nil)
		n.settled(2 * time.Minute)
		require.NoError(b, syscall.Kill(c.members[2].Pid(), syscall.SIGSTOP))
		pause(b, time.Minute)
		require.NoError(b, syscall.Kill(c.members[2].Pid(), syscall.SIGCONT))
		n.untilOnce(b)
		n.settled(2 * time.Minute)
		n.empty()
	}
	b.ReportMetric(0, "ns/op")
}

// untilOnce reports how long from now on children run twice, and how many did five
// seconds from now.
func (n *nursery) untilOnce(b *testing.B) {
	began := time.Now()
	after5, once := -1, time.Duration(0)
	for after5 < 0 || once == 0 {
		twice := 0
		for _, pids := range n.processes() {
			if len(pids) > 1 {
				twice++
			}
		}
		passed := time.Since(began)
		if twice == 0 && once == 0 {
			once = passed
		}
		if passed > 5*time.Second && after5 < 0 {
			after5 = twice
		}
		if passed > time.Minute {
			b.Fatalf("%d children run twice", twice)
		}
		pause(b, 10*time.Millisecond)
	}
	b.ReportMetric(once.Seconds(), "s-until-none-twice")
	b.ReportMetric(float64(after5), "twice-after-5s")
}

// pause lets time pass that a measurement prescribes.
func pause(b *testing.B, d time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), d)
	defer cancel()
	<-ctx.Done()
	require.NoError(b, b.Context().Err())
}
