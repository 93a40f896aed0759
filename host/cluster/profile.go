package cluster

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// Profile is a set of timings for a kind of network.
type Profile string

// The profiles. Deaths are found in the times given here, at two to five
// members; they grow with the logarithm of the cluster's size.
const (
	Local Profile = "local" // one machine: rumours travel in half the time of LAN; a death in 3 s
	LAN   Profile = "lan"   // the default: a death in 3 s, no false one under full load
	WAN   Profile = "wan"   // between sites: 40 s, and packets may take seconds
	Fast  Profile = "fast"  // 1 s, and false deaths on a machine under full load
)

// Profiles returns all there are.
func Profiles() []Profile { return []Profile{Local, LAN, WAN, Fast} }

// timings are those of our own that memberlist does not have.
type timings struct {
	dial    time.Duration // how long a gossip stream may take to connect
	recheck time.Duration // how long a member may take to accept a connection before it is unreachable
	lost    time.Duration // pause between two attempts to join a lost member
	repair  time.Duration // shortest pause between two repairs of a formation
}

func (p Profile) timings() timings {
	t := timings{dial: time.Second, recheck: 250 * time.Millisecond, lost: 2 * time.Second, repair: 500 * time.Millisecond}
	if p == WAN {
		t.dial, t.recheck = 5*time.Second, 2*time.Second
	}
	return t
}

// memberlist returns memberlist's own configuration.
func (p Profile) memberlist() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.TCPTimeout = 5 * time.Second
	c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 4, 1
	c.GossipInterval = 100 * time.Millisecond
	c.HandoffQueueDepth = 4096
	switch p {
	case Local:
		c.GossipInterval = 50 * time.Millisecond
	case Fast:
		c.ProbeInterval, c.ProbeTimeout = 150*time.Millisecond, 75*time.Millisecond
		c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
		c.GossipInterval = 40 * time.Millisecond
		c.PushPullInterval = 10 * time.Second
	case WAN:
		c.TCPTimeout = 15 * time.Second
		c.ProbeInterval, c.ProbeTimeout = 5*time.Second, 3*time.Second
		c.SuspicionMult, c.SuspicionMaxTimeoutMult = 6, 6
		c.GossipNodes, c.GossipInterval = 4, 500*time.Millisecond
		c.PushPullInterval = time.Minute
		c.GossipToTheDeadTime = time.Minute
	}
	// Packets fit into one frame uncompressed, and compressing costs more than
	// what it saves.
	c.EnableCompression = false
	c.DeadNodeReclaimTime = time.Millisecond // 0 would mean never
	return c
}
