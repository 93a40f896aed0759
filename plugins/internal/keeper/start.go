//go:build unix

package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/debughost/debughost/plugins/internal/keeper/launch"
	"github.com/debughost/debughost/sdk"
)

// start runs a command and returns when it runs. When it fails nothing is left.
func (s *server) start(c *child) (err error) {
	home := filepath.Join(c.dir, homeDir)
	if c.Spec.Dir == "" {
		c.Spec.Dir = home
	}
	env := c.Spec.environ(home, filepath.Join(c.dir, tmpDir))
	if err := makeDirs(c.dir, c.Spec.Home); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = removeDir(c.dir)
		}
	}()
	if info, err := os.Stat(c.Spec.Dir); err != nil {
		return fmt.Errorf("use working directory: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("use working directory: %s: %w", c.Spec.Dir, syscall.ENOTDIR)
	}
	path, err := lookUp(c.Spec.Command[0], c.Spec.Dir, env)
	if err != nil {
		return err
	}
	if err := c.save(c.dir); err != nil {
		return err
	}
	if c.group, err = s.groups.make(c.Spec.ID+"-"+c.Token, c.Spec.Limits); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.group.remove()
		}
	}()
	job := launch.Job{Path: path, Args: c.Spec.Command, Env: env, OOMScore: oomScore}
	if job.View, c.view, err = s.viewOf(c, job); err != nil {
		return sdk.WithHint(fmt.Errorf("shut in: %w", err), `with view = "off" in the section of the strategy it sees what debughost's user does`)
	}
	job.Limits = limits(c, job.View != nil)
	return s.launch(c, job)
}

// viewOf is the view that a command gets, nil for none, and what holds it.
func (s *server) viewOf(c *child, job launch.Job) (_ *launch.View, how string, err error) {
	want := c.Spec.View
	if want == nil {
		return nil, viewOff, nil
	}
	noNetwork, how := want.NoNetwork, viewHeld
	err = s.tryView(noNetwork)
	if err == nil && noNetwork {
		how += ", no network"
	}
	if err != nil && noNetwork && !want.Required {
		how += "; not without the network: " + err.Error()
		noNetwork, err = false, s.tryView(false)
	}
	switch {
	case err != nil && want.Required:
		return nil, "", err
	case err != nil:
		return nil, "none: " + err.Error(), nil
	}
	mounts, err := s.mounts(c, job)
	return &launch.View{Root: filepath.Join(s.options.Dir, viewDir), NoNetwork: noNetwork, Dir: c.Spec.Dir, Mounts: mounts}, how, err
}

// oomScore makes a command the first to go when the machine is out of memory,
// and not the host or a target.
const oomScore = 800

// forked is a process that is a command, or is about to become it.
type forked struct {
	pid, outside int                 // as the keeper sees it, and as the host does
	early        *syscall.WaitStatus // it has ended, and was waited for
}

// launch forks. Between the fork and the entry into pids nobody may ask whose
// process it is, and nobody else wait for it.
func (s *server) launch(c *child, job launch.Job) error {
	p, err := openPipes()
	if err != nil {
		return err
	}
	defer p.close()
	s.forks.RLock()
	f, err := s.fork(c, job, p)
	if err == nil {
		s.mu.Lock()
		c.outside, c.early = f.outside, f.early
		if f.early == nil {
			c.pid = f.pid
			s.pids[f.pid] = c
		}
		s.mu.Unlock()
	}
	s.forks.RUnlock()
	if err != nil {
		return fmt.Errorf("run %s: %w", job.Path, err)
	}
	c.log = newLogWriter(c.dir, c.Spec.LogSize, c.Spec.LogRate)
	c.log.follow(p.takeOutput())
	if err := p.result(); err != nil {
		c.log.drain(logDrain)
		return fmt.Errorf("run %s: %w", job.Path, err)
	}
	if job.View != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.status = p.takeStatus()
		s.findMain(c)
	}
	return nil
}

// pipes connect a command: what it prints, and what its launch has to say, if it
// has one.
type pipes struct{ null, outR, outW, errR, errW, saidR, saidW, statusR, statusW *os.File }

func openPipes() (*pipes, error) {
	p := &pipes{}
	var err error
	if p.null, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	if err := errors.Join(open(&p.outR, &p.outW), open(&p.errR, &p.errW)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func open(r, w **os.File) (err error) {
	if *r, *w, err = os.Pipe(); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	return nil
}

// inside are the descriptors of the command. They block, as a command expects of
// them.
func (p *pipes) inside() []uintptr { return blocking(p.null, p.outW, p.errW) }

// insideLaunch adds the one that package launch speaks through.
func (p *pipes) insideLaunch() ([]uintptr, error) {
	if err := open(&p.saidR, &p.saidW); err != nil {
		return nil, err
	}
	return blocking(p.null, p.outW, p.errW, p.saidW), nil
}

// insideView adds the one for the status of a view's command, too.
func (p *pipes) insideView() ([]uintptr, error) {
	fds, err := p.insideLaunch()
	if err == nil {
		err = open(&p.statusR, &p.statusW)
	}
	if err != nil {
		return nil, err
	}
	return append(fds, blocking(p.statusW)...), nil
}

func blocking(files ...*os.File) []uintptr {
	var fds []uintptr
	for _, f := range files {
		_ = syscall.SetNonblock(int(f.Fd()), false)
		fds = append(fds, f.Fd())
	}
	return fds
}

// takeOutput gives what the command prints to the caller.
func (p *pipes) takeOutput() (stdout, stderr *os.File) {
	stdout, stderr = p.outR, p.errR
	p.outR, p.errR = nil, nil
	return stdout, stderr
}

// takeStatus gives the end that the status of a view's command comes out of to the
// caller.
func (p *pipes) takeStatus() *os.File {
	f := p.statusR
	p.statusR = nil
	return f
}

// result is nil when the command runs.
func (p *pipes) result() error {
	p.closeInside()
	if p.saidR == nil {
		return nil
	}
	said, err := io.ReadAll(io.LimitReader(p.saidR, maxSaid))
	if err != nil {
		return err
	}
	return launch.Result(said)
}

// maxSaid bounds what a launch says: a step, which may have a path in it, and a number.
const maxSaid = 8 << 10

func (p *pipes) closeInside() {
	for _, f := range []**os.File{&p.null, &p.outW, &p.errW, &p.saidW, &p.statusW} {
		if *f != nil {
			_ = (*f).Close()
			*f = nil
		}
	}
}

func (p *pipes) close() {
	p.closeInside()
	for _, f := range []*os.File{p.outR, p.errR, p.saidR, p.statusR} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// lookUp finds the program that a command names, as a shell in the command's
// directory and with its environment would.
func lookUp(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		if err := executable(name); err != nil {
			return "", fmt.Errorf("run %s: %w", name, err)
		}
		return name, nil
	}
	var path string
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = value
		}
	}
	denied := error(nil)
	for _, place := range filepath.SplitList(path) {
		file := filepath.Join(dir, place, name)
		if filepath.IsAbs(place) {
			file = filepath.Join(place, name)
		}
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, os.ErrPermission) {
			denied = err
		}
	}
	if denied != nil {
		return "", fmt.Errorf("run %s: %w", name, denied)
	}
	return "", fmt.Errorf("run %s: %w in PATH %s", name, exec.ErrNotFound, path)
}

func executable(file string) error {
	info, err := os.Stat(file)
	var path *os.PathError
	switch {
	case errors.As(err, &path):
		return path.Err
	case err != nil:
		return err
	case info.IsDir():
		return syscall.EISDIR
	case info.Mode()&0o111 == 0:
		return syscall.EACCES
	}
	return nil
}

// forker forks on threads of its own: the signal that the kernel sends to a child
// when its parent ends is sent when the thread does that forked it, and only that
// thread may let go what it traces. There are several because each waits for what
// it forked to come to its exec, and on a busy machine that takes its time.
type forker struct{ jobs chan func() }

func newForker() *forker { return &forker{make(chan func())} }

// run is one of the threads. It ends with it, for it is not as others any more.
func (f *forker) run(ctx context.Context) {
	runtime.LockOSThread()
	for {
		select {
		case job := <-f.jobs:
			job()
		case <-ctx.Done():
			return
		}
	}
}

func (f *forker) do(job func()) {
	done := make(chan struct{})
	f.jobs <- func() { defer close(done); job() }
	<-done
}
