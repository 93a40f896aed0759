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

// boxes are all sandboxes of a rig. They outlive the supervisors.
type boxes struct {
	mu    sync.Mutex
	at    map[string]map[string]*box  // id, member
	twice []string                    // what ran on two members at once
	spoil error                       // no snapshot is restored
	load  func(context.Context) error // what a reload does; nil: it works
	balk  error                       // nothing is created
	// status is what is said of a sandbox, where that is not the usual; by id.
	status map[string]sdk.SandboxStatus
}

func (b *boxes) setStatus(id string, st sdk.SandboxStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status[id] = st
}

type box struct {
	exit  sdk.SandboxExit
	ended chan struct{}
	done  bool
	state []byte // that it began with
	has   string // its bundle, a path
}

// end ends what runs of a child.
func (b *boxes) end(id string, exit sdk.SandboxExit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.at[id] {
		x.end(exit)
	}
}

func (x *box) end(exit sdk.SandboxExit) {
	if !x.done {
		x.exit, x.done = exit, true
		close(x.ended)
	}
}

// die ends all that a member runs.
func (b *boxes) die(member string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.at {
		if x := at[member]; x != nil {
			x.end(sdk.SandboxExit{Signal: 9})
			delete(at, member)
		}
	}
}

func (b *boxes) running() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.at {
		for _, x := range at {
			if !x.done {
				n++
			}
		}
	}
	return n
}

type memberBoxes struct {
	*boxes
	member string
}

var _ sdk.Sandbox = (*memberBoxes)(nil)

func (b *memberBoxes) Create(_ context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.balk != nil {
		return sdk.SandboxHandle{}, b.balk
	}
	if b.at[spec.ID] == nil {
		b.at[spec.ID] = map[string]*box{}
	}
	for m, x := range b.at[spec.ID] {
		if m != b.member && !x.done {
			b.twice = append(b.twice, fmt.Sprintf("%s on %s and %s", spec.ID, m, b.member))
		}
	}
	if b.at[spec.ID][b.member] != nil {
		return sdk.SandboxHandle{}, sdk.ErrExists
	}
	b.at[spec.ID][b.member] = &box{ended: make(chan struct{}), has: spec.Bundle}
	return sdk.SandboxHandle{ID: spec.ID, State: []byte("handle")}, nil
}

func (b *memberBoxes) get(id string) (*box, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x := b.at[id][b.member]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("%s: %w", id, sdk.ErrNotFound)
}

func (b *memberBoxes) Inspect(_ context.Context, id string) (sdk.SandboxStatus, error) {
	_, err := b.get(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if st, ok := b.status[id]; ok {
		st.ID = id
		return st, err
	}
	return sdk.SandboxStatus{ID: id, State: sdk.SandboxRunning, OSPid: 4711, Memory: 1 << 20}, err
}

func (b *memberBoxes) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	x, err := b.get(id)
	if err != nil {
		return sdk.SandboxExit{}, err
	}
	select {
	case <-x.ended:
		return x.exit, nil
	case <-ctx.Done():
		return sdk.SandboxExit{}, ctx.Err()
	}
}

func (b *memberBoxes) Stop(_ context.Context, id string, _ time.Duration) error {
	x, err := b.get(id)
	if err == nil {
		b.mu.Lock()
		x.end(sdk.SandboxExit{Signal: 15})
		b.mu.Unlock()
	}
	return err
}

func (b *memberBoxes) Destroy(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x := b.at[id][b.member]; x != nil {
		x.end(sdk.SandboxExit{Signal: 9})
		delete(b.at[id], b.member)
	}
	return nil
}

func (b *memberBoxes) Recover(_ context.Context, h sdk.SandboxHandle) error {
	_, err := b.get(h.ID)
	return err
}

func (b *memberBoxes) Logs(_ context.Context, id string, _ sdk.LogOptions, emit func(sdk.LogLine) error) error {
	if _, err := b.get(id); err != nil {
		return err
	}
	return emit(sdk.LogLine{Stream: "stdout", Line: []byte("line of " + id)})
}

// deafBoxes do not notice that a sandbox has ended.
type deafBoxes struct{ *memberBoxes }

func (b *deafBoxes) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	<-ctx.Done()
	return sdk.SandboxExit{}, ctx.Err()
}

// movingBoxes are sandboxes that can be moved. The state of one is what it began
// with and where it was since.
type movingBoxes struct{ *memberBoxes }

var _ sdk.Snapshotter = (*movingBoxes)(nil)

func (b *movingBoxes) Snapshot(_ context.Context, id string, w io.Writer) error {
	x, err := b.get(id)
	if err != nil {
		return err
	}
	_, err = w.Write(append(slices.Clone(x.state), b.member...))
	return err
}

func (b *movingBoxes) Restore(_ context.Context, spec sdk.SandboxSpec, r io.Reader) (sdk.SandboxHandle, error) {
	state, err := io.ReadAll(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		err = b.spoil
	}
	if err != nil {
		return sdk.SandboxHandle{}, err
	}
	if b.at[spec.ID] == nil {
		b.at[spec.ID] = map[string]*box{}
	}
	b.at[spec.ID][b.member] = &box{ended: make(chan struct{}), state: state, has: spec.Bundle}
	return sdk.SandboxHandle{ID: spec.ID, State: []byte("handle")}, nil
}

// changingBoxes are movingBoxes that take another bundle while they run, and tell which
// they have.
type changingBoxes struct{ *movingBoxes }

var (
	_ sdk.Reloader = (*changingBoxes)(nil)
	_ sdk.Operator = (*changingBoxes)(nil)
)

func (b *changingBoxes) Reload(ctx context.Context, spec sdk.SandboxSpec) ([]byte, error) {
	x, err := b.get(spec.ID)
	b.mu.Lock()
	load := b.load
	b.mu.Unlock()
	if err == nil && load != nil {
		err = load(ctx)
	}
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	x.has = spec.Bundle
	return []byte(`{"loaded":1}`), nil
}

func (b *changingBoxes) Operate(_ context.Context, id, operation string, input []byte) ([]byte, error) {
	x, err := b.get(id)
	switch {
	case err != nil:
		return nil, err
	case operation != "has":
		return nil, fmt.Errorf("%s: %w", operation, sdk.ErrUnsupported)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return []byte(x.has + string(input)), nil
}

// lastingBoxes take all the time to start that they get.
type lastingBoxes struct{ *memberBoxes }

func (b *lastingBoxes) Create(ctx context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	if _, err := b.memberBoxes.Create(ctx, spec); err != nil {
		return sdk.SandboxHandle{}, err
	}
	<-ctx.Done()
	return sdk.SandboxHandle{}, ctx.Err()
}

// slowBoxes take all the time to stop that they get.
type slowBoxes struct{ *memberBoxes }

func (b *slowBoxes) Stop(ctx context.Context, _ string, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}
