//go:build !linux

package plugin

import "syscall"

// sysProcAttr gives the process a group of its own, so that an interrupt from
// the terminal is the host's to handle. That it ends with the host is left to
// the SDK here.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// await returns when the process has ended and was waited for. A kill that
// comes in the moment after that may find its pid free.
func (p *process) await() {
	_ = p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
}
