package registry

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cells calls f with the cells that are some key's.
func (t *table) cells(f func(*cell)) {
	for i := range t.parts {
		p := t.parts[i].Load()
		if p == nil {
			continue
		}
		for j := range p.cells {
			if c := &p.cells[j]; c.hash.Load() != 0 {
				f(c)
			}
		}
	}
}

// count returns how many keys readers find.
func (t *table) count() (n int) {
	t.cells(func(c *cell) {
		if c.rec.Load() != nil {
			n++
		}
	})
	return n
}

// all returns all slots.
func (t *table) all() map[string]*slot {
	out := map[string]*slot{}
	t.cells(func(c *cell) {
		if c.slot != nil {
			out[c.key] = c.slot
		}
	})
	return out
}

// TestTableLikeMap puts and gets beside a map; the keys are few, so that they
// come and go, and parts are copied with more keys than before and with fewer.
func TestTableLikeMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := table{seed: maphash.MakeSeed()}
		want := map[string]*record{}
		for range rapid.IntRange(1, 40).Draw(t, "bursts") {
			keep := rapid.Bool().Draw(t, "keep")
			from, n := rapid.IntRange(0, 2000).Draw(t, "from"), rapid.IntRange(1, 400).Draw(t, "n")
			for i := range n {
				key := fmt.Sprint("k", from+i)
				if s := w.slot(key); s != nil {
					w.drop(s)
				}
				delete(want, key)
				if keep {
					s := &slot{key: key, claims: []*record{{}}}
					w.put(s)
					want[key] = s.claims[0]
				}
				w.publish(key)
			}
		}
		require.Equal(t, len(want), w.count())
		for i := range 2400 {
			key := fmt.Sprint("k", i)
			got, r := w.get(strings.Clone(key))
			require.Same(t, want[key], r, key)
			if r != nil {
				require.Equal(t, key, got)
			}
		}
		for i := range w.parts {
			if p := w.parts[i].Load(); p != nil {
				require.LessOrEqual(t, p.used*4, len(p.cells)*3, "a search must come to an end")
			}
		}
	})
}

// TestLookupWhileOthersWrite has readers look while entries come, change and go:
// what stays is always there, values only move on, and who wrote reads it.
func TestLookupWhileOthersWrite(t *testing.T) {
	r := New(Config{Member: "a", Epoch: 1})
	ctx, cancel := context.WithCancel(t.Context())
	put := func(key string, n int) {
		_, err := r.Register(ctx, Claim{Key: key, Value: fmt.Appendf(nil, "%08d", n), Owner: ByMember("a")})
		require.NoError(t, err)
	}
	put("stays", 0)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 3 {
		wg.Go(func() {
			last := ""
			for i := 0; ctx.Err() == nil; i++ {
				e, ok := r.Lookup("stays")
				if !ok || string(e.Value) < last {
					t.Errorf("stays: got %q, %t after %q", e.Value, ok, last)
					return
				}
				last = string(e.Value)
				key := fmt.Sprint("comes/", i%500)
				if e, ok := r.Lookup(key); ok && (e.Key != key || e.Origin != "a") {
					t.Errorf("%s: got %+v", key, e)
					return
				}
			}
		})
	}
	for n := 1; n <= 4000; n++ {
		key := fmt.Sprint("comes/", n%500+n/1000*500)
		put(key, n)
		put("stays", n)
		e, ok := r.Lookup(key)
		require.True(t, ok, key)
		require.Equal(t, fmt.Sprintf("%08d", n), string(e.Value))
		if n%2 == 0 {
			_, err := r.Unregister(key, nil)
			require.NoError(t, err)
			_, ok = r.Lookup(key)
			require.False(t, ok, key)
		}
	}
}

// TestStepIsWhole has a key change hands within a step: between the step's parts
// Lookup finds the owner before, and then the one after, and never nobody.
func TestStepIsWhole(t *testing.T) {
	r := New(Config{Member: "a", Epoch: 1})
	_, err := r.Register(t.Context(), Claim{Key: "k", Value: []byte("old"), Owner: ByMember("a")})
	require.NoError(t, err)
	value := func() string {
		e, ok := r.Lookup("k")
		require.True(t, ok)
		return string(e.Value)
	}
	c := r.core
	now := r.cfg.Now()
	require.NoError(t, c.mine("k", nil, func(rec *record) { c.deleteOwn(now, rec) }))
	require.Equal(t, "old", value())
	_, _, err = c.register(now, &Claim{Key: "k", Value: []byte("new"), Owner: ByMember("a")}, 0)
	require.NoError(t, err)
	require.Equal(t, "old", value())
	c.take(now)
	require.Equal(t, "new", value())
}
