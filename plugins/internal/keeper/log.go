//go:build unix

package keeper

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A log is files log.1, log.2, … in the command's directory, of which the last
// two are kept, each up to half of the log's size. Each line is a time, a letter
// for the stream, and what was printed:
//
//	2026-01-31T12:00:00.000000Z o hello
//
// Files are opened for each write: three hundred quiet commands hold none.
const (
	logTime = "2006-01-02T15:04:05.000000Z"
	logHead = len(logTime) + len(" o ")
)

// maxLogLine is where a line without an end is cut.
const maxLogLine = 16 << 10

// readChunk is how much is read from a pipe at a time; it is also what a pipe
// holds.
const readChunk = 64 << 10

// drainRate is how much more than is kept is read, and thrown away. Beyond that
// the command is made to wait, so that a flood costs the keeper little.
const drainRate = 16

var chunks = sync.Pool{New: func() any { return new([readChunk]byte) }}

// logWriter is the log of one command. Both its streams write to it.
type logWriter struct {
	dir   string
	size  int64 // bound of all files together
	rate  float64
	done  sync.WaitGroup // the readers of the streams
	pipes []*os.File

	mu      sync.Mutex
	gen     int   // of the current file
	used    int64 // bytes in it
	bucket  float64
	filled  time.Time // when bucket was
	drained float64   // bytes thrown away since filled, against the drain rate
	dropped struct {
		lines, bytes int
		since        time.Time
		why          string
	}
	out []byte // scratch
}

func newLogWriter(dir string, size, rate int64) *logWriter {
	w := &logWriter{dir: dir, size: size, rate: float64(rate), gen: 1, filled: time.Now()}
	w.bucket = w.burst()
	return w
}

// logDrain is how long a log waits for pipes that are not closed.
const logDrain = time.Second

// follow reads two streams until they end. The pipes are the log's from here on.
func (w *logWriter) follow(stdout, stderr *os.File) {
	w.pipes = []*os.File{stdout, stderr}
	w.done.Add(2)
	go w.copy(stdout, 'o')
	go w.copy(stderr, 'e')
}

// drain returns when all that was printed is in the log, or after the time.
func (w *logWriter) drain(patience time.Duration) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.done.Wait()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-timer.C:
	}
	for _, pipe := range w.pipes {
		_ = pipe.SetReadDeadline(time.Now())
	}
	<-ended
}

func (w *logWriter) burst() float64 { return 4 * w.rate }

// copy reads one stream to its end. It blocks without a buffer and without a
// thread.
func (w *logWriter) copy(pipe *os.File, stream byte) {
	defer w.done.Done()
	defer pipe.Close()
	conn, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	var rest []byte // a line that has no end yet
	for {
		var n int
		var chunk *[readChunk]byte
		err := conn.Read(func(fd uintptr) bool {
			chunk = chunks.Get().(*[readChunk]byte)
			for {
				n, err = syscall.Read(int(fd), chunk[:])
				if err != syscall.EINTR {
					break
				}
			}
			if err == syscall.EAGAIN {
				chunks.Put(chunk)
				return false
			}
			return true
		})
		if err != nil { // the pipe was closed on this side
			n = 0
		}
		if n <= 0 {
			if len(rest) > 0 {
				w.write(stream, rest, nil)
			}
			w.flushDropped(true)
			if chunk != nil {
				chunks.Put(chunk)
			}
			return
		}
		var pause time.Duration
		rest, pause = w.write(stream, rest, chunk[:n])
		chunks.Put(chunk)
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

// write takes a piece of a stream, and the rest of the one before it. It returns
// what has no line end yet, and for how long nothing more should be read. A nil
// piece is the end.
func (w *logWriter) write(stream byte, rest, piece []byte) ([]byte, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.refill(now)
	stamp := now.UTC().AppendFormat(nil, logTime)
	w.out = w.out[:0]
	all := piece
	if len(rest) > 0 {
		all = append(rest, piece...)
	}
	for len(all) > 0 {
		line, after, ended := cutLine(all, piece == nil)
		if !ended {
			break
		}
		w.line(now, stamp, stream, line)
		all = after
	}
	w.flush(now)
	if len(all) == 0 {
		return nil, w.pause()
	}
	return append([]byte(nil), all...), w.pause()
}

// cutLine takes the first line, or what is to be one.
func cutLine(b []byte, last bool) (line, after []byte, ok bool) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 && i <= maxLogLine {
		return bytes.TrimSuffix(b[:i], []byte{'\r'}), b[i+1:], true
	}
	if len(b) > maxLogLine {
		return b[:maxLogLine], b[maxLogLine:], true
	}
	return b, nil, last
}

// line keeps a line, or counts it as dropped.
func (w *logWriter) line(now time.Time, stamp []byte, stream byte, line []byte) {
	cost := float64(len(line) + logHead + 1)
	if cost > w.bucket {
		w.drop(now, 1, len(line), "it prints more than "+size(uint64(w.rate))+" a second")
		return
	}
	w.bucket -= cost
	w.markDropped(now)
	w.out = append(w.out, stamp...)
	w.out = append(w.out, ' ', stream, ' ')
	w.out = append(append(w.out, line...), '\n')
	if len(w.out) >= readChunk {
		w.flush(now)
	}
}

func (w *logWriter) drop(now time.Time, lines, n int, why string) {
	if w.dropped.lines == 0 {
		w.dropped.since, w.dropped.why = now, why
	}
	w.dropped.lines += lines
	w.dropped.bytes += n
	w.drained += float64(n + lines*logHead)
}

// markDropped says in the log what is missing, at most once a second.
func (w *logWriter) markDropped(now time.Time) {
	if w.dropped.lines == 0 || now.Sub(w.dropped.since) < time.Second {
		return
	}
	w.out = now.UTC().AppendFormat(w.out, logTime)
	w.out = fmt.Appendf(w.out, " e [debughost: %d lines, %s, are missing here: %s]\n", w.dropped.lines, size(uint64(w.dropped.bytes)), w.dropped.why)
	w.dropped.lines, w.dropped.bytes = 0, 0
}

// flushDropped is markDropped for when no line may follow: at once at the end,
// and now and then before it.
func (w *logWriter) flushDropped(end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if end {
		w.dropped.since = time.Time{}
	}
	w.markDropped(now)
	w.flush(now)
}

func (w *logWriter) refill(now time.Time) {
	passed := now.Sub(w.filled).Seconds()
	w.filled = now
	w.bucket = min(w.bucket+passed*w.rate, w.burst())
	w.drained = max(w.drained-passed*w.rate*drainRate, 0)
}

// pause is how long to leave the pipe alone.
func (w *logWriter) pause() time.Duration {
	over := w.drained - w.rate*drainRate/10
	if over <= 0 {
		return 0
	}
	return min(time.Duration(over/(w.rate*drainRate)*float64(time.Second)), 100*time.Millisecond)
}

// flush appends what has gathered to the current file, or to the next.
func (w *logWriter) flush(now time.Time) {
	if len(w.out) == 0 {
		return
	}
	if w.used > 0 && w.used+int64(len(w.out)) > w.size/2 {
		w.gen++
		w.used = 0
		_ = os.Remove(w.file(w.gen - 2))
	}
	f, err := os.OpenFile(w.file(w.gen), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	var n int
	if err == nil {
		n, err = f.Write(w.out)
		_ = f.Close()
	}
	w.used += int64(n)
	if err != nil { // a full disk: nobody is to wait for it
		w.drop(now, bytes.Count(w.out[n:], []byte{'\n'}), len(w.out)-n, "cannot write: "+err.Error())
	}
	w.out = w.out[:0]
	if cap(w.out) > 2*readChunk {
		w.out = nil // most commands say little
	}
}

func (w *logWriter) file(gen int) string {
	return filepath.Join(w.dir, logPrefix+strconv.Itoa(gen))
}

// size is a number of bytes for people, as the command line prints it.
func size(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " bytes"
	}
	v, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if v /= 1000; v < 999.5 {
			break
		}
	}
	digits := 0
	if v < 9.95 {
		digits = 1
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', digits, 64), ".0") + " " + unit
}
