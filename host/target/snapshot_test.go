package target_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

func (r *rig) snapshot(t testing.TB, q target.SnapshotQuery) (map[string]target.Snapshot, []target.NodeError) {
	t.Helper()
	all, failed := map[string]target.Snapshot{}, []target.NodeError{}
	q.Timeout = 30 * time.Second
	r.Snapshot(t.Context(), q, target.Answers[target.Snapshot]{
		Answer: func(node string, s target.Snapshot) { all[node] = s },
		Failed: func(f target.NodeError) { failed = append(failed, f) },
	})
	return all, failed
}

func amount(all []target.Amount, name string) uint64 {
	for _, a := range all {
		if a.Name == name {
			return a.Value
		}
	}
	return 0
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startIll(t, otp, nil, "lone", "edge", "orphan")
		b.MustEval(t, "begin ill:start(orphan), register(ill_big, spawn(ill, stay, [lists:seq(1, 1000000)])) end")
		r := attach(t, nil, b)
		all, failed := r.snapshot(t, target.SnapshotQuery{Limit: 20})
		require.Empty(t, failed)
		s := all[b.Name]
		assert.Equal(t, otp, s.OTPRelease)
		assert.NotZero(t, s.Uptime)
		assert.WithinDuration(t, time.Now(), s.Taken, time.Minute)
		assert.Greater(t, amount(s.Memory, "total"), amount(s.Memory, "processes"))
		assert.Greater(t, amount(s.Counts, "processes"), uint64(1200))
		assert.Greater(t, amount(s.Limits, "atoms"), amount(s.Counts, "atoms"))
		assert.NotEmpty(t, s.Apps["stdlib"])
		groups := map[string]target.ProcessGroup{}
		for _, g := range s.Groups {
			groups[g.InitialCall] = g
		}
		assert.Equal(t, uint64(1200), groups["ill:lone/0"].Count)
		assert.Equal(t, uint64(3), groups["ill:stay/1"].Count)
		assert.Equal(t, s.AllGroups, uint64(len(s.Groups)))
		assert.NotZero(t, groups["supervisor:ill/1"].Count, "what is behind proc_lib: %v", groups)
		assert.LessOrEqual(t, len(s.Processes), 60)
		found := false
		for _, p := range s.Processes {
			found = found || p.RegisteredName == "ill_big" && p.Memory > 8_000_000 && p.InitialCall == "ill:stay/1"
		}
		assert.True(t, found)
		assert.Len(t, s.Tables, 20)
		for _, e := range s.Tables {
			if e.Name == "ill_orphan" {
				assert.Equal(t, uint64(2), e.Count)
				assert.Equal(t, uint64(100_000), e.Size)
				assert.Greater(t, e.Memory, uint64(4_000_000))
			}
		}
		assert.Equal(t, "ill_orphan", s.Tables[0].Name)
		assert.GreaterOrEqual(t, s.AllTables, uint64(20))
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

func TestSnapshotFails(t *testing.T) {
	t.Parallel()
	b, frozen := startIll(t, "", nil), startIll(t, "", nil)
	r := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
	_, failed := r.snapshot(t, target.SnapshotQuery{})
	require.Len(t, failed, 1)
	assert.ErrorContains(t, failed[0].Err, "take a snapshot of "+b.Name)

	r = attach(t, nil, b, frozen)
	require.NoError(t, frozen.Freeze())
	defer frozen.Thaw()
	all, failed := map[string]target.Snapshot{}, []target.NodeError{}
	r.Snapshot(t.Context(), target.SnapshotQuery{Ask: target.Ask{Timeout: 3 * time.Second}}, target.Answers[target.Snapshot]{
		Answer: func(node string, s target.Snapshot) { all[node] = s },
		Failed: func(f target.NodeError) { failed = append(failed, f) },
	})
	assert.Contains(t, all, b.Name)
	require.Len(t, failed, 1)
	assert.Equal(t, frozen.Name, failed[0].Node)
}
