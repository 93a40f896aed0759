//go:build soak

package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/erl/erltest"
)

// TestCallsUnderFire makes ten thousand calls at one member, about nodes of which
// others are the owners, while these are killed with -9 and started again every
// few seconds. Each question is answered; each act is done once, or the error says
// that this is unknown.
func TestCallsUnderFire(t *testing.T) {
	t.Parallel()
	l := newLab(t, "a", "b", "c", "d")
	m := l.machines
	c := newCrew(t, l)
	nodes := []*erltest.Beam{node(t, m[1], "one", erltest.Options{}), node(t, m[2], "two", erltest.Options{}), node(t, m[3], "three", erltest.Options{})}
	const calls, acts, workers = 10_000, 1000, 8
	for _, n := range nodes {
		n.MustEval(t, fmt.Sprintf(`[register(list_to_atom("p" ++ integer_to_list(I)), spawn(fun() -> receive stop -> ok end end)) || I <- lists:seq(1, %d)], ok`, acts))
	}
	for _, name := range []int{0, 1, 2} {
		c.start(m[name].name, m[name], m)
	}
	c.settled(nodes)
	client := c.members[0].dial(t)

	stop := make(chan struct{})
	var fire sync.WaitGroup
	kills := 0
	fire.Go(func() {
		for i := 1; ; i = 3 - i { // b, c, b, c, …
			select {
			case <-stop:
				return
			case <-time.After(2500 * time.Millisecond):
			}
			c.members[i].Kill()
			kills++
			select {
			case <-stop:
				return
			case <-time.After(1500 * time.Millisecond):
			}
			c.members[i].again(t)
		}
	})

	var next, answered, done, unknown atomic.Int64
	var slowest atomic.Int64
	var failures sync.Map
	var asking sync.WaitGroup
	for range workers {
		asking.Go(func() {
			for {
				i := next.Add(1)
				if i > calls {
					return
				}
				n := nodes[i%3].Name
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				began := time.Now()
				var err error
				act := i%10 == 0
				if act {
					_, err = client.Processes.KillProcess(ctx, &controlpb.KillProcessRequest{Node: n, Process: fmt.Sprintf("p%d", i/10)})
				} else {
					_, err = client.Processes.InspectProcess(ctx, &controlpb.InspectProcessRequest{Node: n, Process: "code_server"})
				}
				cancel()
				slowest.Store(max(slowest.Load(), int64(time.Since(began))))
				var e *control.Error
				switch {
				case err == nil && act:
					done.Add(1)
				case err == nil:
					answered.Add(1)
				case act && errors.As(err, &e) && e.Code == control.Unreachable:
					unknown.Add(1)
				default:
					failures.Store(i, err)
				}
			}
		})
	}
	asking.Wait()
	close(stop)
	fire.Wait()
	failures.Range(func(i, err any) bool {
		t.Errorf("call %v: %v", i, err)
		return true
	})
	t.Logf("%d members killed; %d questions answered, %d acts done, %d unknown; slowest call %v",
		kills, answered.Load(), done.Load(), unknown.Load(), time.Duration(slowest.Load()).Round(time.Millisecond))
	require.NotZero(t, kills)
	assert.EqualValues(t, calls-acts, answered.Load())

	// What was done was done once, and what is not known was done or not.
	ended := 0
	for i, n := range nodes {
		out := n.MustEval(t, fmt.Sprintf(`length([I || I <- lists:seq(1, %d), whereis(list_to_atom("p" ++ integer_to_list(I))) =:= undefined])`, acts))
		var k int
		_, err := fmt.Sscan(out, &k)
		require.NoError(t, err, i)
		ended += k
	}
	assert.GreaterOrEqual(t, int64(ended), done.Load())
	assert.LessOrEqual(t, int64(ended), done.Load()+unknown.Load())
}
