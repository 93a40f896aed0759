package erltest_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/debughost/debughost/erl/erltest"
)

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func checkLeaks(t testing.TB) {
	opt := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, opt) })
}

func TestStart(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		checkLeaks(t)
		start := time.Now()
		b := erltest.Start(t, erltest.Options{OTP: otp})
		t.Logf("started in %v", time.Since(start))
		require.Equal(t, "2", b.MustEval(t, "1 + 1"))
		require.Equal(t, "2", b.MustEval(t, "1 + 1."))
		require.Equal(t, `"`+otp+`"`, b.MustEval(t, "erlang:system_info(otp_release)"))
		require.Equal(t, b.Name, b.MustEval(t, "node()"))
		require.Equal(t, b.Cookie, b.MustEval(t, "erlang:get_cookie()"))
		require.NotContains(t, b.MustEval(t, "init:get_arguments()"), b.Cookie)
		require.Equal(t, `"`+strconv.Itoa(b.OSPid())+`"`, b.MustEval(t, "os:getpid()"))
		info, err := os.Stat(b.CookieFile())
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o400), info.Mode().Perm())

		raw, err := b.EvalETF("{3, 1}")
		require.NoError(t, err)
		require.Equal(t, []byte{131, 104, 2, 97, 3, 97, 1}, raw)
		_, err = b.Eval("error(oops)")
		var ee *erltest.EvalError
		require.ErrorAs(t, err, &ee)
		require.Contains(t, ee.Exception, "{error,oops,")
		_, err = b.Eval("this is no Erlang")
		require.ErrorAs(t, err, &ee)

		b.LoadModule(t, "m", "-module(m).\n-export([f/0]).\nf() -> 'héé'.\n")
		require.Equal(t, "héé", b.MustEval(t, "m:f()"))
		b.MustEval(t, `io:format(standard_error, "to the log~n", [])`)
		require.Eventually(t, func() bool { return strings.Contains(b.Log(), "to the log") }, 30*time.Second, time.Millisecond)
		b.MustEval(t, "spawn(fun() -> register(later, self()), receive stop -> ok end end)")
		b.Await(t, "is_pid(whereis(later))", "true")
	})
}

func TestEvalConcurrently(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	slow := make(chan string)
	go func() { out, _ := b.Eval("register(slow, self()), receive X -> X end"); slow <- out }()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			out, err := b.Eval(strconv.Itoa(i) + " * 2")
			if err != nil || out != strconv.Itoa(2*i) {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
	wg.Wait()
	b.Await(t, "is_pid(whereis(slow))", "true")
	b.MustEval(t, "slow ! done")
	require.Equal(t, "done", <-slow)
}

func TestElixir(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		start := time.Now()
		b := erltest.Start(t, erltest.Options{OTP: otp, Elixir: true, Long: true})
		t.Logf("started in %v", time.Since(start))
		got, err := b.EvalElixir(`Enum.map([a: 1], fn {k, v} -> {v, to_string(k)} end)`)
		require.NoError(t, err)
		require.Equal(t, `[{1, "a"}]`, got)
		require.True(t, strings.HasSuffix(b.Name, "@127.0.0.1"))
	})
}

func TestOptions(t *testing.T) {
	checkLeaks(t)
	e := erltest.StartEPMD(t)
	b := erltest.Start(t, erltest.Options{
		Name: "shop", Cookie: "secret", EPMD: e, Hidden: true, NetTickTime: 8 * time.Second,
		Args: []string{"+P", "2048"}, Env: []string{"SHOP=1"}, Eval: "register(shop, self()), persistent_term:put(k, v)",
	})
	require.Equal(t, "shop@localhost", b.Name)
	require.Equal(t, e.Port, b.EPMDPort)
	require.Equal(t, "secret", b.MustEval(t, "erlang:get_cookie()"))
	require.Equal(t, "8", b.MustEval(t, "net_kernel:get_net_ticktime()"))
	require.Equal(t, "2048", b.MustEval(t, "erlang:system_info(process_limit)"))
	require.Equal(t, `"1"`, b.MustEval(t, `os:getenv("SHOP")`))
	require.Equal(t, "v", b.MustEval(t, "persistent_term:get(k)"))
	require.Equal(t, "true", b.MustEval(t, "lists:member(hidden, [K || {K, _} <- init:get_arguments()])"))
	names, err := e.Names()
	require.NoError(t, err)
	require.Contains(t, names, "shop")

	// A second node of that name does not start.
	_, err = erltest.Launch(within(t), erltest.Options{Name: "shop@localhost", EPMD: e})
	require.ErrorContains(t, err, "it exited")
	_, err = erltest.Launch(within(t), erltest.Options{EPMD: e, Eval: "error(oops)"})
	require.ErrorContains(t, err, "oops")
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err = erltest.Launch(ctx, erltest.Options{EPMD: e})
	require.ErrorIs(t, err, context.Canceled)

	// Nodes without an EPMD of their own share one.
	c, err := erltest.Launch(within(t), erltest.Options{})
	require.NoError(t, err)
	defer c.Close()
	d := erltest.Start(t, erltest.Options{Cookie: c.Cookie})
	require.Equal(t, c.EPMDPort, d.EPMDPort)
	require.Equal(t, "pong", c.MustEval(t, "net_adm:ping('"+d.Name+"')"))
	c.Close()
	c.Close()
}

func TestEnds(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	creation, pid := b.MustEval(t, "erlang:system_info(creation)"), b.OSPid()
	exited := b.Exited()
	require.NoError(t, b.Freeze())
	b.Kill() // also a frozen one
	<-exited
	require.Zero(t, b.OSPid())
	_, err := b.Eval("1")
	require.ErrorIs(t, err, erltest.ErrNotRunning)
	require.ErrorIs(t, b.Freeze(), os.ErrProcessDone)

	require.NoError(t, b.Restart(within(t)))
	require.NotEqual(t, pid, b.OSPid())
	require.NotEqual(t, creation, b.MustEval(t, "erlang:system_info(creation)"))
	require.NoError(t, b.Restart(within(t))) // also a running one

	out := make(chan error)
	go func() { _, err := b.Eval("register(stuck, self()), receive after infinity -> ok end"); out <- err }()
	b.Await(t, "is_pid(whereis(stuck))", "true")
	b.Stop()
	require.ErrorIs(t, <-out, erltest.ErrNotRunning)
	require.Zero(t, b.OSPid())
}

func TestFreeze(t *testing.T) {
	checkLeaks(t)
	b := erltest.Start(t, erltest.Options{})
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err := b.EvalContext(ctx, "receive after infinity -> ok end")
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, b.Freeze())
	out := make(chan string, 1)
	go func() { s, _ := b.Eval("1"); out <- s }()
	require.NoError(t, b.Thaw())
	require.Equal(t, "1", <-out)
}

// A killed test leaves nothing behind, not even a frozen node.
func TestParentDeath(t *testing.T) {
	const child = "ERLTEST_CHILD"
	if os.Getenv(child) != "" {
		b := erltest.Start(t, erltest.Options{})
		frozen := erltest.Start(t, erltest.Options{})
		require.NoError(t, frozen.Freeze())
		_, _ = os.Stdout.WriteString("pids " + strconv.Itoa(b.OSPid()) + " " + strconv.Itoa(frozen.OSPid()) + " " + strconv.Itoa(b.EPMDPort) + "\n")
		<-t.Context().Done() // waits to be killed
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestParentDeath$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pids []int
	for s := bufio.NewScanner(out); len(pids) == 0 && s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 4 && f[0] == "pids" {
			for _, p := range f[1:] {
				n, err := strconv.Atoi(p)
				require.NoError(t, err)
				pids = append(pids, n)
			}
		}
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Len(t, pids, 3)
	require.Eventually(t, func() bool { return gone(pids[0]) && gone(pids[1]) }, 30*time.Second, 5*time.Millisecond)
	e := &erltest.EPMD{Port: pids[2]}
	require.Eventually(t, func() bool { _, err := e.Names(); return err != nil }, 30*time.Second, 5*time.Millisecond)
}

// gone tells whether a process has ended; one that only waits to be reaped
// has.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestReleases(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(erltest.EnvOTP, dir)
	require.Empty(t, erltest.Find())
	require.Empty(t, erltest.Newest())
	_, err := erltest.Launch(within(t), erltest.Options{OTP: "25"})
	require.ErrorIs(t, err, erltest.ErrNoOTP)
	require.ErrorContains(t, err, "make otp")
	_, err = erltest.Launch(within(t), erltest.Options{})
	require.ErrorIs(t, err, erltest.ErrNoOTP)
	_, err = erltest.LaunchEPMD("")
	require.ErrorIs(t, err, erltest.ErrNoOTP)
	for _, name := range []string{"27", "9", "notes"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name, "bin"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "bin", "erl"), []byte("#!/bin/sh\nexit 3\n"), 0o700))
	}
	require.Equal(t, []string{"9", "27"}, erltest.Find())
	require.Equal(t, "27", erltest.Newest())
	require.Equal(t, []string{"25", "27", "29"}, erltest.Releases())
	_, err = erltest.Launch(within(t), erltest.Options{Elixir: true})
	require.ErrorIs(t, err, erltest.ErrNoOTP)
	t.Setenv(erltest.EnvOTP, "")
	require.Equal(t, ".otp", filepath.Base(erltest.Dir()))
	require.FileExists(t, filepath.Join(erltest.Dir(), "..", "go.mod"))
}

func TestEPMD(t *testing.T) {
	checkLeaks(t)
	e := erltest.StartEPMD(t)
	b := erltest.Start(t, erltest.Options{Name: "shop", EPMD: e})
	has := func(names map[string]int) bool { return names["shop"] != 0 }
	require.NoError(t, e.WaitNames(within(t), has))
	require.NoError(t, e.Freeze())
	require.NoError(t, e.Thaw())
	e.Kill()
	_, err := e.Names()
	require.Error(t, err)
	require.NoError(t, e.Restart())
	require.NoError(t, e.WaitNames(within(t), has)) // it registers again by itself
	require.NoError(t, e.Restart())
	b.Kill()
	require.NoError(t, e.WaitNames(within(t), func(names map[string]int) bool { return len(names) == 0 }))
	e.Stop()
	ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.WaitNames(ctx, has), context.DeadlineExceeded)
	e.Setenv(t)
	require.Equal(t, strconv.Itoa(e.Port), os.Getenv("ERL_EPMD_PORT"))
}
