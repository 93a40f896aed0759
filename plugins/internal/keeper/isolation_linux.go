package keeper

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolations are what a client tries. The superuser of a container may lack
// what the first needs and have what the second needs.
func isolations() []Isolation {
	if os.Geteuid() == 0 {
		return []Isolation{PIDNamespace, UserNamespace, NoNamespace}
	}
	return []Isolation{UserNamespace, NoNamespace}
}

// sysProcAttr is for the start of a keeper.
func (i Isolation) sysProcAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if i == NoNamespace {
		return attr
	}
	attr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
	if i == UserNamespace {
		// The same ids inside and outside: commands must not think that they are
		// the superuser. To mount /proc the keeper needs a capability in its
		// namespace, which an exec takes from others than the superuser unless
		// it is ambient; package launch drops it before a command runs.
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return attr
}

// settle makes what the keeper was started in its own. The result is /proc as it
// was before: as the host sees it.
func (i Isolation) settle() (outside *os.File, err error) {
	// Who is orphaned in the tree of a command becomes the keeper's child, as
	// the children of an init do anyway.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	outside, err = os.Open("/proc")
	if err != nil {
		return nil, err
	}
	if i == NoNamespace {
		return outside, nil
	}
	if os.Getpid() != 1 {
		return nil, fmt.Errorf("the keeper is no init")
	}
	// Mounts of the host still come in; none goes out.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("keep mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mount /proc: %w", err)
	}
	return outside, nil
}

// outsidePid is the pid of a child, given by its pidfd, as the host sees it.
func outsidePid(outside *os.File, pidfd int) int {
	name := "self/fdinfo/" + strconv.Itoa(pidfd)
	fd, err := unix.Openat(int(outside.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	buf := make([]byte, 512)
	n, _ := unix.Read(fd, buf)
	for line := range bytes.Lines(buf[:max(n, 0)]) {
		if value, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
			pid, _ := strconv.Atoi(string(bytes.TrimSpace(value)))
			return max(pid, 0)
		}
	}
	return 0
}
