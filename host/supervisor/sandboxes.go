package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Bounds of what a sandbox strategy is asked, beside the time that a child gets
// to end.
const (
	createTime  = 2 * time.Minute // it may have to compile
	stopSpare   = 10 * time.Second
	recoverTime = 10 * time.Second
	inspectTime = 3 * time.Second
	waitAgain   = 100 * time.Millisecond // after a strategy that could not say
)

// call asks a sandbox strategy, and gives the answer to the core.
func (s *Supervisor) call(a action) {
	ctx := s.ctx
	if a.kind == doCreate {
		ctx = s.begins(a.id)
	}
	s.tasks.Go(func() {
		if a.kind != doStop { // which mostly waits, for as long as the child may take
			select {
			case s.slots <- struct{}{}:
				defer func() { <-s.slots }()
			case <-ctx.Done(): // nothing is asked
			}
			if s.ctx.Err() != nil {
				return
			}
		}
		switch a.kind {
		case doCreate:
			s.create(ctx, a)
		case doRecover:
			s.takeOver(a)
		case doStop:
			exit, err := s.stop(a)
			s.ended(a.id, err)
			s.do(func(c *core, now instant) { c.stopped(now, a.id, a.op, exit, err) })
		case doDestroy:
			err := s.with(a.run.Strategy.String(), createTime, func(ctx context.Context, sb sdk.Sandbox) error { return sb.Destroy(ctx, a.id) })
			s.ended(a.id, err)
			s.do(func(c *core, now instant) { c.destroyed(now, a.id, a.op, err) })
		}
	})
}

// stop has a child ended. How it ended is of interest where it had to be killed.
func (s *Supervisor) stop(a action) (exit *sdk.SandboxExit, err error) {
	err = s.with(a.run.Strategy.String(), a.timeout+stopSpare, func(ctx context.Context, sb sdk.Sandbox) error {
		if err := sb.Stop(ctx, a.id, a.timeout); err != nil {
			return err
		}
		if st, err := sb.Inspect(ctx, a.id); err == nil {
			exit = st.Exit
		}
		return nil
	})
	return exit, err
}

// with calls a strategy within a time.
func (s *Supervisor) with(strategy string, timeout time.Duration, f func(context.Context, sdk.Sandbox) error) error {
	return s.within(s.ctx, strategy, timeout, f)
}

func (s *Supervisor) within(ctx context.Context, strategy string, timeout time.Duration, f func(context.Context, sdk.Sandbox) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sb, err := s.cfg.Sandbox(ctx, strategy)
	if err != nil {
		return &unavailableError{err}
	}
	return f(ctx, sb)
}

// unavailableError is a strategy whose plugin does not run.
type unavailableError struct{ error }

func (e *unavailableError) Unwrap() []error { return []error{e.error, sdk.ErrUnavailable, errNotAsked} }

// create starts a child; what there was of it is destroyed before.
func (s *Supervisor) create(ctx context.Context, a action) {
	var h sdk.SandboxHandle
	var st sdk.SandboxStatus
	timeout := createTime
	if a.take != "" {
		timeout = handoffTime
	}
	spec, seed, err := s.sandboxSpec(ctx, a.spec)
	start := func(ctx context.Context, sb sdk.Sandbox) error {
		if a.take != "" {
			var err error
			if h, err = s.restore(ctx, a, sb, spec); err == nil {
				st, _ = sb.Inspect(ctx, a.id)
			}
			return err
		}
		if a.run.Restarts > 0 || len(a.run.hitch().recent) > 0 {
			if err := sb.Destroy(ctx, a.id); err != nil {
				return err
			}
		}
		var err error
		if h, err = begin(ctx, sb, spec, seed); errors.Is(err, sdk.ErrExists) { // of a life that was not told of it
			if err = sb.Destroy(ctx, a.id); err == nil {
				h, err = begin(ctx, sb, spec, seed)
			}
		}
		if err == nil {
			st, _ = sb.Inspect(ctx, a.id) // the waiter learns how it does
		}
		return err
	}
	if err == nil {
		err = s.within(ctx, a.run.Strategy.String(), timeout, start)
	}
	s.begun(a.id)
	s.do(func(c *core, now instant) { c.created(now, a.id, a.op, h, st, err) })
	if err == nil {
		s.wait(a, h, st)
	}
}

func (s *Supervisor) takeOver(a action) {
	var st sdk.SandboxStatus
	err := s.with(a.run.Strategy.String(), recoverTime, func(ctx context.Context, sb sdk.Sandbox) error {
		err := sb.Recover(ctx, a.run.Handle)
		if err == nil {
			st, _ = sb.Inspect(ctx, a.id)
		}
		return err
	})
	s.do(func(c *core, now instant) { c.recovered(now, a.id, a.op, st, err) })
	if err == nil {
		s.wait(a, a.run.Handle, st)
	}
}

// wait is for the end of one run of a child.
type wait struct{ cancel context.CancelFunc }

// wait has the core told when a child ends that was created or taken over by a, and
// is known to be as st says; and tells of its node until then.
func (s *Supervisor) wait(a action, h sdk.SandboxHandle, st sdk.SandboxStatus) {
	ctx, cancel := context.WithCancel(s.ctx)
	w := &wait{cancel}
	s.mu.Lock()
	if old := s.waits[a.id]; old != nil {
		old.cancel()
	}
	s.waits[a.id] = w
	s.mu.Unlock()
	if st.Node != "" || a.run.Node != (word{}) || st.State != sdk.SandboxRunning {
		s.tasks.Go(func() { s.follow(ctx, a, w, st) })
	}
	s.tasks.Go(func() {
		defer s.waited(a.id, w)
		for ctx.Err() == nil && s.lives(a.id, a.op) {
			exit, err := s.waitOnce(ctx, a, h)
			if err == nil {
				s.do(func(c *core, now instant) { c.exited(now, a.id, a.op, exit) })
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(waitAgain):
			}
		}
	})
}

func (s *Supervisor) waited(id string, w *wait) {
	w.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits[id] == w {
		delete(s.waits, id)
	}
}

// ended ends the wait for a run that was stopped or destroyed: a strategy that does
// not notice would hold it for ever.
func (s *Supervisor) ended(id string, err error) {
	if err != nil {
		return
	}
	s.mu.Lock()
	w := s.waits[id]
	s.mu.Unlock()
	if w != nil {
		w.cancel()
	}
}

// waitOnce waits with one process of the plugin; when that is another one, it has
// to take the sandbox over first.
func (s *Supervisor) waitOnce(ctx context.Context, a action, h sdk.SandboxHandle) (sdk.SandboxExit, error) {
	sb, err := s.cfg.Sandbox(ctx, a.run.Strategy.String())
	if err != nil {
		return sdk.SandboxExit{}, err
	}
	exit, err := sb.Wait(ctx, a.id)
	if !errors.Is(err, sdk.ErrNotFound) {
		return exit, err
	}
	recovering, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	err = sb.Recover(recovering, h)
	if errors.Is(err, sdk.ErrNotFound) {
		return sdk.SandboxExit{Reason: "its sandbox is gone: it ended while the plugin was down", At: time.Now()}, nil
	}
	if err != nil {
		return sdk.SandboxExit{}, err
	}
	return sb.Wait(ctx, a.id)
}

// lives tells whether a run is still the one that it was.
func (s *Supervisor) lives(id string, life uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.core.children[id]
	return ch != nil && ch.run != nil && ch.run.life == life && ch.run.Phase == up
}

// NodeAt is the BEAM node of a sandbox of this member.
type NodeAt struct {
	Child      string // its id
	Node       string // full name
	Addr       string // host:port to dial
	CookieFile string
}

// followEvery is how often a strategy is asked where the node of a sandbox is.
// Sandboxes that are no nodes are asked about until they say that they run.
const followEvery = 2 * time.Second

// follow tells of the node of a run, from what its strategy said when the run came
// to be, until it is over.
func (s *Supervisor) follow(ctx context.Context, a action, w *wait, st sdk.SandboxStatus) {
	defer s.tell(w, NodeAt{})
	again := time.NewTicker(followEvery)
	defer again.Stop()
	known := st.Node
	was := a.run.Node != (word{}) || st.Node != "" // it is a node, whatever is said of it now
	for {
		if st.State != "" {
			n := NodeAt{Child: a.id, Node: st.Node, Addr: st.Addr, CookieFile: st.CookieFile}
			if n.Node == "" || n.Addr == "" || n.CookieFile == "" || st.State == sdk.SandboxExited {
				n = NodeAt{}
			}
			s.tell(w, n)
			if st.Node != known {
				known = st.Node
				s.do(func(c *core, now instant) { c.seen(now, a.id, a.op, st) })
			}
			was = was || n != (NodeAt{})
			if n == (NodeAt{}) && (st.State == sdk.SandboxExited || !was && st.State != sdk.SandboxStarting) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		st = sdk.SandboxStatus{} // one that cannot be asked is where it was
		_ = s.with(a.run.Strategy.String(), inspectTime, func(asking context.Context, sb sdk.Sandbox) (err error) {
			asking, end := context.WithCancel(asking)
			defer end()
			defer context.AfterFunc(ctx, end)()
			st, err = sb.Inspect(asking, a.id)
			if err != nil || !s.lives(a.id, a.op) { // what was seen may be the next run
				st = sdk.SandboxStatus{}
			}
			return err
		})
	}
}

// tell notes the node of a run, and passes on those of all; of the zero value it
// notes that there is none.
func (s *Supervisor) tell(w *wait, n NodeAt) {
	s.nodesMu.Lock()
	defer s.nodesMu.Unlock()
	if s.nodes[w] == n {
		return
	}
	s.nodes[w] = n
	if n == (NodeAt{}) {
		delete(s.nodes, w)
	}
	if s.cfg.Nodes == nil || s.ctx.Err() != nil { // they run on after this member
		return
	}
	s.cfg.Nodes(slices.SortedFunc(maps.Values(s.nodes), func(a, b NodeAt) int { return cmp.Compare(a.Child, b.Child) }))
}

// NodeOf is the node of a child's run, wherever that is; empty: none is known.
func (s *Supervisor) NodeOf(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.core.children[id]; ch != nil && ch.there() {
		return s.core.view(ch).Node
	}
	return ""
}

// inspect asks for what changes all the time of a child that runs here.
func (s *Supervisor) inspect(ctx context.Context, c *Child, strategy string) {
	ctx, cancel := context.WithTimeout(ctx, inspectTime)
	defer cancel()
	sb, err := s.cfg.Sandbox(ctx, strategy)
	if err != nil {
		return
	}
	if st, err := sb.Inspect(ctx, c.Spec.ID); err == nil {
		c.Memory, c.Enforced = st.Memory, st.Enforced
		if st.OSPid != 0 {
			c.OSPid = st.OSPid
		}
	}
}

// Logs reads what a child of this member prints; of one whose start has failed, what its
// strategy said of that. Following, it returns when ctx ends or the run that it follows
// is no more.
func (s *Supervisor) Logs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	s.mu.Lock()
	ch := s.core.children[id]
	there := ch != nil && ch.there()
	var strategy string
	var failed hitch
	if there && ch.run != nil {
		strategy = ch.run.Strategy.String()
		if ch.run.Phase != up {
			failed = ch.run.hitch()
		}
	}
	s.mu.Unlock()
	switch {
	case !there:
		return fmt.Errorf("read log of child %.200q: %w", id, ErrUnknown)
	case strategy == "":
		return fmt.Errorf("read log of child %s: %w", id, ErrNoRun)
	case failed.said != "":
		if err := failed.log(o.Tail, emit); err != nil || !o.Follow {
			return err
		}
		return fmt.Errorf("read log of child %s: %w", id, ErrNoRun)
	}
	sb, err := s.cfg.Sandbox(ctx, strategy)
	if err != nil {
		return fmt.Errorf("read log of child %s: %w", id, err)
	}
	if err := sb.Logs(ctx, id, o, emit); err != nil {
		return fmt.Errorf("read log of child %s: %w", id, err)
	}
	return nil
}

// startStream is the stream of lines about a start that failed.
const startStream = "start"

// log reads what was said of a start that failed as if it had been printed.
func (h *hitch) log(tail int, emit func(sdk.LogLine) error) error {
	lines := strings.Split(strings.TrimRight(h.said, "\n"), "\n")
	if tail > 0 {
		lines = lines[max(0, len(lines)-tail):]
	}
	for _, line := range lines {
		if err := emit(sdk.LogLine{Time: h.saidAt, Stream: startStream, Line: []byte(line)}); err != nil {
			return err
		}
	}
	return nil
}
