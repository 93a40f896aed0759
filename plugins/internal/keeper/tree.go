//go:build unix

package keeper

import (
	"sync"
	"time"
)

// proc is one process of the system, in the moment in which it was looked at.
type proc struct {
	pid, parent int
	session     int
	zombie      bool
	mark        uint64
}

// census is all processes that can be seen.
type census []proc

// marked are the processes with the mark, and all below them and below the
// given one, which may be 0.
func (c census) marked(mark uint64, root int) []int {
	in := make(map[int]bool)
	var out []int
	for _, p := range c {
		if (p.mark == mark && mark != 0 || p.pid == root) && !in[p.pid] {
			in[p.pid] = true
			if !p.zombie {
				out = append(out, p.pid)
			}
		}
	}
	for grown := len(in) > 0; grown; {
		grown = false
		for _, p := range c {
			if in[p.parent] && !in[p.pid] {
				in[p.pid], grown = true, true
				if !p.zombie {
					out = append(out, p.pid)
				}
			}
		}
	}
	return out
}

// killTree kills a command's processes until there is none, whatever they fork
// meanwhile. It returns false when that took too long: what is left then is in
// the kernel and cannot be killed now.
func (s *server) killTree(mark uint64, root int, g *group) bool {
	for deadline := time.Now().Add(killTime); ; {
		left := 0
		if g != nil {
			left = g.kill()
		}
		if g == nil || left == 0 {
			pids := s.census.take().marked(mark, root)
			for _, pid := range pids {
				killPid(pid, mark, root)
			}
			left += len(pids)
		}
		if left == 0 {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(killPause)
	}
}

const (
	killTime  = 5 * time.Second
	killPause = 2 * time.Millisecond
)

// censusTaker looks at the system once for all who ask at the same time.
type censusTaker struct {
	mu      sync.Mutex
	waiting chan struct{} // closed when next is there; nil while nobody waits
	next    *census
	busy    bool
	last    census
	at      time.Time     // before last was taken
	took    time.Duration // what that cost
}

// recent returns what was true not long ago: within a second, or longer where a
// look costs much. It is for what people are told, not for who is to be killed.
func (t *censusTaker) recent() census {
	t.mu.Lock()
	last, old := t.last, time.Since(t.at) > max(time.Second, watchShare*t.took)
	t.mu.Unlock()
	if last != nil && !old {
		return last
	}
	return t.take()
}

// take returns what was true at some time after its call.
func (t *censusTaker) take() census {
	t.mu.Lock()
	if t.waiting == nil {
		t.waiting, t.next = make(chan struct{}), new(census)
	}
	done, result := t.waiting, t.next
	if t.busy {
		t.mu.Unlock()
		<-done
		return *result
	}
	t.busy = true
	for t.waiting != nil {
		done, into := t.waiting, t.next
		t.waiting, t.next = nil, nil
		t.mu.Unlock()
		at := time.Now()
		all := lookAtAll()
		*into = all
		close(done)
		t.mu.Lock()
		t.last, t.at, t.took = all, at, time.Since(at)
	}
	t.busy = false
	t.mu.Unlock()
	return *result
}
