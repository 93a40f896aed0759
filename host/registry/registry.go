package registry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Config says who a registry is and what it may call. The hooks are called
// without a lock held, from any goroutine that calls the registry, and must not
// block.
type Config struct {
	Member string // this member's name, unique in the cluster; at most 255 bytes
	Epoch  uint64 // of this life of it; must rise from life to life
	// Send hands msg to a member; false says that it was dropped, which costs a
	// repair later. It must not change msg, and may keep it. Nil: there is nobody.
	Send func(member string, msg []byte) bool
	// OnConflict hears of an entry of this member that lost its key to another
	// claim, and is gone. May be nil.
	OnConflict func(NameConflict)
	// OnAdoptable hears what an earlier life of this member had registered, as its
	// peers remember it for a minute; Register with the entry's Claimed takes one
	// over. What was owned by that life itself is left out. It may be called
	// several times, never twice with the same entry. May be nil.
	OnAdoptable func([]Entry)
	Now         func() time.Time // default time.Now
}

// NameConflict is two claims to one key that were made out of each other's
// sight.
type NameConflict struct {
	Key           string
	Loser, Winner Entry
}

// Peer is another member of the cluster.
type Peer struct {
	Name    string
	Epoch   uint64 // of its life; 0: not known
	Visible bool   // its entries count, and messages go to it
}

// Registry is one member's replica of all entries. All methods may be called
// from any goroutine; without Run, nothing is sent by itself and no lease ends.
type Registry struct {
	cfg   Config
	dirty chan struct{} // there is something to flush
	again chan struct{} // what is due has changed

	mu      sync.RWMutex
	core    *core
	history history
	next    time.Time // when the clock looks again
	waiting map[waiter]chan decision
}

// waiter is a claim whose decision a Register waits for.
type waiter struct {
	key string
	seq uint64
}

// New returns an empty registry, in a cluster of one.
func New(cfg Config) *Registry {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Registry{
		cfg:     cfg,
		dirty:   make(chan struct{}, 1),
		again:   make(chan struct{}, 1),
		core:    newCore(cfg.Member, cfg.Epoch, cfg.Now(), rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
		waiting: make(map[waiter]chan decision),
	}
	r.core.recalls.wanted = cfg.OnAdoptable != nil
	return r
}

// Run tells the other members about changes, compares with them each second,
// and ends leases, until ctx ends. Call it once.
func (r *Registry) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.sender(ctx) })
	wg.Go(func() { r.clock(ctx) })
	wg.Wait()
	return ctx.Err()
}

// sender sends what has changed. It sends at once when it is idle, and while it
// sends, more gathers for the next message.
func (r *Registry) sender(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.dirty:
		}
		for more := true; more && ctx.Err() == nil; {
			r.do(func(time.Time) { more = r.core.flush() })
		}
	}
}

// clock wakes the core when something is due.
func (r *Registry) clock(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.again:
		case <-timer.C:
			r.do(r.core.wake)
		}
		r.mu.Lock()
		r.next = r.core.due()
		wait := r.next.Sub(r.cfg.Now())
		r.mu.Unlock()
		timer.Reset(max(wait, time.Millisecond)) // no loop, should a clock stand still
	}
}

// do runs one step of the core, and then hands out what came of it.
func (r *Registry) do(step func(now time.Time)) {
	now := r.cfg.Now()
	r.mu.Lock()
	step(now)
	dirty := r.core.flushed < r.core.own.applied
	earlier := r.core.due().Before(r.next)
	out := r.core.take(now)
	r.history.add(&r.core.index)
	for _, d := range out.decided {
		if ch := r.waiting[waiter{d.key, d.seq}]; ch != nil {
			ch <- d // it has room for the one decision there is
			delete(r.waiting, waiter{d.key, d.seq})
		}
	}
	r.count(out.sends)
	r.mu.Unlock()

	if dirty {
		wake(r.dirty)
	}
	if earlier {
		wake(r.again)
	}
	if r.cfg.Send != nil {
		dropped := false
		for _, s := range out.sends {
			dropped = !r.cfg.Send(s.to, s.msg) || dropped
		}
		if dropped {
			r.hurry()
		}
	}
	for _, c := range out.conflicts {
		if r.cfg.OnConflict != nil {
			r.cfg.OnConflict(c)
		}
	}
	if len(out.adoptable) > 0 && r.cfg.OnAdoptable != nil {
		r.cfg.OnAdoptable(out.adoptable)
	}
}

// hurry compares with others sooner, after something was dropped.
func (r *Registry) hurry() {
	r.mu.Lock()
	r.core.hurry(r.cfg.Now())
	r.mu.Unlock()
	wake(r.again)
}

// wake sends to a channel with room for one.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// count does the statistics of what is sent. The caller holds mu.
func (r *Registry) count(sends []send) {
	for _, s := range sends {
		r.core.stats.Sent++
		r.core.stats.BytesSent += uint64(len(s.msg))
	}
}

// SetMembers says which other members there are; this one itself is ignored
// among them. A majority is of all of them and this one. Entries of a member
// that is not visible, or not named, are kept but not shown.
func (r *Registry) SetMembers(peers []Peer) {
	r.do(func(now time.Time) { r.core.setMembers(now, peers) })
}

// Receive takes what the member from has sent. The error is an ErrMessage, which
// is the sender's fault; the registry is as it was before. It may keep msg.
func (r *Registry) Receive(from string, msg []byte) error {
	var err error
	r.do(func(now time.Time) {
		r.core.stats.Received++
		r.core.stats.BytesReceived += uint64(len(msg))
		err = r.core.receive(now, from, msg)
	})
	if err != nil {
		return fmt.Errorf("receive from %s: %w", from, err)
	}
	return nil
}

// Forget drops all that a member has registered.
func (r *Registry) Forget(member string) {
	r.do(func(now time.Time) { r.core.forget(now, member) })
}

// Unregister takes this member's entries for a key out, and returns how many it
// were: those of the owner, or all if owner is nil. The error is an ErrNotFound,
// or a *NotOriginError if only another member has such an entry.
func (r *Registry) Unregister(key string, owner *Owner) (n int, err error) {
	r.do(func(now time.Time) {
		err = r.core.mine(key, owner, func(rec *record) {
			r.core.deleteOwn(now, rec)
			n++
		})
	})
	return n, err
}

// Update replaces the value of this member's entry for a key with what f makes
// of it; of several, owner must say which, or the oldest is meant. f must not
// change old, and may be called again if the entry changed meanwhile. Errors are
// those of Unregister, and ErrInvalid for a value that is too long.
func (r *Registry) Update(key string, owner *Owner, f func(old []byte) []byte) (Entry, error) {
	for {
		var old *record
		r.mu.RLock()
		err := r.core.mine(key, owner, func(rec *record) {
			if old == nil {
				old = rec
			}
		})
		r.mu.RUnlock()
		if err != nil {
			return Entry{}, err
		}
		value := f(old.value)
		if len(value) > MaxValue {
			return Entry{}, fmt.Errorf("update %q: %w: the value is longer than %d bytes", key, ErrInvalid, MaxValue)
		}
		var e Entry
		done := false
		r.do(func(now time.Time) {
			if !r.core.own.owns(old) {
				return // another version is there by now
			}
			n := old.version()
			n.value = append([]byte(nil), value...)
			r.core.putOwn(now, old, n)
			e, done = n.entry(), true
		})
		if done {
			return e, nil
		}
	}
}

// Renew lets a lease of this member live for ttl from now, or for as long as it
// did if ttl is 0, and returns how many entries it has. ErrNotFound: it has
// ended, or belongs to another member.
func (r *Registry) Renew(id string, ttl time.Duration) (n int, err error) {
	r.do(func(now time.Time) {
		r.core.expire(now)
		l := r.core.leases.byID[id]
		switch {
		case l == nil:
			err = fmt.Errorf("renew lease %q: %w", id, ErrNotFound)
			return
		case ttl < 0:
			err = fmt.Errorf("renew lease %q: %w: the TTL is negative", id, ErrInvalid)
			return
		case ttl == 0:
			ttl = l.ttl
		}
		r.core.renew(now, l.owner, ttl)
		for _, rec := range r.core.index.owned(&l.owner) {
			if rec.life == r.core.own && rec.shown() {
				n++
			}
		}
	})
	return n, err
}

// Drop ends an owner: this member's entries of it go. It returns how many.
func (r *Registry) Drop(o Owner) (n int) {
	r.do(func(now time.Time) { n = r.core.endOwner(now, packOwner(o)) })
	return n
}
