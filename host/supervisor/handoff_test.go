package supervisor

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

// startMoving starts a child whose moves take its state along, and returns where it
// runs and a member where it does not.
func startMoving(t *testing.T, r *rig, id string) (at, other string) {
	_, err := r.arbiter(id).Start(context.Background(), Spec{ID: id, Strategy: "moving", Handoff: sdk.HandoffSnapshot})
	require.NoError(t, err)
	at = r.state(id, Running).Member
	other = "a"
	if at == other {
		other = "b"
	}
	return at, other
}

// moved awaits that all say that a child runs by an assignment.
func (r *rig) moved(id string, epoch uint64) Child {
	var c Child
	r.await(func() bool {
		c = r.state(id, Running)
		return c.Epoch == epoch
	}, "%s does not run by assignment %d", id, epoch)
	return c
}

func TestHandoff(t *testing.T) {
	r := newRig(t, "a", "b", "c")
	ctx := context.Background()
	at, other := startMoving(t, r, "web")
	_, err := r.arbiter("web").Move(ctx, "web", other)
	require.NoError(t, err)
	require.Equal(t, other, r.moved("web", 2).Member)
	r.await(func() bool { return r.boxes.running() == 1 }, "the old one is not stopped")
	_, err = r.arbiter("web").Move(ctx, "web", at)
	require.NoError(t, err)
	require.Equal(t, at, r.moved("web", 3).Member)
	r.await(func() bool { return r.boxes.running() == 1 }, "the old one is not stopped")
	r.boxes.mu.Lock()
	state := string(r.boxes.at["web"][at].state)
	r.boxes.mu.Unlock()
	require.Equal(t, at+other, state)

	// Nobody else gets to see it.
	for _, epoch := range []uint64{2, 3, 4} {
		require.ErrorIs(t, r.members[at].sup.Snapshot(ctx, other, "web", epoch, &bytes.Buffer{}), ErrNotMoving)
	}
	require.ErrorIs(t, r.members[at].sup.Snapshot(ctx, other, "nobody", 1, &bytes.Buffer{}), ErrNotMoving)
}

func TestHandoffFails(t *testing.T) {
	r := newRig(t, "a", "b", "c")
	ctx := context.Background()
	r.boxes.spoil = errors.New("it is of another version")
	at, other := startMoving(t, r, "web")
	r.boxes.mu.Lock()
	was := r.boxes.at["web"][at]
	r.boxes.mu.Unlock()
	_, err := r.arbiter("web").Move(ctx, "web", other)
	require.NoError(t, err)
	c := r.moved("web", 3)
	require.Equal(t, at, c.Member)
	r.await(func() bool {
		r.boxes.mu.Lock()
		defer r.boxes.mu.Unlock()
		return len(r.boxes.at["web"]) == 1
	}, "something is left on %s", other)
	r.boxes.mu.Lock()
	require.Same(t, was, r.boxes.at["web"][at])
	require.False(t, was.done)
	r.boxes.mu.Unlock()
	for _, m := range r.members {
		c, err := m.sup.Get(ctx, "web")
		require.NoError(t, err)
		i := slices.IndexFunc(c.History, func(e Entry) bool { return e.What == "not_moved" })
		require.GreaterOrEqual(t, i, 0, m.name)
		require.Equal(t, "the move to member "+other+" failed: its state cannot be taken over from member "+at+": it is of another version", c.History[i].Reason)
		require.Equal(t, uint64(3), c.History[i].Epoch)
	}
	// It is looked after as before.
	r.boxes.end("web", sdk.SandboxExit{Code: 1})
	r.await(func() bool {
		c, err := r.members[at].sup.Get(ctx, "web")
		return err == nil && c.State == Running && c.Restarts == 1
	}, "it is not started again")
	require.Empty(t, r.boxes.twice)
}

// A member that is lost takes its children's state along, and that is all.
func TestHandoffIsForPlannedMoves(t *testing.T) {
	r := newRig(t, "a", "b", "c")
	at, _ := startMoving(t, r, "web")
	r.kill(at)
	c := r.moved("web", 2)
	r.boxes.mu.Lock()
	defer r.boxes.mu.Unlock()
	require.Empty(t, r.boxes.at["web"][c.Member].state)
}

func TestHandoffNeedsSnapshots(t *testing.T) {
	r := newRig(t, "a", "b")
	_, err := r.arbiter("web").Start(context.Background(), Spec{ID: "web", Strategy: "test", Handoff: sdk.HandoffSnapshot})
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "sandbox strategy test takes no snapshots")
}
