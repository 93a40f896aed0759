package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// sandboxers are three members that can run sandboxes, which see some more paths.
func sandboxers(t testing.TB, show ...string) *crew {
	l := newLab(t, "a", "b", "c")
	c := newCrew(t, l)
	for _, m := range l.machines {
		p := c.prepare(m.name, m, nil)
		f, err := os.OpenFile(filepath.Join(c.home, m.name+".toml"), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = fmt.Fprintf(f, "[sandbox.beam]\npath = %q\nshow = [%s]\n",
			filepath.Join(erltest.Dir(), erltest.Releases()[1], "bin")+":"+os.Getenv("PATH"), quoted(show))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		p.again(t)
	}
	c.settled(nil)
	return c
}

// quoted are texts in TOML.
func quoted(texts []string) string {
	var out []string
	for _, text := range texts {
		out = append(out, strconv.Quote(text))
	}
	return strings.Join(out, ", ")
}

const shopScript = `defmodule Shop do
  use GenServer
  def start, do: GenServer.start(__MODULE__, {0, :binary.copy("x", PADDING)}, name: __MODULE__)
  def sell, do: GenServer.call(__MODULE__, :sell)
  def init(s), do: {:ok, s}
  def handle_call(:sell, _, {n, more}), do: {:reply, n + 1, {n + 1, more}}
end
{:ok, _} = Shop.start()
`

// shop writes a script whose process has a state of so many bytes.
func (c *crew) shop(t testing.TB, padding int) string {
	path := filepath.Join(c.home, "shop.exs")
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(shopScript, "PADDING", fmt.Sprint(padding), 1)), 0o600))
	return path
}

// runner is the member that runs a sandbox, and another one.
func (c *crew) runner(t testing.TB, name string) (at, other *member) {
	rows, err := c.running()[0].children()
	require.NoError(t, err)
	for _, p := range c.running() {
		if p.name == rows[name].Member {
			at = p
		} else {
			other = p
		}
	}
	require.NotNil(t, at, "%s is nowhere", name)
	return at, other
}

func sell(p *member, name string) (string, error) {
	out, stderr, err := p.Try("sandbox", "exec", name, "Shop.sell()")
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr)
	}
	return strings.TrimSpace(out), err
}

// A sandbox moves with its code and the state of its processes, by request and by a
// drain; it is started anew from its bundle when its member is lost, wherever that was
// uploaded; of two creates of one name at once one is done.
func TestSandboxes(t *testing.T) {
	c := sandboxers(t)
	a := c.members[0]
	script := c.shop(t, 100_000)

	var creates sync.WaitGroup
	failed := make([]string, 3)
	for i, p := range c.members {
		creates.Go(func() {
			if _, stderr, err := p.Try("sandbox", "create", "shop", "--from", script, "--state", "Shop"); err != nil {
				failed[i] = stderr
			}
		})
	}
	creates.Wait()
	for i, text := range failed {
		if text != "" {
			require.Contains(t, text, "exists already", c.members[i].name)
		}
	}
	require.Contains(t, failed, "", "none of them was done")

	at, to := c.runner(t, "shop")
	got, err := sell(a, "shop")
	require.NoError(t, err)
	require.Equal(t, "1", got)
	a.Exit(t, 0, "sandbox", "move", "shop", to.name)
	now, _ := c.runner(t, "shop")
	require.Equal(t, to.name, now.name)
	for i, p := range c.members {
		var got string
		require.NoError(t, rig.Until(rig.Patience, func() (err error) { got, err = sell(p, "shop"); return err }))
		require.Equal(t, fmt.Sprint(2+i), got, "its state came along")
	}

	// New code goes along, too.
	text, err := os.ReadFile(script)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(script, []byte(strings.Replace(string(text), "{:reply, n + 1,", "{:reply, {:new, n + 1},", 1)), 0o600))
	at.Exit(t, 0, "sandbox", "reload", "shop")
	a.Exit(t, 0, "drain", to.name)
	now, _ = c.runner(t, "shop")
	require.NotEqual(t, to.name, now.name)
	require.NoError(t, rig.Until(rig.Patience, func() (err error) { got, err = sell(a, "shop"); return err }))
	require.Equal(t, "{:new, 5}", got)
	a.Exit(t, 0, "drain", to.name, "--undo")

	// A member that is lost in the middle of a move, or at any other time.
	_, other := c.runner(t, "shop")
	_, _, _ = other.Try("child", "move", "shop", other.name) // which goes on
	now.Kill()
	other.Eventually(t, func() error {
		rows, err := other.children()
		if err != nil {
			return err
		}
		if rows["shop"].State != "running" || rows["shop"].Member == now.name {
			return fmt.Errorf("%+v", rows["shop"])
		}
		got, err := sell(other, "shop")
		if err != nil {
			return err
		}
		if !strings.HasPrefix(got, "{:new, ") {
			return fmt.Errorf("it says %s: that is not the code that ran", got)
		}
		return nil
	})
	other.Exit(t, 0, "sandbox", "destroy", "shop")
}

// All that a compiler has to say reaches who wanted the sandbox, whichever member is to
// run it, and stays to be looked at where the child does.
func TestCompilerErrors(t *testing.T) {
	c := sandboxers(t)
	a, b, other := c.members[0], c.members[1], c.members[2]
	elixir, erlang := "defmodule Shop do\n", "-module(shop).\n-compile(export_all).\n"
	const errors = 45
	for i := range errors {
		elixir += fmt.Sprintf("  def f%02d, do: lost_%02d(:tea)\n", i+1, i+1)
		erlang += fmt.Sprintf("f%02d() -> lost_%02d(tea).\n", i+1, i+1)
	}
	elixir += "end\n"
	dir := t.TempDir()
	for file, text := range map[string]string{
		"mix/mix.exs": "defmodule Shop.MixProject do\n  use Mix.Project\n  def project, do: [app: :shop, version: \"1.0.0\"]\nend\n", "mix/lib/shop.ex": elixir,
		"rebar3/rebar.config": "{erl_opts, [debug_info]}.\n", "rebar3/src/shop.erl": erlang,
		"rebar3/src/shop.app.src": `{application,shop,[{vsn,"1"},{applications,[kernel,stdlib]}]}.`,
		"shop.exs":                elixir, "shop.erl": erlang,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
	for _, source := range []string{"mix", "rebar3", "shop.exs", "shop.erl"} {
		out, stderr := a.Exit(t, 1, "sandbox", "create", "shop", "--from", filepath.Join(dir, source), "--on", b.name, "-o", "json")
		require.Empty(t, out, source)
		require.Contains(t, stderr, "create sandbox shop: ", source)
		for i := range errors {
			require.Contains(t, stderr, fmt.Sprintf("lost_%02d/1", i+1), source)
		}
		_, stderr = other.Exit(t, 1, "sandbox", "show", "shop")
		require.Contains(t, stderr, "there is no sandbox shop", source)
	}

	spec := filepath.Join(dir, "kept.toml")
	require.NoError(t, os.WriteFile(spec, fmt.Appendf(nil, "strategy = 'beam'\nconstraints = { member = '%s' }\n[config]\nsource = '%s'\n", b.name, filepath.Join(dir, "mix")), 0o600))
	a.Exit(t, 0, "child", "start", "kept", "-f", spec)
	other.Eventually(t, func() error {
		log, _, err := other.Try("sandbox", "logs", "kept")
		if last := fmt.Sprintf("lost_%02d/1", errors); err == nil && !strings.Contains(log, last) {
			err = fmt.Errorf("the log has no %s: %s", last, log)
		}
		return err
	})
	show, _ := other.Exit(t, 0, "sandbox", "show", "kept", "-o", "json")
	require.Less(t, len(show), 16<<10, "what is kept of it is bounded")
	a.Exit(t, 0, "sandbox", "destroy", "kept")
}

// BenchmarkSandboxMove moves a sandbox with 10 MB of state between members of one
// machine. Meanwhile somebody asks it all the time: what is between the last answer of
// the old one and the first of the new one is in the gap.
func BenchmarkSandboxMove(b *testing.B) {
	c := sandboxers(b)
	a := c.members[0]
	a.Exit(b, 0, "sandbox", "create", "shop", "--from", c.shop(b, 10_000_000), "--state", "Shop")
	var took, gap time.Duration
	n := 0
	for b.Loop() {
		_, to := c.runner(b, "shop")
		stop := make(chan struct{})
		var asking sync.WaitGroup
		asking.Go(func() {
			last := time.Now()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := sell(a, "shop"); err == nil {
					gap = max(gap, time.Since(last))
					last = time.Now()
				}
			}
		})
		began := time.Now()
		a.Exit(b, 0, "sandbox", "move", "shop", to.name)
		took += time.Since(began)
		close(stop)
		asking.Wait()
		n++
	}
	b.ReportMetric(took.Seconds()/float64(n), "s/move")
	b.ReportMetric(gap.Seconds(), "s-longest-gap")
	b.ReportMetric(0, "ns/op")
	a.Exit(b, 0, "sandbox", "destroy", "shop")
}
