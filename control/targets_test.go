package control

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// What targets cost each member knows of its own, and any member tells.
func TestCostsOfAllMembers(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("a", "n1@h")
	c.own("b", "n2@h", "n3@h")
	c.own("c", "n4@h")
	all := target.Cost{
		Since: startOfTests, Calls: 1, Failed: 2, TimedOut: 3, CallTime: 4 * time.Second, Received: 5, Sent: 6, Reductions: 7,
		Rows: 8, LogEvents: 9, LogDropped: 10, Collections: 11, Slowed: 12, Cut: 13,
	}
	c.change(func() {
		c.members["a"].costs = map[string]target.Cost{"n1@h": {Since: startOfTests, Calls: 100}}
		c.members["b"].costs = map[string]target.Cost{"n2@h": all}
		c.members["c"].costs = map[string]target.Cost{"n4@h": {Since: startOfTests, Calls: 400}}
	})
	ask := func(costs bool) map[string]*controlpb.TargetCost {
		res, err := c.members["a"].dial(t).Targets.ListTargets(testContext(t), &controlpb.ListTargetsRequest{Costs: costs})
		require.NoError(t, err)
		require.Len(t, res.GetTargets(), 4)
		out := map[string]*controlpb.TargetCost{}
		for _, one := range res.GetTargets() {
			out[one.GetNode()] = one.GetCost()
		}
		return out
	}
	costs := ask(true)
	assert.Equal(t, uint64(100), costs["n1@h"].GetCalls())
	assert.Equal(t, uint64(400), costs["n4@h"].GetCalls())
	assert.Nil(t, costs["n3@h"], "never attached to")
	got := costs["n2@h"]
	require.NotNil(t, got)
	assert.Equal(t, startOfTests, got.GetSince().AsTime())
	assert.Equal(t, 4*time.Second, got.GetCallTime().AsDuration())
	assert.Equal(t, []uint64{1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13}, []uint64{
		got.GetCalls(), got.GetFailed(), got.GetTimedOut(), got.GetReceived(), got.GetSent(), got.GetReductions(), got.GetRows(),
		got.GetLogEvents(), got.GetLogDropped(), got.GetGarbageCollections(), got.GetSlowed(), got.GetCut(),
	})
	for node, cost := range ask(false) {
		assert.Nil(t, cost, node)
	}

	// A member that cannot be asked leaves out what it alone knows.
	c.kill("b")
	costs = ask(true)
	assert.Nil(t, costs["n2@h"])
	assert.Equal(t, uint64(400), costs["n4@h"].GetCalls())
}

// An answer that was cut is an answer, with the mark beside it, also from another
// member.
func TestCutAnswers(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n1@h")
	c.members["b"].engine.processes = func(_ context.Context, q target.ProcessQuery, s target.Sink) error {
		if err := s.Rows([]target.Process{{Node: "n1@h", Pid: "<0.1.0>"}}); err != nil {
			return err
		}
		return s.Failed(target.NodeError{Node: "n1@h", Err: target.ErrCut})
	}
	for _, limit := range []uint32{0, 5} {
		for _, member := range []string{"a", "b"} {
			a, err := list(t, c.members[member].dial(t), &controlpb.ListProcessesRequest{Limit: limit})
			require.NoError(t, err)
			assert.Len(t, a.rows, 1)
			require.Len(t, a.errors, 1)
			assert.Equal(t, "cut", a.errors[0].GetCode())
			assert.Equal(t, uint32(1), a.end.GetAnswered(), "asked at %s with limit %d", member, limit)
			assert.Zero(t, a.end.GetFailed())
		}
	}
}
