package erltest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// EnvOTP names the environment variable with the directory that holds the OTP
// releases: one directory a release, named by its number, each with bin/erl,
// bin/epmd and bin/elixir. Without it, .otp at the root of the repository.
const EnvOTP = "DEBUGHOST_OTP"

// ErrNoOTP is returned when no OTP release, or not the one asked for, is found.
var ErrNoOTP = errors.New("no such OTP release here (run `make otp`, or set " + EnvOTP + ")")

// Dir returns the directory in which releases are looked for.
func Dir() string {
	if d := os.Getenv(EnvOTP); d != "" {
		return d
	}
	return filepath.Join(repoRoot(), ".otp")
}

// repoRoot walks up from the working directory, which `go test` sets to the
// package's own, to the directory of go.mod.
func repoRoot() string {
	wd, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := wd; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			return wd
		}
	}
}

// Find lists the OTP releases that are installed, oldest first. It is empty
// when there are none.
func Find() []string {
	paths, _ := filepath.Glob(filepath.Join(Dir(), "*", "bin", "erl"))
	var nums []int
	for _, p := range paths {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p)))); err == nil {
			nums = append(nums, n)
		}
	}
	sort.Ints(nums)
	out := make([]string, len(nums))
	for i, n := range nums {
		out[i] = strconv.Itoa(n)
	}
	return out
}

// Releases lists the OTP releases that every test over real nodes has to
// cover. They are fixed, not those found, so that a missing one fails its test
// in Start and is not passed over in silence.
func Releases() []string { return []string{"25", "27", "29"} }

// Each runs f as a subtest for every release of Releases.
func Each(t *testing.T, f func(t *testing.T, otp string)) {
	t.Helper()
	for _, r := range Releases() {
		t.Run("otp"+r, func(t *testing.T) { f(t, r) })
	}
}

// Newest returns the newest release that is installed, "" without any.
func Newest() string {
	if f := Find(); len(f) > 0 {
		return f[len(f)-1]
	}
	return ""
}

// tool returns the path of an executable of a release; an empty release means
// the newest one.
func tool(otp, name string) (string, error) {
	if otp == "" {
		otp = Newest()
	}
	p := filepath.Join(Dir(), otp, "bin", name)
	if _, err := os.Stat(p); otp == "" || err != nil {
		return "", fmt.Errorf("find %s of OTP %q in %s: %w", name, otp, Dir(), ErrNoOTP)
	}
	return p, nil
}

// elixirFlags returns the emulator flags that put a release's Elixir on the
// code path. The elixir script prints its command line in a dry run, which
// costs milliseconds where starting Elixir's own command line costs a second.
func elixirFlags(otp string) ([]string, error) {
	script, err := tool(otp, "elixir")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(script, "-e", "ok")
	cmd.Env = append(os.Environ(), "ELIXIR_CLI_DRY_RUN=1")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its command line: %w", script, err)
	}
	const ebin = "/elixir/ebin"
	for field := range strings.FieldsSeq(string(out)) {
		root, ok := strings.CutSuffix(field, ebin)
		if !ok {
			continue
		}
		flags := []string{"-elixir_root", root, "-pa"}
		for _, app := range []string{"elixir", "logger", "eex", "ex_unit", "mix", "iex"} {
			flags = append(flags, filepath.Join(root, app, "ebin"))
		}
		return flags, nil
	}
	return nil, fmt.Errorf("ask %s for its command line: no %s in %q", script, ebin, out)
}
