package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

const (
	startLimit = 60 * time.Second // for the nodes to start and be attached to
	stopGrace  = 10 * time.Second // for debughost, before it is killed

	debughost = "debughost" // the name of its process and log
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	binary := flag.String("debughost", filepath.Join("bin", "debughost"), "the debughost to show")
	hold := flag.Bool("hold", term.IsTerminal(int(os.Stdin.Fd())) && os.Getenv("CI") == "",
		"keep running until Ctrl-C (default: when there is a terminal)")
	fault := flag.String("fault", faults[0].name, "what is wrong with the shop: "+faultNames())
	flag.Parse()
	f, err := chosen(*fault)
	if err == nil {
		err = run(ctx, *binary, f, *hold)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is the whole demo. What it starts has ended and what it wrote is gone
// when it returns.
func run(ctx context.Context, binary string, f fault, hold bool) (err error) {
	if _, err := os.Stat(filepath.Join("test", "demo", "shop", "mix.exs")); err != nil {
		return errors.New("run this in the root of the repository, with make demo")
	}
	host, err := shortHostname()
	if err != nil {
		return err
	}
	// Not $TMPDIR: the path of a Unix socket must be short.
	dir, err := os.MkdirTemp("/tmp", "debughost-demo-")
	if err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	defer os.RemoveAll(dir)
	port, err := freePort()
	if err != nil {
		return fmt.Errorf("find a port for EPMD: %w", err)
	}
	env, err := newHome(dir, port)
	if err != nil {
		return err
	}
	env = append(env, "DEMO_FAULT="+f.name)

	ps := &procs{dir: dir, env: env}
	defer func() {
		if ctx.Err() != nil {
			fmt.Println("\nStopping all of it.")
			err = nil // whatever the interruption broke
		}
		if stopErr := ps.stop(stopGrace); err == nil {
			err = stopErr
		}
	}()

	fmt.Printf("Building the demo system in %s; the logs will be there, too.\n", dir)
	ex, err := findElixir(ctx, env)
	if err != nil {
		return err
	}
	for _, app := range []string{"shop", "billing"} {
		if err := ex.compile(ctx, app, filepath.Join(dir, app), env); err != nil {
			return err
		}
	}
	fmt.Printf("Starting billing@%s and shop@%s on OTP %s, and debughost.\n", host, host, ex.otp)
	if err := startAll(ps, ex, binary, dir, port); err != nil {
		return err
	}
	addr := filepath.Join(dir, "data", "api.sock")
	c := cli{binary: binary, env: append(env, "DEBUGHOST_ADDR="+addr)}
	if err := show(ctx, c, f, ps.ended, host); err != nil {
		return fmt.Errorf("%w\ndebughost says:\n%s", err, tail(filepath.Join(dir, debughost+".log")))
	}
	tryNext(binary, addr, host, f, hold)
	if !hold {
		return nil
	}
	return wait(ctx, ps)
}

// startAll starts EPMD, the two nodes and debughost.
func startAll(ps *procs, ex elixir, binary, dir, port string) error {
	if err := ps.start("epmd", ex.epmd, "-port", port); err != nil {
		return err
	}
	for _, app := range []string{"billing", "shop"} {
		args := nodeArgs(app, filepath.Join(dir, app))
		if err := ps.start(app, filepath.Join(ex.bin, "elixir"), args...); err != nil {
			return err
		}
	}
	args := []string{"run"}
	if _, err := os.Stat("/etc/debughost/config.toml"); err == nil {
		// This machine has a configuration; the demo is about the default one.
		args = append(args, "--config", "config.toml")
	}
	return ps.start(debughost, binary, args...)
}

// show waits until there is something to see, and shows it.
func show(ctx context.Context, c cli, f fault, alive func() error, host string) error {
	err := eventually(ctx, startLimit, alive, func() error {
		if err := c.attached(ctx, "billing@"+host, "shop@"+host); err != nil {
			return err
		}
		return f.shows(ctx, c)
	})
	if err != nil {
		return err
	}
	if err := c.show(ctx, "targets"); err != nil {
		return err
	}
	if err := c.show(ctx, "ps", "--limit", "10"); err != nil {
		return err
	}
	fmt.Printf("\n%s\n", f.question)
	return c.show(ctx, f.first...)
}

// tryNext prints commands to copy.
func tryNext(binary, addr, host string, f fault, hold bool) {
	if !hold {
		fmt.Print("\nStopping: there is no terminal. In one, `make demo` runs on until Ctrl-C,\nand says what to try next.\n")
		return
	}
	cwd, _ := os.Getwd()
	fmt.Printf(`
The demo runs. Try next, in another terminal:

  cd %s
  export DEBUGHOST_ADDR=%s
`, cwd, addr)
	for _, next := range f.next {
		fmt.Printf("  %s %s\n", binary, strings.ReplaceAll(next, "HOST", host))
	}
	fmt.Printf(`  %s events --follow
  %s --help

%s is about this fault. Others: make demo FAULT=%s
Ctrl-C stops all of it.
`, binary, binary, f.page, faultNames())
}

// wait returns when the user has seen enough, or a process ends by itself.
func wait(ctx context.Context, ps *procs) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := ps.ended(); err != nil {
				return err
			}
		}
	}
}

// newHome makes a home directory with a cookie in dir and returns the
// environment of everything that the demo starts: this one, without what would
// lead to the user's own nodes and settings.
func newHome(dir, port string) ([]string, error) {
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("create home: %w", err)
	}
	if err := os.WriteFile(filepath.Join(home, ".erlang.cookie"), []byte(rand.Text()), 0o400); err != nil {
		return nil, fmt.Errorf("write cookie: %w", err)
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		for _, p := range []string{"DEBUGHOST_", "ERL_", "ELIXIR_", "MIX_", "RELEASE_", "XDG_", "HOME=", "LC_ALL="} {
			if strings.HasPrefix(kv, p) {
				return true
			}
		}
		return false
	})
	return append(env,
		"HOME="+home,
		"LC_ALL=C.UTF-8",
		"ERL_EPMD_PORT="+port,
		"ERL_CRASH_DUMP_SECONDS=0",
		"DEBUGHOST_DATA_DIR="+filepath.Join(dir, "data"),
	), nil
}

// shortHostname is what Erlang puts behind the @ of a short node name.
func shortHostname() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host name: %w", err)
	}
	host, _, _ = strings.Cut(host, ".")
	if _, err := net.LookupHost(host); err != nil {
		return "", fmt.Errorf("resolve this machine's own name, by which Erlang nodes find each other: %w (add %q to /etc/hosts)", err, "127.0.1.1 "+host)
	}
	return host, nil
}

// freePort is a TCP port that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
