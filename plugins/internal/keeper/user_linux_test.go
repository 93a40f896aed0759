package keeper

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The same holds for an ordinary user, with whatever means the system leaves
// him. Root runs some of the tests as one.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("all tests are run as one")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "keeper-user")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chown(dir, nobody, nobody))
	binary := filepath.Join(dir, "keeper.test")
	copyFile(t, os.Args[0], binary)
	cmd := exec.Command(binary, "-test.v", "-test.timeout", "5m", "-test.run",
		"^(TestCommand|TestStatusOfWhatRuns|TestStop|TestStraysAreKilled|TestKeeperKilled|TestOrphanEnds|TestEatsMemory|TestForksWithoutEnd|TestView.*)$")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if exec.Command("setpriv", "--reuid=65534", "--clear-groups", "unshare", "-Urpf", "true").Run() == nil {
		require.Contains(t, string(out), string(UserNamespace))
	}
	require.NotContains(t, string(out), "connected to a keeper: "+string(PIDNamespace)+",")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	require.NoError(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, err)
	require.NoError(t, out.Close())
}
