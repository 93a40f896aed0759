package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/cluster/clustertest"
	"github.com/debughost/debughost/host/events"
)

// memberlist's Shutdown does not wait for a probe whose answer is due.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).handleIndirectPing.func2"),
	)
}

const longEnough = 30 * time.Second

// slowed is set under the race detector, which makes members ten times as busy.
var slowed bool

// member is a cluster that runs.
type member struct {
	*cluster.Cluster
	t      testing.TB
	cfg    cluster.Config
	cancel context.CancelFunc
	done   chan error
	once   sync.Once

	mu   sync.Mutex
	told []events.Event
}

// start runs a member until the test ends.
func start(t testing.TB, cfg cluster.Config) *member {
	t.Helper()
	m := &member{t: t, cfg: cfg, done: make(chan error, 1)}
	cfg.Publish = func(e events.Event) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.told = append(m.told, e)
	}
	if cfg.Epoch == 0 {
		cfg.Epoch = uint64(time.Now().UnixNano())
	}
	if cfg.Version == "" {
		cfg.Version = "v1.2.3"
	}
	if cfg.ID == "" {
		cfg.ID = fmt.Sprintf("%08x", len(cfg.Name))
	}
	c, err := cluster.New(cfg)
	require.NoError(t, err)
	m.Cluster = c
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	go func() { m.done <- c.Run(ctx) }()
	t.Cleanup(m.stop)
	select {
	case <-c.Ready():
	case err := <-m.done:
		m.done <- err
		t.Fatalf("member %s: %v", cfg.Name, err)
	case <-time.After(longEnough):
		t.Fatalf("member %s does not become ready", cfg.Name)
	}
	return m
}

// stop ends a member without a goodbye.
func (m *member) stop() {
	m.once.Do(func() {
		m.cancel()
		select {
		case err := <-m.done:
			require.NoError(m.t, err)
		case <-time.After(longEnough):
			m.t.Errorf("Run of %s does not return", m.cfg.Name)
		}
	})
}

func (m *member) events(types ...events.Type) []events.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []events.Event
	for _, e := range m.told {
		if len(types) == 0 || slices.Contains(types, e.Type) {
			out = append(out, e)
		}
	}
	return out
}

func (m *member) awaitEvent(typ events.Type, about string) events.Event {
	m.t.Helper()
	var found events.Event
	require.Eventually(m.t, func() bool {
		for _, e := range m.events(typ) {
			if e.Fields["member"] == about {
				found = e
				return true
			}
		}
		return false
	}, longEnough, 5*time.Millisecond, "%s hears nothing like %s of %q: %v", m.cfg.Name, typ, about, m.events())
	return found
}

// state is what m believes of a member.
func (m *member) state(name string) cluster.State {
	x, _ := m.Member(name)
	return x.State
}

func (m *member) await(name string, states ...cluster.State) {
	m.t.Helper()
	require.Eventually(m.t, func() bool { return slices.Contains(states, m.state(name)) }, longEnough, 2*time.Millisecond,
		"%s believes that %s is %s, want %s", m.cfg.Name, name, m.state(name), states)
}

// view is what a member believes: names with states.
func (m *member) view() string {
	var out []string
	for _, x := range m.Members() {
		out = append(out, x.Name+" "+string(x.State))
	}
	return strings.Join(out, ", ")
}

// awaitAll waits until all members believe all of them alive, and know nobody
// else.
func awaitAll(t testing.TB, all ...*member) {
	t.Helper()
	awaitView(t, longEnough, all...)
}

func awaitView(t testing.TB, patience time.Duration, all ...*member) {
	t.Helper()
	var names []string
	for _, m := range all {
		names = append(names, m.cfg.Name+" alive")
	}
	slices.Sort(names)
	want := strings.Join(names, ", ")
	deadline := time.Now().Add(patience)
	for _, m := range all {
		for {
			changed := m.Changed()
			if m.view() == want {
				break
			}
			select {
			case <-changed:
			case <-time.After(time.Until(deadline)):
				t.Fatalf("%s sees %q, want %q", m.cfg.Name, m.view(), want)
			}
		}
	}
}

// files is a Store in memory.
type files struct {
	mu     sync.Mutex
	m      map[string][]byte
	broken bool
}

func (f *files) Read(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, ok := f.m[name]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (f *files) Write(name string, b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return errors.New("no space left on device")
	}
	if f.m == nil {
		f.m = map[string][]byte{}
	}
	f.m[name] = b
	return nil
}

func (f *files) text(name string) string {
	b, _ := f.Read(name)
	return string(b)
}

func ring(t testing.TB, keys ...cluster.Key) *cluster.Ring {
	t.Helper()
	r, err := cluster.NewRing(keys...)
	require.NoError(t, err)
	return r
}

// lan starts n members on the loopback network, each of which is told of the
// first.
func lan(t testing.TB, n int) []*member {
	t.Helper()
	key := cluster.NewKey()
	var all []*member
	for i := range n {
		cfg := cluster.Config{Name: fmt.Sprintf("m%d", i), Bind: "127.0.0.1:0", Keys: ring(t, key)}
		if i > 0 {
			cfg.Join = []string{all[0].Addr()}
		}
		all = append(all, start(t, cfg))
	}
	return all
}

// memory starts n members on a network in memory, with addresses 10.0.0.1 and
// so on.
func memory(t testing.TB, net *clustertest.Network, n int) []*member {
	t.Helper()
	return memoryAs(t, net, n, "")
}

func memoryAs(t testing.TB, net *clustertest.Network, n int, p cluster.Profile) []*member {
	t.Helper()
	key := cluster.NewKey()
	var all []*member
	for i := range n {
		all = append(all, start(t, cluster.Config{
			Name: fmt.Sprintf("m%02d", i), Bind: ip(i) + ":7946", Keys: ring(t, key), Network: net.Host(ip(i)),
			Join: []string{ip(0) + ":7946", ip(1) + ":7946"}, Profile: p,
		}))
	}
	return all
}

func ip(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250+1) }
