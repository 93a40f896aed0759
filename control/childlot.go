package control

import (
	"errors"
	"slices"
	"sync"
	"time"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/sdk"
)

// logFlush is how long a line may wait for others.
const logFlush = 50 * time.Millisecond

// logLot gathers lines.
type logLot struct {
	send   func(*controlpb.ReadChildLogResponse) error
	member string

	mu    sync.Mutex
	lines []*controlpb.ChildLogLine
	bytes int
	timer *time.Timer
	err   error // of sending
}

func (l *logLot) add(line sdk.LogLine) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.lines = append(l.lines, &controlpb.ChildLogLine{
		Time: timePB(line.Time), Stream: clean(line.Stream), Line: slices.Clone(line.Line), Member: l.member,
	})
	if l.bytes += len(line.Line); len(l.lines) >= childChunk || l.bytes >= chunkBytes {
		l.flush()
	} else if l.timer == nil {
		l.timer = time.AfterFunc(logFlush, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.flush()
		})
	}
	return l.err
}

// flush sends what there is. mu is held.
func (l *logLot) flush() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if len(l.lines) > 0 && l.err == nil {
		if err := l.send(&controlpb.ReadChildLogResponse{Lines: l.lines}); err != nil {
			l.err = &sinkError{err}
		}
	}
	l.lines, l.bytes = nil, 0
}

// close sends the rest. Nothing is sent after it.
func (l *logLot) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	err := l.err
	if l.err == nil {
		l.err = errors.New("closed")
	}
	return err
}
