package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What makes no sense is refused, in few words.
func TestChildrenOfBadInput(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", "")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for _, args := range [][]string{
		{"start", strings.Repeat("x", 129), "--", "sleep"},
		{"start", strings.Repeat("x", 100_000), "--", "sleep"},
		{"start", "a/b", "--", "sleep"},
		{"start", "../../etc", "--", "sleep"},
		{"start", ".", "--", "sleep"},
		{"start", "ä", "--", "sleep"},
		{"start", "-f", file("nul.toml", "id = \"a\\u0000b\"\n[config]\ncommand = ['sleep']\n")},
		{"start", "-f", file("long.toml", "id = '"+strings.Repeat("x", 1<<20)+"'\n")},
		{"start", "-f", file("no.toml", "\x00\x01 this is no toml")},
		{"start", "-f", file("list.toml", "id = 'x'\nconfig = ['sleep']\n")},
		{"start", "-f", "/dev/null"},
		{"start", "-f", dir},
		{"start", "x", "--strategy", "../process", "--", "sleep"},
		{"start", "x", "--placement", "a/b", "--", "sleep"},
		{"start", "x", "--label", strings.Repeat("k", 60_000) + "=v", "--", "sleep"},
		{"start", "x", "--", strings.Repeat("c", 60_000)},
		{"stop", "a/b"},
		{"show", strings.Repeat("x", 100_000)},
		{"logs", "../etc/passwd"},
		{"move", "nobody", strings.Repeat("m", 100_000)},
		{"list", strings.Repeat("x", 100_000)},
	} {
		name := fmt.Sprintf("%.60q", args)
		_, stderr, err := h.Try(append([]string{"--data-dir", h.Dir, "child"}, args...)...)
		require.Error(t, err, name)
		require.Less(t, len(stderr), 1_000, name)
		require.NotContains(t, stderr, "panic", name)
	}
	out, _ := h.Exit(t, 0, "child", "list", "-o", "json")
	require.JSONEq(t, `{"children":[]}`, out)
	h.leavesNothing(t)
}

// A child of a strategy that is not there says so, and goes when it is removed.
func TestChildOfAnUnknownStrategy(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", "")
	h.run(t, "x", "--strategy", "nosuch", "--", "sh", "-c", "exec sleep 1000")
	h.await(t, "x", "starting", func(c childDetail) bool { return strings.Contains(c.Reason, "sandbox-nosuch") })
	h.Exit(t, 0, "child", "remove", "x", "--timeout", "10s")
	h.run(t, "x", "--wait", "20s", "--", "sh", "-c", "exec sleep 1000")
	h.leavesNothing(t)
}

// What an operator wrote is shown as it was written, after a restart too.
func TestConfigIsShownAsWritten(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", "")
	script := `sleep 1000 </dev/null && echo "<&>"`
	h.run(t, "x", "--", "sh", "-c", script)
	h.await(t, "x", "running")
	h.Kill()
	h.again(t)
	out, _ := h.Exit(t, 0, "child", "show", "x")
	require.Contains(t, out, `sleep 1000 </dev/null && echo \"<&>\"`)
	h.leavesNothing(t)
}
