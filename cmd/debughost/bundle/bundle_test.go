package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tree makes a directory of files; an empty one is a directory, what begins with ->
// a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), `my "shop"`)
	require.NoError(t, os.Mkdir(dir, 0o755))
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case content == "":
			require.NoError(t, os.MkdirAll(path, 0o755))
		case strings.HasPrefix(content, "->"):
			require.NoError(t, os.Symlink(strings.TrimPrefix(content, "->"), path))
		default:
			require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		}
	}
	return dir
}

func read(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	out := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		out[h.Name] = string(content) + h.Linkname
	}
}

func TestPack(t *testing.T) {
	files := map[string]string{
		"mix.exs": "project", "lib/a b.ex": "code", "priv/link": "->../lib/a b.ex", "empty": "",
		"_build/x": "no", ".git/x": "no", "lib/node_modules/x": "no", "cover/x": "no", ".elixir_ls/x": "no",
	}
	dir := tree(t, files)
	var one, two bytes.Buffer
	entries, size := 0, int64(0)
	require.NoError(t, Pack(&one, dir, func(n int, s int64) { entries, size = n, s }))
	require.Equal(t, map[string]string{"mix.exs": "project", "lib/": "", "lib/a b.ex": "code", "priv/": "", "priv/link": "../lib/a b.ex", "empty/": ""}, read(t, one.Bytes()))
	require.Equal(t, 6, entries)
	require.Equal(t, int64(len("project"+"code")), size)

	again := tree(t, files)
	require.NoError(t, os.Chtimes(filepath.Join(again, "mix.exs"), time.Unix(1, 0), time.Unix(1, 0)))
	require.NoError(t, Pack(&two, again, nil))
	require.Equal(t, one.Bytes(), two.Bytes(), "the same content is the same archive")
	require.NoError(t, os.WriteFile(filepath.Join(again, "run"), []byte("x"), 0o755))
	two.Reset()
	require.NoError(t, Pack(&two, again, nil))
	require.NotEqual(t, one.Bytes(), two.Bytes())

	two.Reset()
	require.NoError(t, Pack(&two, filepath.Join(dir, "mix.exs"), nil))
	require.Equal(t, map[string]string{"mix.exs": "project"}, read(t, two.Bytes()))
}

func TestPackRefuses(t *testing.T) {
	dir := tree(t, map[string]string{"a": "x"})
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	big := tree(t, map[string]string{"a": "x"})
	require.NoError(t, os.Truncate(filepath.Join(big, "a"), MaxUnpacked+1))
	for want, path := range map[string]string{
		"fifo is neither a file":   dir,
		"which is not in the":      tree(t, map[string]string{"up": "->../x"}),
		"link to /etc/passwd":      tree(t, map[string]string{"abs": "->/etc/passwd"}),
		"more than 512 MB":         big,
		"no such file":             filepath.Join(dir, "missing"),
		"is larger than 64 MB":     "",
		"became shorter while it":  "short",
		"more than 100000 files i": "many",
	} {
		var err error
		switch path {
		case "":
			_, err = (&bounded{w: io.Discard, left: 3}).Write([]byte("four"))
		case "short":
			info, statErr := os.Stat(filepath.Join(big, "a"))
			require.NoError(t, statErr)
			err = (&packer{tar: tar.NewWriter(io.Discard), size: -info.Size()}).file(filepath.Join(dir, "a"), "a", info)
		case "many":
			err = (&packer{entries: MaxEntries}).add(&tar.Header{})
		default:
			err = Pack(io.Discard, path, nil)
		}
		require.ErrorContains(t, err, want)
	}
}

func TestLook(t *testing.T) {
	for _, c := range []struct {
		files map[string]string
		path  string
		want  Content
	}{
		{map[string]string{"mix.exs": "x", "rebar.config": "x"}, "", Content{Kind: "mix"}},
		{map[string]string{"rebar.config": "x"}, "", Content{Kind: "rebar3"}},
		{map[string]string{"bin/shop": "x", "releases/1/x": "x"}, "", Content{Kind: "release"}},
		{map[string]string{"a b.exs": "x"}, "a b.exs", Content{Kind: "exs", Main: "a b.exs"}},
		{map[string]string{"a.erl": "x"}, "a.erl", Content{Kind: "erl", Main: "a.erl"}},
	} {
		got, err := Look(filepath.Join(tree(t, c.files), c.path))
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := Look(tree(t, map[string]string{"bin": "x"}))
	require.ErrorIs(t, err, ErrKind)
	_, err = Look(filepath.Join(tree(t, map[string]string{"a.ex": "x"}), "a.ex"))
	require.ErrorIs(t, err, ErrKind)
	_, err = Look("/nowhere/at/all")
	require.ErrorIs(t, err, os.ErrNotExist)
}
