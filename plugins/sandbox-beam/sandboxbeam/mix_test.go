package sandboxbeam

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
)

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
