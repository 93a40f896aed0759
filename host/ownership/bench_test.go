package ownership

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkClaim is the way of one node of a lone member from discovery to its
// being ours, and to being known in the registry as attached.
func BenchmarkClaim(b *testing.B) {
	n := newNet(b, "a")
	a := n.all()[0]
	for i := range b.N {
		node := fmt.Sprintf("n%d@h", i)
		n.nodes.up(node, 1)
		a.mgr.find(node, true, false)
		for {
			if mine, _ := a.own.Owned(node); mine {
				break
			}
			time.Sleep(10 * time.Microsecond)
		}
	}
}

// BenchmarkFailover is the time from when a member that owns all nodes is out of
// sight until the two others have them.
func BenchmarkFailover(b *testing.B) {
	for _, nodes := range []int{1, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) { benchmarkFailover(b, nodes) })
	}
}

func benchmarkFailover(b *testing.B, nodes int) {
	n := newNet(b, "a", "b", "c")
	for i := range nodes {
		node := fmt.Sprintf("n%d@h", i)
		n.nodes.up(node, 1)
		for j, m := range n.all() {
			m.mgr.find(node, j == 0, false)
		}
	}
	held := func() bool { // as b sees it
		for i := range nodes {
			if is, _ := n.members["b"].own.Owner(fmt.Sprintf("n%d@h", i)); is != "b" && is != "c" {
				return false
			}
		}
		return true
	}
	for b.Loop() {
		b.StopTimer()
		n.split()
		eventually(b, func() bool { return n.quiet("a") }, "a has all")
		b.StartTimer()
		n.split("a")
		for !held() {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// quiet tells whether this member alone is attached to all nodes.
func (n *network) quiet(name string) bool {
	n.nodes.mu.Lock()
	defer n.nodes.mu.Unlock()
	for _, at := range n.nodes.attached {
		if len(at) != 1 || !at[name] {
			return false
		}
	}
	return len(n.nodes.attached) > 0
}
