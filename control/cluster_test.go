package control

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/target"
)

// testCluster is a few servers in one process that pass calls on to each other.
// Who is a member, and who owns a target, is what the test says.
type testCluster struct {
	t        testing.TB
	registry *fakeRegistry
	children *fakeChildren
	quorum   cluster.Quorum

	mu      sync.Mutex
	members map[string]*testMember
	owners  map[string]string // by full name of a target
	infos   map[string]target.Info
	changed chan struct{}
}

// testMember is one server. It is the Peers of that, and its ClusterEngine.
type testMember struct {
	*serving
	c       *testCluster
	name    string
	engine  *fakeEngine
	keys    *fakeKeys
	audit   *auditList
	goodbye int

	// What follows is guarded by c.mu.
	life      uint64
	listen    *cuttable
	state     cluster.State
	believes  map[string]string // owners that this member alone believes in
	conns     map[string]*grpc.ClientConn
	forgotten []string
	left      bool
	costs     map[string]target.Cost // of its own targets, which it alone knows
	ended     bool                   // the test is over: a handler that is late gets no new connection
}

var (
	_ Peers         = (*testMember)(nil)
	_ ClusterEngine = (*testMember)(nil)
)

// newTestCluster starts members with these names.
func newTestCluster(t testing.TB, names ...string) *testCluster {
	c := &testCluster{
		t: t, members: map[string]*testMember{}, owners: map[string]string{}, infos: map[string]target.Info{},
		changed: make(chan struct{}), quorum: cluster.Quorum{Size: len(names), Alive: len(names), Need: len(names)/2 + 1, Has: true},
	}
	c.registry, c.children = newFakeRegistry(), newFakeChildren()
	for _, name := range names {
		c.members[name] = &testMember{
			c: c, name: name, keys: newFakeKeys(), audit: &auditList{}, believes: map[string]string{}, conns: map[string]*grpc.ClientConn{},
			engine: &fakeEngine{status: Status{Member: name, Node: "debughost@" + name}},
		}
		c.start(name)
	}
	return c
}

// start begins a life of a member.
func (c *testCluster) start(name string) *testMember {
	m := c.members[name]
	listen := &cuttable{Listener: bufconn.Listen(1 << 20)}
	m.serving = serve(c.t, clusterEngine{m.engine, m}, Options{
		Socket: filepath.Join(socketDir(c.t), "api.sock"), Drain: time.Millisecond, Audit: m.audit,
		Version: Version{Version: "v1"},
		Cluster: m, Keys: m.keys, Registry: memberRegistry{c.registry, name}, Supervisor: memberChildren{c.children, name}, Peers: m, Questions: fakeQuestions{m: m},
		Members: &MemberListener{
			Listener: listen, Creds: nameCreds{}, Goodbye: func(context.Context) { m.goodbye++ },
			Name: func(a credentials.AuthInfo) (string, bool) { n, ok := a.(nameInfo); return string(n), ok && n != "" },
		},
	})
	c.change(func() { m.life++; m.state, m.listen = cluster.Alive, listen })
	c.t.Cleanup(func() { c.change(func() { m.ended = true; m.hangUp("") }) })
	return m
}

// kill ends a member as kill -9 does: its connections break, what it was doing
// has no answer. The others learn of it by change.
func (c *testCluster) kill(name string) {
	m := c.members[name]
	m.listen.cut()
	require.NoError(c.t, m.stop())
	c.change(func() { m.state = cluster.Dead; m.hangUp("") })
}

// change changes what all members know.
func (c *testCluster) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	for _, m := range c.members {
		if m.state == cluster.Dead {
			for _, other := range c.members {
				other.hangUp(m.name)
			}
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// own makes a member the owner of targets.
func (c *testCluster) own(name string, nodes ...string) {
	c.change(func() {
		for _, n := range nodes {
			c.owners[n] = name
			c.infos[n] = target.Info{Node: n, State: target.Attached, Owner: name, Topologies: []string{"t"}}
		}
	})
}

// hangUp closes the connections to a member, or all. c.mu is held.
func (m *testMember) hangUp(to string) {
	for key, conn := range m.conns {
		if to == "" || strings.HasPrefix(key, to+" ") {
			conn.Close()
			delete(m.conns, key)
		}
	}
}

func (m *testMember) Self() string { return m.name }

func (m *testMember) Owner(node string) (string, string, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	var full []string
	for n := range m.c.owners {
		if n == node || strings.HasPrefix(n, node+"@") {
			full = append(full, n)
		}
	}
	switch {
	case len(full) == 0:
		return "", "", &target.HintError{Err: fmt.Errorf("find %s: %w", node, target.ErrNoTarget), Hint: "look"}
	case len(full) > 1:
		return "", "", fmt.Errorf("find %s: %w", node, target.ErrAmbiguous)
	}
	if owner, ok := m.believes[full[0]]; ok {
		return full[0], owner, nil
	}
	return full[0], m.c.owners[full[0]], nil
}

func (m *testMember) Conn(name string) (*grpc.ClientConn, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	other := m.c.members[name]
	if m.ended {
		return nil, fmt.Errorf("the test is over")
	}
	if other == nil {
		return nil, fmt.Errorf("there is no member %s", name)
	}
	if other.state == cluster.Dead {
		return nil, fmt.Errorf("it is dead")
	}
	key := fmt.Sprint(name, " ", other.life)
	if conn := m.conns[key]; conn != nil {
		return conn, nil
	}
	listen := other.listen
	conn, err := grpc.NewClient("passthrough:///"+name,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listen.dial(ctx) }),
		grpc.WithTransportCredentials(nameCreds{name: m.name}), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 20 * time.Second, Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond}}))
	if err == nil {
		m.conns[key] = conn
	}
	return conn, err
}

func (m *testMember) Changed() <-chan struct{} {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.c.changed
}

func (m *testMember) Members() []cluster.Member {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	var out []cluster.Member
	for _, name := range slices.Sorted(maps.Keys(m.c.members)) {
		o := m.c.members[name]
		if slices.Contains(m.forgotten, name) {
			continue
		}
		out = append(out, cluster.Member{
			Name: name, Addr: name + ":7946", Version: "v1", State: o.state, Since: startOfTests, Epoch: o.life, Self: o == m,
			LastContact: startOfTests.Add(time.Minute),
		})
	}
	return out
}

// startOfTests is when members got their states.
var startOfTests = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (m *testMember) Quorum() cluster.Quorum {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.c.quorum
}

func (m *testMember) Leave(context.Context) error {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.left {
		return fmt.Errorf("it has left already")
	}
	m.left = true
	return nil
}

func (m *testMember) Forget(name string) error {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.forgotten = append(m.forgotten, name)
	return nil
}

// clusterEngine is a fakeEngine that sees the targets of the whole cluster.
type clusterEngine struct {
	*fakeEngine
	m *testMember
}

func (e clusterEngine) Targets() []target.Info {
	e.m.c.mu.Lock()
	defer e.m.c.mu.Unlock()
	var out []target.Info
	for _, i := range e.m.c.infos {
		if i.Owner == e.m.name {
			i.Cost = e.m.costs[i.Node]
		}
		out = append(out, i)
	}
	return out
}

// auditList keeps records.
type auditList struct {
	mu      sync.Mutex
	records []AuditRecord
}

func (a *auditList) Record(r AuditRecord) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records = append(a.records, r)
	return nil
}

func (a *auditList) all() []AuditRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.records)
}

// cuttable is a listener whose connections can be cut all at once.
type cuttable struct {
	*bufconn.Listener
	mu    sync.Mutex
	conns []net.Conn
	dead  bool
}

// Accept says as a listener of package net that it is closed.
func (l *cuttable) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		err = net.ErrClosed
	}
	return c, err
}

func (l *cuttable) dial(ctx context.Context) (net.Conn, error) {
	c, err := l.Listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		c.Close()
		return nil, fmt.Errorf("connection refused")
	}
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *cuttable) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.conns {
		c.Close()
	}
}

// nameCreds tells the server who calls, by a byte of length and the name.
type nameCreds struct{ name string }

type nameInfo string

func (nameInfo) AuthType() string { return "name" }

func (n nameCreds) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	_, err := c.Write(append([]byte{byte(len(n.name))}, n.name...))
	return c, nameInfo(""), err
}

func (nameCreds) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	size := make([]byte, 1)
	if _, err := io.ReadFull(c, size); err != nil {
		return nil, nil, err
	}
	name := make([]byte, size[0])
	_, err := io.ReadFull(c, name)
	return c, nameInfo(name), err
}

func (nameCreds) Info() credentials.ProtocolInfo            { return insecure.NewCredentials().Info() }
func (n nameCreds) Clone() credentials.TransportCredentials { return n }
func (nameCreds) OverrideServerName(string) error           { return nil }
