package keeper

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/debughost/debughost/sdk"
)

// catSelf prints how a command began.
var catSelf = []string{"cat", "/proc/self/status", "/proc/self/limits", "/proc/self/oom_score_adj"}

func requireMark(t *testing.T, c *Client, id string) {
	t.Helper()
	r, err := loadRecord(childDir(c.o.Dir, id))
	require.NoError(t, err)
	require.Regexp(t, fmt.Sprintf(`Max file locks +%d +%[1]d `, r.Mark), logOf(t, c, id))
}

// Whichever way a command is started, it begins with the same: its mark before
// its first instruction, no tracer, nothing blocked, no way to other privileges.
func TestBeginsAlike(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		create(t, c, Spec{ID: "a", Command: catSelf})
		require.Zero(t, wait(t, c, "a").Code, logOf(t, c, "a"))
		log := logOf(t, c, "a")
		for _, want := range []string{
			"SigBlk:\t0000000000000000\n", "TracerPid:\t0\n", "NoNewPrivs:\t1\n", "CapAmb:\t0000000000000000\n",
			"out:" + strconv.Itoa(oomScore) + "\n",
		} {
			require.Contains(t, log, want)
		}
		requireMark(t, c, "a")
	})
}

// Where a filter of system calls forbids tracing, commands are started all the
// same, and what is known of them says so.
func TestTracingForbidden(t *testing.T) {
	c := newClient(t, nil)
	done := make(chan error)
	go func() { // its thread ends with it
		runtime.LockOSThread()
		err := forbid(unix.SYS_PTRACE)
		if err == nil {
			_, err = c.Create(t.Context(), sh("a", "exec sleep 1000")) // starts the keeper
		}
		done <- err
	}()
	require.NoError(t, <-done)
	st, err := c.Inspect(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, sdk.SandboxRunning, st.State)
	require.Contains(t, st.Enforced["tree"], "launcher (tracing: operation not permitted)")
	_, err = c.Create(t.Context(), Spec{ID: "b", Command: []string{"/dev/null"}})
	require.ErrorContains(t, err, "permission denied")
}

// forbid has a system call fail, for this thread and what it starts.
func forbid(call uint32) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // its number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Somebody who looks at the keeper with strace -f traces what it forks, so that
// it cannot. That keeps no command from being started.
func TestKeeperIsTraced(t *testing.T) {
	c := newClient(t, nil)
	create(t, c, sh("first", "exit 0"))
	wait(t, c, "first")
	stop := traceAll(t, keeperPid(c.o.Dir))
	create(t, c, Spec{ID: "a", Command: catSelf})
	require.Zero(t, wait(t, c, "a").Code)
	stop()
	requireMark(t, c, "a")
	create(t, c, sh("b", "exit 4"))
	require.Equal(t, 4, wait(t, c, "b").Code)
}

const standInTracerEnv = "KEEPER_TEST_TRACER"

// traceAll has a process trace all threads of another and what they fork, until
// stop: what strace -f does.
func traceAll(t *testing.T, pid int) (stop func()) {
	t.Helper()
	tracer := exec.Command(os.Args[0])
	tracer.Env = append(os.Environ(), standInTracerEnv+"="+strconv.Itoa(pid))
	out, err := tracer.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, tracer.Start())
	stop = sync.OnceFunc(func() {
		_ = tracer.Process.Kill()
		_ = tracer.Wait()
	})
	t.Cleanup(stop)
	said, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "<nil>\n", said)
	return stop
}

// standInTracer is that process. It says when it traces, and ends by a kill.
func standInTracer() bool {
	pid, err := strconv.Atoi(os.Getenv(standInTracerEnv))
	if err != nil {
		return false
	}
	runtime.LockOSThread()
	fmt.Println(seizeAll(pid))
	for {
		var status syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &status, syscall.WALL, nil)
		if err == syscall.ECHILD {
			return true
		}
		if err == nil && status.Stopped() {
			signal := int(status.StopSignal())
			if status>>16 != 0 { // an event, such as a fork
				signal = 0
			}
			_ = syscall.PtraceCont(tid, signal)
		}
	}
}

func seizeAll(pid int) error {
	const options = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, _ := strconv.Atoi(task.Name())
		if _, _, errno := syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, options, 0, 0); errno != 0 {
			return errno
		}
	}
	return nil
}
