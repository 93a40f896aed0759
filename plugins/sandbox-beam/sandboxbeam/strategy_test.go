package sandboxbeam

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

// TestMain makes this binary a keeper when it is started as one.
func TestMain(m *testing.M) {
	if keeper.Main() {
		return
	}
	os.Exit(m.Run())
}

// Patience bounds what takes no time on a machine that has it.
const patienceOfTests = 60 * time.Second

// strategy is one that knows all releases, with a directory of its own.
func strategy(t testing.TB, dir string) *Strategy {
	t.Helper()
	s := New("1").(*Strategy)
	s.config.OTP = map[string]string{}
	for _, otp := range erltest.Releases() {
		s.config.OTP[otp] = filepath.Join(erltest.Dir(), otp, "bin")
	}
	if dir == "" {
		var err error
		dir, err = os.MkdirTemp("", "dhb") // short: a socket is in it
		require.NoError(t, err)
		t.Cleanup(func() {
			require.Eventually(t, func() bool { return os.RemoveAll(dir) == nil }, patienceOfTests, 10*time.Millisecond)
		})
	}
	require.NoError(t, s.Configured(sdk.WithStateDir(t.Context(), dir)))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// sandbox creates one that is destroyed with the test.
func (s *Strategy) sandbox(t *testing.T, id string, n map[string]any) (sdk.SandboxHandle, error) {
	t.Helper()
	config, err := json.Marshal(n)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patienceOfTests)
	defer cancel()
	h, err := s.Create(ctx, sdk.SandboxSpec{ID: id, Config: config})
	if err == nil {
		t.Cleanup(func() { require.NoError(t, s.Destroy(context.Background(), id)) })
	}
	return h, err
}

// call calls a function in a sandbox, by distribution, as a debughost would.
func (s *Strategy) call(t testing.TB, id, module, function string, args ...etf.Term) string {
	t.Helper()
	st, err := s.Inspect(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, sdk.SandboxRunning, st.State)
	cookie, err := os.ReadFile(st.CookieFile)
	require.NoError(t, err)
	n, err := node.New(node.Config{Name: "asks@127.0.0.1"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patienceOfTests)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(running) }()
	defer func() { stop(); <-done }()
	peer, err := n.Connect(ctx, st.Node, node.DialOptions{Addr: st.Addr, Cookie: dist.NewCookie(string(cookie))})
	require.NoError(t, err)
	got, err := peer.Call(ctx, module, function, args...)
	require.NoError(t, err)
	return etf.Format(got, etf.PrintOptions{})
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

const counter = `defmodule Counter do
  use GenServer
  def start(n), do: GenServer.start(__MODULE__, n, name: __MODULE__)
  def next, do: GenServer.call(__MODULE__, :next)
  def init(n), do: {:ok, n}
  def handle_call(:next, _, n), do: {:reply, n, n + 1}
end
{:ok, _} = Counter.start(40)
IO.puts("counting, HOME is #{System.get_env("HOME")}")
`

// A script's modules and processes are in a node of their own, that no EPMD knows, and
// that the next process of the plugin takes over.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			source := write(t, filepath.Join(t.TempDir(), "a b 'c'", "counter.exs"), counter)
			h, err := s.sandbox(t, "one.x", map[string]any{"source": source, "otp": otp, "start": "Counter.next()"})
			require.NoError(t, err)
			require.Equal(t, "41", s.call(t, "one.x", "Elixir.Counter", "next"))
			require.Equal(t, fmt.Sprintf("%q", otp), s.call(t, "one.x", "erlang", "system_info", etf.Atom("otp_release")))
			st, err := s.Inspect(t.Context(), "one.x")
			require.NoError(t, err)
			require.Regexp(t, `^one_x-[0-9a-f]{8}@127\.0\.0\.1$`, st.Node)
			info, err := os.Stat(st.CookieFile)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", st.OSPid))
			require.NoError(t, err)
			cookie, err := os.ReadFile(st.CookieFile)
			require.NoError(t, err)
			require.NotContains(t, string(argv), string(cookie))
			require.Contains(t, s.tail(t.Context(), s.nodes, "one.x"), "counting, HOME is "+s.home("one.x"))

			again := strategy(t, s.dir)
			_, err = again.Inspect(t.Context(), "one.x")
			require.ErrorIs(t, err, sdk.ErrNotFound)
			require.NoError(t, again.Recover(t.Context(), h))
			require.Equal(t, "42", again.call(t, "one.x", "Elixir.Counter", "next"))
			taken, err := again.Inspect(t.Context(), "one.x")
			require.NoError(t, err)
			require.Equal(t, st.Node, taken.Node)
			require.Equal(t, st.Addr, taken.Addr)

			// What it writes into its own files makes nobody of it.
			write(t, filepath.Join(again.home("one.x"), portFile), "22\n@db1")
			odd, err := again.Inspect(t.Context(), "one.x")
			require.NoError(t, err)
			require.Empty(t, odd.Node)

			require.NoError(t, again.Stop(t.Context(), "one.x", patienceOfTests))
			ended, err := again.Inspect(t.Context(), "one.x")
			require.NoError(t, err)
			require.Equal(t, sdk.SandboxExited, ended.State)
			require.Empty(t, ended.Node)
			require.NoError(t, again.Destroy(t.Context(), "one.x"))
			require.NoDirExists(t, filepath.Dir(s.home("one.x")))
		})
	}
}

// A module is compiled once for all that run it on one release.
func TestModule(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			source := write(t, filepath.Join(t.TempDir(), "shop.erl"), "-module(shop).\n-export([price/0]).\nprice() -> 7.\n")
			config := map[string]any{"source": source, "otp": otp, "start": `io:format("price ~p~n", [shop:price()])`}
			_, err := s.sandbox(t, "a", config)
			require.NoError(t, err)
			require.Equal(t, "7", s.call(t, "a", "shop", "price"))
			require.Contains(t, s.tail(t.Context(), s.nodes, "a"), "price 7")
			builds := func() []os.DirEntry {
				all, err := os.ReadDir(filepath.Join(s.dir, cacheDir))
				require.NoError(t, err)
				return all
			}
			require.Len(t, builds(), 1)
			beam := filepath.Join(s.dir, cacheDir, builds()[0].Name(), "lib", "main", "ebin", "shop.beam")
			before, err := os.Stat(beam)
			require.NoError(t, err)
			_, err = s.sandbox(t, "b", config)
			require.NoError(t, err)
			after, err := os.Stat(beam)
			require.NoError(t, err)
			require.Equal(t, before.ModTime(), after.ModTime(), "it was compiled again")

			write(t, source, "-module(shop).\n-export([price/0]).\nprice() -> 8.\n")
			_, err = s.sandbox(t, "c", config)
			require.NoError(t, err)
			require.Equal(t, "8", s.call(t, "c", "shop", "price"))
			require.Equal(t, "7", s.call(t, "a", "shop", "price"), "what runs stays")
			require.Len(t, builds(), 2)

			write(t, source, "-module(shop).\n-export([price/0]).\nprice() -> nine.\nlost(\n")
			_, err = s.sandbox(t, "d", config)
			require.ErrorContains(t, err, "shop.erl:", "as the compiler says it")
			require.NoDirExists(t, filepath.Dir(s.home("d")))
			require.Len(t, builds(), 2)
		})
	}
}

// What one that was killed was about to make is removed by the next one, and what one that
// is at work makes is not.
func TestStagingIsSwept(t *testing.T) {
	dir := t.TempDir()
	left := write(t, filepath.Join(dir, stagingDir, "left", "src", "shop.erl"), "")
	s := strategy(t, dir)
	require.NoFileExists(t, left)
	stage, err := s.stage()
	require.NoError(t, err)
	strategy(t, dir)
	require.DirExists(t, stage)
}

// A data directory may be called what a pattern is written with.
func TestOddDirectory(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "dh[b]")
	require.NoError(t, err)
	s := strategy(t, dir)
	source := write(t, filepath.Join(t.TempDir(), "shop.erl"), "-module(shop).\n-export([price/0]).\nprice() -> 7.\n")
	_, err = s.sandbox(t, "odd", map[string]any{"source": source, "otp": erltest.Releases()[0]})
	require.NoError(t, err)
	require.Equal(t, "7", s.call(t, "odd", "shop", "price"))
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.RemoveAll(dir) == nil }, patienceOfTests, 10*time.Millisecond)
	})
}

// project writes a Mix project, in a directory with a name that is hard on shells.
func project(t testing.TB, lib string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my 'shop' \"1\"")
	write(t, filepath.Join(dir, "mix.exs"), `defmodule Shop.MixProject do
  use Mix.Project
  def project, do: [app: :shop, version: "0.1.0"]
  def application, do: [mod: {Shop, []}, extra_applications: [:logger]]
end
`)
	write(t, filepath.Join(dir, "config", "config.exs"), "import Config\nconfig :shop, env: config_env(), fun: fn -> 1 end, name: \"Zoë\"\n")
	write(t, filepath.Join(dir, "priv", "greeting"), "hello")
	write(t, filepath.Join(dir, "_build", "dev", "stale"), "of somebody else")
	write(t, filepath.Join(dir, "lib", "shop.ex"), lib)
	return dir
}

const shop = `defmodule Shop do
  use Application
  def start(_, _), do: Agent.start_link(fn -> 5 end, name: Shop.Stock)
  def stock, do: Agent.get(Shop.Stock, & &1)
  def env, do: {Application.get_env(:shop, :env), Application.get_env(:shop, :name)}
  def greeting, do: File.read!(Application.app_dir(:shop, "priv/greeting"))
end
`

// A project is compiled without a trace in its own directory, and its application is
// started with the environment of its config.
func TestMixProject(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s, dir := strategy(t, ""), project(t, shop)
			_, err := s.sandbox(t, "shop", map[string]any{"source": dir, "otp": otp, "env": map[string]string{"MIX_ENV": "prod"}})
			require.NoError(t, err)
			require.Equal(t, "5", s.call(t, "shop", "Elixir.Shop", "stock"))
			require.Equal(t, `{prod,<<"Zoë"/utf8>>}`, s.call(t, "shop", "Elixir.Shop", "env"))
			require.Equal(t, `<<"hello">>`, s.call(t, "shop", "Elixir.Shop", "greeting"))
			require.NoDirExists(t, filepath.Join(dir, "_build", "prod"))
			require.Equal(t, "non_existing", s.call(t, "shop", "code", "which", etf.Atom("Elixir.Mix")))
			require.FileExists(t, filepath.Join(dir, "_build", "dev", "stale"))
		})
	}
}

// mixFile is the mix.exs of a library.
func mixFile(app, version, deps string) string {
	return fmt.Sprintf("defmodule %s.MixProject do\n  use Mix.Project\n  def project, do: [app: :%s, version: %q, deps: %s]\nend\n", strings.ToUpper(app[:1])+app[1:], app, version, deps)
}

// A dependency is compiled with what other parts of the project depend on at hand: those
// that lie in the project and not in deps may have dependencies, too.
func TestPathDependency(t *testing.T) {
	s, dir := strategy(t, ""), t.TempDir()
	write(t, filepath.Join(dir, "mix.exs"), mixFile("shop", "0.1.0", `[{:greet, "~> 1.0"}, {:core, path: "core"}]`))
	write(t, filepath.Join(dir, "core", "mix.exs"), mixFile("core", "0.1.0", `[{:talk, "~> 0.1"}]`))
	write(t, filepath.Join(dir, "core", "lib", "core.ex"), "defmodule Core do\nend\n")
	write(t, filepath.Join(dir, "deps", "greet", "mix.exs"), mixFile("greet", "1.0.0", `[{:talk, "~> 0.1", optional: true}]`))
	write(t, filepath.Join(dir, "deps", "greet", "lib", "greet.ex"), "defmodule Greet do\n  if Code.ensure_loaded?(Talk), do: def(talks, do: true), else: def(talks, do: false)\nend\n")
	write(t, filepath.Join(dir, "deps", "talk", "mix.exs"), mixFile("talk", "0.1.0", "[]"))
	write(t, filepath.Join(dir, "deps", "talk", "lib", "talk.ex"), "defmodule Talk do\nend\n")
	_, err := s.sandbox(t, "shop", map[string]any{"source": dir, "otp": erltest.Releases()[1]})
	require.NoError(t, err)
	require.Equal(t, "true", s.call(t, "shop", "Elixir.Greet", "talks"))
}

// The dependencies of a project are those in deps: neither Hex nor git is asked for them,
// and those that are not in there because they are optional, or for tests, are not missed.
func TestMixDependencies(t *testing.T) {
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s, dir := strategy(t, ""), project(t, strings.Replace(shop, `File.read!(Application.app_dir(:shop, "priv/greeting"))`, `Greet.hello()`, 1))
			write(t, filepath.Join(dir, "mix.exs"), `defmodule Shop.MixProject do
  use Mix.Project
  def project, do: [app: :shop, version: "0.1.0", deps: deps()]
  def application, do: [mod: {Shop, []}]
  defp deps do
    [
      {:greet, "~> 1.0 and >= 1.2.0", runtime: true},
      {:talk, github: "nobody/repo", sparse: "talk", tag: "v1"},
      {:loud, ">= 0.0.0"},
      {:proof, "~> 1.0", only: :test}
    ]
  end
end
`)
			deps := filepath.Join(dir, "deps")
			write(t, filepath.Join(deps, "greet", "mix.exs"), mixFile("greet", "1.2.3", `[{:loud, "~> 2.0"}, {:more, "~> 1.0", optional: true}]`))
			write(t, filepath.Join(deps, "greet", "lib", "greet.ex"), "defmodule Greet do\n  @at System.os_time()\n  def at, do: @at\n  def hello, do: :loud.say(Talk.word())\nend\n")
			write(t, filepath.Join(deps, "greet", ".fetch"), "")
			write(t, filepath.Join(deps, "greet", ".hex"), "of another program")
			write(t, filepath.Join(deps, "talk", "talk", "mix.exs"), mixFile("talk", "0.1.0", "[]"))
			write(t, filepath.Join(deps, "talk", "talk", "lib", "talk.ex"), "defmodule Talk do\n  def word, do: \"hi\"\nend\n")
			write(t, filepath.Join(deps, "loud", "rebar.config"), "{erl_opts, [debug_info]}.\n")
			write(t, filepath.Join(deps, "loud", "src", "loud.app.src"), `{application,loud,[{vsn,"2.1.0"},{applications,[kernel,stdlib]}]}.`)
			write(t, filepath.Join(deps, "loud", "src", "loud.erl"), "-module(loud).\n-export([say/1]).\nsay(W) -> string:uppercase(W).\n")
			write(t, filepath.Join(dir, "mix.lock"), `%{"greet": {:hex, :greet, "1.2.3", "abc", [:mix], [], "hexpm", "def"}}`)
			_, err := s.sandbox(t, "shop", map[string]any{"source": dir, "otp": otp})
			require.NoError(t, err)
			require.Equal(t, `<<"HI">>`, s.call(t, "shop", "Elixir.Shop", "greeting"))

			// When the project has changed they are what they were, also for another sandbox.
			at := s.call(t, "shop", "Elixir.Greet", "at")
			write(t, filepath.Join(dir, "lib", "more.ex"), "defmodule More do\n  def more, do: 1\nend\n")
			_, err = s.sandbox(t, "other", map[string]any{"source": dir, "otp": otp})
			require.NoError(t, err)
			require.Equal(t, "1", s.call(t, "other", "Elixir.More", "more"))
			require.Equal(t, at, s.call(t, "other", "Elixir.Greet", "at"))
			write(t, filepath.Join(deps, "talk", "talk", "lib", "talk.ex"), "defmodule Talk do\n  def word, do: \"ho\"\nend\n")
			_, err = s.sandbox(t, "third", map[string]any{"source": dir, "otp": otp})
			require.NoError(t, err)
			require.Equal(t, `<<"HO">>`, s.call(t, "third", "Elixir.Shop", "greeting"))

			require.NoError(t, os.RemoveAll(filepath.Join(deps, "greet")))
			_, err = s.sandbox(t, "lost", map[string]any{"source": dir, "otp": otp})
			require.ErrorContains(t, err, "the dependency is not available")
		})
	}
}

// An umbrella's applications are compiled and started, with what they depend on.
func TestUmbrella(t *testing.T) {
	s, otp, dir := strategy(t, ""), erltest.Releases()[2], t.TempDir()
	write(t, filepath.Join(dir, "mix.exs"), "defmodule All.MixProject do\n  use Mix.Project\n  def project, do: [apps_path: \"apps\", version: \"0.1.0\", deps: []]\nend\n")
	write(t, filepath.Join(dir, "config", "config.exs"), "import Config\nconfig :web, name: \"web\"\n")
	app := func(name, deps, code string) {
		write(t, filepath.Join(dir, "apps", name, "mix.exs"), fmt.Sprintf(`defmodule %s.MixProject do
  use Mix.Project
  def project, do: [app: :%s, version: "0.1.0", build_path: "../../_build", config_path: "../../config/config.exs", deps_path: "../../deps", lockfile: "../../mix.lock", deps: %s]
  def application, do: [extra_applications: [:logger, :mix]]
end
`, strings.ToUpper(name[:1])+name[1:], name, deps))
		write(t, filepath.Join(dir, "apps", name, "lib", name+".ex"), code)
	}
	app("stock", `[{:greet, "~> 1.0"}]`, "defmodule Stock do\n  def hello, do: Greet.hello()\nend\n")
	app("web", "[{:stock, in_umbrella: true}]", "defmodule Web do\n  def hello, do: {Application.get_env(:web, :name), Stock.hello()}\nend\n")
	write(t, filepath.Join(dir, "deps", "greet", "mix.exs"), mixFile("greet", "1.0.0", "[]"))
	write(t, filepath.Join(dir, "deps", "greet", "lib", "greet.ex"), "defmodule Greet do\n  def hello, do: \"hi\"\nend\n")
	_, err := s.sandbox(t, "all", map[string]any{"source": dir, "otp": otp})
	require.NoError(t, err)
	require.Equal(t, `{<<"web">>,<<"hi">>}`, s.call(t, "all", "Elixir.Web", "hello"))
	require.Contains(t, s.call(t, "all", "code", "which", etf.Atom("Elixir.Mix")), "mix/ebin") // for they name it
	made, err := filepath.Glob(filepath.Join(s.dir, cacheDir, depsPrefix+"*", "greet", "ebin", "Elixir.Greet.beam"))
	require.NoError(t, err)
	require.Len(t, made, 1)
}

// A compiler that fails says why in its own words, and one that does not end is
// stopped; of both nothing is left.
func TestCompilerFails(t *testing.T) {
	s := strategy(t, "")
	otp := erltest.Releases()[1]
	_, err := s.sandbox(t, "a", map[string]any{"otp": otp, "source": project(t, "defmodule Shop do\n  def f, do: lost(1)\nend\n")})
	require.ErrorContains(t, err, "undefined function lost/1")
	require.ErrorContains(t, err, "lib/shop.ex:2")
	_, err = s.sandbox(t, "b", map[string]any{"otp": otp, "source": project(t, "Process.sleep(:infinity)\n"), "compile_timeout": "1s"})
	require.ErrorContains(t, err, "stopped after 1s")
	for _, sub := range []string{cacheDir, stagingDir, filepath.Join(buildsDir, "children"), filepath.Join(nodesDir, "children")} {
		left, _ := os.ReadDir(filepath.Join(s.dir, sub))
		require.Empty(t, left, sub)
	}
}

// badElixir and badErlang are modules with so many errors, of which each calls a function
// lost_N that is not there.
func badElixir(errors int) string {
	var b strings.Builder
	b.WriteString("defmodule Shop do\n")
	for i := range errors {
		fmt.Fprintf(&b, "  def f%04d, do: lost_%04d(:tea)\n", i+1, i+1)
	}
	return b.String() + "end\n"
}

func badErlang(errors int) string {
	var b strings.Builder
	b.WriteString("-module(shop).\n-compile(export_all).\n")
	for i := range errors {
		fmt.Fprintf(&b, "f%04d() -> lost_%04d(tea).\n", i+1, i+1)
	}
	return b.String()
}

// Of what compilers print, and of the scripts that do not compile in their node, all
// errors are in the error of a start and of a reload, or the last ones of very many.
func TestAllErrorsOfACompiler(t *testing.T) {
	otp := erltest.Releases()[1]
	const many = 45
	rebar := filepath.Join(t.TempDir(), "rebar")
	write(t, filepath.Join(rebar, "rebar.config"), "{erl_opts, [debug_info]}.\n")
	write(t, filepath.Join(rebar, "src", "shop.app.src"), `{application,shop,[{vsn,"1"},{applications,[kernel,stdlib]}]}.`)
	s := strategy(t, "")
	for name, c := range map[string]struct {
		source, file, good string
		bad                func(int) string
	}{
		"mix":    {source: project(t, shop), file: "lib/shop.ex", good: shop, bad: badElixir},
		"rebar3": {source: rebar, file: "src/shop.erl", good: "-module(shop).\n", bad: badErlang},
		"exs":    {source: filepath.Join(t.TempDir(), "shop.exs"), good: "defmodule Shop do\nend\n", bad: badElixir},
		"erl":    {source: filepath.Join(t.TempDir(), "shop.erl"), good: "-module(shop).\n", bad: badErlang},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := map[string]any{"source": c.source, "otp": otp}
			check := func(err error) {
				t.Helper()
				require.Error(t, err)
				for i := range many {
					require.Contains(t, err.Error(), fmt.Sprintf("lost_%04d/1", i+1))
				}
				require.NotContains(t, err.Error(), "left out")
			}
			file := filepath.Join(c.source, c.file)
			write(t, file, c.bad(many))
			_, err := s.sandbox(t, name, config)
			check(err)
			write(t, file, c.good)
			_, err = s.sandbox(t, name, config)
			require.NoError(t, err)
			for range 2 { // by a compiler of its own, and by one that stays
				write(t, file, c.bad(many))
				_, err = s.again(t, name, config)
				check(err)
				write(t, file, c.good+"\n")
				_, err = s.again(t, name, config)
				require.NoError(t, err)
			}

			if name == "exs" {
				return // what compiles for a second counts as a program that is up
			}
			write(t, file, c.bad(1000))
			_, err = s.sandbox(t, name+"-very", config)
			require.Regexp(t, `:\n\[debughost: \d+ lines are left out here\]\n(.*\n)*.*lost_\d{4}/1`, err)
			require.Greater(t, len(err.Error()), saidBytes*9/10)
			require.Less(t, len(err.Error()), sdk.MaxFailure)
		})
	}
}

// Who waits for another's compiler is not held to the other's time.
func TestCompilerOfAnother(t *testing.T) {
	s := strategy(t, "")
	otp := erltest.Releases()[1]
	dir := project(t, "Process.sleep(2500)\n"+shop)
	config := func(timeout string) []byte {
		return fmt.Appendf(nil, `{"source": %q, "otp": %q, "compile_timeout": %q}`, dir, otp, timeout)
	}
	hasty := make(chan error, 1)
	go func() {
		_, err := s.Create(t.Context(), sdk.SandboxSpec{ID: "hasty", Config: config("1s")})
		hasty <- err
	}()
	require.Eventually(t, func() bool {
		all, _ := os.ReadDir(filepath.Join(s.dir, buildsDir, "children"))
		return len(all) > 0
	}, patienceOfTests, time.Millisecond)
	_, err := s.Create(t.Context(), sdk.SandboxSpec{ID: "patient", Config: config("1m")})
	require.NoError(t, err)
	require.NoError(t, s.Destroy(t.Context(), "patient"))
	require.ErrorContains(t, <-hasty, "stopped after 1s")
}

// timed is a context whose time is up when the test says so.
type timed struct {
	context.Context
	up chan struct{}
}

func (c timed) Done() <-chan struct{} { return c.up }

func (c timed) Err() error {
	select {
	case <-c.up:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A compiler goes on for a while when the time of who asked is over, since the next try is
// to find it: also when what there may be of the sandbox is stopped and destroyed before
// that. It ends when nobody comes.
func TestCompilerIsWanted(t *testing.T) {
	s := strategy(t, "")
	config := fmt.Appendf(nil, `{"source": %q, "otp": %q}`, project(t, "IO.puts(\"at work\")\nProcess.sleep(:infinity)\n"+shop), erltest.Releases()[1])
	compilers := func() int {
		all, _ := os.ReadDir(filepath.Join(s.dir, buildsDir, "children"))
		return len(all)
	}
	create := func(ctx context.Context, id string) <-chan error {
		out := make(chan error, 1)
		go func() {
			_, err := s.Create(ctx, sdk.SandboxSpec{ID: id, Config: config})
			out <- err
		}()
		require.Eventually(t, func() bool { return compilers() == 1 }, patienceOfTests, time.Millisecond)
		return out
	}
	short := timed{t.Context(), make(chan struct{})}
	first := create(short, "a")
	require.Eventually(t, func() bool { // what it prints is the log until then
		last := ""
		_ = s.Logs(t.Context(), "a", sdk.LogOptions{Tail: 1}, func(l sdk.LogLine) error {
			last = string(l.Line)
			return nil
		})
		return last == "at work"
	}, patienceOfTests, time.Millisecond)
	before := s.compilerOf("a")
	close(short.up)
	require.ErrorIs(t, <-first, context.DeadlineExceeded)
	require.Error(t, s.Stop(t.Context(), "a", time.Second))
	require.NoError(t, s.Destroy(t.Context(), "a"))
	giveUp, cancel := context.WithCancel(t.Context())
	second := create(giveUp, "a")
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.jobs) == 1 && slices.Collect(maps.Values(s.jobs))[0].waiting == 1
	}, patienceOfTests, time.Millisecond)
	require.Equal(t, before, s.compilerOf("a"))
	s.mu.Lock()
	s.linger = time.Millisecond
	s.mu.Unlock()
	cancel()
	require.ErrorIs(t, <-second, context.Canceled)
	require.Eventually(t, func() bool { return compilers() == 0 }, patienceOfTests, time.Millisecond)
	require.ErrorIs(t, s.Logs(t.Context(), "a", sdk.LogOptions{}, nil), sdk.ErrNotFound)
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(t, s.jobs)
}

// A node that does not come up says why, and nothing of it is left.
func TestDoesNotComeUp(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	s.patience = patienceOfTests // what is slow to end is no program
	otp := erltest.Releases()[1]
	scripts := t.TempDir()
	for name, c := range map[string]struct {
		script, start, want string
	}{
		"raises":   {"raise \"no stock\"", "", "(RuntimeError) no stock"},
		"syntax":   {"defmodule X do", "", "SyntaxError"},
		"start":    {"", "Nobody.there()", "function Nobody.there/0 is undefined"},
		"halts":    {":erlang.halt(7, flush: false)", "", "exit code 7"},
		"segfault": {":os.cmd(~c\"kill -SEGV #{System.pid()}\"); Process.sleep(:infinity)", "", "signal 11"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := write(t, filepath.Join(scripts, name+".exs"), c.script)
			_, err := s.sandbox(t, name, map[string]any{"source": source, "otp": otp, "start": c.start})
			if name == "syntax" {
				require.Error(t, err)
				require.Regexp(t, "(SyntaxError|TokenMissingError)", err.Error())
			} else {
				require.ErrorContains(t, err, c.want)
			}
			require.NoDirExists(t, filepath.Dir(s.home(name)))
		})
	}
}

// What a script has linked to itself stays when it has ended.
func TestSupervisorOfAScript(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	source := write(t, filepath.Join(t.TempDir(), "tree.exs"), `{:ok, _} = Supervisor.start_link([{Agent, fn -> 3 end}], strategy: :one_for_one, name: Tree)`)
	_, err := s.sandbox(t, "tree", map[string]any{"source": source, "otp": erltest.Releases()[1], "start": "true = is_pid(Process.whereis(Tree))"})
	require.NoError(t, err)
	require.Contains(t, s.call(t, "tree", "Elixir.Supervisor", "count_children", etf.Atom("Elixir.Tree")), "active => 1")
}

// A script that is a program goes on. When its node dies, its exit says how, and its
// crash dump was kept small.
func TestProgramDies(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	otp := erltest.Releases()[1]
	source := write(t, filepath.Join(t.TempDir(), "program.exs"), "IO.puts(\"on and on\")\nProcess.sleep(:infinity)\n")
	_, err := s.sandbox(t, "p", map[string]any{"source": source, "otp": otp})
	require.NoError(t, err)
	st, err := s.Inspect(t.Context(), "p")
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(st.OSPid, syscall.SIGUSR1)) // ends with a crash dump
	ctx, cancel := context.WithTimeout(t.Context(), patienceOfTests)
	defer cancel()
	exit, err := s.Wait(ctx, "p")
	require.NoError(t, err)
	require.True(t, exit.Code != 0 || exit.Signal != 0, "%+v", exit)
	dump, err := os.Stat(filepath.Join(s.home("p"), "erl_crash.dump"))
	require.NoError(t, err)
	require.LessOrEqual(t, dump.Size(), int64(dumpBytes))
}

// A script that waits for its compiler is no program that goes on yet.
func TestScriptIsCompiled(t *testing.T) {
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			s.patience = 100 * time.Millisecond
			var code strings.Builder
			code.WriteString("defmodule Big do\n")
			for i := range 500 {
				fmt.Fprintf(&code, "  def f%d(x), do: if x > %d, do: [x, %d | Enum.map(1..x, &(&1+%d))], else: {x, %%{a: %d, b: x}}\n", i, i, i, i, i)
			}
			code.WriteString("end\nraise \"after all\"\n")
			_, err := s.sandbox(t, "big", map[string]any{"source": write(t, filepath.Join(t.TempDir(), "big.exs"), code.String()), "otp": otp})
			require.ErrorContains(t, err, "after all")
		})
	}
}

func TestConfigProblems(t *testing.T) {
	s := strategy(t, "")
	dir := t.TempDir()
	text := write(t, filepath.Join(dir, "x.txt"), "")
	for want, n := range map[string]map[string]any{
		"source: want an absolute path":           {"source": "here.exs"},
		"source: /none.exs: no such file":         {"source": "/none.exs"},
		"source: " + dir + " has neither mix.exs": {"source": dir},
		"x.txt is no .exs, no .erl":               {"source": text},
		"otp: there is no otp.19 in":              {"otp": "19"},
		`apps: "No" is not an application's`:      {"apps": []string{"No"}},
		"compile_timeout":                         {"compile_timeout": "0s"},
		"sauce: unknown key":                      {"sauce": "x"},
	} {
		_, err := s.sandbox(t, "a", n)
		require.ErrorContains(t, err, want)
	}
	bad := New("1").(*Strategy)
	bad.config.OTP = map[string]string{"x": "bin"}
	require.ErrorContains(t, bad.Configured(sdk.WithStateDir(t.Context(), t.TempDir())), "otp.x: want an absolute path")
	s.config.Path = dir
	_, err := s.sandbox(t, "a", map[string]any{})
	require.ErrorContains(t, err, "there is no erl in PATH")
}

// What was used least goes when there is too much.
func TestCacheIsBounded(t *testing.T) {
	s := New("1").(*Strategy)
	s.dir, s.config.CacheSize = t.TempDir(), 250
	for i, name := range []string{"old", "older", "new", "made"} {
		file := write(t, filepath.Join(s.dir, cacheDir, name, "lib"), strings.Repeat("x", 100))
		used := time.Now().Add([]time.Duration{-2, -3, -1, -4}[i] * time.Hour)
		require.NoError(t, os.Chtimes(filepath.Dir(file), used, used))
	}
	s.evict("made")
	left, err := os.ReadDir(filepath.Join(s.dir, cacheDir))
	require.NoError(t, err)
	require.Len(t, left, 2)
	require.Equal(t, "made", left[0].Name())
	require.Equal(t, "new", left[1].Name())

	half := write(t, filepath.Join(s.dir, cacheDir, "cut"+gone, "lib"), "of one that was killed")
	s.evict("made")
	require.NoFileExists(t, half)
}

func TestCopyTree(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "a", "file"), "1")
	write(t, filepath.Join(from, ".git", "x"), "1")
	write(t, filepath.Join(from, "a", "cover", "policy.ex"), "1")
	write(t, filepath.Join(from, "cover", "report"), "1")
	require.NoError(t, os.Symlink("a/file", filepath.Join(from, "link")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(from, "dangling")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(from, "pipe"), 0o600))
	require.NoError(t, copyTree(from, filepath.Join(to, "x"), from, notSource))
	var all []string
	require.NoError(t, filepath.WalkDir(filepath.Join(to, "x"), func(path string, d os.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(path, to))
		return err
	}))
	require.Equal(t, []string{"/x", "/x/a", "/x/a/cover", "/x/a/cover/policy.ex", "/x/a/file", "/x/link"}, all)
	one, err := hashTree(filepath.Join(to, "x"), "27")
	require.NoError(t, err)
	other, err := hashTree(filepath.Join(to, "x"), "29")
	require.NoError(t, err)
	require.NotEqual(t, one, other)

	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(from, "a", "out")))
	require.ErrorContains(t, copyTree(from, filepath.Join(to, "y"), from, notSource), "outside of")
	require.NoError(t, os.Remove(filepath.Join(from, "a", "out")))
	require.NoError(t, os.Symlink(".", filepath.Join(from, "a", "round")))
	require.ErrorContains(t, copyTree(from, filepath.Join(to, "z"), from, notSource), "too deep")
}

// The page has every key, with its default, and no other.
func TestPageHasEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../../docs/sandbox-beam.md")
	require.NoError(t, err)
	shown := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| `([^`]*)` \\|").FindAllStringSubmatch(string(page), -1) {
		shown[m[1]] = m[2]
	}
	want := map[string]string{}
	n := defaultNode()
	for _, config := range []any{New("1").Describe().Config, &n} {
		raw, err := sdk.ConfigSchema(config)
		require.NoError(t, err)
		var schema struct {
			Properties map[string]struct {
				Default     json.RawMessage
				Description string
			}
		}
		require.NoError(t, json.Unmarshal(raw, &schema))
		for key, p := range schema.Properties {
			want[key] = string(p.Default)
			require.NotEmpty(t, p.Description, key)
		}
	}
	require.Equal(t, want, shown)
}
