package keeper

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/debughost/debughost/plugins/internal/keeper/launch"
)

// A command is limited from outside, before its first instruction: it is forked
// as one that the forker's thread traces, which stops it at the end of its exec,
// and is let go when it has its limits. That is a tenth of the work of a launch,
// which is what there is where tracing is forbidden. What can be inherited from
// the thread that forks is set on that, once; see settleThread.

// settleForker says why commands cannot be traced, if so.
func (s *server) settleForker() error {
	if s.options.NoTrace {
		return errors.New("it is switched off")
	}
	return tryTracing()
}

// confine takes from this thread, which is a forker's, and what it forks for good
// what would let a command out of reach: a program with the setuid bit would run
// as a user whom the keeper cannot kill.
func confine() error {
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return &launch.Error{Step: "confine", Cause: err}
	}
	return nil
}

// traced starts job's command and returns when it is about to run, with its
// limits. The mask of signals is the kernel's word, for the tracing thread: until
// the command is let go it takes none. A signal between the request to be traced
// and the exec would stop it there, and this thread waits for the exec.
func traced(job launch.Job, attr *syscall.ProcAttr) (f forked, err error) {
	if err := confine(); err != nil {
		return f, err
	}
	mask, err := blockSignals()
	if err != nil {
		return f, fmt.Errorf("block signals: %w", err)
	}
	attr.Sys.Ptrace = true
	f.pid, err = syscall.ForkExec(job.Path, job.Args, attr)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	if err != nil {
		return f, err
	}
	status, err := awaitExec(f.pid)
	if err != nil {
		return f, err
	}
	if !status.Stopped() {
		f.early = &status
		return f, nil
	}
	if err := release(f.pid, job, mask); err != nil && !errors.Is(err, syscall.ESRCH) { // it was killed
		endTraced(f.pid)
		return f, err
	}
	return f, nil
}

// blockSignals lets this thread, and what it forks, take only the signal by
// which an exec stops, and those that nothing holds up.
func blockSignals() (before unix.Sigset_t, err error) {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	bits := unsafe.Sizeof(all.Val[0]) * 8
	all.Val[uintptr(unix.SIGTRAP-1)/bits] &^= 1 << (uintptr(unix.SIGTRAP-1) % bits)
	err = unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before)
	return before, err
}

// awaitExec waits for the stop, or for the end of a process that did not come so
// far.
func awaitExec(pid int) (status syscall.WaitStatus, err error) {
	for {
		_, err := syscall.Wait4(pid, &status, syscall.WALL, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return status, fmt.Errorf("wait for exec: %w", err)
		case !status.Stopped() || status.StopSignal() == syscall.SIGTRAP:
			return status, nil
		default: // such as SIGSEGV, when its file is cut short
			_ = syscall.PtraceCont(pid, int(status.StopSignal()))
		}
	}
}

// release gives a stopped process what it has to have, and lets it run.
func release(pid int, job launch.Job, mask unix.Sigset_t) error {
	if job.Group != "" {
		if err := writeSmall(job.Group, strconv.Itoa(pid)); err != nil {
			return &launch.Error{Step: "join cgroup", Cause: err}
		}
	}
	for _, l := range job.Limits {
		if err := setLimit(pid, l); err != nil {
			return &launch.Error{Step: "limit " + strconv.Itoa(l.Resource), Cause: err}
		}
	}
	if job.OOMScore > 0 { // that it cannot be set is no reason not to run
		_ = writeSmall(filepath.Join("/proc", strconv.Itoa(pid), "oom_score_adj"), strconv.Itoa(job.OOMScore))
	}
	const kernelSigset = 8 // bytes
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, unix.PTRACE_SETSIGMASK, uintptr(pid), kernelSigset, uintptr(unsafe.Pointer(&mask)), 0, 0)
	if errno != 0 {
		return &launch.Error{Step: "unblock signals", Cause: errno}
	}
	if err := syscall.PtraceDetach(pid); err != nil {
		return &launch.Error{Step: "detach", Cause: err}
	}
	return nil
}

// setLimit sets a limit of another process; who asks for more than may be gets
// that.
func setLimit(pid int, l launch.Limit) error {
	var have unix.Rlimit
	if err := unix.Prlimit(pid, l.Resource, nil, &have); err != nil {
		return err
	}
	value := min(l.Value, have.Max)
	return unix.Prlimit(pid, l.Resource, &unix.Rlimit{Cur: value, Max: value}, nil)
}

// endTraced kills a process of traced that is to be nobody's.
func endTraced(pid int) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WALL, nil)
		if err != syscall.EINTR && (err != nil || !status.Stopped()) {
			return
		}
	}
}

// tryTracing finds out whether commands can be started so: it does it all with a
// process that is killed before it runs.
func tryTracing() error {
	mask, err := blockSignals()
	if err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	attr := &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true, Ptrace: true}}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"debughost-trace"}, attr)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	if err != nil {
		return err
	}
	defer endTraced(pid)
	status, err := awaitExec(pid)
	if err != nil {
		return err
	}
	if !status.Stopped() {
		return fmt.Errorf("it ended: %v", status)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL) // the last thing of what follows lets it go
	if err := release(pid, launch.Job{Limits: []launch.Limit{{Resource: unix.RLIMIT_CORE}}}, mask); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
