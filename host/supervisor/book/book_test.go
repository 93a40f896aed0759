package book

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func open(t require.TestingT, path string) (*Book, map[string]string, int64) {
	all := map[string]string{}
	b, damaged, err := Open(path, func(name Name, value []byte) error {
		all[name.String()] = string(value)
		return nil
	})
	require.NoError(t, err)
	return b, all, damaged
}

// run runs a book until the returned function is called.
func run(t require.TestingT, b *Book) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func TestBookKeepsWhatWasPut(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		want := map[string]string{}
		b, _, _ := open(t, path)
		for range rapid.IntRange(1, 4).Draw(t, "lives") {
			stop := run(t, b)
			for range rapid.IntRange(0, 20).Draw(t, "changes") {
				name := rapid.StringMatching("[a-d/]{0,3}").Draw(t, "name")
				if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
					b.Delete(nameOf([]byte(name), names{}))
					delete(want, name)
				} else {
					want[name] = rapid.String().Draw(t, "value")
					b.Put(nameOf([]byte(name), names{}), []byte(want[name]), rapid.Bool().Draw(t, "sync"))
				}
			}
			stop()
			var got map[string]string
			var damaged int64
			b, got, damaged = open(t, path)
			require.Equal(t, want, got)
			require.Zero(t, damaged)
		}
		require.NoError(t, b.Close())
	})
}

// What is cut anywhere is read up to there; where a bit is wrong, one entry is lost.
// The file as it was is kept.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book")
	b, _, _ := open(t, path)
	stop := run(t, b)
	for i := range 5 {
		require.NoError(t, b.Wait(context.Background(), b.Put(Name{ID: fmt.Sprint(i)}, []byte("value"), true)))
	}
	stop()
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	entry := (len(whole) - len(header)) / 5
	check := func(data []byte, want int) {
		_ = os.Remove(path + DamagedSuffix)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		b, got, damaged := open(t, path)
		require.Len(t, got, want)
		require.Equal(t, int64(len(data)-len(header)-len(got)*entry), damaged)
		if damaged > 0 {
			kept, err := os.ReadFile(path + DamagedSuffix)
			require.NoError(t, err)
			require.Equal(t, data, kept)
		}
		stop := run(t, b) // and it goes on from there
		require.NoError(t, b.Wait(context.Background(), b.Put(Name{ID: "new"}, []byte("n"), true)))
		stop()
		b, got, damaged = open(t, path)
		require.Equal(t, "n", got["new"])
		require.Zero(t, damaged)
		require.NoError(t, b.Close())
	}
	for cut := len(header); cut < len(whole); cut++ {
		check(whole[:cut], (cut-len(header))/entry)
	}
	for at := len(header); at < len(whole); at += 3 {
		data := bytes.Clone(whole)
		data[at] ^= 0x10
		check(data, 4)
	}
}

func TestBookIsWrittenAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book")
	b, _, _ := open(t, path)
	stop := run(t, b)
	value := bytes.Repeat([]byte("v"), 50_000)
	for i := range 200 { // ten megabytes
		require.NoError(t, b.Wait(context.Background(), b.Put(Name{ID: fmt.Sprint(i % 10)}, bytes.Clone(value), false)))
	}
	stop()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(slack+600_000))
	_, got, _ := open(t, path)
	require.Len(t, got, 10)
	for _, v := range got {
		require.Equal(t, string(value), v)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".tmp-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// A disk that cannot be written to is told to who waits; what was to be written
// is written when it can.
func TestWhatCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book")
	b, _, _ := open(t, path)
	require.NoError(t, b.file.Close())
	var err error
	b.file, err = os.Open(path) // to be read only
	require.NoError(t, err)
	n := b.Put(Name{ID: "a"}, []byte("1"), true)
	require.Error(t, b.write())
	require.Error(t, b.Wait(context.Background(), n))
	require.NoError(t, b.file.Close())
	b.file, err = os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	b.Put(Name{ID: "b"}, []byte("2"), true)
	stop := run(t, b)
	require.NoError(t, b.Wait(context.Background(), b.Put(Name{ID: "c"}, []byte("3"), true)))
	stop()
	_, got, _ := open(t, path)
	require.Equal(t, map[string]string{"a": "1", "b": "2", "c": "3"}, got)
}

func TestForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book")
	require.NoError(t, os.WriteFile(path, []byte("something of somebody else's"), 0o600))
	_, _, err := Open(path, func(Name, []byte) error { return nil })
	require.ErrorContains(t, err, "debughost book 1")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "something of somebody else's", string(b))
}

// Whatever a file has, reading it is bounded by its size.
func FuzzReadEntry(f *testing.F) {
	f.Add(appendEntry(nil, Name{ID: "name"}, []byte("value"), false))
	f.Add(appendEntry(nil, Name{}, nil, true))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var buf []byte
		for {
			e, err := readEntry(r, &buf)
			if errors.Is(err, io.EOF) || errors.Is(err, errDamaged) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := appendEntry(nil, nameOf(e.name, names{}), e.value, e.deleted); len(got) > e.size {
				t.Fatalf("%d bytes are written as %d", e.size, len(got))
			}
		}
	})
}

func BenchmarkPut(b *testing.B) {
	bk, _, _ := open(b, filepath.Join(b.TempDir(), "book"))
	defer run(b, bk)()
	value := bytes.Repeat([]byte("v"), 400)
	var n uint64
	for i := range b.N {
		n = bk.Put(Name{"record/", fmt.Sprint(i)}, value, true)
		if i%64 == 63 {
			if err := bk.Wait(context.Background(), n); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := bk.Wait(context.Background(), n); err != nil {
		b.Fatal(err)
	}
}
