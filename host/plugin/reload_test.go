package plugin

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
)

func TestReload(t *testing.T) {
	h := newHarness(t, "discovery-test", "discovery-two")
	h.apply(spec("a", "discovery-test", nodes("a@1")), spec("b", "discovery-test", nodes("b@1")))
	h.awaitNodes("a", "a@1")
	a := h.awaitStatus("a", Running)
	b := h.awaitStatus("b", Running)

	// Unchanged: stays. Another config, strategy: a new process takes over.
	h.apply(spec("a", "discovery-test", nodes("a@1")), spec("b", "discovery-two", nodes("b@2")))
	h.awaitNodes("b", "b@2")
	awaitGone(t, b.Pid)
	b2 := h.awaitStatus("b", Running)
	assert.Equal(t, "discovery-two", b2.Name)
	assert.Equal(t, a.Pid, h.awaitStatus("a", Running).Pid)

	// Removed: its process goes, and what it found. Added again: as new.
	h.apply(spec("b", "discovery-two", nodes("b@2")))
	h.awaitAnswer("removal", func(a answer) bool { return a.topology == "a" && a.removed })
	awaitGone(t, a.Pid)
	assert.Len(t, h.Status(), 1)
	assert.Equal(t, b2.Pid, h.awaitStatus("b", Running).Pid)
	h.apply(spec("b", "discovery-two", nodes("b@2")), spec("a", "discovery-test", nodes("a@1")))
	h.awaitNodes("a", "a@1")
	_, _, err := h.Client("c")
	assert.ErrorContains(t, err, "no such topology")
}

func TestReloadKeepsTheOldUntilTheNewAnswers(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.settings.StartTimeout = time.Second
	h.apply(spec("local", "discovery-test", nodes("old@1")))
	h.awaitNodes("local", "old@1")
	old := h.awaitStatus("local", Running)

	both := func() []Status {
		var st []Status
		require.Eventually(t, func() bool { st = h.Status(); return len(st) == 2 }, patience, time.Millisecond)
		return st
	}
	// One that fails leaves the old one in force, in sight of everybody.
	h.apply(spec("local", "discovery-test", map[string]any{"wrong": 1}))
	h.awaitEvent(0, events.PluginFailed)
	st := both()
	assert.Equal(t, Running, st[0].State)
	assert.Equal(t, old.Pid, st[0].Pid)
	assert.Equal(t, Failed, st[1].State)

	// One that answers with errors only does, too.
	since := h.bus.Last()
	h.apply(spec("local", "discovery-test", map[string]any{"error": "no luck"}))
	h.awaitEvent(since, events.DiscoveryFailed)
	assert.Equal(t, old.Pid, both()[0].Pid)
	assert.True(t, alive(old.Pid))

	// Back to the old one: it never went away.
	second := both()[1].Pid
	h.apply(spec("local", "discovery-test", nodes("old@1")))
	awaitGone(t, second)
	assert.Equal(t, old.Pid, h.awaitStatus("local", Running).Pid)
	h.mu.Lock()
	assert.Empty(t, h.answers, "nothing of the new ones was told")
	h.mu.Unlock()

	// One that answers takes over.
	h.apply(spec("local", "discovery-test", nodes("new@1")))
	h.awaitNodes("local", "new@1")
	awaitGone(t, old.Pid)
}

func TestANewStrategyInheritsTheFailure(t *testing.T) {
	h := newHarness(t, "discovery-test")
	h.apply(spec("local", "discovery-test", map[string]any{"nodes": []string{"a@b"}, "error": "half of it is down"}))
	h.awaitAnswer("the error", func(a answer) bool { return a.err != nil })
	h.apply(spec("local", "discovery-test", nodes("a@b")))
	h.awaitAnswer("recovery", func(a answer) bool { return a.err == errNone })
}

func TestOtherKinds(t *testing.T) {
	h := newHarness(t, "placement-test", "discovery-test")
	place := Spec{Topology: "placement", Plugin: "placement-test", Kind: sdk.KindPlacement}
	h.apply(place)
	st := h.awaitStatus("placement", Running)
	assert.Equal(t, sdk.KindPlacement, st.Kind)
	choose := func() (sdk.Decision, error) {
		client, _, err := h.Client("placement")
		require.NoError(t, err)
		return client.Placement().Choose(t.Context(), sdk.PlacementRequest{Members: []sdk.Member{{Name: "m1", State: sdk.MemberAlive}}})
	}
	d, err := choose()
	require.NoError(t, err)
	assert.Equal(t, "m1", d.Member)
	// A changed one takes over as soon as it runs.
	content, err := os.ReadFile(binary)
	require.NoError(t, err)
	place.Checksum = fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	h.apply(place)
	awaitGone(t, st.Pid)
	h.awaitStatus("placement", Running)
	_, err = choose()
	require.NoError(t, err)

	since := h.bus.Last()
	h.apply(Spec{Topology: "wrong", Plugin: "discovery-test", Kind: sdk.KindPlacement})
	assert.Contains(t, h.awaitEvent(since, events.PluginFailed).Reason, "it is a discovery plugin, and a placement plugin is needed here")
}
