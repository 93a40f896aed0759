package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// proc is one process that the demo started. Its output goes to a file.
type proc struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; to be read after done
}

// procs are the demo's processes in the order of their start.
type procs struct {
	dir string   // where the logs go
	env []string // of every process
	all []*proc
}

// start starts a process in a process group of its own, so that a Ctrl-C in the
// terminal reaches only the demo, which then ends the others in order. It must
// be called on the main thread: see diesWithParent.
func (ps *procs) start(name, program string, args ...string) error {
	p := &proc{name: name, log: filepath.Join(ps.dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = ps.env
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = diesWithParent()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	ps.all = append(ps.all, p)
	return nil
}

// ended is an error about the first process that is no longer there.
func (ps *procs) ended() error {
	for _, p := range ps.all {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s\n%s", p.name, p.cmd.ProcessState, tail(p.log))
		default:
		}
	}
	return nil
}

// stop ends all processes, the last one first, and returns when they and what
// they started have ended. debughost is asked to and has grace for it. The
// others are killed: they have nothing to save, and a node that still boots
// ignores SIGTERM.
func (ps *procs) stop(grace time.Duration) error {
	var errs []error
	for i := len(ps.all) - 1; i >= 0; i-- {
		p := ps.all[i]
		if p.name == debughost {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-p.done:
			case <-time.After(grace):
				errs = append(errs, fmt.Errorf("stop %s: still running after %v, killed", p.name, grace))
			}
		}
		p.kill()
	}
	ps.all = nil
	return errors.Join(append(errs, waitForOrphans(grace))...)
}

// kill ends the process and those of its group, such as the helpers of a shell
// script, and waits for it.
func (p *proc) kill() {
	select {
	case <-p.done: // its pid may be another's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// tail is the end of a log file, indented.
func tail(path string) string {
	const most = 2000
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return "  " + strings.ReplaceAll(string(bytes.TrimSpace(b)), "\n", "\n  ")
}
