package sandboxbeam

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/sdk"
)

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
