package control

import "golang.org/x/sys/unix"

func peerCred(fd int) (Caller, error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Caller{}, err
	}
	return Caller{UID: u.Uid, OSPid: u.Pid, Known: true}, nil
}
