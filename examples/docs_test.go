// Package examples has only tests: that docs/plugin-authoring.md shows the
// examples as they are, and that a stranger who follows the page gets plugins.
package examples

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/debughost/debughost/sdk/plugintest"
	"github.com/stretchr/testify/require"
)

const page = "../docs/plugin-authoring.md"

// file is a Go file of an example that the page shows in full.
var file = regexp.MustCompile("(?s)<!-- file: (\\S+)/(\\S+) -->\n```go\n(.*?)```\n")

// shown are the files by example and name.
func shown(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	files := map[string]map[string]string{}
	for _, m := range file.FindAllStringSubmatch(string(text), -1) {
		if files[m[1]] == nil {
			files[m[1]] = map[string]string{}
		}
		files[m[1]][m[2]] = m[3]
	}
	return files
}

func TestPageShowsTheExamples(t *testing.T) {
	examples, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	files := shown(t)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, path := range examples {
		// One that is too long for the page has its excerpts there, which another
		// test compares.
		if !strings.Contains(string(text), "<!-- excerpt: "+filepath.ToSlash(path)+" -->") {
			require.Contains(t, files, filepath.Dir(path))
		}
	}
	for example, files := range files {
		require.Len(t, files, 2, example)
		for name, text := range files {
			source, err := os.ReadFile(filepath.Join(example, name))
			require.NoError(t, err)
			require.Equal(t, string(source), text, "%s/%s in %s", example, name, page)
		}
	}
	for _, example := range []string{"discovery-static", "placement-fewest"} {
		require.LessOrEqual(t, strings.Count(files[example]["main.go"], "\n"), 25, "the smallest plugin has at most 25 lines")
	}
}

func TestPageListsTheChecks(t *testing.T) {
	var table bytes.Buffer
	fmt.Fprintf(&table, "| check | what the contract asks for |\n|---|---|\n")
	for _, c := range plugintest.Checks() {
		fmt.Fprintf(&table, "| `%s` | %s |\n", c.Check, c.About)
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), table.String())
}

// The page's files become modules of their own, as on a stranger's machine,
// but for debughost itself, which comes from here. They are built and tested as
// the page says.
func TestStrangerGetsPlugins(t *testing.T) {
	for example, files := range shown(t) {
		t.Run(example, func(t *testing.T) { follow(t, example, files) })
	}
}

func follow(t *testing.T, example string, files map[string]string) {
	repo, err := filepath.Abs("..")
	require.NoError(t, err)
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	mod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	// The same versions as here, so that nothing has to be fetched.
	_, requirements, _ := strings.Cut(string(mod), "\ngo ")
	requirements = regexp.MustCompile(`(?s)\ntool (\(.*?\n\)|\S+)`).ReplaceAllString(requirements, "")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/"+example+"\n\ngo "+requirements+
		"\nrequire github.com/debughost/debughost v0.0.0\nreplace github.com/debughost/debughost => "+repo+"\n"), 0o600))
	sum, err := os.ReadFile("../go.sum")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600))
	for _, command := range []string{
		"go build -trimpath -tags grpcnotrace -o " + example + " .",
		"go vet .",
		"go test .",
	} {
		words := strings.Fields(command)
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", command, out)
	}
	out, err := exec.Command(filepath.Join(dir, example)).CombinedOutput()
	require.Error(t, err)
	kind, _, _ := strings.Cut(example, "-")
	require.Contains(t, string(out), example+" 1.0.0 is a "+kind+" plugin of debughost")
}
