package ownership

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	erlnode "github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// TestRealNode has members attach to a real node with real managers: one of them
// at a time, by whatever name they know it, with the name of a process going
// along.
func TestRealNode(t *testing.T) {
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Long: true})
		alive, _, _ := strings.Cut(b.Name, "@")
		ports, err := b.EPMD.Names()
		require.NoError(t, err)
		where := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[alive]))

		n := newNet(t)
		managers := map[string]*target.Manager{}
		var mu sync.Mutex
		n.real = func(m *member) (Targets, func(context.Context)) {
			own, err := erlnode.New(erlnode.Config{Name: fmt.Sprintf("debughost-%s-%x@localhost", m.name, time.Now().UnixNano())})
			require.NoError(t, err)
			mgr := target.New(target.Config{
				Member: m.name, Node: own, Ownership: m.own, BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
				Cookie:  func(string) (dist.Cookie, error) { return dist.NewCookie(b.Cookie), nil },
				Publish: func(e events.Event) { m.bus.Publish(e) },
			})
			mu.Lock()
			managers[m.name] = mgr
			mu.Unlock()
			return mgr, func(ctx context.Context) {
				nctx, stop := context.WithCancel(context.Background())
				var nodes sync.WaitGroup
				nodes.Go(func() { _ = own.Run(nctx) })
				_ = mgr.Run(ctx)
				stop()
				nodes.Wait()
			}
		}
		// Each knows it by another name.
		names := []string{b.Name, alive + "@guess1", alive + "@guess2"}
		for i, name := range []string{"a", "b", "c"} {
			n.start(name)
			managers[name].SetFound("local", []target.Found{{Node: names[i], Addr: where, Guessed: i > 0}})
		}
		owner := func() *member {
			t.Helper()
			var is string
			eventually(t, func() bool {
				is = ""
				for i, m := range n.all() {
					all := m.own.Targets()
					if len(all) != 1 || all[0].Node != b.Name || all[0].State != target.Attached || i > 0 && all[0].Owner != is {
						return false
					}
					is = all[0].Owner
				}
				return true
			}, "one owner: %v", n.all()[0].own.Targets())
			hidden := b.MustEval(t, "nodes(hidden)")
			require.Contains(t, hidden, "debughost-"+is+"-")
			require.Equal(t, 1, strings.Count(hidden, "debughost-"), hidden)
			for _, m := range n.all() {
				if m.name == is {
					return m
				}
			}
			t.Fatalf("the owner %s is not there", is)
			return nil
		}

		first := owner()
		pid := strings.Trim(b.MustEval(t, `P = spawn(fun() -> receive stop -> ok end end), register(leader_process, P), pid_to_list(P)`), `"`)
		e, err := first.own.Register(t.Context(), registry.Claim{Key: "leader", Owner: registry.ByPid(alive, "leader_process", 0)})
		require.NoError(t, err)
		require.Equal(t, pid, e.Owner.Pid)
		require.Equal(t, b.Name, e.Owner.Node)
		first.stop()
		second := owner()
		require.NotEqual(t, first, second)
		n.names(t, second, map[string]string{"leader": second.name})
		second.kill()
		third := owner()
		n.names(t, third, map[string]string{"leader": third.name})
		held, _ := third.reg.Lookup("leader")
		require.Equal(t, e.Claimed, held.Claimed)
		b.MustEval(t, `leader_process ! stop, ok`)
		n.names(t, third, map[string]string{})
	})
}
