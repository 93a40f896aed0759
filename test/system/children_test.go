package system

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

// home is a debughost, alone, for children. What its children leave when a test
// fails is ended with the test.
type home struct {
	*rig.Host
	opts rig.Options
}

// newHome starts one in a directory, with a configuration.
func newHome(t testing.TB, dir, config string) *home {
	t.Helper()
	if dir == "" {
		dir = rig.TempDir(t)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[topologies]\n"+quiet+config), 0o600))
	h := &home{opts: rig.Options{Dir: dir, Args: []string{"--config", filepath.Join(dir, "config.toml")}, Env: []string{
		"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.Getenv("TMPDIR"),
	}}}
	t.Cleanup(func() {
		if h.Host != nil {
			h.Kill()
		}
		for _, pid := range h.keepers() {
			_ = syscall.Kill(pid, syscall.SIGTERM) // and it ends all that it keeps
			require.NoError(t, rig.Until(rig.Patience, func() error { return rig.Gone(pid) }))
		}
	})
	h.again(t)
	return h
}

// again starts it anew, on the same directory.
func (h *home) again(t testing.TB) {
	t.Helper()
	h.Host = rig.Start(t, h.opts)
}

// run has it run a child; args are flags, -- and the command.
func (h *home) run(t *testing.T, id string, args ...string) {
	t.Helper()
	_, _, err := h.start(id, args...)
	require.NoError(t, err)
}

// start begins with the data directory, since what comes behind -- is the child's.
func (h *home) start(id string, args ...string) (stdout, stderr string, err error) {
	return h.Try(append([]string{"--data-dir", h.Dir, "child", "start", id}, args...)...)
}

type childEntry struct {
	What, Reason string
	Exit         *struct {
		Code, Signal int
		OutOfMemory  bool `json:"out_of_memory"`
		Reason       string
	}
}

type childDetail struct {
	ID, State, Reason, Member string
	OSPid                     int `json:"os_pid"`
	Restarts                  int
	Spec                      struct{ Config any }
	History                   []childEntry
}

// what is the history in one line.
func (c *childDetail) what() string {
	var all []string
	for _, e := range c.History {
		all = append(all, e.What)
	}
	return strings.Join(all, " ")
}

func (h *home) show(id string) (childDetail, error) {
	var a struct{ Child childDetail }
	err := h.TryJSON(&a, "child", "show", id)
	return a.Child, err
}

// await waits until a child is in a state and more.
func (h *home) await(t *testing.T, id, state string, more ...func(childDetail) bool) childDetail {
	t.Helper()
	var c childDetail
	h.Eventually(t, func() (err error) {
		if c, err = h.show(id); err != nil {
			return err
		}
		for _, ok := range more {
			if !ok(c) {
				return fmt.Errorf("%s: %+v", id, c)
			}
		}
		if c.State != state {
			return fmt.Errorf("%s is not %s: %+v", id, state, c)
		}
		return nil
	})
	return c
}

// ping is a child that writes all the time: what happens to others is nothing to it.
type ping struct {
	h    *home
	file string
	pid  int
}

func (h *home) ping(t *testing.T) *ping {
	t.Helper()
	p := &ping{h: h, file: filepath.Join(t.TempDir(), "ping")}
	h.run(t, "ping", "--", "sh", "-c", "while :; do echo >> "+p.file+"; sleep 0.05; done")
	p.pid = h.await(t, "ping", "running").OSPid
	return p
}

// goesOn waits until it has written more, as the process that it was.
func (p *ping) goesOn(t *testing.T) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(p.file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	before := size()
	require.NoError(t, rig.Until(rig.Patience, func() error {
		if size() < before+3 {
			return fmt.Errorf("ping stands still at %d", size())
		}
		return nil
	}))
	c := p.h.await(t, "ping", "running")
	require.Equal(t, p.pid, c.OSPid)
	require.Zero(t, c.Restarts)
}

// word is a number that no other process has among its arguments.
func word() string { return strconv.Itoa(1e8 + rand.IntN(9e8)) }

// processes are those with an argument, by pid: no zombies.
func processes(arg string) []int {
	return matching(func(args []string) bool { return slices.Contains(args[1:], arg) })
}

func matching(match func(args []string) bool) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, err := os.ReadFile(f)
		args := strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00")
		if pid, convErr := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && convErr == nil && len(line) > 0 && match(args) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// keepers are the keepers of its children.
func (h *home) keepers() []int {
	return matching(func(args []string) bool {
		return len(args) == 3 && args[1] == "keeper" && strings.HasPrefix(args[2], h.opts.Dir+"/")
	})
}

func (h *home) keeper(t *testing.T) int {
	t.Helper()
	pids := h.keepers()
	require.Len(t, pids, 1)
	return pids[0]
}

func (h *home) plugin(t *testing.T, name string) int {
	t.Helper()
	var pid int
	h.Eventually(t, func() error {
		var a struct {
			Plugins []struct {
				Name, State, Reason string
				Pid                 int
			}
		}
		if err := h.TryJSON(&a, "plugins"); err != nil {
			return err
		}
		for _, p := range a.Plugins {
			if p.Name == name && p.State == "running" {
				pid = p.Pid
				return nil
			}
		}
		return fmt.Errorf("%s does not run: %+v", name, a.Plugins)
	})
	return pid
}

// leavesNothing ends the host, and then there is no process and no directory left.
func (h *home) leavesNothing(t *testing.T, words ...string) {
	t.Helper()
	var a struct{ Children []struct{ ID string } }
	h.JSON(t, 0, &a, "child", "list")
	for _, c := range a.Children {
		h.Exit(t, 0, "child", "remove", c.ID)
	}
	for _, w := range words {
		require.Empty(t, processes(w))
	}
	dirs, err := filepath.Glob(filepath.Join(h.Dir, "sandboxes", "*", "children", "*"))
	require.NoError(t, err)
	require.Empty(t, dirs)
	keepers := h.keepers()
	h.Term(t)
	for _, pid := range keepers { // it stays for a second, in case that the host comes back
		require.NoError(t, rig.Until(10*time.Second, func() error { return rig.Gone(pid) }))
	}
}
