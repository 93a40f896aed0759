package system

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// stampedEvent is an event with the member's own time, which is this machine's.
type stampedEvent struct {
	Time time.Time
	Type string
	Node string
}

// firstEvent waits for an event of the type, of a node whose name begins so.
func (h *host) firstEvent(b *testing.B, typ, alive string, after time.Time) stampedEvent {
	b.Helper()
	var found stampedEvent
	h.Eventually(b, func() error {
		out, _, err := h.Try("events", "-o", "json")
		if err != nil {
			return err
		}
		for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
			var e stampedEvent
			if err := dec.Decode(&e); err != nil {
				return err
			}
			if e.Type == typ && strings.HasPrefix(e.Node, alive) && e.Time.After(after) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("no %s", typ)
	})
	return found
}

// pss is the proportional set size of a process, in bytes.
func pss(b *testing.B, pid int) int64 {
	b.Helper()
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	require.NoError(b, err)
	for line := range strings.Lines(string(rollup)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			var kb int64
			_, err := fmt.Sscan(rest, &kb)
			require.NoError(b, err)
			return kb << 10
		}
	}
	b.Fatal("no Pss")
	return 0
}

func medianMS(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// BenchmarkRun starts the binaries as they are installed and reads, from the
// host's events, how soon the first of two targets is attached and how soon a
// killed one is shown gone; then what host and plugin weigh, idle with two.
func BenchmarkRun(b *testing.B) {
	// As the Makefile builds them: stripped, the plugins linked into one file.
	for name, pkg := range map[string]string{"debughost": "./cmd/debughost", "debughost-plugins": "./plugins"} {
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", filepath.Join(rig.Bin, name), pkg)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, string(out))
	}
	s := newSite(b)
	one, two := s.node(b, erltest.Options{}), s.node(b, erltest.Options{})
	alive, _, _ := strings.Cut(two.Name, "@")
	var attached, gone, start []time.Duration
	var weight, host, plugin int64
	for b.Loop() {
		begin := time.Now()
		h := s.run(b)
		e := h.firstEvent(b, "target_attached", "", begin)
		attached = append(attached, e.Time.Sub(begin))
		e = h.firstEvent(b, "plugin_started", "", begin)
		start = append(start, e.Time.Sub(begin))
		h.attached(b, one, two)
		h.Exit(b, 0, "ps", "--limit", "3")
		host, plugin = pss(b, h.Pid()), pss(b, h.pluginPid(b))
		weight = max(weight, host+plugin)
		begin = time.Now()
		two.Kill()
		gone = append(gone, h.firstEvent(b, "target_lost", alive, begin).Time.Sub(begin))
		h.Term(b)
		require.NoError(b, two.Restart(b.Context()))
	}
	b.ReportMetric(medianMS(attached), "attached-ms")
	b.ReportMetric(medianMS(start), "plugin-started-ms")
	b.ReportMetric(medianMS(gone), "kill-to-gone-ms")
	b.ReportMetric(float64(weight)/1e6, "pss-MB")
	b.ReportMetric(float64(host)/1e6, "host-pss-MB")
	b.ReportMetric(float64(plugin)/1e6, "plugin-pss-MB")
}
