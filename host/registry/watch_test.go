package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// watched is what a watcher has by now. It fails if a change does not follow
// from those before.
type watched struct {
	t       *testing.T
	mu      sync.Mutex
	have    map[string]Entry
	synced  bool
	resets  int
	changes int
}

func (w *watched) see(c Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes++
	old, there := w.have[c.Entry.Key]
	switch c.Type {
	case Put:
		if there != (c.Old.Key != "") || w.synced && there && old.Claimed != c.Old.Claimed {
			w.t.Errorf("put of %v in place of %v, where %v was", c.Entry, c.Old, old)
		}
		w.have[c.Entry.Key] = c.Entry
	case Delete:
		if !there || old.Claimed != c.Entry.Claimed {
			w.t.Errorf("delete of %v, where %v was", c.Entry, old)
		}
		delete(w.have, c.Entry.Key)
	case SnapshotEnd:
		w.synced = true
	case Reset:
		w.resets++
		w.synced = false
		w.have = map[string]Entry{}
	}
}

func (w *watched) equal(want map[string]Entry) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.synced && maps.EqualFunc(w.have, want, func(a, b Entry) bool { return a.Claimed == b.Claimed && string(a.Value) == string(b.Value) })
}

func view(r *Registry, prefix string) map[string]Entry {
	out := map[string]Entry{}
	for e := range r.Select(prefix, nil) {
		out[e.Key] = e
	}
	return out
}

// TestWatch watches while several members write, lose sight of each other, and
// find each other again.
func TestWatch(t *testing.T) {
	c := startCluster(t, 3, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var watchers []*watched
	for _, prefix := range []string{"", "k/1"} {
		for range 2 {
			w := &watched{t: t, have: map[string]Entry{}}
			watchers = append(watchers, w)
			wg.Go(func() {
				for ch := range c.regs["m1"].Watch(ctx, prefix) {
					w.see(ch)
				}
			})
		}
	}
	var writers sync.WaitGroup
	for _, name := range c.names {
		writers.Go(func() {
			r := c.regs[name]
			for i := range 600 {
				key := fmt.Sprintf("k/%d", (i*7)%40)
				if _, err := r.Register(ctx, Claim{Key: key, Owner: ByMember(name), Value: fmt.Append(nil, i)}); err == nil && i%3 == 0 {
					_, _ = r.Unregister(key, nil)
				}
				if name == "m0" && i%100 == 0 {
					if i%200 == 0 {
						c.see("m0", "m1")
					} else {
						c.see(c.names...)
					}
				}
			}
		})
	}
	writers.Wait()
	c.see(c.names...)
	for i, w := range watchers {
		prefix := []string{"", "", "k/1", "k/1"}[i]
		eventually(t, "the watcher has what is there", func() bool { return w.equal(view(c.regs["m1"], prefix)) })
	}
	cancel()
	wg.Wait()
	require.Empty(t, c.regs["m1"].history.changes, "nobody watches, nothing is kept")
}

// TestWatchOrder checks one watcher's changes one by one.
func TestWatchOrder(t *testing.T) {
	r := New(Config{Member: "a", Epoch: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	put := func(key, value string) {
		_, err := r.Register(ctx, Claim{Key: key, Owner: ByMember("a"), Value: []byte(value)})
		require.NoError(t, err)
	}
	put("x/2", "old")
	put("x/1", "old")
	put("y", "old")
	var got []string
	steps := []func(){
		func() {}, func() {},
		func() { put("x/3", "new"); put("y", "new") }, // at the snapshot's end
		func() { put("x/3", "newer") },
		func() { r.Drop(ByMember("a")) },
		func() {}, func() {}, cancel,
	}
	for c := range r.Watch(ctx, "x/") {
		text := string(c.Type)
		if c.Entry.Key != "" {
			text += fmt.Sprintf(" %s %s", c.Entry.Key, c.Entry.Value)
		}
		if c.Old.Key != "" {
			text += fmt.Sprintf(" for %s", c.Old.Value)
		}
		got = append(got, text)
		steps[len(got)-1]()
	}
	slices.Sort(got[5:]) // the order within a Drop is not promised
	require.Equal(t, []string{
		"put x/1 old", "put x/2 old", "snapshot_end", "put x/3 new", "put x/3 newer for new",
		"delete x/1 old", "delete x/2 old", "delete x/3 newer",
	}, got)
}

// TestSlowWatcher does not read while more changes than are kept.
func TestSlowWatcher(t *testing.T) {
	r := New(Config{Member: "a", Epoch: 1})
	for _, big := range []int{1, 60_000} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := r.Register(ctx, Claim{Key: "x", Owner: ByMember("a")})
		require.NoError(t, err)
		w := &watched{t: t, have: map[string]Entry{}}
		value := make([]byte, big)
		for c := range r.Watch(ctx, "") {
			w.see(c)
			if c.Type == SnapshotEnd && w.resets == 0 {
				for i := range 3 * maxHistory / min(big, 10) {
					value[0] = byte(i)
					_, err := r.Register(ctx, Claim{Key: "x", Owner: ByMember("a"), Value: value})
					require.NoError(t, err)
				}
				_, err := r.Register(ctx, Claim{Key: "y", Owner: ByMember("a")})
				require.NoError(t, err)
			}
			if c.Type == SnapshotEnd && w.resets > 0 {
				cancel()
			}
		}
		require.Equal(t, 1, w.resets)
		require.True(t, w.equal(view(r, "")))
		require.Less(t, w.changes, 10)
		cancel()
		r.Drop(ByMember("a"))
	}
}

func TestWatchEnds(t *testing.T) {
	r := New(Config{Member: "a", Epoch: 1})
	_, err := r.Register(t.Context(), Claim{Key: "x", Owner: ByMember("a")})
	require.NoError(t, err)
	for stop := range 3 {
		n := 0
		for range r.Watch(t.Context(), "") {
			if n++; n > stop {
				break
			}
			if n == 2 {
				r.Drop(ByMember("a"))
			}
		}
		require.Zero(t, r.history.watchers)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for c := range r.Watch(ctx, "") {
		t.Errorf("%v after the end", c)
	}
}
