package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/internal/link"
)

// hosting is a stand-in for a host, as standIn is, whose plugin is talked to: its
// pid goes into a file.
const hosting = `env ` + link.EnvHostPID + `=$$ "$0" & echo "$!" > "$1"; while :; do wait; sleep 0.1; done`

func (s *process) pidFile() string { return filepath.Join(s.dir, "pid") }

// abandon kills the stand-in for the host and returns when the plugin has ended
// too.
func (s *process) abandon(ctx context.Context) error {
	data, err := os.ReadFile(s.pidFile())
	if err != nil {
		return fmt.Errorf("find the plugin's process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("find the plugin's process: %w", err)
	}
	s.kill()
	if err := ends(ctx, pid, 3*time.Second); err != nil {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
		return fmt.Errorf("the plugin: %w, 3s after its host was killed", err)
	}
	return nil
}

// ends waits for the end of a process of another's.
func ends(ctx context.Context, pid int, patience time.Duration) error {
	for deadline := time.Now().Add(patience); alive(pid); {
		if time.Now().After(deadline) {
			return errors.New("its process still runs")
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// alive reports whether there is a process. One that nobody has waited for yet
// is none, where the system can tell.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil || p.Signal(syscall.Signal(0)) != nil {
		return false
	}
	stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return !strings.Contains(string(stat), ") Z ")
}

// shortOrphan is what orphans get where their end is waited for.
const shortOrphan = 300 * time.Millisecond

// abandoned is a check on a sandbox whose host and plugin can be killed.
func abandoned(check func(context.Context, *box) error) func(context.Context, Plugin) error {
	return func(ctx context.Context, p Plugin) error {
		if _, err := exec.LookPath("sh"); err != nil {
			return skipped("this system has no sh to stand in for the host")
		}
		p.hosted = true
		return boxed(check)(ctx, p)
	}
}

// next attaches another process of the plugin, whose host is this one.
func (b *box) next(ctx context.Context) error {
	p := b.plugin
	p.hosted = false
	return b.attach(ctx, p)
}

func checkTakeover(ctx context.Context, b *box) error {
	id := newID()
	spec := b.spec(id)
	spec.Orphan = 10 * b.plugin.Timeout
	handle, err := b.make(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { _ = b.Destroy(context.WithoutCancel(ctx), id) }()
	if err := b.abandon(ctx); err != nil {
		return err
	}
	if err := b.next(ctx); err != nil {
		return err
	}
	err = within(ctx, b.plugin.Timeout, "recover sandbox", func(ctx context.Context) error { return b.Recover(ctx, handle) })
	if err != nil {
		return err
	}
	return b.is(ctx, id, sdk.SandboxRunning)
}

func checkOrphan(ctx context.Context, b *box) error {
	id := newID()
	spec := b.spec(id)
	spec.Orphan = shortOrphan
	handle, err := b.make(ctx, spec)
	if err != nil {
		return err
	}
	pid, err := b.pid(ctx, id)
	if err != nil {
		return err
	}
	defer func() { // of one that is too long-lived
		if p, err := os.FindProcess(pid); err == nil && alive(pid) {
			_ = p.Kill()
		}
	}()
	if err := b.abandon(ctx); err != nil {
		return err
	}
	left := ends(ctx, pid, shortOrphan+2*time.Second)
	if err := b.next(ctx); err != nil {
		return err
	}
	defer func() { _ = b.Destroy(context.WithoutCancel(ctx), id) }()
	if left != nil {
		return fmt.Errorf("2s after an orphan's time is up: %w", left)
	}
	for deadline := time.Now().Add(b.plugin.Timeout); ; {
		err := errors.Join(notFound("recover an orphan whose time is up", b.Recover(ctx, handle)), b.noFileOf(id))
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

func checkKilled(ctx context.Context, b *box) error {
	pid, err := b.pid(ctx, b.id)
	if err != nil {
		return err
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := p.Kill(); err != nil {
		return fmt.Errorf("kill the sandbox's process: %w", err)
	}
	return within(ctx, b.plugin.Timeout, "wait for a killed sandbox", func(ctx context.Context) error {
		exit, err := b.Wait(ctx, b.id)
		if err == nil && exit.Signal != int(syscall.SIGKILL) {
			err = fmt.Errorf("it ended by signal %d with code %d, want signal 9", exit.Signal, exit.Code)
		}
		return err
	})
}

func checkLimits(ctx context.Context, s *process) error {
	if len(s.plugin.OverLimit) == 0 {
		return skipped("no sandbox that goes over a limit is given (OverLimit)")
	}
	b := &box{process: s, Sandbox: s.Sandbox(sdk.Description{})}
	for _, spec := range s.plugin.OverLimit {
		spec.ID = newID()
		if _, err := b.make(ctx, spec); err != nil {
			return err
		}
		err := b.overLimit(ctx, spec)
		_ = b.Destroy(context.WithoutCancel(ctx), spec.ID)
		if err != nil {
			return fmt.Errorf("the sandbox %.200s with %+v: %w", spec.Config, spec.Limits, err)
		}
	}
	return nil
}

func (b *box) overLimit(ctx context.Context, spec sdk.SandboxSpec) error {
	var exit sdk.SandboxExit
	err := within(ctx, b.plugin.Timeout, "wait for its end", func(ctx context.Context) (err error) {
		exit, err = b.Wait(ctx, spec.ID)
		return err
	})
	if err != nil {
		return err
	}
	if exit.Reason == "" {
		return fmt.Errorf("its exit does not say why: %+v", exit)
	}
	st, err := b.Inspect(ctx, spec.ID)
	if err == nil && len(st.Enforced) == 0 {
		err = errors.New("its status does not say by what the limit is held")
	}
	return err
}

func checkCreateFails(ctx context.Context, s *process) error {
	if s.plugin.FailSpec == nil || s.plugin.Spec == nil {
		return skipped("no sandbox that cannot be created is given (FailSpec)")
	}
	b := &box{process: s, Sandbox: s.Sandbox(sdk.Description{})}
	bad, id := *s.plugin.FailSpec, newID()
	bad.ID = id
	defer func() { _ = b.Destroy(context.WithoutCancel(ctx), id) }()
	if _, err := b.make(ctx, bad); err == nil {
		return errors.New("what cannot be created was (is FailSpec right?)")
	}
	_, err := b.Inspect(ctx, id)
	if err := errors.Join(notFound("inspect what could not be created", err), b.noFileOf(id)); err != nil {
		return err
	}
	if _, err := b.make(ctx, b.spec(id)); err != nil {
		return fmt.Errorf("with the id of what could not be created: %w", err)
	}
	return nil
}

func checkClean(ctx context.Context, b *box) error {
	pid, err := b.pid(ctx, b.id)
	if err != nil && !errors.As(err, new(skipped)) {
		return err
	}
	if err := b.destroy(ctx); err != nil {
		return err
	}
	if pid > 0 {
		// The kernel may need a moment for one that was killed.
		if err := ends(ctx, pid, time.Second); err != nil {
			return fmt.Errorf("a destroyed sandbox: %w", err)
		}
	}
	// What the plugin needs for itself it has made by now.
	before := b.files()
	for range 3 {
		id := newID()
		if _, err := b.make(ctx, b.spec(id)); err != nil {
			return err
		}
		if err := within(ctx, b.plugin.Timeout, "destroy sandbox", func(ctx context.Context) error { return b.Destroy(ctx, id) }); err != nil {
			return err
		}
	}
	if after := b.files(); len(after) > len(before) {
		return fmt.Errorf("three sandboxes that were destroyed left files in the state directory: it had %v and has %v", before, after)
	}
	return b.noFileOf(b.id)
}

func (b *box) make(ctx context.Context, spec sdk.SandboxSpec) (handle sdk.SandboxHandle, err error) {
	err = within(ctx, b.plugin.Timeout, "create sandbox", func(ctx context.Context) (err error) {
		handle, err = b.Create(ctx, spec)
		return err
	})
	return handle, err
}

// pid is the process of a sandbox, where it is one.
func (b *box) pid(ctx context.Context, id string) (int, error) {
	st, err := b.Inspect(ctx, id)
	if err != nil {
		return 0, err
	}
	if st.OSPid <= 0 {
		return 0, skipped("the plugin tells of no process (OSPid)")
	}
	return st.OSPid, nil
}

// files are the paths below the state directory.
func (s *process) files() []string {
	var all []string
	_ = filepath.WalkDir(s.plugin.stateDir, func(path string, d fs.DirEntry, _ error) error {
		if rel, err := filepath.Rel(s.plugin.stateDir, path); err == nil && d != nil && rel != "." {
			all = append(all, rel)
		}
		return nil
	})
	return all
}

func (s *process) noFileOf(id string) error {
	if left := s.files(); slices.ContainsFunc(left, func(path string) bool { return strings.Contains(path, id) }) {
		return fmt.Errorf("files of it are left in the state directory: %v", left)
	}
	return nil
}
