package plugin

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/wire"
)

// slot is the actor of one topology. Its run decides which instance is in
// force, and it alone makes the topology's callbacks.
type slot struct {
	m        *Manager
	topology string
	ctx      context.Context
	cancel   context.CancelFunc
	quiet    chan struct{} // closed when no callback comes any more
	changed  chan struct{} // capacity 1: want is new
	inbox    chan message

	mu   sync.Mutex
	want Spec
	cur  *instance // in force
	next *instance // to take over when it has answered; often nil

	// Only for run.
	stopping sync.WaitGroup
	served   bool       // an instance has been of use: a next one may take its time
	nodes    []sdk.Node // the list in force; nil before the first
}

// message is what an instance tells its slot.
type message struct {
	from   *instance
	answer *sdk.Answer // nil: it is running
}

func newSlot(ctx context.Context, m *Manager, topology string) *slot {
	ctx, cancel := context.WithCancel(ctx)
	return &slot{
		m: m, topology: topology, ctx: ctx, cancel: cancel,
		quiet: make(chan struct{}), changed: make(chan struct{}, 1), inbox: make(chan message),
	}
}

func (s *slot) apply(spec Spec) {
	s.mu.Lock()
	s.want = spec
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *slot) run() {
	for {
		select {
		case <-s.ctx.Done(): // so are the instances'
			close(s.quiet)
			s.stopping.Wait()
			return
		case <-s.changed:
			s.reconcile()
		case msg := <-s.inbox:
			s.handle(msg)
		}
	}
}

// reconcile starts and stops instances for the spec that is wanted.
func (s *slot) reconcile() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range []*instance{s.cur, s.next} {
		// One that is about to be replaced may have to go on.
		if i != nil && i.spec.Plugin == s.want.Plugin && i.spec.Self.Finds == s.want.Self.Finds {
			i.setSelf(s.want.Self)
		}
	}
	latest := s.cur
	if s.next != nil {
		latest = s.next
	}
	switch {
	case latest != nil && latest.spec.equal(s.want) && !latest.failed():
		return
	case s.next != nil && s.cur.spec.equal(s.want) && !s.cur.failed():
		s.next.cancel()
		s.next = nil
		return
	}
	if s.next != nil {
		s.next.cancel()
		s.next = nil
	}
	fresh := newInstance(s, s.want)
	s.stopping.Go(fresh.run)
	switch {
	case s.cur != nil && s.served && !s.cur.failed():
		s.next = fresh
	case s.cur != nil:
		s.replace(fresh)
	default:
		s.cur = fresh
	}
}

// replace puts another instance in force. The caller holds mu.
func (s *slot) replace(fresh *instance) {
	s.cur.cancel()
	if fresh.failing == "" {
		fresh.failing, fresh.reported = s.cur.failing, s.cur.reported
	}
	s.cur = fresh
	if s.next == fresh {
		s.next = nil
	}
}

func (s *slot) handle(msg message) {
	s.mu.Lock()
	if msg.from == s.next && s.next != nil && msg.useful() {
		s.replace(msg.from)
	}
	inForce := msg.from == s.cur
	replaced := !inForce && msg.from != s.next
	s.mu.Unlock()
	if replaced {
		return // a last word
	}
	if inForce && msg.useful() {
		s.served = true
		if a := msg.answer; a != nil && (s.nodes == nil || !sameNodes(s.nodes, a.Nodes)) {
			s.nodes = append([]sdk.Node{}, a.Nodes...)
			s.m.opts.OnNodes(s.topology, slices.Clone(s.nodes))
		}
	}
	if msg.answer != nil {
		s.report(msg.from, msg.answer.Err, inForce)
	}
}

// useful reports whether an instance that says this does its work.
func (m message) useful() bool {
	if m.answer == nil {
		return m.from.spec.Kind != sdk.KindDiscovery
	}
	return m.answer.Err == nil || len(m.answer.Nodes) > 0
}

// reportEvery bounds how often a plugin that fails in ever new words is heard.
const reportEvery = 10 * time.Second

// report tells of an error when it is new, and of its end.
func (s *slot) report(from *instance, err error, inForce bool) {
	e := events.Event{Plugin: from.spec.Plugin, Topology: s.topology}
	switch {
	case err == nil && from.failing == "":
		return
	case err == nil:
		from.failing = ""
		e.Type = events.DiscoveryRecovered
	case err.Error() == from.failing, from.failing != "" && time.Since(from.reported) < reportEvery:
		return
	default:
		from.failing, from.reported = err.Error(), time.Now()
		e.Type = events.DiscoveryFailed
		e.Reason = reason(err)
	}
	s.m.opts.Events.Publish(e)
	if inForce {
		s.m.opts.OnDiscoveryError(s.topology, err)
	}
}

// reason is an error for a person, with its hint.
func reason(err error) string {
	if hint := sdk.Hint(err); hint != "" {
		return err.Error() + " (" + hint + ")"
	}
	return err.Error()
}

// sameNodes compares two lists as sets.
func sameNodes(a, b []sdk.Node) bool {
	if len(a) != len(b) {
		return false
	}
	type key struct {
		name string
		role sdk.Role
	}
	byKey := make(map[key]sdk.Node, len(a))
	for _, n := range a {
		byKey[key{n.Name, n.Role}] = n
	}
	for _, n := range b {
		if have, ok := byKey[key{n.Name, n.Role}]; !ok || !sameNode(have, n) {
			return false
		}
	}
	return true
}

func (s *slot) status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Status
	for _, i := range []*instance{s.cur, s.next} {
		if i != nil {
			out = append(out, i.snapshot())
		}
	}
	return out
}

func (s *slot) client() (*wire.Client, sdk.Description, error) {
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	if cur != nil {
		if client, description := cur.connection(); client != nil {
			return client, description, nil
		}
		st := cur.snapshot()
		return nil, sdk.Description{}, fmt.Errorf("use plugin %s: it is %s: %s", st.Name, st.State, st.Reason)
	}
	return nil, sdk.Description{}, fmt.Errorf("use plugin of topology %s: it is not started yet", s.topology)
}

// starting tells whether the plugin in force is on its way up for the first time.
func (s *slot) starting() bool {
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	return cur == nil || cur.snapshot().State == Starting
}
