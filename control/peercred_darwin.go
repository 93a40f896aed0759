package control

import "golang.org/x/sys/unix"

func peerCred(fd int) (Caller, error) {
	x, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Caller{}, err
	}
	return Caller{UID: x.Uid, Known: true}, nil
}
