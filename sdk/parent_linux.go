package sdk

import (
	"os"

	"golang.org/x/sys/unix"
)

// awaitExit blocks until the process has ended, or returns at once where that
// cannot be told. It costs nothing while it blocks: no thread, no wake-ups.
func awaitExit(pid int) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	conn, err := file.SyscallConn()
	if err != nil {
		return
	}
	// The descriptor is readable once the process has ended.
	_ = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, 0)
			if err != unix.EINTR {
				return n > 0 || err != nil
			}
		}
	})
}
