package cluster

import (
	"context"
	"fmt"
	"log"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/credentials"

	"github.com/debughost/debughost/host/events"
)

// Cluster is this member's membership. All methods may be called from any
// goroutine, before Run, while it runs, and after it.
//
// Goroutines, all started by Run, which waits for them: look asks memberlist
// and keeps the table; check dials members whose connection broke; join finds
// and repairs; keep writes known members; publish tells events. The transport
// has one for packets, one that accepts, and one for each connection whose
// first byte is awaited. memberlist has its own, which Shutdown ends: one that
// waits for the answer to a probe may outlive Run by a few probe intervals.
type Cluster struct {
	cfg      Config
	log      *logrus.Entry
	times    timings
	identity *identity
	calls    *callListener
	joiner   *joiner

	ready     chan struct{}
	lookNow   chan struct{} // memberlist has changed
	keepNow   chan struct{} // known members have changed
	tellNow   chan struct{} // there are events
	hints     chan hint
	conflicts chan conflict
	leaving   chan leaveRequest
	burials   *memberlist.TransmitLimitedQueue
	agreement agreement
	view      atomic.Uint64 // hash of the table's view

	mu      sync.Mutex
	table   *table
	changed chan struct{} // closed at the next change
	untold  []events.Event
	conns   map[string]*memberConn
	addr    string // "" before Run has it
	running bool
	ignored string // the address of a later member of this one's name, when that was logged
}

// New returns a cluster that knows only this member. It does no I/O.
func New(cfg Config) (*Cluster, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg: cfg, log: cfg.Log, times: cfg.Profile.timings(),
		calls:     newCallListener(),
		ready:     make(chan struct{}),
		lookNow:   make(chan struct{}, 1),
		keepNow:   make(chan struct{}, 1),
		tellNow:   make(chan struct{}, 1),
		hints:     make(chan hint, 256),
		conflicts: make(chan conflict, 16),
		leaving:   make(chan leaveRequest),
		changed:   make(chan struct{}),
		conns:     map[string]*memberConn{},
	}
	c.burials = &memberlist.TransmitLimitedQueue{NumNodes: c.size, RetransmitMult: 4}
	c.identity = &identity{label: cfg.Label, materials: &keyMaterials{ring: cfg.Keys, member: cfg.Name, label: cfg.Label}}
	if cfg.TLS != nil {
		c.identity.materials = &fileMaterials{files: *cfg.TLS, log: cfg.Log, now: time.Now}
	}
	c.table = newTable(Member{
		Name: cfg.Name, ID: cfg.ID, Epoch: cfg.Epoch, Version: cfg.Version, Machine: cfg.Machine,
		State: Alive, Since: time.Unix(0, int64(cfg.Epoch)),
	})
	c.view.Store(c.table.view())
	c.joiner = newJoiner(c)
	return c, nil
}

// Run takes part in the cluster until ctx ends, without a goodbye (see Leave).
// It is called once. It returns an error where the port cannot be opened or the TLS files not be
// used; Ready is never closed then.
func (c *Cluster) Run(ctx context.Context) error {
	defer c.end()
	var tell sync.WaitGroup
	toldAll := make(chan struct{})
	tell.Go(func() { c.publish(toldAll) })
	defer tell.Wait()
	defer close(toldAll)
	if c.cfg.alone() {
		return c.runAlone(ctx)
	}
	c.recall()
	if _, err := c.identity.materials.current(); err != nil {
		return err
	}
	t, err := c.listen(ctx)
	if err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	list, err := memberlist.Create(c.gossipConfig(t))
	if err != nil {
		_ = t.Shutdown()
		return fmt.Errorf("start gossip: %w", err)
	}
	look, err := newInspector(c.gossipConfig(t), t.peeker.gossip)
	if err != nil {
		_ = list.Shutdown()
		return err
	}
	c.begin(t.advertised.String(), t.peeker.listener.Addr())
	c.cfg.Keys.watch(c.keysChanged)
	defer c.cfg.Keys.watch(nil)

	inner, stop := context.WithCancel(ctx)
	defer stop()
	var looking, others sync.WaitGroup
	looking.Go(func() { c.look(inner, look) })
	others.Go(func() { c.check(inner) })
	others.Go(func() { c.joiner.run(inner, list) })
	others.Go(func() { c.keep(inner) })
	c.serveLeave(ctx, func(l leaveRequest) error { return c.goodbye(l.ctx, list) })
	looking.Wait() // it needs the list
	look.close()
	_ = list.Shutdown() // ends attempts to join, too
	others.Wait()
	return nil
}

// serveLeave does what Leave asks for, until ctx ends.
func (c *Cluster) serveLeave(ctx context.Context, leave func(leaveRequest) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-c.leaving:
			l.done <- leave(l)
		}
	}
}

func (c *Cluster) runAlone(ctx context.Context) error {
	c.begin("", &net.TCPAddr{})
	c.serveLeave(ctx, func(leaveRequest) error { c.left(); return nil })
	return nil
}

// listen opens the port.
func (c *Cluster) listen(ctx context.Context) (*transport, error) {
	packets, streams, err := c.cfg.Network.Listen(ctx, c.cfg.Bind)
	if err != nil {
		return nil, err
	}
	t := &transport{
		network: c.cfg.Network, packets: packets, dialTimeout: c.times.dial,
		peeker: &peeker{
			listener: streams, calls: c.calls, timeout: peekTimeout,
			answer: func() []byte { return c.hello().append(nil) },
		},
	}
	bound, err := addrPort(streams.Addr())
	if err == nil {
		t.advertised, err = c.cfg.advertised(ctx, bound)
	}
	if err != nil {
		_ = packets.Close()
		_ = streams.Close()
		return nil, err
	}
	t.start()
	return t, nil
}

func (c *Cluster) gossipConfig(t *transport) *memberlist.Config {
	g := c.cfg.Profile.memberlist()
	g.Name, g.Label, g.Keyring, g.Transport = c.cfg.Name, c.cfg.Label, c.cfg.Keys.gossip, t
	d := &delegate{c}
	g.Delegate, g.Events, g.Conflict, g.Alive, g.Ping, g.Merge = d, d, d, d, d, d
	g.Logger = log.New(gossipLog{func(line string) { c.log.Debug(line) }}, "", 0)
	return g
}

// begin notes that the member can be reached.
func (c *Cluster) begin(addr string, bound net.Addr) {
	c.calls.setAddr(bound)
	c.mu.Lock()
	c.addr, c.running = addr, true
	c.table.self.Addr = addr
	c.mu.Unlock()
	close(c.ready)
	poke(c.lookNow)
}

// end notes that it cannot any more.
func (c *Cluster) end() {
	_ = c.calls.Close()
	c.mu.Lock()
	c.running = false
	all := c.conns
	c.conns = map[string]*memberConn{}
	c.mu.Unlock()
	for _, conn := range all {
		conn.close()
	}
}

// update changes the table and draws the consequences: whoever waits for a
// change is woken, events are queued, connections to members that are gone are
// closed.
func (c *Cluster) update(f func(t *table, now time.Time)) {
	c.mu.Lock()
	f(c.table, time.Now())
	told, changed := c.table.take()
	var ended []*memberConn
	if changed {
		close(c.changed)
		c.changed = make(chan struct{})
		ended = c.endedConns()
		c.view.Store(c.table.view())
	}
	c.untold = append(c.untold, told...)
	if over := len(c.untold) - maxUntold; over > 0 {
		c.untold = c.untold[over:]
	}
	c.mu.Unlock()
	for _, conn := range ended {
		conn.close()
	}
	if changed {
		c.agreement.reset(time.Now())
		poke(c.keepNow)
		c.joiner.wake()
	}
	if len(told) > 0 {
		poke(c.tellNow)
	}
}

// maxUntold bounds the events that Publish has not taken yet; the oldest go.
const maxUntold = 4096

// publish tells events until done is closed, then those that are left.
func (c *Cluster) publish(done <-chan struct{}) {
	for last := false; ; {
		c.mu.Lock()
		told := c.untold
		c.untold = nil
		c.mu.Unlock()
		for _, e := range told {
			c.logEvent(e)
			if c.cfg.Publish != nil {
				c.cfg.Publish(e)
			}
		}
		if last {
			return
		}
		select {
		case <-c.tellNow:
		case <-done:
			last = true
		}
	}
}

// tell queues an event that is not the table's.
func (c *Cluster) tell(e events.Event) {
	c.mu.Lock()
	c.untold = append(c.untold, e)
	c.mu.Unlock()
	poke(c.tellNow)
}

func (c *Cluster) logEvent(e events.Event) {
	l := c.log.WithField("event", string(e.Type)).WithField("reason", e.Reason)
	for k, v := range e.Fields {
		l = l.WithField(k, v)
	}
	switch e.Type {
	case events.NameConflict:
		l.Error("another running member has this member's name")
	case events.MemberDead, events.MemberUnreachable, events.QuorumLost, events.DiscoveryFailed:
		l.Warn("cluster changed")
	case events.MemberSuspect:
		l.Debug("cluster changed")
	default:
		l.Info("cluster changed")
	}
}

func (c *Cluster) keysChanged(what, id string) {
	c.tell(events.Event{Type: events.KeyRotated, Reason: "cluster key " + id + " was " + what, Fields: map[string]string{"key": id, "change": what}})
}

// poke wakes whoever reads a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Ready is closed when the port is open, and Addr known.
func (c *Cluster) Ready() <-chan struct{} { return c.ready }

// Addr returns the address that others use: "" before Ready and when alone.
func (c *Cluster) Addr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// Members returns all known members by name, this one included.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.members()
}

// Member returns one of them.
func (c *Cluster) Member(name string) (Member, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name == c.table.self.Name {
		return c.table.self, true
	}
	if e := c.table.others[name]; e != nil {
		return e.Member, true
	}
	return Member{}, false
}

// Self returns this member.
func (c *Cluster) Self() Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.self
}

// Quorum tells whether this member sees a majority. One whose name another
// running member has never does.
func (c *Cluster) Quorum() Quorum {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.quorum()
}

// Clash tells why the other members do not accept this one's name; "" when they
// do.
func (c *Cluster) Clash() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.clash
}

// Changed returns a channel that is closed when a member's state, address or
// life, or the quorum, next changes. Get it before reading Members, so that no
// change is missed.
func (c *Cluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Listener has the connections of calls, before TLS; serve it with
// ServerOptions. It is closed when Run ends, and never has any when alone.
func (c *Cluster) Listener() net.Listener { return c.calls }

// ServerCreds are for the server on Listener.
func (c *Cluster) ServerCreds() credentials.TransportCredentials { return c.identity.server() }

// size is how many members gossip has, for memberlist's queue.
func (c *Cluster) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 1
	for _, e := range c.table.others {
		if !e.State.gone() {
			n++
		}
	}
	return n
}
