package keeper

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

func TestCommand(t *testing.T) {
	t.Setenv("SECRET_TOKEN", "s3cret")
	inAllModes(t, func(t *testing.T, c *Client) {
		spec := sh("a", `pwd; env; echo oops >&2; exit 3`)
		spec.Env = []string{"GREETING=hello world", "LANG=de_DE.UTF-8"}
		create(t, c, spec)
		exit := wait(t, c, "a")
		require.Equal(t, 3, exit.Code)
		require.Zero(t, exit.Signal)
		require.Empty(t, exit.Reason)
		require.WithinDuration(t, time.Now(), exit.At, 10*time.Second)
		log := logOf(t, c, "a")
		home := filepath.Join(c.o.Dir, "children", "a", "home")
		for _, want := range []string{
			"out:" + home + "\n", "err:oops\n", "out:HOME=" + home + "\n", "out:TMPDIR=" + filepath.Join(c.o.Dir, "children", "a", "tmp") + "\n",
			"out:GREETING=hello world\n", "out:LANG=de_DE.UTF-8\n", "out:DEBUGHOST_CHILD=a\n", "out:PATH=" + c.o.Path + "\n",
		} {
			require.Contains(t, log, want)
		}
		require.NotContains(t, log, "s3cret")
		require.NotContains(t, log, optionsEnv)
		st, err := c.Inspect(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, sdk.SandboxExited, st.State)
		require.Equal(t, &exit, st.Exit)
		require.NoError(t, c.Destroy(t.Context(), "a"))
		_, err = c.Inspect(t.Context(), "a")
		require.ErrorIs(t, err, sdk.ErrNotFound)
		require.NoError(t, c.Destroy(t.Context(), "a"))
	})
}

func TestStatusOfWhatRuns(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		word := number()
		spec := Spec{ID: "a", Command: []string{"sleep", word}, Limits: sdk.SandboxLimits{Memory: 1 << 30, CPUs: 2, Processes: 10, OpenFiles: 40, Disk: 1 << 20}}
		create(t, c, spec)
		st, err := c.Inspect(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, sdk.SandboxRunning, st.State)
		require.Positive(t, st.Memory)
		require.Less(t, st.Memory, uint64(64<<20))
		// The pid is that of this system, not that of a namespace.
		args, err := os.ReadFile("/proc/" + strconv.Itoa(st.OSPid) + "/cmdline")
		require.NoError(t, err)
		require.Equal(t, "sleep\x00"+word+"\x00", string(args))
		limits, err := os.ReadFile("/proc/" + strconv.Itoa(st.OSPid) + "/limits")
		require.NoError(t, err)
		require.Regexp(t, `Max open files +40 +40`, string(limits))
		require.Regexp(t, `Max core file size +0 +0`, string(limits))
		require.Regexp(t, `Max file size +1048576 +1048576`, string(limits))
		for _, limit := range []string{"tree", "memory", "cpus", "processes", "open_files", "disk"} {
			require.NotEmpty(t, st.Enforced[limit], limit)
		}
		require.Equal(t, strings.Contains(st.Enforced["tree"], "no cgroup"), st.Enforced["cpus"] == byNothing)
		_, err = c.Create(t.Context(), spec)
		require.ErrorIs(t, err, sdk.ErrExists)
		require.NoError(t, c.Destroy(t.Context(), "a"))
		require.Zero(t, running(word))
	})
}

// Of a command that cannot be started nothing is left, and the error is the
// system's own.
func TestWhatCannotBeStarted(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "no-format")
	require.NoError(t, os.WriteFile(script, []byte("\x7fELF what?"), 0o755))
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o644))
	inAllModes(t, func(t *testing.T, c *Client) {
		for name, try := range map[string]struct {
			spec  Spec
			cause error
		}{
			"no such command":   {Spec{Command: []string{"no-such-command"}}, nil},
			"no such file":      {Spec{Command: []string{"/no/such/file"}}, nil},
			"a directory":       {Spec{Command: []string{"/tmp"}}, nil},
			"not executable":    {Spec{Command: []string{plain}}, nil},
			"wrong format":      {Spec{Command: []string{script}}, nil},
			"no such directory": {Spec{Command: []string{"true"}, Dir: "/no/such/directory"}, nil},
			"no command":        {Spec{}, ErrSpec},
			"odd id":            {Spec{ID: "../a", Command: []string{"true"}}, ErrSpec},
			"odd variable":      {Spec{Command: []string{"true"}, Env: []string{"=x"}}, ErrSpec},
			"zero byte":         {Spec{Command: []string{"true", "\x00"}}, ErrSpec},
		} {
			if try.spec.ID == "" {
				try.spec.ID = "a"
			}
			_, err := c.Create(t.Context(), try.spec)
			require.Error(t, err, name)
			if try.cause != nil {
				require.ErrorIs(t, err, try.cause, name)
			}
			require.Empty(t, leftovers(c.o.Dir), name)
			_, err = c.Inspect(t.Context(), "a")
			require.ErrorIs(t, err, sdk.ErrNotFound, name)
		}
		for command, want := range map[string]string{
			"no-such-command": "executable file not found",
			"/no/such/file":   "run /no/such/file: no such file or directory",
			plain:             "permission denied",
			script:            "exec format error",
		} {
			_, err := c.Create(t.Context(), Spec{ID: "a", Command: []string{command}})
			require.ErrorContains(t, err, want)
		}
		create(t, c, sh("a", "exit 0")) // the id is free
	})
}

func TestStop(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		create(t, c, sh("polite", `trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done`))
		create(t, c, sh("deaf", `trap '' TERM; echo up; while :; do sleep 0.01; done`))
		spec := sh("picky", `trap 'exit 8' INT; trap '' TERM; echo up; while :; do sleep 0.01; done`)
		spec.StopSignal = syscall.SIGINT
		create(t, c, spec)
		for _, id := range []string{"polite", "deaf", "picky"} {
			eventually(t, id+" is up", func() bool { return strings.Contains(logOf(t, c, id), "up") })
		}
		require.NoError(t, c.Stop(t.Context(), "polite", 10*time.Second))
		exit := wait(t, c, "polite")
		require.Equal(t, 7, exit.Code)
		require.Equal(t, "stopped by request", exit.Reason)
		require.Contains(t, logOf(t, c, "polite"), "out:bye\n")

		began := time.Now()
		require.NoError(t, c.Stop(t.Context(), "deaf", 200*time.Millisecond))
		require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
		exit = wait(t, c, "deaf")
		require.Equal(t, 9, exit.Signal)
		require.Equal(t, "did not end within 200ms of SIGTERM and was killed", exit.Reason)

		require.NoError(t, c.Stop(t.Context(), "picky", 10*time.Second))
		require.Equal(t, 8, wait(t, c, "picky").Code)
		require.NoError(t, c.Stop(t.Context(), "picky", time.Second), "to stop it again is no error")
		require.ErrorIs(t, c.Stop(t.Context(), "none", time.Second), sdk.ErrNotFound)
	})
}

// Whatever a command does to get away, its processes end with it.
func TestTheWholeTreeEnds(t *testing.T) {
	for how, escape := range map[string]string{
		"in the background": `sleep WORD & sleep WORD &`,
		"other sessions":    `setsid sleep WORD & setsid setsid sleep WORD &`,
		"double fork":       `(setsid sh -c 'sleep WORD & exec sleep WORD' &) &`,
		"without variables": `(env -i setsid sh -c 'sleep WORD & exec sleep WORD' &) &`,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			inAllModes(t, func(t *testing.T, c *Client) {
				word := number()
				create(t, c, sh("ends", strings.ReplaceAll(escape, "WORD", word)+` until [ -e gate ]; do sleep 0.01; done; exit 5`))
				eventually(t, "the tree is up", func() bool { return running(word) == 2 })
				require.NoError(t, os.WriteFile(filepath.Join(c.o.Dir, childrenDir, "ends", homeDir, "gate"), nil, 0o600))
				require.Equal(t, 5, wait(t, c, "ends").Code)
				require.Zero(t, running(word))

				create(t, c, sh("killed", strings.ReplaceAll(escape, "WORD", word)+` while :; do sleep 1; done`))
				eventually(t, "the tree is up", func() bool { return running(word) == 2 })
				require.NoError(t, c.Destroy(t.Context(), "killed"))
				require.Zero(t, running(word))
			})
		})
	}
}

// A process that takes off its mark, where the mark is all there is, is found as
// soon as it loses its parent.
func TestStraysAreKilled(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("no prlimit")
	}
	for _, name := range []string{"no cgroup", "no namespace, no cgroup"} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, modes[name])
			word := number()
			create(t, c, sh("a", `(env -i setsid prlimit --locks=0:0 sleep `+word+` &) & while :; do sleep 1; done`))
			create(t, c, sh("innocent", "(setsid sleep "+word+"7 &) & while :; do sleep 1; done"))
			eventually(t, "the stray is up or gone", func() bool { return running(word+"7") == 1 })
			eventually(t, "the stray is killed", func() bool { return running(word) == 0 })
			require.False(t, c.box("a").hasExited())
			require.Equal(t, 1, running(word+"7"), "a daemon of a command is no stray")
		})
	}
}

// kill -9 of the keeper ends all that it keeps. Who waits hears of it, nothing is
// left, and the next command runs.
func TestKeeperKilled(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		word := number()
		create(t, c, sh("a", `setsid sleep `+word+` & (env -i setsid sleep `+word+` &) & while :; do sleep 1; done`))
		create(t, c, sh("ended", "exit 4"))
		ended := wait(t, c, "ended")
		eventually(t, "the tree is up", func() bool { return running(word) == 2 })
		require.NoError(t, syscall.Kill(keeperPid(c.o.Dir), syscall.SIGKILL))
		exit := wait(t, c, "a")
		require.Equal(t, 9, exit.Signal)
		require.Equal(t, lostReason, exit.Reason)
		require.Zero(t, running(word))
		require.Equal(t, ended, wait(t, c, "ended"))
		create(t, c, sh("b", "sleep "+word))
		st, err := c.Inspect(t.Context(), "b")
		require.NoError(t, err)
		require.Equal(t, sdk.SandboxRunning, st.State)
	})
}

// Told to end by a signal, the keeper ends all that it keeps, and itself.
func TestKeeperTerminated(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		word := number()
		create(t, c, sh("a", `setsid sleep `+word+` & while :; do sleep 1; done`))
		eventually(t, "the tree is up", func() bool { return running(word) == 1 })
		require.NoError(t, syscall.Kill(keeperPid(c.o.Dir), syscall.SIGTERM))
		exit := wait(t, c, "a")
		require.Equal(t, 9, exit.Signal)
		require.Equal(t, "its keeper was told to end", exit.Reason)
		require.Zero(t, running(word))
		eventually(t, "its files are gone", func() bool { return len(leftovers(c.o.Dir)) == 0 })
	})
}

// A keeper with nothing to keep ends, and the next command starts another.
func TestIdleKeeperEnds(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Idle = 50 * time.Millisecond })
	create(t, c, sh("a", "exit 0"))
	require.NoError(t, c.Destroy(t.Context(), "a"))
	eventually(t, "the keeper ends", func() bool { return keeperPid(c.o.Dir) == 0 })
	require.Empty(t, groupsOf(c.o.Dir))
	create(t, c, sh("a", "exit 6"))
	require.Equal(t, 6, wait(t, c, "a").Code)
}

// Two clients share a keeper. The one that recovers a command is told of its end.
func TestTwoClients(t *testing.T) {
	first := newClient(t, nil)
	token := create(t, first, sh("a", "sleep 1000"))
	second := newClient(t, func(o *Options) { o.Dir = first.o.Dir })
	_, err := second.Inspect(t.Context(), "a")
	require.ErrorIs(t, err, sdk.ErrNotFound)
	require.ErrorIs(t, second.Recover(t.Context(), "a", "another"), sdk.ErrNotFound)
	require.ErrorIs(t, second.Recover(t.Context(), "b", token), sdk.ErrNotFound)
	require.NoError(t, second.Recover(t.Context(), "a", token))
	require.NoError(t, second.Recover(t.Context(), "a", token))
	require.NoError(t, first.Close())
	require.NoError(t, second.Stop(t.Context(), "a", 5*time.Second))
	require.Equal(t, 15, wait(t, second, "a").Signal)
}

// What another client destroys is gone for the first, too.
func TestDestroyedByAnotherClient(t *testing.T) {
	first := newClient(t, nil)
	create(t, first, sh("a", "sleep 1000"))
	second := newClient(t, func(o *Options) { o.Dir = first.o.Dir })
	require.NoError(t, second.Destroy(t.Context(), "a"))
	require.Equal(t, 9, wait(t, first, "a").Signal)
	st, err := first.Inspect(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, sdk.SandboxExited, st.State)
	create(t, second, sh("a", "exit 1"))
	require.NoError(t, first.Destroy(t.Context(), "a"))
}

func TestLongStateDirectory(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Dir = filepath.Join(o.Dir, strings.Repeat("long-", 40))
	})
	create(t, c, sh("a", "exit 2"))
	require.Equal(t, 2, wait(t, c, "a").Code)
}

// A create that its caller gave up leaves nothing.
func TestCreateIsGivenUp(t *testing.T) {
	c := newClient(t, nil)
	create(t, c, sh("first", "exit 0"))
	word := number()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(cancel)
	_, err := c.Create(ctx, sh("a", "sleep "+word))
	wg.Wait()
	if err == nil {
		require.NoError(t, c.Destroy(t.Context(), "a"))
	}
	require.NoError(t, c.Close())
	eventually(t, "nothing of it is left", func() bool { return running(word) == 0 && len(leftovers(c.o.Dir)) == 1 })
}

// Many at once, that end at once.
func TestManyShortCommands(t *testing.T) {
	c := newClient(t, nil)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := "c" + strconv.Itoa(i)
			_, err := c.Create(t.Context(), sh(id, "echo hello; exit "+strconv.Itoa(i%7)))
			if err != nil {
				t.Error(err)
				return
			}
			exit, err := c.Wait(t.Context(), id)
			if err != nil || exit.Code != i%7 {
				t.Errorf("%s: %+v, %v", id, exit, err)
			}
			if log := logOf(t, c, id); log != "out:hello\n" {
				t.Errorf("%s: the log is %q", id, log)
			}
			if err := c.Destroy(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
