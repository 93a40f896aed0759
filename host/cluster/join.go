package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/debughost/debughost/host/events"
)

// joinTopology is the topology of the configured join addresses.
const joinTopology = "join"

const (
	maxJoins    = 8                      // attempts at a time
	maxSeeds    = 256                    // of one topology
	firstPause  = 50 * time.Millisecond  // after the first failure
	alonePause  = 2 * time.Second        // the longest while nobody is found
	longPause   = 15 * time.Second       // the longest otherwise
	tellAgain   = time.Minute            // before another reason for the same failure is told
	secondLook  = 100 * time.Millisecond // after a lost member was joined: it has had time to object
	lostEach    = 200 * time.Millisecond // at least, between two attempts to join a lost member
	lookoutEach = time.Second            // how often all is looked over without a cause
)

// joiner asks seeds to let this member in, tries lost members again, and
// repairs a formation. All of it is memberlist's join, which compares the
// states of two members.
type joiner struct {
	c      *Cluster
	wakeUp chan struct{}

	mu         sync.Mutex
	topologies map[string][]string // the seeds of each

	// Of run.
	seeds  map[string]*seed // by address, as it was given
	lost   map[string]time.Time
	busy   map[string]bool
	repair time.Time // of the last one
	slots  chan struct{}
	done   chan func() // what an attempt leaves to do, in run's goroutine
}

// seed is an address that a member may be found at.
type seed struct {
	addr     string
	topology string
	resolved []string
	self     bool
	failures int
	next     time.Time
	told     string // the last reason told, "" for none
	toldAt   time.Time
}

func newJoiner(c *Cluster) *joiner {
	j := &joiner{
		c: c, wakeUp: make(chan struct{}, 1), topologies: map[string][]string{},
		seeds: map[string]*seed{}, lost: map[string]time.Time{}, busy: map[string]bool{},
		slots: make(chan struct{}, maxJoins), done: make(chan func()),
	}
	if len(c.cfg.Join) > 0 {
		j.topologies[joinTopology] = c.cfg.Join
	}
	return j
}

// SetFound says where a topology has found members (host:port each), in place
// of what it found before. They are joined unless they are members already.
func (c *Cluster) SetFound(topology string, addrs []string) {
	c.joiner.set(topology, slices.Clone(addrs[:min(len(addrs), maxSeeds)]))
}

// ForgetTopology drops what a topology has found. Members stay.
func (c *Cluster) ForgetTopology(topology string) { c.joiner.set(topology, nil) }

func (j *joiner) set(topology string, addrs []string) {
	j.mu.Lock()
	j.topologies[topology] = addrs
	if len(addrs) == 0 {
		delete(j.topologies, topology)
	}
	j.mu.Unlock()
	j.wake()
}

func (j *joiner) wake() { poke(j.wakeUp) }

// run works until ctx ends.
func (j *joiner) run(ctx context.Context, list *memberlist.Memberlist) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-j.done:
			f()
		case <-j.wakeUp:
		case <-timer.C:
		}
		timer.Reset(max(time.Until(j.start(ctx, list, &wg)), time.Millisecond))
	}
}

// start begins all attempts that are due, and returns when the next one is.
func (j *joiner) start(ctx context.Context, list *memberlist.Memberlist, wg *sync.WaitGroup) time.Time {
	now := time.Now()
	next := now.Add(lookoutEach)
	members := j.c.Members()
	alone, live := true, map[string]bool{}
	for _, m := range members {
		if m.Self && m.State == Left {
			return next
		}
		if !m.State.gone() {
			live[m.Addr] = true
			alone = alone && m.Self
		}
	}
	attempt := func(key string, due time.Time, f func() func()) {
		if j.busy[key] {
			return
		}
		if due.After(now) {
			next = earlier(next, due)
			return
		}
		select {
		case j.slots <- struct{}{}:
		default: // one that ends comes here again
			return
		}
		j.busy[key] = true
		wg.Go(func() {
			after := f()
			<-j.slots
			select {
			case j.done <- func() { delete(j.busy, key); after() }:
			case <-ctx.Done():
			}
		})
	}
	j.startSeeds(ctx, list, attempt, members, live, alone)
	j.startLost(ctx, list, attempt, members, live)
	j.startRepair(list, attempt, members)
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// gather makes seeds of what the topologies have found.
func (j *joiner) gather() {
	j.mu.Lock()
	defer j.mu.Unlock()
	wanted := map[string]bool{}
	for topology, addrs := range j.topologies {
		for _, a := range addrs {
			wanted[a] = true
			if j.seeds[a] == nil {
				j.seeds[a] = &seed{addr: a, topology: topology}
			}
		}
	}
	for a := range j.seeds {
		if !wanted[a] {
			delete(j.seeds, a)
		}
	}
}

type attemptFunc func(key string, due time.Time, f func() func())

func (j *joiner) startSeeds(ctx context.Context, list *memberlist.Memberlist, attempt attemptFunc, members []Member, live map[string]bool, alone bool) {
	j.gather()
	dead, left := map[string]bool{}, map[string]bool{}
	for _, m := range members {
		dead[m.Addr] = dead[m.Addr] || m.State == Dead
		left[m.Addr] = left[m.Addr] || m.State == Left
	}
	now := time.Now()
	for _, s := range j.seeds {
		at := append(slices.Clone(s.resolved), s.addr)
		is := func(set map[string]bool) bool { return slices.ContainsFunc(at, func(a string) bool { return set[a] }) }
		if s.self || is(live) || is(dead) { // dead ones are tried as lost members
			j.recovered(s)
			continue
		}
		if most := now.Add(alonePause); alone && s.next.After(most) {
			s.next = most
		}
		quiet := is(left)
		attempt("seed "+s.addr, s.next, func() func() {
			resolved, err := j.seek(ctx, list, s.addr)
			return func() { j.tried(s, resolved, err, quiet, alone) }
		})
	}
}

// seek joins the members at an address, which may be a name of several. One
// that lets this member in is enough.
func (j *joiner) seek(ctx context.Context, list *memberlist.Memberlist, addr string) (at []string, err error) {
	found, err := resolve(ctx, addr, j.port())
	if err != nil {
		return nil, err
	}
	joined := false
	for _, a := range found {
		at = append(at, a.String())
		if e := j.join(ctx, list, a.String()); e == nil {
			joined = true
		} else if err == nil || err == errSelf {
			err = e
		}
	}
	if joined {
		err = nil
	}
	return at, err
}

// port is what an address without a port means: this member's own.
func (j *joiner) port() int {
	a, _ := netip.ParseAddrPort(j.c.Addr())
	return int(a.Port())
}

// join compares states with the member at an address.
func (j *joiner) join(ctx context.Context, list *memberlist.Memberlist, addr string) error {
	if _, err := j.c.greet(ctx, addr); err != nil {
		return err
	}
	if _, err := list.Join([]string{addr}); err != nil {
		return fmt.Errorf("the member there did not let this one in: %w", err)
	}
	return nil
}

// tried notes how an attempt went.
func (j *joiner) tried(s *seed, resolved []string, err error, quiet, alone bool) {
	now := time.Now()
	if resolved != nil {
		s.resolved = resolved
	}
	switch {
	case err == errSelf:
		s.self = true
		return
	case err == nil:
		s.failures = 0
		s.next = now.Add(alonePause) // until it shows among the members
		if quiet {
			s.next = now.Add(longPause)
		}
		j.recovered(s)
		return
	}
	longest := longPause
	if alone {
		longest = alonePause
	}
	pause := min(firstPause<<min(s.failures, 20), longest)
	s.failures++
	s.next = now.Add(pause/2 + rand.N(pause))
	// One that is just starting, too, is no failure.
	var stranger *strangerError
	if quiet || s.failures < 5 && !errors.As(err, &stranger) || err.Error() == s.told || s.told != "" && now.Sub(s.toldAt) < tellAgain {
		return
	}
	s.told, s.toldAt = err.Error(), now
	j.c.tell(events.Event{
		Type: events.DiscoveryFailed, Topology: s.topology,
		Reason: fmt.Sprintf("join %s: %v (it is tried again and again)", s.addr, err),
		Fields: map[string]string{"address": s.addr},
	})
}

// recovered tells the end of a failure that was told.
func (j *joiner) recovered(s *seed) {
	if s.told == "" {
		return
	}
	s.told = ""
	j.c.tell(events.Event{
		Type: events.DiscoveryRecovered, Topology: s.topology,
		Reason: fmt.Sprintf("join %s: it works now", s.addr),
		Fields: map[string]string{"address": s.addr},
	})
}

// startLost tries members again that are dead.
func (j *joiner) startLost(ctx context.Context, list *memberlist.Memberlist, attempt attemptFunc, members []Member, live map[string]bool) {
	known := map[string]bool{}
	var dead []Member
	for _, m := range members {
		if m.State == Dead && !live[m.Addr] {
			known[m.Name] = true
			dead = append(dead, m)
		}
	}
	// Where many are lost, most of them come back with the first one that does.
	pause := max(j.c.times.lost, time.Duration(len(dead))*lostEach)
	for _, m := range dead {
		attempt("lost "+m.Name, j.lost[m.Name], func() func() {
			j.recover(ctx, list, m)
			return func() {
				j.lost[m.Name] = time.Now().Add(pause*3/4 + rand.N(pause/2))
			}
		})
	}
	for name := range j.lost {
		if !known[name] {
			delete(j.lost, name)
		}
	}
}

// recover joins a lost member. Both sides may still believe each other dead:
// by the first comparison each hears of its own death and objects, by the
// second one each hears of the other's objection.
func (j *joiner) recover(ctx context.Context, list *memberlist.Memberlist, m Member) {
	for range 3 {
		if err := j.join(ctx, list, m.Addr); err != nil {
			j.c.log.WithField("member", m.Name).WithError(err).Debug("lost member does not answer")
			return
		}
		select {
		case <-time.After(secondLook):
		case <-ctx.Done():
			return
		}
		if is, ok := j.c.Member(m.Name); !ok || !is.State.gone() {
			return
		}
	}
}
