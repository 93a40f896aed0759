package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/debughost/debughost/plugins/internal/keeper/launch"
)

// systemPaths are what every view has, where it exists. Of /etc there is nothing with
// secrets in it, such as /etc/ssl/private: what root may read a command of root's may
// read as well, without any capability.
var systemPaths = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store",
	"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
	"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/services", "/etc/protocols",
	"/etc/hosts", "/etc/host.conf", "/etc/hostname", "/etc/resolv.conf", "/etc/gai.conf",
	"/etc/localtime", "/etc/timezone", "/etc/os-release", "/etc/locale.alias", "/etc/mime.types",
	"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ssl/cert.pem", "/etc/ca-certificates",
	"/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/ca-trust/extracted", "/etc/crypto-policies",
	// How many CPUs there are, and how many of them it may use.
	"/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup",
}

// mounts are what a command is to see, for launch.View.
func (s *server) mounts(c *child, job launch.Job) ([]string, error) {
	state := resolved(s.options.Dir)
	var shown []string
	add := func(path string) error {
		if path = filepath.Clean(path); within(state, resolved(path)) {
			return fmt.Errorf("show %s: the state directory %s is in it", path, s.options.Dir)
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("show: %w", err)
		}
		shown = append(shown, path)
		return nil
	}
	for _, path := range systemPaths {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := add(path); err != nil {
			return nil, err
		}
	}
	for _, kv := range job.Env {
		if list, ok := strings.CutPrefix(kv, "PATH="); ok {
			for _, dir := range filepath.SplitList(list) {
				if filepath.IsAbs(dir) {
					_ = add(dir) // what cannot be shown is not looked into
				}
			}
		}
	}
	for _, path := range c.Spec.View.ReadOnly {
		if err := add(path); err != nil {
			return nil, err
		}
	}
	own := []string{filepath.Join(c.dir, homeDir), filepath.Join(c.dir, tmpDir)}
	mine := func(path string) bool { return within(path, own[0]) || within(path, own[1]) }
	if path := filepath.Clean(job.Path); !mine(path) {
		if err := add(path); err != nil {
			return nil, err
		}
	}
	if dir := filepath.Clean(c.Spec.Dir); !mine(dir) && dir != "/" {
		if within(state, resolved(dir)) {
			return nil, fmt.Errorf("use working directory: the state directory %s is in %s", s.options.Dir, dir)
		}
		own = append(own, dir)
	}
	slices.Sort(shown)
	out := []string{string(launch.AsTmp) + own[1]}
	last := ""
	for _, path := range shown { // what has others in it comes first
		if last == "" || !within(path, last) {
			last = path
			out = append(out, string(launch.ReadOnly)+path)
		}
	}
	for _, path := range own {
		out = append(out, string(launch.Writable)+path)
	}
	return out, nil
}

// resolved is a path without links, or as it is where that cannot be said.
func resolved(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

// viewed starts the init of a view, which makes it and starts the command.
func viewed(job launch.Job, attr *syscall.ProcAttr) (f forked, err error) {
	uid, gid := os.Geteuid(), os.Getegid()
	attr.Dir = "/"
	attr.Sys.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC
	if job.View.NoNetwork {
		attr.Sys.Cloneflags |= unix.CLONE_NEWNET
	}
	// The same ids inside and outside, so that its files are the keeper's. What the
	// init needs to make the view it has in its namespaces alone, and drops after.
	attr.Sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	attr.Sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	attr.Sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE, unix.CAP_SETPCAP, unix.CAP_NET_ADMIN}
	if f.pid, err = syscall.ForkExec("/proc/self/exe", job.Argv(), attr); err != nil {
		if errors.Is(err, syscall.ENOSPC) { // which is not about a disk here
			err = fmt.Errorf("there may be no more of them (/proc/sys/user/max_*_namespaces): %w", err)
		}
		return f, &launch.Error{Step: "make namespaces", Cause: err}
	}
	return f, nil
}

// tryView finds out whether views can be made here, by making one that nothing runs
// in. It is asked for once; what fails in another one later is that one's matter.
func (s *server) tryView(noNetwork bool) error {
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	if err, known := s.views.tried[noNetwork]; known {
		return err
	}
	err := s.makeView(noNetwork)
	if s.views.tried == nil {
		s.views.tried = map[bool]error{}
	}
	s.views.tried[noNetwork] = err
	return err
}

func (s *server) makeView(noNetwork bool) error {
	root := filepath.Join(s.options.Dir, viewDir)
	if err := os.Mkdir(root, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	p, err := openPipes()
	if err != nil {
		return err
	}
	defer p.close()
	attr := &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}}
	if attr.Files, err = p.insideView(); err != nil {
		return err
	}
	job := launch.Job{View: &launch.View{Root: root, NoNetwork: noNetwork, Dir: "/"}}
	s.forks.RLock() // nobody else is to wait for it
	defer s.forks.RUnlock()
	var f forked
	s.forker.do(func() { f, err = viewed(job, attr) })
	if err != nil {
		return err
	}
	defer endTraced(f.pid)
	return p.result()
}

// findMain finds the command itself, which the init of its view has started.
func (s *server) findMain(c *child) {
	id := strconv.Itoa(c.pid)
	data, _ := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
	word, _, _ := strings.Cut(string(data), " ")
	pid, err := strconv.Atoi(word)
	if err != nil {
		return // it has ended
	}
	main, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	c.main = main
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		c.outside = s.outsidePid(pid, fd)
	}
}
