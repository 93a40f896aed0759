package control

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// Engine does the work behind the API. Its methods are called from many
// goroutines, return soon after their context ends, and return what the caller
// may keep. Errors read "verb object: cause"; one that has Facts is shown with
// them.
type Engine interface {
	TargetEngine
	ProcessEngine
	MemberEngine

	// Events returns the bus of the member, always the same.
	Events() *events.Bus
}

// TargetEngine knows the targets.
type TargetEngine interface {
	// Targets lists those of the whole cluster, with the member that each belongs
	// to as its Owner.
	Targets() []target.Info
}

// ProcessEngine asks the targets that this member is attached to about
// processes. target.Manager is one.
type ProcessEngine interface {
	// Processes hands rows and errors of targets to the sink. The error it
	// returns concerns the whole question, or is the sink's.
	Processes(context.Context, target.ProcessQuery, target.Sink) error
	Inspect(context.Context, target.InspectQuery) (target.ProcessDetail, error)
	Kill(context.Context, target.KillQuery) (target.KillResult, error)
}

// MemberEngine tells of the member itself.
type MemberEngine interface {
	Status() Status
	Plugins() []Plugin
	// Reload returns once the new configuration is in force, or with all that
	// is wrong with it.
	Reload(context.Context) error
}

// Status is the state of a member.
type Status struct {
	Member     string // its name
	Node       string // the name under which it attaches to targets
	Started    time.Time
	ConfigFile string // empty: built-in defaults
	DataDir    string
	Topologies []Topology
	Warnings   []string // what a person should look at, each a sentence
}

// Topology is a named discovery strategy and what it finds.
type Topology struct {
	Name     string
	Strategy string
	State    string // one word
	Reason   string // for a person; empty when all is well
	Nodes    int    // found by its last answer
	Updated  time.Time
}

// Plugin is one plugin process.
type Plugin struct {
	Name     string
	Kind     string // discovery, placement, sandbox
	State    string // one word
	Version  string
	OSPid    int // 0 when there is none
	Reason   string
	Restarts int
	Since    time.Time
}

// Peers is what the server needs to know to pass calls on to other members.
type Peers interface {
	// Self is this member's name.
	Self() string
	// Owner finds the target that a name means, which may be the part before @,
	// and the member that is to attach to it; "" where none is at the moment.
	Owner(node string) (full, member string, err error)
	// Conn returns the connection to a member, which is not the caller's to
	// close. It does not wait for the member to answer.
	Conn(member string) (*grpc.ClientConn, error)
	// Changed returns a channel that is closed when next a member's state, or
	// what Owner says of a target, changes.
	Changed() <-chan struct{}
	// Members lists all, this one included, by name.
	Members() []cluster.Member
}

// ClusterEngine acts on the membership. cluster.Cluster is one.
type ClusterEngine interface {
	Members() []cluster.Member
	Quorum() cluster.Quorum
	// Leave says goodbye to the other members.
	Leave(context.Context) error
	// Forget takes a member that does not run off the list of all members.
	Forget(name string) error
}

// KeyEngine has the cluster keys of this member. Its errors never contain a key.
type KeyEngine interface {
	Keys() []KeyInfo
	// AddKey takes a key as a line of a key file.
	AddKey(text string) (id string, err error)
	// UseKey makes a key that is there the primary one.
	UseKey(id string) error
	// RemoveKey forgets a key that is not the primary one.
	RemoveKey(id string) error
}

// KeyInfo is what may be told of a key.
type KeyInfo struct {
	ID      string
	Primary bool // this member speaks with it
}

// RegistryEngine is the registry of all members, of which this one has a
// replica: what reads does not block. What writes concerns entries whose origin
// this member is, or will be.
type RegistryEngine interface {
	// Register claims a key. An owner that is a process must be on a target that
	// this member is attached to; it comes without a creation, its node may be the
	// part before @, and its pid a registered name.
	Register(context.Context, registry.Claim) (registry.Entry, error)
	Unregister(key string, owner *registry.Owner) (int, error)
	// Update calls f, which must not block, with the present value. What f returns
	// beside an error counts not.
	Update(key string, owner *registry.Owner, f func(old []byte) ([]byte, error)) (registry.Entry, error)
	Renew(lease string, ttl time.Duration) (int, error)

	// All returns the entries of a key, oldest first; of a unique one at most one.
	All(key string) []registry.Entry
	// Keys returns the keys of an owner.
	Keys(registry.Owner) []string
	// Select goes over entries by prefix, in the order of keys.
	Select(prefix string) iter.Seq[registry.Entry]
	// Watch tells a snapshot, its end, and then every change, until ctx ends.
	Watch(ctx context.Context, prefix string) iter.Seq[Change]
	Stats() RegistryStats
}

// ChangeType is what a Change is.
type ChangeType string

// The types of changes.
const (
	Put         ChangeType = "put"
	Delete      ChangeType = "delete"
	SnapshotEnd ChangeType = "snapshot_end" // what there was is told
	Reset       ChangeType = "reset"        // forget what you were told: a snapshot follows
)

// Change is one step of a Watch.
type Change struct {
	Type  ChangeType
	Entry registry.Entry
	Old   *registry.Entry // of a Put in its place
}

// RegistryStats are numbers of the registry's replica and of its messages
// since the start.
type RegistryStats struct {
	Entries   int
	Lag       map[string]uint64 // by origin: changes heard of and not applied
	Sent      uint64            // bytes
	Received  uint64            // bytes
	Messages  uint64            // received
	Repairs   uint64            // gaps that were filled
	Snapshots uint64            // taken in
	Conflicts uint64            // of unique keys
}
