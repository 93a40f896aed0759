package keeper

import (
	"errors"
	"math"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/debughost/debughost/plugins/internal/keeper/launch"
)

// limits are what a command is started with. There is none of memory: what
// rlimits can bound is addresses, of which a BEAM or a JVM takes many that it
// never uses.
func limits(c *child, view bool) []launch.Limit {
	l := []launch.Limit{{Resource: unix.RLIMIT_CORE, Value: 0}}
	if c.Mark != 0 {
		l = append(l, launch.Limit{Resource: markResource, Value: c.Mark})
	}
	if n := c.Spec.Limits.OpenFiles; n > 0 {
		l = append(l, launch.Limit{Resource: unix.RLIMIT_NOFILE, Value: uint64(n)})
	}
	if n := c.Spec.Limits.Disk; n > 0 {
		l = append(l, launch.Limit{Resource: unix.RLIMIT_FSIZE, Value: min(n, math.MaxInt64)})
	}
	// In a user namespace of its own a user's threads are counted for themselves. The
	// superuser's are not held.
	if n := c.Spec.Limits.Processes; n > 0 && view {
		l = append(l, launch.Limit{Resource: unix.RLIMIT_NPROC, Value: uint64(tasks(n))})
	}
	return l
}

// fork starts a process that is the command, or becomes it by the long way, in
// its group from the first moment on.
func (s *server) fork(c *child, job launch.Job, p *pipes) (f forked, err error) {
	attr := &syscall.ProcAttr{Dir: c.Spec.Dir, Env: job.Env, Files: p.inside()}
	if job.View != nil {
		if attr.Files, err = p.insideView(); err != nil {
			return f, err
		}
		return s.forkBy(viewed, c, job, attr)
	}
	if s.untraced == nil {
		f, err = s.forkBy(traced, c, job, attr)
		if !errors.Is(err, syscall.EPERM) {
			return f, err
		}
		// Somebody traces the keeper and what it forks: what one traces another
		// cannot. Or it is the command that may not be executed.
	}
	if attr.Files, err = p.insideLaunch(); err != nil {
		return f, err
	}
	return s.forkBy(launched, c, job, attr)
}

// launched starts the process that package launch turns into the command.
func launched(job launch.Job, attr *syscall.ProcAttr) (f forked, err error) {
	f.pid, err = syscall.ForkExec("/proc/self/exe", job.Argv(), attr)
	return f, err
}

type forkFunc func(launch.Job, *syscall.ProcAttr) (forked, error)

func (s *server) forkBy(by forkFunc, c *child, job launch.Job, attr *syscall.ProcAttr) (f forked, err error) {
	pidfd := -1
	attr.Sys = &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if s.options.Isolation == NoNamespace {
		attr.Sys.Pdeathsig = syscall.SIGKILL
	}
	if c.group != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, c.group.fd
		if s.forker.do(func() { f, err = by(job, attr) }); err == nil {
			f.outside = s.outsidePid(f.pid, pidfd)
			return f, nil
		}
		// Kernels before 5.7, and filters of system calls, know no fork into a
		// group. Then the process joins it by itself.
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = false, 0
		job.Group = filepath.Join(c.group.dir, "cgroup.procs")
	}
	pidfd = -1
	if s.forker.do(func() { f, err = by(job, attr) }); err != nil {
		return f, err
	}
	f.outside = s.outsidePid(f.pid, pidfd)
	return f, nil
}

func (s *server) outsidePid(pid, pidfd int) int {
	if pidfd >= 0 {
		defer unix.Close(pidfd)
	}
	if s.options.Isolation == NoNamespace {
		return pid
	}
	return outsidePid(s.outside, pidfd)
}
