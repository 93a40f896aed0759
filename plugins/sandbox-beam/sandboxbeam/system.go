//go:build unix

package sandboxbeam

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

// system is an Erlang, with an Elixir if there is one beside it.
type system struct {
	bin     string   // directory of erl
	release string   // 27
	elixir  string   // its version; empty: there is none
	ebins   []string // of Elixir
	apps    []string // names of all that comes with these
	roots   []string // directories that all of it is in
}

// probeTime bounds a question to an Erlang or an Elixir.
const probeTime = 30 * time.Second

// system finds what a sandbox names.
func (s *Strategy) system(ctx context.Context, name string) (*system, error) {
	bin := s.config.OTP[name]
	switch {
	case bin != "":
	case name != "":
		known := make([]string, 0, len(s.config.OTP))
		for n := range s.config.OTP {
			known = append(known, n)
		}
		slices.Sort(known)
		return nil, sdk.Invalid("otp", fmt.Sprintf("there is no otp.%s in the section of %s (there is: %s)", name, Name, strings.Join(known, ", ")))
	default:
		for _, dir := range filepath.SplitList(s.config.Path) {
			if _, err := exec.LookPath(filepath.Join(dir, "erl")); err == nil && filepath.IsAbs(dir) {
				bin = dir
				break
			}
		}
		if bin == "" {
			return nil, sdk.WithHint(errors.New("there is no erl in PATH"), "install Erlang on this member, or name it in otp of the section of "+Name)
		}
	}
	s.mu.Lock()
	known := s.systems[bin]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	sys, err, _ := s.making.Do(bin, func() (any, error) {
		sys, err := probe(s.ctx, bin)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.systems[bin] = sys
		}
		return sys, err
	})
	if err != nil {
		return nil, err
	}
	return sys.(*system), nil
}

// probe asks a directory's programs what they are.
func probe(ctx context.Context, bin string) (*system, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	sys := &system{bin: bin}
	elixir := filepath.Join(bin, "elixir")
	if _, err := exec.LookPath(elixir); err != nil {
		out, err := ask(ctx, bin, filepath.Join(bin, "erl"), "-noinput", "-eval", `io:put_chars([erlang:system_info(otp_release), "\n", code:lib_dir()]), halt().`)
		if err != nil {
			return nil, err
		}
		release, libs, _ := strings.Cut(strings.TrimSpace(out), "\n")
		sys.release, sys.apps, sys.roots = release, appsOf(libs), rootsOf(bin, libs)
		return sys, nil
	}
	out, err := ask(ctx, bin, elixir, "-e", `IO.puts([System.otp_release(), "\n", System.version(), "\n", :code.lib_dir(:elixir), "\n", :code.lib_dir()])`)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 {
		return nil, fmt.Errorf("ask %s for its version: it says %.200q", elixir, out)
	}
	sys.release, sys.elixir = lines[0], lines[1]
	sys.apps = append(appsOf(lines[3]), appsOf(filepath.Dir(lines[2]))...)
	sys.roots = rootsOf(bin, lines[3], filepath.Dir(lines[2]))
	sys.ebins, err = filepath.Glob(filepath.Join(filepath.Dir(lines[2]), "*", "ebin"))
	return sys, err
}

// appsOf are the applications in a directory of them, kernel-9.2 or kernel.
func appsOf(libs string) []string {
	var apps []string
	entries, _ := os.ReadDir(libs)
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), "-")
		apps = append(apps, name)
	}
	return apps
}

func ask(ctx context.Context, bin string, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = []string{"PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin", "HOME=/", "LANG=C.UTF-8"}
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		err = cmp.Or(context.Cause(ctx), err)
		return "", fmt.Errorf("ask %s for its version: %w: %.500s", command[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
