package sdk

import (
	"context"
	"time"
)

// Placement chooses the member that a child runs on.
type Placement interface {
	// Choose is a function of the request alone, without clock, chance or
	// memory: every member asks and all must get the same answer, whatever the
	// order of the members in the request. It fails with ErrNoQuorum or
	// ErrNoCandidate, wrapped in the reason; Decision.Scores explains those
	// too.
	Choose(ctx context.Context, request PlacementRequest) (Decision, error)
}

// PlacementRequest is the question.
type PlacementRequest struct {
	Child   ChildSpec
	Members []Member // all known ones, also the dead, in any order
	// Previous is where the child runs, or ran until that member was lost; empty
	// when it runs nowhere. While that member may take children, the question is
	// whether the child is to move.
	Previous string
}

// Decision is the answer.
type Decision struct {
	Member string  // one of the request that it does not exclude; empty on an error
	Stop   bool    // with ErrNoQuorum: a child that runs on this side is to be stopped
	Scores []Score // one for each member of the request
}

// Score explains one member's part in a decision.
type Score struct {
	Member   string
	Total    float64            // the highest that is not excluded is chosen
	Parts    map[string]float64 // what Total is made of; MaxParts at most
	Excluded string             // why it could not be chosen; empty when it could
}

// ChildSpec is what the supervisor keeps running.
type ChildSpec struct {
	ID              string
	Strategy        string // of kind sandbox
	Config          []byte // JSON, for that strategy
	Restart         Restart
	MaxRestarts     int // in MaxRestartsIn
	MaxRestartsIn   time.Duration
	ShutdownTimeout time.Duration
	Limits          SandboxLimits
	Constraints     map[string]string // labels that a member must have
	Near            string            // a target: the member has to be on its machine; empty: any
	Apart           []string          // ids of children that must not run on the same member
	Handoff         Handoff
}

// Restart says when a child that ended is started again, in OTP's words.
type Restart string

// The restart types. The zero value means RestartPermanent, as in OTP.
const (
	RestartPermanent Restart = "permanent" // always
	RestartTransient Restart = "transient" // when it ended abnormally
	RestartTemporary Restart = "temporary" // never
)

// Handoff says what a child takes along when it moves.
type Handoff string

// The kinds of handoff. The zero value means HandoffNone.
const (
	HandoffNone     Handoff = "none"
	HandoffSnapshot Handoff = "snapshot"
)

// MemberState is what the cluster thinks of a member.
type MemberState string

// The states of a member.
const (
	MemberAlive   MemberState = "alive"
	MemberSuspect MemberState = "suspect"
	MemberDead    MemberState = "dead"
	MemberLeft    MemberState = "left"
)

// Member is one debughost.
type Member struct {
	Name      string
	State     MemberState
	Resources Resources
	Labels    map[string]string
	Draining  bool     // it takes no children
	Targets   []string // those nodes on its machine that the request's child is to be near
	Children  []string // those of the request's Apart that run there, or are to
}

// Resources is what a member has and uses.
type Resources struct {
	CPUs            int
	Load            float64 // run queue over the last minute, as in uptime(1)
	MemoryTotal     uint64  // bytes
	MemoryAvailable uint64  // bytes
	Children        int     // that run there now; with the request's child, if it does
	// Reserved is what was placed there lately and does not show in the figures
	// above yet.
	Reserved Reserved
}

// Reserved is what children will use, as far as their specs say it.
type Reserved struct {
	Children int
	Memory   uint64 // bytes
	CPUs     float64
}
