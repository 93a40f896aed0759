package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// trio is three members on machines of their own, a node on the first, and one
// on a machine where no member is.
type trio struct {
	*crew
	a, b, c     *member
	local, away *erltest.Beam
}

func newTrio(t *testing.T) *trio {
	l := newLab(t, "a", "b", "c", "d")
	m := l.machines
	local := node(t, m[0], "shop", erltest.Options{})
	away := node(t, m[3], "billing", erltest.Options{})
	f := &trio{crew: newCrew(t, l), local: local, away: away}
	all := m[:4]
	f.a = f.start("a", m[0], all)
	f.b = f.start("b", m[1], all)
	f.c = f.start("c", m[2], all)
	f.settled(f.nodes())
	return f
}

func (f *trio) nodes() []*erltest.Beam { return []*erltest.Beam{f.local, f.away} }

// keys registers one key at each running member, and returns them all.
func (f *trio) keys(t *testing.T, about string) []string {
	t.Helper()
	var keys []string
	for _, p := range f.running() {
		key := about + "/" + p.name
		p.register(t, key, "--value", `{"from":"`+p.name+`"}`)
		keys = append(keys, key)
	}
	return keys
}

// Members find each other from one address, attach to each node once, the one on
// the node's machine first, and each answers for all.
func TestThreeMembersAreOneDebugger(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	assert.Equal(t, "a", f.owner(f.local).name, "the same machine first")
	for _, p := range f.members {
		var ps struct {
			Processes []struct{ Node string }
			Errors    []struct{ Node, Error string }
		}
		p.JSON(t, 0, &ps, "ps", "--limit", "0")
		nodes := map[string]int{}
		for _, r := range ps.Processes {
			nodes[r.Node]++
		}
		assert.Len(t, nodes, 2, p.name)
		assert.Empty(t, ps.Errors, p.name)
		var in struct {
			Process struct {
				RegisteredName string `json:"registered_name"`
			}
		}
		p.JSON(t, 0, &in, "inspect", f.local.Name, "code_server")
		assert.Equal(t, "code_server", in.Process.RegisteredName)

		var names struct{ Names []struct{ Node, Name string } }
		p.JSON(t, 0, &names, "names", "--filter", "code_server")
		assert.Len(t, names.Names, 2, "of both nodes")

		var costs struct {
			Targets []struct {
				Node string
				Cost struct{ Calls, Rows, Reductions uint64 }
			}
		}
		p.JSON(t, 0, &costs, "targets")
		assert.Len(t, costs.Targets, 2)
		for _, one := range costs.Targets {
			assert.NotZero(t, one.Cost.Calls*one.Cost.Rows*one.Cost.Reductions, "%s knows what %s has cost: %+v", p.name, one.Node, one.Cost)
		}
	}

	// A process of the first member's node, ended from another member.
	_, err := f.local.Eval(`register(victim, spawn(fun() -> receive stop -> ok end end))`)
	require.NoError(t, err)
	owner := f.owner(f.local)
	other := f.b
	if owner == other {
		other = f.c
	}
	other.Exit(t, 0, "kill", f.local.Name, "victim")
	_, stderr := other.Exit(t, 1, "kill", f.local.Name, "victim")
	assert.Contains(t, stderr, "victim")

	// The name of a process goes with the process, whoever was asked for it.
	_, err = f.away.Eval(`register(worker, spawn(fun() -> receive stop -> ok end end))`)
	require.NoError(t, err)
	pid, err := f.away.Eval(`pid_to_list(whereis(worker))`)
	require.NoError(t, err)
	f.c.Exit(t, 0, "registry", "register", "leader", "--node", f.away.Name, "--pid", strings.Trim(pid, `"`))
	_, stderr = f.a.Exit(t, 1, "registry", "register", "leader", "--ttl", "1m")
	assert.Contains(t, stderr, "leader")
	f.settled(f.nodes(), "leader")
	_, err = f.away.Eval(`exit(whereis(worker), kill)`)
	require.NoError(t, err)
	f.b.Eventually(t, func() error {
		if _, _, err := f.b.Try("registry", "lookup", "leader"); err == nil {
			return fmt.Errorf("the name outlives its process")
		}
		return nil
	})
}

// kill -9 of the owner, and its start under the same name.
func TestOwnerIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	_, err := f.away.Eval(`register(worker, spawn(fun() -> receive stop -> ok end end))`)
	require.NoError(t, err)
	pid, err := f.away.Eval(`pid_to_list(whereis(worker))`)
	require.NoError(t, err)
	f.a.Exit(t, 0, "registry", "register", "worker", "--node", f.away.Name, "--pid", strings.Trim(pid, `"`))
	keys := f.keys(t, "before")
	f.settled(f.nodes(), append(keys, "worker")...)

	owner := f.owner(f.away)
	owner.Kill()
	survivors := f.running()
	for _, p := range survivors {
		p.awaitStates(t, map[string]string{owner.name: "dead"})
	}
	f.settled(f.nodes(), "worker") // the node has another owner, who watches the process
	require.NotEqual(t, owner.name, f.owner(f.away).name)
	more := f.keys(t, "meanwhile")

	owner.again(t)
	f.settled(f.nodes(), append(append(keys, more...), "worker")...)
}

// A member that is frozen is replaced, and lets go when it thaws.
func TestMemberIsFrozen(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	keys := f.keys(t, "before")
	owner := f.owner(f.away)
	require.NoError(t, owner.Cmd.Process.Signal(syscall.SIGSTOP))
	for _, p := range f.members {
		if p != owner {
			p.awaitStates(t, map[string]string{owner.name: "dead"})
			p.Eventually(t, func() error {
				targets, err := p.targets()
				if err == nil && (targets[f.away.Name].State != "attached" || targets[f.away.Name].Owner == owner.name) {
					err = fmt.Errorf("%+v", targets)
				}
				return err
			})
		}
	}
	require.NoError(t, owner.Cmd.Process.Signal(syscall.SIGCONT))
	f.settled(f.nodes(), keys...)
}

// One of three is cut off: it says so, serves reads and what is its own, and
// refuses what needs a quorum unless forced.
func TestMinority(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	keys := f.keys(t, "before")
	m := f.lab.machines
	f.lab.partition([]*machine{m[0]}, []*machine{m[1], m[2], m[3]})
	f.a.awaitStates(t, map[string]string{"b": "dead", "c": "dead"})
	f.b.awaitStates(t, map[string]string{"a": "dead", "c": "alive"})
	f.a.Eventually(t, func() error {
		if ok, err := f.a.quorum(); err != nil || ok {
			return fmt.Errorf("it has a quorum alone (%v)", err)
		}
		return nil
	})
	f.a.Exit(t, 0, "ps", f.local.Name)
	_, stderr := f.a.Exit(t, 1, "registry", "register", "q", "--ttl", "1h", "--consistency", "quorum")
	assert.Contains(t, stderr, "quorum")
	f.a.Exit(t, 0, "registry", "register", "forced", "--ttl", "1h", "--consistency", "quorum", "--force")
	f.b.Exit(t, 0, "registry", "register", "q", "--ttl", "1h", "--consistency", "quorum")
	more := f.keys(t, "meanwhile")
	f.b.Eventually(t, func() error { // the node that both sides may have is the majority's now
		targets, err := f.b.targets()
		if err == nil && (targets[f.away.Name].State != "attached" || targets[f.away.Name].Owner == "a") {
			err = fmt.Errorf("%+v", targets)
		}
		return err
	})

	// Both sides have given one name away; the older claim wins, alike for all.
	f.a.register(t, "both", "--value", `"a"`)
	f.b.register(t, "both", "--value", `"b"`)
	f.lab.heal()
	f.settled(f.nodes(), append(append(keys, more...), "q", "forced", "both")...)
	for _, p := range f.members {
		out, _ := p.Exit(t, 0, "registry", "lookup", "both", "-o", "json")
		assert.Contains(t, out, `"a"`, p.name)
	}
	f.b.Eventually(t, func() error {
		out, _ := f.b.Exit(t, 0, "events", "--type", "name_conflict", "-o", "json")
		if !strings.Contains(out, "both") {
			return fmt.Errorf("nobody told the loser: %s", out)
		}
		return nil
	})
}

// Packets are lost one way only.
func TestOneWayPartition(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	keys := f.keys(t, "before")
	m := f.lab.machines
	m[0].deaf(m[1])
	m[0].deaf(m[2])
	f.b.Eventually(t, func() error { // a hears nobody: it cannot stay alive for all
		states, err := f.b.states()
		if err == nil && states["a"] == "alive" {
			err = fmt.Errorf("b sees %v", states)
		}
		return err
	})
	f.lab.heal()
	f.settled(f.nodes(), keys...)
}

// A link that comes and goes.
func TestFlappingLink(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	keys := f.keys(t, "before")
	m := f.lab.machines
	for i := range 6 {
		f.lab.partition([]*machine{m[i%3]}, []*machine{m[(i+1)%3]})
		// Each phase lasts as long as it takes to ask everybody once.
		for _, p := range f.members {
			_, _, _ = p.Try("targets", "--timeout", "1s")
		}
		key := fmt.Sprintf("flap%d", i)
		f.members[i%3].register(t, key)
		keys = append(keys, key)
		f.lab.heal()
	}
	f.settled(f.nodes(), keys...)
}

// A fifth of all packets is lost.
func TestPacketLoss(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	f.lab.lose(0.2)
	var keys []string
	for i := range 10 {
		key := fmt.Sprintf("lossy%d", i)
		f.members[i%3].register(t, key)
		keys = append(keys, key)
	}
	require.NoError(t, rig.Until(2*rig.Patience, func() error {
		for _, p := range f.members {
			entries, err := p.entries()
			if err != nil {
				return err
			}
			for _, key := range keys {
				if !strings.Contains(strings.Join(entries, "\n"), key+" = ") {
					return fmt.Errorf("%s does not have %s yet", p.name, key)
				}
			}
		}
		return nil
	}))
	f.lab.heal()
	f.settled(f.nodes(), keys...)
}

// A member that is stopped says goodbye, and one that starts looks first who has
// what: neither looks like a fault to anybody.
func TestStopAndStartAreNoFaults(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	owner := f.owner(f.away)
	owner.Term(t)
	f.settled(f.nodes())
	owner.again(t)
	f.settled(f.nodes())
	for _, p := range f.members {
		for _, typ := range []string{"member_unreachable", "member_dead", "name_conflict", "quorum_lost"} {
			out, _ := p.Exit(t, 0, "events", "--type", typ, "-o", "json")
			assert.Empty(t, out, "at %s", p.name)
		}
	}
}

// All members are stopped in good order and started again, one after the other.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	keys := f.keys(t, "before")
	for _, p := range f.members {
		p.Term(t)
		for _, o := range f.running() {
			o.awaitStates(t, map[string]string{p.name: "left"})
		}
		require.NoError(t, rig.Until(rig.Patience, func() error { return f.oneOwner(f.away) }))
		p.again(t)
		f.settled(f.nodes(), keys...)
	}
}

// The key is changed while members talk, and the old one is of no use then.
func TestKeyRotationUnderLoad(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	stop, done := make(chan struct{}), make(chan error, 1)
	stopReads := sync.OnceFunc(func() { close(stop) })
	go func() { // reads through another member all the while
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
				if _, _, err := f.c.Try("inspect", f.local.Name, "code_server"); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	defer stopReads()
	type keyList struct {
		Keys []struct {
			ID      string `json:"key_id"`
			Primary []string
		}
	}
	var before keyList
	f.a.JSON(t, 0, &before, "keys", "list")
	require.NotEmpty(t, before.Keys)
	old := before.Keys[0].ID
	fresh := f.writeKey("fresh.key")
	f.a.Exit(t, 0, "keys", "add", fresh)
	var after keyList
	f.b.JSON(t, 0, &after, "keys", "list")
	id := ""
	for _, k := range after.Keys {
		if k.ID != old {
			id = k.ID
		}
	}
	require.NotEmpty(t, id, "%+v", after)
	f.b.Exit(t, 0, "keys", "use", id)
	f.c.Exit(t, 0, "keys", "remove", old)
	f.settled(f.nodes(), f.keys(t, "after")...)
	stopReads()
	require.NoError(t, <-done, "a call during the rotation")

	// A member is started again with the file as the rotation left it; one with
	// the old key does not get in.
	f.b.Kill()
	f.b.again(t)
	f.settled(f.nodes())
	stranger := f.start("stranger", f.lab.machines[3], nil)
	f.members = f.members[:3]
	stranger.Eventually(t, func() error {
		out, _, err := stranger.Try("events", "-o", "json")
		if err == nil && !strings.Contains(out, "key") && !strings.Contains(stranger.Log.String(), "key") {
			err = fmt.Errorf("nobody says why it does not get in: %s", out)
		}
		return err
	})
	states, err := f.a.states()
	require.NoError(t, err)
	assert.NotContains(t, states, "stranger")
}

// Two clusters on one network, with one key, do not mix.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	l := newLab(t, "a", "b", "c")
	one := newCrew(t, l)
	a := one.start("a", l.machines[0], nil)
	b := one.start("b", l.machines[1], nil, "--cluster-name", "other")
	c := one.start("c", l.machines[2], nil) // joins both, and gets into one
	c.awaitStates(t, map[string]string{"a": "alive"})
	states, err := b.states()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"b": "alive"}, states)
	states, err = a.states()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "alive", "c": "alive"}, states)
}

// The disk under a member is full. It works on, and says so.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	dir := rig.TempDir(t)
	require.NoError(t, exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", dir).Run())
	t.Cleanup(func() { assert.NoError(t, exec.Command("umount", "-l", dir).Run()) })
	f.c.Term(t)
	f.c.opts.Dir = filepath.Join(dir, "d")
	require.NoError(t, os.Mkdir(f.c.opts.Dir, 0o700))
	fill, err := os.Create(filepath.Join(dir, "fill"))
	require.NoError(t, err)
	_, err = fill.Write(make([]byte, 1<<20))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, fill.Close())
	socket := filepath.Join(rig.TempDir(t), "api.sock") // which does not fit onto the disk
	f.c.opts.NoWait = true
	f.c.opts.Args = append(f.c.opts.Args, "--addr", socket)
	f.c.again(t)
	f.a.awaitStates(t, map[string]string{"c": "alive"})
	f.a.register(t, "key")
	f.c.Eventually(t, func() error {
		for _, args := range [][]string{{"registry", "lookup", "key"}, {"ps", f.away.Name}, {"inspect", f.local.Name, "code_server"}} {
			if _, _, err := f.c.Try(append(args, "--addr", socket)...); err != nil {
				return err
			}
		}
		status, _, err := f.c.Try("status", "--addr", socket)
		if err == nil && !strings.Contains(status, "no space left on device") {
			err = fmt.Errorf("it does not say that its disk is full: %s", status)
		}
		return err
	})
	require.NoError(t, rig.Until(rig.Patience, func() error {
		targets, err := f.a.targets()
		if err == nil && targets[f.away.Name].State != "attached" {
			err = fmt.Errorf("%+v", targets)
		}
		return err
	}))
}

// A member leaves for good, and is forgotten.
func TestLeaveAndForget(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	f.c.Exit(t, 0, "leave")
	f.a.awaitStates(t, map[string]string{"c": "left"})
	f.c.Kill()
	_, stderr := f.a.Exit(t, 1, "forget", "b")
	assert.Contains(t, stderr, "b")
	f.a.Exit(t, 0, "forget", "c")
	for _, p := range []*member{f.a, f.b} {
		p.Eventually(t, func() error {
			states, err := p.states()
			if _, there := states["c"]; err == nil && there {
				err = fmt.Errorf("%s sees %v", p.name, states)
			}
			return err
		})
	}
	f.settled(f.nodes())
}

// Events of any member are heard at any other, once.
func TestEventsReachEverybodyOnce(t *testing.T) {
	t.Parallel()
	f := newTrio(t)
	late := node(t, f.lab.machines[3], "late", erltest.Options{})
	f.settled(append(f.nodes(), late))
	var wg sync.WaitGroup
	for _, p := range f.members {
		wg.Go(func() {
			assert.NoError(t, rig.Until(rig.Patience, func() error {
				out, _, err := p.Try("events", "--type", "target_attached", "-o", "json")
				if n := strings.Count(out, late.Name); err == nil && n != 1 {
					err = fmt.Errorf("%s heard %d times that %s is attached:\n%s", p.name, n, late.Name, out)
				}
				return err
			}))
		})
	}
	wg.Wait()
}
