package sandboxbeam

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
			s.patience = 300 * time.Millisecond
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
