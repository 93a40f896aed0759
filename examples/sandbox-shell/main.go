// Command sandbox-shell runs shell scripts as sandboxes of debughost.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/debughost/debughost/sdk"
)

// watcher runs the script and outlives the plugin. When neither the plugin nor
// the host is there for $2 rounds, it removes all that there is of the sandbox,
// and itself. What it knows is in files: all that a later plugin has.
const watcher = `trap : TERM; echo $$ >group; : >log
sh -c "$1" >>log 2>&1 & pid=$!; echo $pid >pid; left=$(($2 + 1))
while kill -0 $pid 2>/dev/null; do
	owners=; read -r owners <owners
	for owner in $owners; do kill -0 $owner 2>/dev/null && left=$(($2 + 1)); done
	if [ $left -le 0 ]; then rm -rf "$PWD"; kill -9 0; fi
	left=$((left - 1)); sleep 0.05
done
wait $pid; echo $? >exit.new; mv exit.new exit; kill -9 0`

const round = 50 * time.Millisecond // of the watcher

type shell struct {
	dir   string // of all sandboxes; each has a directory by its id
	mu    sync.Mutex
	known map[string]bool // those of this process
}

func (s *shell) Describe() sdk.Info { return sdk.Info{Name: "sandbox-shell", Version: "1.0.0"} }

func (s *shell) Configured(ctx context.Context) error {
	dir, ok := sdk.StateDirFrom(ctx)
	if !ok {
		return errors.New("sandbox-shell needs a state directory; this debughost offers none")
	}
	s.dir = dir
	return nil
}

func (s *shell) Create(ctx context.Context, spec sdk.SandboxSpec) (h sdk.SandboxHandle, err error) {
	var config struct {
		Script string `json:"script" required:"true" min:"1"`
	}
	if err := sdk.DecodeConfig(spec.Config, &config); err != nil {
		return h, err
	}
	dir := filepath.Join(s.dir, filepath.Base(spec.ID))
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
		return h, fmt.Errorf("create %s: %w", spec.ID, sdk.ErrExists)
	} else if err != nil {
		return h, err
	}
	cmd := exec.Command("sh", "-c", watcher, "sandbox-shell", config.Script, strconv.Itoa(int(spec.Orphan/round)))
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setsid: true} // not to die with the plugin's session
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	err = s.own(spec.ID)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return h, errors.Join(err, s.Destroy(ctx, spec.ID))
	}
	go func() { _ = cmd.Wait() }()
	err = s.until(ctx, func() bool { return s.number(spec.ID, "pid") > 0 })
	return sdk.SandboxHandle{ID: spec.ID}, err
}

// own makes this process and its host those that the watcher looks for.
func (s *shell) own(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[id] = true
	owners := fmt.Sprintf("%d %d\n", os.Getpid(), os.Getppid())
	return os.WriteFile(s.file(id, "owners"), []byte(owners), 0o600)
}

func (s *shell) file(id, name string) string { return filepath.Join(s.dir, filepath.Base(id), name) }

// number reads a file of one number; -1 is no file, or half of one.
func (s *shell) number(id, name string) int {
	text, _ := os.ReadFile(s.file(id, name))
	n, err := strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
	if err != nil || !strings.HasSuffix(string(text), "\n") {
		return -1
	}
	return n
}

func (s *shell) until(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

func (s *shell) find(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(s.file(id, "owners")); err != nil || !s.known[id] {
		return fmt.Errorf("find %s: %w", id, sdk.ErrNotFound)
	}
	return nil
}

// exit is how it ended, or nil. A shell adds 128 to a signal.
func (s *shell) exit(id string) *sdk.SandboxExit {
	code := s.number(id, "exit")
	if code < 0 {
		return nil
	}
	e := &sdk.SandboxExit{Code: code, At: time.Now()}
	if info, err := os.Stat(s.file(id, "exit")); err == nil {
		e.At = info.ModTime()
	}
	if code > 128 {
		e.Signal = code - 128
	}
	return e
}

func (s *shell) Inspect(_ context.Context, id string) (sdk.SandboxStatus, error) {
	st := sdk.SandboxStatus{ID: id, State: sdk.SandboxRunning, OSPid: max(s.number(id, "pid"), 0)}
	st.Enforced = map[string]string{"memory": "not held", "cpus": "not held", "processes": "not held"}
	if st.Exit = s.exit(id); st.Exit != nil {
		st.State, st.OSPid = sdk.SandboxExited, 0
	}
	return st, s.find(id)
}

func (s *shell) Wait(ctx context.Context, id string) (e sdk.SandboxExit, err error) {
	err = s.until(ctx, func() bool { return s.find(id) != nil || s.exit(id) != nil })
	if exit := s.exit(id); err == nil && exit != nil {
		return *exit, nil
	}
	return e, errors.Join(err, s.find(id))
}

func (s *shell) Stop(ctx context.Context, id string, timeout time.Duration) error {
	if err := s.find(id); err != nil || s.exit(id) != nil {
		return err
	}
	_ = syscall.Kill(-s.number(id, "group"), syscall.SIGTERM)
	patience, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := s.Wait(patience, id); err != nil && s.exit(id) == nil {
		_ = syscall.Kill(s.number(id, "pid"), syscall.SIGKILL)
	}
	_, err := s.Wait(ctx, id)
	return err
}

func (s *shell) Destroy(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if group := s.number(id, "group"); group > 0 && s.exit(id) == nil {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
	delete(s.known, id)
	return os.RemoveAll(filepath.Join(s.dir, filepath.Base(id)))
}

func (s *shell) Recover(_ context.Context, h sdk.SandboxHandle) error {
	if _, err := os.Stat(s.file(h.ID, "owners")); err != nil {
		return fmt.Errorf("recover %s: %w", h.ID, sdk.ErrNotFound)
	}
	return s.own(h.ID)
}

func (s *shell) Logs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	if err := s.find(id); err != nil {
		return err
	}
	text, err := os.ReadFile(s.file(id, "log"))
	lines := strings.SplitAfter(string(text), "\n")
	for skip := len(lines) - 1 - o.Tail; o.Tail > 0 && skip > 0; skip-- {
		lines = lines[1:]
	}
	for at := int64(len(text) - len(strings.Join(lines, ""))); err == nil; {
		var f *os.File
		if f, err = os.Open(s.file(id, "log")); err != nil {
			break
		}
		_, _ = f.Seek(at, io.SeekStart)
		for in := bufio.NewReader(f); err == nil; {
			line, readErr := in.ReadString('\n')
			if readErr != nil {
				break // half a line is read again when it has its end
			}
			at += int64(len(line))
			err = emit(sdk.LogLine{Time: time.Now(), Stream: "stdout", Line: []byte(strings.TrimSuffix(line, "\n"))})
		}
		_ = f.Close()
		if err != nil || !o.Follow {
			break
		}
		wait, cancel := context.WithTimeout(ctx, round)
		<-wait.Done()
		cancel()
		err = ctx.Err()
	}
	return err
}

func main() { sdk.Serve(&shell{known: make(map[string]bool)}) }
