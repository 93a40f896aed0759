package erltest

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

//go:embed control.erl
var controlSource string

// controlEval returns the control loop as the argument of -eval: without
// comments, on one line.
func controlEval() string {
	var b strings.Builder
	for line := range strings.Lines(controlSource) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "%") {
			b.WriteString(line + " ")
		}
	}
	return b.String()
}

// Modes of a request to the control loop.
const (
	modeText   = 0
	modeETF    = 1
	modeElixir = 2
)

// maxAnswer bounds one answer of the control loop.
const maxAnswer = 256 << 20

// answer is what the control loop says to one request.
type answer struct {
	failed bool
	body   []byte
}

// control is our end of the pipes of one node.
type control struct {
	w     *os.File
	r     *os.File
	ready chan string   // the node's name, once it has started
	done  chan struct{} // closed when the read loop has ended

	mu      sync.Mutex
	closed  bool
	lastID  uint32
	waiting map[uint32]chan answer
}

func newControl(r, w *os.File) *control {
	return &control{r: r, w: w, ready: make(chan string, 1), done: make(chan struct{}), waiting: map[uint32]chan answer{}}
}

// readLoop hands answers to those who wait, until the pipe closes.
func (c *control) readLoop() {
	defer close(c.done)
	defer c.fail()
	in := bufio.NewReader(c.r)
	for {
		var head [9]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		size, id := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		if size < 5 || size > maxAnswer {
			return
		}
		body := make([]byte, size-5)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if id == 0 {
			c.ready <- string(body)
			continue
		}
		c.mu.Lock()
		ch := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if ch != nil {
			ch <- answer{failed: head[8] != 0, body: body}
		}
	}
}

// fail ends all that wait: their channels close.
func (c *control) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for id, ch := range c.waiting {
		close(ch)
		delete(c.waiting, id)
	}
}

// close ends the read loop and returns when it has ended.
func (c *control) close() {
	_ = c.w.Close()
	_ = c.r.Close()
	<-c.done
}

// request evaluates source on the node.
func (c *control) request(ctx context.Context, mode byte, source string) ([]byte, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrNotRunning
	}
	c.lastID++
	id := c.lastID
	c.waiting[id] = ch
	frame := binary.BigEndian.AppendUint32(nil, uint32(5+len(source)))
	frame = binary.BigEndian.AppendUint32(frame, id)
	frame = append(append(frame, mode), source...)
	_, err := c.w.Write(frame)
	c.mu.Unlock()
	if err != nil {
		c.forget(id)
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return nil, ErrNotRunning
		}
		if a.failed {
			return nil, &EvalError{Exception: string(a.body)}
		}
		return a.body, nil
	case <-ctx.Done():
		c.forget(id)
		return nil, ctx.Err()
	}
}

func (c *control) forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}
