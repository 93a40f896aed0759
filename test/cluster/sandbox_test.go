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
