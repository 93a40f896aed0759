package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

// TestMain makes this binary a keeper when it is started as one. (As the launch
// of a command it does not come this far.)
func TestMain(m *testing.M) {
	if Main() || standInPlugin() || standInTracer() || standInHostile() {
		return
	}
	os.Exit(m.Run())
}

// newClient is a client with a state directory of its own, of which the end of
// the test finds nothing left.
func newClient(t testing.TB, change func(*Options)) *Client {
	t.Helper()
	o := Options{Dir: tempDir(t), Idle: 10 * time.Second, Log: func(warn bool, id, text string) { t.Logf("keeper: %s %s", id, text) }}
	if change != nil {
		change(&o)
	}
	c := New(o)
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		last := New(o)
		for _, id := range leftovers(o.Dir) {
			require.NoError(t, last.Destroy(context.Background(), id))
		}
		require.NoError(t, last.Close())
		require.Empty(t, leftovers(o.Dir))
		if pid := keeperPid(o.Dir); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			require.Eventually(t, func() bool { return keeperPid(o.Dir) == 0 }, 10*time.Second, 20*time.Millisecond)
		}
		require.Empty(t, groupsOf(o.Dir))
		// A crash, or a data race that the detector saw.
		printed, _ := os.ReadFile(filepath.Join(o.Dir, errorFile))
		require.Empty(t, string(printed))
	})
	return c
}

// keeperPid finds the keeper of a directory as an operator would: in the list of
// processes.
func keeperPid(dir string) int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, _ := os.ReadFile(f)
		if args := strings.Split(string(data), "\x00"); len(args) >= 3 && args[1] == mainWord && args[2] == dir {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	return 0
}

func sh(id, script string) Spec {
	return Spec{ID: id, Command: []string{"sh", "-c", script}}
}

func logOf(t testing.TB, c *Client, id string) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, c.Logs(t.Context(), id, sdk.LogOptions{}, func(l sdk.LogLine) error {
		all.WriteString(l.Stream[3:] + ":" + string(l.Line) + "\n")
		return nil
	}))
	return all.String()
}

// tempDir is a state directory, as a host makes it.
func tempDir(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "sandbox-test")
	require.NoError(t, os.Mkdir(dir, 0o700))
	return dir
}

// groupsOf are the cgroups that were made for a state directory.
func groupsOf(dir string) []string {
	sum := sha256.Sum256([]byte(dir))
	mount, _, err := groupMount()
	if err != nil {
		return nil
	}
	var found []string
	_ = filepath.WalkDir(mount, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() && d.Name() == "debughost-"+hex.EncodeToString(sum[:4]) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// modes are the ways in which a keeper can work where this test runs.
var modes = map[string]func(*Options){
	"all that is allowed":     nil,
	"no cgroup":               func(o *Options) { o.NoCgroup = true },
	"no tracing":              func(o *Options) { o.NoTrace = true },
	"no namespace":            func(o *Options) { o.NoNamespace = true },
	"view":                    nil,
	"no namespace, view":      func(o *Options) { o.NoNamespace = true },
	"no namespace, no cgroup": func(o *Options) { o.NoNamespace, o.NoCgroup = true, true },
}

// inAllModes runs a test with a client for each mode.
func inAllModes(t *testing.T, test func(*testing.T, *Client)) {
	for name, change := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, change)
			if strings.Contains(name, "view") {
				inView.Store(c, &View{})
			}
			test(t, c)
		})
	}
}

// running counts the processes with the word among their arguments, in whatever
// namespace they are.
func running(word string) int {
	n := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, _ := os.ReadFile(f)
		if slices.Contains(strings.Split(string(data), "\x00"), word) {
			n++
		}
	}
	return n
}

// number is an argument of sleep that no other process has.
func number() string {
	return fmt.Sprintf("%d.%d", 5000+os.Getpid()%1000, lastNumber.Add(1))
}

var lastNumber atomic.Uint64

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 20*time.Second, 20*time.Millisecond, what)
}

// inView has the clients whose commands create gives a view.
var inView sync.Map

func create(t testing.TB, c *Client, spec Spec) string {
	t.Helper()
	if v, ok := inView.Load(c); ok && spec.View == nil {
		spec.View = v.(*View)
	}
	token, err := c.Create(t.Context(), spec)
	require.NoError(t, err)
	return token
}

func wait(t testing.TB, c *Client, id string) sdk.SandboxExit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	exit, err := c.Wait(ctx, id)
	require.NoError(t, err)
	return exit
}
