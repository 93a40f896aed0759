package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/broadcast"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/sdk"
)

// rig is a cluster of supervisors in this process: real books, registries and
// clocks; messages, membership, sandboxes and the placement strategy are the
// test's.
type rig struct {
	t     testing.TB
	dir   string
	boxes *boxes

	mu      sync.Mutex
	members map[string]*rigMember
	changed broadcast.Signal
	place   func(sdk.PlacementRequest) (sdk.Decision, error)
	blobs   map[string]string // paths, by id
	away    bool              // who may have the others
}

type rigMember struct {
	name  string
	sup   *Supervisor
	reg   *registry.Registry
	stop  context.CancelFunc
	done  chan struct{}
	state cluster.State // as all others see it
	epoch uint64
	inbox chan rigMessage
}

type rigMessage struct {
	from string
	msg  []byte
}

// errAbsent is a sandbox strategy that is not installed: absent.
var errAbsent = errors.New("sandbox-absent is not there")

func newRig(t testing.TB, names ...string) *rig {
	r := &rig{t: t, dir: t.TempDir(), boxes: &boxes{at: map[string]map[string]*box{}, status: map[string]sdk.SandboxStatus{}}, members: map[string]*rigMember{}}
	r.place = leastChildren
	for _, n := range names {
		r.members[n] = &rigMember{name: n, state: cluster.Left}
	}
	for _, n := range names {
		r.start(n)
	}
	t.Cleanup(func() {
		for _, n := range names {
			r.end(n)
		}
	})
	for _, n := range names {
		r.await(func() bool {
			s := r.members[n].sup
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.core.synced
		}, "%s does not know the others", n)
	}
	return r
}

// leastChildren places where the fewest children are.
func leastChildren(q sdk.PlacementRequest) (sdk.Decision, error) {
	best := sdk.Decision{}
	least := 0
	for _, m := range q.Members {
		if m.State != sdk.MemberAlive || m.Draining {
			continue
		}
		if n := m.Resources.Children + m.Resources.Reserved.Children; best.Member == "" || n < least || n == least && m.Name < best.Member {
			best.Member, least = m.Name, n
		}
		best.Scores = append(best.Scores, sdk.Score{Member: m.Name})
	}
	if best.Member == "" {
		return best, sdk.ErrNoCandidate
	}
	return best, nil
}

func (r *rig) start(name string) {
	r.mu.Lock()
	m := r.members[name]
	r.mu.Unlock()
	reg := registry.New(registry.Config{Member: name, Epoch: uint64(time.Now().UnixNano()), Send: func(to string, msg []byte) bool { return r.send(name, to, msg) }})
	sup, err := New(Config{
		Member: name, Clustered: len(r.members) > 1, Path: filepath.Join(r.dir, name+".book"), Registry: reg,
		Members: func() []cluster.Member { return r.view(name) }, Changed: r.changed.Next,
		Quorum: func() cluster.Quorum {
			q := cluster.Quorum{}
			for _, m := range r.view(name) {
				if m.State != cluster.Left {
					q.Size++
				}
				if m.State.Usable() {
					q.Alive++
				}
			}
			q.Need = q.Size/2 + 1
			q.Has = q.Alive >= q.Need
			return q
		},
		Sandbox: func(_ context.Context, strategy string) (sdk.Sandbox, error) {
			switch strategy {
			case "absent":
				return nil, errAbsent
			case "deaf":
				return &deafBoxes{&memberBoxes{r.boxes, name}}, nil
			case "moving":
				return &movingBoxes{&memberBoxes{r.boxes, name}}, nil
			case "slow":
				return &slowBoxes{&memberBoxes{r.boxes, name}}, nil
			case "lasting":
				return &lastingBoxes{&memberBoxes{r.boxes, name}}, nil
			case "changing":
				return &changingBoxes{&movingBoxes{&memberBoxes{r.boxes, name}}}, nil
			}
			return &memberBoxes{r.boxes, name}, nil
		},
		Placement: func(context.Context, string) (sdk.Placement, string, error) {
			return placementFunc(r.place), "placement-test", nil
		},
		Blob: func(_ context.Context, id string) (string, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if path, ok := r.blobs[id]; ok {
				return path, nil
			}
			if r.away {
				return "", fmt.Errorf("%w: %w", ErrAway, errNoBlob)
			}
			return "", errNoBlob
		},
		Fetch: func(ctx context.Context, member, child string, epoch uint64, w io.Writer) error {
			return r.members[member].sup.Snapshot(ctx, name, child, epoch, w)
		},
		Settings: Settings{Orphan: time.Second},
	})
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	m.sup, m.reg, m.stop, m.done, m.inbox = sup, reg, cancel, make(chan struct{}), make(chan rigMessage, 1<<14)
	r.mu.Lock()
	m.epoch++
	m.state = cluster.Alive
	r.mu.Unlock()
	r.tell()
	var parts sync.WaitGroup
	parts.Go(func() { _ = reg.Run(ctx) })
	parts.Go(func() { _ = sup.Run(ctx) })
	inbox := m.inbox
	parts.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case msg := <-inbox:
				if err := reg.Receive(msg.from, msg.msg); err != nil {
					r.t.Error(err)
				}
			}
		}
	})
	done := m.done
	go func() {
		parts.Wait()
		close(done)
	}()
}

// end has a member stand still for good, as kill -9 does as far as others see;
// what it runs goes on.
func (r *rig) end(name string) {
	r.halt(name)
	r.set(name, cluster.Dead)
}

// kill is end, and what it runs has ended before others know.
func (r *rig) kill(name string) {
	r.halt(name)
	r.boxes.die(name)
	r.set(name, cluster.Dead)
}

func (r *rig) halt(name string) {
	m := r.members[name]
	if m.stop != nil {
		m.stop()
		<-m.done
		m.stop = nil
	}
}

func (r *rig) set(name string, s cluster.State) {
	r.mu.Lock()
	r.members[name].state = s
	r.mu.Unlock()
	r.tell()
}

// tell tells all members who there is.
func (r *rig) tell() {
	for name, m := range r.members {
		if m.reg == nil {
			continue
		}
		var peers []registry.Peer
		for _, o := range r.view(name) {
			if o.Name != name && o.State != cluster.Left {
				peers = append(peers, registry.Peer{Name: o.Name, Epoch: o.Epoch, Visible: o.State.Usable()})
			}
		}
		m.reg.SetMembers(peers)
	}
	r.changed.Tell()
}

func (r *rig) view(of string) []cluster.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []cluster.Member
	for name, m := range r.members {
		out = append(out, cluster.Member{Name: name, State: m.state, Self: name == of, Epoch: m.epoch})
	}
	slices.SortFunc(out, func(a, b cluster.Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (r *rig) send(from, to string, msg []byte) bool {
	r.mu.Lock()
	m := r.members[to]
	ok := m != nil && m.state.Usable() && m.inbox != nil
	r.mu.Unlock()
	if !ok {
		return false
	}
	select {
	case m.inbox <- rigMessage{from, slices.Clone(msg)}:
		return true
	default:
		return false
	}
}

func (r *rig) await(ok func() bool, format string, args ...any) {
	r.t.Helper()
	if !within(20*time.Second, ok) {
		r.t.Fatalf(format, args...)
	}
}

// within tells whether something comes true in time.
func within(d time.Duration, ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(d); !ok(); <-tick.C {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// arbiter is the member to ask about a child.
func (r *rig) arbiter(id string) *Supervisor {
	for _, m := range r.members {
		if m.stop != nil {
			return r.members[m.sup.Arbiter(id)].sup
		}
	}
	return nil
}

func (r *rig) startChild(id string) Child {
	r.t.Helper()
	c, err := r.arbiter(id).Start(context.Background(), Spec{ID: id, Strategy: "test"})
	require.NoError(r.t, err)
	return c
}

// state awaits that all members say the same of a child.
func (r *rig) state(id string, want State) Child {
	r.t.Helper()
	var c Child
	var said string
	agree := within(20*time.Second, func() bool {
		said = ""
		for _, m := range r.members {
			if m.stop == nil {
				continue
			}
			got, err := m.sup.Get(context.Background(), id)
			said += fmt.Sprintf("%s: %s %s %s %v; ", m.name, got.State, got.Member, got.Reason, err)
			if err != nil || got.State != want {
				return false
			}
			c = got
		}
		return true
	})
	if !agree {
		r.t.Fatalf("%s is not %s everywhere: %s", id, want, said)
	}
	return c
}

type placementFunc func(sdk.PlacementRequest) (sdk.Decision, error)

func (f placementFunc) Choose(_ context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	return f(r)
}
