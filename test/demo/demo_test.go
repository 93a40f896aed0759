package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Without a terminal the demo shows what it has and stops by itself.
func TestShowsTheLeakAndStops(t *testing.T) {
	t.Parallel()
	d := start(t)
	require.NoError(t, d.cmd.Wait())
	host, err := shortHostname()
	require.NoError(t, err)
	out := d.out.String()
	for _, node := range []string{"shop@", "billing@"} {
		assert.Regexp(t, regexp.QuoteMeta(node+host)+`\s+attached`, out)
	}
	_, ranking, _ := strings.Cut(out, "--sort message_queue_len")
	lines := strings.Split(strings.TrimSpace(ranking), "\n")
	assert.Contains(t, strings.Join(lines[:min(3, len(lines))], "\n"), "Shop.Mailer", "the leak leads the ranking")
	d.assertNothingLeft()
}

func TestRunsUntilInterrupted(t *testing.T) {
	t.Parallel()
	d := start(t, "-hold")
	d.waitFor("Ctrl-C stops all of it")
	addr := regexp.MustCompile(`DEBUGHOST_ADDR=(\S+)`).FindStringSubmatch(d.out.String())
	require.NotNil(t, addr)
	ps := exec.Command(filepath.Join(d.bin, debughost), "ps")
	ps.Env = append(os.Environ(), addr[0])
	out, err := ps.CombinedOutput()
	require.NoError(t, err, "a command that the demo says to try: %s", out)

	require.NoError(t, d.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, d.cmd.Wait())
	d.assertNothingLeft()
}

// Interrupted while it still starts things, it stops them too.
func TestInterruptedEarly(t *testing.T) {
	t.Parallel()
	d := start(t, "-hold")
	d.waitFor("Starting billing")
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, d.cmd.Wait())
	d.assertNothingLeft()
}

func TestNothingRunsAfterKill(t *testing.T) {
	t.Parallel()
	d := start(t, "-hold")
	d.waitFor("Ctrl-C stops all of it")
	require.NotEmpty(t, d.running())
	require.NoError(t, d.cmd.Process.Kill())
	_ = d.cmd.Wait()
	assert.Eventually(t, func() bool { return len(d.running()) == 0 },
		20*time.Second, 20*time.Millisecond, "still running: %v", d.running())
	for _, dir := range d.directories() { // nobody was there to remove it
		assert.NoError(t, os.RemoveAll(dir))
	}
}

// What is no fault is told at once.
func TestUnknownFault(t *testing.T) {
	d := start(t, "-fault", "everything")
	require.Error(t, d.cmd.Wait())
	assert.Contains(t, d.out.String(), `there is no fault "everything": it is one of mailbox, leak, loop, slow`)
}

// A debughost that does not start ends the demo, which says what it said.
func TestFailureIsHonest(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken")
	require.NoError(t, os.WriteFile(broken, []byte("#!/bin/sh\necho no can do\nexit 1\n"), 0o700))
	d := start(t, "-debughost", broken)
	var exit *exec.ExitError
	require.ErrorAs(t, d.cmd.Wait(), &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Contains(t, d.out.String(), "debughost ended: exit status 1")
	assert.Contains(t, d.out.String(), "no can do")
	d.assertNothingLeft()
}

// demo is a running demo whose processes can be told from all others.
type demo struct {
	t      *testing.T
	cmd    *exec.Cmd
	bin    string // where its programs are, and no other's
	marker string // in the environment of what it starts
	out    output
}

// start starts a demo without a terminal.
func start(t *testing.T, args ...string) *demo {
	t.Helper()
	d := &demo{t: t, bin: t.TempDir(), marker: "DEMO_TEST=" + rand.Text()}
	built, err := build()
	require.NoError(t, err)
	for _, name := range []string{"demo", debughost, "discovery-epmd"} {
		require.NoError(t, os.Link(filepath.Join(built, name), filepath.Join(d.bin, name)))
	}
	args = append([]string{"-debughost", filepath.Join(d.bin, debughost)}, args...)
	d.cmd = exec.Command(filepath.Join(d.bin, "demo"), args...)
	d.cmd.Dir = filepath.Join("..", "..")
	d.cmd.Env = append(os.Environ(), d.marker)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	require.NoError(t, d.cmd.Start())
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		if t.Failed() {
			t.Logf("the demo said:\n%s", d.out.String())
		}
	})
	return d
}

func (d *demo) waitFor(text string) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return strings.Contains(d.out.String(), text) },
		2*time.Minute, 20*time.Millisecond, "the demo never said %q", text)
}

func (d *demo) assertNothingLeft() {
	d.t.Helper()
	require.Regexp(d.t, demoDir, d.out.String())
	assert.Empty(d.t, d.running(), "processes that the demo left")
	assert.Empty(d.t, d.directories(), "directories that the demo left")
}

// running are the processes that the demo started, and the plugins that its
// debughost did, by their command lines.
func (d *demo) running() (commands []string) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(d.t, err)
	for _, dir := range dirs {
		env, _ := os.ReadFile(filepath.Join(dir, "environ")) // zombies have none
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		if strings.HasPrefix(exe, d.bin+"/") || bytes.Contains(env, []byte(d.marker)) {
			cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			commands = append(commands, filepath.Base(dir)+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return commands
}

var demoDir = regexp.MustCompile(`/tmp/debughost-demo-\d+`)

// directories are those that the demo made and that are still there.
func (d *demo) directories() (dirs []string) {
	for _, dir := range demoDir.FindAllString(d.out.String(), 1) {
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// output may be read while a process writes it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// build makes the demo, debughost and its plugin in one directory, once.
func build() (string, error) {
	buildOnce.Do(func() {
		if buildDir, buildErr = os.MkdirTemp("", "demo-test-"); buildErr != nil {
			return
		}
		for name, pkg := range map[string]string{"demo": "./test/demo", debughost: "./cmd/debughost", "discovery-epmd": "./plugins/discovery-epmd"} {
			cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", filepath.Join(buildDir, name), pkg)
			cmd.Dir = filepath.Join("..", "..")
			if out, err := cmd.CombinedOutput(); err != nil {
				buildErr = fmt.Errorf("build %s: %w\n%s", pkg, err, out)
				return
			}
		}
	})
	return buildDir, buildErr
}

var (
	buildOnce sync.Once
	buildDir  string
	buildErr  error
)

func TestMain(m *testing.M) {
	code := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(code)
}
