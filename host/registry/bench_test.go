package registry

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func BenchmarkRegister(b *testing.B) {
	for _, peers := range []int{0, 2} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			c := startCluster(b, peers+1, nil)
			r, ctx := c.regs["m0"], context.Background()
			keys := make([]string, b.N)
			for i := range keys {
				keys[i] = fmt.Sprintf("name/%d", i)
			}
			claim := Claim{Value: []byte(`{"role":"db"}`)}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				claim.Key = keys[i]
				claim.Owner = ByPid("shop@db1", "<0.123.0>", 1)
				if _, err := r.Register(ctx, claim); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "registrations/s")
			b.StopTimer()
			for _, n := range c.names {
				require.Eventually(b, func() bool { return c.regs[n].Count("") == b.N }, 30*time.Second, time.Millisecond)
			}
		})
	}
}

// fill registers entries as a pool of processes would.
func fill(tb testing.TB, r *Registry, n int) {
	for i := range n {
		_, err := r.Register(context.Background(), Claim{
			Key: fmt.Sprintf("session/%08d", i), Value: fmt.Appendf(nil, `{"user":%d}`, i),
			Owner: ByPid("shop@db1", fmt.Sprintf("<0.%d.0>", i), 1),
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// looker is called as an interface: a func value made of a method would copy each
// Entry once more.
type looker interface {
	Lookup(key string) (Entry, bool)
}

// floorMap is what a lookup is compared with: a map of entries behind a lock.
type floorMap struct {
	mu      sync.RWMutex
	entries map[string]*Entry
}

func (f *floorMap) Lookup(key string) (Entry, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	e := f.entries[key]
	if e == nil {
		return Entry{}, false
	}
	return *e, true
}

func (f *floorMap) put(e *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries[e.Key] = e
}

func BenchmarkLookup(b *testing.B) {
	const n = 100_000
	c := startCluster(b, 2, nil)
	local, remote, floor := c.regs["m0"], c.regs["m1"], &floorMap{entries: map[string]*Entry{}}
	fill(b, local, n)
	require.Eventually(b, func() bool { return remote.Count("") == n }, 30*time.Second, time.Millisecond)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("session/%08d", i*7919%n)
	}
	written := make([]string, 10_000)
	for i := range written {
		written[i] = fmt.Sprint("written/", i)
	}
	for e := range remote.Select("", nil) {
		floor.put(&e)
	}
	register := func(key string, i int) {
		if _, err := local.Register(context.Background(), Claim{Key: key, Value: fmt.Append(nil, i), Owner: ByMember("m0")}); err != nil {
			b.Error(err)
		}
	}
	for _, l := range []struct {
		name  string
		from  looker
		write func(key string, i int)
	}{
		{"owner=local", local, register},
		{"owner=remote", remote, register},
		{"floor", floor, func(key string, i int) { floor.put(&Entry{Key: key, Value: fmt.Append(nil, i)}) }},
	} {
		for _, n := range []int{1000, n} {
			b.Run(fmt.Sprintf("%s/keys=%d", l.name, n), func(b *testing.B) { benchLookups(b, l.from, keys[:n]) })
		}
		b.Run(l.name+"/all-cores", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, ok := l.from.Lookup(keys[i%1000]); !ok {
						b.Error("not found")
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
		})
		b.Run(l.name+"/while-registering", func(b *testing.B) {
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						l.write(written[i%len(written)], i)
					}
				}
			})
			benchLookups(b, l.from, keys[:1000])
			close(stop)
			wg.Wait()
		})
	}
}

func benchLookups(b *testing.B, from looker, keys []string) {
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, ok := from.Lookup(keys[i%len(keys)]); !ok {
			b.Fatal("not found")
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
}

// BenchmarkCatchUp is a member that comes to 100 k entries.
func BenchmarkCatchUp(b *testing.B) {
	const n = 100_000
	var heap float64
	for range b.N {
		b.StopTimer()
		c := startCluster(b, 2, nil)
		c.see("m0")
		fill(b, c.regs["m0"], n)
		before := heapSize()
		b.StartTimer()
		c.see(c.names...)
		for c.regs["m1"].Count("") < n {
			runtime.Gosched()
		}
		b.StopTimer()
		heap += (heapSize() - before) / n
		c.stop()
	}
	b.ReportMetric(heap/float64(b.N), "B/entry")
}

func heapSize() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkPropagation is the time from the call of Register to when the last of
// the other members has the entry.
func BenchmarkPropagation(b *testing.B) {
	for _, n := range []int{3, 7} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			c := startCluster(b, n, nil)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var seen atomic.Int64
			var wg sync.WaitGroup
			all := make(chan struct{}, 1)
			for _, name := range c.names[1:] {
				wg.Go(func() {
					for ch := range c.regs[name].Watch(ctx, "") {
						if ch.Type == Put && seen.Add(1)%int64(n-1) == 0 {
							all <- struct{}{}
						}
					}
				})
			}
			times := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for i := range b.N {
				start := time.Now()
				_, err := c.regs["m0"].Register(ctx, Claim{Key: fmt.Sprint("k", i), Owner: ByMember("m0")})
				require.NoError(b, err)
				<-all
				times = append(times, time.Since(start))
			}
			b.StopTimer()
			cancel()
			wg.Wait()
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
		})
	}
}
