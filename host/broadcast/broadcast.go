// Package broadcast tells any number of waiters that something is new. It does not
// say what, and remembers nothing: who waits takes the channel first, then looks,
// then waits.
//
//	var changed broadcast.Signal
//	next := changed.Next()
//	if !done() {
//		<-next
//	}
package broadcast

import "sync"

// Signal is one thing to wait for. The zero value is ready to use, by any number of
// goroutines.
type Signal struct {
	mu sync.Mutex
	ch chan struct{} // closed by the next Tell; nil while nobody waits
}

// Next returns a channel that is closed by the next Tell.
func (s *Signal) Next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// Tell wakes all that wait.
func (s *Signal) Tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
