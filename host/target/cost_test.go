package target_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

func (r *rig) cost(t testing.TB) target.Cost {
	t.Helper()
	all := r.Targets()
	require.Len(t, all, 1)
	return all[0].Cost
}

// What a question costs shows, measured by the processes that answered it.
func TestCost(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startCrowd(t, otp)
		r := attach(t, nil, b)
		idle := r.cost(t)
		assert.False(t, idle.Since.IsZero())
		assert.Zero(t, idle.Reductions, "nothing was asked of the helper yet")
		assert.Zero(t, idle.Rows)
		assert.NotZero(t, idle.Calls, "of attaching")

		require.Len(t, r.ps(t, target.ProcessQuery{Limit: 5}).all, 5)
		one := r.cost(t)
		// 2000 processes at two reductions each are the least that a walk takes.
		assert.Greater(t, one.Reductions, uint64(4000))
		assert.Less(t, one.Reductions, uint64(10_000_000))
		assert.Equal(t, uint64(5), one.Rows)
		assert.Greater(t, one.Sent, uint64(10_000), "the helper's module")
		assert.Positive(t, one.CallTime)
		assert.Zero(t, one.Failed+one.TimedOut+one.Slowed+one.Cut)

		// A table is read by several processes: all of them count.
		rows := len(r.ps(t, target.ProcessQuery{}).all)
		table := r.cost(t)
		assert.Equal(t, uint64(rows), table.Rows-one.Rows)
		assert.Greater(t, table.Reductions-one.Reductions, uint64(8000))
		assert.Greater(t, table.Received-one.Received, uint64(100_000))

		_, err := r.Act(t.Context(), target.Act{Kind: target.ActCollect, Node: b.Name, Process: "crowd_queue_1"})
		require.NoError(t, err)
		assert.Equal(t, uint64(1), r.cost(t).Collections)

		// What is lost in the network goes on counting with the next connection.
		before := r.cost(t)
		b.MustEval(t, `[erlang:disconnect_node(N) || N <- nodes(hidden)]`)
		b.Await(t, "length(nodes(hidden))", "1")
		require.Eventually(t, func() bool { return r.Targets()[0].State == target.Attached }, 10*time.Second, time.Millisecond)
		require.Len(t, r.ps(t, target.ProcessQuery{Limit: 5}).all, 5)
		after := r.cost(t)
		assert.Greater(t, after.Reductions, before.Reductions)
		assert.Greater(t, after.Sent, before.Sent+10_000)
		assert.Equal(t, before.Since, after.Since)
	})
}

// A walk that is given up was paid for all the same, and the next answer tells.
func TestCostOfWhatIsGivenUp(t *testing.T) {
	b := startCrowd(t, "")
	r := attach(t, nil, b)
	require.Len(t, r.ps(t, target.ProcessQuery{Limit: 1, Filter: "crowd_busy"}).all, 1)
	before := r.cost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var out rows
	require.NoError(t, r.Processes(ctx, target.ProcessQuery{Limit: 1, Window: time.Minute}, &out))
	require.Len(t, out.failed, 1)
	_, err := r.Eval(t.Context(), target.EvalQuery{Node: b.Name, Expression: "F = fun(F) -> F(F) end, F(F)", Language: "erlang", Timeout: 100 * time.Millisecond})
	require.NoError(t, err)
	after := r.cost(t)
	assert.Greater(t, after.Reductions, before.Reductions+1_000_000, "an endless loop for 100 ms, and the first look of a window")
	require.Zero(t, after.Failed)
}
