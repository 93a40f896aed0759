package cluster_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/cluster/clustertest"
	"github.com/debughost/debughost/host/events"
)

func TestFrozenMemberDiesAndRecovers(t *testing.T) {
	net := clustertest.New(clustertest.Options{})
	all := memory(t, net, 5)
	awaitAll(t, all...)
	net.Freeze(ip(4))
	for _, m := range all[:4] {
		m.Hint("m04", errors.New("stream is silent")) // its kernel accepts connections still
		m.await("m04", cluster.Dead)
		assert.Empty(t, m.events(events.MemberUnreachable))
	}
	heard := func(m *member) bool { return len(m.events(events.MemberSuspect)) > 0 }
	assert.True(t, slices.ContainsFunc(all[:4], heard), "somebody saw it suspect")
	net.Thaw(ip(4))
	awaitAll(t, all...)
	all[0].awaitEvent(events.MemberRecovered, "m04")
}

func TestPartitionHeals(t *testing.T) {
	net := clustertest.New(clustertest.Options{})
	all := memory(t, net, 5)
	awaitAll(t, all...)
	net.Partition([]string{ip(3), ip(4)})
	for _, m := range all[:3] {
		m.await("m03", cluster.Dead)
		m.await("m04", cluster.Dead)
		assert.True(t, m.Quorum().Has)
	}
	for _, m := range all[3:] {
		m.await("m00", cluster.Dead)
		m.await("m01", cluster.Dead)
		require.Eventually(t, func() bool { return !m.Quorum().Has && len(m.events(events.QuorumLost)) > 0 }, longEnough, 5*time.Millisecond)
	}
	net.Heal()
	awaitAll(t, all...)
	for _, m := range all[3:] {
		require.Eventually(t, func() bool { return m.Quorum().Has && len(m.events(events.QuorumRegained)) > 0 }, longEnough, 5*time.Millisecond)
	}
}

// A member whose packets arrive and that hears nothing, or the other way round,
// must not stay in half a view for ever.
func TestOneWayPartitionHeals(t *testing.T) {
	net := clustertest.New(clustertest.Options{})
	all := memory(t, net, 3)
	awaitAll(t, all...)
	net.Block(ip(2), ip(0))
	net.Block(ip(2), ip(1))
	all[0].await("m02", cluster.Dead)
	net.Heal()
	awaitAll(t, all...)
}

// Who dials into the void gets no answer, and what cannot be dialled is
// unreachable.
func TestUnansweredDialMakesUnreachable(t *testing.T) {
	net := clustertest.New(clustertest.Options{})
	all := memory(t, net, 3)
	awaitAll(t, all...)
	net.Partition([]string{ip(2)})
	all[0].Hint("m02", errors.New("stream broke"))
	all[0].await("m02", cluster.Unreachable)
	assert.Contains(t, all[0].awaitEvent(events.MemberUnreachable, "m02").Reason, "no answer in time")
	net.Heal() // before gossip's verdict, and nobody gives a hint
	all[0].await("m02", cluster.Alive)
	awaitAll(t, all...)
}

func TestHintThatItWorksEndsUnreachable(t *testing.T) {
	net := clustertest.New(clustertest.Options{})
	all := memory(t, net, 2)
	awaitAll(t, all...)
	net.Partition([]string{ip(1)})
	all[0].Hint("m01", errors.New("stream broke"))
	all[0].await("m01", cluster.Unreachable)
	all[0].Hint("m01", nil)
	assert.NotEqual(t, cluster.Unreachable, all[0].state("m01"))
	net.Heal()
	awaitAll(t, all...)
}

// Members that were apart for longer than gossip remembers.
func TestKilledMemberIsForgottenByGossipAndRetried(t *testing.T) {
	net := clustertest.New(clustertest.Options{})
	all := memory(t, net, 3)
	awaitAll(t, all...)
	net.Kill(ip(2))
	all[2].stop()
	all[0].await("m02", cluster.Dead)
	// What another one knows of it, a newcomer hears.
	late := start(t, cluster.Config{
		Name: "m03", Bind: ip(3) + ":7946", Keys: all[0].cfg.Keys, Network: net.Host(ip(3)), Join: []string{ip(0) + ":7946"},
	})
	late.await("m02", cluster.Dead)
	require.Eventually(t, func() bool { return late.Quorum() == cluster.Quorum{Size: 4, Alive: 3, Need: 3, Has: true} }, longEnough, 5*time.Millisecond)
	assert.Empty(t, late.events(events.MemberDead), "it was dead already")
	cfg := all[2].cfg
	cfg.Join, cfg.Epoch = nil, 0
	all[2] = start(t, cfg)
	awaitAll(t, append(all, late)...)
}

func TestLossyFormation(t *testing.T) {
	for name, tc := range map[string]struct {
		n       int
		profile cluster.Profile
	}{
		"10": {10, cluster.LAN},
		// So many in one process on a busy machine would suspect each other if they
		// were not patient.
		"50": {50, cluster.WAN},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.n > 10 && slowed {
				tc.n = 20
			}
			net := clustertest.New(clustertest.Options{Loss: 0.1, Delay: time.Millisecond, Seed: 7})
			all := memoryAs(t, net, tc.n, tc.profile)
			awaitView(t, 4*longEnough, all...)
			last := all[tc.n-1]
			require.NoError(t, last.Leave(t.Context()))
			for _, m := range all[:tc.n-1] {
				m.await(last.cfg.Name, cluster.Left)
			}
		})
	}
}
