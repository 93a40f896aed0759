package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/cmd/debughost/internal/bundle"
	"github.com/debughost/debughost/host/supervisor"
)

// workshop is a playground whose sandbox shop has had two versions, of the directory
// that is returned.
func workshop(t *testing.T) (*member, *nursery, string) {
	m, n := playground(t)
	n.becomes = supervisor.Running
	dir := t.TempDir()
	put := func(text string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.ex"), []byte(text), 0o600))
		var out bytes.Buffer
		require.NoError(t, bundle.Pack(&out, dir, "", nil))
		id, _, err := n.PutBlob(&out, "")
		require.NoError(t, err)
		return id
	}
	shop := &n.children[slices.IndexFunc(n.children, func(c supervisor.Child) bool { return c.Spec.ID == "shop" })].Spec
	first, second := put("one\ntwo\n"), put("one\n2\x1b[2J\n")
	shop.Bundle = second
	shop.Versions = []supervisor.Version{{Bundle: first, At: noon, Note: "/home/me/shop"}, {Bundle: second, At: noon.Add(time.Minute), Note: dir}}
	n.answers = map[string]string{
		"reload": `{"loaded":[{"module":"Elixir.Shop","was":"d4702eb3729c76318dc4df8dea6e19a7","is":"136f85ae5564090472a6f7c2f0ebd3bd"}],"added":["new"],"removed":["old"],
			"processes":[{"pid":"<0.1.0>","module":"Shop","code_change":true}],"took_ms":246}`,
		"versions": `{"modules":[{"module":"Shop","version":"136f85ae5564090472a6f7c2f0ebd3bd","since":"2026-01-31T12:00:00Z","was":[{"version":"d4702eb3729c76318dc4df8dea6e19a7","since":"2026-01-31T11:00:00Z"}]}]}`,
		"inject":   `{"id":3,"uncovered":["stripped"]}`,
		"faults":   `{"faults":[{"id":3,"fault":"delay","to":"Shop.Stock","delay_ms":200,"hits":7}]}`,
		"clear":    `{}`,
		"deliver":  `{"delivered":1,"skipped":[{"message":"%{","reason":"what is that"}],"replaced":["<0.9.0>"]}`,
	}
	return m, n, dir
}

func TestSandboxVersions(t *testing.T) {
	m, n, dir := workshop(t)
	first, second := n.children[len(n.children)-2].Spec.Versions[0].Bundle, n.children[len(n.children)-2].Spec.Bundle
	show := func(args ...string) result {
		r := m.do(append([]string{"sandbox"}, args...)...)
		r.out = strings.ReplaceAll(r.out, dir, "DIR")
		return r
	}
	golden(t, "sandbox-versions", show("versions", "shop"))
	golden(t, "sandbox-versions-json", show("versions", "shop", "-o", "json"))
	golden(t, "sandbox-versions-modules", show("versions", "shop", "--modules"))
	golden(t, "sandbox-diff", show("diff", "shop"))
	golden(t, "sandbox-diff-json", show("diff", "shop", second[:6], first[:6], "-o", "json"))
	golden(t, "sandbox-rollback", show("rollback", "shop"))
	assert.Equal(t, "reload "+first+" /home/me/shop shop", m.last())
	golden(t, "sandbox-rollback-json", show("rollback", "shop", second[:6], "-o", "json"))

	// A reload takes the source from where it was last.
	r := m.do("sandbox", "reload", "shop")
	require.Equal(t, exitDone, r.code, r.err)
	assert.Equal(t, "reload "+second+" "+dir+" shop", m.last(), "the same files are the same version")

	for args, want := range map[string]string{
		"diff shop ffff":                    `has no version "ffff"`,
		"rollback shop nope":                "has no version",
		"reload bad":                        "it has no versions",
		"diff bad":                          "it has no versions",
		"reload shop --from " + dir + "/no": "no such file",
		"reload web":                        "is no sandbox",
	} {
		r := m.do(append([]string{"sandbox"}, strings.Fields(args)...)...)
		assert.NotEqual(t, exitDone, r.code, args)
		assert.Contains(t, r.err, want, args)
	}
}

func TestSandboxFaults(t *testing.T) {
	m, _, dir := workshop(t)
	golden(t, "sandbox-inject", m.do("sandbox", "inject", "shop", "delay", "any", "Shop.Stock", "--by", "200ms", "--for", "1m"))
	assert.Equal(t, `operate inject {"fault":"delay","to":"Shop.Stock","for_ms":60000,"delay_ms":200} shop`, m.last())
	golden(t, "sandbox-inject-json", m.do("sandbox", "inject", "shop", "kill", "Shop.Stock", "-o", "json"))
	golden(t, "sandbox-inject-list", m.do("sandbox", "inject", "shop", "--list"))
	golden(t, "sandbox-inject-list-json", m.do("sandbox", "inject", "shop", "--list", "-o", "json"))
	assert.Equal(t, result{exitDone, "all faults are over in shop\n", ""}, m.do("sandbox", "inject", "shop", "--clear", "all"))
	assert.Equal(t, `operate clear {"id":0} shop`, m.last())
	for args, want := range map[string]string{
		"shop":                    "FAULT is missing",
		"shop burn x":             "there are kill, suspend, drop, delay, fill, limit",
		"shop drop a":             "TO is missing",
		"shop drop any any":       "only one may be any",
		"shop delay a b":          "delay wants --by",
		"shop fill a":             "fill wants --count",
		"shop kill a --by 1s":     "--by is not of the fault kill",
		"shop kill a --every 1us": "less than a millisecond",
		"shop --list --clear all": "either",
		"shop kill a --list":      "there is no FAULT",
		"shop --clear x":          "neither all nor the id",
		"shop kill a --for -1s":   "less than a millisecond",
		"shop kill a b":           "one argument too many",
	} {
		r := m.do(append([]string{"sandbox", "inject"}, strings.Fields(args)...)...)
		assert.Equal(t, exitUsage, r.code, args)
		assert.Contains(t, r.err, want, args)
	}

	file := filepath.Join(dir, "messages.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"process":{"messages":[{"value":"{a,<0.9.0>}"},{"value":"cut","truncated":true},{"value":"%{"}]}}`), 0o600))
	golden(t, "sandbox-replay", m.do("sandbox", "replay", "shop", file, "--to", "Shop.Stock", "--map", "<0.1.0>=Shop"))
	assert.Equal(t, `operate deliver {"process":"Shop.Stock","messages":["{a,\u003c0.9.0\u003e}","%{"],"map":{"\u003c0.1.0\u003e":"Shop"}} shop`, m.last())
	golden(t, "sandbox-replay-json", m.do("sandbox", "replay", "shop", file, "--to", "Shop.Stock", "-o", "json"))
	for text, want := range map[string]string{"{}": "there is no process in it", "no": "these are no messages"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		r := m.do("sandbox", "replay", "shop", file, "--to", "Shop.Stock")
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.err, want)
	}
	assert.Equal(t, exitUsage, m.do("sandbox", "replay", "shop", file).code)
}

func TestSandboxSnapshotFile(t *testing.T) {
	m, n, dir := workshop(t)
	shop := &n.children[len(n.children)-2].Spec
	shop.Config = []byte(`{"source":"shop.ex","env":{"KEY":"hunter2"}}`)
	file := filepath.Join(dir, "a.sandbox")
	r := m.do("sandbox", "snapshot", "shop", "-f", file)
	require.Equal(t, exitDone, r.code, r.err)
	assert.Contains(t, r.out, "version "+shop.Bundle[:12]+", states of 5 B")
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode())
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.NotContains(t, string(data), "hunter2")
	r = m.do("sandbox", "snapshot", "shop", "-f", file)
	assert.Contains(t, r.err, "it is there already")

	s, err := readSandboxSnapshot(bytes.NewReader(data), "x")
	require.NoError(t, err)
	assert.Equal(t, "state", string(s.states))
	assert.Equal(t, "shop", s.header.Name)
	r = m.do("sandbox", "restore", "shop", file)
	assert.Contains(t, r.err, "there is a child of that name")
	// The fake starts nothing: what it is asked for counts.
	_ = m.do("sandbox", "restore", "shop2", file, "--wait", "1s", "--on", "db2")
	var spec supervisor.Spec
	for _, q := range m.asked {
		if s, ok := q.(supervisor.Spec); ok {
			spec = s
		}
	}
	assert.Equal(t, "shop2", spec.ID)
	assert.Equal(t, shop.Bundle, spec.Bundle)
	assert.Equal(t, "state", string(n.blobs[spec.Seed]))
	assert.JSONEq(t, `{"source":"shop.ex"}`, string(spec.Config))
	assert.Equal(t, map[string]string{"member": "db2"}, spec.Constraints)
	assert.Equal(t, shop.Limits, spec.Limits)

	for i := range data {
		if i%97 == 0 { // whatever is cut is an error, and no panic
			if _, err := readSandboxSnapshot(bytes.NewReader(data[:i]), "x"); i < len(data)-2048 {
				assert.Error(t, err)
			}
		}
	}
}

func FuzzReadSandboxSnapshot(f *testing.F) {
	var out bytes.Buffer
	_ = (&sandboxSnapshot{header: sandboxHeader{Format: sandboxFormat}}).encode(&out)
	f.Add(out.Bytes())
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = readSandboxSnapshot(bytes.NewReader(data), "x") })
}

func TestReplaceBeam(t *testing.T) {
	files := []bundle.File{{Name: "lib/a/ebin/x.beam"}, {Name: "lib/b/ebin/y.beam"}, {Name: "apps"}}
	files, err := replaceBeam(files, "y.beam", []byte("new"), "a")
	require.NoError(t, err)
	assert.Equal(t, "new", string(files[1].Data))
	files, err = replaceBeam(files, "z.beam", []byte("z"), "b")
	require.NoError(t, err)
	assert.Equal(t, bundle.File{Name: "lib/b/ebin/z.beam", Data: []byte("z")}, files[3])
	_, err = replaceBeam([]bundle.File{{Name: "mix.exs"}}, "z.beam", nil, "b")
	assert.ErrorContains(t, err, "no compiled modules")
}
