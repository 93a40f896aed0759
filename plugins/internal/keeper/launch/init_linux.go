package launch

import (
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// The init of a view is the first process in namespaces that were made for it. It
// mounts what the command is to see on a root of its own, leaves the other one, drops
// all that it may do, starts the command, and waits for what ends in its PID namespace.
// It ends with the command, and with it the kernel ends the rest. How the command ended
// it writes to statusFD, since an init cannot be killed by its own signal.

// From linux/close_range.h, linux/mount.h, linux/capability.h and linux/keyctl.h.
const (
	sysCloseRange    = 436
	closeOnExec      = 0x4
	sysMountSetattr  = 442
	atFDCWD          = -100
	atRecursive      = 0x8000
	attrReadOnly     = 0x1
	attrNoSuid       = 0x2
	attrNoDev        = 0x4
	attrNoExec       = 0x8
	prSetDumpable    = 4
	prCapbsetDrop    = 24
	maxCap           = 63
	capVersion3      = 0x20080522
	keyctlJoin       = 1
	shmSize          = "64m"
	userNamespaces   = "/proc/sys/user/max_user_namespaces"
	mountFlagsOfProc = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
)

// serveView makes a view and is its init. It returns only when there is no command, with
// the step that failed.
func serveView(view []string, dir, path string, args []string) (string, error) {
	m := &mounter{root: view[0][1:]}
	m.build(view[1:])
	m.enter()
	if view[0][0] == noNetwork {
		m.do("set up loopback", loopbackUp)
	}
	m.do("change to "+dir, func() error { return syscall.Chdir(dir) })
	m.do("close files", closeOthers)
	m.do("drop capabilities", dropAll)
	if m.err != nil || path == "" {
		return m.step, m.err
	}
	// Else the command, which has the same user, could read and change this process,
	// whose other threads have not dropped anything, and its file.
	if err := prctl(prSetDumpable, 0); err != nil {
		return "confine", err
	}
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return "exec", err
	}
	_ = syscall.Close(resultFD)
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if ended == pid || err != nil && err != syscall.EINTR {
			_, _ = syscall.Write(statusFD, []byte(strconv.Itoa(int(status))))
			os.Exit(0)
		}
	}
}

// mounter does one thing after another until one fails.
type mounter struct {
	root string
	step string
	err  error
}

func (m *mounter) do(step string, f func() error) {
	if m.err == nil {
		if err := f(); err != nil {
			m.step, m.err = step, err
		}
	}
}

func (m *mounter) build(mounts []string) {
	m.do("keep mounts private", func() error { return syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, "") })
	m.mount("tmpfs", "/", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0755")
	for _, dir := range []string{"/proc", "/dev/pts", "/dev/shm", "/run", "/var", "/tmp"} {
		m.do("make "+dir, func() error { return os.MkdirAll(m.root+dir, 0o755) })
	}
	for name, to := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
		"/dev/ptmx": "pts/ptmx", "/var/tmp": "/tmp",
	} {
		m.do("make "+name, func() error { return os.Symlink(to, m.root+name) })
	}
	m.mount("proc", "/proc", mountFlagsOfProc, "")
	m.do("forbid user namespaces", func() error { return write(m.root+userNamespaces, "0") })
	m.do("protect /proc", func() error { return setAttr(m.root+"/proc", 0, attrReadOnly) })
	m.mount("devpts", "/dev/pts", syscall.MS_NOSUID|syscall.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
	m.mount("tmpfs", "/dev/shm", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=1777,size="+shmSize)
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		m.bind("/dev/"+name, "/dev/"+name, attrReadOnly|attrNoSuid|attrNoExec) // for its node, not for what that leads to
	}
	for _, how := range mounts {
		switch path := how[1:]; how[0] {
		case ReadOnly:
			m.bind(path, path, attrReadOnly|attrNoSuid|attrNoDev)
		case AsTmp:
			m.bind(path, "/tmp", attrNoSuid|attrNoDev)
		default:
			m.bind(path, path, attrNoSuid|attrNoDev)
		}
	}
}

func (m *mounter) mount(kind, at string, flags uintptr, options string) {
	m.do("mount "+at, func() error { return syscall.Mount(kind, m.root+at, kind, flags, options) })
}

// bind shows a path of the old root in the new one.
func (m *mounter) bind(from, at string, attr uint64) {
	m.do("show "+from, func() error {
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		to := m.root + at
		if info.IsDir() {
			err = os.MkdirAll(to, 0o755)
		} else if err = os.MkdirAll(to[:strings.LastIndexByte(to, '/')], 0o755); err == nil {
			var f *os.File
			if f, err = os.OpenFile(to, os.O_CREATE|os.O_RDONLY|syscall.O_NONBLOCK, 0o644); err == nil {
				err = f.Close()
			}
		}
		if err != nil {
			return err
		}
		if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return err
		}
		return setAttr(to, atRecursive, attr)
	})
}

// enter leaves the old root for the new one.
func (m *mounter) enter() {
	m.do("change root", func() error {
		if err := syscall.Chdir(m.root); err != nil {
			return err
		}
		if err := syscall.PivotRoot(".", "."); err != nil { // the old one is on top of it
			return err
		}
		if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
			return err
		}
		return syscall.Chdir("/")
	})
	m.do("protect /", func() error { return setAttr("/", 0, attrReadOnly) })
}

// setAttr adds attributes to a mount. Mounts that are another namespace's keep theirs.
func setAttr(path string, flags int, attr uint64) error {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	a := struct{ set, clear, propagation, userns uint64 }{set: attr}
	cwd := atFDCWD
	_, _, errno := syscall.Syscall6(sysMountSetattr, uintptr(cwd), uintptr(unsafe.Pointer(p)), uintptr(flags), uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP}
	copy(request.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// closeOthers keeps from the command what the host was started with and has passed on
// without knowing.
func closeOthers() error {
	if _, _, errno := syscall.Syscall(sysCloseRange, statusFD+1, math.MaxUint32, closeOnExec); errno != 0 {
		return errno
	}
	return nil
}

// dropAll takes from this thread, and from what it forks for good, every capability, also
// those that an exec gives to the superuser, and the keys of the session.
func dropAll() error {
	for capability := range uintptr(maxCap + 1) {
		if err := prctl(prCapbsetDrop, capability); err != nil {
			if errors.Is(err, syscall.EINVAL) { // the kernel knows no more
				break
			}
			return err
		}
	}
	if err := confine(); err != nil {
		return err
	}
	header := struct {
		version uint32
		pid     int32
	}{version: capVersion3}
	var none [2]struct{ effective, permitted, inheritable uint32 }
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0); errno != 0 {
		return errno
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_KEYCTL, keyctlJoin, 0, 0)
	return nil
}

func prctl(option, value uintptr) error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
