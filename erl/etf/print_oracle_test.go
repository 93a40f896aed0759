package etf

import (
	"bufio"
	"encoding/base64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var releases = []string{"25", "27", "29"}

// oracle is a process of a real release that answers how it evaluates and
// prints terms.
type oracle struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

// startOracle starts the oracle of one syntax on one release.
func startOracle(t testing.TB, otp string, syntax Syntax) *oracle {
	t.Helper()
	var cmd *exec.Cmd
	if syntax == Elixir {
		cmd = exec.Command(otpProgram(t, otp, "elixir"), filepath.Join("testdata", "print", "print_oracle.exs"))
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(otpProgram(t, otp, "erl"))+":"+os.Getenv("PATH"),
			"ELIXIR_ERL_OPTIONS=+fnu")
	} else {
		dir := t.TempDir()
		run(t, otp, "erlc", "-o", dir, filepath.Join("testdata", "print", "print_oracle.erl"))
		cmd = exec.Command(otpProgram(t, otp, "erl"), "-noshell", "+pc", "unicode", "-pa", dir, "-run", "print_oracle", "main")
	}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		// The oracle ends with its input.
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the oracle of OTP %s ended: %v\n%s", otp, err, stderr.String())
		}
	})
	return &oracle{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20)}
}

// ask sends one request and returns the fields of the answer, nil if the
// release refused the request.
func (o *oracle) ask(op string, arg []byte) [][]byte {
	o.t.Helper()
	_, err := io.WriteString(o.in, op+" "+base64.StdEncoding.EncodeToString(arg)+"\n")
	require.NoError(o.t, err)
	var answer []string
	for len(answer) == 0 || answer[0] != "answer" {
		line, err := o.out.ReadString('\n')
		require.NoError(o.t, err)
		answer = strings.Fields(line)
	}
	var fields [][]byte
	for _, f := range answer[1:] {
		b, err := base64.StdEncoding.DecodeString(f)
		require.NoError(o.t, err)
		fields = append(fields, b)
	}
	if len(fields) == 2 && string(fields[0]) == "error" {
		o.t.Logf("%s", fields[1])
		return nil
	}
	return fields
}

// eval returns the value of an expression, and how it prints with and without
// text.
func (o *oracle) eval(expr string) (t Term, text, raw string) {
	o.t.Helper()
	return o.printed("evaluate "+expr, o.ask("eval", []byte(expr)))
}

// print returns t with its maps in the release's order, and how the release
// prints it with and without text.
func (o *oracle) print(t Term) (same Term, text, raw string) {
	o.t.Helper()
	b, err := Encode(t)
	require.NoError(o.t, err)
	return o.printed("print "+Format(t, PrintOptions{}), o.ask("print", b))
}

func (o *oracle) printed(what string, f [][]byte) (t Term, text, raw string) {
	o.t.Helper()
	if len(f) != 3 {
		o.t.Fatalf("cannot %s", what)
	}
	t, err := Decode(f[0], Limits{})
	require.NoError(o.t, err)
	return t, string(f[1]), string(f[2])
}

// like compares what the release prints with what we print.
func (o *oracle) like(opt PrintOptions, t Term, text, raw string) bool {
	o.t.Helper()
	ok := true
	for _, want := range []string{text, raw} {
		if got := Format(t, opt); got != want {
			o.t.Errorf("got  %s\nwant %s", got, want)
			ok = false
		}
		opt.NoText = true
	}
	return ok
}

// read returns the value of a text that Format wrote.
func (o *oracle) read(text string) (Term, bool) {
	o.t.Helper()
	f := o.ask("read", []byte(text))
	if f == nil {
		return nil, false
	}
	t, err := Decode(f[0], Limits{})
	require.NoError(o.t, err)
	return t, true
}
