//go:build !linux

package main

import (
	"syscall"
	"time"
)

// diesWithParent keeps a child out of the terminal's reach. Other systems have
// no way to tie its life to the demo's: a demo that is killed leaves it behind.
func diesWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// waitForOrphans does nothing: they become children of init.
func waitForOrphans(time.Duration) error { return nil }
