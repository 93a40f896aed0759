package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/handoff"
	"github.com/debughost/debughost/host/link"
	"github.com/debughost/debughost/host/ownership"
	"github.com/debughost/debughost/host/plugin"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/sdk"
)

// joinTopology is under what name the addresses of [cluster] join are found.
const joinTopology = "[cluster] join"

// keyFile is where the cluster key is looked for in the data directory.
const keyFile = "cluster.key"

// buildCluster makes the membership, the registry and the links between members.
// Without a cluster in the configuration it is a cluster of one, which takes the
// same path and opens no socket.
func (h *Host) buildCluster(hostname string) error {
	cfg := h.cfg
	epoch := uint64(h.started.UnixNano())
	c := cluster.Config{
		Name: h.member, ID: h.store.MemberID(), Epoch: epoch, Version: h.opts.Version, Machine: machineID(hostname),
		Profile: cluster.Profile(cfg.Cluster.Profile), Label: cfg.Cluster.Name,
		Store: h.store, Publish: func(e events.Event) { h.bus.Publish(e) },
		Log: h.opts.Log.WithField("part", "cluster"),
	}
	if cfg.Clustered() {
		var err error
		if h.keys, err = h.openKeys(); err != nil {
			return err
		}
		c.Keys, c.Bind, c.Advertise = h.keys, cfg.Cluster.Bind, cfg.Cluster.Advertise
		if c.Bind == "" {
			c.Bind = config.DefaultBind
		}
		if cfg.Cluster.TLSCert != "" {
			c.TLS = &cluster.TLSFiles{Cert: cfg.Cluster.TLSCert, Key: cfg.Cluster.TLSKey, CA: cfg.Cluster.TLSCA}
		}
	}
	var err error
	if h.cluster, err = cluster.New(c); err != nil {
		return fmt.Errorf("set up cluster: %w", err)
	}
	h.cluster.SetFound(joinTopology, cfg.Cluster.Join)
	h.seeded = len(cfg.Cluster.Join) > 0 || slices.ContainsFunc(cfg.Topologies, func(t config.Topology) bool {
		return t.Finds == config.FindsMembers
	})
	h.registry = registry.New(registry.Config{
		Member: h.member, Epoch: epoch,
		Send:        func(member string, msg []byte) bool { return h.links.Send(member, msg) },
		OnConflict:  h.conflict,
		OnAdoptable: h.adopt,
	})
	h.links = link.New(link.Config{
		Member: h.member, Epoch: epoch, Cluster: h.cluster, Receive: h.registry.Receive, Events: h.bus,
		PeerName: cluster.PeerName, Log: h.opts.Log.WithField("part", "link"),
	})
	return nil
}

// openKeys reads the cluster key.
func (h *Host) openKeys() (*cluster.Ring, error) {
	path := h.cfg.Cluster.KeyFile
	if path == "" {
		path = h.store.Path(keyFile)
	}
	ring, err := cluster.OpenRing(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &clusterKeyError{path}
	}
	return ring, err
}

// clusterKeyError says that there is a cluster and no key.
type clusterKeyError struct{ path string }

func (e *clusterKeyError) Error() string {
	return fmt.Sprintf("set up cluster: it needs a key that all members share, and there is no %s", e.path)
}

// Hint says what to do.
func (e *clusterKeyError) Hint() string {
	return "make one with `debughost keygen " + filepath.Base(e.path) + "`, copy it to each member, and name it with --cluster-key-file"
}

// runCluster runs what buildCluster made until ctx ends.
func (h *Host) runCluster(ctx context.Context) error {
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return h.cluster.Run(ctx) })
	parts.Go(func() error {
		_ = h.registry.Run(ctx) // ends with ctx, and says that
		return nil
	})
	parts.Go(func() error { return h.links.Run(ctx) })
	parts.Go(func() error { return h.followMembers(ctx) })
	parts.Go(func() error {
		for range h.registry.Watch(ctx, ownership.TargetPrefix) {
			h.changes.Tell()
		}
		return nil
	})
	parts.Go(func() error {
		select {
		case <-ctx.Done():
		case <-h.cluster.Ready():
			h.reloading.Lock()
			defer h.reloading.Unlock()
			h.applyPlugins(h.config()) // our address is known now
		}
		return nil
	})
	return parts.Wait()
}

// joinTime bounds how long a member that starts waits for the others before it
// attaches to anything.
const joinTime = 1500 * time.Millisecond

// joining tells whether this member has just started and is yet to hear from the
// others what they are attached to. One that knows of nobody does not wait.
func (h *Host) joining() bool {
	if !h.Clustered() || time.Since(h.started) > joinTime || h.registry.CaughtUp() {
		return false
	}
	return len(h.cluster.Members()) > 1 || h.seeded
}

// followMembers tells the registry which members there are.
func (h *Host) followMembers(ctx context.Context) error {
	known := map[string]bool{}
	for {
		changed := h.cluster.Changed()
		var peers []registry.Peer
		now := map[string]bool{}
		for _, m := range h.cluster.Members() {
			if m.Self {
				continue
			}
			now[m.Name] = true
			if m.State == cluster.Left {
				continue // it does not count for a majority any more
			}
			peers = append(peers, registry.Peer{Name: m.Name, Epoch: m.Epoch, Visible: m.State.Usable()})
		}
		h.registry.SetMembers(peers)
		for name := range known {
			if !now[name] {
				h.registry.Forget(name)
			}
		}
		known = now
		h.owners.Look()
		h.changes.Tell()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// conflict hears that an entry of this member lost its key.
func (h *Host) conflict(c registry.NameConflict) {
	h.owners.Conflict(c)
	h.bus.Publish(events.Event{
		Type: events.NameConflict, Node: c.Loser.Owner.Node,
		Reason: fmt.Sprintf("%s was claimed by %s at %s first; the claim of %s is gone", c.Key, c.Winner.Owner, c.Winner.Origin, c.Loser.Owner),
		Fields: map[string]string{"key": c.Key, "loser": c.Loser.Owner.String(), "winner": c.Winner.Owner.String(), "winner_member": c.Winner.Origin},
	})
}

// adopt takes over what an earlier life of this member had registered for
// clients, as the others remember it. What belonged to that life is gone with
// it, and names of processes are taken over by the owner of their target.
func (h *Host) adopt(entries []registry.Entry) {
	for _, e := range h.owners.Adopt(entries) {
		if e.Owner.Kind != registry.OwnerLease {
			continue
		}
		claim := registry.Claim{Key: e.Key, Value: e.Value, Owner: e.Owner, Duplicate: e.Duplicate, TTL: e.TTL, Claimed: e.Claimed}
		if _, err := h.registry.Register(context.Background(), claim); err != nil {
			h.opts.Log.WithField("key", e.Key).WithField("err", err).Info("a name from before the restart is not taken over")
		}
	}
}

// passMembers hands the members that a topology found on to the cluster.
func (h *Host) passMembers(topology string, nodes []sdk.Node) {
	var addrs []string
	if h.findsMembers(topology) {
		for _, n := range nodes {
			if n.Role == sdk.RoleMember && n.Name != h.member {
				addrs = append(addrs, n.Addr)
			}
		}
	}
	h.cluster.SetFound(topology, addrs)
}

func (h *Host) findsMembers(topology string) bool {
	return slices.ContainsFunc(h.config().Topologies, func(t config.Topology) bool {
		return t.Name == topology && t.Finds == config.FindsMembers
	})
}

// applyPlugins puts the topologies of a configuration in force, and tells those
// that find members who we are. The caller has reloading.
func (h *Host) applyPlugins(cfg *config.Config) {
	specs := append(plugin.Specs(cfg.Topologies), h.strategySpecs(cfg)...)
	h.plugins.Apply(cfg.Plugins, plugin.WithSelf(specs, func(strategy string) sdk.Self {
		self := sdk.Self{
			Member: h.member, Addr: h.cluster.Addr(), Cluster: cfg.Cluster.Name, Incarnation: uint64(h.started.UnixNano()),
		}
		if h.keys != nil {
			for _, s := range h.keys.Secret("discovery/" + strategy) {
				self.Secrets = append(self.Secrets, sdk.NewSecret(s))
			}
		}
		return self
	}))
}

// Members lists the members, this one included, by name.
func (h *Host) Members() []cluster.Member { return h.cluster.Members() }

// Quorum tells whether this member sees a majority.
func (h *Host) Quorum() cluster.Quorum { return h.cluster.Quorum() }

// Forget takes a member that does not run off the list, everywhere.
func (h *Host) Forget(name string) error { return h.cluster.Forget(name) }

// Registry is the member's replica of the registry. Names of processes are
// registered by Register.
func (h *Host) Registry() *registry.Registry { return h.registry }

// Register claims a key. A process has to be on a target that this member owns;
// it is a *ownership.NotOwnerError otherwise.
func (h *Host) Register(ctx context.Context, c registry.Claim) (registry.Entry, error) {
	switch c.Owner.Kind {
	case registry.OwnerPid:
		return h.owners.Register(ctx, c)
	case registry.OwnerMember:
		c.Owner.Member = h.member
	}
	return h.registry.Register(ctx, c)
}

// TargetOwner finds the target that a name means, which may be the part before
// the @, and the member that owns it; empty while nobody does.
func (h *Host) TargetOwner(name string) (full, member string, err error) { return h.owners.Find(name) }

// Changed returns a channel that is closed when next a member, or the owner of a
// target, changes.
func (h *Host) Changed() <-chan struct{} { return h.changes.Next() }

// Conn is the connection to another member; it is not the caller's to close.
func (h *Host) Conn(member string) (*grpc.ClientConn, error) { return h.cluster.Conn(member) }

// leaveTime bounds how long a goodbye may take.
const leaveTime = 3 * time.Second

// Leave detaches from all targets, so that other members attach to them, says
// goodbye, and ends Run.
func (h *Host) Leave(ctx context.Context) error {
	if !h.Clustered() {
		return errAlone
	}
	err := h.goodbye(ctx)
	h.stop()
	return err
}

// errAlone is the answer to what makes sense among members only.
var errAlone = errors.New("this debughost is in no cluster")

// Goodbye is Leave without the end of Run: what is to be done before the
// connections of other members are cut.
func (h *Host) Goodbye(ctx context.Context) { _ = h.goodbye(ctx) }

// goodbye lets go of everything that others can take over, and tells them. It
// does so once.
func (h *Host) goodbye(ctx context.Context) error {
	h.leaving.Do(func() {
		h.bus.Publish(events.Event{Type: events.MemberStopping})
		h.handOver(ctx)
		h.stopParts()
		select {
		case <-h.partsDone:
		case <-ctx.Done():
		}
		if h.Clustered() {
			ctx, cancel := context.WithTimeout(ctx, leaveTime)
			defer cancel()
			h.left = h.cluster.Leave(ctx)
		}
	})
	return h.left
}

// Keys lists the cluster keys by their ids; the first is in use.
func (h *Host) Keys() []cluster.KeyInfo {
	if h.keys == nil {
		return nil
	}
	return h.keys.List()
}

// AddKey takes a further cluster key, as a line of a key file.
func (h *Host) AddKey(text string) (id string, err error) {
	k, err := cluster.ParseKey(text)
	if err != nil {
		return "", err
	}
	return k.ID(), h.changeKeys(func(r *cluster.Ring) error { return r.Add(k) })
}

// UseKey makes a key that is there the one in use.
func (h *Host) UseKey(id string) error {
	return h.changeKeys(func(r *cluster.Ring) error { return r.Use(id) })
}

// RemoveKey forgets a key that is not in use.
func (h *Host) RemoveKey(id string) error {
	return h.changeKeys(func(r *cluster.Ring) error { return r.Remove(id) })
}

// changeKeys changes the ring, and gives the plugins their new secrets.
func (h *Host) changeKeys(f func(*cluster.Ring) error) error {
	if h.keys == nil {
		return errAlone
	}
	err := f(h.keys)
	h.reloading.Lock()
	defer h.reloading.Unlock()
	h.applyPlugins(h.config())
	return err
}

// Peers is where and how other members call this one: connections before their
// TLS, what makes them safe, and what is served there beside the API. The
// listener is nil without a cluster.
func (h *Host) Peers() (net.Listener, credentials.TransportCredentials, func(grpc.ServiceRegistrar)) {
	if !h.Clustered() {
		return nil, nil, nil
	}
	return h.cluster.Listener(), h.cluster.ServerCreds(), func(s grpc.ServiceRegistrar) {
		h.links.Register(s)
		if h.blobs != nil {
			blob.Register(s, h.blobs, cluster.PeerName)
		}
		handoff.Register(s, handoff.Config{Source: h.children.Snapshot, PeerName: cluster.PeerName})
	}
}

// Clustered tells whether this member is to have others.
func (h *Host) Clustered() bool { return h.keys != nil }
