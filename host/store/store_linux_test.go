package store

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the other host: DEBUGHOST_TEST_HOLD names a
// directory that it opens and holds until its standard input closes.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DEBUGHOST_TEST_HOLD"); dir != "" {
		if _, err := Open(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold starts a process that has dir open, and returns it when it does.
func hold(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "DEBUGHOST_TEST_HOLD="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	_, err = cmd.StdinPipe() // never written: the process waits
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)
	return cmd
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// unprivileged runs f without root's right to write everywhere.
func unprivileged(t *testing.T, f func()) {
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, unix.Setfsuid(65534)) // this thread only; takes its capabilities along
	defer func() { require.NoError(t, unix.Setfsuid(0)) }()
	f()
}

// openTempDir returns a directory that another user can reach.
func openTempDir(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

// fullDisk runs f while no file can grow beyond limit bytes.
func fullDisk(t *testing.T, limit uint64, f func()) {
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: old.Max}))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old)) }()
	f()
}

func warnings(s *Store) string { return fmt.Sprint(s.Warnings()) }

func TestDefaultDir(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		uid  int
		want string
	}{
		"named":                 {map[string]string{"DEBUGHOST_DATA_DIR": "/d", "HOME": "/h"}, 0, "/d"},
		"root":                  {map[string]string{"HOME": "/root", "XDG_DATA_HOME": "/x"}, 0, "/var/lib/debughost"},
		"user":                  {map[string]string{"HOME": "/h"}, 7, "/h/.local/share/debughost"},
		"user with XDG":         {map[string]string{"HOME": "/h", "XDG_DATA_HOME": "/x"}, 7, "/x/debughost"},
		"XDG must be absolute":  {map[string]string{"HOME": "/h", "XDG_DATA_HOME": "x"}, 7, "/h/.local/share/debughost"},
		"a daemon with nothing": {nil, 7, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := defaultDir(func(k string) string { return tc.env[k] }, tc.uid)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.want == "", err != nil)
		})
	}
	t.Setenv("DEBUGHOST_DATA_DIR", "rel")
	got, err := DefaultDir()
	require.NoError(t, err)
	assert.True(t, filepath.IsAbs(got), got)
}

func TestOpenCreatesAPrivateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, dir)
	assert.Empty(t, s.Warnings())
	assert.Equal(t, dir, s.Dir())
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
}

func TestOpenRefuses(t *testing.T) {
	tmp := t.TempDir()
	file := filepath.Join(tmp, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	shared := filepath.Join(tmp, "shared")
	require.NoError(t, os.Mkdir(shared, 0o700))
	require.NoError(t, os.Chmod(shared, 0o777))
	for dir, want := range map[string]string{file: "not a directory", filepath.Join(file, "sub"): "not a directory", shared: "chmod 700"} {
		_, err := Open(dir)
		assert.ErrorContains(t, err, want, dir)
	}
}

func TestIdentityIsKept(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	require.NoError(t, err)
	id := s.MemberID()
	assert.Regexp(t, "^[0-9a-f]{8}$", id)
	require.NoError(t, s.Close())
	assert.Equal(t, id, open(t, dir).MemberID())
	assert.NotEqual(t, id, open(t, t.TempDir()).MemberID())
}

func TestDamagedIdentityIsReplaced(t *testing.T) {
	for _, damaged := range []string{"", "12", "xxxxxxxx", "ABCDEF01", strings.Repeat("a", 1000)} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, memberFile), []byte(damaged), 0o600))
		s, err := Open(dir)
		require.NoError(t, err)
		assert.True(t, validID(s.MemberID()))
		assert.Contains(t, warnings(s), "gets a new one")
		require.NoError(t, s.Close())
		again := open(t, dir)
		assert.Equal(t, s.MemberID(), again.MemberID())
		assert.Empty(t, again.Warnings())
	}
}

func TestSecondHostIsToldWhoHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	other := hold(t, dir)

	_, err := Open(dir)
	var busy *InUseError
	require.ErrorAs(t, err, &busy)
	assert.Equal(t, other.Process.Pid, busy.OSPid)
	assert.Contains(t, err.Error(), fmt.Sprintf("process %d", other.Process.Pid))

	// Without a readable note it is still locked.
	require.NoError(t, os.WriteFile(filepath.Join(dir, pidFile), []byte("-1"), 0o600))
	_, err = Open(dir)
	require.ErrorAs(t, err, &busy)
	assert.Zero(t, busy.OSPid)
	require.NoError(t, os.Remove(filepath.Join(dir, pidFile)))
	_, err = Open(dir)
	require.ErrorAs(t, err, &busy)
	assert.Zero(t, busy.OSPid)
}

func TestKilledHostLeavesNoLock(t *testing.T) {
	dir := t.TempDir()
	other := hold(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, tempPrefix+"member-1"), []byte("half"), 0o600))
	require.NoError(t, other.Process.Kill())
	_ = other.Wait()

	s := open(t, dir)
	assert.Equal(t, os.Getpid(), s.readPid())
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, left, "half-written files are swept")
}

func TestWriteReplacesWholeFiles(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := s.Read("members")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	for _, want := range []string{"one", strings.Repeat("two", 10000), ""} {
		require.NoError(t, s.Write("members", []byte(want)))
		got, err := s.Read("members")
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	info, err := os.Stat(s.Path("members"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	for _, bad := range []string{"", ".", "..", "a/b", "../a", ".hidden"} {
		assert.Error(t, s.Write(bad, nil), bad)
	}
	require.NoError(t, os.Mkdir(s.Path("dir"), 0o700))
	assert.Error(t, s.Write("dir", []byte("x")))
	left, err := filepath.Glob(s.Path(tempPrefix + "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestFullDiskLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	old := strings.Repeat("old", 100)
	require.NoError(t, s.Write("members", []byte(old)))
	fullDisk(t, 500, func() {
		assert.ErrorIs(t, s.Write("members", make([]byte, 4000)), unix.EFBIG)
	})
	got, err := s.Read("members")
	require.NoError(t, err)
	assert.Equal(t, old, string(got))
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestFullDiskHostRunsOn(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, pidFile), []byte("4242\n"), 0o600)) // of a host that was killed
	fullDisk(t, 0, func() {
		s := open(t, dir)
		assert.True(t, validID(s.MemberID()))
		assert.Contains(t, warnings(s), "keep member identity "+s.MemberID())
		assert.Zero(t, s.readPid(), "a pid that is not ours is gone")
		_, err := Open(dir)
		var busy *InUseError
		assert.ErrorAs(t, err, &busy, "it is locked all the same")
	})
}

func TestReadOnlyDirectoryHostRunsOn(t *testing.T) {
	dir := openTempDir(t)
	first := open(t, dir)
	require.NoError(t, first.Close())
	require.NoError(t, os.Chmod(filepath.Join(dir, memberFile), 0o644))
	require.NoError(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	unprivileged(t, func() {
		s := open(t, dir)
		assert.Equal(t, first.MemberID(), s.MemberID(), "what can be read is used")
		assert.Contains(t, warnings(s), "permission denied")
		_, err := Open(dir)
		var busy *InUseError
		assert.ErrorAs(t, err, &busy)

		sockets, err := s.SocketDir("plugins")
		require.NoError(t, err)
		defer os.RemoveAll(sockets)
		assert.NotEqual(t, s.Path("plugins"), sockets)
		require.NoError(t, s.Close())
	})
	require.NoError(t, os.Chmod(filepath.Join(dir, memberFile), 0o000))
	unprivileged(t, func() {
		s := open(t, dir)
		assert.True(t, validID(s.MemberID()))
		assert.NotEqual(t, first.MemberID(), s.MemberID())
		assert.Contains(t, warnings(s), "gets a new one")
	})
}

func TestDirectoryThatCannotBeHostRunsOn(t *testing.T) {
	parent := openTempDir(t)
	unreadable := filepath.Join(parent, "unreadable")
	require.NoError(t, os.Mkdir(unreadable, 0o000))
	require.NoError(t, os.Chmod(parent, 0o555))
	t.Cleanup(func() { _ = os.Chmod(parent, 0o700) })
	unprivileged(t, func() {
		for dir, want := range map[string]string{
			filepath.Join(parent, "sub"): "create data directory",
			unreadable:                   "lock data directory",
		} {
			s := open(t, dir)
			assert.True(t, validID(s.MemberID()))
			assert.Contains(t, warnings(s), want)
			assert.NoError(t, s.Close())
		}
	})
}

func TestSocketDirIsSweptAndShort(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp")
	base, err := os.MkdirTemp("/tmp", "dh-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	s := open(t, base)
	dir, err := s.SocketDir("plugins")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(base, "plugins"), dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stale.sock"), nil, 0o600))
	dir, err = s.SocketDir("plugins")
	require.NoError(t, err)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)

	long := open(t, filepath.Join(base, strings.Repeat("long", 20)))
	dir, err = long.SocketDir("plugins")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	assert.Equal(t, "/tmp/debughost-"+long.MemberID()+"-plugins", dir)

	t.Setenv("TMPDIR", filepath.Join(base, "absent"))
	_, err = long.SocketDir("plugins")
	assert.True(t, errors.Is(err, fs.ErrNotExist), "%v", err)
	assert.ErrorContains(t, err, "longer than")
}
