package sandboxbeam

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

// BenchmarkReload is the reload of one module, of a Mix project, a script and a module.
func BenchmarkReload(b *testing.B) {
	for _, kind := range []string{"mix", "exs", "erl"} {
		b.Run(kind, func(b *testing.B) {
			s := strategy(b, "")
			var source, file string
			text := counter
			switch kind {
			case "mix":
				text = tillOf("1", "n", "{:reply, state + n, state + n}", "{:ok, state}")
				source = project(b, text)
				file = filepath.Join(source, "lib", "shop.ex")
				for i := range 30 {
					write(b, filepath.Join(source, "lib", strconv.Itoa(i)+".ex"), "defmodule Shop.M"+strconv.Itoa(i)+" do\n  def m, do: 1\nend\n")
				}
			case "exs":
				source = write(b, filepath.Join(b.TempDir(), "counter.exs"), text)
				file = source
			case "erl":
				text = "-module(shop).\n-export([price/0]).\nprice() -> 7.\n"
				source = write(b, filepath.Join(b.TempDir(), "shop.erl"), text)
				file = source
			}
			n := map[string]any{"source": source, "otp": erltest.Releases()[1]}
			config, err := json.Marshal(n)
			require.NoError(b, err)
			_, err = s.Create(b.Context(), sdk.SandboxSpec{ID: "r", Config: config})
			require.NoError(b, err)
			defer func() { require.NoError(b, s.Destroy(b.Context(), "r")) }()
			change := func(i int) {
				more := "\ndefmodule Another do\n  def other, do: " + strconv.Itoa(i) + "\nend\n"
				if kind == "erl" {
					write(b, file, strings.Replace(text, "7", strconv.Itoa(i), 1))
				} else {
					write(b, file, strings.Replace(text, "use GenServer", "use GenServer\n  def other, do: "+strconv.Itoa(i), 1)+more)
				}
				r, err := s.again(b, "r", n)
				require.NoError(b, err)
				require.NotEmpty(b, r.Loaded)
			}
			change(100) // starts the keeper of compilers
			change(101)
			b.ResetTimer()
			for i := range b.N {
				b.StopTimer()
				time.Sleep(time.Second) // Mix does not see what changes within the second of its last work
				b.StartTimer()
				change(1000 + i)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/reload")
			b.ReportMetric(0, "ns/op")
		})
	}
}
