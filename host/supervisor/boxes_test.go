package supervisor

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

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
