package supervisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/supervisor/book"
	"github.com/debughost/debughost/sdk"
)

func TestLifeOfAChild(t *testing.T) {
	r := newRig(t, "a", "b", "c")
	ctx := context.Background()
	r.startChild("web")
	c := r.state("web", Running)
	require.NotEmpty(t, c.Member)
	require.Equal(t, uint64(1), c.Epoch)

	_, err := r.arbiter("web").Start(ctx, Spec{ID: "web", Strategy: "test"})
	var exists *ExistsError
	require.ErrorAs(t, err, &exists)
	require.Equal(t, c.Member, exists.Member)

	r.boxes.end("web", sdk.SandboxExit{Code: 3})
	r.await(func() bool {
		c, err := r.members[c.Member].sup.Get(ctx, "web")
		return err == nil && c.State == Running && c.Restarts == 1
	}, "it is not started again")
	c, err = r.members[c.Member].sup.Get(ctx, "web")
	require.NoError(t, err)
	require.Equal(t, 4711, c.OSPid)
	require.Equal(t, uint64(1<<20), c.Memory)
	var what []string
	for _, e := range c.History {
		what = append(what, e.What)
	}
	require.Equal(t, []string{"placed", "started", "exited", "started"}, what)

	_, err = r.arbiter("web").Move(ctx, "web", "")
	require.NoError(t, err)
	moved := ""
	r.await(func() bool {
		c := r.state("web", Running)
		moved = c.Member
		return c.Epoch == 2
	}, "it does not move")
	require.NotEqual(t, c.Member, moved)
	var line string
	require.NoError(t, r.members[moved].sup.Logs(ctx, "web", sdk.LogOptions{}, func(l sdk.LogLine) error {
		line = string(l.Line)
		return nil
	}))
	require.Equal(t, "line of web", line)
	require.ErrorIs(t, r.members[c.Member].sup.Logs(ctx, "web", sdk.LogOptions{}, nil), ErrNoRun)

	_, err = r.arbiter("web").Stop(ctx, "web")
	require.NoError(t, err)
	r.state("web", Stopped)
	_, err = r.arbiter("web").Restart(ctx, "web")
	require.NoError(t, err)
	r.state("web", Running)
	removing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	require.NoError(t, r.arbiter("web").Remove(removing, "web"))
	require.Zero(t, r.boxes.running())
	_, err = r.arbiter("web").Stop(ctx, "web")
	require.ErrorIs(t, err, ErrUnknown)
	require.Empty(t, r.boxes.twice)
}

func TestMemberLost(t *testing.T) {
	r := newRig(t, "a", "b", "c")
	const n = 60
	for i := range n {
		r.startChild(fmt.Sprintf("x%d", i))
	}
	for i := range n {
		r.state(fmt.Sprintf("x%d", i), Running)
	}
	for m, got := range r.members["a"].sup.Count().ByMember { // arbiters decide side by side
		require.InDelta(t, n/3, got, 8, m)
	}

	r.kill("b")
	for _, m := range []string{"a", "c"} {
		r.await(func() bool { return r.members[m].sup.Count().ByMember["b"] == 0 }, "%s has children on b still", m)
	}
	for i := range n {
		r.state(fmt.Sprintf("x%d", i), Running)
	}
	require.Equal(t, n, r.boxes.running())

	r.start("b") // and leaves what has moved where it is
	r.await(func() bool { return len(r.members["b"].sup.List(Filter{State: Running})) == n }, "b does not see them all")
	require.Equal(t, n, r.boxes.running())
	require.Empty(t, r.boxes.twice)
}

func TestMoveToNobody(t *testing.T) {
	r := newRig(t, "a")
	r.startChild("x")
	r.state("x", Running)
	_, err := r.members["a"].sup.Move(t.Context(), "x", "")
	require.ErrorIs(t, err, sdk.ErrNoCandidate)
	require.ErrorContains(t, err, "there is no other member")
}

// A host that comes back takes over what runs, and what it had confirmed is there.
func TestRestartTakesOver(t *testing.T) {
	r := newRig(t, "a")
	for i := range 20 {
		r.startChild(fmt.Sprintf("x%d", i))
	}
	for i := range 20 {
		r.state(fmt.Sprintf("x%d", i), Running)
	}
	_, err := r.arbiter("x1").Stop(context.Background(), "x1")
	require.NoError(t, err)
	r.state("x1", Stopped)
	r.boxes.mu.Lock()
	before := map[*box]bool{}
	for _, at := range r.boxes.at {
		before[at["a"]] = true
	}
	r.boxes.mu.Unlock()
	r.end("a")
	require.Equal(t, 19, r.boxes.running())

	r.boxes.end("x2", sdk.SandboxExit{Code: 1}) // while it is away
	r.start("a")
	r.state("x1", Stopped)
	for i := range 20 {
		if i != 1 {
			r.state(fmt.Sprintf("x%d", i), Running)
		}
	}
	r.boxes.mu.Lock()
	for id, at := range r.boxes.at {
		require.Equal(t, id != "x2", before[at["a"]], id)
	}
	r.boxes.mu.Unlock()
	c, err := r.members["a"].sup.Get(context.Background(), "x3")
	require.NoError(t, err)
	require.Equal(t, "taken_over", c.History[len(c.History)-1].What)
}

// A member that was unseen, and not dead, keeps what it has.
func TestUnreachableIsNotDead(t *testing.T) {
	r := newRig(t, "a", "b", "c")
	for i := range 12 {
		r.startChild(fmt.Sprintf("x%d", i))
	}
	for i := range 12 {
		r.state(fmt.Sprintf("x%d", i), Running)
	}
	r.set("b", cluster.Unreachable)
	for _, name := range []string{"a", "c"} {
		r.await(func() bool {
			s := r.members[name].sup
			s.mu.Lock()
			defer s.mu.Unlock()
			return !s.core.peers["b"].usable
		}, "%s sees b still", name)
	}
	_, err := r.members[r.members["a"].sup.Arbiter("y")].sup.Start(context.Background(), Spec{ID: "y", Strategy: "test"})
	require.NoError(t, err)
	r.set("b", cluster.Alive)
	r.state("y", Running)
	for i := range 12 {
		require.Equal(t, uint64(1), r.state(fmt.Sprintf("x%d", i), Running).Epoch)
	}
	require.Empty(t, r.boxes.twice)
}

func TestDrain(t *testing.T) {
	r := newRig(t, "a", "b", "c")
	ctx := context.Background()
	for i := range 12 {
		r.startChild(fmt.Sprintf("x%d", i))
	}
	for i := range 12 {
		r.state(fmt.Sprintf("x%d", i), Running)
	}
	require.NoError(t, r.members["a"].sup.Drain(ctx, "b", false))
	r.await(func() bool { return r.members["c"].sup.Count().ByMember["b"] == 0 }, "b is not emptied")
	r.await(func() bool { return len(r.members["b"].sup.Draining()) == 1 }, "b does not know of it")
	for i := range 12 {
		r.state(fmt.Sprintf("x%d", i), Running)
	}
	require.Empty(t, r.boxes.twice)
	require.ErrorIs(t, r.members["a"].sup.Drain(ctx, "nobody", false), ErrNoMember)

	r.end("b") // it is remembered, by all
	r.end("a")
	r.start("a")
	r.start("b")
	r.await(func() bool { return len(r.members["b"].sup.Draining()) == 1 && len(r.members["a"].sup.Draining()) == 1 }, "the drain is forgotten")
	require.NoError(t, r.members["b"].sup.Drain(ctx, "b", true))
	r.await(func() bool { return len(r.members["a"].sup.Draining()) == 0 }, "the drain does not end")
}

func TestLeaveHandsOver(t *testing.T) {
	r := newRig(t, "a", "b")
	for i := range 8 {
		r.startChild(fmt.Sprintf("x%d", i))
	}
	for i := range 8 {
		r.state(fmt.Sprintf("x%d", i), Running)
	}
	require.NoError(t, r.members["b"].sup.Leave(context.Background()))
	r.set("b", cluster.Left)
	r.end("b")
	for i := range 8 {
		require.Equal(t, "a", r.state(fmt.Sprintf("x%d", i), Running).Member)
	}
	require.Empty(t, r.boxes.twice)
}

// Children that take their time to stop hold up no others.
func TestSlowStopsHoldUpNobody(t *testing.T) {
	r := newRig(t, "a")
	ctx := context.Background()
	s := r.members["a"].sup
	for i := range maxCalls + 1 {
		_, err := s.Start(ctx, Spec{ID: fmt.Sprintf("x%d", i), Strategy: "slow", ShutdownTimeout: time.Hour})
		require.NoError(t, err)
	}
	r.await(func() bool { return len(s.List(Filter{State: Running})) == maxCalls+1 }, "they do not run")
	for i := range maxCalls + 1 {
		_, err := s.Stop(ctx, fmt.Sprintf("x%d", i))
		require.NoError(t, err)
	}
	r.startChild("y")
	r.state("y", Running)
}

// Nobody waits for what was stopped, also where its strategy does not notice.
func TestNobodyWaitsForWhatHasEnded(t *testing.T) {
	r := newRig(t, "a")
	ctx := context.Background()
	s := r.members["a"].sup
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waits)
	}
	_, err := s.Start(ctx, Spec{ID: "x", Strategy: "deaf"})
	require.NoError(t, err)
	for range 3 {
		r.state("x", Running)
		r.await(func() bool { return waiting() == 1 }, "nobody waits for its end")
		_, err = s.Stop(ctx, "x")
		require.NoError(t, err)
		r.state("x", Stopped)
		r.await(func() bool { return waiting() == 0 }, "its end is waited for still")
		_, err = s.Restart(ctx, "x")
		require.NoError(t, err)
	}
	require.NoError(t, s.Remove(ctx, "x"))
	r.await(func() bool { return waiting() == 0 }, "its end is waited for still")
}

func TestExplain(t *testing.T) {
	r := newRig(t, "a", "b")
	e, err := r.members["a"].sup.Explain(context.Background(), Spec{ID: "y", Strategy: "test"})
	require.NoError(t, err)
	require.Equal(t, "a", e.Chosen)
	require.Len(t, e.Scores, 2)
	require.Equal(t, "placement-test", e.Strategy)
	require.Empty(t, r.members["a"].sup.List(Filter{}))
	_, err = r.members["a"].sup.Explain(context.Background(), Spec{ID: "y"})
	require.ErrorIs(t, err, ErrInvalid)
}

// A start is answered when another member has it on its disk: the one that
// answered may be lost with its disk at once.
func TestConfirmedMeansElsewhere(t *testing.T) {
	r := newRig(t, "a", "b")
	for i := range 30 {
		id := fmt.Sprintf("x%d", i)
		s := r.arbiter(id)
		r.startChild(id)
		for _, m := range r.members {
			if m.sup == s {
				continue
			}
			found := false
			b, _, err := book.Open(copyOf(t, m.sup.cfg.Path), func(name book.Name, _ []byte) error {
				found = found || name.String() == bookRecord+id
				return nil
			})
			require.NoError(t, err)
			require.NoError(t, b.Close())
			require.True(t, found, "%s is not in the book of %s", id, m.name)
		}
	}
}

func copyOf(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	path = filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// TestNodesOfSandboxes: a member tells of the nodes of the runs that it has, until
// they are over, also when its strategy says only later where they are.
func TestNodesOfSandboxes(t *testing.T) {
	r := newRig(t, "a", "b")
	var mu sync.Mutex
	var told []NodeAt
	for _, m := range r.members {
		m.sup.nodesMu.Lock()
		m.sup.cfg.Nodes = func(nodes []NodeAt) {
			mu.Lock()
			defer mu.Unlock()
			told = nodes
		}
		m.sup.nodesMu.Unlock()
	}
	sup := r.members["a"].sup
	are := func(want ...NodeAt) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(told, want)
		}
	}
	r.startChild("plain")
	r.state("plain", Running)
	r.boxes.setStatus("box", sdk.SandboxStatus{State: sdk.SandboxStarting})
	r.startChild("box")
	r.state("box", Running)
	require.Empty(t, sup.NodeOf("box"))
	r.boxes.setStatus("box", sdk.SandboxStatus{State: sdk.SandboxRunning, Node: "box@h", Addr: "h:1", CookieFile: "/c"})
	r.await(are(NodeAt{Child: "box", Node: "box@h", Addr: "h:1", CookieFile: "/c"}), "its node is not told")
	r.await(func() bool { return sup.NodeOf("box") == "box@h" && r.members["b"].sup.NodeOf("box") == "box@h" }, "not all members know it")
	r.boxes.setStatus("box", sdk.SandboxStatus{State: sdk.SandboxRunning, Node: "box@h", Addr: "h:2", CookieFile: "/c"})
	r.await(are(NodeAt{Child: "box", Node: "box@h", Addr: "h:2", CookieFile: "/c"}), "its new address is not told")
	_, err := r.arbiter("box").Stop(t.Context(), "box")
	require.NoError(t, err)
	r.await(are(), "its node is told still")
	require.Empty(t, sup.NodeOf("nobody"))
}

// TestMembersAreLabelled: what is to run on one member and no other names it.
func TestMembersAreLabelled(t *testing.T) {
	require.Equal(t, map[string]string{"member": "a"}, labelled("a", nil))
	require.Equal(t, map[string]string{"member": "x", "zone": "z"}, labelled("a", map[string]string{"member": "x", "zone": "z"}))
	r := newRig(t, "a", "b")
	r.mu.Lock()
	r.place = func(q sdk.PlacementRequest) (sdk.Decision, error) {
		for _, m := range q.Members {
			if m.Labels["member"] == q.Child.Constraints["member"] {
				return sdk.Decision{Member: m.Name, Scores: []sdk.Score{{Member: m.Name}}}, nil
			}
		}
		return sdk.Decision{}, sdk.ErrNoCandidate
	}
	r.mu.Unlock()
	_, err := r.arbiter("web").Start(t.Context(), Spec{ID: "web", Strategy: "test", Constraints: map[string]string{"member": "b"}})
	require.NoError(t, err)
	require.Equal(t, "b", r.state("web", Running).Member)
}
