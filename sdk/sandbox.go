package sdk

import (
	"context"
	"io"
	"time"
)

// Sandbox runs isolated BEAM nodes. Every method may be called concurrently,
// also for one sandbox. Of a sandbox that is not known, methods fail with
// ErrNotFound.
type Sandbox interface {
	// Create starts a sandbox and returns when it runs. It fails with
	// ErrExists for an id in use, and leaves nothing of one that failed: what there is
	// to say of that is in the error, and is the sandbox's log until it runs.
	Create(ctx context.Context, spec SandboxSpec) (SandboxHandle, error)
	Inspect(ctx context.Context, id string) (SandboxStatus, error)
	// Wait returns when the sandbox has ended, at once if it has already.
	Wait(ctx context.Context, id string) (SandboxExit, error)
	// Stop asks the sandbox to end and kills it after the timeout. It is still
	// known afterwards. To stop a stopped one is not an error.
	Stop(ctx context.Context, id string, timeout time.Duration) error
	// Destroy leaves nothing behind: processes, files, logs. To destroy one
	// that is not known is not an error.
	Destroy(ctx context.Context, id string) error
	// Recover takes over a sandbox that an earlier process of this plugin
	// created. It fails with ErrNotFound if that is gone.
	Recover(ctx context.Context, handle SandboxHandle) error
	// Logs calls emit with each line, until the end or, when following, until
	// ctx ends.
	Logs(ctx context.Context, id string, options LogOptions, emit func(LogLine) error) error
}

// Snapshotter is a Sandbox whose sandboxes can be moved. The plugin reports it
// as CapabilitySnapshot.
type Snapshotter interface {
	Sandbox
	// Snapshot writes the state of a sandbox, which keeps running.
	Snapshot(ctx context.Context, id string, w io.Writer) error
	// Restore starts a sandbox from what Snapshot wrote, as Create does.
	Restore(ctx context.Context, spec SandboxSpec, r io.Reader) (SandboxHandle, error)
}

// Reloader is a Sandbox whose sandboxes take new code while they run. The plugin
// reports it as CapabilityReload.
type Reloader interface {
	Sandbox
	// Reload puts what the spec says in the place of what the sandbox runs, without
	// a restart. Of one that fails, the sandbox runs on as it was, unless the error is an
	// ErrUnsure. The report is JSON, in the strategy's own terms.
	Reload(ctx context.Context, spec SandboxSpec) (report []byte, err error)
}

// Operator is a Sandbox that can do more to its sandboxes than all strategies can:
// what that is, and what goes in and out, is in the strategy's own terms, as JSON.
// The plugin reports it as CapabilityOperate.
type Operator interface {
	Sandbox
	// Operate does one thing to a running sandbox. It fails with ErrUnsupported for
	// an operation that the strategy does not have.
	Operate(ctx context.Context, id, operation string, input []byte) (output []byte, err error)
}

// MaxFailure bounds the errors of Create, Restore and Reload, in bytes: what a compiler
// printed may be in one. Other errors are cut at 8 kB.
const MaxFailure = 96 << 10

// MaxOperation bounds what goes into an operation, what comes out of one, and the
// report of a reload, in bytes.
const MaxOperation = 4 << 20

// SandboxSpec is what to run.
type SandboxSpec struct {
	ID     string
	Config []byte // JSON, in the strategy's own terms
	// Bundle is the absolute path of a file with what the sandbox is made of, a tar
	// archive compressed by gzip, which stays until the call has returned. Empty:
	// there is none.
	Bundle string
	Limits SandboxLimits
	// Orphan is how long the sandbox may run on after both its plugin and the
	// host are gone, for their successors to take it over by Recover. When it has
	// passed, the sandbox is stopped and nothing of it is left. Zero: not at all.
	Orphan time.Duration
}

// SandboxLimits caps what a sandbox may use. Zero means no limit.
type SandboxLimits struct {
	Memory    uint64  // bytes
	CPUs      float64 // 0.5 is half of one
	Processes int     // of the operating system, at one time
	OpenFiles int     // of each process
	Disk      uint64  // bytes in its own directory
}

// SandboxHandle is what the host keeps, so that a later process of the plugin
// finds the sandbox again.
type SandboxHandle struct {
	ID    string
	State []byte // opaque to the host
}

// SandboxState is where a sandbox is in its life.
type SandboxState string

// The states of a sandbox.
const (
	SandboxStarting SandboxState = "starting"
	SandboxRunning  SandboxState = "running"
	SandboxStopping SandboxState = "stopping"
	SandboxExited   SandboxState = "exited"
)

// SandboxStatus is what is known of a sandbox.
type SandboxStatus struct {
	ID         string
	State      SandboxState
	Node       string // full name of its BEAM node, which is a target
	Addr       string // host:port to dial
	CookieFile string
	OSPid      int
	Started    time.Time
	Exit       *SandboxExit // in SandboxExited only
	Memory     uint64       // bytes that it uses now; 0: not known
	// Enforced says by what each limit is held: "memory": "cgroup v2".
	Enforced map[string]string
}

// SandboxExit says how a sandbox ended.
type SandboxExit struct {
	Code        int // of no meaning when Signal is set
	Signal      int // 0 for none
	OutOfMemory bool
	Reason      string // what ended it, where it did not end by itself: "uses more than 64 MB of memory"
	At          time.Time
}

// LogOptions selects the lines of a sandbox's log.
type LogOptions struct {
	Tail   int  // lines from the end to begin with; 0 is all
	Follow bool // go on as lines come
}

// LogLine is one line that a sandbox printed.
type LogLine struct {
	Time   time.Time
	Stream string // stdout or stderr
	Line   []byte // without the line end; valid until emit returns
}
