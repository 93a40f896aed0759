package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
)

// confirmTime bounds how long a change waits for another member to have it.
const confirmTime = 3 * time.Second

// Start has a child run from now on. It is for the child's arbiter. The blobs that
// the spec names have to be on some member, and are on this one, too, afterwards. Of its
// Versions only the note of the last counts: it is that of Bundle. Like Stop,
// Restart and Move it returns when the change is on this member's disk and,
// where another member is in sight, on the disk of one: not when it is carried
// out. An ErrUnconfirmed says that it was made and may be lost yet.
func (s *Supervisor) Start(ctx context.Context, spec Spec) (Child, error) {
	spec = spec.complete()
	note := ""
	if n := len(spec.Versions); n > 0 {
		note = spec.Versions[n-1].Note
	}
	if spec.Versions = nil; spec.Bundle != "" {
		spec.Versions = []Version{{Bundle: spec.Bundle, At: time.Now().UTC().Round(0), Note: note}}
	}
	if err := spec.check(); err != nil {
		return Child{}, fmt.Errorf("start %w", err)
	}
	if err := s.checkHandoff(ctx, &spec); err != nil {
		return Child{}, fmt.Errorf("start %w", err)
	}
	if err := s.checkBlobs(ctx, &spec); err != nil {
		return Child{}, fmt.Errorf("start %w", err)
	}
	return s.change(ctx, request{kind: askStart, id: spec.ID, spec: &spec})
}

// Stop has a child stopped. Its spec is kept.
func (s *Supervisor) Stop(ctx context.Context, id string) (Child, error) {
	return s.change(ctx, request{kind: askStop, id: id})
}

// Restart has a child stopped, if it runs, and started again, where it is if that
// can be.
func (s *Supervisor) Restart(ctx context.Context, id string) (Child, error) {
	return s.change(ctx, request{kind: askRestart, id: id})
}

// Move has a child run on another member; empty: on one that its placement
// strategy chooses, which is not the one that it is on.
func (s *Supervisor) Move(ctx context.Context, id, member string) (Child, error) {
	if member == "" {
		var err error
		if member, err = s.elsewhere(ctx, id); err != nil {
			return Child{}, fmt.Errorf("move child %.200s: %w", id, err)
		}
	}
	return s.change(ctx, request{kind: askMove, id: id, member: member})
}

// elsewhere asks for another member than the one that a child is on.
func (s *Supervisor) elsewhere(ctx context.Context, id string) (string, error) {
	s.mu.Lock()
	ch := s.core.children[id]
	if ch != nil && ch.there() && !s.core.sees() {
		s.mu.Unlock()
		return "", fmt.Errorf("%w: there is no other member", sdk.ErrNoCandidate)
	}
	if ch == nil || !ch.there() {
		s.mu.Unlock()
		return "", ErrUnknown
	}
	spec, at := ch.rec.spec(), ch.rec.Assignment.Member
	s.mu.Unlock()
	d, err := s.choose(ctx, spec, s.request(s.survey(), spec, at, toMove))
	return d.Member, err
}

// Remove has a child stopped and forgotten. It returns when nothing of it runs
// any more, or with ctx's error, while that goes on.
func (s *Supervisor) Remove(ctx context.Context, id string) error {
	if _, err := s.change(ctx, request{kind: askRemove, id: id}); err != nil {
		return err
	}
	for {
		news := s.news.Next()
		s.mu.Lock()
		ch := s.core.children[id]
		gone := ch == nil || !ch.rec.removed() || ch.run == nil && s.core.runsElsewhere(ch) == "" && !ch.runsAt(ch.rec.Assignment.Member)
		s.mu.Unlock()
		if gone {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("remove child %s: it is being stopped: %w", id, ctx.Err())
		}
	}
}

// runsAt tells whether a member says that it runs the child.
func (ch *child) runsAt(member string) bool {
	f := ch.fact(member)
	return f != nil && f.Running
}

// change does what an operator wants, and has it confirmed.
func (s *Supervisor) change(ctx context.Context, r request) (Child, error) {
	put, done, v, err := s.try(ctx, r)
	if err != nil {
		return Child{}, err
	}
	select {
	case <-done: // it is published
	case <-ctx.Done():
		return v, &UnconfirmedError{ID: r.id, Cause: ctx.Err()}
	}
	s.mu.Lock()
	n := s.pubs
	s.mu.Unlock()
	return v, s.settled(ctx, r.id, put, n)
}

// try makes a change as soon as this member knows what others know.
func (s *Supervisor) try(ctx context.Context, r request) (put uint64, done chan struct{}, v Child, err error) {
	for {
		news := s.news.Next()
		done = make(chan struct{})
		s.do(func(c *core, now instant) {
			if err = c.request(now, r); err == nil {
				c.do(action{kind: doSignal, signal: done})
				if ch := c.children[r.id]; ch != nil {
					v = c.view(ch)
				}
			}
		})
		if !errors.Is(err, ErrJoining) {
			break
		}
		select { // which is over soon
		case <-news:
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return 0, nil, Child{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastPut, done, v, err
}

// settled waits until a change is where it is safe.
func (s *Supervisor) settled(ctx context.Context, id string, put, published uint64) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	var diskErr error
	onDisk := s.book != nil
	if onDisk {
		if diskErr = s.book.Wait(ctx, put); diskErr != nil {
			onDisk = false
		}
	}
	for {
		acked := s.acked.Next()
		switch others, have := s.confirmations(published); {
		case have, others == 0 && onDisk:
			return nil
		case others == 0:
			return &UnconfirmedError{ID: id, Disk: onDisk, Cause: diskErr}
		}
		select {
		case <-acked:
		case <-time.After(lookEvery): // members may go
		case <-ctx.Done():
			return &UnconfirmedError{ID: id, Disk: onDisk, Cause: diskErr}
		}
	}
}

// onDisk waits until a change that came from another member is on this one's disk.
func (s *Supervisor) onDisk(ctx context.Context, id string, put uint64) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	if s.book == nil {
		return nil
	}
	if err := s.book.Wait(ctx, put); err != nil {
		return &UnconfirmedError{ID: id, Cause: err}
	}
	return nil
}

// confirmations tells how many others are in sight, and whether one of them has
// all that this member has published up to a number on disk.
func (s *Supervisor) confirmations(published uint64) (others int, have bool) {
	members := s.cfg.Members()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range members {
		if m.Name == s.cfg.Member || m.State != cluster.Alive {
			continue
		}
		others++
		a := s.acks[m.Name][s.cfg.Member]
		have = have || a.Life == s.life && a.N >= published
	}
	return others, have
}

// List returns the children that a filter keeps, by id and without their
// history.
func (s *Supervisor) List(f Filter) []Child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.list(f)
}

// Count counts the children.
func (s *Supervisor) Count() Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.count()
}

// Restarts is how often this member has started a child again that had ended.
func (s *Supervisor) Restarts() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

// Changed returns a channel that is closed when next anything that List tells may
// be another.
func (s *Supervisor) Changed() <-chan struct{} { return s.news.Next() }

// Get returns one child with its history; on the member that runs it, with how it
// does.
func (s *Supervisor) Get(ctx context.Context, id string) (Child, error) {
	s.mu.Lock()
	ch := s.core.children[id]
	if ch == nil || !ch.there() {
		s.mu.Unlock()
		return Child{}, fmt.Errorf("find child %.200q: %w", id, ErrUnknown)
	}
	c := s.core.view(ch)
	c.History = ch.entries()
	strategy := ""
	if ch.run != nil && ch.run.Phase == up {
		strategy = ch.run.Strategy.String()
	}
	s.mu.Unlock()
	slices.SortStableFunc(c.History, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	if strategy != "" {
		s.inspect(ctx, &c, strategy)
	}
	return c, nil
}

// Arbiter is the member that decides about a child.
func (s *Supervisor) Arbiter(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.usable[s.core.rank(id)]
}

// Runner is the member that a child is assigned to; empty while there is none.
func (s *Supervisor) Runner(id string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.core.children[id]
	if ch == nil || !ch.there() {
		return "", fmt.Errorf("find child %.200q: %w", id, ErrUnknown)
	}
	return ch.rec.Assignment.Member, nil
}

// childEvents are the events of a child's history. Each is told by the member
// where it happened, and by the arbiter where that is nobody.
var childEvents = map[string]events.Type{
	"placed": events.ChildPlaced, "started": events.ChildStarted, "taken_over": events.ChildTakenOver, "exited": events.ChildExited,
	"not_started": events.ChildNotStarted, "not_moved": events.ChildNotMoved, "reloaded": events.ChildReloaded, "not_reloaded": events.ChildNotLoaded, "gone": events.ChildExited, "stopped": events.ChildStopped,
	string(Failed): events.ChildFailed,
}

func (s *Supervisor) event(a *action) {
	t, ok := childEvents[a.entry.What]
	if !ok || a.entry.Member != s.cfg.Member {
		return
	}
	s.cfg.Publish(events.Event{
		Type: t, Time: a.entry.Time, Reason: a.entry.Reason, Fields: map[string]string{"child": a.id, "epoch": fmt.Sprint(a.entry.Epoch)},
	})
	log := s.cfg.Log.WithField("child", a.id).WithField("reason", a.entry.Reason)
	switch t {
	case events.ChildFailed:
		log.Error("child failed")
	case events.ChildExited, events.ChildNotStarted, events.ChildNotMoved, events.ChildNotLoaded:
		log.Warn("child " + a.entry.What)
	default:
		log.Debug("child " + a.entry.What)
	}
}
