package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
)

// Options of a Server. Only Socket is required.
type Options struct {
	Socket  string        // path of the unix socket
	Version Version       // of this program
	Drain   time.Duration // what calls get to finish in when stopping; default 5 s
	Audit   Auditor       // nil: destructive calls go to the log alone
	Log     logrus.FieldLogger

	// Questions to targets; nil: there are none but those about processes.
	Questions Questions

	// The cluster. Calls that need a part that is nil are refused.
	Cluster  ClusterEngine
	Keys     KeyEngine
	Registry RegistryEngine
	// Supervisor keeps children running.
	Supervisor Supervisor
	// Peers passes calls on to other members; nil: each is done here.
	Peers Peers
	// Members is where other members call; nil: nowhere.
	Members *MemberListener

	// Metrics is the address for Prometheus, host:port; empty: none. While it
	// can't be had, the server does without and tries again.
	Metrics string
}

// MemberListener is where and how members call each other.
type MemberListener struct {
	Listener net.Listener // closed when the server stops
	Creds    credentials.TransportCredentials
	// Name tells which member is at the other end; callers without a name are
	// refused. Members hold every role.
	Name func(credentials.AuthInfo) (member string, ok bool)
	// Register adds what else members say to each other beside this API; may be
	// nil. Its calls are cut off when the server stops.
	Register func(grpc.ServiceRegistrar)
	// Goodbye is called when the server stops, before the members' connections are
	// cut; may be nil. It is to leave the cluster.
	Goodbye func(context.Context)
}

// Version says what was built.
type Version struct {
	Version string // v1.2.3
	Commit  string
	Go      string
}

// Server answers control calls: on a unix socket those of this machine, and at
// the MemberListener those of other members, to which it passes calls on.
//
// Run starts one goroutine for each listener, one that waits for the end, one
// for Options.Metrics and one that watches how late timers are; grpc has some
// for each connection and call. All have ended when Run returns.
type Server struct {
	opts     Options
	engine   Engine
	forward  *forwarder
	meter    *meter
	registry *registryService
	calls    calls // of members, under way
	ready    chan struct{}
	// drain ends when the server begins to stop: calls that would go on for
	// ever watch it.
	drain     context.Context
	stopCalls context.CancelFunc
}

const (
	// maxRequest bounds what a process of this machine may send: the largest input of
	// an operation, and something.
	maxRequest = sdk.MaxOperation + 32<<10
	// maxMemberMessage bounds what another member may send at once.
	maxMemberMessage = sdk.MaxOperation + 32<<10
	// handshakeTime is what a caller has to say hello in. Stopping waits for it.
	handshakeTime = 2 * time.Second
	// flushTime is what the last answers get to leave in.
	flushTime = 200 * time.Millisecond
)

// NewServer does nothing yet; Run serves.
func NewServer(engine Engine, o Options) *Server {
	if o.Drain <= 0 {
		o.Drain = 5 * time.Second
	}
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	s := &Server{opts: o, engine: engine, forward: newForwarder(o.Peers, engine), meter: &meter{}, ready: make(chan struct{})}
	s.forward.children = o.Supervisor
	s.drain, s.stopCalls = context.WithCancel(context.Background())
	s.registry = &registryService{engine: o.Registry, forward: s.forward, self: s.self, publish: s.publish, drain: s.drain}
	if o.Registry != nil {
		s.forward.registered = s.registry.settleEntry
	}
	return s
}

// Ready is closed once callers can connect.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends, lets calls finish for Options.Drain, cancels
// what is left, and removes the socket. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.stopCalls()
	if m := s.opts.Members; m != nil {
		defer m.Listener.Close()
	}
	l, err := listen(ctx, s.opts.Socket)
	if err != nil {
		return err
	}
	local := s.localServer()
	parts, ctx := errgroup.WithContext(ctx)
	side, stopSide := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSide()
	parts.Go(func() error { s.meter.run(side); return nil })
	parts.Go(func() error { s.serveMetrics(side); return nil })
	parts.Go(func() error { return s.serve(ctx, local, l, "serve "+s.opts.Socket) })
	var members *grpc.Server
	if m := s.opts.Members; m != nil {
		members = s.memberServer()
		parts.Go(func() error {
			if err := s.serve(ctx, members, m.Listener, "serve other members"); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil // who owns the listener has closed it: this member has left
		})
	}
	close(s.ready)
	parts.Go(func() error {
		<-ctx.Done()
		s.stop(local)
		if members != nil {
			s.stopMembers(members)
		}
		stopSide()
		return nil
	})
	return parts.Wait()
}

// serve answers on one listener until the server is stopped.
func (s *Server) serve(ctx context.Context, srv *grpc.Server, l net.Listener, tried string) error {
	err := srv.Serve(l)
	switch {
	case ctx.Err() != nil || errors.Is(err, grpc.ErrServerStopped):
		return nil
	case err == nil:
		err = net.ErrClosed
	}
	return fmt.Errorf("%s: %w", tried, err)
}

// localServer answers processes of this machine.
func (s *Server) localServer() *grpc.Server {
	g := newGate(s.opts, localCaller)
	srv := grpc.NewServer(
		grpc.Creds(newPeerCreds()),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.ChainUnaryInterceptor(g.unary, s.forward.unary),
		grpc.ChainStreamInterceptor(g.stream),
		grpc.WaitForHandlers(true),
	)
	s.register(srv)
	return srv
}

// memberServer answers other members.
func (s *Server) memberServer() *grpc.Server {
	m := s.opts.Members
	g := newGate(s.opts, memberCaller(m.Name))
	srv := grpc.NewServer(
		grpc.Creds(m.Creds),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxRecvMsgSize(maxMemberMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.ChainUnaryInterceptor(s.calls.unary, g.unary, s.forward.unary),
		grpc.ChainStreamInterceptor(s.calls.stream, g.stream),
		grpc.WaitForHandlers(true),
	)
	s.register(srv)
	if m.Register != nil {
		m.Register(srv)
	}
	return srv
}

func (s *Server) register(srv grpc.ServiceRegistrar) {
	o := s.opts
	controlpb.RegisterTargetsServer(srv, &targetService{engine: s.engine, forward: s.forward})
	controlpb.RegisterProcessesServer(srv, &processService{engine: s.engine, forward: s.forward})
	controlpb.RegisterEventsServer(srv, &eventService{bus: s.engine.Events(), drain: s.drain})
	controlpb.RegisterMemberServer(srv, &memberService{
		engine: s.engine, version: o.Version, cluster: o.Cluster, registry: o.Registry, children: o.Supervisor, forward: s.forward, meter: s.meter,
	})
	controlpb.RegisterClusterServer(srv, &clusterService{
		engine: o.Cluster, children: o.Supervisor, keys: o.Keys, targets: s.engine, forward: s.forward, self: s.self,
	})
	controlpb.RegisterRegistryServer(srv, s.registry)
	children := &childService{engine: o.Supervisor, cluster: o.Cluster, forward: s.forward, self: s.self, drain: s.drain}
	controlpb.RegisterChildrenServer(srv, children)
	controlpb.RegisterPlacementServer(srv, &placementService{children: children})
	s.registerQuestions(srv)
}

// self is this member's name.
func (s *Server) self() string {
	if s.opts.Peers != nil {
		return s.opts.Peers.Self()
	}
	return s.engine.Status().Member
}

func (s *Server) publish(e events.Event) { s.engine.Events().Publish(e) }

func (s *Server) stop(srv *grpc.Server) {
	s.stopCalls()
	late := time.AfterFunc(s.opts.Drain, srv.Stop)
	defer late.Stop()
	srv.GracefulStop()
}

// stopMembers says goodbye, lets calls of this API finish, and cuts off the
// others, which would never end.
func (s *Server) stopMembers(srv *grpc.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Drain)
	defer cancel()
	if bye := s.opts.Members.Goodbye; bye != nil {
		bye(ctx)
	}
	done := make(chan struct{})
	go func() {
		srv.GracefulStop()
		close(done)
	}()
	s.calls.wait(ctx)
	select {
	case <-done:
	case <-time.After(flushTime):
	}
	srv.Stop()
	<-done
}
