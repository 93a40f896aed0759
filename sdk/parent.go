package sdk

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// followHost calls gone when the host's process has ended. A host that is
// killed cannot end its plugins; Linux does it for the host if asked to
// (Pdeathsig), and this is for the other systems, for hosts that did not ask,
// and for the moment before the asking took effect.
//
// The pid comes from the host itself. Without it the parent of this process
// is taken for the host.
func followHost(hostPID string, gone func()) error {
	host := os.Getppid()
	if hostPID != "" {
		pid, err := strconv.Atoi(hostPID)
		if err != nil || pid <= 0 {
			return fmt.Errorf("follow host: %q is not a process id", hostPID)
		}
		if host == 0 {
			return nil // the host is outside of this pid namespace, which ends with it
		}
		if pid != host {
			gone() // it ended before this process looked
			return nil
		}
	}
	go func() {
		awaitExit(host)
		// The pid may have been handed on: only the parent's change is proof.
		for os.Getppid() == host {
			time.Sleep(pollParent)
		}
		gone()
	}()
	return nil
}
