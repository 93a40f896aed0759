package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

// The systemd unit has no key and no value that systemd does not know, but for one
// that older ones ignore.
func TestServiceUnit(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd is not installed here")
	}
	unit, err := os.ReadFile("../../packaging/debughost.service")
	require.NoError(t, err)
	installed := strings.ReplaceAll(string(unit), "@PREFIX@/bin", rig.Bin)
	require.NotContains(t, installed, "@PREFIX")
	path := filepath.Join(t.TempDir(), "debughost.service")
	require.NoError(t, os.WriteFile(path, []byte(installed), 0o644))
	out, err := exec.Command(tool, "verify", "--man=no", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "debughost.service") && !strings.Contains(line, "DelegateSubgroup") {
			t.Error(line)
		}
	}
}
