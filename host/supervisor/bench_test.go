package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/supervisor/book"
	"github.com/debughost/debughost/sdk"
)

// benchStarts has 64 callers start children; those that wait for the disk wait
// together.
func benchStarts(b *testing.B, names ...string) {
	r := newRig(b, names...)
	b.ResetTimer()
	var callers sync.WaitGroup
	next := make(chan int, b.N)
	for i := range b.N {
		next <- i
	}
	close(next)
	for range 64 {
		callers.Go(func() {
			for i := range next {
				id := fmt.Sprintf("child-%d", i)
				if _, err := r.arbiter(id).Start(context.Background(), Spec{ID: id, Strategy: "test"}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	callers.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
}

func BenchmarkStartAlone(b *testing.B)   { benchStarts(b, "a") }
func BenchmarkStartOnThree(b *testing.B) { benchStarts(b, "a", "b", "c") }

// bookOf writes a book of n children that run on member a.
func bookOf(t testing.TB, path string, n int) {
	s, err := New(loneConfig(path))
	require.NoError(t, err)
	s.do(func(c *core, now instant) {
		peers := map[string]peer{"a": {}}
		c.setMembers(now, peers, true, true)
		for i := range n {
			spec := benchSpec(i)
			require.NoError(t, c.request(now, request{kind: askStart, id: spec.ID, spec: &spec}))
			ch := c.children[spec.ID]
			c.placed(now, spec.ID, ch.asked, sdk.Decision{Member: "a"}, nil)
			c.created(now, spec.ID, ch.run.op, sdk.SandboxHandle{ID: spec.ID, State: []byte(`{"pid":12345,"start":1234567}`)}, sdk.SandboxStatus{OSPid: 1}, nil)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, s.book.Run(ctx))
}

func benchSpec(i int) Spec {
	return Spec{
		ID: fmt.Sprintf("shop-worker-%05d", i), Strategy: "process",
		Config: []byte(`{"command":["/usr/local/bin/worker","--queue","orders"],"env":{"MIX_ENV":"prod"}}`), Limits: sdk.SandboxLimits{Memory: 64 << 20},
	}.complete()
}

func loneConfig(path string) Config {
	return Config{
		Member: "a", Path: path, Registry: registry.New(registry.Config{Member: "a", Epoch: 1}),
		Members: func() []cluster.Member { return []cluster.Member{{Name: "a", Self: true, State: cluster.Alive}} },
		Changed: func() <-chan struct{} { return nil }, Quorum: func() cluster.Quorum { return cluster.Quorum{Size: 1, Alive: 1, Need: 1, Has: true} },
	}
}

// Books of 10 000 children, on the member that runs them all and on one that knows of
// them: what one costs on disk and in memory, where all have one config and where each
// has its own. How long a start takes to read them is BenchmarkLoad's.
func TestBooksAreSmall(t *testing.T) {
	const n = 10_000
	own := func(i int) Spec {
		s := benchSpec(i)
		s.Config = bytes.Replace(s.Config, []byte("orders"), fmt.Appendf(nil, "orders-%05d", i), 1)
		return s
	}
	const limit = n * 1000
	for name, spec := range map[string]func(int) Spec{"equal specs": benchSpec, "configs of their own": own} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			heap := heapUsed()
			a := newBooks(t, "a", filepath.Join(dir, "a"))
			saidByA := a.start(t, n, spec)
			a.written(t)
			runs := heapUsed() - heap - size(saidByA)
			heap = heapUsed()
			b := newBooks(t, "b", filepath.Join(dir, "b"))
			saidByB := b.hear(t, "a", saidByA)
			b.written(t)
			knows := heapUsed() - heap - size(saidByB)
			heap = heapUsed()
			a.hear(t, "b", saidByB)
			a.written(t)
			runs += heapUsed() - heap
			a.close(t)
			b.close(t)
			heap = heapUsed()
			a = newBooks(t, "a", filepath.Join(dir, "a"))
			a.takeOver()
			a.hear(t, "b", saidByB)
			a.written(t)
			restarted := heapUsed() - heap
			a.close(t)
			runtime.KeepAlive(saidByA)
			runtime.KeepAlive(saidByB)
			disk := onDisk(t, filepath.Join(dir, "a"))
			t.Logf("bytes a child: %d on disk; in memory %d where it runs, %d after a restart, %d where it is known", disk/n, runs/n, restarted/n, knows/n)
			require.Less(t, max(disk, runs, knows, restarted), int64(limit))
		})
	}
}

// onDisk is the size of all that counts in a book.
func onDisk(t *testing.T, path string) (size int64) {
	const prefix = 11
	b, _, err := book.Open(path, func(name book.Name, value []byte) error {
		size += int64(prefix + len(name.String()) + len(value))
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	return size
}

func heapUsed() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // and what the first one has let go of
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// size is the memory of what was said.
func size(said []news) int64 {
	n := cap(said) * int(unsafe.Sizeof(news{}))
	for _, s := range said {
		n += cap(s.rec) + cap(s.fact)
	}
	return int64(n)
}

// books are one member's of a and b, with what they want said to the other one in the
// place of a registry.
type books struct {
	*Supervisor
	stop func()
}

// news is what is said of one child: a record, a fact, or both.
type news struct {
	id        string
	rec, fact []byte
}

func newBooks(t *testing.T, member, path string) *books {
	cfg := loneConfig(path)
	cfg.Member, cfg.Clustered = member, true
	s, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.book.Run(ctx) }()
	b := &books{s, func() {
		cancel()
		require.NoError(t, <-done)
	}}
	b.do(func(c *core, now instant) {
		c.setMembers(now, map[string]peer{"a": {up: true, usable: true}, "b": {up: true, usable: true}}, true, true)
	})
	return b
}

// written waits for the book to have written all, which it has in memory until then.
func (b *books) written(t *testing.T) {
	require.NoError(t, b.book.Wait(t.Context(), b.book.Delete(book.Name{ID: "nothing"})))
}

func (b *books) close(t *testing.T) {
	b.stop()
	runtime.KeepAlive(b)
	b.Supervisor = nil
}

// said is what is to be said, in the words of the wire.
func (b *books) said() (out []news) {
	for _, a := range b.queue {
		switch a.kind {
		case doPublish:
			out = append(out, news{id: a.id, rec: a.rec.encode()})
		case doTell:
			fact, err := json.Marshal(a.fact)
			if err != nil {
				panic(err)
			}
			out = append(out, news{id: a.id, fact: fact})
		}
	}
	b.queue = nil
	return out
}

// start has n children run on this member.
func (b *books) start(t *testing.T, n int, spec func(int) Spec) (out []news) {
	for i := range n {
		s := spec(i)
		b.do(func(c *core, now instant) {
			require.NoError(t, c.request(now, request{kind: askStart, id: s.ID, spec: &s}))
			ch := c.children[s.ID]
			if ch.errand == nil { // it is for the other one to decide
				c.assign(ch, b.cfg.Member, "")
				c.settle()
			} else {
				c.placed(now, s.ID, ch.asked, sdk.Decision{Member: b.cfg.Member}, nil)
			}
			c.created(now, s.ID, ch.run.op, sdk.SandboxHandle{ID: s.ID, State: []byte(`{"pid":12345,"start":1234567}`)}, sdk.SandboxStatus{OSPid: 1}, nil)
		})
		out = append(out, b.said()...)
	}
	return out
}

// hear has this member told by another.
func (b *books) hear(t *testing.T, from string, said []news) (out []news) {
	for _, s := range said {
		b.do(func(c *core, now instant) {
			if s.rec != nil {
				r, err := parseRecord(s.rec)
				require.NoError(t, err)
				c.heard(now, from, r)
				return
			}
			f, err := parseFact(s.fact)
			require.NoError(t, err)
			c.toldOf(now, from, s.id, f)
		})
		out = append(out, b.said()...)
	}
	return out
}

// takeOver has all that ran taken over.
func (b *books) takeOver() {
	b.do(func(c *core, now instant) {
		for id, ch := range c.children {
			c.recovered(now, id, ch.run.op, sdk.SandboxStatus{OSPid: 1}, nil)
		}
	})
	b.queue = nil
}

func BenchmarkLoad10k(b *testing.B) {
	path := filepath.Join(b.TempDir(), "book")
	bookOf(b, path, 10_000)
	b.ResetTimer()
	for range b.N {
		s, err := New(loneConfig(path))
		require.NoError(b, err)
		require.NoError(b, s.Close())
	}
}
