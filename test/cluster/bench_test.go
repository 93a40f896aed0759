package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// dial connects to a member's API as a program does that stays.
func (p *member) dial(t testing.TB) *control.Client {
	t.Helper()
	var c *control.Client
	p.Eventually(t, func() (err error) {
		c, err = control.Dial(t.Context(), filepath.Join(p.Dir, "api.sock"))
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// await polls a member until it sees the other ones so, and returns when.
func await(t testing.TB, c *control.Client, ok func(state map[string]string) bool) time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		res, err := c.Cluster.ListMembers(ctx, &controlpb.ListMembersRequest{})
		require.NoError(t, err)
		state := map[string]string{}
		for _, m := range res.GetMembers() {
			state[m.GetName()] = m.GetState()
		}
		if ok(state) {
			return time.Now()
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("sees %v", state)
		}
	}
}

func alive(n int) func(map[string]string) bool {
	return func(state map[string]string) bool {
		for _, s := range state {
			if s != "alive" {
				return false
			}
		}
		return len(state) == n
	}
}

// BenchmarkFormation starts the last member, or all at once, and measures from
// its start until all see all, the start of its process included.
func BenchmarkFormation(b *testing.B) {
	for _, n := range []int{2, 5} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			var names []string
			for i := range n {
				names = append(names, string(rune('a'+i)))
			}
			var total time.Duration
			for range b.N {
				l := newLab(b, names...)
				c := newCrew(b, l)
				began := time.Now()
				if n == 2 {
					c.start("a", l.machines[0], nil)
					began = time.Now()
					c.launch("b", l.machines[1], nil)
				} else {
					for _, m := range l.machines {
						c.launch(m.name, m, nil)
					}
				}
				for _, p := range c.members {
					await(b, p.dial(b), alive(n))
				}
				total += time.Since(began)
				for _, p := range c.members {
					p.Kill()
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms")
		})
	}
}

// BenchmarkDetection kills or freezes one of three and measures until both
// others see it so.
func BenchmarkDetection(b *testing.B) {
	for _, tc := range []struct {
		name   string
		signal syscall.Signal
		states []string
	}{
		{"kill/unreachable", syscall.SIGKILL, []string{"unreachable", "dead"}},
		{"kill/dead", syscall.SIGKILL, []string{"dead"}},
		{"freeze/dead", syscall.SIGSTOP, []string{"dead"}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			var total, worst time.Duration
			for range b.N {
				l := newLab(b, "a", "b", "c")
				c := newCrew(b, l)
				for _, m := range l.machines {
					c.start(m.name, m, nil)
				}
				one, two := c.members[0].dial(b), c.members[1].dial(b)
				await(b, one, alive(3))
				await(b, two, alive(3))
				began := time.Now()
				require.NoError(b, c.members[2].Cmd.Process.Signal(tc.signal))
				gone := func(state map[string]string) bool {
					for _, s := range tc.states {
						if state["c"] == s {
							return true
						}
					}
					return false
				}
				await(b, one, gone)
				took := await(b, two, gone).Sub(began)
				total += took
				worst = max(worst, took)
				for _, p := range c.members {
					p.Kill()
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms")
			b.ReportMetric(float64(worst.Milliseconds()), "ms-worst")
		})
	}
}
