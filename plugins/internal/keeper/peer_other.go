//go:build unix && !linux

package keeper

import (
	"net"
	"os"
	"syscall"
	"time"
)

// peerUser trusts the mode of the directory that the socket is in.
func peerUser(*net.UnixConn) (int, error) { return os.Geteuid(), nil }

func hostFD(int) int { return -1 }

func sendHost(conn *net.UnixConn, line []byte, _ int) error {
	_, err := conn.Write(line)
	return err
}

func receiveHost(conn *net.UnixConn, buf []byte) (int, *os.File, error) {
	n, err := conn.Read(buf)
	return n, nil, err
}

// awaitHost looks at the pid again and again. That it may be handed on to another
// process is a weakness that pidfds do not have.
func awaitHost(_ *os.File, pid int, stop <-chan struct{}) {
	for pid > 0 && syscall.Kill(pid, 0) != syscall.ESRCH {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
