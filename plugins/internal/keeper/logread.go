//go:build unix

package keeper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

// followEvery is how often a followed log is looked at.
const followEvery = 50 * time.Millisecond

// readLog reads a command's log from its files, without its keeper.
func readLog(ctx context.Context, dir string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	r := &logReader{dir: dir, emit: emit}
	if err := r.begin(o.Tail); err != nil {
		return err
	}
	for {
		if err := r.drain(ctx); err != nil || !o.Follow {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return sdk.ErrNotFound // destroyed
		}
	}
}

type logReader struct {
	dir  string
	emit func(sdk.LogLine) error
	gen  int
	at   int64
}

// generations are the numbers of the files that are there: at most two or, in
// the moment of a change, three.
func generations(dir string) (oldest, newest int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), logPrefix)
		gen, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		if oldest == 0 || gen < oldest {
			oldest = gen
		}
		newest = max(newest, gen)
	}
	return oldest, newest
}

func (r *logReader) open(gen int) (*os.File, error) {
	return os.Open(filepath.Join(r.dir, logPrefix+strconv.Itoa(gen)))
}

// begin finds where to read from: the last lines, or the beginning.
func (r *logReader) begin(tail int) error {
	oldest, newest := generations(r.dir)
	r.gen = max(oldest, 1)
	if tail <= 0 {
		return nil
	}
	for gen := newest; gen >= max(oldest, 1); gen-- {
		f, err := r.open(gen)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		at, lines, err := lastLines(f, tail)
		_ = f.Close()
		if err != nil {
			return err
		}
		r.gen, r.at = gen, at
		if tail -= lines; tail <= 0 {
			break
		}
	}
	return nil
}

// lastLines finds where the last n lines of a file begin, or as many as there
// are.
func lastLines(f *os.File, n int) (at int64, lines int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 64<<10)
	for pos := end; pos > 0; {
		size := min(int64(len(buf)), pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return 0, 0, err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 {
				continue
			}
			if lines++; lines == n {
				return pos + i + 1, n, nil
			}
		}
	}
	if end > 0 {
		lines++
	}
	return 0, lines, nil
}

// drain reads to the end of what there is.
func (r *logReader) drain(ctx context.Context) error {
	for {
		// Whether there is another file has to be known before this one's end is
		// reached, or lines that come in between are skipped.
		oldest, newest := generations(r.dir)
		if oldest > r.gen { // overtaken: what is missing is gone
			r.gen, r.at = oldest, 0
		}
		f, err := r.open(r.gen)
		if errors.Is(err, fs.ErrNotExist) {
			if newest <= r.gen {
				return nil
			}
			r.gen, r.at = r.gen+1, 0
			continue
		}
		if err != nil {
			return err
		}
		err = r.lines(ctx, f)
		_ = f.Close()
		if err != nil || newest <= r.gen {
			return err
		}
		r.gen, r.at = r.gen+1, 0
	}
}

// lines emits the whole lines from where the reader is. Half a line is one that
// is being written.
func (r *logReader) lines(ctx context.Context, f *os.File) error {
	if _, err := f.Seek(r.at, io.SeekStart); err != nil {
		return err
	}
	in := bufio.NewReaderSize(f, maxLogLine+logHead+1)
	for ctx.Err() == nil {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		r.at += int64(len(line))
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // not of this package's making
		}
		if err != nil {
			return err
		}
		if l, ok := parseLine(line); ok {
			if err := r.emit(l); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// parseLine reads a line of a log's file.
func parseLine(b []byte) (sdk.LogLine, bool) {
	b = bytes.TrimSuffix(b, []byte{'\n'})
	if len(b) < logHead || b[len(logTime)] != ' ' || b[logHead-1] != ' ' {
		return sdk.LogLine{}, false
	}
	at, err := time.Parse(logTime, string(b[:len(logTime)]))
	stream, ok := map[byte]string{'o': "stdout", 'e': "stderr"}[b[len(logTime)+1]]
	if err != nil || !ok {
		return sdk.LogLine{}, false
	}
	return sdk.LogLine{Time: at, Stream: stream, Line: b[logHead:]}, true
}
