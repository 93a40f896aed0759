package keeper

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/plugins/internal/keeper/launch"
	"github.com/debughost/debughost/sdk"
)

// standInHostile is a command that tries what it should not be able to, in a directory
// that the test has furnished, and prints what succeeded.
func standInHostile() bool {
	if len(os.Args) != 5 || os.Args[1] != "hostile" {
		return false
	}
	dir, address, neighbour := os.Args[2], os.Args[3], os.Args[4]
	try := func(name string, f func() error) {
		if err := f(); err != nil {
			fmt.Printf("%s fails: %v\n", name, err)
		} else {
			fmt.Printf("%s succeeds\n", name)
		}
	}
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	try("read key", read(filepath.Join(dir, "key")))
	try("read key by way of pid 1", read("/proc/1/root"+filepath.Join(dir, "key")))
	try("read home of neighbour", read(filepath.Join(filepath.Dir(filepath.Dir(os.Getenv("HOME"))), neighbour, "home", "secret")))
	try("write outside", func() error { return os.WriteFile(filepath.Join(dir, "written"), nil, 0o600) })
	try("read shadow", read("/etc/shadow"))
	try("connect", func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	try("connect to itself", func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			err = c.Close()
		}
		return err
	})
	try("make user namespace", func() error {
		attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Sys: attr})
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		return err
	})
	try("write home", func() error { return os.WriteFile("written", nil, 0o600) })
	try("write tmp", func() error { return os.WriteFile("/tmp/written"+neighbour, nil, 0o600) })
	try("find neighbour", func() error {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			if data, _ := os.ReadFile(f); bytes.Contains(data, []byte("sleep\x00"+neighbour)) {
				return nil
			}
		}
		return os.ErrNotExist
	})
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") {
			fmt.Print(strings.Join(strings.Fields(line), " "), "\n")
		}
	}
	// What would hurt the machine without a view is not tried without one.
	if init, _ := os.ReadFile("/proc/1/cmdline"); os.Getppid() == 1 && bytes.HasPrefix(init, []byte(launch.Name+"\x00")) {
		for _, file := range []string{"/usr/written", "/etc/written", "/written", "/dev/written", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/1/mem", "/proc/1/exe", "/sys/fs/cgroup/written"} {
			try("open "+file, func() error {
				f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
				if err == nil {
					err = f.Close()
				}
				return err
			})
		}
		try("remount", func() error { return syscall.Mount("", "/usr", "", syscall.MS_REMOUNT|syscall.MS_BIND, "") })
		try("read environment of init", read("/proc/1/environ"))
		_ = syscall.Kill(-1, syscall.SIGKILL)
	}
	return true
}

// The same command does without a view what it fails to do in one.
func TestViewShutsIn(t *testing.T) {
	for name, change := range map[string]func(*Options){"": nil, "no namespace": modes["no namespace"], "no cgroup": modes["no cgroup"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, change)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			dir := filepath.Join(filepath.Dir(c.o.Dir), "data 'dir'")
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), []byte("s3cret"), 0o600))
			word := number()
			create(t, c, Spec{ID: word, Command: []string{"sh", "-c", "echo > secret; exec sleep " + word}})
			secret := filepath.Join(Home(c.o.Dir, word), "secret")
			eventually(t, "the neighbour is there", func() bool { _, err := os.Stat(secret); return err == nil })

			run := func(id string, view *View) string {
				create(t, c, Spec{ID: id, Command: []string{os.Args[0], "hostile", dir, l.Addr().String(), word}, View: view})
				exit := wait(t, c, id)
				require.Equal(t, sdk.SandboxExit{At: exit.At}, exit, "%s", logOf(t, c, id))
				return logOf(t, c, id)
			}
			both := []string{"write home", "write tmp", "connect to itself"}
			hidden := []string{"read key", "read home of neighbour", "write outside", "find neighbour"}
			if os.Geteuid() == 0 {
				hidden = append(hidden, "read shadow")
			}

			without := run("without", nil)
			for _, what := range append(append([]string{"connect"}, hidden...), both...) {
				require.Contains(t, without, "out:"+what+" succeeds\n")
			}
			require.NoError(t, os.Remove(filepath.Join(dir, "written")))
			require.NoError(t, os.Remove("/tmp/written"+word))
			st, err := c.Inspect(t.Context(), "without")
			require.NoError(t, err)
			require.Equal(t, viewOff, st.Enforced[viewKey])

			with := run("with", &View{Required: true})
			for _, what := range append([]string{"connect"}, both...) {
				require.Contains(t, with, "out:"+what+" succeeds\n")
			}
			alone := run("alone", &View{Required: true, NoNetwork: true})
			require.Contains(t, alone, "out:connect fails: ")
			for _, log := range []string{with, alone} {
				for _, what := range both {
					require.Contains(t, log, "out:"+what+" succeeds\n")
				}
				for _, what := range append([]string{
					"read key by way of pid 1", "read shadow", "make user namespace", "open /usr/written", "open /etc/written", "open /written", "open /dev/written",
					"open /proc/sysrq-trigger", "open /proc/sys/kernel/core_pattern", "open /proc/1/mem", "open /proc/1/exe", "remount", "read environment of init",
				}, hidden...) {
					require.Contains(t, log, "out:"+what+" fails: ")
				}
				for _, set := range []string{"Inh", "Prm", "Eff", "Bnd", "Amb"} {
					require.Contains(t, log, "Cap"+set+": 0000000000000000\n")
				}
				require.Contains(t, log, "NoNewPrivs: 1\n")
			}
			require.NoFileExists(t, filepath.Join(dir, "written"))
			require.NoFileExists(t, "/tmp/written"+word)
			require.Equal(t, 1, running(word), "the neighbour was killed")
			for id, want := range map[string]string{"with": viewHeld, "alone": viewHeld + ", no network"} {
				st, err := c.Inspect(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, want, st.Enforced[viewKey])
			}
		})
	}
}

// What is not in a view is told, and what may not be in one is refused.
func TestViewSpecs(t *testing.T) {
	t.Parallel()
	c := newClient(t, nil)
	inherited, err := syscall.Open("/", syscall.O_RDONLY, 0) // as from a shell that left it open
	require.NoError(t, err)
	defer syscall.Close(inherited)
	_, err = c.Create(t.Context(), Spec{ID: "a", Command: []string{"true"}, View: &View{ReadOnly: []string{"usr"}}})
	require.ErrorIs(t, err, ErrSpec)
	_, err = c.Create(t.Context(), Spec{ID: "a", Command: []string{"true"}, View: &View{ReadOnly: []string{"/nowhere"}}})
	require.ErrorContains(t, err, "show: stat /nowhere: no such file")
	_, err = c.Create(t.Context(), Spec{ID: "a", Command: []string{"true"}, View: &View{ReadOnly: []string{filepath.Dir(c.o.Dir)}}})
	require.ErrorContains(t, err, "the state directory")
	_, err = c.Create(t.Context(), Spec{ID: "a", Command: []string{"true"}, Dir: filepath.Dir(c.o.Dir), View: &View{}})
	require.ErrorContains(t, err, "the state directory")
	require.NotEmpty(t, sdk.Hint(err))

	// A program whose interpreter is not shown, and then is; with all kinds of names.
	dir := filepath.Join(t.TempDir(), `a b'c"d $e`+"\n")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	script := filepath.Join(dir, "bin", "run")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\ncat ../file && exec sh -c 'kill -9 $$'\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("text\n"), 0o644))
	create(t, c, Spec{ID: "b", Command: []string{script}, View: &View{}})
	require.Equal(t, 1, wait(t, c, "b").Code)
	create(t, c, Spec{ID: "c", Command: []string{script}, Dir: filepath.Join(dir, "bin"), View: &View{ReadOnly: []string{filepath.Join(dir, "file")}}})
	exit := wait(t, c, "c")
	require.Equal(t, int(syscall.SIGKILL), exit.Signal, logOf(t, c, "c"))
	require.Equal(t, "out:text\n", logOf(t, c, "c"))
	create(t, c, Spec{ID: "fds", Command: []string{"sh", "-c", "ls /proc/$$/fd"}, View: &View{}})
	require.Zero(t, wait(t, c, "fds").Code)
	for fd := range strings.Lines(logOf(t, c, "fds")) {
		require.Contains(t, "out:0\nout:1\nout:2\n", fd, "nothing of the host's is open")
	}
	_, err = c.Create(t.Context(), Spec{ID: "d", Command: []string{filepath.Join(dir, "file")}, View: &View{}})
	require.ErrorContains(t, err, "permission denied")
	bad := filepath.Join(dir, "bin", "bad")
	require.NoError(t, os.WriteFile(bad, []byte("#!"+filepath.Join(dir, "none")+"\n"), 0o755))
	_, err = c.Create(t.Context(), Spec{ID: "d", Command: []string{bad}, View: &View{}})
	require.ErrorContains(t, err, "exec: no such file or directory")
}

// The pid that is told is the command's, a signal reaches it, and its limits are its own.
func TestViewOfWhatRuns(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		if _, ok := inView.Load(c); !ok {
			return
		}
		word := number()
		spec := sh("a", "trap 'echo bye; exit 7' TERM; sleep "+word+" & wait; sleep "+word)
		spec.Limits.Processes = 2
		create(t, c, spec)
		eventually(t, "it runs", func() bool { return running(word) == 1 })
		st, err := c.Inspect(t.Context(), "a")
		require.NoError(t, err)
		argv, err := os.ReadFile("/proc/" + strconv.Itoa(st.OSPid) + "/cmdline")
		require.NoError(t, err)
		require.Equal(t, "sh\x00-c\x00"+spec.Command[2]+"\x00", string(argv))
		require.NoError(t, c.Stop(t.Context(), "a", time.Minute))
		require.Equal(t, 7, wait(t, c, "a").Code)
		require.Equal(t, "out:bye\n", logOf(t, c, "a"))
		require.Zero(t, running(word))
	})
}
