// Package plugintest checks that a plugin keeps its contract with debughost.
// It starts the plugin's binary as debughost does, talks to it over gRPC, and
// treats it badly: wrong configs, many calls at once, a host that is killed.
// In the tests of a plugin:
//
//	func TestConformance(t *testing.T) {
//		plugintest.Run(t, plugintest.Plugin{
//			Path:   build(t), // a file named as the plugin is
//			Kind:   sdk.KindDiscovery,
//			Config: `{"nodes": ["shop@db1"]}`,
//		})
//	}
//
// Check does the same without a testing.T. The suite knows the contract, not
// the plugin: whether the right nodes are found is for the plugin's own tests.
package plugintest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Plugin is what to check, and what the checks need to know about it.
type Plugin struct {
	// Path of the binary. Its base name must be the plugin's name.
	Path string
	// Kind that it must be of; empty takes what it says.
	Kind sdk.Kind
	// Config is a JSON object that the plugin accepts and works with. Empty
	// means {}.
	Config string
	// FailConfig is a config that the plugin accepts and whose lookups fail: a
	// server that is not there. Empty leaves out the check that needs it. For
	// discovery.
	FailConfig string
	// Self is what a discovery plugin is told of its host; nil tells it only
	// that it is to find BEAM nodes. Set it to check a plugin that finds
	// members.
	Self *sdk.Self
	// Spec is what a sandbox plugin can run until it is stopped, printing at
	// least one line. The suite sets the id. Without it sandboxes are not
	// checked.
	Spec *sdk.SandboxSpec
	// FailSpec is what a sandbox plugin cannot create: a command that is not
	// there. Empty leaves out the check that needs it.
	FailSpec *sdk.SandboxSpec
	// OverLimit are sandboxes that go over one of their limits by themselves.
	OverLimit []sdk.SandboxSpec
	// Only makes the suite leave out all checks but those whose names begin
	// with one of these, and those that the others need. Empty is all.
	Only []string
	// Env is added to the environment that debughost lets through.
	Env []string
	// Timeout is for one answer of the plugin; default 5 s.
	Timeout time.Duration
	// StartTimeout is for its start; default 10 s.
	StartTimeout time.Duration
	// FirstAnswer is for the first list of a discovery plugin; default 2 s.
	FirstAnswer time.Duration
	// Idle is how long Measure leaves the process alone before it looks at its
	// memory; 0 is not to look.
	Idle time.Duration

	stateDir string // for one check
	hosted   bool   // the process is to be started by a stand-in for the host
}

// Result is what one check found.
type Result struct {
	Check   string // "base/unknown-key"
	About   string // what the contract asks for, in one sentence
	Err     error  // nil when the plugin keeps to it
	Skipped string // why the check was not made; empty when it was
	Took    time.Duration
}

// Failed returns the results that hold an error.
func Failed(results []Result) []Result {
	var failed []Result
	for _, r := range results {
		if r.Err != nil {
			failed = append(failed, r)
		}
	}
	return failed
}

// Check makes all checks for the plugin's kind and returns a result each. Most
// start a process of their own. When ctx ends, what is left is skipped.
func Check(ctx context.Context, p Plugin) []Result {
	p = p.withDefaults()
	var results []Result
	stop := ""
	for _, c := range checks {
		if c.kind != "" && c.kind != p.Kind && (p.Kind != "" || stop == "") {
			continue
		}
		if !c.gate && !p.wants(c.name) {
			continue
		}
		r := Result{Check: c.name, About: c.about, Skipped: stop}
		if ctx.Err() != nil {
			r.Skipped = "the time is up"
		}
		if r.Skipped == "" {
			began := time.Now()
			r.Err = withStateDir(ctx, p, c.run)
			r.Took = time.Since(began)
			var skip skipped
			if errors.As(r.Err, &skip) {
				r.Err, r.Skipped = nil, string(skip)
			}
		}
		results = append(results, r)
		if c.gate && r.Err != nil {
			stop = "the plugin fails " + c.name
		}
		if p.Kind == "" && c.name == "base/describe" && r.Err == nil {
			p.Kind = kindOf(ctx, p)
		}
	}
	return results
}

// withStateDir makes a check with a state directory of its own.
func withStateDir(ctx context.Context, p Plugin, run func(context.Context, Plugin) error) error {
	dir, err := os.MkdirTemp("", "plugintest-state")
	if err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	defer os.RemoveAll(dir)
	p.stateDir = dir
	return run(ctx, p)
}

// Checks lists what the suite asks for, without asking: results that have only
// Check and About.
func Checks() []Result {
	var all []Result
	for _, c := range checks {
		all = append(all, Result{Check: c.name, About: c.about})
	}
	return all
}

// Run makes all checks, each as a subtest.
func Run(t *testing.T, p Plugin) {
	t.Helper()
	for _, r := range Check(t.Context(), p) {
		t.Run(r.Check, func(t *testing.T) {
			switch {
			case r.Err != nil:
				t.Errorf("%s\nthe contract: %s", r.Err, r.About)
			case r.Skipped != "":
				t.Skip(r.Skipped)
			}
		})
	}
}

func (p Plugin) withDefaults() Plugin {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&p.Timeout, 5*time.Second)
	set(&p.StartTimeout, 10*time.Second)
	set(&p.FirstAnswer, 2*time.Second)
	if strings.TrimSpace(p.Config) == "" {
		p.Config = "{}"
	}
	return p
}

func (p Plugin) wants(name string) bool {
	return len(p.Only) == 0 || slices.ContainsFunc(p.Only, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// check is one demand of the contract.
type check struct {
	name  string
	kind  sdk.Kind // empty is for all kinds
	about string
	gate  bool // without it the others make no sense
	run   func(context.Context, Plugin) error
}

var checks = slices.Concat(baseChecks, discoveryChecks, placementChecks, sandboxChecks)

// skipped is the error of a check that lacks what it needs.
type skipped string

func (s skipped) Error() string { return string(s) }

// within runs f with a deadline and says so when that was the cause.
func within(ctx context.Context, d time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := f(ctx)
	// The plugin may notice the deadline before our own clock does.
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: no answer within %v", what, d)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
