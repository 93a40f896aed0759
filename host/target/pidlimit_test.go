package target_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// TestPidThatCannotBe has pids with numbers that no process of a node can have,
// which a node of OTP 25 answers by closing the connection.
func TestPidThatCannotBe(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp})
		r := attach(t, nil, b)
		for _, pid := range []string{"<0.32767.8191>", "<0.32768.0>", "<0.99999.0>", "<0.1.8192>", "<0.268435455.4294967295>", "<0.268435456.0>", "<0.4294967295.4294967295>"} {
			_, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: pid})
			require.ErrorIs(t, err, target.ErrNoProcess, pid)
			out := r.ps(t, target.ProcessQuery{Filter: pid, Limit: 5})
			require.Empty(t, out.all, pid)
			require.Empty(t, out.failed, pid)
			_, err = r.MonitorPid(t.Context(), b.Name, pid, 0, func(string) {})
			require.ErrorIs(t, err, target.ErrNoProcess, pid)
		}
		require.NotContains(t, b.Log(), "corrupted")
	})
}
