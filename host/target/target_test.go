package target_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

// rig is a Manager with a hidden node of its own, and what it published.
type rig struct {
	*target.Manager
	node *node.Node
	bus  *events.Bus
	stop func() // detaches and waits; also done by the test's cleanup
}

func newRig(t testing.TB, change func(*target.Config)) *rig {
	t.Helper()
	n, err := node.New(node.Config{Name: fmt.Sprintf("debughost-%x@localhost", time.Now().UnixNano()&0xffffffffff)})
	require.NoError(t, err)
	r := &rig{node: n, bus: events.New(events.Options{})}
	cfg := target.Config{
		Member: "m1", Node: n, BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
		Cookie:  func(string) (dist.Cookie, error) { return dist.Cookie{}, fmt.Errorf("no cookie set") },
		Publish: func(e events.Event) { r.bus.Publish(e) },
	}
	change(&cfg)
	r.Manager = target.New(cfg)
	nctx, stopNode := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	var nodes, managers sync.WaitGroup
	nodes.Go(func() { _ = n.Run(nctx) })
	managers.Go(func() { _ = r.Run(ctx) })
	r.stop = sync.OnceFunc(func() {
		cancel()
		managers.Wait()
		stopNode()
		nodes.Wait()
	})
	t.Cleanup(r.stop)
	return r
}

// cookies gives every node its own cookie.
func cookies(beams ...*erltest.Beam) func(*target.Config) {
	return func(c *target.Config) {
		c.Cookie = func(name string) (dist.Cookie, error) {
			for _, b := range beams {
				if b.Name == name || strings.HasPrefix(name, strings.Split(b.Name, "@")[0]+"@") {
					return dist.NewCookie(b.Cookie), nil
				}
			}
			return dist.Cookie{}, fmt.Errorf("no cookie for %s", name)
		}
	}
}

// addr is where a node listens, as discovery would say.
func addr(t testing.TB, b *erltest.Beam) string {
	t.Helper()
	names, err := b.EPMD.Names()
	require.NoError(t, err)
	alive, _, _ := strings.Cut(b.Name, "@")
	require.Contains(t, names, alive)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(names[alive]))
}

func found(t testing.TB, beams ...*erltest.Beam) []target.Found {
	t.Helper()
	var out []target.Found
	for _, b := range beams {
		out = append(out, target.Found{Node: b.Name, Addr: addr(t, b)})
	}
	return out
}

// attach attaches a new rig to the nodes.
func attach(t testing.TB, change func(*target.Config), beams ...*erltest.Beam) *rig {
	t.Helper()
	r := newRig(t, func(c *target.Config) {
		cookies(beams...)(c)
		if change != nil {
			change(c)
		}
	})
	r.SetFound("test", found(t, beams...))
	for _, b := range beams {
		r.await(t, b.Name, target.Attached)
	}
	return r
}

// await waits for an event after which the target is in the state, and returns
// what is known of it then.
func (r *rig) await(t testing.TB, name string, want target.State) target.Info {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	look := func() (target.Info, bool) {
		all := r.Targets()
		i := slices.IndexFunc(all, func(i target.Info) bool { return i.Node == name })
		if i < 0 {
			return target.Info{}, want == ""
		}
		return all[i], all[i].State == want
	}
	for range r.bus.Subscribe(ctx, 0) {
		if info, ok := look(); ok {
			return info
		}
	}
	info, ok := look()
	if !ok {
		t.Fatalf("%s did not become %q; it is %+v; events: %+v", name, want, info, r.bus.History(events.Filter{}))
	}
	return info
}

// rows is a Sink that keeps everything.
type rows struct {
	all    []target.Process
	failed []target.NodeError
}

func (r *rows) Rows(p []target.Process) error   { r.all = append(r.all, p...); return nil }
func (r *rows) Failed(e target.NodeError) error { r.failed = append(r.failed, e); return nil }

func (r *rig) ps(t testing.TB, q target.ProcessQuery) *rows {
	t.Helper()
	var out rows
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, r.Processes(ctx, q, &out))
	return &out
}

func TestAttach(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, nil, b)
		info := r.await(t, b.Name, target.Attached)
		require.Equal(t, otp, info.OTPRelease)
		require.Equal(t, "m1", info.Owner)
		require.Empty(t, info.Reason)
		require.NotZero(t, info.Creation)
		require.Equal(t, "[]", b.MustEval(t, "nodes()"), "we must not be visible")
		require.Equal(t, "['"+r.node.Name()+"']", b.MustEval(t, "nodes(hidden)"))
		r.stop()
		b.Await(t, "nodes(hidden)", "[]")
	})
}

func TestWrongCookie(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := newRig(t, func(c *target.Config) {
		c.Cookie = func(string) (dist.Cookie, error) { return dist.NewCookie("guess"), nil }
	})
	r.SetFound("test", found(t, b))
	info := r.await(t, b.Name, target.Refused)
	require.Equal(t, "wrong cookie", info.Reason)
	require.Contains(t, info.Hint, "cookie_file")
	out := r.ps(t, target.ProcessQuery{})
	require.Len(t, out.failed, 1)
	require.ErrorIs(t, out.failed[0].Err, target.ErrNotAttached)
	require.NotContains(t, fmt.Sprint(r.bus.History(events.Filter{})), "guess")
}

// TestCookieChanges has the operator mend a wrong cookie: no further attempt is
// made with the wrong one, since each is an error in the node's log.
func TestCookieChanges(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	var cookie atomic.Value
	cookie.Store("guess")
	r := newRig(t, func(c *target.Config) {
		c.BackoffMax = 10 * time.Millisecond
		c.Cookie = func(string) (dist.Cookie, error) { return dist.NewCookie(cookie.Load().(string)), nil }
	})
	alive, _, _ := strings.Cut(b.Name, "@")
	r.SetFound("local", []target.Found{{Node: alive + "@guessed", Addr: addr(t, b), Guessed: true}})
	r.await(t, b.Name, target.Refused)
	r.Retry()
	cookie.Store(b.Cookie)
	r.Retry()
	r.await(t, b.Name, target.Attached)
	complaints := func() int { return strings.Count(b.Log(), "Invalid challenge reply") }
	require.Eventually(t, func() bool { return complaints() > 0 }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, 1, complaints())
}

func TestNoCookie(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := newRig(t, func(*target.Config) {})
	r.SetFound("test", found(t, b))
	info := r.await(t, b.Name, target.Refused)
	require.Contains(t, info.Reason, "no usable cookie")
}

func TestNameNotResolvable(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *target.Config) {
		c.Cookie = func(string) (dist.Cookie, error) { return dist.NewCookie("x"), nil }
	})
	r.SetFound("test", []target.Found{{Node: "shop@no-such-host.invalid"}})
	info := r.await(t, "shop@no-such-host.invalid", target.Unreachable)
	require.Contains(t, info.Reason, "name not resolvable")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := l.Addr().String()
	l.Close()
	r := newRig(t, func(c *target.Config) {
		c.Cookie = func(string) (dist.Cookie, error) { return dist.NewCookie("x"), nil }
	})
	r.SetFound("test", []target.Found{{Node: "shop@localhost", Addr: closed}})
	info := r.await(t, "shop@localhost", target.Unreachable)
	require.Contains(t, info.Reason, "refused")
}

func TestGoneAndBack(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	r := attach(t, nil, b)
	first := r.await(t, b.Name, target.Attached)
	out := r.ps(t, target.ProcessQuery{Limit: 5})
	require.Len(t, out.all, 5)
	old := out.all[0].Pid

	b.Kill()
	info := r.await(t, b.Name, target.Gone)
	require.Contains(t, info.Reason, "closed the connection")
	out = r.ps(t, target.ProcessQuery{})
	require.Len(t, out.failed, 1, "while discovery names it, its silence is an error")

	require.NoError(t, b.Restart(t.Context()))
	r.SetFound("test", found(t, b))
	again := r.await(t, b.Name, target.Attached)
	require.NotEqual(t, first.Creation, again.Creation)

	_, err := r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: old})
	require.ErrorIs(t, err, target.ErrStalePid)
	_, err = r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: old})
	require.ErrorIs(t, err, target.ErrStalePid)

	// A pid that nobody was shown yet: who knows where it comes from.
	pid := strings.Trim(b.MustEval(t, `pid_to_list(spawn(fun() -> receive stop -> ok end end))`), `"`)
	_, err = r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: pid})
	require.ErrorIs(t, err, target.ErrStalePid)
	_, err = r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: pid})
	require.NoError(t, err)
	_, err = r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: pid})
	require.NoError(t, err)
}

func TestGoneIsForgotten(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	r := attach(t, func(c *target.Config) { c.GoneAfter = 50 * time.Millisecond }, b)
	b.Kill()
	r.SetFound("test", nil)
	require.Eventually(t, func() bool { return len(r.Targets()) == 0 }, 30*time.Second, 5*time.Millisecond)
}

func TestDiscoveryErrsAttachedStays(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, nil, b)
	r.SetFound("test", nil)
	out := r.ps(t, target.ProcessQuery{Limit: 3})
	require.Len(t, out.all, 3)
	require.Empty(t, out.failed)
	r.Forget("test") // the operator removed the topology; now it is let go
	b.Await(t, "nodes(hidden)", "[]")
}

func TestFrozen(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{})
	ok := erltest.Start(t, erltest.Options{})
	r := attach(t, func(c *target.Config) { c.CallTimeout = 300 * time.Millisecond }, b, ok)
	require.NoError(t, b.Freeze())
	out := r.ps(t, target.ProcessQuery{Limit: 3})
	require.Len(t, out.all, 3, "the other target answers all the same")
	require.Len(t, out.failed, 1)
	require.Equal(t, b.Name, out.failed[0].Node)
	require.ErrorIs(t, out.failed[0].Err, target.ErrTimeout)
	info := r.await(t, b.Name, target.Unreachable)
	require.Contains(t, info.Reason, "does not answer")
	all := r.ps(t, target.ProcessQuery{Limit: 0})
	require.Greater(t, len(all.all), 30)
	require.Len(t, all.failed, 1)
	require.ErrorIs(t, all.failed[0].Err, target.ErrTimeout)
	require.NoError(t, b.Thaw())
	r.await(t, b.Name, target.Attached)
	out = r.ps(t, target.ProcessQuery{Nodes: []string{b.Name}, Limit: 3, Timeout: 10 * time.Second})
	require.Len(t, out.all, 3)
}

// TestShortTickTime has a node that takes everybody for gone who says nothing
// for four seconds.
func TestShortTickTime(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{NetTickTime: 4 * time.Second})
	r := attach(t, nil, b)
	peer := r.node.Peer(b.Name)
	start := peer.Stats().TicksOut
	require.Eventually(t, func() bool { return peer.Stats().TicksOut >= start+6 }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, peer.Err())
	require.NotContains(t, b.Log(), "not responding")
}

func TestGuessedName(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{Long: true})
	r := newRig(t, cookies(b))
	alive, _, _ := strings.Cut(b.Name, "@")
	guess := target.Found{Node: alive + "@some-other-name", Addr: addr(t, b), Guessed: true}
	r.SetFound("local", []target.Found{guess})
	r.await(t, b.Name, target.Attached)

	// A second topology that knows the right name, and a third that guesses
	// another one, find the same node: it is shown, and attached to, once.
	r.SetFound("list", found(t, b))
	r.SetFound("other", []target.Found{{Node: alive + "@a-third-name", Addr: addr(t, b), Guessed: true}})
	for range 20 {
		r.Retry()
		require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
	}
	require.Len(t, r.Targets(), 1)
	require.Len(t, r.node.Peers(), 1)
	for _, e := range r.bus.History(events.Filter{}) {
		require.NotEqual(t, events.TargetLost, e.Type)
	}
}

// Two strategies name a node at the same moment, by different names: it is dialled
// once. The node would take the first of two connections for one of the past.
func TestTwoStrategiesAtOnce(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	alive, _, _ := strings.Cut(b.Name, "@")
	for range 5 {
		r := newRig(t, cookies(b))
		r.SetFound("local", []target.Found{{Node: alive + "@another-name", Addr: addr(t, b), Guessed: true}})
		r.SetFound("list", found(t, b))
		r.await(t, b.Name, target.Attached)
		require.Eventually(t, func() bool { return len(r.Targets()) == 1 }, 30*time.Second, 5*time.Millisecond)
		require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
		require.Empty(t, r.bus.History(events.Filter{Types: []events.Type{events.TargetLost}}))
		r.stop()
	}
}

func TestTwoHostsOneTarget(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		one, two := attach(t, nil, b), attach(t, nil, b)
		require.Len(t, one.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
		require.Len(t, two.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
		require.Equal(t, loaded, loadedAgents(t, b))
		one.stop()
		require.Len(t, two.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
		two.stop()
		b.Await(t, agents, unloaded)
	})
}

// loadedAgents counts the helper modules on the node, in current or old code,
// and the names that they registered.
func loadedAgents(t testing.TB, b *erltest.Beam) string {
	t.Helper()
	return b.MustEval(t, agents)
}

const (
	agents = `Ours = fun(L) -> length(lists:usort([M || M <- L, lists:prefix("debughost", atom_to_list(M))])) end,
		{Ours(erlang:loaded() ++ [M || {M, _} <- code:all_loaded()]), Ours(registered())}`
	loaded   = "{1,1}"
	unloaded = "{0,0}"
)
