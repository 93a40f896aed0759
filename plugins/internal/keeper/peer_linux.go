package keeper

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// peerUser is the user at the other end of a connection, as the kernel knows it.
func peerUser(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}

// hostFD is a descriptor that tells of the end of the process, or -1.
func hostFD(pid int) int {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1
	}
	return fd
}

// sendHost writes the first request, with the descriptor beside it.
func sendHost(conn *net.UnixConn, line []byte, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	n, _, err := conn.WriteMsgUnix(line, rights, nil)
	if err == nil && n != len(line) {
		err = fmt.Errorf("%d of %d bytes were sent", n, len(line))
	}
	return err
}

// receiveHost reads the first piece of a connection and the descriptor beside
// it, or nil.
func receiveHost(conn *net.UnixConn, buf []byte) (n int, host *os.File, err error) {
	oob := make([]byte, 128)
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return n, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if host == nil {
				_ = unix.SetNonblock(fd, true)
				host = os.NewFile(uintptr(fd), "pidfd")
			} else {
				_ = unix.Close(fd)
			}
		}
	}
	return n, host, nil
}

// awaitHost returns when the process of the descriptor has ended, or stop was
// closed.
func awaitHost(host *os.File, _ int, stop <-chan struct{}) {
	if host == nil {
		return
	}
	ended := make(chan struct{})
	defer func() { _ = host.Close(); <-ended }()
	go func() {
		defer close(ended)
		conn, err := host.SyscallConn()
		if err != nil {
			return
		}
		_ = conn.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			for {
				n, err := unix.Poll(fds, 0)
				if err != unix.EINTR {
					return n > 0 || err != nil
				}
			}
		})
	}()
	select {
	case <-ended:
	case <-stop:
		_ = host.SetReadDeadline(time.Now())
	}
}
