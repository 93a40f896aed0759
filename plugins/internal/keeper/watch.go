//go:build unix

package keeper

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/debughost/debughost/sdk"
)

// watchEvery is the time between two looks at the limits that no kernel holds.
// It grows with the cost of a look, so that the watch takes at most a twentieth
// of one CPU.
const (
	watchEvery    = 100 * time.Millisecond
	watchShare    = 20
	maxWatchEvery = time.Second
)

// watchState is what the watch knows of one command. It is the watch's own, but
// for frozen, which is under the server's lock.
type watchState struct {
	diskNext time.Time     // when its directory is to be looked at again
	logNext  time.Time     // when its log may have to say what it dropped
	seen     time.Time     // of the last look at its CPU time
	used     time.Duration // CPU time by then
	credit   time.Duration // CPU time that it may use; less than none: it is frozen
	frozen   bool
}

// watch looks at the limits again and again.
func (s *server) watch(ctx context.Context) {
	every := watchEvery
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		for _, c := range s.running() {
			s.look(c)
		}
		every = min(max(watchEvery, watchShare*time.Since(began)), maxWatchEvery)
		timer.Reset(every)
	}
}

func (s *server) running() []*child {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*child
	for _, c := range s.children {
		if c.state == sdk.SandboxRunning && c.pid != 0 {
			all = append(all, c)
		}
	}
	return all
}

// look kills a command that is over one of its limits.
func (s *server) look(c *child) {
	now := time.Now()
	if now.After(c.watch.logNext) {
		c.log.flushDropped(false)
		c.watch.logNext = now.Add(time.Second)
	}
	if reason, oom := s.over(c, now); reason != "" {
		s.say(false, c.Spec.ID, "killed: it %s", reason)
		s.mu.Lock()
		s.kill(c, reason, oom)
		s.mu.Unlock()
		return
	}
	if c.Spec.Limits.CPUs > 0 && c.group != nil && !s.groups.has("cpu") {
		s.throttle(c, now)
	}
}

// over says which limit a command is over.
func (s *server) over(c *child, now time.Time) (reason string, oom bool) {
	l := c.Spec.Limits
	byWatch := l.Memory > 0 && !s.groups.has("memory")
	if l.Processes > 0 || byWatch {
		pids := s.pidsOf(c)
		allowed := l.Processes
		if c.main != nil {
			allowed++ // the init of its view
		}
		if l.Processes > 0 && (len(pids) > allowed || c.group != nil && s.groups.has("pids") && c.group.outOfPids() > 0) {
			return fmt.Sprintf("has more than %d processes", l.Processes), false
		}
		if byWatch && memoryOfAll(pids) > l.Memory {
			return usesMemory(l.Memory), true
		}
	}
	if l.Disk > 0 && now.After(c.watch.diskNext) {
		used := diskUse(c.dir)
		took := time.Since(now)
		c.watch.diskNext = now.Add(min(watchShare*took, 10*time.Second))
		if used > l.Disk {
			return fmt.Sprintf("uses more than %s of disk", size(l.Disk)), false
		}
	}
	return "", false
}

// throttle freezes a command that has used its share of the CPUs, and thaws it
// when it has earned more.
func (s *server) throttle(c *child, now time.Time) {
	w := &c.watch
	used := c.group.cpuTime()
	if !w.seen.IsZero() {
		earned := time.Duration(c.Spec.Limits.CPUs * float64(now.Sub(w.seen)))
		burst := time.Duration(c.Spec.Limits.CPUs * float64(watchEvery))
		w.credit = min(w.credit+earned-(used-w.used), burst)
	}
	w.seen, w.used = now, used
	s.mu.Lock()
	defer s.mu.Unlock()
	if freeze := w.credit < 0 && !c.stopping; freeze != w.frozen {
		w.frozen = freeze
		c.group.freeze(freeze)
	}
}

// thaw lets a command run that is asked to end. The caller holds the lock.
func (w *watchState) thaw(g *group) {
	if w.frozen {
		w.frozen = false
		g.freeze(false)
	}
}

// pidsOf are the processes of a command.
func (s *server) pidsOf(c *child) []int {
	if c.group != nil {
		return c.group.pids()
	}
	s.mu.Lock()
	root := c.pid
	s.mu.Unlock()
	return s.census.take().marked(c.Mark, root)
}

// memory is what a command uses, in bytes.
func (s *server) memory(c *child) uint64 {
	if c.group != nil && s.groups.has("memory") {
		return c.group.memory()
	}
	if c.group != nil {
		return memoryOfAll(c.group.pids())
	}
	s.mu.Lock()
	root := c.pid
	s.mu.Unlock()
	pids := s.census.recent().marked(c.Mark, root)
	if root != 0 && !slices.Contains(pids, root) {
		pids = append(pids, root) // it has just been started
	}
	return memoryOfAll(pids)
}

// memoryOfAll adds up what processes have of their own. What they may share is
// counted once: the largest share of any of them.
func memoryOfAll(pids []int) uint64 {
	var sum, common uint64
	buf := make([]byte, 8<<10)
	for _, pid := range pids {
		own, shared := memoryOf(pid, buf)
		sum += own
		common = max(common, shared)
	}
	return sum + common
}

// strayEvery is the time between two looks for strays.
const strayEvery = time.Second

// findStrays kills what has ended up as the keeper's child and is no command's:
// a process that took off its mark, and lost its parent.
func (s *server) findStrays(ctx context.Context) {
	ticker := time.NewTicker(strayEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.killStrays()
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) killStrays() {
	s.forks.Lock() // else a command that was just forked is a stray
	defer s.forks.Unlock()
	s.mu.Lock()
	marks := make(map[uint64]bool)
	for _, c := range s.children {
		if c.Exit == nil {
			marks[c.Mark] = true
		}
	}
	known := make(map[int]bool)
	for pid := range s.pids {
		known[pid] = true
	}
	s.mu.Unlock()
	for _, pid := range ownChildren() {
		if !known[pid] && !marks[markOf(pid)] {
			killPid(pid, markOf(pid), 0)
		}
	}
}
