package etf

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// run runs a program of this OTP release and returns what it printed.
func run(t testing.TB, otp, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(otpProgram(t, otp, program), args...).CombinedOutput()
	require.NoError(t, err, "%s of OTP %s: %s", program, otp, out)
	return string(out)
}

// otpProgram finds a program of an OTP release that tests need.
func otpProgram(t testing.TB, otp, program string) string {
	t.Helper()
	dir := os.Getenv("DEBUGHOST_OTP")
	if dir == "" {
		dir = filepath.Join("..", "..", ".otp")
	}
	path, err := filepath.Abs(filepath.Join(dir, otp, "bin", program))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("OTP %s is needed (run `make otp`, or set DEBUGHOST_OTP): %v", otp, err)
	}
	return path
}
