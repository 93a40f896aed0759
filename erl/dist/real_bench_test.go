package dist_test

import (
	"context"
	"testing"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/require"
)

// echoModule answers pings, and sends a table as large as asked.
const echoModule = `-module(erltest_echo).
-export([init/0]).
init() ->
    register(erltest_echo, self()),
    loop(table(20000), binary:copy(<<"0123456789abcdef">>, 1 bsl 21)).
loop(Table, Binary) ->
    receive
        {ping, From} -> From ! pong;
        {table, From} -> From ! Table;
        {binary, From} -> From ! Binary;
        _ -> ok
    end,
    loop(Table, Binary).
table(N) -> [row(I) || I <- lists:seq(1, N)].
row(I) ->
    Info = erlang:process_info(self(), [registered_name, memory, reductions, message_queue_len,
        current_function, initial_call, status]),
    {self(), I, Info}.
`

var flagSets = []struct {
	name  string
	flags dist.Flags
}{
	{"neither", dist.DefaultFlags &^ (dist.FlagFragments | dist.FlagDistHdrAtomCache)},
	{"fragments", dist.DefaultFlags&^dist.FlagDistHdrAtomCache | dist.FlagFragments},
	{"both", dist.DefaultFlags | dist.FlagDistHdrAtomCache | dist.FlagFragments},
}

// BenchmarkRealNode measures against a real node, for each set of flags: a
// small message there and back, and large messages that come in.
func BenchmarkRealNode(b *testing.B) {
	beam := erltest.Start(b, erltest.Options{OTP: "27"})
	beam.LoadModule(b, "erltest_echo", echoModule)
	for _, fs := range flagSets {
		b.Run(fs.name, func(b *testing.B) {
			l := dial(b, beam, dist.Config{Flags: fs.flags})
			l.spawn(b, "erltest_echo", "init")
			beam.Await(b, "is_pid(whereis(erltest_echo))", "true")
			to := &dist.Control{Op: dist.OpRegSend, From: l.self, ToName: "erltest_echo"}
			dec := etf.NewDecoder(etf.Limits{})
			ask := func(b *testing.B, what etf.Term, size *int64) {
				require.NoError(b, l.Send(context.Background(), to, what))
				m := l.next(b)
				if size != nil {
					*size += int64(m.Payload.Len())
				}
				_, err := m.Payload.Decode(dec)
				require.NoError(b, err)
			}
			ping := etf.Tuple{etf.Atom("ping"), l.self}
			ask(b, ping, nil)
			b.Run("ping", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ask(b, ping, nil)
				}
			})
			for name, what := range map[string]etf.Term{
				"table-20k":   etf.Tuple{etf.Atom("table"), l.self},
				"binary-32MB": etf.Tuple{etf.Atom("binary"), l.self},
			} {
				b.Run(name, func(b *testing.B) {
					var size int64
					n := 0
					for b.Loop() {
						ask(b, what, &size)
						n++
					}
					b.SetBytes(size / int64(n))
				})
			}
			beam.MustEval(b, "exit(whereis(erltest_echo), kill)")
			beam.Await(b, "whereis(erltest_echo)", "undefined")
		})
	}
}
