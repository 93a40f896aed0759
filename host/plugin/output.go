package plugin

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// maxLine bounds the line by which a plugin says where it listens. It has a
// certificate in it.
const maxLine = 16 << 10

// firstLine is a plugin's standard output as go-plugin should see it: one line
// of bounded length. What comes after it is thrown away here, so that the
// plugin never blocks on it.
type firstLine struct {
	pipe  *os.File // set before the first Read
	until <-chan struct{}

	mu   sync.Mutex
	text []byte
	done bool
}

// Read is called by one goroutine.
func (f *firstLine) Read(b []byte) (int, error) {
	if f.done {
		slow := newThrottle(f.until)
		for {
			n, err := f.pipe.Read(b)
			if err != nil {
				return 0, io.EOF
			}
			_, _ = slow.Write(b[:n])
		}
	}
	n, err := f.pipe.Read(b)
	if end := bytes.IndexByte(b[:n], '\n'); end >= 0 {
		n, f.done = end+1, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.text)+n >= maxLine {
		n, f.done = maxLine-len(f.text), true
		b[n-1] = '\n'
	}
	f.text = append(f.text, b[:n]...)
	if err != nil {
		err = io.EOF // a deadline is one as well
	}
	return n, err
}

// line returns what was printed first.
func (f *firstLine) line() (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.TrimSpace(string(f.text)), len(f.text) > 0
}

func (f *firstLine) close()       { f.pipe.Close() }
func (f *firstLine) Close() error { return nil } // go-plugin leaves it to Wait

// stderr is a plugin's standard error: read at a bounded rate, and its last
// words remembered.
type stderr struct {
	pipe     *os.File
	throttle *throttle

	ended sync.Once
	end   chan struct{} // closed when all of it was read

	mu   sync.Mutex
	tail []byte
}

func newStderr(pipe *os.File, t *throttle) *stderr {
	return &stderr{pipe: pipe, throttle: t, end: make(chan struct{})}
}

// drained waits until all that the ended process wrote was read, or for so long.
func (s *stderr) drained(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.end:
	case <-t.C:
	}
}

func (s *stderr) Read(b []byte) (int, error) {
	n, err := s.pipe.Read(b)
	if err != nil {
		defer s.ended.Do(func() { close(s.end) })
	}
	s.mu.Lock()
	const keep = 8 << 10
	s.tail = append(s.tail, b[:n]...)
	if over := len(s.tail) - keep; over > 0 {
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
	s.mu.Unlock()
	_, _ = s.throttle.Write(b[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return n, err
}

func (s *stderr) Close() error { return nil } // go-plugin leaves it to Wait

// lastWords returns what explains the end best: the first line of a panic,
// else the last line that is not a log entry.
func (s *stderr) lastWords() string {
	s.mu.Lock()
	text := string(s.tail)
	s.mu.Unlock()
	last := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			last = line
			break
		}
		if line != "" && line[0] != '{' {
			last = line
		}
	}
	const most = 300
	if len(last) > most {
		last = strings.ToValidUTF8(last[:most], "") + "…"
	}
	return last
}

const (
	outputBurst = 256 << 10 // bytes at once
	outputRate  = 64 << 10  // and then a second
)

// throttle slows down whoever writes more than a bounded rate to it. It keeps
// nothing.
type throttle struct {
	until <-chan struct{} // nobody is slowed down after it is closed

	mu     sync.Mutex
	budget *bucket
}

func newThrottle(until <-chan struct{}) *throttle {
	return &throttle{until: until, budget: newBucket(outputBurst, outputRate)}
}

func (t *throttle) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.budget.take(float64(len(b)), time.Now()); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.until:
		}
	}
	return len(b), nil
}
