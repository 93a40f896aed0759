package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// BenchmarkSandboxWeight is what one more sandbox costs the host that runs it, attached
// and looked at.
func BenchmarkSandboxWeight(b *testing.B) {
	const first, more = 2, 10
	h := newHome(b, rig.TempDir(b), fmt.Sprintf("[sandbox.beam]\npath = %q\n", filepath.Join(erltest.Dir(), erltest.Releases()[1], "bin")+":"+os.Getenv("PATH")))
	create := func(i int) {
		h.Exit(b, 0, "sandbox", "create", fmt.Sprint("n", i))
	}
	weigh := func() (host int64) {
		h.Eventually(b, func() error {
			out, _, err := h.Try("ps", "--limit", "1")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		return pss(b, h.Pid())
	}
	for b.Loop() {
		for i := range first {
			create(i)
		}
		before := weigh()
		for i := range more {
			create(first + i)
		}
		after := weigh()
		b.ReportMetric(float64(after-before)/more/1e6, "host-MB/sandbox")
		for i := range first + more {
			_, _, err := h.Try("sandbox", "destroy", fmt.Sprint("n", i))
			require.NoError(b, err)
		}
	}
	b.ReportMetric(0, "ns/op")
}
