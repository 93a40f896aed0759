package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/debughost/debughost/sdk"
)

const (
	// blobTime bounds how long a blob may take to come from another member.
	blobTime = 2 * time.Minute
	// operateTime bounds one operation.
	operateTime = 5 * time.Minute
	// reloadTime bounds a reload, which may have to compile.
	reloadTime = 10 * time.Minute
	// adoptTime is how long a reload waits until the spec says so.
	adoptTime = 10 * time.Second
)

// Reload puts another bundle in the place of the one that a child of this member runs,
// without a restart. It returns, with what the strategy reports as JSON, when that is
// the child's spec and sure to stay, as Start does. Of one that fails nothing has
// changed; where it is not certain what the child runs then, it is started again.
func (s *Supervisor) Reload(ctx context.Context, id, bundle, note string) (report []byte, c Child, err error) {
	if _, err := s.runs("reload", id); err != nil {
		return nil, c, err
	}
	if !validBlob(bundle) {
		return nil, c, fmt.Errorf("reload %w", &SpecError{ID: id, Problem: fmt.Sprintf("bundle: %.80q is no id of a blob", bundle)})
	}
	if _, err := s.blob(ctx, bundle); err != nil {
		return nil, c, fmt.Errorf("reload child %s: bundle: %w", id, err)
	}
	type answer struct {
		next   reload
		report []byte
		err    error
	}
	answered := make(chan answer, 1)
	s.do(func(c *core, now instant) {
		err = c.request(now, request{kind: askReload, id: id, bundle: bundle, note: note, reply: func(next reload, report []byte, err error) {
			answered <- answer{next, report, err}
		}})
	})
	if err != nil {
		return nil, c, err
	}
	select {
	case a := <-answered:
		if a.err != nil {
			return nil, c, fmt.Errorf("reload child %s: %w", id, a.err)
		}
		c, err = s.adopted(ctx, id, a.next)
		return a.report, c, err
	case <-ctx.Done():
		return nil, c, fmt.Errorf("reload child %s: it goes on: %w", id, ctx.Err())
	}
}

// adopted waits until a reload is in the child's spec, and that is where it is safe.
func (s *Supervisor) adopted(ctx context.Context, id string, next reload) (Child, error) {
	ctx, cancel := context.WithTimeout(ctx, adoptTime)
	defer cancel()
	for {
		news := s.news.Next()
		s.mu.Lock()
		var v Child
		there, pending, mine := false, false, false
		if ch := s.core.children[id]; ch != nil && ch.there() {
			v = s.core.view(ch)
			there = slices.ContainsFunc(v.Spec.Versions, func(v Version) bool { return v.Bundle == next.Bundle && v.At.UnixNano() == next.At })
			pending = ch.run != nil && ch.run.Reload != nil && *ch.run.Reload == next
			mine = ch.rec.Intent.Version.signature().author == s.cfg.Member
		}
		put, published := s.lastPut, s.pubs
		s.mu.Unlock()
		switch {
		case pending:
		case there && !mine: // who has made it the spec has it, and here it is on disk
			return v, s.onDisk(ctx, id, put)
		case there:
			return v, s.settled(ctx, id, put, published)
		default:
			return v, &StateError{Verb: "reload", ID: id, Problem: "it ended, or was told to, before its spec said so"}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return v, &UnconfirmedError{ID: id, Disk: true, Cause: errors.New("the member that decides about it has not made it its spec yet")}
		}
	}
}

// reload has a strategy put another bundle in the place of what a run has, and gives
// the answer to the core.
func (s *Supervisor) reload(a action) {
	ctx := s.begins(a.id)
	s.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, reloadTime)
		defer cancel()
		report, err := s.reloadBy(ctx, a)
		s.begun(a.id)
		s.do(func(c *core, now instant) { err = c.reloaded(now, a.id, a.op, a.reload, err) })
		a.reply(a.reload, report, err)
	})
}

func (s *Supervisor) reloadBy(ctx context.Context, a action) ([]byte, error) {
	spec, _, err := s.sandboxSpec(ctx, a.spec)
	if err != nil {
		return nil, err
	}
	sb, err := s.cfg.Sandbox(ctx, a.run.Strategy.String())
	if err != nil {
		return nil, &unavailableError{err}
	}
	can, ok := sb.(sdk.Reloader)
	if !ok {
		return nil, fmt.Errorf("sandbox strategy %s does not reload: %w", a.run.Strategy.String(), sdk.ErrUnsupported)
	}
	return can.Reload(ctx, spec)
}

// begins notes that a reload or a start of a child begins, of which there is one at a time;
// begun that it is over.
func (s *Supervisor) begins(id string) context.Context {
	ctx, giveUp := context.WithCancel(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads[id] = giveUp
	return ctx
}

func (s *Supervisor) begun(id string) {
	s.giveUp(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.loads, id)
}

// giveUp ends the wait for a reload or a start, of a child that has ended, or is to.
func (s *Supervisor) giveUp(id string) {
	s.mu.Lock()
	giveUp := s.loads[id]
	s.mu.Unlock()
	if giveUp != nil {
		giveUp()
	}
}

// Operate has the strategy of a child of this member do one thing to it. What goes in
// and comes out is JSON, in the strategy's own terms, of at most sdk.MaxOperation bytes.
func (s *Supervisor) Operate(ctx context.Context, id, operation string, input []byte) (output []byte, err error) {
	strategy, err := s.runs("operate", id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, operateTime)
	defer cancel()
	sb, err := s.cfg.Sandbox(ctx, strategy)
	if err != nil {
		return nil, fmt.Errorf("operate child %s: %w", id, &unavailableError{err})
	}
	can, ok := sb.(sdk.Operator)
	if !ok {
		return nil, fmt.Errorf("operate child %s: sandbox strategy %s has no operations: %w", id, strategy, sdk.ErrUnsupported)
	}
	if output, err = can.Operate(ctx, id, operation, input); err != nil {
		return nil, fmt.Errorf("operate child %s: %w", id, err)
	}
	return output, nil
}

// TakeSnapshot writes the state of a child of this member, as its strategy does. The child
// keeps running.
func (s *Supervisor) TakeSnapshot(ctx context.Context, id string, w io.Writer) error {
	strategy, err := s.runs("take snapshot of", id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	ch := s.core.children[id]
	changing := ch != nil && ch.run != nil && ch.run.changing()
	s.mu.Unlock()
	if changing {
		return &StateError{Verb: "take snapshot of", ID: id, Problem: "its code is being changed"}
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

// runs tells by which strategy a child runs here.
func (s *Supervisor) runs(verb, id string) (strategy string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.core.children[id]
	switch {
	case ch == nil || !ch.there():
		return "", fmt.Errorf("%s child %.200q: %w", verb, id, ErrUnknown)
	case ch.rec.Assignment.Member != s.cfg.Member && ch.rec.Assignment.Member != "":
		return "", &StateError{Verb: verb, ID: id, Problem: ErrNoRun.Error(), Elsewhere: true}
	case ch.run == nil || ch.run.Phase != up:
		return "", &StateError{Verb: verb, ID: id, Problem: fmt.Sprintf("it is %s", s.core.view(ch).State)}
	}
	return ch.run.Strategy.String(), nil
}

// blob is the local path of a blob.
func (s *Supervisor) blob(ctx context.Context, id string) (path string, err error) {
	if s.cfg.Blob == nil {
		return "", fmt.Errorf("this member keeps no blobs: %w", sdk.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, blobTime)
	defer cancel()
	if path, err = s.cfg.Blob(ctx, id); errors.Is(err, ErrAway) { // it is tried again, as a plugin that is away
		err = &unavailableError{err}
	}
	return path, err
}

// sandboxSpec is a spec in a sandbox strategy's words, and the path of its seed; empty:
// none. What it names is here then.
func (s *Supervisor) sandboxSpec(ctx context.Context, spec *Spec) (out sdk.SandboxSpec, seed string, err error) {
	out = spec.sandbox(s.current().Orphan)
	if spec.Bundle != "" {
		if out.Bundle, err = s.blob(ctx, spec.Bundle); err != nil {
			return out, "", fmt.Errorf("bundle: %w", err)
		}
	}
	if spec.Seed != "" {
		if seed, err = s.blob(ctx, spec.Seed); err != nil {
			return out, "", fmt.Errorf("seed: %w", err)
		}
	}
	return out, seed, nil
}

// begin starts a sandbox afresh: with its seed, where it has one.
func begin(ctx context.Context, sb sdk.Sandbox, spec sdk.SandboxSpec, seed string) (sdk.SandboxHandle, error) {
	if seed == "" {
		return sb.Create(ctx, spec)
	}
	can, ok := sb.(sdk.Snapshotter)
	if !ok {
		return sdk.SandboxHandle{}, fmt.Errorf("seed: the strategy restores no snapshots: %w", sdk.ErrUnsupported)
	}
	f, err := os.Open(seed)
	if err != nil {
		return sdk.SandboxHandle{}, fmt.Errorf("seed: %w", err)
	}
	defer f.Close()
	return can.Restore(ctx, spec, f)
}

// checkBlobs refuses a spec whose blobs are nowhere, or whose strategy is known not to
// begin with a seed. What it names is on this member then, too.
func (s *Supervisor) checkBlobs(ctx context.Context, spec *Spec) error {
	for _, b := range []struct{ what, id string }{{"bundle", spec.Bundle}, {"seed", spec.Seed}} {
		if b.id == "" {
			continue
		}
		if _, err := s.blob(ctx, b.id); err != nil {
			return fmt.Errorf("child %s: %s: %w", spec.ID, b.what, err)
		}
	}
	if spec.Seed == "" {
		return nil
	}
	if _, err := s.snapshotter(ctx, spec.Strategy); errors.Is(err, sdk.ErrUnsupported) {
		return &SpecError{ID: spec.ID, Problem: fmt.Sprintf("seed: sandbox strategy %s takes no snapshots, and begins with none", spec.Strategy)}
	}
	return nil
}

// Blobs are the ids of the blobs that specs name. While it does not know what others
// know, it says so: there may be more.
func (s *Supervisor) Blobs() (named map[string]bool, complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	named = map[string]bool{}
	for _, ch := range s.core.children {
		spec := ch.rec.Intent.Spec
		if spec == nil {
			continue
		}
		for _, id := range []string{spec.rest.Bundle, spec.rest.Seed} {
			if id != "" {
				named[id] = true
			}
		}
		for _, v := range spec.rest.Versions {
			named[v.Bundle] = true
		}
	}
	return named, s.core.synced
}
