package plugin

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// sysProcAttr gives the process a group of its own, so that an interrupt from
// the terminal is the host's to handle, and ends it with the host, however
// that ends.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// await returns when the process has ended and was waited for. Between the
// two, its pid and its group's are still its own, and the rest of the group is
// killed.
func (p *process) await() {
	for unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	_ = p.cmd.Wait()
	p.reaped = true
}
