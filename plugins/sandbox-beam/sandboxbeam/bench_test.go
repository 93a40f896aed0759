package sandboxbeam

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/sdk"
)

// BenchmarkScript is a sandbox of a script from the request until its node can be
// attached to, and beside it, in turns, the time until a bare `elixir --name` has run
// the same script.
func BenchmarkScript(b *testing.B) {
	for _, otp := range erltest.Releases() {
		b.Run("otp"+otp, func(b *testing.B) {
			s := strategy(b, "")
			bin := filepath.Join(erltest.Dir(), otp, "bin")
			source := write(b, filepath.Join(b.TempDir(), "counter.exs"), counter)
			config, err := json.Marshal(map[string]any{"source": source, "otp": otp})
			require.NoError(b, err)
			epmd := erltest.StartEPMD(b)
			var ours, bare time.Duration
			one := func(i int) {
				id := "c" + strconv.Itoa(i)
				began := time.Now()
				_, err := s.Create(b.Context(), sdk.SandboxSpec{ID: id, Config: config})
				require.NoError(b, err)
				ours += time.Since(began)
				require.NoError(b, s.Destroy(b.Context(), id))
				cmd := exec.Command(filepath.Join(bin, "elixir"), "--name", id+"@127.0.0.1", source)
				cmd.Env = append(os.Environ(), "ERL_EPMD_PORT="+strconv.Itoa(epmd.Port), "HOME="+b.TempDir())
				began = time.Now()
				out, err := cmd.CombinedOutput()
				require.NoError(b, err, "%s", out)
				bare += time.Since(began)
			}
			one(0) // starts the keeper, and asks Elixir for its version
			ours, bare = 0, 0
			for i := range b.N {
				one(i + 1)
			}
			b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms-sandbox")
			b.ReportMetric(float64(bare.Milliseconds())/float64(b.N), "ms-elixir")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkMixAgain is a sandbox of a project that was compiled before.
func BenchmarkMixAgain(b *testing.B) {
	s, dir := strategy(b, ""), project(b, shop)
	config, err := json.Marshal(map[string]any{"source": dir, "otp": erltest.Releases()[1]})
	require.NoError(b, err)
	began := time.Now()
	_, err = s.Create(b.Context(), sdk.SandboxSpec{ID: "first", Config: config})
	require.NoError(b, err)
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms-first")
	require.NoError(b, s.Destroy(b.Context(), "first"))
	b.ResetTimer()
	for i := range b.N {
		id := "again" + strconv.Itoa(i)
		_, err := s.Create(b.Context(), sdk.SandboxSpec{ID: id, Config: config})
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.Destroy(b.Context(), id))
		b.StartTimer()
	}
}
