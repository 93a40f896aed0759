package plugin

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
)

func withSelf(s Spec, self sdk.Self) Spec {
	s.Self = self
	return s
}

// What a plugin is told of its host changes without another process, and what
// it found stays meanwhile.
func TestANewSelfBeginsAnotherWatch(t *testing.T) {
	h := newHarness(t, "discovery-test")
	local := spec("local", "discovery-test", map[string]any{"nodes": []string{"shop@1"}, "self": true})
	self := sdk.Self{Member: "m", Cluster: "c", Finds: sdk.RoleMember, Incarnation: 7}
	h.apply(withSelf(local, self))
	h.awaitNodes("local", "shop@1", "m-member-7-0@c-")
	began := h.awaitStatus("local", Running)

	self.Addr = "10.0.0.1:7946"
	h.apply(withSelf(local, self))
	h.awaitNodes("local", "shop@1", "m-member-7-0@c-10.0.0.1-7946")
	h.apply(withSelf(local, self)) // no news
	for i := range 3 {
		self.Secrets = append([]sdk.Secret{sdk.NewSecret(fmt.Append(nil, "s", i))}, self.Secrets...)
		h.apply(withSelf(local, self))
	}
	h.awaitNodes("local", "shop@1", "m-member-7-3-s2-s1-s0@c-10.0.0.1-7946")

	st := h.awaitStatus("local", Running)
	assert.Equal(t, began, st)
	h.mu.Lock()
	defer h.mu.Unlock()
	assert.Empty(t, h.answers)
	for _, e := range h.bus.History(events.Filter{}) {
		assert.Equal(t, events.PluginStarted, e.Type, "%+v", e)
	}
	for _, entry := range h.logs.AllEntries() {
		text, err := entry.String()
		require.NoError(t, err)
		assert.NotContains(t, text, "s2-s1")
	}
}

// A plugin that does not know of Self, or has no use for it, is asked anew and
// says the same again: nobody notices.
func TestANewSelfIsNothingToOldPlugins(t *testing.T) {
	h := newHarness(t, "discovery-test")
	local := spec("local", "discovery-test", nodes("shop@1"))
	h.apply(withSelf(local, sdk.Self{Finds: sdk.RoleTarget}))
	h.awaitNodes("local", "shop@1")
	began := h.awaitStatus("local", Running)
	for i := range 5 {
		h.apply(withSelf(local, sdk.Self{Finds: sdk.RoleTarget, Incarnation: uint64(i)}))
	}
	h.apply(withSelf(local, sdk.Self{Finds: sdk.RoleTarget}), spec("other", "discovery-test", nodes("other@1")))
	h.awaitNodes("other", "other@1")
	assert.Equal(t, began.Pid, h.awaitStatus("local", Running).Pid)
	h.mu.Lock()
	defer h.mu.Unlock()
	assert.Empty(t, h.answers)
}

// What another kind of node is to be found by is another process.
func TestFindsIsAnotherSpec(t *testing.T) {
	h := newHarness(t, "discovery-test")
	local := spec("local", "discovery-test", map[string]any{"self": true})
	h.apply(withSelf(local, sdk.Self{Finds: sdk.RoleTarget}))
	h.awaitNodes("local", "-target-0-0@-")
	began := h.awaitStatus("local", Running)
	h.apply(withSelf(local, sdk.Self{Finds: sdk.RoleMember, Member: "m"}))
	h.awaitNodes("local", "m-member-0-0@-")
	assert.NotEqual(t, began.Pid, h.awaitStatus("local", Running).Pid)
}

// A plugin that waits for its successor hears what is new, for it may have to
// go on.
func TestTheOldOneHearsANewSelf(t *testing.T) {
	h := newHarness(t, "discovery-test")
	self := sdk.Self{Member: "m", Finds: sdk.RoleMember}
	h.apply(withSelf(spec("local", "discovery-test", map[string]any{"self": true}), self))
	h.awaitNodes("local", "m-member-0-0@-")
	self.Incarnation = 2
	h.apply(withSelf(spec("local", "discovery-test", map[string]any{"wrong": true}), self))
	h.awaitNodes("local", "m-member-2-0@-")
	h.awaitEvent(0, events.PluginFailed)
}
