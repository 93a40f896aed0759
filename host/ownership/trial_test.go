package ownership

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTrial(t *testing.T) {
	start := time.Unix(1e9, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	type step struct {
		after    time.Duration // since start
		news     uint64
		is       outcome
		mine     bool
		hopeless bool
		failed   bool // afterwards
		failures int
		next     time.Duration // since start; 0: none
	}
	const ms, s, m = time.Millisecond, time.Second, time.Minute
	for name, steps := range map[string][]step{
		"fails for two seconds": {
			{0, 1, unknown, true, false, false, 0, 0},
			{100 * ms, 1, failing, true, false, false, 0, 2100 * ms},
			{2000 * ms, 1, failing, true, false, false, 0, 2100 * ms},
			{2100 * ms, 1, failing, true, false, true, 1, 0},
			{9 * s, 1, failing, true, false, true, 1, 0},
		},
		"attaches in time": {
			{0, 1, failing, true, false, false, 0, 2 * s},
			{1 * s, 1, attached, true, false, false, 0, 0},
			{3 * s, 1, failing, true, false, false, 0, 5 * s},
		},
		"another attempt begins": {
			{0, 1, failing, true, false, false, 0, 2 * s},
			{1 * s, 1, unknown, true, false, false, 0, 0},
			{3 * s, 1, failing, true, false, false, 0, 5 * s},
		},
		"counts only what is ours": {
			{0, 1, failing, false, false, false, 0, 0},
			{5 * s, 1, failing, true, false, false, 0, 7 * s},
			{6 * s, 1, failing, false, false, false, 0, 0},
			{8 * s, 1, failing, true, false, false, 0, 10 * s},
		},
		"offers itself again while the holder cannot": {
			{0, 1, failing, true, false, false, 0, 2 * s},
			{2 * s, 1, failing, true, false, true, 1, 0},
			{3 * s, 1, unknown, false, true, true, 1, 32 * s},
			{32 * s, 1, unknown, false, true, false, 1, 0},
			{33 * s, 1, failing, true, false, false, 1, 35 * s},
			{35 * s, 1, failing, true, false, true, 2, 0},
			{36 * s, 1, unknown, false, true, true, 2, 95 * s},
		},
		"does not while the holder can": {
			{0, 1, failing, true, false, false, 0, 2 * s},
			{2 * s, 1, failing, true, false, true, 1, 0},
			{10 * m, 1, unknown, false, false, true, 1, 0},
			{11 * m, 1, unknown, false, true, false, 1, 0},
		},
		"discovery has news": {
			{0, 1, failing, true, false, false, 0, 2 * s},
			{2 * s, 1, failing, true, false, true, 1, 0},
			{3 * s, 2, unknown, false, false, false, 0, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var tr trial
			for i, st := range steps {
				if i == 0 {
					tr.news = st.news
				}
				next := tr.next(at(st.after), st.news, st.is, st.mine, st.hopeless)
				require.Equal(t, st.failed, tr.failed, "step %d", i)
				require.Equal(t, st.failures, tr.failures, "step %d", i)
				if st.next == 0 {
					require.Zero(t, next, "step %d", i)
				} else {
					require.Equal(t, at(st.next), next, "step %d", i)
				}
			}
		})
	}
}

// TestTrialPauses doubles the time until it offers itself again, up to a bound.
func TestTrialPauses(t *testing.T) {
	now := time.Unix(1e9, 0)
	var tr trial
	var pauses []time.Duration
	for range 6 {
		tr.next(now, 0, failing, true, false)
		now = now.Add(failAfter)
		tr.next(now, 0, failing, true, false)
		pauses = append(pauses, tr.again.Sub(now))
		now = tr.again
		tr.next(now, 0, unknown, false, true)
	}
	require.Equal(t, []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute}, pauses)
}
