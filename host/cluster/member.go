// Package cluster is membership: which debughosts there are, how each of them
// does, and a connection to each. It finds members by gossip (memberlist), sees
// a killed one at once by its broken connections, retries lost ones until an
// operator forgets them, and repairs a formation in which a rumour was missed.
//
// It does not know what members tell each other (package link does) nor what
// they agree on (package registry does).
//
//	c, err := cluster.New(cluster.Config{Name: "a", Bind: "10.0.0.1:7946", Keys: ring})
//	go c.Run(ctx)
//	for _, m := range c.Members() { … }
package cluster

import "time"

// State is what this member believes of another one.
type State string

// The states.
const (
	Alive       State = "alive"       // it answers
	Suspect     State = "suspect"     // it missed a probe; others are being asked
	Unreachable State = "unreachable" // its connection broke and cannot be made again; the verdict is due
	Dead        State = "dead"        // the members agree that it does not answer; it is tried again and again
	Left        State = "left"        // it said goodbye
)

// Usable tells whether work may be given to a member in this state.
func (s State) Usable() bool { return s == Alive || s == Suspect }

// Member is one debughost as this one sees it.
type Member struct {
	Name    string // unique in the cluster
	ID      string // 8 hexadecimal digits of its data directory
	Epoch   uint64 // when it started, Unix nanoseconds: tells lives of one name apart
	Addr    string // host:port of its gossip (UDP and TCP) and of its calls (TCP)
	Version string // of debughost
	Machine string // tells which members share a machine; opaque

	State       State
	Since       time.Time // of State
	LastContact time.Time // when it last answered this member; zero: never
	Self        bool
}

// Quorum is whether this member sees a majority.
type Quorum struct {
	Size  int  // members that are known and have neither left nor been forgotten, this one included
	Alive int  // of them usable, this one included
	Need  int  // Size/2 + 1
	Has   bool // Alive >= Need
}
