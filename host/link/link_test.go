package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	linkpb "github.com/debughost/debughost/host/link/proto"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// net is a set of members in one process whose list of each other is the test's.
type network struct {
	t       *testing.T
	mu      sync.Mutex
	members map[string]*member
	changed chan struct{}
}

// member is one of them. It is the Cluster of its own Links.
type member struct {
	net    *network
	name   string
	epoch  uint64
	links  *Links
	bus    *events.Bus
	listen *bufconn.Listener
	server *grpc.Server
	conns  map[string]*grpc.ClientConn
	stop   func()

	mu    sync.Mutex
	got   []string // "from: message"
	hints []string // "member up" or "member down"
	deny  error    // what Receive answers
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, members: map[string]*member{}, changed: make(chan struct{})}
}

func (n *network) start(name string, epoch uint64, peerName func(credentials.AuthInfo) (string, bool)) *member {
	m := &member{
		net: n, name: name, epoch: epoch, bus: events.New(events.Options{Member: name}),
		listen: bufconn.Listen(1 << 20), server: grpc.NewServer(), conns: map[string]*grpc.ClientConn{},
	}
	m.links = New(Config{
		Member: name, Epoch: epoch, Cluster: m, Events: m.bus, PeerName: peerName,
		Receive: func(from string, msg []byte) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.got = append(m.got, from+": "+string(msg))
			return m.deny
		},
	})
	m.links.Register(m.server)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.server.Serve(m.listen) })
	wg.Go(func() { assert.NoError(n.t, m.links.Run(ctx)) })
	var once sync.Once
	m.stop = func() {
		once.Do(func() {
			cancel()
			m.server.Stop()
			wg.Wait()
			m.net.mu.Lock()
			defer m.net.mu.Unlock()
			for _, c := range m.conns {
				c.Close()
			}
		})
	}
	n.t.Cleanup(m.stop)
	n.mu.Lock()
	n.members[name] = m
	n.mu.Unlock()
	n.change()
	return m
}

func (n *network) change() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

func (m *member) Members() []cluster.Member {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	var out []cluster.Member
	for _, o := range m.net.members {
		out = append(out, cluster.Member{Name: o.name, Epoch: o.epoch, Addr: o.name, State: cluster.Alive, Self: o == m})
	}
	return out
}

func (m *member) Changed() <-chan struct{} {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	return m.net.changed
}

func (m *member) Conn(name string) (*grpc.ClientConn, error) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	o := m.net.members[name]
	if o == nil {
		return nil, errors.New("unknown member")
	}
	key := fmt.Sprint(name, o.epoch)
	if c := m.conns[key]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+name, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.listen.DialContext(ctx) }))
	m.conns[key] = c
	return c, err
}

func (m *member) Hint(name string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.hints = append(m.hints, name+" up")
	} else {
		m.hints = append(m.hints, name+" down")
	}
}

func (m *member) saw(hint string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.hints {
		if h == hint {
			return true
		}
	}
	return false
}

func (m *member) received() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.got, "\n")
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, patience, time.Millisecond, what)
}

func send(t *testing.T, m *member, to, msg string) {
	t.Helper()
	eventually(t, "a stream to "+to, func() bool { return m.links.Send(to, []byte(msg)) })
}

func TestExchange(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 1, nil), n.start("b", 1, nil)
	send(t, a, "b", "one")
	send(t, a, "b", "two")
	send(t, b, "a", "three")
	eventually(t, "all messages", func() bool {
		return b.received() == "a: one\na: two" && a.received() == "b: three"
	})
	assert.True(t, a.saw("b up"))
	assert.False(t, a.links.Send("c", nil), "there is no c")
	eventually(t, "the counts", func() bool {
		return b.links.Stats().Received == 6 && a.links.Stats().Sent == 6
	})
	assert.NotZero(t, a.links.Stats().Dropped)
}

// That a member is gone is heard at once, from both ends.
func TestBrokenStreamIsToldAtOnce(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 1, nil), n.start("b", 1, nil)
	send(t, a, "b", "x")
	send(t, b, "a", "x")
	b.stop()
	eventually(t, "a hint", func() bool { return a.saw("b down") })
	eventually(t, "no stream", func() bool { return !a.links.Send("b", nil) })

	// It comes back as another life of the same name.
	n.start("b", 2, nil)
	send(t, a, "b", "again")
	eventually(t, "the message", func() bool { return strings.Contains(n.members["b"].received(), "a: again") })
}

func TestMessageThatIsNotUnderstoodEndsTheStream(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("a", 1, nil), n.start("b", 1, nil)
	b.mu.Lock()
	b.deny = errors.New("garbage")
	b.mu.Unlock()
	send(t, a, "b", "x")
	eventually(t, "a hint", func() bool { return a.saw("b down") })
	b.mu.Lock()
	b.deny = nil
	b.mu.Unlock()
	send(t, a, "b", "y")
	eventually(t, "a new stream", func() bool { return strings.HasSuffix(b.received(), "a: y") })
}

func TestWhoCallsIsChecked(t *testing.T) {
	n := newNetwork(t)
	a := n.start("a", 1, nil)
	b := n.start("b", 1, func(credentials.AuthInfo) (string, bool) { return "mallory", true })
	eventually(t, "a refusal", func() bool { return a.saw("b down") })
	assert.False(t, a.saw("b up"))
	eventually(t, "the other way", func() bool { return b.saw("a up") })

	conn, err := b.Conn("a")
	require.NoError(t, err)
	client := linkpb.NewLinkClient(conn)
	for _, name := range []string{"", "a"} {
		stream, err := client.WatchEvents(t.Context(), &linkpb.WatchEventsRequest{Member: name})
		require.NoError(t, err)
		_, err = stream.Recv()
		assert.ErrorContains(t, err, "cannot be the caller's name")
	}
	// One that does not say hello, and one that answers with another name.
	stream, err := client.Exchange(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&linkpb.Frame{Part: &linkpb.Frame_Registry{Registry: []byte("x")}}))
	_, err = stream.Recv()
	assert.Error(t, err)
	n.mu.Lock()
	n.members["c"] = &member{net: n, name: "c", epoch: 1, listen: a.listen}
	n.mu.Unlock()
	n.change()
	eventually(t, "it is not c", func() bool { return b.saw("c down") })
}

// Each event of a member is told once to each other, also over a break, and what
// everybody sees for himself is not told at all.
func TestEvents(t *testing.T) {
	n := newNetwork(t)
	a := n.start("a", 1, nil)
	for i := range historyMax + 10 {
		a.bus.Publish(events.Event{Type: events.TargetFound, Node: fmt.Sprint("old", i)})
	}
	b := n.start("b", 1, nil)
	nodes := func() []string {
		var out []string
		for _, e := range b.bus.History(events.Filter{}) {
			out = append(out, e.Node)
		}
		return out
	}
	eventually(t, "the history", func() bool { return len(nodes()) == historyMax })
	assert.Equal(t, "old10", nodes()[0], "the newest of it")

	a.bus.Publish(events.Event{Type: "member_dead", Node: "no"})
	told := a.bus.Publish(events.Event{Type: events.TargetAttached, Node: "x@y", Reason: "bad \xff", Fields: map[string]string{"k": "v"}})
	b.bus.Publish(events.Event{Type: events.TargetLost, Node: "z"})
	eventually(t, "both", func() bool { return len(nodes()) == historyMax+2 })
	eventually(t, "the other way", func() bool { return len(a.bus.History(events.Filter{Types: []events.Type{events.TargetLost}})) == 1 })
	got := b.bus.History(events.Filter{Types: []events.Type{events.TargetAttached}})[0]
	assert.Equal(t, "a", got.Member)
	assert.True(t, told.Time.Equal(got.Time))
	assert.Equal(t, "bad \uFFFD", got.Reason)
	assert.Equal(t, map[string]string{"k": "v"}, got.Fields)

	// b loses a and finds it again: what happened meanwhile comes, once.
	n.mu.Lock()
	delete(n.members, "a")
	n.mu.Unlock()
	n.change()
	eventually(t, "no stream", func() bool { return !b.links.Send("a", nil) })
	a.bus.Publish(events.Event{Type: events.TargetFound, Node: "meanwhile"})
	n.mu.Lock()
	n.members["a"] = a
	n.mu.Unlock()
	n.change()
	eventually(t, "what happened meanwhile", func() bool { all := nodes(); return all[len(all)-1] == "meanwhile" })
	assert.Len(t, nodes(), historyMax+3)

	// A new life of a begins its numbers anew.
	a.stop()
	a2 := n.start("a", 2, nil)
	a2.bus.Publish(events.Event{Type: events.TargetFound, Node: "newlife"})
	eventually(t, "the new life", func() bool { all := nodes(); return all[len(all)-1] == "newlife" })
}

func TestQueue(t *testing.T) {
	var q queue
	assert.False(t, q.put([]byte("x")), "closed")
	ready := q.start()
	assert.True(t, q.put([]byte("a")))
	assert.True(t, q.put(make([]byte, maxQueue-1)))
	assert.False(t, q.put([]byte("b")), "full")
	<-ready
	assert.Len(t, q.take(), 2)
	assert.True(t, q.put([]byte("b")))
	q.stop()
	assert.Empty(t, q.take())
}
