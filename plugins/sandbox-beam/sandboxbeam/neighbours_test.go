package sandboxbeam

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/sdk"
)

const neighbour = `defmodule Ping do
  def start do
    Process.register(spawn(fn -> echo() end), :echo)
    Process.register(spawn(fn -> loop([]) end), :ping)
  end
  defp echo do
    receive do {from, ref} -> send(from, ref) end
    echo()
  end
  defp loop(took) do
    receive do
      {:take, from} ->
        send(from, {:took, took})
        loop([])
    after
      10 ->
        ref = make_ref()
        began = System.monotonic_time(:microsecond)
        send(:echo, {self(), ref})
        receive do ^ref -> loop([System.monotonic_time(:microsecond) - began | took]) end
    end
  end
  # How many pings there were since it was asked last, and their median and 99th percentile.
  def take do
    send(:ping, {:take, self()})
    took = receive do {:took, took} -> Enum.sort(took) end
    n = length(took)
    {n, Enum.at(took, div(n, 2), 0), Enum.at(took, div(n * 99, 100), 0)}
  end
  def eat(kept \\ []), do: eat([:binary.copy("x", 10_000_000) | kept])
  def spin(n \\ 0), do: spin(n + 1)
  def flood do
    IO.puts(String.duplicate("flood ", 1000))
    flood()
  end
end
Ping.start()
`

// BenchmarkNeighbours: 20 sandboxes, in 17 of which a process is pinged every 10 ms, at
// first while the others are idle, then while one of those eats memory until it is
// stopped, one loops and one floods its log.
func BenchmarkNeighbours(b *testing.B) {
	const all, quiet, period = 20, 17, 10 * time.Second
	s := strategy(b, "")
	source := write(b, filepath.Join(b.TempDir(), "ping.exs"), neighbour)
	config, err := json.Marshal(map[string]any{"source": source, "otp": erltest.Releases()[1]})
	require.NoError(b, err)
	create := func(id string) {
		_, err := s.Create(b.Context(), sdk.SandboxSpec{ID: id, Config: config, Limits: sdk.SandboxLimits{Memory: 512 << 20, CPUs: 1}})
		require.NoError(b, err)
	}
	id := func(i int) string { return "n" + strconv.Itoa(i) }
	for i := range all {
		create(id(i))
		defer func() { require.NoError(b, s.Destroy(b.Context(), id(i))) }()
	}
	measure := func() (pings, p50, p99 float64) {
		for i := range quiet {
			s.call(b, id(i), "Elixir.Ping", "take")
		}
		time.Sleep(period)
		for i := range quiet {
			var n, half, most float64
			_, err := fmt.Sscanf(s.call(b, id(i), "Elixir.Ping", "take"), "{%g,%g,%g}", &n, &half, &most)
			require.NoError(b, err)
			pings, p50, p99 = pings+n/quiet/period.Seconds(), p50+half/quiet, p99+most/quiet
		}
		return pings, p50, p99
	}
	for b.Loop() {
		n, half, most := measure()
		b.ReportMetric(n, "pings/s-idle")
		b.ReportMetric(half, "µs-p50-idle")
		b.ReportMetric(most, "µs-p99-idle")
		for i, bad := range []string{"eat", "spin", "flood"} {
			s.call(b, id(quiet+i), "erlang", "spawn", etf.Atom("Elixir.Ping"), etf.Atom(bad), etf.List(nil))
		}
		n, half, most = measure()
		b.ReportMetric(n, "pings/s-beside")
		b.ReportMetric(half, "µs-p50-beside")
		b.ReportMetric(most, "µs-p99-beside")
		for i := quiet; i < all; i++ {
			require.NoError(b, s.Destroy(b.Context(), id(i)))
			create(id(i))
		}
	}
	b.ReportMetric(0, "ns/op")
}
