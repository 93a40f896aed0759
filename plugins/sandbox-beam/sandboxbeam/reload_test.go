package sandboxbeam

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/sdk"
)

// again reloads a sandbox.
func (s *Strategy) again(t testing.TB, id string, n map[string]any) (Report, error) {
	t.Helper()
	config, err := json.Marshal(n)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patienceOfTests)
	defer cancel()
	var r Report
	text, err := s.Reload(ctx, sdk.SandboxSpec{ID: id, Config: config})
	if err == nil {
		require.NoError(t, json.Unmarshal(text, &r))
	}
	return r, err
}

// till is a project with a server whose state has a shape that changes.
const till = `defmodule Shop do
  use Application
  def start(_, _), do: Supervisor.start_link([Shop.Till], strategy: :one_for_one)
end
defmodule Shop.Till do
  use GenServer
  @vsn "VSN"
  def start_link(_), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)
  def sell(n), do: GenServer.call(__MODULE__, {:sell, n})
  def init(n), do: {:ok, INIT}
  def handle_call({:sell, n}, _, state), do: SELL
  def code_change(from, state, _), do: CHANGE
end
`

func tillOf(vsn, init, sell, change string) string {
	return strings.NewReplacer("VSN", vsn, "INIT", init, "SELL", sell, "CHANGE", change).Replace(till)
}

// New code takes over the state of what runs, old code takes it back, and what fails
// changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			one := tillOf("1", "n", "{:reply, state + n, state + n}", "{:ok, state.sum}")
			dir := project(t, one)
			lib := filepath.Join(dir, "lib", "shop.ex")
			config := map[string]any{"source": dir, "otp": otp}
			_, err := s.sandbox(t, "r", config)
			require.NoError(t, err)
			sell := func() string { return s.call(t, "r", "Elixir.Shop.Till", "sell", etf.Int(2)) }
			require.Equal(t, "2", sell())
			pid := s.call(t, "r", "erlang", "whereis", etf.Atom("Elixir.Shop.Till"))

			write(t, lib, tillOf("2", "%{sum: n, sales: 0}", "{:reply, {state.sum + n, state.sales + 1}, %{sum: state.sum + n, sales: state.sales + 1}}", `{:ok, %{sum: state, sales: String.to_integer(from)}}`))
			write(t, filepath.Join(dir, "lib", "new.ex"), "defmodule Shop.New do\n  def new, do: :yes\nend\n")
			r, err := s.again(t, "r", config)
			require.NoError(t, err)
			require.Len(t, r.Loaded, 1)
			require.Equal(t, "Shop.Till", r.Loaded[0].Module)
			require.NotEqual(t, r.Loaded[0].Was, r.Loaded[0].Is)
			require.Equal(t, []string{"Shop.New"}, r.Added)
			require.Empty(t, r.Removed)
			require.Len(t, r.Processes, 1)
			require.True(t, r.Processes[0].CodeChange)
			require.Equal(t, "{4,2}", sell(), "the state of before, as code_change made it of version 1")
			require.Equal(t, "yes", s.call(t, "r", "Elixir.Shop.New", "new"))

			// What does not compile, and whose code_change fails, changes nothing.
			two, err := os.ReadFile(lib)
			require.NoError(t, err)
			write(t, lib, "defmodule Shop do\n  def broken(, do: 1\nend\n")
			_, err = s.again(t, "r", config)
			require.Regexp(t, "lib/shop.ex:[23]", err.Error())
			require.Equal(t, "{6,3}", sell())
			write(t, lib, tillOf("3", "n", "{:reply, :three, state}", `raise "no way"`))
			_, err = s.again(t, "r", config)
			require.ErrorContains(t, err, "code_change of Shop.Till")
			require.ErrorContains(t, err, "no way")
			require.ErrorContains(t, err, "all is as it was")
			require.Equal(t, "{8,4}", sell())
			require.NoDirExists(t, filepath.Join(s.home("r"), nextDir))

			// Back to the first.
			write(t, lib, one)
			require.NoError(t, os.Remove(filepath.Join(dir, "lib", "new.ex")))
			back, err := s.again(t, "r", config)
			require.NoError(t, err)
			require.Equal(t, r.Loaded[0].Was, back.Loaded[0].Is)
			require.Equal(t, []string{"Shop.New"}, back.Removed)
			require.Equal(t, "10", sell())
			require.Equal(t, pid, s.call(t, "r", "erlang", "whereis", etf.Atom("Elixir.Shop.Till")), "the process is the same")
			require.NotEqual(t, one, string(two))

			out, err := s.Operate(t.Context(), "r", "versions", nil)
			require.NoError(t, err)
			var versions struct{ Modules []moduleVersions }
			require.NoError(t, json.Unmarshal(out, &versions))
			require.Len(t, versions.Modules, 2)
			require.Equal(t, "Shop.Till", versions.Modules[1].Module)
			require.Equal(t, r.Loaded[0].Was, versions.Modules[1].Version)
			require.Len(t, versions.Modules[1].Was, 2)
			require.Equal(t, r.Loaded[0].Is, versions.Modules[1].Was[0].Version)
		})
	}
}

// A script's modules are reloaded, and its top level is not run again.
func TestReloadScript(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			source := write(t, filepath.Join(t.TempDir(), "counter.exs"), counter)
			config := map[string]any{"source": source, "otp": otp}
			_, err := s.sandbox(t, "c", config)
			require.NoError(t, err)
			require.Equal(t, "40", s.call(t, "c", "Elixir.Counter", "next"))
			write(t, source, strings.Replace(counter, "{:reply, n, n + 1}", "{:reply, {:new, n}, n + 1}", 1)+"raise \"the top level again\"\n")
			r, err := s.again(t, "c", config)
			require.NoError(t, err)
			require.Len(t, r.Loaded, 1)
			require.Equal(t, "{new,41}", s.call(t, "c", "Elixir.Counter", "next"))

			write(t, source, counter)
			_, err = s.again(t, "c", config)
			require.NoError(t, err)
			require.Equal(t, "42", s.call(t, "c", "Elixir.Counter", "next"))
		})
	}
}

// A process that stays in a function of what was before that is not killed for a reload.
func TestReloadOfOldCode(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	source := filepath.Join(t.TempDir(), "loop.erl")
	of := func(n int) string {
		return fmt.Sprintf("-module(loop).\n-export([start/0, n/0]).\nstart() -> register(loop, spawn(fun loop/0)).\nloop() -> receive stop -> ok end.\nn() -> %d.\n", n)
	}
	write(t, source, of(1))
	config := map[string]any{"source": source, "otp": erltest.Releases()[0], "start": "loop:start()"}
	_, err := s.sandbox(t, "l", config)
	require.NoError(t, err)
	write(t, source, of(2))
	_, err = s.again(t, "l", config)
	require.NoError(t, err)
	require.Equal(t, "2", s.call(t, "l", "loop", "n"))
	write(t, source, of(3))
	_, err = s.again(t, "l", config)
	require.Regexp(t, `<0\.\d+\.0> run code of loop that is older than what runs now, and would be killed`, err.Error())
	require.Equal(t, "2", s.call(t, "l", "loop", "n"))
	s.call(t, "l", "erlang", "send", etf.Atom("loop"), etf.Atom("stop"))
	_, err = s.again(t, "l", config)
	require.NoError(t, err)
	require.Equal(t, "3", s.call(t, "l", "loop", "n"))
}

// The states of the processes that a spec names go along, at one moment, while the
// sandbox runs on.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			source := write(t, filepath.Join(t.TempDir(), "counter.exs"), counter+`
defmodule Own do
  def snapshot, do: {:own, :erlang.node()}
  def restore({:own, node}), do: Application.put_env(:elixir, :was, node)
end
`)
			config := map[string]any{"source": source, "otp": otp, "state": []string{"Counter"}, "state_module": "Own"}
			_, err := s.sandbox(t, "from", config)
			require.NoError(t, err)
			require.Equal(t, "40", s.call(t, "from", "Elixir.Counter", "next"))
			out, err := s.Operate(t.Context(), "from", "states", []byte("{}"))
			require.NoError(t, err)
			require.JSONEq(t, `{"states":[{"process":"Counter","bytes":3}]}`, string(out))
			var snapshot bytes.Buffer
			require.NoError(t, s.Snapshot(t.Context(), "from", &snapshot))
			require.Equal(t, "41", s.call(t, "from", "Elixir.Counter", "next"), "it runs on")
			was, err := s.Inspect(t.Context(), "from")
			require.NoError(t, err)

			raw, err := json.Marshal(config)
			require.NoError(t, err)
			_, err = s.Restore(t.Context(), sdk.SandboxSpec{ID: "to", Config: raw}, bytes.NewReader(snapshot.Bytes()))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Destroy(context.Background(), "to")) })
			require.Equal(t, "41", s.call(t, "to", "Elixir.Counter", "next"))
			require.Contains(t, s.call(t, "to", "application", "get_env", etf.Atom("elixir"), etf.Atom("was")), was.Node)

			_, err = s.Restore(t.Context(), sdk.SandboxSpec{ID: "garbage", Config: raw}, strings.NewReader("no term"))
			require.ErrorContains(t, err, "it is no snapshot")
			require.NoDirExists(t, filepath.Dir(s.home("garbage")))
			config["state"] = []string{"Nobody"}
			_, err = s.sandbox(t, "nobody", config)
			require.NoError(t, err)
			require.ErrorContains(t, s.Snapshot(t.Context(), "nobody", &snapshot), "no process is called Nobody")
		})
	}
}

// A code_change may call what is new with it. One that fails while a process stays in
// the old code leaves open what runs, and says so; a process that does not answer holds
// nothing up for good.
func TestReloadThatTears(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	one := tillOf("1", "n", "{:reply, state + n, state + n}", "{:ok, state}") + `
defmodule Shop.Deaf do
  def start, do: Process.register(spawn(fn -> {:ok, _} = :gen_event.start({:local, :deaf}); :sys.suspend(:deaf); Process.sleep(:infinity) end), :keeps)
end
`
	dir := project(t, one)
	lib := filepath.Join(dir, "lib", "shop.ex")
	config := map[string]any{"source": dir, "otp": erltest.Releases()[1], "start": "Shop.Deaf.start()"}
	_, err := s.sandbox(t, "r", config)
	require.NoError(t, err)
	sell := func() string { return s.call(t, "r", "Elixir.Shop.Till", "sell", etf.Int(2)) }
	require.Equal(t, "2", sell())

	write(t, lib, strings.Replace(one, "{:ok, state}\nend", "{:ok, Shop.Migrate.up(state)}\nend", 1))
	write(t, filepath.Join(dir, "lib", "migrate.ex"), "defmodule Shop.Migrate do\n  def up(n), do: n + 100\nend\n")
	_, err = s.again(t, "r", config)
	require.NoError(t, err)
	require.Equal(t, "104", sell())

	// A process in a loop of a module's own, and a code_change that fails.
	loops := `
defmodule Shop.Loop do
  def start, do: Process.register(spawn(&loop/0), :loops)
  def loop, do: (receive do :stop -> :ok end)
  def n, do: N
end
`
	write(t, lib, one+strings.Replace(loops, "N\n", "1\n", 1))
	_, err = s.again(t, "r", config)
	require.NoError(t, err)
	s.call(t, "r", "Elixir.Shop.Loop", "start")
	write(t, lib, strings.Replace(one, "{:ok, state}\nend", "raise \"no way\"\nend", 1)+strings.Replace(loops, "N\n", "2\n", 1))
	_, err = s.again(t, "r", config)
	require.ErrorIs(t, err, sdk.ErrUnsure)
	require.ErrorContains(t, err, "the new code of Shop.Loop stays")
}
