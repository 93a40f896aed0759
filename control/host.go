package control

import (
	"context"
	"iter"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/debughost/debughost/host"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/registry"
)

// ForHost makes a host the engine of a server, and completes the server's
// options with the host's part in a cluster.
func ForHost(h *host.Host, o Options) (Engine, Options) {
	o.Questions = h.Questions()
	o.Cluster, o.Registry, o.Supervisor, o.Peers = h, hostRegistry{h.Registry(), h}, h, hostPeers{h}
	if lis, creds, register := h.Peers(); lis != nil {
		o.Keys = hostKeys{h}
		o.Members = memberListener(lis, creds, register)
		o.Members.Goodbye = h.Goodbye
	}
	return hostEngine{h}, o
}

func memberListener(lis net.Listener, creds credentials.TransportCredentials, register func(grpc.ServiceRegistrar)) *MemberListener {
	return &MemberListener{Listener: lis, Creds: creds, Name: cluster.PeerName, Register: register}
}

var _ Supervisor = (*host.Host)(nil)

// hostPeers is a host as one member among others.
type hostPeers struct{ *host.Host }

var _ Peers = hostPeers{}

func (p hostPeers) Self() string { return p.Member() }

func (p hostPeers) Owner(node string) (full, member string, err error) { return p.TargetOwner(node) }

// hostKeys are the cluster keys of a host.
type hostKeys struct{ *host.Host }

var _ KeyEngine = hostKeys{}

func (k hostKeys) Keys() []KeyInfo {
	var out []KeyInfo
	for _, i := range k.Host.Keys() {
		out = append(out, KeyInfo{ID: i.ID, Primary: i.Primary})
	}
	return out
}

// hostRegistry is the registry of a host.
type hostRegistry struct {
	*registry.Registry
	host *host.Host
}

var _ RegistryEngine = hostRegistry{}

// Register has names of processes registered by those who watch these.
func (r hostRegistry) Register(ctx context.Context, c registry.Claim) (registry.Entry, error) {
	return r.host.Register(ctx, c)
}

func (r hostRegistry) Update(key string, owner *registry.Owner, f func(old []byte) ([]byte, error)) (registry.Entry, error) {
	var refused error
	e, err := r.Registry.Update(key, owner, func(old []byte) []byte {
		next, err := f(old)
		if err != nil {
			refused = err
			return old
		}
		return next
	})
	if refused != nil {
		err = refused
	}
	return e, err
}

func (r hostRegistry) Select(prefix string) iter.Seq[registry.Entry] {
	return r.Registry.Select(prefix, nil)
}

func (r hostRegistry) Watch(ctx context.Context, prefix string) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for c := range r.Registry.Watch(ctx, prefix) {
			out := Change{Type: ChangeType(c.Type), Entry: c.Entry}
			if c.Old.Key != "" {
				out.Old = &c.Old
			}
			if !yield(out) {
				return
			}
		}
	}
}

func (r hostRegistry) Stats() RegistryStats {
	s := r.Registry.Stats()
	return RegistryStats{
		Entries: s.Entries, Lag: r.Lag(), Sent: s.BytesSent, Received: s.BytesReceived, Messages: s.Received,
		Repairs: s.Repairs, Snapshots: s.Snapshots, Conflicts: s.Conflicts,
	}
}

// hostEngine says in this package's words what a host says in its own.
type hostEngine struct{ *host.Host }

var _ Engine = hostEngine{}

func (e hostEngine) Status() Status {
	s := e.Host.Status()
	out := Status{
		Member: s.Member, Node: s.Node, Started: s.Started, ConfigFile: s.ConfigFile, DataDir: s.DataDir,
		Warnings: s.Warnings,
	}
	for _, t := range s.Topologies {
		out.Topologies = append(out.Topologies, Topology{
			Name: t.Name, Strategy: t.Strategy, State: string(t.State), Reason: t.Reason, Nodes: t.Nodes, Updated: t.Updated,
		})
	}
	return out
}

func (e hostEngine) Plugins() []Plugin {
	var out []Plugin
	for _, p := range e.Host.Plugins() {
		out = append(out, Plugin{
			Name: p.Name, Kind: string(p.Kind), State: string(p.State), Version: p.Version, OSPid: p.Pid,
			Reason: p.Reason, Restarts: p.Restarts, Since: p.Since,
		})
	}
	return out
}
