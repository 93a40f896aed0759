package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	otpInstalled = "27" // the release that is installed where there is none
	otpOldest    = 25   // the oldest that debughost attaches to
)

// elixir is an Elixir that runs here, with the EPMD of its Erlang.
type elixir struct {
	bin  string // directory of elixir and mix
	epmd string
	otp  string // its OTP release
}

// findElixir takes the release that tools/otp.sh installed, else the Elixir of
// this machine, else it runs tools/otp.sh.
func findElixir(ctx context.Context, env []string) (elixir, error) {
	dir := os.Getenv("DEBUGHOST_OTP")
	if dir == "" {
		dir = ".otp"
	}
	dir, err := filepath.Abs(filepath.Join(dir, otpInstalled, "bin"))
	if err != nil {
		return elixir{}, err
	}
	if e, err := probe(ctx, dir, env); err == nil {
		return e, nil
	}
	if path, err := exec.LookPath("elixir"); err == nil {
		if e, err := probe(ctx, filepath.Dir(path), env); err == nil {
			return e, nil
		}
	}
	install := exec.CommandContext(ctx, filepath.Join("tools", "otp.sh"), otpInstalled)
	install.Stdout, install.Stderr = os.Stdout, os.Stderr
	if err := install.Run(); err != nil {
		return elixir{}, fmt.Errorf("install OTP %s: %w", otpInstalled, err)
	}
	return probe(ctx, dir, env)
}

// probe asks the Elixir in bin for what there is to know about it.
func probe(ctx context.Context, bin string, env []string) (elixir, error) {
	const ask = `IO.puts(System.otp_release()); IO.puts([:code.root_dir(), "/erts-", :erlang.system_info(:version), "/bin/epmd"])`
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "elixir"), "-e", ask)
	cmd.Env = env
	out, err := cmd.Output()
	if err != nil {
		return elixir{}, fmt.Errorf("run elixir: %w", err)
	}
	otp, epmd, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if n, err := strconv.Atoi(otp); err != nil || n < otpOldest {
		return elixir{}, fmt.Errorf("elixir in %s runs on OTP %q, and OTP %d is needed", bin, otp, otpOldest)
	}
	if _, err := os.Stat(epmd); err != nil {
		return elixir{}, fmt.Errorf("find epmd: %w", err)
	}
	return elixir{bin: bin, epmd: epmd, otp: otp}, nil
}

// compile builds one of the demo's applications into dir.
func (e elixir) compile(ctx context.Context, app, dir string, env []string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(e.bin, "mix"), "compile")
	cmd.Dir = filepath.Join("test", "demo", app)
	cmd.Env = append(env[:len(env):len(env)], "MIX_ENV=prod", "MIX_BUILD_PATH="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", app, err, out)
	}
	return nil
}

// nodeArgs are the arguments of elixir that run app as a node of its name.
func nodeArgs(app, dir string) []string {
	lib := filepath.Join(dir, "lib", app)
	return []string{
		"--sname", app, "--no-halt",
		"-pa", filepath.Join(lib, "ebin"), "-pa", filepath.Join(lib, "consolidated"),
		"--erl", "-start_epmd false",
		"-e", fmt.Sprintf("{:ok, _} = Application.ensure_all_started(:%s, :permanent)", app),
	}
}
