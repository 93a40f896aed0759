package cluster_test

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/cluster/clustertest"
	"github.com/debughost/debughost/host/events"
)

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Of two members over real sockets: from the start of the second one until both
// see both.
func BenchmarkFormationOfTwo(b *testing.B) {
	for b.Loop() {
		lanOfTwo := lan(b, 2)
		awaitAll(b, lanOfTwo...)
		stopAll(lanOfTwo)
	}
	b.ReportMetric(ms(b.Elapsed())/float64(b.N), "ms/formation")
	b.ReportMetric(0, "ns/op")
}

// Of members that start at once, each knowing the first two: 2 and 5 over real
// sockets, 10 and 50 over a network in memory that loses 5 % of the packets.
func BenchmarkFormationAtOnce(b *testing.B) {
	for _, n := range []int{2, 5, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var took time.Duration
			for i := 0; b.Loop(); i++ {
				net := clustertest.New(clustertest.Options{Loss: 0.05, Seed: uint64(i)})
				key := cluster.NewKey()
				all := make([]*member, n)
				begin := time.Now()
				var wg sync.WaitGroup
				first := make(chan string, 1)
				for k := range n {
					cfg := cluster.Config{Name: fmt.Sprintf("m%02d", k), Bind: "127.0.0.1:0", Keys: ring(b, key)}
					if n > 5 {
						cfg.Bind, cfg.Network = ip(k)+":7946", net.Host(ip(k))
						cfg.Join = []string{ip(0) + ":7946", ip(1) + ":7946"}
					} else if k > 0 {
						addr := <-first
						first <- addr
						cfg.Join = []string{addr}
					}
					if k == 0 && n <= 5 {
						all[k] = start(b, cfg)
						first <- all[k].Addr()
						continue
					}
					wg.Go(func() { all[k] = start(b, cfg) })
				}
				wg.Wait()
				awaitView(b, 4*longEnough, all...)
				took += time.Since(begin)
				stopAll(all)
			}
			b.ReportMetric(ms(took)/float64(b.N), "ms/formation")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// Until all of five members treat a killed one as unreachable (with the hint of
// a broken stream) and as dead; and a frozen one as dead, of which nobody hints.
func BenchmarkDetection(b *testing.B) {
	detect := func(b *testing.B, freeze bool) {
		var unreachable, dead, worst time.Duration
		for b.Loop() {
			net := clustertest.New(clustertest.Options{})
			all := memory(b, net, 5)
			awaitAll(b, all...)
			rest := all[:4]
			begin := time.Now()
			if freeze {
				net.Freeze(ip(4))
			} else {
				net.Kill(ip(4))
				for _, m := range rest {
					m.Hint("m04", errors.New("stream broke"))
				}
				for _, m := range rest {
					m.await("m04", cluster.Unreachable, cluster.Dead)
				}
				unreachable += time.Since(begin)
			}
			for _, m := range rest {
				m.await("m04", cluster.Dead)
			}
			dead += time.Since(begin)
			worst = max(worst, time.Since(begin))
			stopAll(all)
		}
		b.ReportMetric(ms(unreachable)/float64(b.N), "ms/unreachable")
		b.ReportMetric(ms(dead)/float64(b.N), "ms/dead")
		b.ReportMetric(ms(worst), "ms/worst")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("killed", func(b *testing.B) { detect(b, false) })
	b.Run("frozen", func(b *testing.B) { detect(b, true) })
}

// What a member costs while nothing happens.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{2, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			net := clustertest.New(clustertest.Options{})
			all := memory(b, net, n)
			awaitView(b, 4*longEnough, all...)
			settle := time.Now()
			for b.Loop() {
				if time.Since(settle) < 12*time.Second { // formation is still being repaired
					time.Sleep(12*time.Second - time.Since(settle))
				}
				cpu, began := cpuTime(), time.Now()
				_, bytes := net.Traffic()
				time.Sleep(5 * time.Second)
				seconds := time.Since(began).Seconds()
				_, now := net.Traffic()
				b.ReportMetric(float64(now-bytes)/seconds/float64(n), "bytes/s/member")
				b.ReportMetric(100*(cpuTime()-cpu).Seconds()/seconds/float64(n), "%core/member")
			}
			b.ReportMetric(0, "ns/op")
			stopAll(all)
		})
	}
}

// Whether a machine without any time to spare makes members believe each other
// dead: five members, each a share of what twice as many busy processes as there
// are cores leave. One iteration is ten seconds.
func BenchmarkFullLoad(b *testing.B) {
	net := clustertest.New(clustertest.Options{})
	all := memory(b, net, 5)
	awaitAll(b, all...)
	for range 2 * runtime.NumCPU() {
		busy := exec.CommandContext(b.Context(), "sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			b.Skip(err)
		}
		b.Cleanup(func() { _ = busy.Process.Kill(); _ = busy.Wait() })
	}
	for b.Loop() {
		time.Sleep(10 * time.Second)
	}
	dead, suspect := 0, 0
	for _, m := range all {
		dead += len(m.events(events.MemberDead, events.MemberUnreachable))
		suspect += len(m.events(events.MemberSuspect))
	}
	b.ReportMetric(float64(dead), "false-deaths")
	b.ReportMetric(float64(suspect), "suspicions")
	b.ReportMetric(0, "ns/op")
	stopAll(all)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func stopAll(all []*member) {
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(m.stop)
	}
	wg.Wait()
}
