package target_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// budgeted attaches with a budget that the test may change, as a reload does.
func budgeted(t testing.TB, never bool, first target.Budget, b *erltest.Beam) (*rig, *atomic.Pointer[target.Budget]) {
	t.Helper()
	var budget atomic.Pointer[target.Budget]
	budget.Store(&first)
	return attach(t, func(c *target.Config) {
		c.AgentNever = never
		c.Budget = func() target.Budget { return *budget.Load() }
	}, b), &budget
}

func requireCut(t testing.TB, failed []target.NodeError) {
	t.Helper()
	require.Len(t, failed, 1)
	require.ErrorIs(t, failed[0].Err, target.ErrCut)
	var facts interface {
		Facts() (code, node, hint string)
	}
	require.True(t, errors.As(failed[0].Err, &facts))
	code, _, hint := facts.Facts()
	require.Equal(t, "cut", code)
	require.Contains(t, hint, "max_rows")
}

// An answer of more rows than the budget has is cut there, and says so; one of as
// many is whole.
func TestBudgetOfRows(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startCrowd(t, otp)
		for _, never := range []bool{false, true} {
			r, budget := budgeted(t, never, target.Budget{Rows: 100}, b)
			for _, q := range []target.ProcessQuery{{}, {Limit: 150}, {Limit: 150, Offset: 20}} {
				out := r.ps(t, q)
				assert.Len(t, out.all, max(0, 100-q.Offset), "never=%v %+v", never, q)
				requireCut(t, out.failed)
			}
			assert.Equal(t, uint64(3), r.cost(t).Cut)
			for _, q := range []target.ProcessQuery{{Limit: 100}, {Filter: "crowd_queue"}} {
				assert.Empty(t, r.ps(t, q).failed, "never=%v %+v", never, q)
			}
			top := r.ps(t, target.ProcessQuery{Sort: target.ByMessageQueueLen, Limit: 150}).all[0]
			assert.Equal(t, "crowd_queue_5", top.RegisteredName, "the rows that are left are the highest")

			budget.Store(&target.Budget{Rows: 3})
			all, failed := answers(func(out target.Answers[target.Names]) { r.Names(t.Context(), target.NamesQuery{}, out) })
			assert.Len(t, all[b.Name].Names, 3)
			assert.Greater(t, all[b.Name].Total, 3)
			requireCut(t, failed)
			tables, failed := answers(func(out target.Answers[target.Tables]) { r.Tables(t.Context(), target.TablesQuery{}, out) })
			assert.Len(t, tables[b.Name].Tables, 3)
			requireCut(t, failed)
			_, failed = answers(func(out target.Answers[target.Names]) { r.Names(t.Context(), target.NamesQuery{Limit: 2}, out) })
			assert.Empty(t, failed, "the question asked for less")
			if !never {
				tree, err := r.Tree(t.Context(), target.TreeQuery{Node: b.Name, App: "kernel", Supervised: true})
				require.NoError(t, err)
				assert.NotZero(t, cutChildren(tree), "%+v", tree)
			}

			budget.Store(&target.Budget{})
			assert.Empty(t, r.ps(t, target.ProcessQuery{}).failed)
			r.stop()
			require.Equal(t, unloaded, loadedAgents(t, b))
		}
	})
}

func cutChildren(n *target.TreeNode) uint64 {
	sum := n.Cut()
	for _, c := range n.Children {
		sum += cutChildren(c)
	}
	return sum
}

// A large answer takes the time that its bytes have; small questions do not wait
// for it.
func TestBudgetOfBytes(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startCrowd(t, otp)
		const rate = 150_000
		for _, never := range []bool{false, true} {
			r, budget := budgeted(t, never, target.Budget{}, b)
			small := func() {
				_, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "init", Timeout: 2 * time.Second})
				assert.NoError(t, err)
			}
			small()
			require.Zero(t, r.cost(t).Slowed)
			budget.Store(&target.Budget{Bytes: rate})
			before, began := r.cost(t).Received, time.Now()
			done := make(chan *rows, 1)
			go func() { done <- r.ps(t, target.ProcessQuery{}) }()
			require.Eventually(t, func() bool { return r.cost(t).Slowed > 0 }, 20*time.Second, time.Millisecond)
			small()
			var out *rows
			select {
			case out = <-done:
				t.Error("the answer was there before the small one") // by more than a second
			default:
				out = <-done
			}
			took, bytes := time.Since(began), r.cost(t).Received-before
			require.Empty(t, out.failed)
			require.Greater(t, len(out.all), 2000)
			// What came last, 4 parts of two workers or one batch, is not waited for.
			last := 8 * 50_000
			if never {
				last = 300_000
			}
			owed := float64(bytes) - rate - float64(last)
			assert.GreaterOrEqual(t, took.Seconds(), owed/rate, "never=%v: %d bytes in %v", never, bytes, took)
			t.Logf("never=%v: %d bytes in %v", never, bytes, took)
			r.stop()
		}
	})
}

// A question whose time is over while it waits for the budget says that.
func TestBudgetTakesTooLong(t *testing.T) {
	b := startCrowd(t, "")
	r, _ := budgeted(t, false, target.Budget{Bytes: 1000}, b)
	out := r.ps(t, target.ProcessQuery{Timeout: 500 * time.Millisecond})
	require.Len(t, out.failed, 1)
	require.ErrorContains(t, out.failed[0].Err, "it may be made to send 1000 bytes a second")
	require.Equal(t, target.Attached, r.Targets()[0].State, "it is not to blame")
	_, failed := answers(func(o target.Answers[target.Tables]) {
		r.Tables(t.Context(), target.TablesQuery{Ask: target.Ask{Timeout: 100 * time.Millisecond}}, o)
	})
	require.Len(t, failed, 1)
	require.True(t, strings.Contains(failed[0].Err.Error(), "1000 bytes a second"), "%v", failed[0].Err)
	require.Eventually(t, func() bool { return r.node.Peer(b.Name).Pending() == 0 }, 30*time.Second, time.Millisecond, "what nobody waits for is forgotten")
}
