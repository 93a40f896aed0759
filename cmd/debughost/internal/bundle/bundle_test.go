package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		at := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
		require.NoError(t, os.WriteFile(at, []byte(text), 0o600))
	}
}

func packed(t *testing.T, from string) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Pack(&b, from, filepath.Base(from), nil))
	return b.Bytes()
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"mix.exs": "mix", "lib/shop.ex": "one", "lib/cover/a.ex": "kept", "bin/run": "#!", "docs/ä ö'\".md": "x",
		"_build/dev/x.beam": "-", ".git/config": "-", "apps/a/_build/x": "-", "assets/node_modules/x": "-", "cover/x.html": "-",
		".elixir_ls/x": "-", "lib/.shop.ex.swp": "-", "lib/shop.ex~": "-", "lib/.#shop.ex": "-", ".formatter.exs": "kept",
	})
	require.NoError(t, os.Chmod(filepath.Join(dir, "bin/run"), 0o700))
	require.NoError(t, os.Symlink("../lib/shop.ex", filepath.Join(dir, "docs", "up")))
	require.NoError(t, os.Symlink(filepath.Join(dir, "lib"), filepath.Join(dir, "docs", "abs")))
	first := packed(t, dir)
	files, err := Read(bytes.NewReader(first))
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSpace(fmt.Sprintln(f.Name, string(f.Data), f.Link, f.Executable)))
	}
	assert.Equal(t, []string{
		".formatter.exs kept  false", "bin/run #!  true", "docs/abs  ../lib false", "docs/up  ../lib/shop.ex false", "docs/ä ö'\".md x  false",
		"lib/cover/a.ex kept  false", "lib/shop.ex one  false", "mix.exs mix  false",
	}, names)

	// The same files are the same bundle, whatever their times and wherever they are.
	moved := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.Rename(dir, moved))
	require.NoError(t, os.Remove(filepath.Join(moved, "docs", "abs")))
	require.NoError(t, os.Symlink("../lib", filepath.Join(moved, "docs", "abs")))
	require.NoError(t, os.Chtimes(filepath.Join(moved, "mix.exs"), time.Unix(1, 0), time.Unix(1, 0)))
	assert.True(t, bytes.Equal(first, packed(t, moved)))

	one, err := Read(bytes.NewReader(packed(t, filepath.Join(moved, "mix.exs"))))
	require.NoError(t, err)
	assert.Equal(t, []File{{Name: "mix.exs", Data: []byte("mix")}}, one)

	require.NoError(t, os.Symlink("../../../etc/passwd", filepath.Join(moved, "docs", "out")))
	var bad *Error
	require.ErrorAs(t, Pack(&bytes.Buffer{}, moved, "", nil), &bad)
	assert.Contains(t, bad.Error(), "docs/out: it is a link to ../../../etc/passwd")
	assert.NotEmpty(t, bad.Hint())
	require.ErrorIs(t, Pack(&bytes.Buffer{}, filepath.Join(dir, "none"), "", nil), os.ErrNotExist)
}

// What rebar3 has fetched is in its _build, and nowhere else; of what it has compiled
// nothing is needed.
func TestPackFetched(t *testing.T) {
	dir := t.TempDir()
	lib := "_build/default/lib/"
	write(t, dir, map[string]string{
		"rebar.config": "-", "src/shop.erl": "-", "_build/test/lib/x/src/x.erl": "-", "_build/default/plugins/p/src/p.erl": "-",
		lib + "loud/rebar.config": "-", lib + "loud/src/loud.erl": "-", lib + "loud/ebin/loud.beam": "-", lib + "loud/.git/HEAD": "-", lib + "loud/c/_build/x": "-",
		lib + "shop/ebin/shop.beam": "-", lib + "built/ebin/built.beam": "-", lib + ".rebar3/x": "-", "releases/COOKIE": "secret", "releases/1/sys.config": "-",
	})
	require.NoError(t, os.Symlink("../../../../src", filepath.Join(dir, lib, "shop", "src")))
	names := func() (out []string) {
		files, err := Read(bytes.NewReader(packed(t, dir)))
		require.NoError(t, err)
		for _, f := range files {
			out = append(out, f.Name)
		}
		return out
	}
	require.Equal(t, []string{lib + "loud/rebar.config", lib + "loud/src/loud.erl", "rebar.config", "releases/1/sys.config", "src/shop.erl"}, names())
	write(t, dir, map[string]string{"mix.exs": "-"})
	require.Equal(t, []string{"mix.exs", "rebar.config", "releases/1/sys.config", "src/shop.erl"}, names())
}

func TestPackLimits(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, MaxUnpacked+1)) // a hole
	var bad *Error
	require.ErrorAs(t, Pack(&bytes.Buffer{}, dir, "", nil), &bad)
	assert.Contains(t, bad.Cause, "at most 512 MB")

	w := NewWriter(&bytes.Buffer{})
	noise := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{})
	var err error
	for i := 0; err == nil && i < 70; i++ {
		_, _ = random.Read(noise)
		err = w.Add(File{Name: fmt.Sprint(i), Data: noise})
	}
	require.ErrorAs(t, err, &bad)
	assert.Contains(t, bad.Cause, "at most 64 MB")
}

func TestReadRefuses(t *testing.T) {
	for want, h := range map[string]tar.Header{
		"is not within":     {Name: "../x", Typeflag: tar.TypeReg},
		"neither a file":    {Name: "x", Typeflag: tar.TypeFifo},
		"more than 100000 ": {Name: "x", Typeflag: tar.TypeReg, Size: MaxUnpacked + 1},
	} {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		require.NoError(t, w.WriteHeader(&h))
		_ = w.Flush()
		require.NoError(t, z.Close())
		_, err := Read(&b)
		assert.ErrorContains(t, err, want)
	}
	_, err := Read(strings.NewReader("no gzip"))
	assert.Error(t, err)
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(&b)
	_ = w.Add(File{Name: "a", Data: []byte("x")})
	_ = w.Add(File{Name: "b", Link: "a"})
	_ = w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, file := range files {
			assert.True(t, filepath.IsLocal(file.Name))
		}
		assert.Empty(t, Diff(files, files))
	})
}

func TestDiff(t *testing.T) {
	before := []File{{Name: "a.ex", Data: []byte("1\n2\n3\n4\n5\n6\n7\n8\n")}, {Name: "b.beam", Data: []byte{0, 1}}, {Name: "gone", Data: []byte("x")}, {Name: "same", Data: []byte("s")}}
	after := []File{{Name: "a.ex", Data: []byte("1\n2\n3\n4\n5!\n6\n7\n8\n")}, {Name: "b.beam", Data: []byte{0, 2}}, {Name: "new", Data: []byte("y\n")}, {Name: "same", Data: []byte("s")}}
	d := Diff(before, after)
	require.Len(t, d, 4)
	assert.Equal(t, "--- a/a.ex\n+++ b/a.ex\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+5!\n 6\n 7\n 8\n", d[0].Diff)
	assert.Equal(t, "b.beam changed ", fmt.Sprintln(d[1].Path, d[1].State, d[1].Diff)[:15])
	assert.NotEqual(t, d[1].Was, d[1].Is)
	assert.Equal(t, "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n", d[2].Diff)
	assert.Equal(t, "--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+y\n", d[3].Diff)
}

// What the comparison says is what patch makes of it.
func TestUnifiedIsWhatPatchReads(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("there is no patch")
	}
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range r.IntN(30) {
			fmt.Fprintf(&b, "%d\n", r.IntN(6))
		}
		return b.String()
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	for range 60 {
		before, after := text(), text()
		require.NoError(t, os.WriteFile(file, []byte(before), 0o600))
		d := Unified("a/f", "b/f", before, after)
		cmd := exec.Command(patch, "-s", "--no-backup-if-mismatch", file)
		cmd.Stdin = strings.NewReader(d)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", out, d)
		got, err := os.ReadFile(file)
		if after != "" || err == nil { // patch removes what is empty
			require.NoError(t, err)
			require.Equal(t, after, string(got), d)
		}
	}
	require.Empty(t, Unified("a", "b", "x\n", "x\n"))
	// So many differences are not looked for.
	var a, b strings.Builder
	for i := range maxEdits {
		fmt.Fprintf(&a, "a%d\n", i)
		fmt.Fprintf(&b, "b%d\n", i)
	}
	require.Contains(t, Unified("a", "b", a.String(), b.String()), fmt.Sprintf("@@ -1,%d +1,%d @@", maxEdits, maxEdits))
}
