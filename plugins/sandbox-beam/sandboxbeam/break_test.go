package sandboxbeam

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
)

const breaks = `defmodule Shop do
  use Application
  def start(_, _), do: Agent.start_link(fn -> 5 end, name: Shop.Stock)
  def nif, do: :erlang.load_nif(to_charlist(Application.app_dir(:shop, "priv/boom")), 0)
  def dump do
    _ = Process.put(:much, Enum.to_list(1..30_000_000))
    :erlang.halt(~c"no more")
  end
end
`

// later has a function of Shop called once the answer to this call is sent.
func (s *Strategy) later(t *testing.T, id, function string) {
	t.Helper()
	s.call(t, id, "timer", "apply_after", etf.Int(100), etf.Atom("Elixir.Shop"), etf.Atom(function), etf.List(nil))
}

// A node that dies in native code, and one that would write a crash dump of more than a
// gigabyte, take nobody along, and their ends say how.
func TestBreaks(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	dir := project(t, breaks)
	c := write(t, filepath.Join(t.TempDir(), "boom.c"), "void *nif_init(void) { *(volatile int *)0 = 1; return 0; }\n")
	out, err := exec.Command("cc", "-shared", "-fPIC", "-o", filepath.Join(dir, "priv", "boom.so"), c).CombinedOutput()
	require.NoError(t, err, "%s", out)
	config := map[string]any{"source": dir, "otp": erltest.Releases()[1]}
	for _, id := range []string{"stays", "nif", "dump"} {
		_, err := s.sandbox(t, id, config)
		require.NoError(t, err)
	}
	s.later(t, "nif", "nif")
	s.later(t, "dump", "dump")
	ctx, cancel := context.WithTimeout(t.Context(), patienceOfTests)
	defer cancel()
	exit, err := s.Wait(ctx, "nif")
	require.NoError(t, err)
	require.Equal(t, int(syscall.SIGSEGV), exit.Signal, "%+v", exit)
	exit, err = s.Wait(ctx, "dump")
	require.NoError(t, err)
	require.Equal(t, 1, exit.Code, "%+v", exit)
	dump, err := os.Stat(filepath.Join(s.home("dump"), "erl_crash.dump"))
	require.NoError(t, err)
	require.Positive(t, dump.Size())
	require.LessOrEqual(t, dump.Size(), int64(dumpBytes+(4<<10)), "what is cut has an end")
	require.Equal(t, "true", s.call(t, "stays", "erlang", "is_alive"))
}

// What a sandbox prints is for who may read its log, and so is what is in its files.
func TestPrintsSecrets(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	source := write(t, filepath.Join(t.TempDir(), "tells.exs"), `IO.puts("the cookie is #{Node.get_cookie()}, the key #{System.get_env("KEY")}")`)
	_, err := s.sandbox(t, "tells", map[string]any{"source": source, "otp": erltest.Releases()[1], "env": map[string]string{"KEY": "k3y"}})
	require.NoError(t, err)
	st, err := s.Inspect(t.Context(), "tells")
	require.NoError(t, err)
	cookie, err := os.ReadFile(st.CookieFile)
	require.NoError(t, err)
	require.Contains(t, s.tail(t.Context(), s.nodes, "tells"), "the cookie is "+string(cookie)+", the key k3y")
	shown, err := json.Marshal(st)
	require.NoError(t, err)
	require.NotContains(t, string(shown), string(cookie))
	files := 0
	require.NoError(t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 || path == s.dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		// Those that the node makes itself are behind directories that nobody enters.
		if filepath.Dir(path) == s.dir || d.Type().IsRegular() && filepath.Base(path) == cookieFile {
			assert.Zero(t, info.Mode().Perm()&0o077, "%s has mode %v", path, info.Mode())
			files++
		}
		return nil
	}))
	require.Greater(t, files, 2)
}

// A disk that is full when a project is compiled is what the error says; nothing is left
// of the attempt, what runs goes on, and with space again the same works.
func TestDiskFullInACompile(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	disk, err := os.MkdirTemp("", "dhb")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.Remove(disk)) })
	require.NoError(t, exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk).Run())
	t.Cleanup(func() { assert.NoError(t, exec.Command("umount", "-l", disk).Run()) })
	dir := filepath.Join(disk, "d")
	require.NoError(t, os.Mkdir(dir, 0o700))
	s := strategy(t, dir)
	config := map[string]any{"source": project(t, shop), "otp": erltest.Releases()[1]}
	_, err = s.sandbox(t, "before", config)
	require.NoError(t, err)

	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	require.NoError(t, err)
	_, err = f.Write(make([]byte, 16<<20))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	require.NoError(t, os.Truncate(fill, fileSize(t, fill)-64<<10)) // enough for the source
	config["source"] = project(t, shop+"# another\n")
	_, err = s.sandbox(t, "during", config)
	require.Error(t, err)
	require.Regexp(t, "no space left on device|enospc", err.Error())
	require.NoDirExists(t, filepath.Dir(s.home("during")))
	left, err := os.ReadDir(filepath.Join(s.dir, stagingDir))
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, "5", s.call(t, "before", "Elixir.Shop", "stock"))

	require.NoError(t, os.Remove(fill))
	_, err = s.sandbox(t, "after", config)
	require.NoError(t, err)
	require.Equal(t, "5", s.call(t, "after", "Elixir.Shop", "stock"))
	require.NoError(t, s.Destroy(t.Context(), "after"))
	require.NoError(t, s.Destroy(t.Context(), "before"))
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}
