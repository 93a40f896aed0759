//go:build !linux

package erltest

import "syscall"

// processAttr gives the process a group of its own. There is no parent-death
// signal here: a node ends when its control pipe closes, EPMD stays.
func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
