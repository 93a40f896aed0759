package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

// standIn is what a stand-in for a plugin is told to do: create a command and
// wait to be killed.
type standIn struct {
	Dir                   string
	NoNamespace, NoCgroup bool
	Spec                  Spec
}

const standInEnv = "KEEPER_TEST_PLUGIN"

// standInPlugin is the stand-in. It says its pid and the token.
func standInPlugin() bool {
	var job standIn
	if text := os.Getenv(standInEnv); text == "" || json.Unmarshal([]byte(text), &job) != nil {
		return false
	}
	c := New(Options{Dir: job.Dir, NoNamespace: job.NoNamespace, NoCgroup: job.NoCgroup, Path: os.Getenv("PATH")})
	token, err := c.Create(context.Background(), job.Spec)
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	fmt.Println(os.Getpid(), token)
	select {}
}

// abandoned is a command that a stand-in for a plugin has created, whose parent
// is a stand-in for the host.
type abandoned struct {
	token, word  string
	plugin, host int
}

func abandon(t *testing.T, o Options, orphan time.Duration) *abandoned {
	t.Helper()
	a := &abandoned{word: number()}
	job, err := json.Marshal(standIn{o.Dir, o.NoNamespace, o.NoCgroup, Spec{
		ID: "a", Command: []string{"sh", "-c", "setsid sleep " + a.word + " & while :; do sleep 0.1; done"}, Orphan: orphan,
	}})
	require.NoError(t, err)
	host := exec.Command("sh", "-c", `"$0" & while :; do wait; sleep 0.1; done`, os.Args[0])
	host.Env = append(os.Environ(), standInEnv+"="+string(job))
	out, err := host.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, host.Start())
	a.host = host.Process.Pid
	t.Cleanup(func() {
		_ = host.Process.Kill()
		if a.plugin != 0 {
			_ = syscall.Kill(a.plugin, syscall.SIGKILL)
		}
		_ = host.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscan(line, &a.plugin, &a.token)
	require.NoError(t, err, line)
	eventually(t, "the tree is up", func() bool { return running(a.word) == 1 })
	return a
}

func (a *abandoned) kill(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, "it is dead", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// When plugin and host are gone a command has its time, and then nothing of it
// is left, nor of its keeper.
func TestOrphanEnds(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		const orphan = 400 * time.Millisecond
		a := abandon(t, c.o, orphan)
		a.kill(t, a.plugin)
		require.Never(t, func() bool { return running(a.word) == 0 }, 2*orphan, 20*time.Millisecond, "its host is there")
		began := time.Now()
		a.kill(t, a.host)
		if left := running(a.word); time.Since(began) < orphan { // or the machine is too slow to see it
			require.Equal(t, 1, left)
		}
		eventually(t, "the tree ends", func() bool { return running(a.word) == 0 })
		took := time.Since(began)
		require.GreaterOrEqual(t, took, orphan, "it has its time")
		require.Less(t, took, orphan+time.Second, "and little more")
		eventually(t, "its files are gone", func() bool { return len(leftovers(c.o.Dir)) == 0 })
		eventually(t, "its keeper is gone", func() bool { return keeperPid(c.o.Dir) == 0 })
		require.Empty(t, groupsOf(c.o.Dir))
		require.ErrorIs(t, c.Recover(t.Context(), "a", a.token), sdk.ErrNotFound)
	})
}

// Without time for orphans it ends with them.
func TestOrphanWithoutTime(t *testing.T) {
	c := newClient(t, nil)
	a := abandon(t, c.o, 0)
	a.kill(t, a.host)
	a.kill(t, a.plugin)
	eventually(t, "the tree ends", func() bool { return running(a.word) == 0 })
}

// Within its time a successor takes a command over as it is, and is told of its
// end.
func TestRecoverInTime(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		a := abandon(t, c.o, 20*time.Second)
		a.kill(t, a.plugin)
		a.kill(t, a.host)
		require.NoError(t, c.Recover(t.Context(), "a", a.token))
		st, err := c.Inspect(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, sdk.SandboxRunning, st.State)
		require.NoError(t, syscall.Kill(st.OSPid, syscall.SIGKILL))
		require.Equal(t, 9, wait(t, c, "a").Signal)
		require.Zero(t, running(a.word))
	})
}

// What ended meanwhile is told to who takes it over.
func TestRecoverWhatHasEnded(t *testing.T) {
	c := newClient(t, nil)
	first := newClient(t, func(o *Options) { o.Dir = c.o.Dir })
	token := create(t, first, sh("a", "echo done; exit 9"))
	wait(t, first, "a")
	require.NoError(t, first.Close())
	require.NoError(t, c.Recover(t.Context(), "a", token))
	require.Equal(t, 9, wait(t, c, "a").Code)
	require.Equal(t, "out:done\n", logOf(t, c, "a"))
}

// kill -9 of all of them at once: host, plugin, keeper, command. The next plugin
// finds nothing that runs, and clears up.
func TestAllKilledAtOnce(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		a := abandon(t, c.o, 300*time.Millisecond)
		pids := []int{a.host, a.plugin, keeperPid(c.o.Dir)}
		for _, pid := range pids {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		require.NoError(t, c.Tidy(t.Context()))
		require.Zero(t, running(a.word))
		eventually(t, "its files are gone", func() bool { return len(leftovers(c.o.Dir)) == 0 })
	})
}

// The main process is killed from outside: that is an exit like others, and the
// rest of the tree goes with it.
func TestCommandKilled(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		word := number()
		create(t, c, sh("a", "setsid sleep "+word+" & while :; do sleep 0.1; done"))
		eventually(t, "the tree is up", func() bool { return running(word) == 1 })
		st, err := c.Inspect(t.Context(), "a")
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(st.OSPid, syscall.SIGKILL))
		exit := wait(t, c, "a")
		require.Equal(t, 9, exit.Signal)
		require.Equal(t, "killed by somebody else, or by the kernel for lack of memory", exit.Reason)
		require.Zero(t, running(word))
	})
}

// Junk in the state directory is cleared up and does no harm.
func TestJunkIsSwept(t *testing.T) {
	c := newClient(t, nil)
	for name, text := range map[string]string{"half": `{"tok`, "other": `{"token":"x","spec":{"ID":"another","Command":["true"]}}`, "empty": ""} {
		dir := filepath.Join(c.o.Dir, childrenDir, name)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, recordFile), []byte(text), 0o600))
	}
	require.NoError(t, c.Tidy(t.Context()))
	require.Empty(t, leftovers(c.o.Dir))
}
