//go:build unix

package keeper

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

// Without a directory from the host there is one in a public place, which must
// not be another's.
func TestTemporaryStateDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := StateDir(t.Context(), "sandbox-x")
	require.NoError(t, err)
	require.DirExists(t, dir)
	again, err := StateDir(t.Context(), "sandbox-x")
	require.NoError(t, err)
	require.Equal(t, dir, again)
	base := filepath.Join(os.TempDir(), "debughost-"+strconv.Itoa(os.Geteuid()))
	require.Equal(t, base, filepath.Dir(dir))
	require.NoError(t, os.Chmod(base, 0o777))
	_, err = StateDir(t.Context(), "sandbox-x")
	require.ErrorContains(t, err, "mode 0700")
	require.Equal(t, "remove it", sdk.Hint(err))
	require.NoError(t, os.RemoveAll(base))
	require.NoError(t, os.Symlink(t.TempDir(), base))
	_, err = StateDir(t.Context(), "sandbox-x")
	require.Error(t, err)
}
