// Package host is one debughost: it puts together the configuration, the
// plugins, the hidden node and the targets, and runs them until it is told to
// stop. It implements the engine that the control API serves.
//
// It has no API of its own and does not read flags: package control serves it,
// and cmd/debughost starts both.
//
//	h, err := host.New(host.Options{Load: load, DataDir: dir, Log: log})
//	err = h.Run(ctx)
package host

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/broadcast"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/link"
	"github.com/debughost/debughost/host/ownership"
	"github.com/debughost/debughost/host/plugin"
	"github.com/debughost/debughost/host/reach"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/store"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/host/target"
	"github.com/debughost/debughost/sdk"
)

// Options are what a Host needs. All but Log are required.
type Options struct {
	// Load reads the configuration; Reload calls it again. Its error may be a
	// *config.Problems.
	Load func() (*config.Config, error)
	// DataDir is where the member keeps its identity and its sockets; empty
	// means store.DefaultDir.
	DataDir string
	Log     *logrus.Logger
	Version string // of debughost, for other members
}

// Host is one member. Its methods may be called by any number of goroutines.
//
// Goroutines, all owned by Run: at the bottom the hidden node, the cluster, the
// registry and the links; on these the target manager, the ownership of targets
// and the plugin manager, which end first. They document their own.
type Host struct {
	opts     Options
	store    *store.Store
	bus      *events.Bus
	node     *node.Node
	keys     *cluster.Ring // nil without a cluster
	cluster  *cluster.Cluster
	registry *registry.Registry
	links    *link.Links
	owners   *ownership.Ownership
	targets  *target.Manager
	plugins  *plugin.Manager
	children *supervisor.Supervisor
	blobs    *blob.Store // nil: the data directory cannot be written to
	started  time.Time
	member   string
	socket   string
	answers  answers
	changes  broadcast.Signal

	ctx       context.Context // ends when Run is to
	stop      context.CancelFunc
	parts     context.Context // ends when targets and plugins are to
	stopParts context.CancelFunc
	partsDone chan struct{} // closed when they have
	leaving   sync.Once
	left      error // of the goodbye
	seeded    bool  // the configuration says where others may be

	socketDirs []string // removed by Close

	reloading sync.Mutex // one reload at a time

	mu         sync.Mutex
	cfg        *config.Config
	strategies map[strategy]bool // that have been asked for
}

// New reads the configuration and opens the data directory, which it locks.
// The caller calls Run or Close.
func New(o Options) (*Host, error) {
	cfg, err := o.Load()
	if err != nil {
		return nil, err
	}
	if o.DataDir == "" {
		if o.DataDir, err = store.DefaultDir(); err != nil {
			return nil, err
		}
	}
	st, err := store.Open(o.DataDir)
	if err != nil {
		return nil, err
	}
	h := &Host{opts: o, store: st, cfg: cfg, started: time.Now(), partsDone: make(chan struct{}), strategies: map[strategy]bool{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.parts, h.stopParts = context.WithCancel(context.Background())
	if err := h.build(); err != nil {
		st.Close()
		return nil, err
	}
	return h, nil
}

// build makes the parts; none of them does anything yet.
func (h *Host) build() error {
	cfg := h.cfg
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the host's name: %w", err)
	}
	h.member = cfg.Member.Name
	if h.member == "" {
		h.member = hostname
	}
	h.applyLog(cfg)
	h.bus = events.New(events.Options{Member: h.member, MaxCount: cfg.Events.MaxCount, MaxAge: cfg.Events.MaxAge})
	name := nodeName(cmp.Or(cfg.Node.Name, "debughost-"+h.store.MemberID()), hostname, cfg.Node.Names)
	h.node, err = node.New(node.Config{Name: name, Dist: dist.Config{TickTime: cfg.Targets.TickTime}})
	if err != nil {
		return fmt.Errorf("make our node: %w", err)
	}
	if err := h.buildCluster(hostname); err != nil {
		return err
	}
	h.owners = ownership.New(ownership.Config{
		Member: h.member, Registry: h.registry, Members: h.cluster.Members, Joining: h.joining, Alias: h.sandboxNode, Publish: func(e events.Event) { h.bus.Publish(e) },
		Log: h.opts.Log.WithField("part", "ownership"),
	})
	h.targets = target.New(target.Config{
		Ownership: h.owners,
		Member:    h.member, Node: h.node, Cookie: h.cookie,
		SandboxCookie: config.SandboxCookie, Alias: h.sandboxNode,
		Wanted:     func(name string) bool { return name != h.node.Name() && h.config().Targets.Wanted(name) },
		Route:      func(name string) reach.Route { return route(&h.config().Targets, name) },
		Publish:    func(e events.Event) { h.bus.Publish(e) },
		Log:        h.opts.Log.WithField("part", "target"),
		AgentNever: cfg.Targets.Agent == "never", MaxCalls: cfg.Targets.MaxCalls, Budget: h.budget,
		ConnectTimeout: cfg.Targets.ConnectTimeout, CallTimeout: cfg.Targets.CallTimeout,
		BackoffMin: cfg.Targets.BackoffMin, BackoffMax: cfg.Targets.BackoffMax, GoneAfter: max(cfg.Targets.GoneAfter, time.Millisecond), // 0: at once
	})
	h.owners.Use(h.targets)
	if err := h.findSocket(); err != nil {
		return err
	}
	if err := h.buildPlugins(); err != nil {
		return err
	}
	return h.buildChildren()
}

// nodeName is our node's full name. The part before the @ is the configured one,
// or stable for a data directory, so that a target's atom table does not grow
// with each start; the part behind it may be configured too.
func nodeName(name, hostname, names string) string {
	if strings.Contains(name, "@") {
		return name
	}
	short, _, long := strings.Cut(hostname, ".")
	switch {
	case names == "short":
		hostname = short
	case names == "long" && !long:
		hostname = "127.0.0.1"
	}
	return name + "@" + hostname
}

func (h *Host) config() *config.Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg
}

func (h *Host) cookie(nodeName string) (dist.Cookie, error) {
	return h.config().Targets.CookieFor(nodeName)
}

// budget is what the configuration lets the asking cost each target.
func (h *Host) budget() target.Budget {
	t := h.config().Targets
	return target.Budget{Bytes: t.BytesPerSecond, Rows: t.MaxRows, Share: t.SchedulerShare}
}

// pass hands the nodes of one topology on to the targets.
func (h *Host) pass(topology string, nodes []sdk.Node) {
	cfg := h.config()
	found := make([]target.Found, 0, len(nodes))
	if !findsTargets(cfg, topology) {
		nodes = nil
	}
	for _, n := range nodes {
		if n.Role == sdk.RoleMember {
			continue
		}
		found = append(found, target.Found{Node: n.Name, Addr: n.Addr, Guessed: n.Metadata[sdk.MetadataHostUnknown] == "true"})
	}
	h.targets.SetFound(topology, found)
}

func findsTargets(cfg *config.Config, topology string) bool {
	i := slices.IndexFunc(cfg.Topologies, func(t config.Topology) bool { return t.Name == topology })
	return i < 0 || cfg.Topologies[i].Finds != config.FindsMembers
}

// Run attaches to what the strategies find, until ctx ends; then it detaches,
// ends the plugins, takes leave of the other members, and returns.
func (h *Host) Run(ctx context.Context) error {
	defer h.Close()
	for _, w := range h.store.Warnings() {
		h.opts.Log.WithField("err", w).Warn("data directory is not as it should be")
	}
	h.opts.Log.WithFields(logrus.Fields{"member": h.member, "node": h.node.Name(), "data_dir": h.store.Dir()}).Info("debughost started")
	h.bus.Publish(events.Event{Type: events.MemberStarted})
	defer h.stop()
	defer context.AfterFunc(ctx, h.stop)()

	// What is at the bottom outlives what is on it, which needs it to leave
	// nothing behind.
	bottom, stopBottom := context.WithCancel(context.Background())
	defer stopBottom()
	base, bottom := errgroup.WithContext(bottom)
	base.Go(func() error { return h.node.Run(bottom) })
	base.Go(func() error { return h.runCluster(bottom) })
	defer context.AfterFunc(bottom, h.stop)() // a port that cannot be had

	// Who owns what is settled for as long as there are targets.
	owning, stopOwning := context.WithCancel(context.Background())
	defer stopOwning()
	parts, partsCtx := errgroup.WithContext(h.parts)
	h.reloading.Lock()
	h.applyPlugins(h.cfg)
	h.reloading.Unlock()
	// Plugins run for as long as something uses them.
	using, stopUsing := context.WithCancel(context.Background())
	defer stopUsing()
	parts.Go(func() error {
		defer stopUsing()
		return h.children.Run(partsCtx)
	})
	parts.Go(func() error {
		h.keepBlobs(partsCtx)
		return nil
	})
	parts.Go(func() error { return h.plugins.Run(using) })
	parts.Go(func() error { return h.owners.Run(owning) })
	parts.Go(func() error {
		defer stopOwning()
		return h.targets.Run(partsCtx)
	})
	defer context.AfterFunc(partsCtx, h.stop)()
	var err error
	go func() {
		err = parts.Wait()
		close(h.partsDone)
	}()

	<-h.ctx.Done()
	_ = h.goodbye(context.Background()) // nobody may be left to say it to
	<-h.partsDone
	stopBottom()
	if baseErr := base.Wait(); err == nil {
		err = baseErr
	}
	h.opts.Log.Info("debughost stopped")
	return err
}

// Close lets go of the data directory, and of the directories that sockets were
// in. Run does it too.
func (h *Host) Close() error {
	h.stop()
	h.stopParts()
	_ = h.children.Close() // Run did so; here it was never run
	for _, dir := range h.socketDirs {
		_ = os.RemoveAll(dir) // a disk that is read-only by now keeps it
	}
	return h.store.Close()
}

// Socket is the path to serve the control API on.
func (h *Host) Socket() string { return h.socket }

// findSocket chooses it: as configured, else in the data directory, else,
// where that cannot be written to, in a directory for temporary files.
func (h *Host) findSocket() error {
	h.socket = h.cfg.API.Socket
	if h.socket != "" {
		return nil
	}
	h.socket = h.store.Path("api.sock")
	if len(h.store.Warnings()) == 0 {
		return nil
	}
	if err := h.store.Write("probe", nil); err == nil {
		return os.Remove(h.store.Path("probe"))
	}
	dir, err := h.socketDir("api")
	if err != nil {
		return err
	}
	h.socket = filepath.Join(dir, "api.sock")
	h.opts.Log.WithField("socket", h.socket).Warn("data directory cannot be written to, the control socket is elsewhere: use --addr")
	return nil
}

// MetricsAddress is where metrics are to be served, host:port; empty: nowhere.
func (h *Host) MetricsAddress() string { return h.cfg.Metrics.Address }

// Member is the member's name.
func (h *Host) Member() string { return h.member }

// DataDir is the absolute path of the data directory.
func (h *Host) DataDir() string { return h.store.Dir() }

// Events is the member's bus.
func (h *Host) Events() *events.Bus { return h.bus }

// Targets lists the targets of all members.
func (h *Host) Targets() []target.Info { return h.owners.Targets() }

// Questions answers questions to the targets of this member.
func (h *Host) Questions() *target.Manager { return h.targets }

// Processes asks targets for ranked processes.
func (h *Host) Processes(ctx context.Context, q target.ProcessQuery, sink target.Sink) error {
	return h.targets.Processes(ctx, q, sink)
}

// Inspect asks for one process.
func (h *Host) Inspect(ctx context.Context, q target.InspectQuery) (target.ProcessDetail, error) {
	return h.targets.Inspect(ctx, q)
}

// Kill ends one process.
func (h *Host) Kill(ctx context.Context, q target.KillQuery) (target.KillResult, error) {
	return h.targets.Kill(ctx, q)
}

// applyLog sets the logger's level and format.
func (h *Host) applyLog(cfg *config.Config) {
	if level, err := logrus.ParseLevel(cfg.Log.Level); err == nil {
		h.opts.Log.SetLevel(level)
	}
	if cfg.Log.Format == "json" {
		h.opts.Log.SetFormatter(&logrus.JSONFormatter{})
	} else {
		h.opts.Log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	}
}

// Reload reads the configuration again and puts in force what can be without a
// restart: strategies are swapped, and what they had found stays until the new
// ones answer. When it has errors, the old one stays in force.
func (h *Host) Reload(context.Context) error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	next, err := h.opts.Load()
	if err != nil {
		h.bus.Publish(events.Event{Type: events.ConfigRejected, Reason: err.Error()})
		h.opts.Log.WithField("err", err).Error("configuration rejected, the old one stays")
		return err
	}
	old := h.config()
	changes := config.Diff(old, next)
	h.mu.Lock()
	h.cfg = next
	h.mu.Unlock()
	h.applyLog(next)
	h.applyPlugins(next)
	h.children.Apply(h.childSettings(next))
	h.cluster.SetFound(joinTopology, next.Cluster.Join)
	h.targets.Drop(func(node string) bool { return !next.Targets.Wanted(node) })
	h.owners.Retry() // a cookie may have changed
	h.targets.Retry()
	e := events.Event{Type: events.ConfigReloaded, Fields: map[string]string{}}
	note := func(key string, what []string) {
		if len(what) > 0 {
			e.Fields[key] = strings.Join(what, ", ")
		}
	}
	note("changed", slices.Concat(changes.Live, changes.Topologies.Changed, changes.Placements.Changed, changes.Sandboxes.Changed))
	note("added", slices.Concat(changes.Topologies.Added, changes.Placements.Added, changes.Sandboxes.Added))
	note("removed", slices.Concat(changes.Topologies.Removed, changes.Placements.Removed, changes.Sandboxes.Removed))
	note("after_restart", changes.Restart)
	h.bus.Publish(e)
	log := h.opts.Log.WithField("changed", e.Fields["changed"])
	if len(changes.Restart) > 0 {
		log.WithField("keys", e.Fields["after_restart"]).Warn("some changes take effect when debughost starts again")
	}
	log.Info("configuration reloaded")
	return nil
}
