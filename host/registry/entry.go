// Package registry is one map from keys to values and owners that all members
// share. Every entry belongs to the member that registered it, its origin,
// which numbers its changes; every member holds a replica of all, so that reads
// are local. Two claims to one unique key are resolved alike everywhere, and
// the loser is told.
//
// Of two claims to a key the older one wins, by hybrid logical clock; but one that
// a majority agreed to before one that nobody was asked about, and who claims a
// key alone before those who share it.
//
// Nothing is on disk, and there are no tombstones: a replica that knows an
// origin's changes up to a number asks for those behind it, or takes a whole copy.
// When a member restarts, its entries are gone; its peers can tell it what it had.
//
// The core is a pure state machine: it has no clock and does no I/O. Registry
// is the thin shell around it that has both. The package does not know how
// bytes travel (Config.Send does), nor which members there are (SetMembers says
// so).
//
//	r := registry.New(registry.Config{Member: "a", Epoch: epoch, Send: link.Send})
//	go r.Run(ctx)
//	e, err := r.Register(ctx, registry.Claim{Key: "leader", Owner: registry.ByMember("a")})
package registry

import "time"

// OwnerKind says what an entry lives as long as.
type OwnerKind string

// The kinds of owners.
const (
	OwnerPid    OwnerKind = "pid"    // a BEAM process: the name goes when it dies
	OwnerChild  OwnerKind = "child"  // a child of the supervisor
	OwnerMember OwnerKind = "member" // this life of the origin
	OwnerLease  OwnerKind = "lease"  // a client that renews it within its TTL
)

// Owner is who holds an entry. It is comparable. Only the fields of its kind
// are set.
type Owner struct {
	Kind     OwnerKind
	Node     string // of a pid: shop@db1
	Pid      string // <0.123.0>
	Creation uint32 // of the node's incarnation that the pid belongs to
	Child    string // the child's id
	Member   string
	Lease    string // the lease's id
}

// Consistency says when a registration is answered.
type Consistency string

// The levels.
const (
	Local  Consistency = "local"  // at once; a conflict is resolved afterwards
	Quorum Consistency = "quorum" // when a majority has the claim and nobody older is known
)

// Claim asks for a key.
type Claim struct {
	Key         string // 1 to 512 bytes, printable UTF-8
	Value       []byte // at most 64 KiB; JSON where the API made it
	Owner       Owner
	Duplicate   bool          // many owners may share the key
	TTL         time.Duration // of a lease: how long it lives without being renewed
	Consistency Consistency   // default Local
	Force       bool          // register without a quorum where one is asked for
	// Claimed, where it is not zero, is when the owner first claimed the key, as
	// Entry.Claimed had it: who takes an entry over from a member that is gone
	// keeps its age.
	Claimed uint64
}

// Entry is one registration.
type Entry struct {
	Key       string
	Value     []byte // shared: do not change it
	Owner     Owner
	Origin    string // the member that it belongs to
	Duplicate bool
	TTL       time.Duration
	Claimed   uint64    // hybrid logical clock of the claim, Unix nanoseconds: the older one wins
	Since     time.Time // Claimed as wall clock
}
