package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/wire"
)

// instance keeps one plugin with one config running: a process after another.
type instance struct {
	slot   *slot
	m      *Manager
	spec   Spec
	ctx    context.Context
	cancel context.CancelFunc
	log    logrus.FieldLogger

	// Only for the slot's run.
	failing  string    // the error in force, as it was reported; empty without
	reported time.Time // when

	mu          sync.Mutex
	now         Status
	wire        *wire.Client
	description sdk.Description
	self        sdk.Self
	selfChanged chan struct{} // closed when self is another
}

func newInstance(s *slot, spec Spec) *instance {
	ctx, cancel := context.WithCancel(s.ctx)
	return &instance{
		slot: s, m: s.m, spec: spec, ctx: ctx, cancel: cancel,
		log:  s.m.opts.Log.WithFields(logrus.Fields{"plugin": spec.Plugin, "topology": spec.Topology}),
		now:  Status{Name: spec.Plugin, Kind: spec.Kind, Topology: spec.Topology, State: Starting, Since: time.Now()},
		self: spec.Self, selfChanged: make(chan struct{}),
	}
}

// setSelf makes a running Watch begin anew, if this is news.
func (i *instance) setSelf(self sdk.Self) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if self.Equal(i.self) {
		return
	}
	i.self = self
	close(i.selfChanged)
	i.selfChanged = make(chan struct{})
}

// currentSelf returns what a Watch is to be told, and what is closed when that
// is no longer so.
func (i *instance) currentSelf() (sdk.Self, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.self, i.selfChanged
}

func (i *instance) snapshot() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

func (i *instance) failed() bool { return i.snapshot().State == Failed }

func (i *instance) connection() (*wire.Client, sdk.Description) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.wire, i.description
}

// become enters a state. The caller describes the rest in change.
func (i *instance) become(state State, why string, change func(*Status)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now.State, i.now.Reason, i.now.Since = state, why, time.Now()
	i.now.Pid, i.wire = 0, nil
	if change != nil {
		change(&i.now)
	}
}

func (i *instance) publish(t events.Type, why string, fields map[string]string) {
	i.m.opts.Events.Publish(events.Event{Type: t, Plugin: i.spec.Plugin, Topology: i.spec.Topology, Reason: why, Fields: fields})
}

// tell hands a message to the slot, unless the instance is to stop.
func (i *instance) tell(ctx context.Context, a *sdk.Answer) error {
	select {
	case i.slot.inbox <- message{i, a}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// permanentError is one that another attempt would only repeat.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func permanent(err error) error { return permanentError{err} }

// run starts processes until it is told to stop, or gives up.
func (i *instance) run() {
	defer i.cancel()
	var restarts restarts
	ran := false
	for {
		exited, err := i.once()
		ran = ran || exited
		if i.ctx.Err() != nil {
			i.become(Stopped, "", nil)
			if exited {
				i.log.Info("plugin stopped")
				i.publish(events.PluginStopped, "", nil)
			}
			return
		}
		why := reason(err)
		if exited {
			i.log.WithError(err).Warn("plugin exited")
			i.publish(events.PluginExited, why, nil)
		}
		pause, again := restarts.next(time.Now(), i.m.config())
		// Later in its life even a missing file may be an upgrade under way.
		if p := (permanentError{}); errors.As(err, &p) && !ran {
			again = false
		} else if c := i.m.config(); !again && c.MaxRestarts > 0 {
			why = fmt.Sprintf("given up after %d restarts within %s: %s", c.MaxRestarts, c.RestartWindow, why)
		}
		if !again {
			i.become(Failed, why, nil)
			i.log.WithField("reason", why).Error("plugin failed")
			i.publish(events.PluginFailed, why, map[string]string{"hint": "reload the configuration to start it again"})
			return
		}
		i.become(Restarting, why, func(s *Status) { s.Restarts++ })
		i.log.WithFields(logrus.Fields{"reason": why, "in": pause}).Info("plugin restarting")
		i.publish(events.PluginRestarting, why, map[string]string{"in_ms": strconv.FormatInt(pause.Milliseconds(), 10)})
		if !sleep(i.ctx, pause) {
			i.become(Stopped, "", nil)
			return
		}
		i.become(Starting, "", nil)
	}
}

// once runs one process from start to end. exited reports whether it came as
// far as to work.
func (i *instance) once() (exited bool, err error) {
	began := time.Now()
	p, err := i.launch()
	if err != nil {
		return false, err
	}
	defer func() {
		var patience time.Duration // one that misbehaves gets none
		if i.ctx.Err() != nil {
			patience = i.m.config().StopTimeout
		}
		p.stop(patience)
	}()
	i.become(Running, "", func(s *Status) {
		s.Pid, s.Version, s.Kind, s.Path = p.process.pid, p.description.Version, p.description.Kind, p.process.path
		i.wire, i.description = p.Client, p.description
	})
	took := time.Since(began)
	i.log.WithFields(logrus.Fields{"version": p.description.Version, "os_pid": p.process.pid, "took": took}).Info("plugin started")
	i.publish(events.PluginStarted, "", map[string]string{
		"kind":     string(p.description.Kind),
		"version":  p.description.Version,
		"path":     p.process.path,
		"os_pid":   strconv.Itoa(p.process.pid),
		"start_ms": strconv.FormatInt(took.Milliseconds(), 10),
	})
	return true, i.attend(p)
}

// attend uses a running plugin until it ends, misbehaves, or the instance is
// told to stop.
func (i *instance) attend(p *running) error {
	ctx, fail := context.WithCancelCause(i.ctx)
	defer fail(nil)
	var tasks sync.WaitGroup
	tasks.Go(func() { i.checkHealth(ctx, p, fail) })
	tasks.Go(func() {
		if i.tell(ctx, nil) == nil && i.spec.Kind == sdk.KindDiscovery {
			i.watch(ctx, p, fail)
		}
	})
	select {
	case <-p.process.exited:
		fail(p.process.exitError())
	case <-ctx.Done():
	}
	tasks.Wait()
	return context.Cause(ctx)
}

// checkHealth asks for a sign of life again and again.
func (i *instance) checkHealth(ctx context.Context, p *running, fail context.CancelCauseFunc) {
	for sleep(ctx, i.m.config().HealthInterval) {
		timeout := i.m.config().HealthTimeout
		pingCtx, cancel := context.WithTimeout(ctx, timeout)
		err := p.Ping(pingCtx)
		timedOut := errors.Is(pingCtx.Err(), context.DeadlineExceeded)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
		case timedOut:
			fail(fmt.Errorf("it hangs: no sign of life for %s", timeout))
			return
		case !p.process.exitsWithin(ctx, exitGrace):
			fail(fmt.Errorf("it does not serve any more: %w", err))
			return
		}
	}
}

// exitGrace is how long a broken connection waits for the exit that explains
// it better.
const exitGrace = 250 * time.Millisecond

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func sameNode(a, b sdk.Node) bool {
	return a.Name == b.Name && a.Addr == b.Addr && a.Role == b.Role && maps.Equal(a.Metadata, b.Metadata)
}
