// Package rig runs the real debughost for tests of the whole: it builds the
// programs, starts them as users do, and asks them by their command line. It
// knows no package of debughost, and nothing of what is tested.
//
//	func TestMain(m *testing.M) { rig.Main(m) }
//
//	h := rig.Start(t, rig.Options{Args: []string{"--name", "a"}, Env: env})
//	h.JSON(t, 0, &answer, "targets")
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience bounds every wait for a condition.
const Patience = 30 * time.Second

// Bin is the directory with debughost and its plugins, as `make build` lays them
// out. Main makes it.
var Bin string

// Plugins are the names that the file with all plugins is installed under.
var Plugins = []string{
	"discovery-epmd", "discovery-gossip",
	"placement-quorum", "placement-random", "placement-resources", "placement-uniform",
	"sandbox-beam", "sandbox-process",
}

// Main builds the programs, runs the tests and removes the programs. Tests that are
// parallel mostly wait: two at once a processor, where -parallel does not say
// otherwise.
func Main(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
			panic(err) // the testing package has renamed its flag
		}
	}
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "debughost-system")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	Bin = dir
	// As `make build` does: what that has compiled is not compiled again.
	for name, pkg := range map[string]string{"debughost": "cmd/debughost", "debughost-plugins": "plugins"} {
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), "github.com/debughost/debughost/"+pkg)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	for _, name := range Plugins {
		if err := os.Symlink("debughost-plugins", filepath.Join(dir, name)); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// Options say how a debughost is started.
type Options struct {
	Dir    string   // data directory; empty: one of its own, removed with the test
	Prefix []string // what the command line begins with: ip netns exec web1
	Args   []string // of debughost run
	Env    []string // all of its environment, and of the commands that ask it
	NoWait bool     // return before it answers
}

// Host is one debughost process.
type Host struct {
	Dir  string
	Cmd  *exec.Cmd
	Log  *Log
	Done chan struct{} // closed when the process has ended
	Err  error         // of Wait; valid when Done is closed

	env []string
}

// Log is what a process wrote.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TempDir is t.TempDir with a short path: a socket's path has 107 bytes.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dh")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Start starts `debughost run` and waits until it answers. It ends with the
// test.
func Start(t testing.TB, o Options) *Host {
	t.Helper()
	if o.Dir == "" {
		o.Dir = TempDir(t)
	}
	line := append(append(o.Prefix, filepath.Join(Bin, "debughost"), "run", "--data-dir", o.Dir), o.Args...)
	h := Exec(t, o, line...)
	if !o.NoWait {
		h.Eventually(t, func() error { _, _, err := h.Try("targets", "-o", "json"); return err })
	}
	return h
}

// Exec starts a command that becomes a debughost on o.Dir.
func Exec(t testing.TB, o Options, line ...string) *Host {
	t.Helper()
	h := &Host{Dir: o.Dir, Log: &Log{}, Done: make(chan struct{}), env: o.Env}
	h.Cmd = exec.Command(line[0], line[1:]...)
	h.Cmd.Env = o.Env
	h.Cmd.Stdout, h.Cmd.Stderr = h.Log, h.Log
	h.Cmd.WaitDelay = 5 * time.Second
	require.NoError(t, h.Cmd.Start())
	go func() {
		h.Err = h.Cmd.Wait()
		close(h.Done)
	}()
	t.Cleanup(func() {
		h.Kill()
		if t.Failed() {
			t.Logf("log of %v:\n%s", line, h.Log)
		}
	})
	return h
}

// Pid is the process's.
func (h *Host) Pid() int { return h.Cmd.Process.Pid }

// Kill is kill -9.
func (h *Host) Kill() {
	_ = h.Cmd.Process.Signal(syscall.SIGCONT)
	_ = h.Cmd.Process.Kill()
	<-h.Done
}

// Term asks it to end and waits until it has.
func (h *Host) Term(t testing.TB) {
	t.Helper()
	require.NoError(t, h.Cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-h.Done:
		require.NoError(t, h.Err, "exit status")
	case <-time.After(Patience):
		t.Fatal("debughost does not end")
	}
}

// Try runs a client command; err is set when it cannot be run or its exit code
// is not 0.
func (h *Host) Try(args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(Bin, "debughost"), append(args, "--data-dir", h.Dir)...)
	cmd.Env = h.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if err != nil {
		err = fmt.Errorf("debughost %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String(), err
}

// Exit runs a client command that must end with the code.
func (h *Host) Exit(t testing.TB, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := h.Try(args...)
	got := 0
	var e *exec.ExitError
	if errors.As(err, &e) {
		got = e.ExitCode()
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, code, got, "exit code of %v; stdout: %s; stderr: %s", args, stdout, stderr)
	return stdout, stderr
}

// JSON runs a client command with -o json and decodes what it prints.
func (h *Host) JSON(t testing.TB, code int, into any, args ...string) {
	t.Helper()
	out, _ := h.Exit(t, code, append(args, "-o", "json")...)
	dec := json.NewDecoder(strings.NewReader(out))
	require.NoError(t, dec.Decode(into), out)
}

// TryJSON is JSON for a condition that is waited for.
func (h *Host) TryJSON(into any, args ...string) error {
	out, _, err := h.Try(append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// Eventually calls check until it has no error.
func (h *Host) Eventually(t testing.TB, check func() error) {
	t.Helper()
	err := Until(Patience, func() error {
		select {
		case <-h.Done:
			return fmt.Errorf("debughost has ended: %v\n%s", h.Err, h.Log)
		default:
			return check()
		}
	})
	require.NoError(t, err)
}

// Until calls check until it has no error, or the limit is over. What takes longer is
// asked more seldom: each question is a process, and takes time from who is to answer.
func Until(limit time.Duration, check func() error) error {
	over := time.After(limit)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-over:
			return fmt.Errorf("after %v: %w", limit, err)
		}
	}
}

// Gone returns nil once no process has the pid.
func Gone(pid int) error {
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if strings.Contains(string(stat), ") Z ") {
			return nil // ended; its parent is not ours to reap for
		}
		return fmt.Errorf("process %d is still there", pid)
	}
	return nil
}
