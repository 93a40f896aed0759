package plugin

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// printed returns a process that printed text on its two outputs and ended.
func printed(t testing.TB, stdout, stderrText string) *process {
	t.Helper()
	p := newProcess(nil, "/nowhere/discovery-test")
	close(p.exited)
	pipe := func(text string) *os.File {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		go func() { _, _ = io.WriteString(w, text); w.Close() }()
		t.Cleanup(func() { r.Close() })
		return r
	}
	p.stdout.pipe = pipe(stdout)
	p.stderr = newStderr(pipe(stderrText), newThrottle(p.exited))
	return p
}

// readOutput reads a process's outputs as go-plugin does, and returns the
// lines that it sees on standard output.
func readOutput(t testing.TB, p *process) []string {
	t.Helper()
	var lines []string
	for scanner := bufio.NewScanner(p.Stdout()); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	_, err := io.Copy(io.Discard, p.Stderr())
	require.NoError(t, err)
	return lines
}

func TestOnlyTheFirstLineIsRead(t *testing.T) {
	long := strings.Repeat("x", 3*maxLine)
	for in, want := range map[string][]string{
		"":                  nil,
		"one":               {"one"},
		"one\ntwo\nthree\n": {"one"},
		"\ntwo":             {""},
		long:                {long[:maxLine-1]},
		long + "\nmore":     {long[:maxLine-1]},
	} {
		assert.Equal(t, want, readOutput(t, printed(t, in, "")))
	}
}

func TestLastWords(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "",
		"one\ntwo\n\n":                        "two",
		"no licence\n{\"@level\":\"info\"}\n": "no licence",
		"panic: oh\n\ngoroutine 1 [running]:\nmain.main()\n": "panic: oh",
		"x\nfatal error: all asleep\nmore":                   "fatal error: all asleep",
		strings.Repeat("é", 200):                             strings.Repeat("é", 150) + "…",
		strings.Repeat("line\n", 10_000) + "last":            "last",
	} {
		p := printed(t, "", in)
		readOutput(t, p)
		assert.Equal(t, want, p.stderr.lastWords())
	}
}

func TestThrottleSlowsDown(t *testing.T) {
	b := newBucket(100, 10)
	now := b.last
	assert.Zero(t, b.take(100, now))
	assert.Equal(t, time.Second, b.take(10, now))
	assert.Equal(t, 500*time.Millisecond, b.take(5, now.Add(time.Second)))
	assert.Zero(t, b.take(100, now.Add(time.Hour)), "full again, and not more")
	assert.Positive(t, b.take(1, now.Add(time.Hour)))

	done := make(chan struct{})
	throttle := newThrottle(done)
	close(done)
	_, err := throttle.Write(make([]byte, 100*outputBurst)) // would take minutes
	assert.NoError(t, err)
	slow := newThrottle(make(chan struct{}))
	began := time.Now()
	_, _ = slow.Write(make([]byte, outputBurst+outputRate/10))
	assert.GreaterOrEqual(t, time.Since(began), 90*time.Millisecond)
}

func TestLogsAreBoundedAndTranslated(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.TraceLevel)
	l := newLogger(log, hclog.Debug)
	l.Info("go-plugin's own")
	l.Named("stdio").Warn("not ours")
	child := l.Named("discovery-test")
	child.Trace("below the level")
	child.Error("broken", "err", errors.New("oh"), "timestamp", "now", "long", strings.Repeat("y", 2*maxMessage), "odd")
	require.Len(t, hook.AllEntries(), 2)
	own, entry := hook.AllEntries()[0], hook.AllEntries()[1]
	assert.Equal(t, logrus.TraceLevel, own.Level)
	assert.Equal(t, logrus.ErrorLevel, entry.Level)
	assert.Equal(t, "oh", entry.Data["err"])
	assert.NotContains(t, entry.Data, "timestamp")
	assert.Less(t, len(entry.Data["long"].(string)), 2*maxMessage)

	hook.Reset()
	for range 3 * logBurst {
		child.Info("again")
	}
	n := len(hook.AllEntries())
	assert.Less(t, n, logBurst+logRate)
	s := &sink{log: log, rate: newBucket(1, 1)}
	s.dropped = 7
	hook.Reset()
	s.Accept(ownName+".x", hclog.NoLevel, "hello")
	require.Len(t, hook.AllEntries(), 2)
	assert.Equal(t, 7, hook.AllEntries()[0].Data["dropped"])
	assert.Equal(t, logrus.InfoLevel, hook.AllEntries()[1].Level)

	assert.Equal(t, hclog.Trace, logLevel(log))
	assert.Equal(t, hclog.Trace, logLevel(log.WithField("a", 1)))
}

func TestStoppedBeforeItStarted(t *testing.T) {
	p := newProcess(nil, "/nowhere")
	assert.False(t, p.exitsWithin(t.Context(), time.Hour))
	p.kill()
	assert.ErrorContains(t, p.Start(t.Context()), "stopped before")
	assert.Empty(t, p.ID())
	assert.NoError(t, p.Kill(t.Context()))
	network, address, err := p.HostToPlugin("unix", "/x")
	assert.Equal(t, "unix/x", network+address)
	assert.NoError(t, err)
}

// FuzzOutput is what a plugin's process prints, which may be anything.
func FuzzOutput(f *testing.F) {
	f.Add("1|1|unix|/tmp/x|grpc|cert\n", "{\"@message\":\"hello\"}\n")
	f.Add("1|99|unix|/tmp/x|grpc|", "panic: oh\n")
	f.Add("||||||\n", "\xff\xfe\n\n{")
	f.Add(strings.Repeat("|", 100_000), strings.Repeat("é", 10_000))
	f.Fuzz(func(t *testing.T, stdout, stderrText string) {
		p := printed(t, stdout, stderrText)
		p.socketDir = "/run/x"
		lines := readOutput(t, p)
		if len(lines) > 1 || len(lines) == 1 && len(lines[0]) > maxLine {
			t.Fatalf("%d lines", len(lines))
		}
		if got := p.explainHandshake(errors.New("it failed")).Error(); len(got) > 1000 {
			t.Fatalf("%d bytes of explanation", len(got))
		}
		words := p.stderr.lastWords()
		if len(words) > 310 || utf8.ValidString(stderrText) && len(stderrText) < 1000 && !utf8.ValidString(words) {
			t.Fatalf("last words %q", words)
		}
		if parts := strings.Split(stdout, "|"); len(parts) > 3 {
			if _, addr, err := p.PluginToHost(parts[2], parts[3]); err == nil && !strings.HasPrefix(addr, "/run/x/") {
				t.Fatalf("would dial %q", addr)
			}
		}
	})
}
