package keeper

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
)

// ping is an innocent command beside one that misbehaves: it says something all
// the time.
type ping struct {
	c *Client
}

func startPing(t *testing.T, c *Client) *ping {
	create(t, c, sh("ping", "while :; do echo ping; sleep 0.02; done"))
	p := &ping{c}
	p.goesOn(t)
	return p
}

// goesOn waits until the loop has gone round five times more, and returns how
// long the longest round took.
func (p *ping) goesOn(t *testing.T) time.Duration {
	t.Helper()
	var at []time.Time
	began := time.Now()
	eventually(t, "the innocent goes on", func() bool {
		at = at[:0]
		require.NoError(t, p.c.Logs(t.Context(), "ping", sdk.LogOptions{Tail: 10}, func(l sdk.LogLine) error {
			if l.Time.After(began) {
				at = append(at, l.Time)
			}
			return nil
		}))
		return len(at) > 5
	})
	var longest time.Duration
	for i := 1; i < len(at); i++ {
		longest = max(longest, at[i].Sub(at[i-1]))
	}
	return longest
}

// limited runs a command that goes over a limit, beside an innocent one, and
// returns how it ended.
func limited(t *testing.T, c *Client, spec Spec) sdk.SandboxExit {
	t.Helper()
	p := startPing(t, c)
	create(t, c, spec)
	exit := wait(t, c, spec.ID)
	p.goesOn(t)
	st, err := c.Inspect(t.Context(), "ping")
	require.NoError(t, err)
	require.Equal(t, sdk.SandboxRunning, st.State)
	return exit
}

func TestEatsMemory(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		// A shell that keeps doubling what it has, as a grandchild.
		spec := sh("a", `sh -c 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done'; while :; do sleep 1; done`)
		spec.Limits.Memory = 48_000_000
		exit := limited(t, c, spec)
		require.True(t, exit.OutOfMemory)
		require.Equal(t, 9, exit.Signal)
		require.Equal(t, "uses more than 48 MB of memory", exit.Reason)
	})
}

func TestForksWithoutEnd(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		word := number()
		spec := sh("a", `bomb() { bomb | sleep `+word+` & }; bomb; while :; do sleep 1; done`)
		spec.Limits.Processes = 30
		exit := limited(t, c, spec)
		require.Equal(t, "has more than 30 processes", exit.Reason)
		require.Zero(t, running(word))
	})
}

func TestFillsItsDisk(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		spec := sh("a", `i=0; while :; do dd if=/dev/zero of=f$i bs=64k count=16 2>/dev/null; i=$((i+1)); sleep 0.01; done`)
		spec.Limits.Disk = 8_000_000
		exit := limited(t, c, spec)
		require.Equal(t, "uses more than 8 MB of disk", exit.Reason)

		one := Spec{ID: "b", Command: []string{"dd", "if=/dev/zero", "of=one", "bs=64k"}, Limits: sdk.SandboxLimits{Disk: 4_096_000}}
		create(t, c, one)
		exit = wait(t, c, "b")
		require.Equal(t, 25, exit.Signal)
		require.Equal(t, "writes a file of more than 4.1 MB, its limit of disk", exit.Reason)
		require.LessOrEqual(t, diskUse(childDir(c.o.Dir, "b")), uint64(5<<20))
	})
}

func TestOpensFilesWithoutEnd(t *testing.T) {
	c := newClient(t, nil)
	spec := sh("a", `exec 3<. 4<. 5<. 6<. 7<. 8<. && exec 9<. && echo no limit`)
	spec.Limits.OpenFiles = 8
	create(t, c, spec)
	require.NotZero(t, wait(t, c, "a").Code)
	require.NotContains(t, logOf(t, c, "a"), "no limit")
}

// What is printed without end fills no disk and slows nobody else down, and what
// is missing is counted.
func TestFloodsItsLog(t *testing.T) {
	c := newClient(t, nil)
	p := startPing(t, c)
	spec := sh("a", `yes 'the same line again and again' | head -c 200000000; echo end >&2`)
	spec.LogSize, spec.LogRate = 1<<20, 256<<10
	create(t, c, spec)
	longest := p.goesOn(t)
	t.Logf("beside a flood the longest round of the innocent's loop took %v", longest)
	require.Less(t, longest, 2*time.Second)
	most := uint64(0)
	eventually(t, "more than one file was written", func() bool {
		_, newest := generations(childDir(c.o.Dir, "a"))
		most = max(most, logBytes(t, c, "a"))
		return newest > 2
	})
	require.NoError(t, c.Stop(t.Context(), "a", time.Second))
	most = max(most, logBytes(t, c, "a"))
	require.LessOrEqual(t, most, uint64(1<<20+2*readChunk))
	require.Regexp(t, `\[debughost: \d+ lines, [\d.]+ [MGk]B, are missing here: it prints more than 262 kB a second\]`, logOf(t, c, "a"))
}

func logBytes(t *testing.T, c *Client, id string) uint64 {
	t.Helper()
	var total uint64
	entries, err := os.ReadDir(childDir(c.o.Dir, id))
	require.NoError(t, err)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), logPrefix) {
			total += uint64(info.Size())
		}
	}
	return total
}

// With a share of a CPU a command gets about that.
func TestSpins(t *testing.T) {
	c := newClient(t, nil)
	spec := sh("a", `while :; do :; done`)
	spec.Limits.CPUs = 0.2
	create(t, c, spec)
	st, err := c.Inspect(t.Context(), "a")
	require.NoError(t, err)
	if st.Enforced["cpus"] == byNothing {
		t.Skip(byNothing)
	}
	cpu := func() time.Duration {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.OSPid))
		require.NoError(t, err)
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		var user, system int
		_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
		require.NoError(t, err)
		return time.Duration(user+system) * 10 * time.Millisecond
	}
	began, used := time.Now(), cpu()
	eventually(t, "it has run for long enough", func() bool { return cpu()-used > 400*time.Millisecond })
	passed := time.Since(began)
	t.Logf("0.4 s of CPU time in %v", passed)
	require.Greater(t, passed, time.Second, "without the limit it takes 0.4 s")
	require.NoError(t, c.Stop(t.Context(), "a", 5*time.Second), "a frozen one can be stopped")
	require.Equal(t, 15, wait(t, c, "a").Signal)
}

func TestCrashesAtStart(t *testing.T) {
	inAllModes(t, func(t *testing.T, c *Client) {
		exit := limited(t, c, sh("a", `echo why >&2; kill -SEGV $$`))
		require.Equal(t, 11, exit.Signal)
		require.Equal(t, "err:why\n", logOf(t, c, "a"))
	})
}
