//go:build unix

package keeper

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/debughost/debughost/plugins/internal/keeper/launch"
	"github.com/debughost/debughost/sdk"
)

// child is one command. All but what is set before it is known to others is
// under the server's lock.
type child struct {
	record
	dir   string
	group *group        // nil without cgroups
	log   *logWriter    // nil after a sweep
	ready chan struct{} // closed when it runs, or failed to
	gone  chan struct{} // closed when it has exited

	state     sdk.SandboxState    // empty while it is being created
	pid       int                 // as the keeper sees it; 0 when reaped
	early     *syscall.WaitStatus // it was reaped while it was being created
	outside   int                 // of the command, as the host sees it
	main      *os.Process         // the command, where pid is the init of its view
	status    *os.File            // where that says how the command ended; nil without
	view      string              // by what its view is held, in words
	stopping  bool
	reason    string // why it was killed
	oom       bool
	owner     *conn // nil: nobody's
	orphaned  *time.Timer
	destroyed bool
	watch     watchState
}

// create starts a command. What fails leaves nothing.
func (s *server) create(owner *conn, spec *Spec) (*Status, error) {
	if spec == nil {
		return nil, fmt.Errorf("create: %w: none", ErrSpec)
	}
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	c := &child{record: record{Token: strconv.FormatUint(rand.Uint64(), 36), Spec: *spec, Mark: newMark(), Started: time.Now()}, dir: childDir(s.options.Dir, spec.ID), ready: make(chan struct{}), gone: make(chan struct{})}
	defer close(c.ready)
	s.mu.Lock()
	switch {
	case s.ending:
		s.mu.Unlock()
		return nil, errEnding
	case s.children[spec.ID] != nil:
		s.mu.Unlock()
		return nil, fmt.Errorf("create %s: %w", spec.ID, sdk.ErrExists)
	}
	s.children[spec.ID] = c // the id is taken
	s.restless()
	s.mu.Unlock()

	s.starts <- struct{}{}
	err := s.start(c)
	<-s.starts
	if err != nil {
		s.mu.Lock()
		delete(s.children, spec.ID)
		s.restless()
		s.mu.Unlock()
		return nil, fmt.Errorf("create %s: %w", spec.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.state = sdk.SandboxRunning
	s.own(c, owner)
	if c.early != nil {
		s.work.Go(func() { s.exited(c, *c.early) })
	}
	return s.status(c), nil
}

// own gives a command to a connection, which may be gone by now. The caller
// holds the lock.
func (s *server) own(c *child, owner *conn) {
	if c.owner != owner {
		s.disown(c.owner, 1)
		c.owner = owner
		owner.owned++
	}
	if c.orphaned != nil {
		c.orphaned.Stop()
		c.orphaned = nil
	}
	if owner.lost {
		s.orphan(c)
	}
}

// orphan starts the time that a command has for being taken over. The caller
// holds the lock.
func (s *server) orphan(c *child) {
	if c.orphaned != nil || c.destroyed {
		return
	}
	var timer *time.Timer
	expired := func() {
		s.mu.Lock()
		mine := c.orphaned == timer
		s.mu.Unlock()
		if mine {
			_ = s.remove(c, "nobody took it over after its plugin and its host had ended")
		}
	}
	timer = time.AfterFunc(c.Spec.Orphan, expired)
	c.orphaned = timer
}

func (s *server) inspect(id string) (*Status, error) {
	s.mu.Lock()
	c, err := s.find(id)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	st := s.status(c)
	s.mu.Unlock()
	if st.Exit == nil {
		st.Memory = s.memory(c)
	}
	return st, nil
}

// status is what is known of a command at once. The caller holds the lock.
func (s *server) status(c *child) *Status {
	st := &Status{Token: c.Token, State: c.state, OSPid: c.outside, Started: c.Started, Dir: c.dir, Exit: c.Exit, Enforced: s.enforced(c.Spec.Limits)}
	st.Enforced[viewKey] = c.view
	if c.state == sdk.SandboxRunning && c.stopping {
		st.State = sdk.SandboxStopping
	}
	return st
}

// adopt makes a connection the owner of a command.
func (s *server) adopt(owner *conn, id, token string) (*Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if c.Token != token || c.destroyed {
		return nil, fmt.Errorf("recover %s: %w: the one that has its id is another", id, sdk.ErrNotFound)
	}
	s.own(c, owner)
	return s.status(c), nil
}

// stop asks a command to end, and has it killed after the timeout.
func (s *server) stop(id string, timeout time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(id)
	if err != nil || c.state == sdk.SandboxExited || c.pid == 0 {
		return err
	}
	if !c.stopping {
		c.stopping = true
		c.signal(c.Spec.StopSignal)
		c.watch.thaw(c.group)
	}
	if timeout <= 0 {
		s.kill(c, "", false)
		return nil
	}
	timer := time.AfterFunc(timeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kill(c, fmt.Sprintf("did not end within %s of %s and was killed", timeout, signalName(c.Spec.StopSignal)), false)
	})
	s.work.Go(func() { // ends with the command, which ends by the timeout
		<-c.gone
		timer.Stop()
	})
	return nil
}

// signal sends a signal to the command. The caller holds the lock.
func (c *child) signal(s syscall.Signal) {
	if c.main != nil {
		_ = c.main.Signal(s)
	} else {
		_ = syscall.Kill(c.pid, s)
	}
}

// kill kills the main process of a command, whose end brings the end of the
// rest, and notes why. The first reason counts. The caller holds the lock.
func (s *server) kill(c *child, reason string, oom bool) {
	if c.pid == 0 || c.state == sdk.SandboxExited {
		return
	}
	if c.reason == "" {
		c.reason, c.oom = reason, oom
	}
	if c.group != nil {
		c.group.kill()
	}
	_ = syscall.Kill(c.pid, syscall.SIGKILL)
}

// destroy leaves nothing of a command.
func (s *server) destroy(id string) error {
	s.mu.Lock()
	c := s.children[id]
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	return s.remove(c, "destroyed")
}

// remove kills a command, waits for its end and removes its files. Several may
// do it at the same time.
func (s *server) remove(c *child, reason string) error {
	<-c.ready
	s.mu.Lock()
	if c.state == "" { // it could not be created
		s.mu.Unlock()
		return nil
	}
	c.destroyed = true
	s.kill(c, reason, false)
	s.mu.Unlock()
	<-c.gone
	if err := removeDir(c.dir); err != nil {
		return fmt.Errorf("destroy %s: %w", c.Spec.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.children[c.Spec.ID] == c {
		delete(s.children, c.Spec.ID)
		s.disown(c.owner, 1)
		c.owner = nil
		s.restless()
	}
	return nil
}

// exited is called when the main process of a command was reaped. It kills the
// rest and tells how it ended.
func (s *server) exited(c *child, status syscall.WaitStatus) {
	at := time.Now()
	status = c.ended(status)
	whole := s.killTree(c.Mark, 0, c.group)
	if !whole {
		s.say(true, c.Spec.ID, "processes of it cannot be killed: they hang in the kernel")
	}
	// What it printed comes before the news that it ended. The pipes are closed
	// unless a process is left that holds them.
	c.log.drain(logDrain)
	exit := sdk.SandboxExit{At: at, Signal: 0}
	if status.Signaled() {
		exit.Signal = int(status.Signal())
	} else {
		exit.Code = status.ExitStatus()
	}
	s.mu.Lock()
	exit.Reason, exit.OutOfMemory = s.why(c, status)
	s.mu.Unlock()
	c.group.remove()
	s.finish(c, exit)
}

// ended is how the command has ended whose main process has: it may have been only the
// init of its view.
func (c *child) ended(status syscall.WaitStatus) syscall.WaitStatus {
	if c.main != nil {
		_ = c.main.Release()
	}
	if c.status == nil {
		return status
	}
	defer c.status.Close()
	said, _ := io.ReadAll(io.LimitReader(c.status, 16))
	if of, ok := launch.Status(said); ok {
		return of
	}
	return status
}

// why says what ended a command that did not end by itself. The caller holds the
// lock.
func (s *server) why(c *child, status syscall.WaitStatus) (reason string, oom bool) {
	l := c.Spec.Limits
	killed := status.Signaled() && status.Signal() == syscall.SIGKILL
	switch {
	case l.Disk > 0 && status.Signaled() && status.Signal() == syscall.SIGXFSZ: // also where a look has seen what there was of it
		return fmt.Sprintf("writes a file of more than %s, its limit of disk", size(l.Disk)), false
	case c.reason != "":
		return c.reason, c.oom
	case l.Memory > 0 && c.group != nil && s.groups.has("memory") && c.group.outOfMemory():
		return usesMemory(l.Memory), true
	case c.stopping:
		return "stopped by request", false
	case killed:
		return "killed by somebody else, or by the kernel for lack of memory", false
	}
	return "", false
}

func usesMemory(limit uint64) string { return "uses more than " + size(limit) + " of memory" }

// finish makes a command one that has exited, for everybody.
func (s *server) finish(c *child, exit sdk.SandboxExit) {
	r := c.record
	r.Exit = &exit
	if err := r.save(c.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.say(true, c.Spec.ID, "its exit is not on disk: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Exit = &exit
	c.state, c.outside = sdk.SandboxExited, 0
	if c.owner != nil {
		c.owner.send(message{Exited: &exitEvent{ID: c.Spec.ID, Token: c.Token, Exit: exit}})
	}
	close(c.gone)
}

// sweep takes over what an earlier keeper left: it kills what still runs, and
// keeps how it ended for whoever asks. The groups were swept before.
func (s *server) sweep() {
	for _, id := range leftovers(s.options.Dir) {
		dir := childDir(s.options.Dir, id)
		r, err := loadRecord(dir)
		if err != nil || r.Spec.ID != id {
			_ = removeDir(dir) // it never ran, or is none of ours
			continue
		}
		c := &child{record: *r, dir: dir, ready: make(chan struct{}), gone: make(chan struct{}), state: sdk.SandboxExited}
		if c.Exit == nil {
			s.killTree(c.Mark, 0, nil)
			c.Exit = &sdk.SandboxExit{Signal: int(syscall.SIGKILL), Reason: lostReason, At: time.Now()}
			_ = c.save(dir)
		}
		// Nothing of it runs. How it ended is kept for whoever comes back and asks.
		c.Spec.Orphan = max(c.Spec.Orphan, sweptTime)
		close(c.ready)
		close(c.gone)
		s.mu.Lock()
		s.children[id] = c
		s.orphan(c)
		s.mu.Unlock()
	}
	// Half a record, and the like.
	stale, _ := filepath.Glob(filepath.Join(s.options.Dir, childrenDir, "*", recordFile+".new"))
	for _, file := range stale {
		_ = os.Remove(file)
	}
}

// sweptTime is the least that a keeper remembers what its predecessor left.
const sweptTime = 5 * time.Second

const lostReason = "killed with its keeper, the process that runs and watches it"
