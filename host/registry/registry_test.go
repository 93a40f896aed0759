package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, patience, time.Millisecond, what)
}

func alone(t *testing.T) *Registry {
	return startCluster(t, 1, nil).regs["m0"]
}

func TestRegister(t *testing.T) {
	r, ctx := alone(t), t.Context()
	before := time.Now()
	e, err := r.Register(ctx, Claim{Key: "x", Value: []byte("1"), Owner: ByChild("c1")})
	require.NoError(t, err)
	require.Equal(t, Entry{
		Key: "x", Value: []byte("1"), Owner: ByChild("c1"), Origin: "m0", Claimed: e.Claimed, Since: e.Since,
	}, e)
	require.WithinRange(t, e.Since, before, time.Now().Add(time.Second))
	got, ok := r.Lookup("x")
	require.True(t, ok)
	require.Equal(t, e, got)

	_, err = r.Register(ctx, Claim{Key: "x", Owner: ByChild("c2")})
	var taken *TakenError
	require.ErrorAs(t, err, &taken)
	require.Equal(t, e, taken.Holder)
	require.ErrorContains(t, err, `register "x": taken by child c1 at member m0 since `)

	again, err := r.Register(ctx, Claim{Key: "x", Value: []byte("2"), Owner: ByChild("c1")})
	require.NoError(t, err)
	require.Equal(t, e.Claimed, again.Claimed, "a renewal keeps its age")
	require.Equal(t, "2", string(again.Value))

	_, err = r.Register(ctx, Claim{Key: "q", Owner: ByMember("m0"), Consistency: Quorum})
	require.NoError(t, err, "one of one is a majority")

	n, err := r.Unregister("x", nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, ok = r.Lookup("x")
	require.False(t, ok)
	_, err = r.Unregister("x", nil)
	require.ErrorIs(t, err, ErrNotFound)
	other := ByChild("c2")
	_, err = r.Unregister("q", &other)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestInvalidClaims(t *testing.T) {
	r := New(Config{Member: "m0", Epoch: 1})
	me := ByMember("m0")
	for name, c := range map[string]Claim{
		"no key":                 {Owner: me},
		"long key":               {Key: strings.Repeat("k", MaxKey+1), Owner: me},
		"control character":      {Key: "a\nb", Owner: me},
		"not UTF-8":              {Key: "a\xffb", Owner: me},
		"not printable":          {Key: "a\u200bb", Owner: me},
		"long value":             {Key: "x", Value: make([]byte, MaxValue+1), Owner: me},
		"no owner":               {Key: "x"},
		"unknown kind":           {Key: "x", Owner: Owner{Kind: "ghost", Child: "c"}},
		"fields of two kinds":    {Key: "x", Owner: Owner{Kind: OwnerChild, Child: "c", Node: "n"}},
		"another member's":       {Key: "x", Owner: ByMember("m1")},
		"pid without node":       {Key: "x", Owner: ByPid("", "<0.1.0>", 1)},
		"node without pid":       {Key: "x", Owner: ByPid("n@h", "", 1)},
		"child without id":       {Key: "x", Owner: ByChild("")},
		"id with newline":        {Key: "x", Owner: ByChild("a\n")},
		"long id":                {Key: "x", Owner: ByChild(strings.Repeat("c", 256))},
		"lease without TTL":      {Key: "x", Owner: ByLease("l")},
		"TTL without lease":      {Key: "x", Owner: me, TTL: time.Second},
		"unknown consistency":    {Key: "x", Owner: me, Consistency: "eventual"},
		"duplicate with quorum":  {Key: "x", Owner: me, Duplicate: true, Consistency: Quorum},
		"negative TTL of leases": {Key: "x", Owner: ByLease("l"), TTL: -time.Second},
	} {
		_, err := r.Register(t.Context(), c)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	require.Zero(t, r.Count(""))
	_, err := r.Register(t.Context(), Claim{Key: "schlüssel/日本", Owner: me})
	require.NoError(t, err)
}

func TestReads(t *testing.T) {
	c := startCluster(t, 2, nil)
	a, b, ctx := c.regs["m0"], c.regs["m1"], t.Context()
	const n = 3000 // more than are read at a time
	for i := range n {
		_, err := a.Register(ctx, Claim{Key: fmt.Sprintf("job/%04d", i), Owner: ByChild(fmt.Sprint("c", i%3))})
		require.NoError(t, err)
	}
	for i, r := range []*Registry{a, b, a, b} {
		_, err := r.Register(ctx, Claim{
			Key: "pool", Owner: ByPid("n@h", fmt.Sprintf("<0.%d.0>", i), 1), Duplicate: true, Claimed: uint64(10 - i),
		})
		require.NoError(t, err)
	}
	_, err := b.Register(ctx, Claim{Key: "jobs", Owner: ByMember("m1")})
	require.NoError(t, err)
	for _, r := range c.regs {
		eventually(t, "all entries everywhere", func() bool { return r.Count("") == n+5 })
		require.Equal(t, n, r.Count("job/"))
		require.Equal(t, 4, r.Count("pool"))
		require.Zero(t, r.Count("nothing"))

		i := 0
		for e := range r.Select("job/", nil) {
			require.Equal(t, fmt.Sprintf("job/%04d", i), e.Key)
			i++
		}
		require.Equal(t, n, i)
		some := 0
		for range r.Select("", func(e Entry) bool { return e.Owner == ByChild("c1") }) {
			if some++; some == 5 {
				break
			}
		}
		require.Equal(t, 5, some)

		all := r.All("pool")
		require.Len(t, all, 4)
		require.True(t, slices.IsSortedFunc(all, func(x, y Entry) int { return int(x.Claimed) - int(y.Claimed) }))
		oldest, _ := r.Lookup("pool")
		require.Equal(t, all[0], oldest)
		require.Len(t, r.All("jobs"), 1)
		require.Empty(t, r.All("nothing"))

		keys := r.Keys(ByChild("c0"))
		require.Len(t, keys, n/3)
		require.True(t, slices.IsSorted(keys))
		require.Equal(t, []string{"pool"}, r.Keys(ByPid("n@h", "<0.3.0>", 1)))
		require.Empty(t, r.Keys(ByPid("n@h", "<0.3.0>", 2)), "the pid of another incarnation")
	}
	require.Equal(t, n/3, a.Drop(ByChild("c0")))
	require.Zero(t, a.Drop(ByChild("c0")))
	eventually(t, "dropped everywhere", func() bool { return b.Count("job/") == n-n/3 })

	var elsewhere *NotOriginError
	_, err = b.Unregister("job/0001", nil)
	require.ErrorAs(t, err, &elsewhere)
	require.Equal(t, "m0", elsewhere.Origin)
	owner := ByPid("n@h", "<0.1.0>", 1)
	got, err := b.Unregister("pool", &owner)
	require.NoError(t, err)
	require.Equal(t, 1, got)
	got, err = b.Unregister("pool", nil)
	require.NoError(t, err)
	require.Equal(t, 1, got, "its own only")
	_, err = b.Unregister("pool", nil)
	require.ErrorAs(t, err, &elsewhere)
	require.ErrorContains(t, err, "belongs to member m0")
	eventually(t, "unregistered everywhere", func() bool { return a.Count("pool") == 2 })

	s := a.Stats()
	require.Equal(t, 2, s.Origins)
	require.NotZero(t, s.Sent)
	require.NotZero(t, s.BytesReceived)
	require.Equal(t, map[string]uint64{"m1": 0}, a.Lag())
}

func TestUpdate(t *testing.T) {
	c := startCluster(t, 2, nil)
	r, ctx := c.regs["m0"], t.Context()
	_, err := r.Register(ctx, Claim{Key: "n", Value: []byte{0}, Owner: ByMember("m0")})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if _, err := r.Update("n", nil, func(old []byte) []byte { return []byte{old[0] + 1} }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	e, _ := r.Lookup("n")
	require.Equal(t, []byte{200}, e.Value, "no update is lost")
	eventually(t, "updated elsewhere", func() bool {
		e, ok := c.regs["m1"].Lookup("n")
		return ok && slices.Equal(e.Value, []byte{200})
	})
	_, err = r.Update("n", nil, func([]byte) []byte { return make([]byte, MaxValue+1) })
	require.ErrorIs(t, err, ErrInvalid)
	_, err = r.Update("nothing", nil, nil)
	require.ErrorIs(t, err, ErrNotFound)
	var elsewhere *NotOriginError
	_, err = c.regs["m1"].Update("n", nil, nil)
	require.ErrorAs(t, err, &elsewhere)
}

func TestLease(t *testing.T) {
	var now atomic.Pointer[time.Time]
	set := func(d time.Duration) { v := time.Unix(1e9, 0).Add(d); now.Store(&v) }
	set(0)
	r := startCluster(t, 1, func(c *Config) { c.Now = func() time.Time { return *now.Load() } }).regs["m0"]
	ctx := t.Context()
	for _, key := range []string{"x", "y"} {
		_, err := r.Register(ctx, Claim{Key: key, Owner: ByLease("l"), TTL: 10 * time.Second})
		require.NoError(t, err)
	}
	set(9 * time.Second)
	n, err := r.Renew("l", 0)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	set(18 * time.Second)
	n, err = r.Renew("l", 2*time.Second)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	e, _ := r.Lookup("x")
	require.Equal(t, 2*time.Second, e.TTL)
	_, err = r.Renew("l", -1)
	require.ErrorIs(t, err, ErrInvalid)
	set(20 * time.Second)
	_, err = r.Renew("l", 0)
	require.ErrorIs(t, err, ErrNotFound, "it has just ended")
	require.Zero(t, r.Count(""))
	_, err = r.Renew("unknown", 0)
	require.ErrorIs(t, err, ErrNotFound)
}

// TestLeaseEnds has the registry's own clock end a lease.
func TestLeaseEnds(t *testing.T) {
	r := alone(t)
	for i := range 3 {
		_, err := r.Register(t.Context(), Claim{
			Key: fmt.Sprint(i), Owner: ByLease(fmt.Sprint("l", i)), TTL: time.Duration(3-i) * 20 * time.Millisecond,
		})
		require.NoError(t, err)
	}
	eventually(t, "all leases end", func() bool { return r.Count("") == 0 })
}

// TestQuorumContention has all members claim the same keys at once.
func TestQuorumContention(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := startCluster(t, n, nil)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for i := range 10 {
				key := fmt.Sprint("leader/", i)
				var wg sync.WaitGroup
				var won atomic.Int32
				for _, name := range c.names {
					for j := range 2 {
						wg.Go(func() {
							_, err := c.regs[name].Register(ctx, Claim{
								Key: key, Owner: ByChild(fmt.Sprint(name, j)), Consistency: Quorum,
							})
							var taken *TakenError
							switch {
							case err == nil:
								won.Add(1)
							case !errors.As(err, &taken):
								t.Error(err)
							}
						})
					}
				}
				wg.Wait()
				require.EqualValues(t, 1, won.Load(), key)
			}
			for _, name := range c.names {
				eventually(t, "one view", func() bool { return maps.Equal(holders(c.regs[name]), holders(c.regs["m0"])) })
				require.Zero(t, c.regs[name].Stats().Conflicts)
			}
		})
	}
}

func holders(r *Registry) map[string]Owner {
	out := map[string]Owner{}
	for e := range r.Select("", nil) {
		out[e.Key] = e.Owner
	}
	return out
}

func TestNoQuorum(t *testing.T) {
	var deaf atomic.Bool
	c := startCluster(t, 3, func(c *Config) {
		send := c.Send
		c.Send = func(to string, msg []byte) bool { return !deaf.Load() && send(to, msg) }
	})
	r := c.regs["m0"]
	c.see("m0")
	_, err := r.Register(t.Context(), Claim{Key: "x", Owner: ByMember("m0"), Consistency: Quorum})
	var few *NoQuorumError
	require.ErrorAs(t, err, &few)
	require.ErrorIs(t, err, ErrNoQuorum)
	require.Equal(t, NoQuorumError{Key: "x", Accepted: 1, Answered: 1, Visible: 1, Size: 3}, *few)
	require.ErrorContains(t, err, "1 of 3 members agreed (2 needed")
	e, err := r.Register(t.Context(), Claim{Key: "x", Owner: ByMember("m0"), Consistency: Quorum, Force: true})
	require.NoError(t, err)
	require.Equal(t, "x", e.Key)
	require.Equal(t, 1, r.Drop(ByMember("m0")))

	// Members in sight that do not answer.
	deaf.Store(true)
	c.see(c.names...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = r.Register(ctx, Claim{Key: "y", Owner: ByMember("m0"), Consistency: Quorum})
	require.ErrorIs(t, err, ErrNoQuorum)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, r.Count(""))
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err = r.Register(ctx, Claim{Key: "y", Owner: ByMember("m0"), Consistency: Quorum})
	require.ErrorIs(t, err, context.Canceled)

	// They vanish while it waits.
	done := make(chan error, 1)
	go func() {
		_, err := r.Register(t.Context(), Claim{Key: "y", Owner: ByMember("m0"), Consistency: Quorum})
		done <- err
	}()
	eventually(t, "the claim waits", func() bool {
		_, err := r.Register(t.Context(), Claim{Key: "y", Owner: ByChild("c")})
		var taken *TakenError
		if err == nil {
			_, err = r.Unregister("y", nil)
			require.NoError(t, err)
		}
		return errors.As(err, &taken)
	})
	// A second claim waits for the first.
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = r.Register(ctx, Claim{Key: "y", Owner: ByChild("c"), Consistency: Quorum})
	require.ErrorIs(t, err, ErrNoQuorum)
	c.see("m0")
	require.ErrorIs(t, <-done, ErrNoQuorum)

	// The owner ends while its claim waits.
	c.see(c.names...)
	go func() {
		_, err := r.Register(t.Context(), Claim{Key: "z", Owner: ByChild("c"), Consistency: Quorum})
		done <- err
	}()
	eventually(t, "the owner ends", func() bool { return r.Drop(ByChild("c")) == 1 })
	require.ErrorIs(t, <-done, ErrNotFound)
}

// TestQuorumUpgrade asks a majority about what was registered without.
func TestQuorumUpgrade(t *testing.T) {
	c := startCluster(t, 3, nil)
	r := c.regs["m0"]
	local, err := r.Register(t.Context(), Claim{Key: "x", Owner: ByMember("m0")})
	require.NoError(t, err)
	e, err := r.Register(t.Context(), Claim{Key: "x", Owner: ByMember("m0"), Consistency: Quorum, Value: []byte("2")})
	require.NoError(t, err)
	require.Equal(t, local.Claimed, e.Claimed)
	require.Equal(t, "2", string(e.Value))
	_, err = c.regs["m1"].Register(t.Context(), Claim{Key: "x", Owner: ByMember("m1"), Consistency: Quorum})
	var taken *TakenError
	require.ErrorAs(t, err, &taken)
	_, err = r.Register(t.Context(), Claim{Key: "x", Owner: ByMember("m0"), Consistency: Quorum, Value: []byte("3")})
	require.NoError(t, err)

	// Without an answer it stays what it was.
	_, err = r.Register(t.Context(), Claim{Key: "y", Owner: ByMember("m0")})
	require.NoError(t, err)
	c.see("m0")
	_, err = r.Register(t.Context(), Claim{Key: "y", Owner: ByMember("m0"), Consistency: Quorum})
	require.ErrorIs(t, err, ErrNoQuorum)
	_, ok := r.Lookup("y")
	require.True(t, ok)
}

func TestConflictIsTold(t *testing.T) {
	var mu sync.Mutex
	told := map[string][]NameConflict{}
	c := startCluster(t, 2, func(c *Config) {
		name := c.Member
		c.OnConflict = func(n NameConflict) {
			mu.Lock()
			defer mu.Unlock()
			told[name] = append(told[name], n)
		}
	})
	c.see("m0")
	old, err := c.regs["m1"].Register(t.Context(), Claim{Key: "x", Owner: ByMember("m1")})
	require.NoError(t, err)
	young, err := c.regs["m0"].Register(t.Context(), Claim{Key: "x", Owner: ByMember("m0")})
	require.NoError(t, err)
	c.see(c.names...)
	for _, r := range c.regs {
		eventually(t, "the older claim wins", func() bool { e, _ := r.Lookup("x"); return e.Origin == "m1" })
	}
	eventually(t, "the loser is told", func() bool { mu.Lock(); defer mu.Unlock(); return len(told["m0"]) == 1 })
	require.Equal(t, []NameConflict{{Key: "x", Loser: young, Winner: old}}, told["m0"])
	require.Empty(t, told["m1"])
}

func TestAdoption(t *testing.T) {
	c := startCluster(t, 3, nil)
	const n = 5000 // more than one message
	first := c.regs["m0"]
	fill(t, first, n)
	_, err := first.Register(t.Context(), Claim{Key: "its own", Owner: ByMember("m0")})
	require.NoError(t, err)
	for _, name := range c.names[1:] {
		eventually(t, "all have it", func() bool { return c.regs[name].Count("") == n+1 })
	}
	c.see("m1", "m2")

	var mu sync.Mutex
	had := map[string]Entry{}
	hear := func(es []Entry) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range es {
			if _, twice := had[e.Key]; twice {
				t.Errorf("%s was told twice", e.Key)
			}
			had[e.Key] = e
		}
	}
	second := c.restart(t, "m0", 2, func(cfg *Config) { cfg.OnAdoptable = hear })
	eventually(t, "it hears what it had", func() bool { mu.Lock(); defer mu.Unlock(); return len(had) == n })
	require.NotContains(t, had, "its own")
	for _, e := range had {
		got, err := second.Register(t.Context(), Claim{Key: e.Key, Value: e.Value, Owner: e.Owner, Claimed: e.Claimed})
		require.NoError(t, err)
		require.Equal(t, e.Claimed, got.Claimed)
	}
	for _, name := range c.names {
		eventually(t, "all have it again", func() bool { return c.regs[name].Count("") == n })
	}
}

func TestOrphans(t *testing.T) {
	c := startCluster(t, 2, nil)
	fill(t, c.regs["m0"], 10)
	b := c.regs["m1"]
	eventually(t, "the other has it", func() bool { return b.Count("") == 10 })
	require.Empty(t, b.Orphans("shop@db1"))
	c.see("m0")
	orphans := b.Orphans("shop@db1")
	require.Len(t, orphans, 10)
	require.Empty(t, b.Orphans("blog@db1"))
	for _, e := range orphans {
		_, err := b.Register(t.Context(), Claim{Key: e.Key, Value: e.Value, Owner: e.Owner, Claimed: e.Claimed})
		require.NoError(t, err)
	}
	c.see(c.names...)
	for _, r := range c.regs {
		eventually(t, "taken over", func() bool {
			e, ok := r.Lookup("session/00000009")
			return ok && e.Origin == "m1" && r.Count("") == 10
		})
		require.Zero(t, r.Stats().Conflicts)
	}
	require.Empty(t, c.regs["m1"].Orphans("shop@db1"))
}

func TestForget(t *testing.T) {
	c := startCluster(t, 3, nil)
	fill(t, c.regs["m0"], 10)
	for _, name := range c.names[1:] {
		eventually(t, "all have it", func() bool { return c.regs[name].Count("") == 10 })
	}
	c.see("m1", "m2")
	for _, name := range c.names[1:] {
		r := c.regs[name]
		require.Zero(t, r.Count(""))
		require.Len(t, r.Orphans("shop@db1"), 10)
		r.Forget("m0")
		r.Forget("m0")
		r.Forget("nobody")
		r.Forget(name)
		require.Empty(t, r.Orphans("shop@db1"))
		require.NotContains(t, r.Lag(), "m0")
	}
	c.see(c.names...)
	for _, name := range c.names[1:] {
		eventually(t, "it came back", func() bool { return c.regs[name].Count("") == 10 })
	}
}

func TestMetadata(t *testing.T) {
	c := startCluster(t, 2, nil)
	a, b := c.regs["m0"], c.regs["m1"]
	require.NoError(t, a.PutMeta("limit", []byte("10")))
	eventually(t, "the other has it", func() bool { v, ok := b.Meta("limit"); return ok && string(v) == "10" })
	require.NoError(t, b.DeleteMeta("limit"))
	eventually(t, "deleted", func() bool { _, ok := a.Meta("limit"); return !ok })
	require.ErrorIs(t, a.DeleteMeta("limit"), ErrNotFound)
	require.ErrorIs(t, a.PutMeta("", nil), ErrInvalid)
	require.ErrorIs(t, a.PutMeta("x", make([]byte, MaxValue+1)), ErrInvalid)
	for i := range 3 {
		require.NoError(t, a.PutMeta(fmt.Sprint(i), make([]byte, MaxValue)))
	}
	require.ErrorIs(t, a.PutMeta("3", make([]byte, MaxValue)), ErrInvalid)
	require.NoError(t, a.PutMeta("2", make([]byte, MaxValue)), "in its own place")
	eventually(t, "all of it", func() bool { _, ok := b.Meta("2"); return ok })
}

func TestReceiveGarbage(t *testing.T) {
	r := New(Config{Member: "a", Epoch: 1})
	for _, msg := range [][]byte{
		nil, {version}, {version + 1, msgDigest}, {version, 0}, {version, 99}, {version, msgWant, 1}, make([]byte, maxFrame+1),
	} {
		err := r.Receive("b", msg)
		require.ErrorIs(t, err, ErrMessage)
		require.ErrorContains(t, err, "receive from b: ")
	}
}

func TestOwnerNames(t *testing.T) {
	require.Equal(t, "process <0.1.0> of n@h", ByPid("n@h", "<0.1.0>", 1).String())
	require.Equal(t, "child c", ByChild("c").String())
	require.Equal(t, "member m", ByMember("m").String())
	require.Equal(t, "lease l", ByLease("l").String())
	require.Equal(t, "nobody", Owner{}.String())
}
