package erltest

import "syscall"

// processAttr gives the process a group of its own and has the kernel kill it
// when its parent dies.
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
