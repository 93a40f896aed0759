package target

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/broadcast"
	"github.com/debughost/debughost/host/events"
)

// Manager keeps one connection to each node that a topology names. Its methods
// may be called by any number of goroutines, also before Run.
//
// Goroutines, all started by Run and waited for by it: one for each target
// (attach, watch, reconnect), which ends when the target is dropped.
type Manager struct {
	cfg     Config
	links   broadcast.Signal //  that a target has become attached
	reports keptReports      // crash reports of targets that were followed

	mu       sync.Mutex
	found    map[string][]Found // by topology
	boxes    []Found            // of this member's sandboxes
	targets  map[string]*target // by the name that discovery gave
	dialling map[*target]endpoint
	changed  chan struct{} // wakes Run; holds at most one signal
}

// New returns a Manager that does nothing until Run.
func New(cfg Config) *Manager {
	return &Manager{
		cfg:      cfg.withDefaults(),
		found:    map[string][]Found{},
		targets:  map[string]*target{},
		dialling: map[*target]endpoint{},
		changed:  make(chan struct{}, 1),
	}
}

func (m *Manager) budget() Budget { return m.cfg.Budget().withDefaults() }

// SetFound replaces the nodes that one topology names; an empty list means that
// it finds none. A node that no topology names any more stays attached as long
// as its connection is up.
func (m *Manager) SetFound(topology string, nodes []Found) {
	m.mu.Lock()
	m.found[topology] = slices.Clone(nodes)
	m.mu.Unlock()
	m.wake()
}

// SetSandboxes replaces the nodes of this member's sandboxes. Each has a Sandbox;
// one that is not in the list any more is detached from at once. A node of the same
// name that a topology names is taken for the sandbox's.
func (m *Manager) SetSandboxes(nodes []Found) {
	m.mu.Lock()
	m.boxes = slices.Clone(nodes)
	m.mu.Unlock()
	m.wake()
}

// Forget drops a topology; its targets are detached unless another names them.
func (m *Manager) Forget(topology string) {
	m.mu.Lock()
	delete(m.found, topology)
	for _, t := range m.targets {
		t.forget(topology)
	}
	m.mu.Unlock()
	m.wake()
}

// Drop detaches from the targets that unwanted tells, by the names that they
// give themselves. They come back if a strategy names them again.
func (m *Manager) Drop(unwanted func(node string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.targets {
		if t.sandbox() == "" && unwanted(t.display()) {
			t.end()
		}
	}
}

// Retry has every target that is not attached tried again now.
func (m *Manager) Retry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.targets {
		t.wake()
	}
}

func (m *Manager) wake() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run attaches to what is found until ctx ends, then detaches from everything,
// leaving nothing on the targets, and returns.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	sweep := time.NewTicker(max(50*time.Millisecond, min(m.cfg.GoneAfter, time.Second)))
	defer sweep.Stop()
	for {
		fresh, changed, news := m.reconcile()
		for _, e := range news {
			m.cfg.Publish(e)
		}
		for _, t := range changed {
			t.report()
			t.endPids()
		}
		for _, t := range fresh {
			t.report()
			wg.Go(func() {
				t.run(ctx)
				t.tell(true)
				m.remove(t)
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
		case <-sweep.C:
		}
	}
}

// reconcile brings the targets in line with what is found. It returns those
// that are new, each of which needs a goroutine, and those of which discovery
// has news; those that are not wanted any more are cancelled. The events tell
// what discovery named and dropped.
func (m *Manager) reconcile() (fresh, changed []*target, news []events.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	type naming struct {
		found      Found
		topologies []string
	}
	named := map[string]*naming{}
	for _, f := range m.boxes {
		if f.Sandbox == "" || f.Node == m.cfg.Node.Name() {
			continue
		}
		// Of two with one name it is the one that is the target already.
		if t := m.targets[f.Node]; named[f.Node] == nil || t != nil && t.sandbox() == f.Sandbox {
			named[f.Node] = &naming{found: f, topologies: []string{SandboxTopology + f.Sandbox}}
		}
	}
	for _, topology := range slices.Sorted(maps.Keys(m.found)) {
		for _, f := range m.found[topology] {
			n := named[f.Node]
			if n == nil && !m.cfg.Wanted(f.Node) {
				continue
			}
			if n == nil {
				n = &naming{found: f}
				named[f.Node] = n
			}
			if !slices.Contains(n.topologies, topology) {
				n.topologies = append(n.topologies, topology)
			}
		}
	}
	for name, n := range named {
		if t := m.targets[name]; t != nil {
			if t.name(n.found, n.topologies) {
				changed = append(changed, t)
			}
			continue
		}
		t := newTarget(m, n.found, n.topologies)
		m.targets[name] = t
		fresh = append(fresh, t)
		news = append(news, events.Event{Type: events.TargetFound, Node: n.found.Node, Topology: n.topologies[0], Member: m.cfg.Member})
	}
	now := time.Now()
	for name, t := range m.targets {
		if named[name] != nil {
			continue
		}
		dropped, tell := t.unname(now)
		if dropped {
			changed = append(changed, t)
		}
		if tell {
			news = append(news, events.Event{Type: events.TargetDropped, Node: t.display(), Member: m.cfg.Member, Reason: t.dropReason()})
		}
	}
	slices.SortFunc(fresh, func(a, b *target) int { return compareNodes(a.key, b.key) })
	return fresh, changed, news
}

func (m *Manager) remove(t *target) {
	m.mu.Lock()
	if m.targets[t.key] == t {
		delete(m.targets, t.key)
	}
	m.mu.Unlock()
	m.wake()
}

// Targets lists all targets, sorted by name.
func (m *Manager) Targets() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Info, 0, len(m.targets))
	also := map[string][]string{} // who names a node whose attached target has another name
	for _, t := range m.targets {
		info, ok := t.info()
		if !ok {
			also[info.Node] = union(also[info.Node], info.Topologies)
			continue
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b Info) int {
		return cmp.Or(compareNodes(a.Node, b.Node), cmp.Compare(b.Creation, a.Creation))
	})
	// Where several strategies name a node by different names, or name one that
	// another member has, or had, each has a target; one of them attaches.
	one := out[:0]
	for _, info := range out {
		if n := len(one); n > 0 && one[n-1].Node == info.Node {
			one[n-1].Topologies = union(one[n-1].Topologies, info.Topologies)
			continue
		}
		info.Topologies = union(info.Topologies, also[info.Node])
		one = append(one, info)
	}
	return one
}

// union is a sorted list of what either has, in memory of its own.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// holder returns the attached target that another strategy, or another name,
// already reaches at addr, so that one node is never attached to twice.
func (m *Manager) holder(t *target, name, addr string) *target {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.targets {
		if o == t {
			continue
		}
		if link := o.attached(); link != nil && (link.Name() == name || addr != "" && sameEndpoint(remoteAddr(link), addr)) {
			return o
		}
	}
	return nil
}

// reserve lets one of our targets dial a node at a time: a node that is dialled by
// us a second time takes our first connection for one of the past. free is false
// where another target, which discovery found by another name or strategy, is
// dialling the same node; it is to be looked at again soon, when that one may be
// its holder. The caller calls done after its attempt.
func (m *Manager) reserve(t *target, name, addr string) (done func(), free bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.dialling {
		if d.name == name || addr != "" && d.addr != "" && sameEndpoint(d.addr, addr) {
			return nil, false
		}
	}
	m.dialling[t] = endpoint{name, addr}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.dialling, t)
	}, true
}

// endpoint is a node that is being dialled.
type endpoint struct{ name, addr string }

// settle makes the connection that of the target, unless another target, which
// it returns, was faster to attach to the same node.
func (m *Manager) settle(t *target, link *node.Peer, release string) *target {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.targets {
		if o == t {
			continue
		}
		if had := o.attached(); had != nil && had.Name() == link.Name() {
			return o
		}
	}
	t.settled(link, release)
	m.links.Tell()
	return nil
}
