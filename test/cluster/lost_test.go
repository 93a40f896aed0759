package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

// gate is where code of a sandbox waits for the test: a pipe that nobody writes to, in a
// directory that the sandboxes see.
type gate struct {
	dir  string
	held *os.File // the other end of the pipe
}

func newGate(t testing.TB) *gate {
	t.Helper()
	g := &gate{dir: rig.TempDir(t)}
	require.NoError(t, os.Chmod(g.dir, 0o755))
	g.lift(t)
	t.Cleanup(func() { _ = g.held.Close() })
	return g
}

func (g *gate) path() string { return filepath.Join(g.dir, "gate") }

// lower has those wait that come from now on.
func (g *gate) lower(t testing.TB) {
	t.Helper()
	require.NoError(t, syscall.Mkfifo(g.path()+".new", 0o644))
	require.NoError(t, os.Rename(g.path()+".new", g.path()))
}

// reached waits until somebody waits.
func (g *gate) reached(t testing.TB) {
	t.Helper()
	_ = g.held.Close()
	require.NoError(t, rig.Until(rig.Patience, func() (err error) {
		g.held, err = os.OpenFile(g.path(), os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails as long as nobody reads
		return err
	}))
}

// lift has those not wait that come from now on. Who waits does so until passed.
func (g *gate) lift(t testing.TB) {
	t.Helper()
	require.NoError(t, os.WriteFile(g.path()+".new", nil, 0o644))
	require.NoError(t, os.Rename(g.path()+".new", g.path()))
}

// passed lets those go on that wait.
func (g *gate) passed(t testing.TB) {
	t.Helper()
	require.NoError(t, g.held.Close())
}

// gatedShop is a project that waits at the gate where WAIT is for one of compile, start
// and change.
const gatedShop = `WAIT-compile
defmodule Shop do
  use Application
  use GenServer
  def start(_, _), do: (WAIT-start; GenServer.start_link(__MODULE__, 0, name: __MODULE__))
  def sell, do: GenServer.call(__MODULE__, :sell)
  def init(n), do: {:ok, n}
  def handle_call(:sell, _, n), do: {:reply, {:VERSION, n + 1}, n + 1}
  def code_change(_, n, _), do: (WAIT-change; {:ok, n})
end
`

// project writes a version of the shop that waits at the gate in some of its phases. Its
// directory is called as the version.
func (g *gate) project(t testing.TB, version string, phases ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), version)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "lib"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mix.exs"), []byte(`defmodule Shop.MixProject do
  use Mix.Project
  def project, do: [app: :shop, version: "1.0.0"]
  def application, do: [mod: {Shop, []}]
end
`), 0o644))
	text := strings.ReplaceAll(gatedShop, "VERSION", version)
	for _, phase := range []string{"compile", "start", "change"} {
		what := ":ok"
		if slices.Contains(phases, phase) {
			what = fmt.Sprintf(`{"", 0} = System.cmd("cat", [%q])`, g.path())
		}
		text = strings.ReplaceAll(text, "WAIT-"+phase, what)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lib", "shop.ex"), []byte(text), 0o644))
	return dir
}

// processes are those with the word in their arguments or their environment, with what
// they were started by.
func processes(word string) map[string]string {
	out := map[string]string{}
	files, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range files {
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if bytes.Contains(args, []byte(word)) || bytes.Contains(env, []byte(word)) {
			out[filepath.Base(dir)] = strings.ReplaceAll(string(args), "\x00", " ")
		}
	}
	return out
}

// nodes are the names of a sandbox's nodes that run on a member.
func (p *member) nodes(id string) (names []string) {
	for _, line := range processes(filepath.Join(p.Dir, "sandboxes", "beam", "nodes")) {
		args := strings.Fields(line)
		if i := slices.Index(args, "-name"); i > 0 && i+1 < len(args) && strings.HasPrefix(args[i+1], id+"-") && !slices.Contains(names, args[i+1]) {
			names = append(names, args[i+1])
		}
	}
	return names
}

// lost kills members, and waits until the others know.
func (c *crew) lost(t testing.TB, members ...*member) {
	t.Helper()
	for _, p := range members {
		p.Kill()
	}
	for _, p := range c.running() {
		for _, o := range members {
			p.awaitStates(t, map[string]string{o.name: "dead"})
		}
	}
}

// runsOnce waits until a sandbox has one node, of a version that all know, which is on
// none of some members, and answers with that version. It returns what it answers.
func (c *crew) runsOnce(t testing.TB, id string, not ...*member) (answer string) {
	t.Helper()
	require.NoError(t, rig.Until(rig.Patience, func() error {
		var names, versions []string
		where := ""
		for _, p := range c.running() {
			rows, err := p.children()
			if err != nil {
				return err
			}
			if where = rows[id].Member; rows[id].State != "running" || slices.ContainsFunc(not, func(o *member) bool { return o.name == where }) {
				return fmt.Errorf("%s says %+v", p.name, rows[id])
			}
			if names = append(names, p.nodes(id)...); len(p.nodes(id)) > 0 != (p.name == where) {
				return fmt.Errorf("%s has %v and %s has it", p.name, p.nodes(id), where)
			}
			v, err := p.version(id)
			if err != nil {
				return err
			}
			if versions = append(versions, v); versions[0] != v {
				return fmt.Errorf("they say %v", versions)
			}
			if answer, err = sell(p, id); err != nil {
				return err
			}
			if !strings.HasPrefix(answer, "{:"+v+", ") {
				return fmt.Errorf("%s says %s, and it answers %s", p.name, v, answer)
			}
		}
		if len(names) != 1 {
			return fmt.Errorf("%s has the nodes %v", id, names)
		}
		return nil
	}))
	for _, p := range c.running() {
		var rows struct{ Versions []struct{ Version string } }
		p.JSON(t, 0, &rows, "sandbox", "versions", id)
		for _, v := range rows.Versions {
			var bundle bytes.Buffer
			require.NoError(t, p.dial(t).DownloadBlob(t.Context(), v.Version, &bundle))
			require.NotZero(t, bundle.Len())
		}
	}
	return answer
}

// version is the version that a member says that a sandbox runs: the name of the directory
// that it was taken from.
func (p *member) version(id string) (string, error) {
	var a struct {
		Versions []struct {
			From    string
			Current bool
		}
	}
	if err := p.TryJSON(&a, "sandbox", "versions", id); err != nil {
		return "", err
	}
	for _, v := range a.Versions {
		if v.Current {
			return filepath.Base(v.From), nil
		}
	}
	return "", errors.New("it says of no version that it runs")
}

// back waits until nothing is left of what members ran that were lost, starts them again,
// and waits until they have no more of a sandbox than what they run.
func (c *crew) back(t testing.TB, id string, members ...*member) {
	t.Helper()
	for _, p := range members {
		require.NoError(t, rig.Until(rig.Patience, func() error {
			if left := processes(p.Dir + "/"); len(left) > 0 {
				return fmt.Errorf("%s is lost and has left %v", p.name, left)
			}
			return nil
		}))
	}
	for _, p := range members {
		p.again(t)
	}
	c.settled(nil)
	for _, p := range members {
		require.NoError(t, rig.Until(rig.Patience, func() error {
			rows, err := p.children()
			if err != nil {
				return err
			}
			var left []string
			for _, sub := range []string{"nodes/children", "builds/children", "staging"} {
				files, _ := filepath.Glob(filepath.Join(p.Dir, "sandboxes", "beam", sub, "*"))
				left = append(left, files...)
			}
			if rows[id].Member == p.name {
				left = slices.DeleteFunc(left, func(path string) bool { return strings.HasSuffix(path, "nodes/children/"+id) })
			}
			if len(left) > 0 {
				return fmt.Errorf("%s is back and has %v", p.name, left)
			}
			return nil
		}))
	}
}

// asked has a member do something meanwhile. What it returns waits for the answer.
func (p *member) asked(args ...string) (answer func() (stderr string, err error)) {
	var stderr string
	var err error
	var work sync.WaitGroup
	work.Go(func() { _, stderr, err = p.Try(args...) })
	return func() (string, error) { work.Wait(); return stderr, err }
}

// A member is lost while it compiles a sandbox, and one while it starts it, with the one
// that was asked for it: another one makes it, and no other.
func TestSandboxLostInACreate(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	c := sandboxers(t, g.dir)
	g.lower(t)
	done := c.members[0].asked("sandbox", "create", "shop", "--from", g.project(t, "one", "compile"))
	g.reached(t)
	at, other := c.runner(t, "shop")
	c.lost(t, at)
	g.lift(t)
	c.runsOnce(t, "shop", at)
	if _, err := done(); at != c.members[0] {
		require.NoError(t, err)
	}
	c.back(t, "shop", at)
	other.Exit(t, 0, "sandbox", "destroy", "shop")

	g.lower(t)
	done = at.asked("sandbox", "create", "mall", "--from", g.project(t, "two", "start"))
	g.reached(t)
	now, _ := c.runner(t, "mall")
	both := slices.Compact([]*member{at, now})
	c.lost(t, both...)
	_, err := done()
	require.Error(t, err)
	g.lift(t)
	c.back(t, "mall", both...)
	c.runsOnce(t, "mall")
	at.Exit(t, 0, "sandbox", "destroy", "mall")
}

// A member is lost while it compiles what a sandbox is reloaded with, and one in the
// middle of the change, with the one that was asked for it: the sandbox runs what it did
// before. When it is only the one that was asked it runs what all say.
func TestSandboxLostInAReload(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	c := sandboxers(t, g.dir)
	c.members[0].Exit(t, 0, "sandbox", "create", "shop", "--from", g.project(t, "one"))
	reload := func(phase string) (at, by *member, done func() (string, error)) {
		g.lower(t)
		at, by = c.runner(t, "shop")
		done = by.asked("sandbox", "reload", "shop", "--from", g.project(t, "two", phase))
		g.reached(t)
		return at, by, done
	}
	at, _, done := reload("compile")
	c.lost(t, at)
	stderr, err := done()
	require.Error(t, err)
	require.Contains(t, stderr, "member "+at.name+" was lost before it answered: it is unknown whether this was done")
	g.lift(t)
	require.Contains(t, c.runsOnce(t, "shop", at), "{:one, ")
	c.back(t, "shop", at)

	at, by, done := reload("change")
	c.lost(t, at, by)
	_, err = done()
	require.Error(t, err)
	g.lift(t)
	c.back(t, "shop", at, by)
	require.Contains(t, c.runsOnce(t, "shop"), "{:one, ")

	_, by, done = reload("change")
	by.Kill()
	_, err = done()
	require.Error(t, err)
	g.lift(t)
	g.passed(t)
	c.runsOnce(t, "shop", by)
	c.back(t, "shop", by)
	by.Exit(t, 0, "sandbox", "destroy", "shop")
}

// A member is lost while it starts the node that a sandbox is to move to: the sandbox
// goes on as it was. When it is the one that it moves from, the new node goes on.
func TestSandboxLostInAMove(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	c := sandboxers(t, g.dir)
	c.members[0].Exit(t, 0, "sandbox", "create", "shop", "--from", g.project(t, "one", "start"), "--state", "Shop")
	at, to := c.runner(t, "shop")
	at.Exit(t, 0, "sandbox", "exec", "shop", ":sys.replace_state(Shop, fn _ -> 1000 end)")
	g.lower(t)
	done := at.asked("sandbox", "move", "shop", to.name)
	g.reached(t)
	c.lost(t, to)
	stderr, err := done()
	require.Error(t, err)
	require.Contains(t, stderr, "it goes on where it was")
	g.lift(t)
	require.Contains(t, c.runsOnce(t, "shop", to), "{:one, 10")
	c.back(t, "shop", to)

	g.lower(t)
	done = to.asked("sandbox", "move", "shop", to.name)
	g.reached(t)
	c.lost(t, at)
	g.lift(t)
	g.passed(t)
	_, err = done()
	require.NoError(t, err)
	require.Contains(t, c.runsOnce(t, "shop", at), "{:one, 10", "its state had come along")
	c.back(t, "shop", at)
	to.Exit(t, 0, "sandbox", "destroy", "shop")
}
