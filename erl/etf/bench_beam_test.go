package etf

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkAgainstBEAM measures this package and binary_to_term and
// term_to_binary of real nodes on the same bytes. It takes turns, a round of the
// same work for each, and reports the median of each, so that a busy machine is
// equally slow for all of them.
func BenchmarkAgainstBEAM(b *testing.B) {
	for _, name := range benchNames {
		encoded := benchEncoded(b, name)
		beams := map[string]*beam{"otp25": startBeam(b, "25", encoded), "otp27": startBeam(b, "27", encoded)}
		b.Run("decode/"+name, func(b *testing.B) {
			decoder, tape := NewDecoder(Limits{}), NewTape(Limits{})
			ours := map[string]func() error{
				"tree": func() error { _, err := decoder.Decode(encoded); return err },
				"tape": func() error { return tape.Decode(encoded) },
			}
			if name == "table" { // the tape, and every column of every row read
				ours["tape+read"] = func() error { err := tape.Decode(encoded); sumRows(tape); return err }
			}
			compare(b, "decode", beams, len(encoded), ours)
		})
		b.Run("encode/"+name, func(b *testing.B) {
			term, buf := benchTerm(name), make([]byte, 0, len(encoded))
			ours := map[string]func() error{
				"append": func() error { _, err := Append(buf, term); return err },
				"encode": func() error { _, err := Encode(term); return err },
			}
			if name == "table" { // the same bytes without a tree
				rows := benchRows(8000)
				ours["parts"] = func() error { _, err := appendBenchTable(buf, rows); return err }
			}
			compare(b, "encode", beams, len(encoded), ours)
		})
	}
}

func compare(b *testing.B, op string, beams map[string]*beam, size int, ours map[string]func() error) {
	const rounds = 25
	rates := map[string][]float64{}
	for range rounds {
		for name, f := range ours {
			rates[name] = append(rates[name], rate(b, size, f))
		}
		for name, beam := range beams {
			rates[name] = append(rates[name], beam.rate(b, op))
		}
	}
	for name, r := range rates {
		slices.Sort(r)
		b.ReportMetric(r[len(r)/2]/1e6, name+"-MB/s")
	}
	b.ReportMetric(0, "ns/op")
}

// rate returns bytes per second, measured as etf_bench.erl does: as many times
// as make 6 MB, twice, and the better of both.
func rate(b *testing.B, size int, f func() error) float64 {
	n := max(2, 6_000_000/size)
	best := time.Duration(math.MaxInt64)
	for range 2 {
		start := time.Now()
		for range n {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		best = min(best, time.Since(start))
	}
	return float64(n*size) / best.Seconds()
}

// beam is a node that measures itself on demand.
type beam struct {
	in  io.Writer
	out *bufio.Reader
}

func startBeam(b *testing.B, otp string, encoded []byte) *beam {
	dir := b.TempDir()
	run(b, otp, "erlc", "-o", dir, filepath.Join("testdata", "bench", "etf_bench.erl"))
	file := filepath.Join(dir, "term")
	require.NoError(b, os.WriteFile(file, encoded, 0o600))
	cmd := exec.Command(otpProgram(b, otp, "erl"), "-noshell", "-pa", dir, "-run", "etf_bench", "main", file)
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		in.Close() // the node halts at the end of its input
		require.NoError(b, cmd.Wait())
	})
	return &beam{in: in, out: bufio.NewReader(out)}
}

func (m *beam) rate(b *testing.B, op string) float64 {
	_, err := fmt.Fprintln(m.in, op)
	require.NoError(b, err)
	var rate float64
	_, err = fmt.Fscanln(m.out, &rate)
	require.NoError(b, err)
	return rate
}
