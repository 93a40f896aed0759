package main

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	// The kernel ties Pdeathsig to the thread that started the process. The main
	// goroutine stays on the main thread, which lives as long as the demo.
	runtime.LockOSThread()
	// What a child leaves behind becomes a child of the demo, which waits for it.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// diesWithParent makes a child die with the demo, even when that is killed.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// waitForOrphans returns when the demo has no more children. Those that are
// left end by themselves as soon as they notice that their parent has: a node's
// helper processes, a plugin. No other child may be waited for meanwhile.
func waitForOrphans(limit time.Duration) error {
	for over := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return nil
		case pid == 0 && time.Now().After(over):
			return fmt.Errorf("stop: processes that the nodes or debughost started still run after %v", limit)
		}
	}
}
