package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

func TestPlacementFails(t *testing.T) {
	r := newRig(t, "a", "b")
	fail := errors.New("placement-test is restarting")
	r.place = func(sdk.PlacementRequest) (sdk.Decision, error) { return sdk.Decision{}, fail }
	r.startChild("x")
	r.await(func() bool { return r.state("x", Pending).Reason == fail.Error() }, "it does not say why")
	_, err := r.members["a"].sup.Explain(context.Background(), Spec{ID: "y", Strategy: "test"})
	require.ErrorIs(t, err, fail)
}

// What a strategy answers is told in its words: the call has not failed.
func TestPlacementRefuses(t *testing.T) {
	r := newRig(t, "a", "b")
	r.place = func(sdk.PlacementRequest) (sdk.Decision, error) {
		return sdk.Decision{}, &sdk.CallError{Method: "Placement.Choose", Message: "no candidate: a: it has no label zone", Cause: sdk.ErrNoCandidate}
	}
	r.startChild("x")
	r.await(func() bool { return r.state("x", Pending).Reason == "no candidate: a: it has no label zone" }, "it does not say why in the strategy's words")
	e, err := r.members["a"].sup.Explain(context.Background(), Spec{ID: "y", Strategy: "test"})
	require.NoError(t, err)
	require.Equal(t, "no candidate: a: it has no label zone", e.Reason)
}

// A child whose strategy is not there says so, and goes when it is removed: there
// is nothing of it that only the strategy could remove.
func TestStrategyThatIsNotThere(t *testing.T) {
	r := newRig(t, "a", "b")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := r.arbiter("x").Start(ctx, Spec{ID: "x", Strategy: "absent"})
	require.NoError(t, err)
	r.await(func() bool {
		c, err := r.members["b"].sup.Get(ctx, "x")
		return err == nil && c.State == Starting && c.Reason == errAbsent.Error()
	}, "it does not say why it does not start")
	at := r.state("x", Starting).Member
	r.end(at) // what is on disk says the same
	r.start(at)
	r.state("x", Starting)
	require.NoError(t, r.arbiter("x").Remove(ctx, "x"))
	r.startChild("x")
	r.state("x", Running)
	require.Equal(t, 1, r.boxes.running())
}

// A start that takes its time ends when it is of no use any more.
func TestStartsAreDropped(t *testing.T) {
	r := newRig(t, "a")
	ctx := t.Context()
	s := r.members["a"].sup
	for i := range maxCalls + 1 { // the last waits until another has ended
		_, err := s.Start(ctx, Spec{ID: fmt.Sprintf("x%d", i), Strategy: "lasting"})
		require.NoError(t, err)
	}
	r.await(func() bool { return r.boxes.running() == maxCalls }, "they do not start")
	_, err := s.Stop(ctx, fmt.Sprintf("x%d", maxCalls))
	require.NoError(t, err)
	for i := range maxCalls {
		require.NoError(t, s.Remove(ctx, fmt.Sprintf("x%d", i)))
	}
	r.state(fmt.Sprintf("x%d", maxCalls), Stopped)
	require.Equal(t, 0, r.boxes.running())
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(t, s.loads)
}

// Whatever a strategy says, what is kept of it is bounded.
func TestReasonsAreBounded(t *testing.T) {
	r := newRig(t, "a", "b")
	long := strings.Repeat("\x00ä", 4<<10)
	config := []byte(`{"command":["` + strings.Repeat("x", 40<<10) + `"]}`)
	_, err := r.arbiter("x").Start(context.Background(), Spec{ID: "x", Strategy: "test", Config: config, Restart: sdk.RestartTemporary})
	require.NoError(t, err)
	r.state("x", Running)
	r.boxes.end("x", sdk.SandboxExit{Code: 1, Reason: long})
	at := r.state("x", Exited).Member // everywhere: the record is not too long for the wire
	c, err := r.members[at].sup.Get(context.Background(), "x")
	require.NoError(t, err)
	require.LessOrEqual(t, len(c.Reason), maxReason+len("…"))
	require.Equal(t, "exited", c.History[2].What)
	require.LessOrEqual(t, len(c.History[2].Reason), maxReason+len("…"))
	require.LessOrEqual(t, len(c.History[2].Exit.Reason), maxReason+len("…"))
}

// What a strategy said of a start that failed is the child's log until it runs, and of
// many children only as much as a reason.
func TestLogOfAFailedStart(t *testing.T) {
	r := newRig(t, "a")
	ctx, s := context.Background(), r.members["a"].sup
	log := func(id string, tail int) (lines []string) {
		t.Helper()
		require.NoError(t, s.Logs(ctx, id, sdk.LogOptions{Tail: tail}, func(l sdk.LogLine) error {
			lines = append(lines, l.Stream+" "+string(l.Line))
			require.WithinDuration(t, time.Now(), l.Time, time.Minute)
			return nil
		}))
		return lines
	}
	balk := func(err error) {
		r.boxes.mu.Lock()
		defer r.boxes.mu.Unlock()
		r.boxes.balk = err
	}
	said := "compile x:\n" + strings.Repeat("  error: lost\n", 4000)
	balk(errors.New(said))
	spec := Spec{ID: "x", Strategy: "test", Config: []byte(`{}`), Restart: sdk.RestartTemporary}
	_, err := s.Start(ctx, spec)
	require.NoError(t, err)
	r.state("x", Exited)
	lines := log("x", 0)
	require.Len(t, lines, 4001)
	require.Equal(t, "start compile x:", lines[0])
	require.Equal(t, []string{"start   error: lost", "start   error: lost"}, log("x", 2))
	err = s.Logs(ctx, "x", sdk.LogOptions{Follow: true}, func(sdk.LogLine) error { return nil })
	require.ErrorIs(t, err, ErrNoRun, "who follows waits for another run")
	c, err := s.Get(ctx, "x")
	require.NoError(t, err)
	require.LessOrEqual(t, len(c.Reason), maxReason+100)

	balk(nil)
	_, err = s.Restart(ctx, "x")
	require.NoError(t, err)
	r.state("x", Running)
	lines = nil
	require.NoError(t, s.Logs(ctx, "x", sdk.LogOptions{}, func(l sdk.LogLine) error { lines = append(lines, string(l.Line)); return nil }))
	require.Equal(t, []string{"line of x"}, lines)

	balk(errors.New(strings.Repeat("ä", maxSaid)))
	for i := range maxSpoken + 2 {
		spec.ID = fmt.Sprint("y", i)
		_, err := s.Start(ctx, spec)
		require.NoError(t, err)
		r.state(spec.ID, Exited)
	}
	for i, want := range map[int]int{0: maxReason, 1: maxReason, 2: maxSaid, maxSpoken + 1: maxSaid} {
		got := log(fmt.Sprint("y", i), 0)
		require.Len(t, got, 1)
		require.InDelta(t, want, len(got[0]), 20, i)
	}
}

// Who is alone confirms what is on its disk.
func TestStartAlone(t *testing.T) {
	r := newRig(t, "a")
	began := time.Now()
	r.startChild("x")
	require.Less(t, time.Since(began), 5*time.Second)
	r.end("a")
	r.start("a")
	require.Len(t, r.members["a"].sup.List(Filter{}), 1)
}
