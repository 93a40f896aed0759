package system

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

// The disk under the data directory is full: what cannot be kept is told, what runs
// goes on, what was confirmed is there after a kill -9; with space again all is well.
func TestChildrenOnAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	disk := rig.TempDir(t)
	require.NoError(t, exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk).Run())
	t.Cleanup(func() { assert.NoError(t, exec.Command("umount", "-l", disk).Run()) })
	dir := filepath.Join(disk, "d")
	require.NoError(t, os.Mkdir(dir, 0o700))
	h := newHome(t, dir, "")
	p := h.ping(t)
	h.run(t, "before", "--wait", "20s", "--", "sh", "-c", "exec sleep 1000")

	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	require.NoError(t, err)
	_, err = f.Write(make([]byte, 8<<20))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	// Tails of what is written already have room for a little more.
	h.Eventually(t, func() error {
		_, stderr, err := h.start("during", "--env", "PAD="+strings.Repeat("x", 20_000), "--", "sh", "-c", "exec sleep 1000")
		if err == nil {
			h.Exit(t, 0, "child", "remove", "during")
			return fmt.Errorf("there is room still")
		}
		return mentions(stderr, "it was done, but it is not on this member's disk", "no space left on device")
	})
	p.goesOn(t)

	h.Kill()
	require.NoError(t, os.Remove(fill)) // the host's own files want room when it starts
	h.again(t)
	for _, id := range []string{"before", "ping"} {
		require.Equal(t, "taken_over", lastOf(h.await(t, id, "running")).What)
	}
	p.goesOn(t)
	h.run(t, "after", "--wait", "20s", "--", "sh", "-c", "exec sleep 1000")
	h.leavesNothing(t)
}

// A disk that was full has space again: what was not on it gets there.
func TestChildrenWhenTheDiskHasSpaceAgain(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	disk := rig.TempDir(t)
	require.NoError(t, exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk).Run())
	t.Cleanup(func() { assert.NoError(t, exec.Command("umount", "-l", disk).Run()) })
	dir := filepath.Join(disk, "d")
	require.NoError(t, os.Mkdir(dir, 0o700))
	h := newHome(t, dir, "")
	p := h.ping(t)
	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	require.NoError(t, err)
	_, err = f.Write(make([]byte, 8<<20))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	_, stderr, err := h.start("during", "--env", "PAD="+strings.Repeat("x", 20_000), "--", "sh", "-c", "exec sleep 1000")
	require.Error(t, err)
	require.NoError(t, mentions(stderr, "no space left on device"))
	require.NoError(t, os.Remove(fill))
	p.goesOn(t)
	h.Eventually(t, func() error { // it could not be started, or can now
		c, err := h.show("during")
		if err == nil && c.State == "failed" {
			_, _, err = h.Try("child", "restart", "during")
		}
		if err == nil && c.State != "running" {
			err = fmt.Errorf("%+v", c)
		}
		return err
	})
	h.run(t, "after", "--wait", "20s", "--", "sh", "-c", "exec sleep 1000")
	h.Kill()
	h.again(t)
	for _, id := range []string{"during", "after", "ping"} {
		h.await(t, id, "running")
	}
	h.leavesNothing(t)
}

func lastOf(c childDetail) childEntry { return c.History[len(c.History)-1] }

// mentions is nil when a text has all words.
func mentions(text string, words ...string) error {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return fmt.Errorf("%q is not in %q", w, text)
		}
	}
	return nil
}

// A book that was damaged costs what is damaged, and says so; a file that is none
// is left alone.
func TestDamagedBook(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", "")
	for _, id := range []string{"first", "second", "third"} {
		h.run(t, id, "--restart", "temporary", "--wait", "20s", "--", "sh", "-c", "exec sleep 1000")
		h.Exit(t, 0, "child", "stop", id, "--wait", "20s")
	}
	h.Term(t)
	path := filepath.Join(h.Dir, "children.book")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	// A wrong bit in each entry of the second, and a half entry at the end.
	bad := bytes.ReplaceAll(whole, []byte("record/second"), []byte("record/sexond"))
	bad = append(bad, 0, 0, 0, 200, 1, 2, 3)
	require.NoError(t, os.WriteFile(path, bad, 0o600))
	h.again(t)
	require.Contains(t, h.Log.String(), "the supervisor's book was damaged")
	h.await(t, "first", "stopped")
	h.await(t, "third", "stopped")
	_, err = h.show("second")
	require.ErrorContains(t, err, "no such child")
	kept, err := os.ReadFile(path + ".damaged")
	require.NoError(t, err)
	require.Equal(t, bad, kept)
	h.Term(t)
	h.again(t)
	require.NotContains(t, h.Log.String(), "the supervisor's book was damaged")
	h.Term(t)

	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o600))
	out, err := exec.Command(filepath.Join(rig.Bin, "debughost"), "run", "--data-dir", h.Dir).CombinedOutput()
	require.Error(t, err)
	require.NoError(t, mentions(string(out), "children.book", "is it a debughost's?"))
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "{}", string(left))
}
