//go:build unix

package discoverygossip

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// shared lets several sockets of one machine have one port. A packet to a group
// or to a broadcast address reaches all of them.
func shared(_, _ string, c syscall.RawConn) error {
	var err error
	if ctlErr := c.Control(func(fd uintptr) {
		// Linux asks for the first where the other socket, libcluster's, has
		// only that; the BSDs ask for the second.
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	}); ctlErr != nil {
		return ctlErr
	}
	return err
}
