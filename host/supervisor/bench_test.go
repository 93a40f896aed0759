package supervisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/registry"
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

// Books of 10 000 children: what one costs on disk and in memory. How long a start
// takes to read them is BenchmarkLoad's.
func TestBooksAreSmall(t *testing.T) {
	const n = 10_000
	path := filepath.Join(t.TempDir(), "book")
	bookOf(t, path, n)
	info, err := os.Stat(path)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, err := New(loneConfig(path))
	require.NoError(t, err)
	s.queue = nil // which would be done at once
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Len(t, s.core.children, n)
	disk, memory := info.Size()/n, int64(after.HeapAlloc-before.HeapAlloc)/n
	t.Logf("%d bytes a child on disk, %d in memory", disk, memory)
	require.Less(t, disk, int64(1000))
	require.Less(t, memory, int64(2500))
	require.NoError(t, s.Close())
	runtime.KeepAlive(s)
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
