package link

import "sync"

// maxQueue bounds what waits for one member, in bytes. The registry repairs what
// is dropped.
const maxQueue = 8 << 20

// queue has the messages that wait for one member. It takes none while closed.
// The zero value is closed.
type queue struct {
	mu    sync.Mutex
	open  bool
	msgs  [][]byte
	bytes int
	ready chan struct{} // capacity 1: there may be messages; nil while closed
}

// start opens the queue, empty, and returns the channel that says when to take.
func (q *queue) start() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open, q.msgs, q.bytes = true, nil, 0
	q.ready = make(chan struct{}, 1)
	return q.ready
}

// stop closes the queue and forgets what is in it.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open, q.msgs, q.bytes = false, nil, 0
}

func (q *queue) put(msg []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || q.bytes+len(msg) > maxQueue {
		return false
	}
	q.msgs = append(q.msgs, msg)
	q.bytes += len(msg)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// take returns all that waits, in order.
func (q *queue) take() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	msgs := q.msgs
	q.msgs, q.bytes = nil, 0
	return msgs
}
