package keeper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

// BenchmarkCreateDestroy is one command after another, by one caller.
func BenchmarkCreateDestroy(b *testing.B) {
	for _, command := range [][]string{{"true"}, {"sleep", "1000"}} {
		b.Run(command[0], func(b *testing.B) {
			c := newClient(b, nil)
			create(b, c, sh("first", "exit 0")) // starts the keeper
			n, pid := 0, keeperPid(c.o.Dir)
			used := cpuTime(b, pid)
			for b.Loop() {
				n++
				id := "c" + strconv.Itoa(n)
				create(b, c, Spec{ID: id, Command: command})
				require.NoError(b, c.Destroy(b.Context(), id))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			b.ReportMetric(float64((cpuTime(b, pid)-used).Microseconds())/1000/float64(b.N), "ms-CPU/command")
		})
	}
}

// BenchmarkCreate is commands that stay, eight at a time, as after the loss of a
// member. What they take themselves until they run counts where a launch is part
// of it: then it is the keeper's until the exec, and the command's afterwards.
func BenchmarkCreate(b *testing.B) {
	for name, change := range map[string]func(*Options){"traced": nil, "launched": func(o *Options) { o.NoTrace = true }, "view": nil} {
		b.Run(name, func(b *testing.B) {
			c := newClient(b, change)
			var view *View
			if name == "view" {
				view = &View{NoNetwork: true, Required: true}
			}
			first := sh("first", "exit 0") // starts the keeper
			first.View = view
			create(b, c, first)
			pid, commands := keeperPid(c.o.Dir), make([]int, b.N)
			used := cpuTime(b, pid)
			b.ResetTimer()
			var next atomic.Int64
			together(b, maxStarts, func(int) error {
				for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
					id := fmt.Sprint("c", i)
					if _, err := c.Create(b.Context(), Spec{ID: id, Command: []string{"sleep", "1000"}, View: view}); err != nil {
						return err
					}
					st, err := c.Inspect(b.Context(), id)
					if err != nil {
						return err
					}
					commands[i] = st.OSPid
				}
				return nil
			})
			b.StopTimer()
			took := cpuTime(b, pid) - used
			b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "ms-CPU-keeper/command")
			for _, command := range commands {
				took += onCPU(b, command)
			}
			b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "ms-CPU/command")
		})
	}
}

// BenchmarkMany is 300 commands that are created at once, what a keeper weighs
// without and with them, and what its watch costs.
func BenchmarkMany(b *testing.B) {
	const many = 300
	for name, limits := range map[string]sdk.SandboxLimits{"": {}, "limited": {Memory: 64 << 20, Processes: 20, CPUs: 1}} {
		b.Run("300"+name, func(b *testing.B) {
			var took time.Duration
			for b.Loop() {
				c := newClient(b, nil)
				create(b, c, sh("first", "exit 0"))
				before := privateMemory(b, keeperPid(c.o.Dir))
				began := time.Now()
				together(b, many, func(i int) error {
					_, err := c.Create(b.Context(), Spec{ID: fmt.Sprint("c", i), Command: []string{"sleep", "1000"}, Limits: limits})
					return err
				})
				took += time.Since(began)
				pid := keeperPid(c.o.Dir)
				b.ReportMetric(float64(before)/(1<<20), "MB-private-with-0")
				b.ReportMetric(float64(privateMemory(b, pid))/(1<<20), "MB-private-with-300")
				used, from := cpuTime(b, pid), time.Now()
				time.Sleep(3 * time.Second)
				b.ReportMetric(100*float64(cpuTime(b, pid)-used)/float64(time.Since(from)), "%CPU-idle")
				together(b, many, func(i int) error { return c.Destroy(context.Background(), fmt.Sprint("c", i)) })
			}
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms-for-300")
		})
	}
}

// BenchmarkLog is how much output is taken from a command that floods, with most
// of it dropped.
func BenchmarkLog(b *testing.B) {
	dir := b.TempDir()
	w := newLogWriter(dir, 8<<20, 1<<40)
	piece := bytes.Repeat([]byte("a line of a log as they mostly are, of about eighty bytes, or a few more yet\n"), 800)
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		w.write('o', nil, piece)
	}
}

func together(b *testing.B, n int, f func(int) error) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// privateMemory is what a process has that it shares with nobody.
func privateMemory(b *testing.B, pid int) uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	require.NoError(b, err)
	var total uint64
	for line := range bytes.Lines(data) {
		key, value, _ := bytes.Cut(line, []byte{':'})
		if bytes.HasPrefix(key, []byte("Private_")) && !bytes.HasPrefix(key, []byte("Private_Hugetlb")) {
			total += kilobytes(value)
		}
	}
	return total
}

// cpuTime is what a process has used, with what it has waited for.
func cpuTime(b *testing.B, pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(b, err)
	ticks := 0
	for _, field := range bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])[11:15] {
		n, err := strconv.Atoi(string(field))
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// onCPU is what the first thread of a process has used.
func onCPU(b *testing.B, pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	require.NoError(b, err)
	var ns int64
	_, err = fmt.Sscan(string(data), &ns)
	require.NoError(b, err)
	return time.Duration(ns)
}
