//go:build unix

package sandboxbeam

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// linger is how long a job goes on that nobody waits for. A start whose time is over is
// tried again within seconds, and is to find its compiler at work.
const linger = 15 * time.Second

// job is what is being made, for one or several sandboxes.
type job struct {
	ctx     context.Context
	stop    context.CancelFunc
	command string          // its compiler, by the keeper's id; empty: none is at work
	waiting int             // for it
	by      map[string]bool // sandboxes that wait, or have waited
	end     *time.Timer     // while nobody waits
}

// wants notes that somebody waits for what is made of a hash; waited that they do not any
// more.
func (s *Strategy) wants(hash, id string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[hash]
	if j == nil {
		j = &job{by: map[string]bool{}}
		j.ctx, j.stop = context.WithCancel(s.ctx)
		s.jobs[hash] = j
	}
	if j.end != nil {
		j.end.Stop()
		j.end = nil
	}
	j.waiting++
	j.by[id] = true
	return j
}

func (s *Strategy) waited(hash string, j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.waiting--; j.waiting == 0 {
		j.end = time.AfterFunc(s.linger, func() { s.unwanted(hash, j) })
	}
}

// unwanted ends a job that nobody has waited for.
func (s *Strategy) unwanted(hash string, j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.waiting == 0 && s.jobs[hash] == j {
		j.stop()
		delete(s.jobs, hash)
	}
}

// compiles notes the compiler that is at work; empty: none is any more.
func (s *Strategy) compiles(hash, command string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[hash]; j != nil {
		j.command = command
	}
}

// compilerOf is the compiler that is at work for a sandbox; empty: none.
func (s *Strategy) compilerOf(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.by[id] && j.command != "" {
			return j.command
		}
	}
	return ""
}

// have returns when what a hash stands for is there, which do makes unless it is.
func (s *Strategy) have(ctx context.Context, hash, id, shown string, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("compile %s: %w", shown, err)
	}
	j := s.wants(hash, id)
	defer s.waited(hash, j)
	for {
		mine := false // who calls it, of those that wait for one; read when it is done
		done := s.making.DoChan(hash, func() (any, error) {
			s.mu.Lock()
			now := s.jobs[hash]
			s.mu.Unlock()
			if now == nil {
				return nil, errGaveUp
			}
			mine = true
			return nil, do(now.ctx)
		})
		select {
		case r := <-done:
			if r.Err != nil && !mine && ctx.Err() == nil {
				continue // it was another's, with another's limits and time
			}
			return r.Err
		case <-ctx.Done():
			return fmt.Errorf("compile %s: %w", shown, ctx.Err())
		}
	}
}

// errGaveUp says that who wanted it is gone, with the source.
var errGaveUp = errors.New("who wanted it has given up")
