package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/handoff"
	"github.com/debughost/debughost/host/plugin"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/host/target"
	"github.com/debughost/debughost/sdk"
)

// bookFile is where the supervisor keeps its records in the data directory.
const bookFile = "children.book"

// startingTime bounds how long a call waits for a plugin that is being started.
const startingTime = 2 * time.Second

// strategy is a placement or sandbox strategy that has been asked for.
type strategy struct {
	kind sdk.Kind
	name string
}

// blobsDir is where the blobs are in the data directory.
const blobsDir = "blobs"

// buildChildren makes the supervisor. A data directory that cannot be written to
// is no reason to run nothing: then nothing is kept over a restart.
func (h *Host) buildChildren() error {
	var err error
	h.blobs, err = blob.Open(h.store.Path(blobsDir), blob.Config{Member: h.member, Others: h.others, Conn: h.cluster.Conn})
	if err != nil && len(h.store.Warnings()) == 0 {
		return err
	}
	if err != nil {
		h.opts.Log.WithField("err", err).Warn("no bundles can be kept")
	}
	cfg := supervisor.Config{
		Member: h.member, Clustered: h.Clustered(), Seeded: h.seeded, Path: h.store.Path(bookFile),
		Registry: h.registry, Members: h.cluster.Members, Changed: h.cluster.Changed, Quorum: h.cluster.Quorum,
		Sandbox: h.sandbox, Placement: h.placement, Near: h.owners.OnMachine, Nodes: h.attachSandboxes,
		Fetch: h.fetchChild, Blob: h.blob, Settings: h.childSettings(h.cfg),
		Publish: func(e events.Event) { h.bus.Publish(e) },
		Log:     h.opts.Log.WithField("part", "supervisor"),
	}
	h.children, err = supervisor.New(cfg)
	if err == nil || len(h.store.Warnings()) == 0 {
		return err
	}
	h.opts.Log.WithField("err", err).Warn("children are not kept over a restart")
	cfg.Path = ""
	h.children, err = supervisor.New(cfg)
	return err
}

func (h *Host) childSettings(cfg *config.Config) supervisor.Settings {
	return supervisor.Settings{
		Labels: cfg.Member.Labels, Orphan: cfg.Orphan(), Active: cfg.Supervisor.Redistribution == config.Active,
		MaxMoves: cfg.Supervisor.MaxMoves, Tombstones: cfg.Supervisor.Tombstones,
	}
}

// strategySpecs are the plugins of the strategies that were asked for so far. None
// is started before: a member that runs no children has no such process.
func (h *Host) strategySpecs(cfg *config.Config) []plugin.Spec {
	h.mu.Lock()
	defer h.mu.Unlock()
	var specs []plugin.Spec
	for s := range h.strategies {
		specs = append(specs, h.strategySpec(cfg, s))
	}
	return specs
}

func (h *Host) strategySpec(cfg *config.Config, s strategy) plugin.Spec {
	c := cfg.Placement(s.name)
	if s.kind == sdk.KindSandbox {
		c = cfg.Sandbox(s.name)
	}
	spec := plugin.Spec{Topology: plugin.Slot(s.kind, c.Name), Plugin: c.Plugin, Kind: s.kind, Config: c.Config, Checksum: c.Checksum}
	if s.kind == sdk.KindSandbox {
		spec.StateDir = h.stateDir(c.Name)
	}
	return spec
}

// stateDir is the directory of a sandbox strategy, which its plugin finds again
// after a restart; empty where none can be made.
func (h *Host) stateDir(name string) string {
	dir := filepath.Join(h.store.Path("sandboxes"), name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.opts.Log.WithField("err", err).Warn("a sandbox strategy has no directory of its own")
		return ""
	}
	return dir
}

// use has the plugin of a strategy at work, and returns its slot.
func (h *Host) use(s strategy) string {
	cfg := h.config()
	if s.kind == sdk.KindPlacement {
		s.name = cfg.Placement(s.name).Name
	}
	h.mu.Lock()
	known := h.strategies[s]
	if !known {
		h.strategies[s] = true
	}
	h.mu.Unlock()
	if !known {
		h.reloading.Lock()
		h.applyPlugins(h.config())
		h.reloading.Unlock()
	}
	return plugin.Slot(s.kind, s.name)
}

func (h *Host) sandbox(ctx context.Context, name string) (sdk.Sandbox, error) {
	slot := h.use(strategy{sdk.KindSandbox, name})
	ctx, cancel := context.WithTimeout(ctx, startingTime)
	defer cancel()
	client, d, err := h.plugins.Await(ctx, slot)
	if err != nil {
		return nil, err
	}
	return client.Sandbox(d), nil
}

func (h *Host) placement(ctx context.Context, name string) (sdk.Placement, string, error) {
	plugin := h.config().Placement(name).Plugin
	slot := h.use(strategy{sdk.KindPlacement, name})
	ctx, cancel := context.WithTimeout(ctx, startingTime)
	defer cancel()
	client, _, err := h.plugins.Await(ctx, slot)
	if err != nil {
		return nil, plugin, err
	}
	return client.Placement(), plugin, nil
}

// attachSandboxes makes targets of the nodes of this member's sandboxes.
func (h *Host) attachSandboxes(nodes []supervisor.NodeAt) {
	found := make([]target.Found, 0, len(nodes))
	for _, n := range nodes {
		found = append(found, target.Found{Node: n.Node, Addr: n.Addr, Sandbox: n.Child, CookieFile: n.CookieFile})
	}
	h.targets.SetSandboxes(found)
}

// sandboxNode is the node of the sandbox of a name.
func (h *Host) sandboxNode(name string) (node string, ok bool) {
	node = h.children.NodeOf(name)
	return node, node != ""
}

// fetchChild writes the state of a child that another member runs and that is being
// moved here.
func (h *Host) fetchChild(ctx context.Context, member, child string, epoch uint64, w io.Writer) error {
	conn, err := h.cluster.Conn(member)
	if err != nil {
		return err
	}
	return handoff.Fetch(ctx, conn, h.member, child, epoch, w)
}

// handOver has the children of this member stopped, where there is somebody to
// start them again.
func (h *Host) handOver(ctx context.Context) {
	others := false
	for _, m := range h.cluster.Members() {
		others = others || !m.Self && m.State.Usable()
	}
	if !others {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if err := h.children.Leave(ctx); err != nil {
		h.opts.Log.WithField("err", err).Warn("not all children were stopped before this member left")
	}
}

// handOverTime bounds how long a member that leaves waits for its children to
// end.
const handOverTime = 30 * time.Second

// ReloadChild puts another bundle in the place of the one that a child of this member
// runs.
func (h *Host) ReloadChild(ctx context.Context, id, bundle, note string) ([]byte, supervisor.Child, error) {
	return h.children.Reload(ctx, id, bundle, note)
}

// OperateChild has the strategy of a child of this member do one thing to it.
func (h *Host) OperateChild(ctx context.Context, id, operation string, input []byte) ([]byte, error) {
	return h.children.Operate(ctx, id, operation, input)
}

// SnapshotChild writes the state of a child of this member, which runs on.
func (h *Host) SnapshotChild(ctx context.Context, id string, w io.Writer) error {
	return h.children.TakeSnapshot(ctx, id, w)
}

// StartChild has a child run from now on.
func (h *Host) StartChild(ctx context.Context, spec supervisor.Spec) (supervisor.Child, error) {
	return h.children.Start(ctx, spec)
}

// StopChild has a child stopped.
func (h *Host) StopChild(ctx context.Context, id string) (supervisor.Child, error) {
	return h.children.Stop(ctx, id)
}

// RestartChild has a child started again.
func (h *Host) RestartChild(ctx context.Context, id string) (supervisor.Child, error) {
	return h.children.Restart(ctx, id)
}

// MoveChild has a child run on another member; empty: on one that its placement
// strategy chooses.
func (h *Host) MoveChild(ctx context.Context, id, member string) (supervisor.Child, error) {
	return h.children.Move(ctx, id, member)
}

// RemoveChild has a child stopped and forgotten.
func (h *Host) RemoveChild(ctx context.Context, id string) error { return h.children.Remove(ctx, id) }

// Children lists the children of all members.
func (h *Host) Children(_ context.Context, f supervisor.Filter) ([]supervisor.Child, error) {
	return h.children.List(f), nil
}

// CountChildren counts the children of all members.
func (h *Host) CountChildren() supervisor.Count { return h.children.Count() }

// ChildByID returns one child with its history.
func (h *Host) ChildByID(ctx context.Context, id string) (supervisor.Child, error) {
	return h.children.Get(ctx, id)
}

// ChildLogs reads what a child of this member prints.
func (h *Host) ChildLogs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	return h.children.Logs(ctx, id, o, emit)
}

// ChildRestarts is how often this member started a child again that had ended.
func (h *Host) ChildRestarts() uint64 { return h.children.Restarts() }

// ChildrenChanged returns a channel that is closed when next a child changes.
func (h *Host) ChildrenChanged() <-chan struct{} { return h.children.Changed() }

// ChildArbiter is the member that decides about a child; empty is this one.
func (h *Host) ChildArbiter(id string) string {
	if m := h.children.Arbiter(id); m != h.member {
		return m
	}
	return ""
}

// ChildRunner is the member that a child is assigned to; empty where it is none.
func (h *Host) ChildRunner(id string) (string, error) { return h.children.Runner(id) }

// DrainMember begins or ends a drain.
func (h *Host) DrainMember(ctx context.Context, member string, undo bool) error {
	return h.children.Drain(ctx, member, undo)
}

// DrainingMembers are those that take no children, by name.
func (h *Host) DrainingMembers() []string { return h.children.Draining() }

// Explain asks a placement strategy, and places nothing.
func (h *Host) Explain(ctx context.Context, spec supervisor.Spec) (supervisor.Explanation, error) {
	e, err := h.children.Explain(ctx, spec)
	if err != nil {
		return e, fmt.Errorf("explain a placement: %w", err)
	}
	return e, nil
}
