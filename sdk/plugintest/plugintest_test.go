package plugintest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest/badplugin"
	"github.com/stretchr/testify/require"
)

// TestMain makes this binary a plugin when it is started under the name of
// one; see package badplugin.
func TestMain(m *testing.M) {
	if badplugin.Main(os.Args[0]) {
		return
	}
	switch name := filepath.Base(os.Args[0]); name {
	case "discovery-good":
		sdk.Serve(new(good))
	case "placement-good":
		sdk.Serve(&badplugin.Placement{Name: name})
	case "sandbox-good":
		sdk.Serve(&badplugin.Sandbox{Name: name})
	case "sandbox-moving":
		sdk.Serve(badplugin.Moving(&badplugin.Sandbox{Name: name}))
	case "sandbox-changing":
		sdk.Serve(badplugin.Changing(&badplugin.Sandbox{Name: name}))
	default:
		os.Exit(m.Run())
	}
}

// good is a discovery strategy without a fault.
type good struct {
	Fail bool `json:"fail"`
}

func (g *good) Describe() sdk.Info {
	return sdk.Info{Name: "discovery-good", Version: "0.0.1", Config: g}
}

func (g *good) Watch(ctx context.Context, emit func(sdk.Answer) error) error {
	return sdk.Poll(ctx, 10*time.Millisecond, time.Second, emit, func(context.Context) ([]sdk.Node, error) {
		if g.Fail {
			return nil, sdk.WithHint(errors.New("ask nobody: connection refused"), "is nobody there?")
		}
		return []sdk.Node{{Name: "shop@one"}, {Name: "shop@two"}}, nil
	})
}

// plugin is this binary under another name.
func pluginFile(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Symlink(self, path))
	return path
}

func subject(t *testing.T, name string) Plugin {
	p := Plugin{Path: pluginFile(t, name), Spec: &sdk.SandboxSpec{Config: []byte("{}")}, FailSpec: &sdk.SandboxSpec{Config: []byte(`{"fail": true}`)},
		OverLimit: []sdk.SandboxSpec{{Config: []byte(`{"over": true}`)}}}
	if strings.HasPrefix(name, "discovery-") {
		p.FailConfig = `{"fail": true}`
	}
	return p
}

func TestGoodPluginsPass(t *testing.T) {
	for _, name := range []string{"discovery-good", "placement-good", "sandbox-good", "sandbox-moving", "sandbox-changing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := subject(t, name)
			p.Spec.Bundle = filepath.Join(t.TempDir(), "bundle")
			require.NoError(t, os.WriteFile(p.Spec.Bundle, []byte("good"), 0o600))
			Run(t, p)
		})
	}
}

// found says which checks must fail for each defect, at least.
var found = map[string][]string{
	"discovery-bad-silent":   {"base/start"},
	"discovery-bad-exit":     {"base/start"},
	"discovery-bad-chatter":  {"base/start"},
	"discovery-bad-version":  {"base/start"},
	"discovery-bad-name":     {"base/describe"},
	"discovery-bad-kind":     {"base/describe"},
	"discovery-bad-schema":   {"base/describe"},
	"discovery-bad-deafmute": {"base/describe"},
	"discovery-bad-lax":      {"base/configure-once", "base/configure-first", "base/unknown-key", "base/bad-json"},
	"discovery-bad-eager":    {"base/configure-first"},
	"discovery-bad-huge":     {"base/message-size"},
	"discovery-bad-panic":    {"base/bad-json"},
	"discovery-bad-crash":    {"base/concurrency", "base/flood"},
	"discovery-bad-hang":     {"discovery/first-answer", "discovery/full-lists", "discovery/failure"},
	"discovery-bad-garbage":  {"discovery/first-answer"},
	"discovery-bad-nothing":  {"discovery/first-answer"},
	"discovery-bad-oversize": {"discovery/first-answer"},
	"discovery-bad-flood":    {"discovery/stream"},
	"discovery-bad-ends":     {"discovery/stream"},
	"discovery-bad-diff":     {"discovery/full-lists"},
	"discovery-bad-empty":    {"discovery/failure"},
	"discovery-bad-deaf":     {"discovery/cancel"},
	"discovery-bad-orphan":   {"base/host-killed"},
	"discovery-bad-sigint":   {"base/interrupt"},
	"discovery-bad-forgets":  {"discovery/self"},
	"discovery-bad-leaky":    {"discovery/self"},
	"discovery-bad-die":      {"discovery/stream"},
	"placement-bad-random":   {"placement/deterministic"},
	"placement-bad-order":    {"placement/deterministic"},
	"placement-bad-turns":    {"placement/deterministic"},
	"placement-bad-modulo":   {"placement/movement"},
	"placement-bad-restless": {"placement/movement"},
	"placement-bad-dead":     {"placement/choice"},
	"placement-bad-draining": {"placement/choice"},
	"placement-bad-labels":   {"placement/choice"},
	"placement-bad-far":      {"placement/choice"},
	"placement-bad-beside":   {"placement/choice"},
	"placement-bad-always":   {"placement/refusal"},
	"placement-bad-nothing":  {"placement/refusal"},
	"placement-bad-wordless": {"placement/refusal"},
	"placement-bad-stops":    {"placement/refusal"},
	"placement-bad-mute":     {"placement/scores"},
	"placement-bad-worse":    {"placement/scores"},
	"placement-bad-slow":     {"placement/bounded"},
	"sandbox-bad-forget":     {"sandbox/recover", "sandbox/takeover"},
	"sandbox-bad-leak":       {"sandbox/lifecycle"},
	"sandbox-bad-twice":      {"sandbox/lifecycle"},
	"sandbox-bad-amnesia":    {"sandbox/unknown"},
	"sandbox-bad-wait":       {"sandbox/wait"},
	"sandbox-bad-logs":       {"sandbox/logs"},
	"sandbox-bad-snapshot":   {"sandbox/snapshot"},
	"sandbox-bad-reload":     {"sandbox/reload"},
	"sandbox-bad-operate":    {"sandbox/operate"},
	"sandbox-bad-stop":       {"sandbox/lifecycle"},
	"sandbox-bad-litter":     {"sandbox/clean"},
	"sandbox-bad-immortal":   {"sandbox/orphan"},
	"sandbox-bad-unnoticed":  {"sandbox/killed"},
	"sandbox-bad-speechless": {"sandbox/limits"},
	"sandbox-bad-halfborn":   {"sandbox/create-fails"},
}

func TestDefectsAreFound(t *testing.T) {
	for name, what := range badplugin.Defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, found[name], "no check is said to find a plugin that %s", what)
			p := subject(t, name)
			p.StartTimeout, p.Timeout, p.FirstAnswer = 5*time.Second, 5*time.Second, time.Second
			switch name {
			case "discovery-bad-silent", "discovery-bad-deafmute", "discovery-bad-hang":
				p.StartTimeout, p.Timeout = time.Second, time.Second // these use them up
			}
			p.Only = found[name]
			results := Check(t.Context(), p)
			var failed []string
			for _, r := range Failed(results) {
				failed = append(failed, r.Check)
				t.Logf("%s: %v", r.Check, r.Err)
			}
			for _, want := range found[name] {
				require.True(t, slices.Contains(failed, want), "%s is not found by %s, only by %v", what, want, failed)
			}
		})
	}
}

func TestChecksThatLackSomethingAreSkipped(t *testing.T) {
	p := subject(t, "sandbox-good")
	p.Spec, p.FailSpec, p.OverLimit = nil, nil, nil
	for _, r := range Check(t.Context(), p) {
		require.NoError(t, r.Err, r.Check)
		require.Equal(t, strings.HasPrefix(r.Check, "sandbox/") && r.Check != "sandbox/unknown", r.Skipped != "", r.Check)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range Check(ctx, subject(t, "discovery-good")) {
		require.NotEmpty(t, r.Skipped, r.Check)
	}
}

func TestKindIsChecked(t *testing.T) {
	p := subject(t, "discovery-good")
	p.Kind = sdk.KindPlacement
	failed := Failed(Check(t.Context(), p))
	require.Len(t, failed, 1)
	require.Equal(t, "base/describe", failed[0].Check)
}

func TestDial(t *testing.T) {
	client, stop, err := Dial(t.Context(), subject(t, "placement-good"))
	require.NoError(t, err)
	d, err := client.Placement().Choose(t.Context(), sample(0, 3))
	require.NoError(t, err)
	require.NotEmpty(t, d.Member)
	stop()
	require.Error(t, client.Ping(t.Context()))

	p := subject(t, "placement-good")
	p.Config = `{"oops": 1}`
	_, _, err = Dial(t.Context(), p)
	require.ErrorContains(t, err, "oops")
	_, _, err = Dial(t.Context(), Plugin{Path: filepath.Join(t.TempDir(), "placement-none")})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestMissingFile(t *testing.T) {
	failed := Failed(Check(t.Context(), Plugin{Path: filepath.Join(t.TempDir(), "discovery-none")}))
	require.Len(t, failed, 1)
	require.ErrorIs(t, failed[0].Err, os.ErrNotExist)
}

func TestMeasure(t *testing.T) {
	for _, name := range []string{"discovery-good", "placement-good"} {
		p := subject(t, name)
		p.Idle = time.Millisecond
		f, err := Measure(t.Context(), p)
		require.NoError(t, err)
		require.Positive(t, f.Start)
		require.GreaterOrEqual(t, f.Ready, f.Start)
		require.Equal(t, name == "discovery-good", f.Answer > 0)
		if runtime.GOOS == "linux" {
			require.Greater(t, f.Proportional, uint64(1<<20))
			require.Positive(t, f.Private)
		}
	}
	_, err := Measure(t.Context(), subject(t, "discovery-bad-hang"))
	require.ErrorContains(t, err, "no answer within 2s")
	_, err = Measure(t.Context(), subject(t, "discovery-bad-exit"))
	require.ErrorContains(t, err, "cannot go on")
	proportional, _ := memory(-1)
	require.Zero(t, proportional)
}

func TestChecksAreDescribed(t *testing.T) {
	for _, c := range Checks() {
		require.Regexp(t, `^(base|discovery|placement|sandbox)/[a-z-]+$`, c.Check)
		require.Regexp(t, `\.$`, c.About)
	}
	require.Equal(t, "why not", skipped("why not").Error())
}

func TestConfigsOfTheSuiteAreChecked(t *testing.T) {
	p := subject(t, "discovery-good")
	p.Only = []string{"discovery/failure"}
	for config, want := range map[string]string{
		`{}`:          "is FailConfig right?",
		`{"oops": 1}`: "oops: unknown key",
	} {
		p.FailConfig = config
		failed := Failed(Check(t.Context(), p))
		require.Len(t, failed, 1)
		require.ErrorContains(t, failed[0].Err, want)
	}
	p.Config = `{"oops": 1}`
	failed := Failed(Check(t.Context(), p))
	require.Len(t, failed, 1)
	require.Equal(t, "base/configure", failed[0].Check)
}

// Without the means for a check it is left out, and Run says so.
func TestRunSkips(t *testing.T) {
	p := subject(t, "sandbox-good")
	p.Spec, p.Only = nil, []string{"sandbox/wait", "base/host-killed"}
	t.Setenv("PATH", "")
	Run(t, p)
}

func TestDeadlineIsTheEarlier(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	end, _ := ctx.Deadline()
	require.Equal(t, end, deadline(ctx, time.Hour))
	require.True(t, deadline(ctx, time.Second).Before(end))
	cancel()
	require.ErrorIs(t, pause(ctx, time.Hour), context.Canceled)
}
