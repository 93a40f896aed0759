package launch

import (
	"strconv"
	"syscall"
)

// setLimit goes through package syscall, which must know of a limit of open
// files: it would set the one that the process began with before the exec.
func setLimit(resource int, value uint64) error {
	var have syscall.Rlimit
	if err := syscall.Getrlimit(resource, &have); err != nil {
		return err
	}
	value = min(value, have.Max) // who asks for more than may be gets that
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value})
}

// setOOMScore needs no privilege as long as it grows. That it cannot be set,
// where /proc is read-only, is no reason not to run.
func setOOMScore(value string) error {
	if n, _ := strconv.Atoi(value); n > 0 {
		_ = write("/proc/self/oom_score_adj", value)
	}
	return nil
}

// From linux/prctl.h.
const (
	prSetNoNewPrivs      = 38
	prCapAmbient         = 47
	prCapAmbientClearAll = 4
)

// confine takes away for good what would let the command out of reach: a
// program with the setuid bit would run as a user whom the keeper cannot kill.
func confine() error {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientClearAll, 0, 0, 0, 0)
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
