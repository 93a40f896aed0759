package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

// A placement strategy that hangs, crashes or answers garbage delays what it is to
// place, visibly, and loses none; others are not held up. Another strategy, by
// config or for one child, places what waited.
func TestPlacementStrategyFails(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	for mode, reason := range map[string]string{
		"hang": "placement-fickle does not answer within 2s", "crash": "placement-fickle: it is ", "garbage": "which is no member of the request",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dir, place := rig.TempDir(t), t.TempDir()
			require.NoError(t, os.Symlink(self, filepath.Join(place, "placement-fickle")))
			plugins := fmt.Sprintf("[plugins]\ndirs = [%q]\n[placement.fickle]\nmode = %q\n[supervisor]\nplacement = ", place, mode)
			h := newHome(t, dir, plugins+`"fickle"`)
			for i := range 3 {
				h.run(t, fmt.Sprint("waits", i), "--", "sh", "-c", "exec sleep 1000")
			}
			h.await(t, "waits0", "pending", func(c childDetail) bool { return strings.Contains(c.Reason, reason) })
			list, _ := h.Exit(t, 0, "child", "list")
			require.Contains(t, list, reason)
			status, _ := h.Exit(t, 0, "status")
			require.Contains(t, status, "pending")

			h.run(t, "other", "--placement", "uniform", "--wait", "20s", "--", "sh", "-c", "exec sleep 1000")
			h.await(t, "waits0", "pending")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[topologies]\n"+quiet+plugins+`"uniform"`), 0o600))
			h.Exit(t, 0, "config", "reload")
			for i := range 3 {
				h.await(t, fmt.Sprint("waits", i), "running")
			}
			h.leavesNothing(t)
		})
	}
}

// One that fails is mended by its own section.
func TestPlacementStrategyIsMended(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir, place := rig.TempDir(t), t.TempDir()
	require.NoError(t, os.Symlink(self, filepath.Join(place, "placement-fickle")))
	plugins := fmt.Sprintf("[plugins]\ndirs = [%q]\n[supervisor]\nplacement = \"fickle\"\n[placement.fickle]\nmode = ", place)
	h := newHome(t, dir, plugins+`"hang"`)
	h.run(t, "waits", "--", "sh", "-c", "exec sleep 1000")
	h.await(t, "waits", "pending", func(c childDetail) bool { return c.Reason != "" })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[topologies]\n"+quiet+plugins+`""`), 0o600))
	h.Exit(t, 0, "config", "reload")
	h.await(t, "waits", "running")
	h.leavesNothing(t)
}
