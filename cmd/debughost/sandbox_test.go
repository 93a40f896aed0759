package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/host/target"
	"github.com/debughost/debughost/sdk"
)

// playground is a member with a sandbox that runs and one that does not.
func playground(t *testing.T) (*member, *nursery) {
	m, n := children(t)
	m.targets = []target.Info{{Node: "shop-1a2b3c4d@127.0.0.1", State: target.Attached, Owner: "m1", Topologies: []string{"sandbox:shop"}}}
	n.children = append(n.children,
		supervisor.Child{
			Spec:  supervisor.Spec{ID: "shop", Strategy: "beam", Config: json.RawMessage(`{}`), Limits: sdk.SandboxLimits{Memory: 512_000_000}},
			State: supervisor.Running, Member: "m1", Epoch: 1, Node: "shop-1a2b3c4d@127.0.0.1", Started: noon.Add(-time.Minute), Memory: 48_000_000,
			Enforced: map[string]string{"memory": "looking", "view": "mount namespace"},
			History:  []supervisor.Entry{{Time: noon.Add(-time.Minute), Member: "m1", Epoch: 1, What: "started"}},
		},
		supervisor.Child{
			Spec: supervisor.Spec{ID: "bad", Strategy: "beam"}, State: supervisor.Backoff, Reason: "it cannot be started: evil\x1b[2J", Member: "m1", Epoch: 1,
			History: []supervisor.Entry{{Time: noon, Member: "m1", Epoch: 1, What: "not_started", Reason: "** (CompileError) lib/a.ex:1: no\nat all"}},
		})
	return m, n
}

func TestSandboxShow(t *testing.T) {
	m, _ := playground(t)
	golden(t, "sandbox-show", m.do("sandbox", "show", "shop"))
	golden(t, "sandbox-show-json", m.do("sandbox", "show", "shop", "-o", "json"))
	golden(t, "sandbox-list", m.do("sandbox", "list"))
	golden(t, "sandbox-list-json", m.do("sandbox", "list", "-o", "json"))
	golden(t, "sandbox-templates", m.do("sandbox", "templates"))
	golden(t, "sandbox-templates-json", m.do("sandbox", "templates", "-o", "json"))
}

// What is no sandbox is left alone, by all commands.
func TestSandboxCommandsKnowSandboxes(t *testing.T) {
	m, _ := playground(t)
	for _, cmd := range []string{"show", "logs", "remsh", "stop", "destroy", "exec"} {
		for name, want := range map[string]string{"web": "child web is no sandbox: its strategy is process", "gone": "there is no sandbox gone"} {
			args := []string{"sandbox", cmd, name}
			if cmd == "exec" {
				args = append(args, "1")
			}
			r := m.do(args...)
			assert.Equal(t, exitFailed, r.code, args)
			assert.Contains(t, r.err, want, args)
			assert.Contains(t, r.err, "hint: ", args)
		}
	}
	r := m.do("sandbox", "exec", "bad", "1")
	assert.Contains(t, r.err, "sandbox bad has no node: it is backoff")
	assert.NotContains(t, r.err, "\x1b")
	r = m.do("sandbox", "logs", "shop", "--tail", "1")
	assert.Equal(t, exitDone, r.code, r.err)
	assert.Equal(t, result{exitDone, "sandbox shop is destroyed\n", ""}, m.do("sandbox", "destroy", "shop"))
	assert.Equal(t, "remove shop", m.last())
}

func TestSandboxCreate(t *testing.T) {
	m, n := playground(t)
	r := m.do("sandbox", "create", "shop", "--memory", "64MB", "--on", "m1", "--start", "A.b()", "--env", "K=hunter2", "--set", "app=inets")
	require.Equal(t, exitDone, r.code, r.err)
	assert.Contains(t, r.out, "shop-1a2b3c4d@127.0.0.1")
	var spec supervisor.Spec
	for _, q := range m.asked {
		if s, ok := q.(supervisor.Spec); ok {
			spec = s
		}
	}
	assert.Equal(t, "beam", spec.Strategy)
	assert.JSONEq(t, `{"apps":["inets"],"start":"A.b()","env":{"K":"hunter2"}}`, string(spec.Config))
	assert.Equal(t, uint64(64_000_000), spec.Limits.Memory)
	assert.Equal(t, map[string]string{"member": "m1"}, spec.Constraints)

	// One that does not start shows why, and nothing of it is left.
	r = m.do("sandbox", "create", "bad")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "create sandbox bad: ** (CompileError) lib/a.ex:1: no\nat all\n")
	assert.Equal(t, "remove bad", m.last())

	// It shows all that was said, where the history has the beginning; and no log of
	// another start.
	lines := []sdk.LogLine{{Stream: "start", Line: []byte("compile x:\tno")}, {Stream: "start", Line: []byte("error 60\x1b[2J")}}
	n.lines = lines
	r = m.do("sandbox", "create", "bad", "-o", "json")
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.out)
	assert.Contains(t, r.err, "create sandbox bad: compile x:\tno\nerror 60\\x1B[2J\nhint: ")
	n.lines = append(lines, sdk.LogLine{Stream: "stdout", Line: []byte("hello")})
	r = m.do("sandbox", "create", "bad")
	assert.Contains(t, r.err, "create sandbox bad: ** (CompileError) lib/a.ex:1: no\nat all\n")

	// What somebody has stopped or destroyed meanwhile is as they wanted.
	n.children = append(n.children, supervisor.Child{Spec: supervisor.Spec{ID: "held", Strategy: "beam"}, State: supervisor.Stopped, Epoch: 1})
	r = m.do("sandbox", "create", "held")
	assert.Equal(t, result{exitFailed, "", "debughost: create sandbox held: somebody has ended it meanwhile: it was stopped\n"}, r)
	assert.NotEqual(t, "remove held", m.last())
	r = m.do("sandbox", "create", "gone")
	assert.Equal(t, result{exitFailed, "", "debughost: create sandbox gone: somebody has ended it meanwhile: it was destroyed\n"}, r)

	for args, want := range map[string]string{
		"create x --from ./nowhere":          "no such file or directory, and no such template: there are clone, empty, mix",
		"create x --from empty --set nope=1": `there is no parameter "nope"; it has app`,
		"create x --from . --set a=1":        "--set is for templates",
		"create x --memory much":             "memory",
		"create":                             "NAME is missing",
	} {
		r := m.do(append([]string{"sandbox"}, strings.Fields(args)...)...)
		assert.Equal(t, exitUsage, r.code, args)
		assert.Contains(t, r.err, want, args)
	}
}

func TestSandboxSource(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("fix.exs", []byte("IO.puts(1)"), 0o644))
	require.NoError(t, os.Mkdir("empty", 0o755))
	a := newApp(nil, io.Discard, io.Discard)
	type source struct {
		config map[string]any
		from   origin
	}
	for name, want := range map[string]source{
		"fix.exs": {map[string]any{"source": "fix.exs"}, origin{path: filepath.Join(dir, "fix.exs")}},
		"./empty": {map[string]any{}, origin{path: filepath.Join(dir, "empty")}},
		"empty":   {map[string]any{"apps": []any{"elixir"}}, origin{apps: []string{}}},
		"mix":     {map[string]any{"env": map[string]any{"MIX_ENV": "dev"}}, origin{path: dir, apps: []string{}}},
		"clone":   {map[string]any{}, origin{node: "shop@db1", apps: []string{"shop", "cart"}}},
	} {
		f := &sandboxFlags{from: name}
		if name == "clone" {
			f.set = []string{"node=shop@db1", "apps=shop, cart"}
		}
		_, config, from, err := f.source(a)
		require.NoError(t, err)
		assert.Equal(t, want, source{config, from}, name)
	}
}

// A template of the user's goes before one that is shipped.
func TestOwnTemplates(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "templates"), 0o755))
	own := filepath.Join(dir, "templates", "empty.toml")
	require.NoError(t, os.WriteFile(own, []byte("about = 'mine'\nrestart = 'temporary'\n[parameters]\nx = { about = 'what' }\n[config]\nargs = ['+P', '{{x}}']\n"), 0o600))
	a := newApp(nil, io.Discard, io.Discard)
	a.dataDir = dir
	f := &sandboxFlags{from: "empty", set: []string{`x="{{x}}`}}
	spec, config, _, err := f.source(a)
	require.NoError(t, err)
	assert.Equal(t, "temporary", spec.GetRestart())
	assert.Equal(t, []any{"+P", `"{{x}}`}, config["args"])
	f.set = nil
	_, _, _, err = f.source(a)
	assert.ErrorContains(t, err, "x is missing (what)")
	require.NoError(t, os.WriteFile(own, []byte("[config\n"), 0o600))
	_, _, _, err = f.source(a)
	assert.ErrorContains(t, err, own)
	f.from, f.set = "mix", nil
	_, _, _, err = f.source(a)
	assert.NoError(t, err, "one that is broken does not break the others")
}
