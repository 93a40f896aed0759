//go:build unix

package keeper

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// reap waits for all processes that end as the keeper's children: commands, and
// what their trees left.
func (s *server) reap(ctx context.Context) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		for s.reapOne() {
		}
		select {
		case <-died:
		case <-ctx.Done():
			for s.reapOne() {
			}
			return
		}
	}
}

func (s *server) reapOne() bool {
	// With the lock a process that was just forked is known.
	s.forks.Lock()
	defer s.forks.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.pids[pid]
	if c == nil {
		return true // an orphan of a command's
	}
	delete(s.pids, pid)
	c.pid = 0
	if c.state == "" {
		c.early = &status // create sees to it
		return true
	}
	killSession(pid)
	s.work.Go(func() { s.exited(c, status) })
	return true
}
