package control

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

// fakeChildren is the books that all members of a test share. Who decides about a
// child and who runs it is what the test says.
type fakeChildren struct {
	mu       sync.Mutex
	children map[string]supervisor.Child
	arbiter  string            // of all; empty: whoever is asked
	believes map[string]string // arbiters that a member alone believes in
	draining map[string]bool
	changed  chan struct{}
	acts     []string // "b stop web"
	fail     error    // of what acts
	logs     map[string]func(context.Context, sdk.LogOptions, func(sdk.LogLine) error) error
	explains supervisor.Explanation
	explain  supervisor.Spec // that was asked about last
	snapshot string
	blobs    *blob.Store // nil in tests that need none
}

func newFakeChildren(children ...supervisor.Child) *fakeChildren {
	f := &fakeChildren{
		children: map[string]supervisor.Child{}, believes: map[string]string{}, draining: map[string]bool{}, changed: make(chan struct{}),
		logs: map[string]func(context.Context, sdk.LogOptions, func(sdk.LogLine) error) error{},
	}
	for _, c := range children {
		f.children[c.Spec.ID] = c
	}
	return f
}

// change changes what all members know.
func (f *fakeChildren) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeChildren) put(c supervisor.Child) { f.change(func() { f.children[c.Spec.ID] = c }) }

// did are the acts so far.
func (f *fakeChildren) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.acts)
}

// memberChildren is the shared ones as a member uses them.
type memberChildren struct {
	*fakeChildren
	self string
}

var _ Supervisor = memberChildren{}

func (m memberChildren) act(what, id string, do func(*supervisor.Child)) (supervisor.Child, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acts = append(m.acts, m.self+" "+what+" "+id)
	if m.fail != nil {
		return supervisor.Child{}, m.fail
	}
	c, ok := m.children[id]
	if !ok {
		return c, fmt.Errorf("%s child %s: %w", what, id, supervisor.ErrUnknown)
	}
	c.Epoch++
	do(&c)
	m.children[id] = c
	close(m.changed)
	m.changed = make(chan struct{})
	return c, nil
}

func (m memberChildren) StartChild(_ context.Context, s supervisor.Spec) (supervisor.Child, error) {
	m.mu.Lock()
	if c, ok := m.children[s.ID]; ok {
		m.mu.Unlock()
		return c, &supervisor.ExistsError{ID: s.ID, Member: c.Member, State: c.State}
	}
	m.children[s.ID] = supervisor.Child{Spec: s, State: supervisor.Pending, Since: startOfTests}
	m.mu.Unlock()
	return m.act("start", s.ID, func(c *supervisor.Child) { c.State, c.Member = supervisor.Starting, m.self })
}

func (m memberChildren) StopChild(_ context.Context, id string) (supervisor.Child, error) {
	return m.act("stop", id, func(c *supervisor.Child) { c.State = supervisor.Stopping })
}

func (m memberChildren) RestartChild(_ context.Context, id string) (supervisor.Child, error) {
	return m.act("restart", id, func(c *supervisor.Child) { c.State, c.Restarts = supervisor.Starting, 0 })
}

func (m memberChildren) MoveChild(_ context.Context, id, to string) (supervisor.Child, error) {
	return m.act("move", id, func(c *supervisor.Child) { c.State, c.Member = supervisor.Moving, to })
}

func (m memberChildren) RemoveChild(_ context.Context, id string) error {
	_, err := m.act("remove", id, func(*supervisor.Child) {})
	if err == nil {
		m.change(func() { delete(m.children, id) })
	}
	return err
}

func (m memberChildren) Children(_ context.Context, f supervisor.Filter) ([]supervisor.Child, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(m.children)), func(c supervisor.Child) bool { return !keeps(f, c) }), nil
}

func keeps(f supervisor.Filter, c supervisor.Child) bool {
	is := func(want, has string) bool { return want == "" || want == has }
	return is(string(f.State), string(c.State)) && is(f.Member, c.Member) && is(f.Strategy, c.Spec.Strategy) && strings.HasPrefix(c.Spec.ID, f.Prefix)
}

func (m memberChildren) ChildByID(_ context.Context, id string) (supervisor.Child, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.children[id]
	if !ok {
		return c, fmt.Errorf("show child %s: %w", id, supervisor.ErrUnknown)
	}
	if c.Member == m.self && c.State == supervisor.Running {
		c.OSPid, c.Memory = 4711, 1<<20
	}
	return c, nil
}

func (m memberChildren) ChildLogs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	m.mu.Lock()
	read := m.logs[m.self]
	m.mu.Unlock()
	if read == nil {
		return fmt.Errorf("read the log of child %s: %w", id, sdk.ErrNotFound)
	}
	return read(ctx, o, emit)
}

func (m memberChildren) CountChildren() supervisor.Count {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := supervisor.Count{ByState: map[supervisor.State]int{}, ByMember: map[string]int{}}
	for _, c := range m.children {
		n.Total++
		n.ByState[c.State]++
		n.ByMember[c.Member]++
	}
	return n
}

func (m memberChildren) ChildRestarts() uint64 { return 7 }

func (m memberChildren) ChildrenChanged() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m memberChildren) ChildArbiter(string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.believes[m.self]; ok {
		return b
	}
	return m.arbiter
}

func (m memberChildren) ChildRunner(id string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.children[id]
	if !ok {
		return "", supervisor.ErrUnknown
	}
	return c.Member, nil
}

func (m memberChildren) DrainMember(_ context.Context, member string, undo bool) error {
	m.change(func() {
		m.acts = append(m.acts, fmt.Sprint(m.self, " drain ", member, " ", undo))
		if delete(m.draining, member); !undo {
			m.draining[member] = true
		}
	})
	return m.fail
}

func (m memberChildren) DrainingMembers() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.draining))
}

func (m memberChildren) Explain(_ context.Context, s supervisor.Spec) (supervisor.Explanation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.explain = s
	return m.explains, m.fail
}

func (m memberChildren) ReloadChild(_ context.Context, id, bundle, note string) ([]byte, supervisor.Child, error) {
	c, err := m.act("reload", id, func(c *supervisor.Child) {
		c.Spec.Bundle = bundle
		c.Spec.Versions = append(c.Spec.Versions, supervisor.Version{Bundle: bundle, At: startOfTests, Note: note})
	})
	return []byte(`{"loaded":2}`), c, err
}

func (m memberChildren) OperateChild(_ context.Context, id, operation string, input []byte) ([]byte, error) {
	_, err := m.act("operate "+operation, id, func(*supervisor.Child) {})
	return input, err
}

func (m memberChildren) SnapshotChild(_ context.Context, id string, w io.Writer) error {
	_, err := m.act("snapshot", id, func(*supervisor.Child) {})
	if err == nil {
		_, err = io.WriteString(w, m.snapshot)
	}
	return err
}

func (m memberChildren) PutBlob(r io.Reader, want string) (string, int64, error) {
	return m.blobs.Put(r, want)
}

func (m memberChildren) OpenBlob(ctx context.Context, id string) (io.ReadCloser, error) {
	if _, err := m.blobs.Ensure(ctx, id); err != nil {
		return nil, err
	}
	return m.blobs.Open(id)
}
