package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Register claims a key. It returns the entry, or a *TakenError if somebody else
// has the key. The same owner's claim to a key that it has renews the entry:
// value and TTL are replaced, and its lease begins anew; at another member than
// the one that has the entry, it takes the entry over, and keeps its age.
//
// With consistency Quorum it returns when a majority of the members has agreed,
// or an ErrNoQuorum: at once if fewer are in sight, or when ctx ends. The key is
// then free again.
func (r *Registry) Register(ctx context.Context, cl Claim) (Entry, error) {
	if err := cl.check(r.cfg.Member); err != nil {
		return Entry{}, err
	}
	var floor uint64
	for try := 0; ; try++ {
		var (
			e     Entry
			asked uint64
			err   error
			ch    chan decision
		)
		if cl.Consistency == Quorum {
			ch = make(chan decision, 1)
		}
		r.do(func(now time.Time) {
			e, asked, err = r.core.register(now, &cl, floor)
			if asked != 0 {
				r.waiting[waiter{cl.Key, asked}] = ch
			}
		})
		last := decision{accepted: 1, answered: 1}
		switch {
		case errors.Is(err, errBusy):
		case err != nil || asked == 0:
			return e, err
		default:
			last, err = r.await(ctx, waiter{cl.Key, asked}, ch)
			if err != nil {
				return Entry{}, err
			}
			switch last.outcome {
			case outConfirmed:
				return last.entry, nil
			case outTaken:
				return Entry{}, &TakenError{last.entry}
			case outNoQuorum:
				return Entry{}, r.noQuorum(&last, nil)
			case outGone:
				return Entry{}, fmt.Errorf("register %q: %w: its owner ended meanwhile", cl.Key, ErrNotFound)
			}
			floor = max(floor, last.floor)
		}
		last.key = cl.Key
		if err := pause(ctx, try); err != nil {
			return Entry{}, r.noQuorum(&last, err)
		}
	}
}

func (r *Registry) noQuorum(d *decision, cause error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.core.noQuorum(d.key, d.accepted, d.answered, cause)
}

// await waits for a decision.
func (r *Registry) await(ctx context.Context, w waiter, ch chan decision) (decision, error) {
	select {
	case d := <-ch:
		return d, nil
	case <-ctx.Done():
	}
	var err error
	r.do(func(now time.Time) {
		delete(r.waiting, w)
		if len(ch) == 0 {
			err = r.core.abandon(now, w.key, w.seq, ctx.Err())
		}
	})
	if err != nil {
		return decision{}, err
	}
	return <-ch, nil
}

// pause waits for a while that gets longer from try to try, and is left to
// chance, so that two who stand in each other's way do not meet again.
func pause(ctx context.Context, try int) error {
	most := min(5*time.Millisecond<<min(try, 10), 200*time.Millisecond)
	t := time.NewTimer(most/4 + rand.N(most))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
