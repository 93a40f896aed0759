package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

// forker starts processes from one thread that lives as long as they do. The
// kernel sends the parent-death signal when the thread that forked ends, not
// the process, and Go ends threads as it likes.
type forker struct{ jobs chan func() }

func newForker() *forker { return &forker{make(chan func())} }

func (f *forker) run(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case job := <-f.jobs:
			job()
		case <-ctx.Done():
			return
		}
	}
}

func (f *forker) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	f.jobs <- func() { done <- cmd.Start() }
	return <-done
}

// process is the OS process of a plugin, in a process group of its own, in the
// form in which go-plugin wants it. It is started at most once.
type process struct {
	forker    *forker
	path      string
	env       []string
	socketDir string

	pid    int // set before Start returns
	cmd    *exec.Cmd
	stdout *firstLine
	stderr *stderr
	exited chan struct{} // closed when it has ended and been waited for

	mu     sync.Mutex
	reaped bool // its pid may be somebody else's
	dead   bool // killed, maybe before its start
}

var _ runner.Runner = (*process)(nil)

func newProcess(f *forker, path string) *process {
	exited := make(chan struct{})
	return &process{forker: f, path: path, exited: exited, stdout: &firstLine{until: exited}}
}

// Start starts the process. Its standard input is empty and its environment is
// what was allowed.
func (p *process) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errors.New("it was stopped before it started")
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer outW.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		outR.Close()
		return err
	}
	defer errW.Close()
	p.cmd = &exec.Cmd{Path: p.path, Args: []string{p.path}, Env: p.env, Stdout: outW, Stderr: errW, SysProcAttr: sysProcAttr()}
	if err := p.forker.start(p.cmd); err != nil {
		outR.Close()
		errR.Close()
		p.cmd = nil
		return err
	}
	p.pid = p.cmd.Process.Pid
	p.stdout.pipe = outR
	p.stderr = newStderr(errR, newThrottle(p.exited))
	go p.reap(outR, errR)
	return nil
}

// reap waits for the process to end and clears up after it: what it left in
// its process group is killed, and who still reads its pipes after a moment is
// told that they ended.
func (p *process) reap(pipes ...*os.File) {
	p.await()
	for _, pipe := range pipes {
		_ = pipe.SetReadDeadline(time.Now().Add(exitGrace))
	}
	close(p.exited)
}

// kill ends the process and its group at once. It may be called at any time.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	if p.cmd != nil && !p.reaped {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

func (p *process) started() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// exitsWithin waits for the process to end, and reports whether it did.
func (p *process) exitsWithin(ctx context.Context, d time.Duration) bool {
	if !p.started() {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.exited:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// wasKilled reports whether an ended process was ended by us.
func (p *process) wasKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return p.dead && ok && status.Signal() == syscall.SIGKILL
}

// exitError says how an ended process ended, and its last words.
func (p *process) exitError() error {
	p.stderr.drained(exitGrace)
	msg := "it ended with " + p.cmd.ProcessState.String()
	if words := p.stderr.lastWords(); words != "" {
		msg += ": " + words
	}
	return errors.New(msg)
}

// Wait, Kill and the rest are for go-plugin.
func (p *process) Wait(context.Context) error {
	<-p.exited
	p.stdout.close()
	p.stderr.pipe.Close()
	if !p.cmd.ProcessState.Success() {
		return p.exitError()
	}
	return nil
}

func (p *process) Kill(context.Context) error {
	p.kill()
	return nil
}

func (p *process) Stdout() io.ReadCloser           { return p.stdout }
func (p *process) Stderr() io.ReadCloser           { return p.stderr }
func (p *process) Name() string                    { return p.path }
func (p *process) Diagnose(context.Context) string { return "" }

// ID is empty while there is no process.
func (p *process) ID() string {
	if !p.started() {
		return ""
	}
	return strconv.Itoa(p.pid)
}

// PluginToHost refuses to talk to anything but a socket in the directory that
// the plugin was given.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || !strings.HasPrefix(filepath.Clean(address), p.socketDir+"/") {
		return "", "", fmt.Errorf("it listens on %.20s %.100s and not on a Unix socket in %s", network, address, p.socketDir)
	}
	return network, address, nil
}

func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
