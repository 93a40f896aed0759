package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the transcripts in docs/questions anew")

// pageHost is what the pages call the machine.
const pageHost = "vm"

// The commands of the pages work, on the demo that they are about, in the order in
// which they stand there. With -update what they print is put into the pages.
func TestQuestions(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("..", "..", filepath.FromSlash(f.page))
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			s := startSession(t, f.name)
			page := transcript.ReplaceAllStringFunc(string(text), func(block string) string {
				return s.replay(t, block)
			})
			require.Positive(t, s.ran, "%s has no commands", f.page)
			if *update && !t.Failed() {
				require.NoError(t, os.WriteFile(path, []byte(page), 0o644))
			}
		})
	}
}

// transcript is a block of commands with what they print. The comment above it says
// what is waited for: a text to come, or one to go.
var transcript = regexp.MustCompile("(?ms)(^<!-- (?:until|without): [^\n]+ -->\n)?^```\n\\$ .*?^```\n")

// session is a shell beside a running demo.
type session struct {
	dir, addr, host string
	ran             int
}

func startSession(t *testing.T, fault string) *session {
	d := start(t, "-hold", "-fault", fault)
	d.waitFor("Ctrl-C stops all of it")
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(os.Interrupt)
		assert.NoError(t, d.cmd.Wait())
		d.assertNothingLeft()
	})
	host, err := shortHostname()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Symlink(d.bin, filepath.Join(dir, "bin")))
	addr := regexp.MustCompile(`DEBUGHOST_ADDR=(\S+)`).FindString(d.out.String())
	return &session{dir: dir, addr: addr, host: host}
}

// replay runs the commands of a block and returns the block with what they print.
func (s *session) replay(t *testing.T, block string) string {
	var out strings.Builder
	comment, body, _ := strings.Cut(block, "```\n")
	last := strings.LastIndex(body, "\n$ ") + 1
	for _, line := range regexp.MustCompile(`(?m)^\$ .*$`).FindAllStringIndex(body, -1) {
		command := body[line[0]+2 : line[1]]
		said := s.run(t, command, func(string) bool { return true })
		if line[0] == last && comment != "" || line[0] == 0 && last == 0 && comment != "" {
			said = s.run(t, command, awaited(comment))
		}
		fmt.Fprintf(&out, "$ %s\n%s", command, said)
	}
	return comment + "```\n" + out.String() + "```\n"
}

func awaited(comment string) func(string) bool {
	kind, text, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(comment, "<!-- "), " -->\n"), ": ")
	return func(said string) bool { return strings.Contains(said, text) == (kind == "until") }
}

// again is when a command is run again whose answer is not good yet. Who asks without
// a pause takes the processor from the node that is to change.
const again = 200 * time.Millisecond

// run runs a command until what it prints is good.
func (s *session) run(t *testing.T, command string, good func(string) bool) string {
	t.Helper()
	s.ran++
	var said string
	tick := time.NewTicker(again)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); ; <-tick.C {
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(command, "@"+pageHost, "@"+s.host))
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), s.addr)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", command, out)
		require.NotEmpty(t, bytes.TrimSpace(out), command)
		if said = strings.ReplaceAll(string(out), "@"+s.host, "@"+pageHost); good(said) {
			return said
		}
		require.True(t, time.Now().Before(end), "%s still prints\n%s", command, said)
	}
}
