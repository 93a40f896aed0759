package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/debughost/debughost/sdk"
)

// ErrNotMoving says that a child's state is not to be handed to the member that
// asks for it: no move of it to there is under way.
var ErrNotMoving = errors.New("it is not being moved from here to there")

// Snapshot writes the state of a child that runs here and that, by an assignment
// of this epoch, is to go on at another member. The child keeps running.
func (s *Supervisor) Snapshot(ctx context.Context, member, id string, epoch uint64, w io.Writer) error {
	s.mu.Lock()
	may := s.core.mayHandOver(id, member, epoch)
	var strategy string
	if may {
		strategy = s.core.children[id].run.Strategy.String()
	}
	s.mu.Unlock()
	if !may {
		return fmt.Errorf("take snapshot of child %.200q: %w", id, ErrNotMoving)
	}
	ctx, cancel := context.WithTimeout(ctx, handoffTime)
	defer cancel()
	sb, err := s.snapshotter(ctx, strategy)
	if err == nil {
		err = sb.Snapshot(ctx, id, w)
	}
	if err != nil {
		return fmt.Errorf("take snapshot of child %s: %w", id, err)
	}
	return nil
}

// snapshotter is a strategy that can do this; others are an ErrUnsupported.
func (s *Supervisor) snapshotter(ctx context.Context, strategy string) (sdk.Snapshotter, error) {
	sb, err := s.cfg.Sandbox(ctx, strategy)
	if err != nil {
		return nil, &unavailableError{err}
	}
	can, ok := sb.(sdk.Snapshotter)
	if !ok {
		return nil, fmt.Errorf("sandbox strategy %s takes no snapshots: %w", strategy, sdk.ErrUnsupported)
	}
	return can, nil
}

// checkHandoff refuses a spec that wants its state handed over by a strategy that
// is known not to do that. One whose plugin does not run now is found out by the
// first move, which fails.
func (s *Supervisor) checkHandoff(ctx context.Context, spec *Spec) error {
	if spec.Handoff != sdk.HandoffSnapshot {
		return nil
	}
	if _, err := s.snapshotter(ctx, spec.Strategy); errors.Is(err, sdk.ErrUnsupported) {
		return &SpecError{ID: spec.ID, Problem: fmt.Sprintf("handoff: sandbox strategy %s takes no snapshots: none is what it can do", spec.Strategy)}
	}
	return nil
}

// restore starts a child with the state that it has on another member. The bytes
// go through as they come: none of these processes holds more than a few of them.
func (s *Supervisor) restore(ctx context.Context, a action, sb sdk.Sandbox, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	can, ok := sb.(sdk.Snapshotter)
	switch {
	case !ok:
		return sdk.SandboxHandle{}, fmt.Errorf("sandbox strategy %s restores no snapshots: %w", a.run.Strategy.String(), sdk.ErrUnsupported)
	case s.cfg.Fetch == nil:
		return sdk.SandboxHandle{}, fmt.Errorf("fetch snapshot from member %s: %w", a.take, sdk.ErrUnsupported)
	}
	if err := sb.Destroy(ctx, a.id); err != nil { // what an earlier attempt may have left
		return sdk.SandboxHandle{}, err
	}
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	var fetch sync.WaitGroup
	defer fetch.Wait()
	defer cancel()
	defer r.Close()
	fetch.Go(func() {
		// What the other side says is what Restore reads, and so what it fails with.
		_ = w.CloseWithError(s.cfg.Fetch(ctx, a.take, a.id, a.run.For.Epoch, w))
	})
	return can.Restore(ctx, spec, r)
}
