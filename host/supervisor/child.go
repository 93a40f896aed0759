package supervisor

import (
	"encoding/json"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Spec is what is to be kept running. Its JSON is what is stored and sent.
type Spec struct {
	ID              string            `json:"id,omitempty"`     // 1 to 128 letters, digits and ._-, beginning with a letter or digit
	Strategy        string            `json:"strategy"`         // the sandbox strategy, without "sandbox-": process
	Config          json.RawMessage   `json:"config,omitempty"` // an object, for that strategy
	Limits          sdk.SandboxLimits `json:"limits,omitzero"`
	Restart         sdk.Restart       `json:"restart,omitempty"`          // default permanent
	MaxRestarts     int               `json:"max_restarts,omitempty"`     // default 3; negative: none is tolerated
	MaxRestartsIn   time.Duration     `json:"max_restarts_in,omitempty"`  // default 5 s
	ShutdownTimeout time.Duration     `json:"shutdown_timeout,omitempty"` // from the request to end to the kill; default 5 s
	Placement       string            `json:"placement,omitempty"`        // the placement strategy, without "placement-"; empty: as configured
	Constraints     map[string]string `json:"constraints,omitempty"`      // labels that a member must have
	Near            string            `json:"near,omitempty"`             // a target on whose machine it is to run
	Apart           []string          `json:"apart,omitempty"`            // children that it must not run beside
	Handoff         sdk.Handoff       `json:"handoff,omitempty"`          // default none
	Bundle          string            `json:"bundle,omitempty"`           // id of the blob with what it is made of; empty: none
	Seed            string            `json:"seed,omitempty"`             // id of the blob with a snapshot that each run begins with that begins afresh; empty: none
	Versions        []Version         `json:"versions,omitempty"`         // what Bundle was, oldest first; kept by the supervisor
}

// Version is a bundle that a child has had.
type Version struct {
	Bundle string    `json:"b"`
	At     time.Time `json:"t"` // since when
	Note   string    `json:"n,omitempty"`
}

// State is where a child is in its life.
type State string

// The states of a child.
const (
	Pending  State = "pending"  // waits for a member: Reason says for what
	Starting State = "starting" // assigned; its member starts it
	Running  State = "running"
	Backoff  State = "backoff"  // ended, and is to be started again soon
	Moving   State = "moving"   // on its way to another member
	Stopping State = "stopping" // told to end
	Stopped  State = "stopped"  // by request; its spec is kept
	Exited   State = "exited"   // ended, and its restart type says that is all
	Failed   State = "failed"   // ended too often, or cannot be started: Reason says why
)

// Child is one child as the cluster knows it.
type Child struct {
	Spec     Spec
	State    State
	Reason   string            // why it is in this state; empty when that is plain
	Member   string            // that it is assigned to; empty while pending
	Epoch    uint64            // of the assignment: grows with each
	Restarts int               // since it was started, moved or restarted by request
	Since    time.Time         // of State
	Started  time.Time         // of the run that goes on; zero without one
	OSPid    int               // of the run that goes on
	Node     string            // its BEAM node, where it is one
	Memory   uint64            // bytes; 0: not known
	Enforced map[string]string // by what each of its limits is held
	History  []Entry           // oldest first; bounded
}

// Entry is one line of a child's history.
type Entry struct {
	Time   time.Time        `json:"time"`
	Member string           `json:"member"` // where it happened
	Epoch  uint64           `json:"epoch"`
	What   string           `json:"what"` // placed, started, exited, restarted, failed, stopped, moved, taken_over, …
	Reason string           `json:"reason,omitempty"`
	Exit   *sdk.SandboxExit `json:"exit,omitempty"`
}

// Explanation is what a placement strategy says of a spec.
type Explanation struct {
	Strategy string      // placement-uniform
	Chosen   string      // a member; empty when none can be
	Reason   string      // why none
	Scores   []sdk.Score // one for each member
}

// Count is how many children there are.
type Count struct {
	Total    int
	ByState  map[State]int
	ByMember map[string]int
}
