//go:build unix

package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

func lines(t *testing.T, dir string, o sdk.LogOptions) []string {
	t.Helper()
	var all []string
	require.NoError(t, readLog(t.Context(), dir, o, func(l sdk.LogLine) error {
		all = append(all, l.Stream+" "+string(l.Line))
		return nil
	}))
	return all
}

func TestLinesAreCut(t *testing.T) {
	dir := t.TempDir()
	w := newLogWriter(dir, 1<<20, 1<<20)
	rest, _ := w.write('o', nil, []byte("one\r\ntw"))
	rest, _ = w.write('o', rest, []byte("o\n\n\xff\x00\x1b[31m\nthree"))
	require.Equal(t, "three", string(rest))
	_, _ = w.write('e', nil, []byte("between\n"))
	long := strings.Repeat("x", maxLogLine+5)
	rest, _ = w.write('o', rest, []byte(" and more\n"+long))
	require.Equal(t, "xxxxx", string(rest))
	_, _ = w.write('o', rest, nil)
	require.Equal(t, []string{
		"stdout one", "stdout two", "stdout ", "stdout \xff\x00\x1b[31m", "stderr between", "stdout three and more", "stdout " + long[:maxLogLine], "stdout xxxxx",
	}, lines(t, dir, sdk.LogOptions{}))
	require.Equal(t, []string{"stdout xxxxx"}, lines(t, dir, sdk.LogOptions{Tail: 1}))
	require.Len(t, lines(t, dir, sdk.LogOptions{Tail: 7}), 7)
	require.Len(t, lines(t, dir, sdk.LogOptions{Tail: 100}), 8)
}

func TestLogOfNothing(t *testing.T) {
	require.Empty(t, lines(t, t.TempDir(), sdk.LogOptions{}))
	require.Empty(t, lines(t, t.TempDir(), sdk.LogOptions{Tail: 3}))
}

// Whatever is written, no more is on disk than was asked for, and what is there
// is the end of it, without a gap.
func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	w := newLogWriter(dir, MinLogSize, 1<<40)
	const n = 20_000
	for i := range n {
		_, _ = w.write('o', nil, fmt.Appendf(nil, "line %d\n", i))
	}
	all := lines(t, dir, sdk.LogOptions{})
	require.Greater(t, len(all), 2000)
	for i, line := range all {
		require.Equal(t, fmt.Sprintf("stdout line %d", n-len(all)+i), line)
	}
	last := lines(t, dir, sdk.LogOptions{Tail: len(all) - 1}) // in both files
	require.Equal(t, all[1:], last)
	var size int64
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(files), 2)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		size += info.Size()
	}
	require.LessOrEqual(t, size, int64(MinLogSize))
}

// Who follows gets every line, from one file to the next, until the log is gone.
func TestFollow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.Mkdir(dir, 0o700))
	w := newLogWriter(dir, MinLogSize, 1<<40)
	_, _ = w.write('o', nil, []byte("old\nlast\n"))
	const n = 5000
	got := make(chan string, n)
	ended := make(chan error)
	go func() {
		ended <- readLog(t.Context(), dir, sdk.LogOptions{Tail: 1, Follow: true}, func(l sdk.LogLine) error {
			got <- string(l.Line)
			return nil
		})
	}()
	require.Equal(t, "last", <-got)
	// Written no faster than read, for who is too slow misses what is removed.
	for i := 0; i < n; i += 100 {
		for j := range 100 {
			_, _ = w.write('o', nil, fmt.Appendf(nil, "%040d\n", i+j))
		}
		for j := range 100 {
			select {
			case line := <-got:
				require.Equal(t, fmt.Sprintf("%040d", i+j), line)
			case <-time.After(10 * time.Second):
				t.Fatal("the line does not come")
			}
		}
	}
	require.Greater(t, w.gen, 1)
	require.NoError(t, os.RemoveAll(dir))
	require.ErrorIs(t, <-ended, sdk.ErrNotFound)
}

func TestFollowEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, readLog(ctx, t.TempDir(), sdk.LogOptions{Follow: true}, nil), context.Canceled)
	stop := errors.New("stop")
	dir := t.TempDir()
	w := newLogWriter(dir, MinLogSize, 1<<20)
	_, _ = w.write('o', nil, []byte("line\n"))
	require.ErrorIs(t, readLog(t.Context(), dir, sdk.LogOptions{Follow: true}, func(sdk.LogLine) error { return stop }), stop)
}

// Of a flood so much is kept as is allowed, and the rest is counted.
func TestFloodIsCounted(t *testing.T) {
	dir := t.TempDir()
	w := newLogWriter(dir, 1<<20, MinLogRate)
	var pause time.Duration
	written := 0
	for range 100 {
		_, pause = w.write('o', nil, bytes.Repeat([]byte("line\n"), 100))
		written += 100
	}
	require.Positive(t, pause, "who floods has to wait")
	w.flushDropped(true)
	all := lines(t, dir, sdk.LogOptions{})
	var dropped int
	_, err := fmt.Sscanf(all[len(all)-1], "stderr [debughost: %d lines, ", &dropped)
	require.NoError(t, err)
	require.Equal(t, written, len(all)-1+dropped)
	require.Less(t, len(all), 300)
}

// A log that cannot be written holds nobody up, and says so once it can.
func TestLogOnAFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	w := newLogWriter(dir, 1<<20, 1<<20)
	_, _ = w.write('o', nil, []byte("lost\nlost too\n"))
	require.NoError(t, os.Mkdir(dir, 0o700))
	_, _ = w.write('o', nil, []byte("kept\n"))
	w.flushDropped(true)
	all := lines(t, dir, sdk.LogOptions{})
	require.Equal(t, "stdout kept", all[0])
	require.Contains(t, all[1], "2 lines")
	require.Contains(t, all[1], "cannot write: ")
}

// Whatever is in a file of a log, a reader gets lines or nothing.
func FuzzParseLine(f *testing.F) {
	f.Add([]byte("2026-01-31T12:00:00.000000Z o hello\n"))
	f.Add([]byte("2026-01-31T12:00:00.000000Z x hello"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, ok := parseLine(b); ok {
			require.Contains(t, []string{"stdout", "stderr"}, l.Stream)
			require.LessOrEqual(t, len(l.Line), len(b))
		}
	})
}
