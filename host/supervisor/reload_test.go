package supervisor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

var errNoBlob = errors.New("no member has it")

// loads has the members of a rig have blobs 1 to 3, whose paths are "one" to "three",
// and start a child with the first.
func loads(t *testing.T, names ...string) (r *rig, at *Supervisor, elsewhere *Supervisor) {
	r = newRig(t, names...)
	r.mu.Lock()
	r.blobs = map[string]string{bundleID(1): "one", bundleID(2): "two", bundleID(3): "three"}
	r.mu.Unlock()
	_, err := r.arbiter("web").Start(t.Context(), Spec{ID: "web", Strategy: "changing", Bundle: bundleID(1)})
	require.NoError(t, err)
	member := r.state("web", Running).Member
	for name, m := range r.members {
		if name != member {
			elsewhere = m.sup
		}
	}
	return r, r.members[member].sup, elsewhere
}

func has(t *testing.T, s *Supervisor, want string) {
	t.Helper()
	out, err := s.Operate(t.Context(), "web", "has", nil)
	require.NoError(t, err)
	require.Equal(t, want, string(out))
}

func TestReload(t *testing.T) {
	r, at, elsewhere := loads(t, "a", "b", "c")
	ctx := t.Context()
	before := r.state("web", Running)
	has(t, at, "one")
	report, c, err := at.Reload(ctx, "web", bundleID(2), "faster")
	require.NoError(t, err)
	require.JSONEq(t, `{"loaded":1}`, string(report))
	require.Equal(t, bundleID(2), c.Spec.Bundle)
	has(t, at, "two")
	r.await(func() bool {
		for _, m := range r.members {
			c, err := m.sup.Get(ctx, "web")
			if err != nil || c.Spec.Bundle != bundleID(2) || len(c.Spec.Versions) != 2 || c.Spec.Versions[1].Note != "faster" {
				return false
			}
		}
		return true
	}, "not all have heard of it")
	after := r.state("web", Running)
	require.Equal(t, before.Epoch, after.Epoch)
	require.Equal(t, before.Started, after.Started)
	named, complete := elsewhere.Blobs()
	require.True(t, complete)
	require.Equal(t, map[string]bool{bundleID(1): true, bundleID(2): true}, named)

	// A run after it has what it was reloaded with.
	r.boxes.end("web", sdk.SandboxExit{Code: 1})
	r.await(func() bool {
		c, err := at.Get(ctx, "web")
		return err == nil && c.State == Running && c.Restarts == 1
	}, "it is not started again")
	has(t, at, "two")
	require.Empty(t, r.boxes.twice)
}

func TestReloadFails(t *testing.T) {
	r, at, elsewhere := loads(t, "a", "b")
	ctx := t.Context()
	reload := func(s *Supervisor, id, bundle, note string) error {
		t.Helper()
		_, _, err := s.Reload(ctx, id, bundle, note)
		require.Error(t, err)
		return err
	}
	require.ErrorIs(t, reload(elsewhere, "web", bundleID(2), ""), ErrElsewhere)
	require.ErrorIs(t, reload(at, "nobody", bundleID(2), ""), ErrUnknown)
	require.ErrorIs(t, reload(at, "web", "x", ""), ErrInvalid)
	require.ErrorIs(t, reload(at, "web", bundleID(2), strings.Repeat("x", maxNote+1)), ErrInvalid)
	require.ErrorIs(t, reload(at, "web", bundleID(9), ""), errNoBlob)

	r.boxes.mu.Lock()
	r.boxes.load = func(context.Context) error { return errors.New("it does not compile") }
	r.boxes.mu.Unlock()
	require.EqualError(t, reload(at, "web", bundleID(2), ""), "reload child web: it does not compile")
	has(t, at, "one")

	// Of two at once the second fails, and a stop counts more than the first.
	began, goOn := make(chan struct{}), make(chan struct{})
	r.boxes.mu.Lock()
	r.boxes.load = func(context.Context) error { close(began); <-goOn; return nil }
	r.boxes.mu.Unlock()
	first := make(chan error, 1)
	go func() {
		_, _, err := at.Reload(context.WithoutCancel(ctx), "web", bundleID(2), "")
		first <- err
	}()
	<-began
	err := reload(at, "web", bundleID(3), "")
	require.ErrorIs(t, err, ErrState)
	require.EqualError(t, err, "reload child web: another reload of it is under way")
	given, cancel := context.WithCancel(ctx)
	cancel()
	_, err = r.arbiter("web").Stop(ctx, "web")
	require.NoError(t, err)
	r.state("web", Stopped)
	close(goOn)
	require.ErrorIs(t, <-first, ErrState)
	c := r.state("web", Stopped)
	require.Equal(t, bundleID(1), c.Spec.Bundle)
	require.Len(t, c.Spec.Versions, 1)
	require.EqualError(t, reload(at, "web", bundleID(2), ""), "reload child web: it is stopped")
	_, err = at.Operate(given, "web", "has", nil)
	require.ErrorIs(t, err, ErrState)
	require.ErrorIs(t, at.TakeSnapshot(ctx, "web", &bytes.Buffer{}), ErrState)
}

// A reload whose plugin breaks ends in a run of what the spec says.
func TestReloadIsTorn(t *testing.T) {
	r, at, _ := loads(t, "a")
	r.boxes.mu.Lock()
	before := r.boxes.at["web"]["a"]
	r.boxes.load = func(context.Context) error { return sdk.ErrUnavailable }
	r.boxes.mu.Unlock()
	_, _, err := at.Reload(t.Context(), "web", bundleID(2), "")
	require.ErrorIs(t, err, sdk.ErrUnavailable)
	r.await(func() bool {
		r.boxes.mu.Lock()
		defer r.boxes.mu.Unlock()
		now := r.boxes.at["web"]["a"]
		return now != nil && now != before
	}, "it is not started again")
	c := r.state("web", Running)
	require.Equal(t, bundleID(1), c.Spec.Bundle)
	has(t, at, "one")
}

// A reload of what has ended is given up, and does not hit the next run.
func TestReloadOfWhatEnds(t *testing.T) {
	r, at, _ := loads(t, "a")
	r.boxes.mu.Lock()
	r.boxes.load = func(ctx context.Context) error {
		r.boxes.end("web", sdk.SandboxExit{Code: 1})
		<-ctx.Done()
		return ctx.Err()
	}
	r.boxes.mu.Unlock()
	_, _, err := at.Reload(t.Context(), "web", bundleID(2), "")
	require.ErrorIs(t, err, context.Canceled)
	r.await(func() bool {
		c, err := at.Get(t.Context(), "web")
		return err == nil && c.State == Running && c.Restarts == 1
	}, "it is not started again")
	has(t, at, "one")
	require.Equal(t, bundleID(1), r.state("web", Running).Spec.Bundle)
}

func TestOperationsNeedAnAbleStrategy(t *testing.T) {
	r := newRig(t, "a")
	ctx := t.Context()
	r.startChild("web")
	r.state("web", Running)
	r.mu.Lock()
	r.blobs = map[string]string{bundleID(1): "one"}
	r.mu.Unlock()
	s := r.members["a"].sup
	_, _, err := s.Reload(ctx, "web", bundleID(1), "")
	require.ErrorIs(t, err, sdk.ErrUnsupported)
	_, err = s.Operate(ctx, "web", "has", nil)
	require.ErrorIs(t, err, sdk.ErrUnsupported)
	require.ErrorIs(t, s.TakeSnapshot(ctx, "web", &bytes.Buffer{}), sdk.ErrUnsupported)
	_, err = s.Start(ctx, Spec{ID: "db", Strategy: "test", Seed: bundleID(1)})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Start(ctx, Spec{ID: "db", Strategy: "test", Bundle: bundleID(2)})
	require.ErrorIs(t, err, errNoBlob)
	for _, spec := range []Spec{{Bundle: "x"}, {Seed: strings.Repeat("A", 64)}} {
		spec.ID, spec.Strategy = "db", "test"
		_, err = s.Start(ctx, spec)
		require.ErrorIs(t, err, ErrInvalid)
	}
}

// What begins afresh begins with the seed, each time.
func TestSeed(t *testing.T) {
	r, at, _ := loads(t, "a")
	ctx := t.Context()
	var state bytes.Buffer
	require.NoError(t, at.TakeSnapshot(ctx, "web", &state))
	path := filepath.Join(t.TempDir(), "seed")
	require.NoError(t, os.WriteFile(path, state.Bytes(), 0o600))
	r.mu.Lock()
	r.blobs[bundleID(4)] = path
	r.mu.Unlock()
	_, err := at.Start(ctx, Spec{ID: "copy", Strategy: "changing", Bundle: bundleID(2), Seed: bundleID(4)})
	require.NoError(t, err)
	r.state("copy", Running)
	began := func() string {
		r.boxes.mu.Lock()
		defer r.boxes.mu.Unlock()
		if x := r.boxes.at["copy"]["a"]; x != nil && !x.done {
			return string(x.state) + " " + x.has
		}
		return ""
	}
	require.Equal(t, "a two", began())
	r.boxes.end("copy", sdk.SandboxExit{Code: 1})
	r.await(func() bool { return began() == "a two" }, "it does not begin with its seed again")

	// Whose holders are away is waited for, however long it takes.
	r.mu.Lock()
	delete(r.blobs, bundleID(4))
	r.away = true
	r.mu.Unlock()
	r.boxes.end("copy", sdk.SandboxExit{Code: 1})
	r.await(func() bool {
		c, err := at.Get(ctx, "copy")
		require.NoError(t, err)
		return c.State == Backoff && strings.Contains(c.Reason, ErrAway.Error())
	}, "it does not say what it waits for")
	r.mu.Lock()
	r.blobs[bundleID(4)], r.away = path, false
	r.mu.Unlock()
	r.await(func() bool { return began() == "a two" }, "it does not begin when they are back")

	// A seed that is lost fails the start, and says so.
	r.mu.Lock()
	delete(r.blobs, bundleID(4))
	r.mu.Unlock()
	r.boxes.end("copy", sdk.SandboxExit{Code: 1})
	require.Contains(t, r.state("copy", Failed).Reason, "it cannot be started: seed: no member has it")
}
