package erltest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one OS process in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
	err  error         // what Wait returned; valid after done
}

// startProcess starts cmd and a goroutine that waits for it. The goroutine
// starts it too, on a thread that it keeps: the parent-death signal of Linux
// comes when the thread that forked ends, not the process.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = processAttr()
	cmd.WaitDelay = 5 * time.Second // a grandchild that keeps a pipe open must not keep Wait
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// alive tells whether the process has not been waited for yet.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends s to the whole group, whose id is the process's own.
func (p *process) signal(s syscall.Signal) error {
	if !p.alive() {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(-p.pid(), s); err != nil {
		return fmt.Errorf("signal process group %d: %w", p.pid(), err)
	}
	return nil
}

// kill ends the process and returns when it has been waited for.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL)
	<-p.done
}
