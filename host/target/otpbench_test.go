package target_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/target"
)

// largeState gives the process server of startOTP a state of 13 MB.
const largeState = `sys:replace_state(server, fun(_) -> #{
	index => maps:from_list([{I, {user, I, [I, I + 1], "name of " ++ integer_to_list(I)}} || I <- lists:seq(1, 25000)]),
	queue => lists:seq(1, 200000), blobs => [binary:copy(<<0>>, 300000) || _ <- lists:seq(1, 10)],
	deep => lists:foldl(fun(_, D) -> [D] end, [], lists:seq(1, 10000))} end), ok`

// BenchmarkState shows the top of a state of 13 MB. Beside it is what copying
// the state within the node takes, which nobody can do without.
func BenchmarkState(b *testing.B) {
	beam := startOTP(b, "")
	beam.MustEval(b, largeState)
	r := attach(b, nil, beam)
	r.state(b, beam, "server", "")
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			beam.MustEval(b, "map_size(sys:get_state(server))")
		}
	})
	b.Run("top", func(b *testing.B) {
		before := r.node.Peer(beam.Name).Stats().BytesIn
		for b.Loop() {
			_, err := r.State(b.Context(), target.StateQuery{Node: beam.Name, Process: "server", Timeout: time.Minute})
			require.NoError(b, err)
		}
		b.ReportMetric(float64(r.node.Peer(beam.Name).Stats().BytesIn-before)/float64(b.N), "wire-B/op")
	})
}
