// Package link is what members tell each other beside gossip: messages of the
// registry, and events. It keeps one stream to each other member, over gRPC with
// mutual TLS, and says at once when one breaks, which is how a killed member is
// noticed within milliseconds.
//
// It does not decide who is a member or who is dead (package cluster does), nor
// does it read what the registry sends.
//
//	l := link.New(link.Config{Member: "a", Epoch: epoch, Cluster: c, Receive: func(from string, msg []byte) error {
//		return reg.Receive(from, msg)
//	}, Events: bus})
//	l.Register(grpcServer)
//	go l.Run(ctx)
//	ok := l.Send("b", msg)
package link

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	linkpb "github.com/debughost/debughost/host/link/proto"
)

// Cluster is what a Links needs of package cluster.
type Cluster interface {
	Members() []cluster.Member
	// Changed is closed at the next change of any member.
	Changed() <-chan struct{}
	Conn(member string) (*grpc.ClientConn, error)
	// Hint hears that a member's stream broke (or could not be made), or, with
	// nil, that it works.
	Hint(member string, err error)
}

// Config is what a Links needs. Log, PeerName and Events may be nil.
type Config struct {
	Member string // this member
	Epoch  uint64 // its life
	Cluster
	// Receive takes one message of another member's registry. It is called by
	// one goroutine for each member.
	Receive func(from string, msg []byte) error
	Events  *events.Bus
	// PeerName is the member that a certificate belongs to. Where it knows, a
	// caller that calls itself otherwise is refused.
	PeerName func(credentials.AuthInfo) (string, bool)
	Log      *logrus.Entry
}

// Links are the streams to all other members. Its methods may be called from
// any goroutine, also before Run.
//
// Run has two goroutines for each other member: one keeps the Exchange open and
// sends what is queued, with a third while it is open that waits for its end, and
// one takes its events. On the serving side grpc has one for each stream.
type Links struct {
	cfg Config

	mu    sync.Mutex
	peers map[string]*peer // by name
	seen  map[string]seen  // by name: which of its events are here

	sent, received, dropped atomic.Uint64 // bytes, bytes, messages
}

// seen is the last event of a member that is in our bus.
type seen struct{ epoch, seq uint64 }

// New returns Links without any stream.
func New(cfg Config) *Links {
	if cfg.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		cfg.Log = logrus.NewEntry(l)
	}
	return &Links{cfg: cfg, peers: map[string]*peer{}, seen: map[string]seen{}}
}

// Register adds the service to a server that members call.
func (l *Links) Register(s grpc.ServiceRegistrar) { linkpb.RegisterLinkServer(s, &server{links: l}) }

// Send queues a message for a member. It never blocks. It answers false, and
// drops the message, when there is no stream to the member or its queue is full.
func (l *Links) Send(member string, msg []byte) bool {
	l.mu.Lock()
	p := l.peers[member]
	l.mu.Unlock()
	if p == nil || !p.queue.put(msg) {
		l.dropped.Add(1)
		return false
	}
	return true
}

// Stats are counted since the start.
type Stats struct {
	Sent, Received uint64 // bytes of the registry's messages
	Dropped        uint64 // messages that had no stream, or found its queue full
}

// Stats counts what went over the links.
func (l *Links) Stats() Stats {
	return Stats{Sent: l.sent.Load(), Received: l.received.Load(), Dropped: l.dropped.Load()}
}

// Run keeps a stream to each member that may answer, until ctx ends.
func (l *Links) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		changed := l.cfg.Changed()
		l.reconcile(ctx, &running)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// reconcile starts and ends peers so that there is one for each life of a
// member that is not known to be gone.
func (l *Links) reconcile(ctx context.Context, running *sync.WaitGroup) {
	l.mu.Lock()
	defer l.mu.Unlock()
	want := map[string]cluster.Member{}
	for _, m := range l.cfg.Members() {
		if !m.Self && m.State != cluster.Dead && m.State != cluster.Left {
			want[m.Name] = m
		}
	}
	for name, p := range l.peers {
		if m, ok := want[name]; !ok || m.Epoch != p.epoch || m.Addr != p.addr {
			p.cancel()
			delete(l.peers, name)
		}
	}
	for name, m := range want {
		if l.peers[name] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		p := &peer{links: l, name: name, epoch: m.Epoch, addr: m.Addr, cancel: cancel}
		l.peers[name] = p
		running.Go(func() { p.exchangeForever(ctx) })
		if l.cfg.Events != nil {
			running.Go(func() { p.eventsForever(ctx) })
		}
	}
}

// lastSeen is the number of the last event of this life of a member that is
// here.
func (l *Links) lastSeen(member string, epoch uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.seen[member]; s.epoch == epoch {
		return s.seq
	}
	return 0
}

// see notes an event, and tells whether it is new.
func (l *Links) see(member string, epoch, seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.seen[member]; epoch < s.epoch || epoch == s.epoch && seq <= s.seq {
		return false
	}
	l.seen[member] = seen{epoch, seq}
	return true
}
