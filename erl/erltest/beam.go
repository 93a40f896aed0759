package erltest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ErrNotRunning is returned when something is asked of a node that has ended.
var ErrNotRunning = errors.New("the node is not running")

// Options say how a node is started. The zero value starts the newest release
// with short names, a random name and cookie, and the shared EPMD.
type Options struct {
	OTP         string        // release, "25"; empty means the newest one installed
	Name        string        // shop or shop@host; empty means a random one
	Host        string        // where Name has no host; default localhost, with Long 127.0.0.1
	Long        bool          // long names (-name) instead of short ones (-sname)
	Cookie      string        // empty means a random one
	EPMD        *EPMD         // nil means one that all such nodes of the test process share
	Elixir      bool          // Elixir on the code path and started
	Hidden      bool          // -hidden
	NetTickTime time.Duration // whole seconds; 0 leaves OTP's default of 60 s
	Args        []string      // further flags of the emulator
	Eval        string        // an Erlang expression that is evaluated before Start returns
	Prefix      []string      // what the command line begins with: ip netns exec web1
	Env         []string      // further environment, KEY=value; nothing else is inherited but PATH and the locale
}

// Beam is a real BEAM node in an OS process of its own. Eval may be called by
// many goroutines; what starts and ends the node by one.
type Beam struct {
	Name     string // full name, t1f0c9a2e@localhost
	Cookie   string
	OTP      string
	EPMD     *EPMD
	EPMDPort int

	opts    Options
	home    string // HOME of the node: cookie, log; removed by Close
	release func() // gives the shared EPMD back; nil with an EPMD of the caller's
	fresh   []byte // what mend said when it was new; nil unless borrowed

	mu      sync.Mutex
	proc    *process
	ctl     *control
	modules []string // files of LoadModule
}

// Start starts a node that ends with the test, and returns when it is ready:
// booted, registered with EPMD, Options.Eval evaluated. It fails the test where
// the release is missing.
func Start(t testing.TB, o Options) *Beam {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	b, err := Launch(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", b.Name, b.Log())
		}
		b.Close()
	})
	return b
}

// Launch is Start for those who have no test at hand, such as TestMain. The
// caller ends the node with Close.
func Launch(ctx context.Context, o Options) (*Beam, error) {
	if o.OTP == "" {
		o.OTP = Newest()
	}
	if _, err := tool(o.OTP, "erl"); err != nil {
		return nil, err
	}
	b := &Beam{Name: fullName(o), Cookie: o.Cookie, OTP: o.OTP, EPMD: o.EPMD, opts: o}
	if b.Cookie == "" {
		b.Cookie = "erltest_" + randomHex(12)
	}
	if b.EPMD == nil {
		e, err := acquireShared(o.OTP)
		if err != nil {
			return nil, err
		}
		b.EPMD, b.release = e, releaseShared
	}
	b.EPMDPort = b.EPMD.Port
	if err := b.makeHome(); err != nil {
		b.Close()
		return nil, err
	}
	if err := b.start(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func fullName(o Options) string {
	name, host := o.Name, o.Host
	if strings.Contains(name, "@") {
		return name
	}
	if name == "" {
		name = "t" + randomHex(6)
	}
	if host == "" {
		host = "localhost"
		if o.Long {
			host = "127.0.0.1"
		}
	}
	return name + "@" + host
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// makeHome makes the HOME of the node, with the cookie as OTP wants it: in a
// file that only its owner reads.
func (b *Beam) makeHome() error {
	home, err := os.MkdirTemp("", "erltest-")
	if err != nil {
		return fmt.Errorf("make home of %s: %w", b.Name, err)
	}
	b.home = home
	if err := os.WriteFile(b.CookieFile(), []byte(b.Cookie), 0o400); err != nil {
		return fmt.Errorf("write cookie of %s: %w", b.Name, err)
	}
	return nil
}

// baseEnv is the environment of everything that is started here: nothing of
// the developer's own Erlang settings reaches it.
func baseEnv(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "ERL_CRASH_DUMP_SECONDS=0",
	}
}

// start starts the OS process and waits until the node is ready.
func (b *Beam) start(ctx context.Context) error {
	args, err := b.args()
	if err != nil {
		return err
	}
	erl, err := tool(b.OTP, "erl")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(b.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", b.Name, err)
	}
	defer log.Close()
	reqR, reqW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe to %s: %w", b.Name, err)
	}
	defer reqR.Close()
	ansR, ansW, err := os.Pipe()
	if err != nil {
		reqW.Close()
		return fmt.Errorf("make pipe from %s: %w", b.Name, err)
	}
	defer ansW.Close()

	cmd := prefixed(b.opts.Prefix, erl, args...)
	cmd.Env = append(append(baseEnv(b.home), b.EPMD.Env()...), b.opts.Env...)
	cmd.Dir = b.home
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{reqR, ansW} // 3 and 4 in the child
	proc, err := startProcess(cmd)
	if err != nil {
		reqW.Close()
		ansR.Close()
		return err
	}
	ctl := newControl(ansR, reqW)
	go ctl.readLoop()
	b.mu.Lock()
	b.proc, b.ctl = proc, ctl
	b.mu.Unlock()
	return b.awaitReady(ctx, proc, ctl)
}

func (b *Beam) awaitReady(ctx context.Context, proc *process, ctl *control) error {
	select {
	case <-ctl.ready:
	case <-proc.done:
		return fmt.Errorf("start %s: it exited (%v); its log:\n%s", b.Name, proc.err, b.Log())
	case <-ctx.Done():
		return fmt.Errorf("start %s: %w; its log:\n%s", b.Name, ctx.Err(), b.Log())
	}
	if b.opts.Elixir {
		if _, err := ctl.request(ctx, modeText, "[{ok,_} = application:ensure_all_started(A) || A <- [elixir,logger]]."); err != nil {
			return fmt.Errorf("start Elixir on %s: %w", b.Name, err)
		}
	}
	if b.opts.Eval != "" {
		if _, err := ctl.request(ctx, modeText, terminated(b.opts.Eval)); err != nil {
			return fmt.Errorf("start %s: %w", b.Name, err)
		}
	}
	return nil
}

// args are the flags of the emulator. The cookie is not among them.
func (b *Beam) args() ([]string, error) {
	args := []string{"-noshell", "-noinput", "-start_epmd", "false", "-kernel", "inet_dist_use_interface"}
	if len(b.opts.Prefix) > 0 {
		args = append(args, "{0,0,0,0}") // it is elsewhere, and there for others
	} else {
		args = append(args, "{127,0,0,1}")
	}
	if b.opts.NetTickTime > 0 {
		args = append(args, "net_ticktime", strconv.Itoa(int(b.opts.NetTickTime/time.Second)))
	}
	if b.opts.Long {
		args = append(args, "-name", b.Name)
	} else {
		args = append(args, "-sname", b.Name)
	}
	if b.opts.Hidden {
		args = append(args, "-hidden")
	}
	if b.opts.Elixir {
		flags, err := elixirFlags(b.OTP)
		if err != nil {
			return nil, err
		}
		args = append(args, flags...)
	}
	return append(append(args, b.opts.Args...), "-eval", controlEval()), nil
}

// OSPid is the process id of the emulator, 0 when it does not run.
func (b *Beam) OSPid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc == nil || !b.proc.alive() {
		return 0
	}
	return b.proc.pid()
}

// CookieFile is the path of the node's cookie file.
func (b *Beam) CookieFile() string { return filepath.Join(b.home, ".erlang.cookie") }

func (b *Beam) logFile() string { return filepath.Join(b.home, "log") }

// Log returns what the node has written to its standard output and error, over
// all its restarts.
func (b *Beam) Log() string {
	out, err := os.ReadFile(b.logFile())
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// Exited is closed when the present OS process has ended.
func (b *Beam) Exited() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.proc.done
}

// Freeze stops the node (SIGSTOP) and returns when it stands still: its sockets
// stay open and silent.
func (b *Beam) Freeze() error {
	if err := b.proc.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return poll(ctx, func() (bool, error) { return stopped(b.proc.pid()), nil })
}

// stopped tells whether all threads of a process are stopped, as far as the
// system says.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		if i := bytes.LastIndex(stat, []byte(") ")); i < 0 || i+2 >= len(stat) || stat[i+2] != 'T' && stat[i+2] != 't' {
			return false
		}
	}
	return true
}

// Thaw continues a frozen node.
func (b *Beam) Thaw() error { return b.proc.signal(syscall.SIGCONT) }

// Kill ends the node by SIGKILL and returns when it has ended.
func (b *Beam) Kill() {
	b.mu.Lock()
	proc, ctl := b.proc, b.ctl
	b.ctl = nil
	b.mu.Unlock()
	if proc != nil {
		proc.kill()
	}
	if ctl != nil {
		ctl.close()
	}
}

// Stop ends the node in good order (init:stop) and returns when it has ended;
// by SIGKILL if that takes too long.
func (b *Beam) Stop() {
	if _, err := b.Eval("init:stop()"); err == nil {
		select {
		case <-b.proc.done:
		case <-time.After(startTimeout):
		}
	}
	b.Kill()
}

// Restart starts the node again under its name and cookie, after a Kill if it
// still runs. The new incarnation has another creation. Options.Eval is
// evaluated again.
func (b *Beam) Restart(ctx context.Context) error {
	b.Kill()
	short, _, _ := strings.Cut(b.Name, "@")
	free := func(names map[string]int) bool { _, used := names[short]; return !used }
	if err := b.EPMD.WaitNames(ctx, free); err != nil {
		return fmt.Errorf("restart %s: its name in epmd: %w", b.Name, err)
	}
	return b.start(ctx)
}

// Close ends the node and removes what it left. It may be called again.
func (b *Beam) Close() {
	b.Kill()
	if b.home != "" {
		_ = os.RemoveAll(b.home)
	}
	if b.release != nil {
		b.release()
		b.release = nil
	}
}
