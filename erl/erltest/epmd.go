package erltest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds every wait for a process to come up.
const startTimeout = 60 * time.Second

// EPMD is a port mapper daemon of the test's own, on a free port of the
// loopback interface. It is not safe for concurrent use, except for Names.
type EPMD struct {
	Port int

	opts EPMDOptions
	proc *process
}

// EPMDOptions say how a daemon is started. The zero value is that of the newest
// release on a free port of the loopback interface.
type EPMDOptions struct {
	OTP     string   // release; empty means the newest one installed
	Port    int      // 0 means a free one
	Address string   // where it listens beside loopback, where it always does; empty: nowhere; "any": everywhere
	Prefix  []string // what the command line begins with: ip netns exec web1
}

// StartEPMD starts an EPMD that ends with the test.
func StartEPMD(t testing.TB) *EPMD {
	t.Helper()
	e, err := LaunchEPMD("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	return e
}

// LaunchEPMD starts the EPMD of a release, the newest one if otp is empty. The
// caller ends it with Kill.
func LaunchEPMD(otp string) (*EPMD, error) { return LaunchEPMDWith(EPMDOptions{OTP: otp}) }

// LaunchEPMDWith is LaunchEPMD with more to say.
func LaunchEPMDWith(o EPMDOptions) (*EPMD, error) {
	e := &EPMD{Port: o.Port, opts: o}
	if e.Port == 0 {
		var err error
		if e.Port, err = freePort(); err != nil {
			return nil, err
		}
	}
	if err := e.Restart(); err != nil {
		return nil, err
	}
	return e, nil
}

// command runs epmd with arguments, where it is to run.
func (e *EPMD) command(args ...string) (*exec.Cmd, error) {
	path, err := tool(e.opts.OTP, "epmd")
	if err != nil {
		return nil, err
	}
	cmd := prefixed(e.opts.Prefix, path, append([]string{"-port", strconv.Itoa(e.Port)}, args...)...)
	cmd.Env = baseEnv(os.TempDir())
	return cmd, nil
}

// prefixed is exec.Command with words before it.
func prefixed(prefix []string, path string, args ...string) *exec.Cmd {
	line := slices.Concat(prefix, []string{path}, args)
	return exec.Command(line[0], line[1:]...)
}

// Addr is where the daemon listens, as host:port.
func (e *EPMD) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(e.Port)) }

// Env is what a process needs in its environment to use this EPMD.
func (e *EPMD) Env() []string {
	return []string{"ERL_EPMD_PORT=" + strconv.Itoa(e.Port), "ERL_EPMD_ADDRESS=127.0.0.1"}
}

// Setenv makes the test process use this EPMD until the test ends. Like
// t.Setenv it excludes parallel tests.
func (e *EPMD) Setenv(t testing.TB) {
	for _, kv := range e.Env() {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
}

// Kill ends the daemon by SIGKILL and waits for its end. Nodes live on.
func (e *EPMD) Kill() {
	if e.proc != nil {
		e.proc.kill()
	}
}

// Stop ends the daemon by SIGTERM and waits for its end.
func (e *EPMD) Stop() {
	if e.proc != nil && e.proc.signal(syscall.SIGTERM) == nil {
		<-e.proc.done
	}
}

// Freeze stops the daemon (SIGSTOP): it accepts connections, by its backlog,
// and never answers.
func (e *EPMD) Freeze() error { return e.proc.signal(syscall.SIGSTOP) }

// Thaw continues a frozen daemon.
func (e *EPMD) Thaw() error { return e.proc.signal(syscall.SIGCONT) }

// Restart starts the daemon again on the same port, after a Kill if it still
// runs, and returns when it answers. It knows no names then; running nodes
// register again by themselves, each after its own pause of seconds.
func (e *EPMD) Restart() error {
	e.Kill()
	args := []string{"-relaxed_command_check"}
	if e.opts.Address != "any" {
		args = append(args, "-address", cmp.Or(e.opts.Address, "127.0.0.1"))
	}
	cmd, err := e.command(args...)
	if err != nil {
		return err
	}
	if e.proc, err = startProcess(cmd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return poll(ctx, func() (bool, error) {
		if !e.proc.alive() {
			return false, fmt.Errorf("start epmd on port %d: it exited: %v", e.Port, e.proc.err)
		}
		_, err := e.Names()
		return err == nil, nil
	})
}

// Names asks the daemon which nodes are registered, by the part of their names
// before the @, with their distribution ports.
func (e *EPMD) Names() (map[string]int, error) {
	if len(e.opts.Prefix) > 0 {
		return e.namesThere()
	}
	conn, err := net.DialTimeout("tcp", e.Addr(), 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("ask epmd for names: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte{0, 1, 'n'}); err != nil {
		return nil, fmt.Errorf("ask epmd for names: %w", err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		return nil, fmt.Errorf("read names from epmd: %w", err)
	}
	if len(b) < 4 || int(binary.BigEndian.Uint32(b)) != e.Port {
		return nil, fmt.Errorf("read names from epmd: unexpected answer %q", b)
	}
	return parseNames(b[4:]), nil
}

// namesThere asks a daemon that runs elsewhere from there.
func (e *EPMD) namesThere() (map[string]int, error) {
	cmd, err := e.command("-names")
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask epmd for names: %w", err)
	}
	return parseNames(out), nil
}

func parseNames(text []byte) map[string]int {
	names := map[string]int{}
	for line := range bytes.Lines(text) {
		var name string
		var port int
		if _, err := fmt.Sscanf(string(line), "name %s at port %d", &name, &port); err == nil {
			names[name] = port
		}
	}
	return names
}

// WaitNames waits until the registered names fulfil a condition.
func (e *EPMD) WaitNames(ctx context.Context, ok func(map[string]int) bool) error {
	return poll(ctx, func() (bool, error) {
		names, err := e.Names()
		return err == nil && ok(names), nil
	})
}

// poll calls f every few milliseconds until it says done or the context ends.
func poll(ctx context.Context, f func() (bool, error)) error {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for condition: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// freePort asks the kernel for a TCP port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// shared is the EPMD of the nodes that were started without one. It runs while
// at least one of them exists.
var shared struct {
	mu    sync.Mutex
	epmd  *EPMD
	users int
}

// acquireShared returns the shared EPMD, starting it for the first user.
func acquireShared(otp string) (*EPMD, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users == 0 {
		e, err := LaunchEPMD(otp)
		if err != nil {
			return nil, err
		}
		shared.epmd = e
	}
	shared.users++
	return shared.epmd, nil
}

// releaseShared ends the shared EPMD after its last user.
func releaseShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users--; shared.users == 0 {
		shared.epmd.Kill()
		shared.epmd = nil
	}
}
