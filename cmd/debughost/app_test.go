package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/target"
)

func TestUsageErrors(t *testing.T) {
	for args, want := range map[string]string{
		"targetz":                         `unknown command "targetz"; did you mean targets`,
		"quux":                            `unknown command "quux"`,
		"ps --frob":                       "unknown flag: --frob",
		"ps --sort size":                  `sort "size" is none of memory`,
		"ps --window -1s":                 "window -1s is not between",
		"ps --window 2h":                  "window 2h0m0s is not between",
		"ps --window 1s --limit 0":        "--window needs a --limit",
		"ps --limit 0 --offset 1":         "--offset needs a --limit",
		"ps --limit -1":                   "invalid argument",
		"ps --watch -1s":                  "watch -1s is negative",
		"ps -o xml":                       `output "xml" is none of`,
		"ps --timeout -1s":                "timeout -1s is not between",
		"targets x":                       `targets: one argument too many: "x"`,
		"inspect a":                       "inspect: PID|NAME is missing",
		"inspect":                         "inspect: NODE is missing",
		"inspect a b c":                   `inspect: one argument too many: "c"`,
		"inspect a b --syntax lisp":       `syntax "lisp" is none of`,
		"inspect a b -o csv":              "inspect has no rows to write as csv",
		"kill a":                          "kill: PID|NAME is missing",
		"completion bas":                  `unknown command "bas"; did you mean bash`,
		"completion bash x":               "too many",
		"status x":                        "too many",
		"run x":                           "too many",
		"targets --addr tcp://localhost:": "tcp is not supported",
	} {
		t.Run(args, func(t *testing.T) {
			r := command(strings.Fields(args)...)
			assert.Equal(t, exitUsage, r.code)
			assert.Empty(t, r.out)
			assert.Contains(t, r.err, want)
			assert.True(t, strings.HasPrefix(r.err, "debughost: "), r.err)
			assert.Contains(t, r.err, "\nhint: ")
		})
	}
}

func TestHelpHasExamples(t *testing.T) {
	r := command()
	assert.Equal(t, exitDone, r.code)
	assert.Contains(t, r.out, "debughost run")
	for _, name := range []string{"run", "targets", "ps", "inspect", "kill", "events", "status", "plugins", "version", "config", "config check", "config print", "config reload", "doctor",
		"state", "send", "gc", "suspend", "resume", "flag", "supervisor", "supervisor terminate", "supervisor restart", "child", "child start", "child list", "child show", "child stop", "child restart", "child move", "child remove", "child logs",
		"drain", "placement", "placement explain",
		"members", "leave", "forget", "keygen", "keys", "keys list", "keys add", "keys use", "keys remove",
		"registry", "registry register", "registry lookup", "registry list", "registry unregister", "registry update", "registry renew", "registry watch"} {
		r := command(append(strings.Fields(name), "--help")...)
		assert.Equal(t, exitDone, r.code, name)
		assert.Contains(t, r.out, "Examples:\n  debughost "+strings.Fields(name)[0], name)
	}
}

func TestNobodyRuns(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.sock")
	for _, args := range []string{"targets", "ps", "inspect a b", "kill a b", "events", "status", "plugins", "config reload", "members", "leave", "keys list", "registry list"} {
		r := command(append([]string{"--addr", none}, strings.Fields(args)...)...)
		assert.Equal(t, exitFailed, r.code, args)
		assert.Equal(t, "debughost: connect to "+none+": there is no such socket\nhint: is debughost running? start it with `debughost run`, or say where it is with --addr or --data-dir\n", r.err)
	}
}

// A member that was stopped in the middle leaves the command with an error.
func TestMemberThatDoesNotAnswer(t *testing.T) {
	m := serve(t, &member{acted: context.DeadlineExceeded})
	for _, args := range []string{"inspect a b", "kill a b"} {
		r := m.do(strings.Fields(args)...)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.err, "no answer in time")
	}
}

func TestWhereTheMemberIs(t *testing.T) {
	addr := func(args ...string) string {
		got := ""
		commandWith(func(a *app) {
			a.host = func(context.Context, runOptions) error {
				got, _ = a.address()
				return nil
			}
		}, append(args, "run")...)
		return got
	}
	t.Setenv("DEBUGHOST_DATA_DIR", "/env/data")
	assert.Equal(t, "/env/data/api.sock", addr())
	t.Setenv("DEBUGHOST_ADDR", "unix:/env/sock")
	assert.Equal(t, "unix:/env/sock", addr())
	assert.Equal(t, "/flag/data/api.sock", addr("--data-dir", "/flag/data"))
	assert.Equal(t, "/flag/sock", addr("--addr", "/flag/sock"))
	assert.Equal(t, "/flag/sock", addr("--addr", "/flag/sock", "--data-dir", "/flag/data"))
}

func TestInterrupt(t *testing.T) {
	m := serve(t, &member{targets: []target.Info{{Node: "a@b"}}})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"--addr", m.addr, "targets"}, strings.NewReader(""), &out, &errs)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs.String(), "given up")
}

func TestRunGetsItsOptions(t *testing.T) {
	var got runOptions
	r := commandWith(func(a *app) {
		a.host = func(_ context.Context, o runOptions) error { got = o; return nil }
	}, "run", "--config", "/c.toml", "--data-dir", "/d", "--addr", "/a.sock", "--log-level", "debug")
	require.Equal(t, exitDone, r.code, r.err)
	assert.Equal(t, "/c.toml", got.Sources.File)
	assert.Equal(t, "/d", got.DataDir)
	assert.Equal(t, "/a.sock", got.Addr)
	assert.True(t, got.Sources.Flags.Changed("log-level"))
	assert.NotEmpty(t, got.Version.Version)
}

// run drains at SIGTERM and reads its configuration again at SIGHUP.
func TestRunSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		reloads := 0
		r := commandWith(func(a *app) {
			a.host = func(ctx context.Context, o runOptions) error {
				require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
				<-o.Reload
				reloads++
				require.NoError(t, syscall.Kill(os.Getpid(), sig))
				<-ctx.Done()
				return nil
			}
		}, "run")
		assert.Equal(t, exitDone, r.code)
		assert.Equal(t, 1, reloads)
	}
}

func TestRunFails(t *testing.T) {
	r := commandWith(func(a *app) {
		a.host = func(context.Context, runOptions) error {
			return withHint{errors.New("open data directory: it is in use")}
		}
	}, "run")
	assert.Equal(t, result{exitFailed, "", "debughost: open data directory: it is in use\nhint: stop the other\n"}, r)
}

type withHint struct{ error }

func (withHint) Hint() string { return "stop the other" }

// The whole of it: a real host in a fresh data directory, without plugins or
// nodes, asked over its socket, reloaded and stopped.
func TestRealHost(t *testing.T) {
	dir, err := os.MkdirTemp("", "dh")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "config.toml")
	require.NoError(t, os.WriteFile(file, []byte("[member]\nname = \"m7\"\n"), 0o600))
	t.Setenv("DEBUGHOST_DATA_DIR", filepath.Join(dir, "data"))
	t.Setenv("HOME", dir)

	ctx, stop := context.WithCancel(context.Background())
	var log bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"run", "--config", file}, strings.NewReader(""), &log, &log) }()
	require.Eventually(t, func() bool { return command("status").code == exitDone }, 20*time.Second, 10*time.Millisecond)

	assert.Contains(t, command("status").out, "m7, ")
	require.Eventually(t, func() bool { return strings.Contains(command("plugins").out, "discovery-epmd") }, 20*time.Second, 10*time.Millisecond)
	assert.Contains(t, command("events").out, "member_started")
	assert.Equal(t, exitDone, command("targets").code)
	assert.Equal(t, "configuration reloaded\n", command("config", "reload").out)
	r := command("run", "--config", file)
	assert.Equal(t, exitFailed, r.code, "a second host took the same data directory")
	assert.Contains(t, r.err, "data")
	require.NoError(t, os.WriteFile(file, []byte("nonsense"), 0o600))
	assert.Equal(t, exitFailed, command("config", "reload").code)
	audit, err := os.ReadFile(filepath.Join(dir, "data", "audit.log"))
	require.NoError(t, err)
	assert.Contains(t, string(audit), `"outcome":"bad_config"`)

	stop()
	assert.Equal(t, exitDone, <-ended, log.String())
	assert.Equal(t, exitFailed, command("status").code)
}

func TestRunWithBadAddress(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	r := command("run", "--data-dir", t.TempDir(), "--addr", "tcp://x")
	assert.Equal(t, exitUsage, r.code, r.err)
	r = command("run", "--data-dir", t.TempDir(), "--addr", "/"+strings.Repeat("x", 200))
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.err, "a unix socket takes 107")
}
