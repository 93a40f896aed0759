package ownership

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds what a test waits for; nothing is asserted about how long it takes.
const soon = 30 * time.Second

func eventually(t testing.TB, what func() bool, msg string, args ...any) {
	t.Helper()
	require.Eventually(t, what, soon, 2*time.Millisecond, append([]any{msg}, args...)...)
}

// net joins members' registries, and their nodes, in one process.
type network struct {
	t     testing.TB
	nodes *beams
	// real, if it is set, makes a member's targets instead of a manager of
	// nodes that are words.
	real func(*member) (targets Targets, run func(context.Context))

	mu      sync.Mutex
	members map[string]*member
	parts   map[string]int // of the network; 0 at first
	epochs  map[string]uint64
}

// member is one debughost, as far as this package sees it.
type member struct {
	name string
	net  *network
	reg  *registry.Registry
	own  *Ownership
	mgr  *manager
	bus  *events.Bus
	in   chan message
	stop func() // leaves in peace
	kill func() // says nothing to anybody
}

type message struct {
	from string
	body []byte
}

func newNet(t testing.TB, names ...string) *network {
	n := &network{t: t, nodes: newBeams(), members: map[string]*member{}, parts: map[string]int{}, epochs: map[string]uint64{}}
	for _, name := range names {
		n.start(name)
	}
	return n
}

func (n *network) start(name string) *member {
	m := &member{name: name, net: n, in: make(chan message, 4096)}
	epoch := uint64(time.Now().UnixNano())
	m.bus = events.New(events.Options{Member: name})
	m.reg = registry.New(registry.Config{
		Member: name, Epoch: epoch, Send: func(to string, msg []byte) bool { return n.send(name, to, msg) },
		OnConflict:  func(c registry.NameConflict) { m.own.Conflict(c) },
		OnAdoptable: func(e []registry.Entry) { m.own.Adopt(e) },
	})
	m.own = New(Config{Member: name, Registry: m.reg, Members: func() []cluster.Member { return n.list(name) }, Publish: func(e events.Event) { m.bus.Publish(e) }})
	m.mgr = &manager{member: name, own: m.own, nodes: n.nodes, targets: map[string]*fake{}, wake: make(chan struct{}, 1)}
	var targets Targets = m.mgr
	run := m.mgr.run
	if n.real != nil {
		targets, run = n.real(m)
	}
	m.own.Use(targets)
	ctx, cancel := context.WithCancel(context.Background())
	mctx, stopManager := context.WithCancel(ctx)
	octx, stopOwnership := context.WithCancel(ctx)
	var managers, ownership, rest sync.WaitGroup
	managers.Go(func() { run(mctx) })
	ownership.Go(func() { _ = m.own.Run(octx) })
	rest.Go(func() { _ = m.reg.Run(ctx) })
	rest.Go(func() {
		for {
			select {
			case msg := <-m.in:
				_ = m.reg.Receive(msg.from, msg.body)
			case <-ctx.Done():
				return
			}
		}
	})
	end := func(peace bool) {
		if !peace {
			n.mu.Lock()
			n.parts[name] = -1
			n.mu.Unlock()
		}
		stopManager()
		managers.Wait()
		stopOwnership()
		ownership.Wait()
		if peace {
			m.sent(n)
		}
		n.mu.Lock()
		if n.members[name] == m {
			delete(n.members, name)
			if peace {
				delete(n.parts, name) // it has left
			}
		}
		n.mu.Unlock()
		cancel()
		rest.Wait()
		n.regroup()
	}
	var once sync.Once
	m.stop = func() { once.Do(func() { end(true) }) }
	m.kill = func() { once.Do(func() { end(false) }) }
	n.t.Cleanup(m.kill)
	n.mu.Lock()
	n.members[name], n.parts[name], n.epochs[name] = m, 0, epoch
	n.mu.Unlock()
	n.regroup()
	return m
}

// sent waits until others have heard that the member has no target any more.
func (m *member) sent(n *network) {
	for _, o := range n.all() {
		if n.together(o.name, m.name) {
			eventually(n.t, func() bool {
				for e := range o.reg.Select(targetPrefix, nil) {
					if e.Origin == m.name {
						return false
					}
				}
				return true
			}, "%s does not hear that %s leaves", o.name, m.name)
		}
	}
}

func (n *network) all() []*member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Values(n.members), func(a, b *member) int { return cmp.Compare(a.name, b.name) })
}

func (n *network) together(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.parts[a] == n.parts[b]
}

func (n *network) send(from, to string, msg []byte) bool {
	n.mu.Lock()
	m := n.members[to]
	ok := m != nil && n.parts[from] == n.parts[to]
	n.mu.Unlock()
	if !ok {
		return false
	}
	select {
	case m.in <- message{from, msg}:
		return true
	default:
		return false
	}
}

func (n *network) list(self string) []cluster.Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := []cluster.Member{{Name: self, State: cluster.Alive, Self: true}}
	for name := range n.parts {
		if name == self {
			continue
		}
		state := cluster.Alive
		if n.parts[name] != n.parts[self] {
			state = cluster.Dead
		}
		out = append(out, cluster.Member{Name: name, Epoch: n.epochs[name], State: state})
	}
	return out
}

// split puts members into another part of the network; no name: all together.
func (n *network) split(names ...string) {
	n.mu.Lock()
	for name := range n.members {
		n.parts[name] = 0
		if slices.Contains(names, name) {
			n.parts[name] = 1
		}
	}
	n.mu.Unlock()
	n.regroup()
}

func (n *network) regroup() {
	for _, m := range n.all() {
		var peers []registry.Peer
		for _, o := range n.list(m.name) {
			if !o.Self {
				peers = append(peers, registry.Peer{Name: o.Name, Epoch: o.Epoch, Visible: o.State.Usable()})
			}
		}
		m.reg.SetMembers(peers)
		m.own.Look()
	}
}

// owner waits until exactly one of the members is attached to the node and all
// say so, and returns it. Candidates narrow down who it may be.
func (n *network) owner(node string, candidates ...string) *member {
	n.t.Helper()
	var is string
	eventually(n.t, func() bool {
		is = ""
		for _, name := range n.nodes.attachedTo(node) {
			if is != "" {
				return false
			}
			is = name
		}
		if is == "" || len(candidates) > 0 && !slices.Contains(candidates, is) {
			return false
		}
		for _, m := range n.all() {
			if owner, _ := m.own.Owner(node); n.together(m.name, is) && owner != is {
				return false
			}
		}
		return true
	}, "owner of %s among %v: %v", node, candidates, n.nodes)
	for _, m := range n.all() {
		if m.name == is {
			return m
		}
	}
	n.t.Fatalf("%s is attached to %s and is not there", is, node)
	return nil
}

// beams are the BEAM nodes that there are.
type beams struct {
	mu       sync.Mutex
	creation map[string]uint32          // of those that run
	attached map[string]map[string]bool // members by node
	pids     map[string]bool            // node, pid: alive
	downs    map[string]map[*func(string)]bool
}

func newBeams() *beams {
	return &beams{creation: map[string]uint32{}, attached: map[string]map[string]bool{}, pids: map[string]bool{}, downs: map[string]map[*func(string)]bool{}}
}

func (b *beams) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprint(b.attached)
}

func (b *beams) up(node string, creation uint32, pids ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.creation[node] = creation
	for _, p := range pids {
		b.pids[node+p] = true
	}
}

// end ends a process.
func (b *beams) end(node, pid string) {
	b.mu.Lock()
	delete(b.pids, node+pid)
	downs := b.downs[node+pid]
	delete(b.downs, node+pid)
	b.mu.Unlock()
	for f := range downs {
		(*f)("killed")
	}
}

func (b *beams) attachedTo(node string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.attached[node]))
}

func (b *beams) connect(node, member string, on bool) uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.attached[node] == nil {
		b.attached[node] = map[string]bool{}
	}
	if on && b.creation[node] != 0 {
		b.attached[node][member] = true
		return b.creation[node]
	}
	delete(b.attached[node], member)
	return 0
}

// manager does what a target.Manager does, to nodes that are words.
type manager struct {
	member string
	own    *Ownership
	nodes  *beams
	wake   chan struct{}

	mu      sync.Mutex
	targets map[string]*fake
}

// fake is one of its targets.
type fake struct {
	target.Sighting
	blocked bool // attempts fail
}

func (m *manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// find has a strategy name a node; local: on this machine.
func (m *manager) find(node string, local, blocked bool) {
	m.change(node, func(f *fake) {
		f.Local, f.blocked, f.Named = local, blocked, true
		f.News++
	})
}

func (m *manager) change(node string, f func(*fake)) {
	m.mu.Lock()
	t := m.targets[node]
	if t == nil {
		t = &fake{Sighting: target.Sighting{Key: node, Info: target.Info{Node: node, State: target.Discovered}}}
		m.targets[node] = t
	}
	f(t)
	s := t.Sighting
	m.mu.Unlock()
	m.own.Report(s)
	m.poke()
}

// drop has no strategy name the node any more.
func (m *manager) drop(node string) { m.change(node, func(f *fake) { f.Named = false }) }

func (m *manager) run(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-tick.C:
		}
		for _, t := range m.all() {
			if ctx.Err() == nil {
				m.step(ctx, t)
			}
		}
	}
	for _, t := range m.all() {
		m.nodes.connect(t.Info.Node, m.member, false)
		m.mu.Lock()
		t.Ended, t.Info.Creation = true, 0
		s := t.Sighting
		m.mu.Unlock()
		m.own.Report(s)
	}
}

func (m *manager) all() []*fake {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.targets))
}

func (m *manager) step(ctx context.Context, t *fake) {
	m.mu.Lock()
	info, named, blocked, node := t.Info, t.Named, t.blocked, t.Info.Node
	m.mu.Unlock()
	mine, why := m.own.Owned(node)
	is := info
	switch up := m.nodes.running(node); {
	case !mine && info.Creation != 0:
		m.nodes.connect(node, m.member, false)
		is.State, is.Reason, is.Creation = target.Discovered, why, 0
		m.own.cfg.Publish(events.Event{Type: events.TargetReleased, Node: node, Reason: why})
	case !mine:
		is.State, is.Reason = target.Discovered, why
	case info.Creation != 0 && up == info.Creation:
	case info.Creation != 0:
		m.nodes.connect(node, m.member, false)
		is.State, is.Creation = target.Gone, 0
	case !named:
	case up == 0 || blocked:
		is.State, is.Reason = target.Unreachable, "nothing listens"
	case m.own.Claim(ctx, node, t.Key) == nil:
		is.Creation = m.nodes.connect(node, m.member, true)
		is.State, is.Reason = target.Attached, ""
	}
	gone := !named && is.Creation == 0 && is.State != target.Gone
	if is.State == info.State && is.Reason == info.Reason && is.Creation == info.Creation && !gone {
		return
	}
	m.mu.Lock()
	t.Info, t.Ended = is, gone
	if gone {
		delete(m.targets, t.Key)
	}
	s := t.Sighting
	m.mu.Unlock()
	m.own.Report(s)
}

func (b *beams) running(node string) uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.creation[node]
}

// Targets implements Targets.
func (m *manager) Targets() []target.Info {
	var out []target.Info
	for _, t := range m.all() {
		m.mu.Lock()
		info := t.Info
		m.mu.Unlock()
		info.Owner, _ = m.own.Owner(info.Node)
		out = append(out, info)
	}
	return out
}

// Recheck implements Targets.
func (m *manager) Recheck(...string) { m.poke() }

// ResolvePid implements Targets.
func (m *manager) ResolvePid(_ context.Context, node, text string) (string, uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.targets[node]; t != nil && t.Info.Creation != 0 {
		return text, t.Info.Creation, nil
	}
	return "", 0, fmt.Errorf("%s: %w", node, target.ErrNotAttached)
}

// MonitorPid implements Targets.
func (m *manager) MonitorPid(ctx context.Context, node, pid string, creation uint32, down func(string)) (func(), error) {
	_, now, err := m.ResolvePid(ctx, node, pid)
	if err != nil {
		return nil, err
	}
	m.nodes.mu.Lock()
	defer m.nodes.mu.Unlock()
	if creation != now || !m.nodes.pids[node+pid] {
		return nil, fmt.Errorf("%s: %w", pid, target.ErrNoProcess)
	}
	if m.nodes.downs[node+pid] == nil {
		m.nodes.downs[node+pid] = map[*func(string)]bool{}
	}
	m.nodes.downs[node+pid][&down] = true
	return func() {
		m.nodes.mu.Lock()
		defer m.nodes.mu.Unlock()
		delete(m.nodes.downs[node+pid], &down)
	}, nil
}
