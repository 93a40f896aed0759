// Package ownership gives each target one owner: the member that attaches to
// it. Every member publishes in the registry which nodes its discovery tells it
// of (the duplicate keys "seen/<node>"), the same rules everywhere pick one of
// them, on the node's machine if there is one, and that member claims the unique
// key "target/<node>" and attaches. When it dies, or cannot attach, the next one
// does. Two that could not see each other may both have claimed; when they do,
// the registry tells one of them that it has lost, and that one detaches.
//
// decide.go has the rules, and why they come to an end. What a member says of
// itself is in trial.go: its attempts have failed when they did for two seconds,
// and it offers itself again after half a minute, later after up to five, if
// whoever holds the node cannot attach either; at once when discovery has news
// of the node, or after Retry. A node that is frozen keeps its owner for as long
// as the connection lasts.
//
// Names of processes go with their target: an entry whose owner is a BEAM
// process belongs to the member that owns the target, which monitors the process
// (see Register), and who becomes the owner takes them over with their age.
//
// The package neither finds nodes nor attaches to them (package target does, and
// asks it), and it knows nothing of the registry's wire.
//
//	o := ownership.New(ownership.Config{Member: "a", Registry: reg, Members: cluster.Members})
//	m := target.New(target.Config{Ownership: o, …})
//	o.Use(m)
//	go o.Run(ctx) // to end after m.Run has
package ownership

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// Registry is what an Ownership needs of package registry.
type Registry interface {
	Register(context.Context, registry.Claim) (registry.Entry, error)
	Unregister(key string, owner *registry.Owner) (int, error)
	Lookup(key string) (registry.Entry, bool)
	All(key string) []registry.Entry
	Select(prefix string, keep func(registry.Entry) bool) iter.Seq[registry.Entry]
	Keys(registry.Owner) []string
	Drop(registry.Owner) int
	// Orphans are the entries of processes of a node that belong to members
	// which are out of sight.
	Orphans(node string) []registry.Entry
	Watch(ctx context.Context, prefix string) iter.Seq[registry.Change]
}

// Targets is what an Ownership needs of a target.Manager.
type Targets interface {
	Targets() []target.Info
	Recheck(nodes ...string)
	ResolvePid(ctx context.Context, node, text string) (pid string, creation uint32, err error)
	MonitorPid(ctx context.Context, node, pid string, creation uint32, down func(reason string)) (cancel func(), err error)
}

// Config is what an Ownership needs. All but Member and Registry may be nil.
type Config struct {
	Member   string // this member
	Registry Registry
	// Members lists the members, this one included. Without it there are no others.
	Members func() []cluster.Member
	// Joining tells whether this member is about to learn what others own; nothing
	// is claimed until it is not.
	Joining func() bool
	// Alias is the full name of the node that a name means which no target has; it
	// must not block.
	Alias func(name string) (node string, ok bool)
	// Publish takes events; it must not block.
	Publish func(events.Event)
	Log     *logrus.Entry
}

// Ownership is one member's part in giving each target one owner. It is a
// target.Ownership. Its methods may be called by any goroutine; those that
// decide nothing also before Run and after it.
//
// Goroutines, all started by Run and waited for by it: one that decides, three
// that watch the registry, one that takes names of processes over.
type Ownership struct {
	cfg     Config
	self    registry.Owner
	targets Targets
	asks    chan *ask
	wake    chan struct{} // holds at most one signal: there is something in the inbox
	pids    *pids

	mu    sync.RWMutex
	inbox inbox
	mine  map[string]bool   // the nodes that this member may attach to
	why   map[string]string // of those that it sees and may not attach to, why

	changed chan struct{} // closed when a target's owner or state changes
}

// inbox is what the deciding goroutine has not seen yet. It is bounded by what
// there is: targets, and nodes in the registry.
type inbox struct {
	sightings map[string]target.Sighting // by key: the last one of each
	dirty     map[string]bool            // nodes of which the registry has news
	all       bool                       // anything may have changed
	lost      map[string]string          // nodes that a conflict took away, and why
	retry     bool
}

// ask is one call of Claim.
type ask struct {
	node, key string
	answer    chan error
}

// New returns an Ownership that owns nothing until Run. Use comes before Run.
func New(cfg Config) *Ownership {
	if cfg.Members == nil {
		cfg.Members = func() []cluster.Member { return []cluster.Member{{Name: cfg.Member, State: cluster.Alive, Self: true}} }
	}
	if cfg.Joining == nil {
		cfg.Joining = func() bool { return false }
	}
	if cfg.Publish == nil {
		cfg.Publish = func(events.Event) {}
	}
	if cfg.Log == nil {
		l := logrus.New()
		l.SetLevel(logrus.PanicLevel)
		cfg.Log = logrus.NewEntry(l)
	}
	o := &Ownership{
		cfg: cfg, self: registry.ByMember(cfg.Member),
		asks: make(chan *ask), wake: make(chan struct{}, 1),
		mine: map[string]bool{}, why: map[string]string{}, changed: make(chan struct{}),
	}
	o.pids = newPids(o)
	return o
}

// Use says whose targets these are. It is called once, before Run.
func (o *Ownership) Use(m Targets) { o.targets = m }

// Report implements target.Ownership.
func (o *Ownership) Report(s target.Sighting) {
	o.post(func(in *inbox) {
		if in.sightings == nil {
			in.sightings = map[string]target.Sighting{}
		}
		in.sightings[s.Key] = s
	})
}

// Conflict is told what the registry's OnConflict is.
func (o *Ownership) Conflict(c registry.NameConflict) {
	node, ok := nodeOf(c.Key)
	if !ok {
		return
	}
	o.post(func(in *inbox) {
		if in.lost == nil {
			in.lost = map[string]string{}
		}
		in.lost[node] = fmt.Sprintf("member %s attached to it earlier, while neither saw the other", c.Winner.Origin)
	})
}

// Retry has this member offer itself for nodes that it failed to attach to. It
// is called when that may have changed, as after a reload of the configuration.
func (o *Ownership) Retry() { o.post(func(in *inbox) { in.retry = true }) }

// Look has this member look at all nodes again. It is called when a member has
// come or gone; what the registry shows is seen without.
func (o *Ownership) Look() { o.post(func(in *inbox) { in.all = true }) }

func (o *Ownership) post(f func(*inbox)) {
	o.mu.Lock()
	f(&o.inbox)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Owned implements target.Ownership.
func (o *Ownership) Owned(node string) (mine bool, why string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.mine[node], o.why[node]
}

// Changed returns a channel that is closed when next a target has another owner,
// or its owner shows another state of it.
func (o *Ownership) Changed() <-chan struct{} {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.changed
}

// Claim implements target.Ownership.
func (o *Ownership) Claim(ctx context.Context, node, key string) error {
	a := &ask{node: node, key: key, answer: make(chan error, 1)}
	select {
	case o.asks <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-a.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run decides until ctx ends; then it gives up all that it owns, so that other
// members take over at once, and returns.
func (o *Ownership) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, prefix := range []string{seenPrefix, targetPrefix} {
		wg.Go(func() { o.watch(ctx, prefix) })
	}
	wg.Go(func() { o.pids.watch(ctx) })
	wg.Go(func() { o.pids.run(ctx) })
	d := newDecider(o)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var a *ask
		select {
		case <-o.wake:
		case <-timer.C:
		case a = <-o.asks:
		case <-ctx.Done():
			d.leave()
			return nil
		}
		next := d.turn(time.Now())
		if a != nil { // after what was reported before it
			a.answer <- d.ask(a, time.Now())
			next = d.turn(time.Now())
		}
		if nodes := d.asked(); len(nodes) > 0 {
			o.targets.Recheck(nodes...)
		}
		timer.Reset(next)
	}
}

// watch notes of which nodes the registry has news.
func (o *Ownership) watch(ctx context.Context, prefix string) {
	for c := range o.cfg.Registry.Watch(ctx, prefix) {
		if prefix == targetPrefix {
			o.mu.Lock()
			close(o.changed)
			o.changed = make(chan struct{})
			o.mu.Unlock()
		}
		if c.Type == registry.Reset {
			o.Look()
			continue
		}
		if node, ok := nodeOf(c.Entry.Key); ok {
			o.post(func(in *inbox) {
				if in.dirty == nil {
					in.dirty = map[string]bool{}
				}
				in.dirty[node] = true
			})
		}
	}
}
