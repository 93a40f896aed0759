//go:build unix

// Package launch is the step between the fork of a process and its command: a
// process of this program that limits itself and then becomes the command, so
// that the command has not run one instruction without its limits. Setting
// them from outside would come too late for what forks at once, and Go can set
// none between fork and exec.
//
// It has no function to call for that. A program that imports it, and is
// started under Name, does it while it initialises, before the packages that
// take the time: three milliseconds, where a main function would begin after
// seven. It is the way where a command may not be limited from outside before
// its first instruction, by tracing it, which takes a tenth of that.
package launch

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Name is the zeroth argument of such a process.
const Name = "debughost-launch"

const (
	// resultFD is where it says why there is no command. It closes with the start
	// of the command, and then nothing was said.
	resultFD = 3
	// statusFD is where the init of a view says how the command has ended: the
	// system's number for that, in decimal digits.
	statusFD = 4
)

// Limit is a resource limit by the system's number for it.
type Limit struct {
	Resource int
	Value    uint64
}

// Job is what to become.
type Job struct {
	Path   string   // of the program
	Args   []string // with the zeroth
	Env    []string // of the process
	Limits []Limit  // soft and hard
	// OOMScore is added to the score by which the kernel chooses whom to kill
	// when the machine is out of memory.
	OOMScore int
	// Group is a file to write 0 to, to join a cgroup; empty is none.
	Group string
	// View has the process be the init of namespaces that it was started in, and start
	// the command as its child. Without a path it ends when it has made the view.
	View *View
}

// View is what is in the root of a command; see init_linux.go.
type View struct {
	Root      string // a directory to mount it on
	NoNetwork bool   // it has a network namespace, whose loopback is to be set up
	Dir       string // working directory of the command
	Mounts    []string
}

// The first byte of one of View.Mounts, before a path that is to be shown, says how; of
// two paths of which one is in the other, that one comes last.
const (
	ReadOnly = 'r'
	Writable = 'w'
	AsTmp    = 't' // writable, as /tmp
)

// The first byte before View.Root.
const (
	network   = 'n'
	noNetwork = '-'
)

// Argv is the arguments of the process that does the job. Its descriptor 3 has
// to be the writing end of a pipe whose other end Result reads, and 4, with a view,
// that of another, for Status.
func (j Job) Argv() []string {
	settings := []string{"oom=" + strconv.Itoa(j.OOMScore)}
	for _, l := range j.Limits {
		settings = append(settings, strconv.Itoa(l.Resource)+"="+strconv.FormatUint(l.Value, 10))
	}
	argv := []string{Name, strings.Join(settings, ","), j.Group}
	if v := j.View; v == nil {
		argv = append(argv, "0")
	} else {
		root := string(network) + v.Root
		if v.NoNetwork {
			root = string(noNetwork) + v.Root
		}
		argv = append(append(argv, strconv.Itoa(2+len(v.Mounts)), root, v.Dir), v.Mounts...)
	}
	return append(append(argv, j.Path), j.Args...)
}

// Error says at which step a launch failed.
type Error struct {
	Step  string // "exec"
	Cause error  // a syscall.Errno
}

func (e *Error) Error() string { return e.Step + ": " + e.Cause.Error() }
func (e *Error) Unwrap() error { return e.Cause }

// Result is what the pipe had to say: nil when the command runs, or ran.
func Result(said []byte) error {
	if len(said) == 0 {
		return nil
	}
	step, number, _ := bytes.Cut(said, []byte{0})
	errno, err := strconv.Atoi(string(number))
	if err != nil || errno == 0 {
		return errors.New("launch: it ended without a word that makes sense")
	}
	return &Error{Step: string(step), Cause: syscall.Errno(errno)}
}

// Status is what the other pipe had to say, if that makes sense.
func Status(said []byte) (syscall.WaitStatus, bool) {
	status, err := strconv.ParseUint(string(said), 10, 16)
	return syscall.WaitStatus(status), err == nil
}

func init() {
	if len(os.Args) < 5 || os.Args[0] != Name {
		return
	}
	runtime.LockOSThread() // some of what follows is a thread's
	syscall.CloseOnExec(resultFD)
	n, _ := strconv.Atoi(os.Args[3])
	view, command := os.Args[4:4+n], os.Args[4+n:]
	if n > 0 {
		syscall.CloseOnExec(statusFD)
	}
	step, err := become(os.Args[1], os.Args[2], view, command[0], command[1:])
	if err == nil { // a view without a command
		os.Exit(0)
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = syscall.EINVAL
	}
	_, _ = syscall.Write(resultFD, append([]byte(step), append([]byte{0}, strconv.Itoa(int(errno))...)...))
	os.Exit(127)
}

// become returns when it fails, with the step that did, or when there is no command.
func become(settings, group string, view []string, path string, args []string) (string, error) {
	if group != "" {
		if err := write(group, "0"); err != nil {
			return "join cgroup", err
		}
	}
	for _, setting := range strings.Split(settings, ",") {
		key, value, _ := strings.Cut(setting, "=")
		if err := set(key, value); err != nil {
			return "limit " + key, err
		}
	}
	if len(view) > 0 {
		return serveView(append(view[:1:1], view[2:]...), view[1], path, args)
	}
	if err := confine(); err != nil {
		return "confine", err
	}
	return "exec", syscall.Exec(path, args, os.Environ())
}

func set(key, value string) error {
	if key == "oom" {
		return setOOMScore(value)
	}
	resource, err := strconv.Atoi(key)
	if err != nil {
		return err
	}
	limit, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return err
	}
	return setLimit(resource, limit)
}

func write(file, text string) error {
	fd, err := syscall.Open(file, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(text))
	return err
}
