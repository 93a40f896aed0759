//go:build unix

package sandboxbeam

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/singleflight"
)

// job is what is being made, for one or several sandboxes. It goes on when the time of who
// wants it is over, since the next try finds what it has made by then, and ends when
// nobody wants it any more.
type job struct {
	ctx     context.Context
	stop    context.CancelFunc
	done    bool
	command string // its compiler, by the keeper's id; empty before that is started
	waiting int
	wanted  map[string]bool // by sandboxes, those included that have waited for it
}

// wants notes that somebody waits for what is made of a hash.
func (s *Strategy) wants(hash, id string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[hash]
	if j == nil {
		j = &job{wanted: map[string]bool{}}
		j.ctx, j.stop = context.WithCancel(s.ctx)
		s.jobs[hash] = j
	}
	j.waiting++
	j.wanted[id] = true
	return j
}

// waited says that who has waited does not any more: why, unless it has what it wanted.
func (s *Strategy) waited(hash, id string, j *job, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.waiting--; !errors.Is(why, context.DeadlineExceeded) {
		delete(j.wanted, id)
	}
	s.settle(hash, j)
}

// compiles notes the compiler that is at work.
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
		if j.wanted[id] && !j.done && j.command != "" {
			return j.command
		}
	}
	return ""
}

// unwanted says that a sandbox is gone.
func (s *Strategy) unwanted(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, j := range s.jobs {
		delete(j.wanted, id)
		s.settle(hash, j)
	}
}

// settle ends a job that nobody wants. The caller has mu.
func (s *Strategy) settle(hash string, j *job) {
	if j.waiting == 0 && (len(j.wanted) == 0 || j.done) {
		j.stop()
		if s.jobs[hash] == j {
			delete(s.jobs, hash)
		}
	}
}

// have returns when what a hash stands for is there, which do makes unless it is.
func (s *Strategy) have(ctx context.Context, hash, id, shown string, do func(context.Context) error) (err error) {
	j := s.wants(hash, id)
	defer func() { s.waited(hash, id, j, err) }()
	for {
		mine := false // who calls it, of those that wait for one; read when it is done
		done := s.work(hash, func(ctx context.Context) error {
			mine = true
			return do(ctx)
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

// work has what a hash stands for made, if it is not being made, for one who waits for it.
func (s *Strategy) work(hash string, do func(ctx context.Context) error) <-chan singleflight.Result {
	return s.making.DoChan(hash, func() (any, error) {
		s.mu.Lock()
		j := s.jobs[hash]
		if j != nil {
			j.done = false
		}
		s.mu.Unlock()
		if j == nil {
			return nil, errGaveUp
		}
		err := do(j.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		j.done = true
		s.settle(hash, j)
		return nil, err
	})
}

// errGaveUp says that who wanted it is gone, with the source.
var errGaveUp = errors.New("who wanted it has given up")
