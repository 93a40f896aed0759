package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/target"
)

// echoShell is a shell that repeats what it is told, and knows some words.
func echoShell(language string) func(context.Context, target.ShellQuery, <-chan target.ShellInput, func(target.ShellOutput) error) error {
	return func(ctx context.Context, q target.ShellQuery, in <-chan target.ShellInput, out func(target.ShellOutput) error) error {
		_ = out(target.ShellOutput{Kind: target.OutputStarted, Node: q.Node, Language: language})
		read := func(prompt, wanted string, more bool) {
			_ = out(target.ShellOutput{Kind: target.OutputRead, Text: prompt, Wanted: wanted, More: more})
		}
		read("iex> ", "expression", false)
		for {
			var i target.ShellInput
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case next, ok := <-in:
				if !ok {
					return nil
				}
				i = next
			}
			text := func(s string) { _ = out(target.ShellOutput{Kind: target.OutputText, Text: s}) }
			switch {
			case i.Kind == target.InputInterrupt:
				text("interrupted\n")
				read("iex> ", "expression", false)
			case i.Kind == target.InputSize:
				text(fmt.Sprintf("size %dx%d\n", i.Columns, i.Rows))
			case i.Kind == target.InputComplete:
				o := target.ShellOutput{Kind: target.OutputCompletions, ID: i.ID}
				switch i.Line {
				case "ech":
					o.Text = "o"
				case "e":
					o.Matches = []string{"echo", "eight", "\x1b[2J"}
				}
				_ = out(target.ShellOutput{Kind: target.OutputCompletions, ID: i.ID + 100}) // of an earlier Tab
				_ = out(o)
			case i.Line == "busy\n":
				text("working")
			case i.Line == "more\n":
				read("iex> ", "expression", true)
			case i.Line == "password\n":
				read("secret? ", "password", false)
			case i.Line == "line\n":
				read("line? ", "line", false)
			case i.Line == "end\n":
				return nil
			case i.Line == "fail\n":
				return errors.New("it broke")
			default:
				text("\x1b[32m" + strings.ToUpper(strings.TrimSpace(i.Line)) + "\x1b[0m\x1b[2J\n")
				read("iex> ", "expression", false)
			}
		}
	}
}

func TestRemshPipes(t *testing.T) {
	m, s := shellMember(t)
	s.run = echoShell("erlang")
	say := func(text string) result {
		return commandWith(func(a *app) { a.in = strings.NewReader(text) }, "--addr", m.addr, "remsh", "shop@db1", "--erlang")
	}
	golden(t, "remsh-pipes", say("one\nmore\ntwo\nlast"))
	assert.Equal(t, target.ShellQuery{Node: "shop@db1", Language: "erlang"}, m.last())
	r := say("q().\none\n")
	assert.Equal(t, result{code: exitDone}, r, "q() would stop the node")
	assert.Equal(t, exitDone, say("end\nnot this\n").code)
	r = say("fail\n")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "it broke")
	long := strings.Repeat("x", 5000)
	assert.Contains(t, say(long+"\n").out, strings.ToUpper(long))
	r = say(strings.Repeat("x", 2*target.MaxShellLine))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "a line is longer")
	s.run = func(context.Context, target.ShellQuery, <-chan target.ShellInput, func(target.ShellOutput) error) error {
		return target.ErrNotAttached
	}
	assert.Contains(t, say("").err, "not attached")
	r = commandWith(func(a *app) { a.front = func(remote) (front, error) { return nil, errors.New("no terminal") } }, "--addr", m.addr, "remsh", "shop@db1")
	assert.Contains(t, r.err, "no terminal")
}

// screen is a terminal's, from where a test has looked last.
type screen struct {
	t testing.TB

	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) sees(text string) string {
	s.t.Helper()
	var before string
	ok := assert.Eventually(s.t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		was, rest, found := strings.Cut(s.text.String(), text)
		if found {
			before = was
			s.text.Reset()
			s.text.WriteString(rest)
		}
		return found
	}, 30*time.Second, time.Millisecond)
	if !ok {
		s.t.Fatalf("waited for %q, the screen has %q", text, s.text.String())
	}
	return before
}

func TestRemshTerminal(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	m, s := shellMember(t)
	s.run = echoShell("elixir")
	in, keys := io.Pipe()
	defer keys.Close()
	sc := &screen{t: t}
	columns := 40
	var mu sync.Mutex
	done := make(chan result, 1)
	go func() {
		done <- commandWith(func(a *app) {
			a.outTTY = true
			a.front = func(r remote) (front, error) {
				return a.terminalFront(in, sc, r, func() (int, int) {
					mu.Lock()
					defer mu.Unlock()
					return columns, 24
				}), nil
			}
		}, "--addr", m.addr, "remsh", "shop@db1")
	}()
	press := func(s string) {
		_, err := io.WriteString(keys, s)
		require.NoError(t, err)
	}
	sc.sees("Shell on shop@db1.")
	sc.sees("iex> ")
	assert.Equal(t, target.ShellQuery{Node: "shop@db1", Language: "auto", Columns: 40, Rows: 24}, m.last())
	press("one\r")
	assert.Contains(t, sc.sees("iex> "), "\x1b[32mONE\x1b[0m\\x1B[2J", "colours are let through, all else is not")

	// Completion and history.
	press("ech\t")
	sc.sees("o")
	press(" this\r")
	sc.sees("ECHO THIS")
	sc.sees("iex> ")
	press("e\t")
	assert.Contains(t, sc.sees("iex> e"), "echo     eight    \\x1B[2J")
	press("\x15nosuch\t\x15  \t\x15")
	press("\x1b[A\r")
	sc.sees("ECHO THIS")
	sc.sees("iex> ")
	press("on\x12\r")
	sc.sees("ONE")
	sc.sees("iex> ")

	// Ctrl-C: a line, half an expression, what runs.
	press("dropped\x03")
	sc.sees("iex> ")
	press("more\r")
	sc.sees("...> ")
	press("half\x03")
	sc.sees("interrupted")
	sc.sees("iex> ")
	press("busy\r")
	sc.sees("working")
	press("typed ahead\x03")
	sc.sees("interrupted")
	sc.sees("iex> ")

	press("password\r")
	sc.sees("secret? ")
	press("xyzzy\r")
	assert.NotContains(t, sc.sees("XYZZY"), "xyzzy")
	sc.sees("iex> ")
	press("line\r")
	sc.sees("line? ")
	press("unrecorded\r")
	sc.sees("UNRECORDED")
	mu.Lock()
	columns = 60
	mu.Unlock()
	sc.sees("iex> ")
	press(" not recorded\r")
	sc.sees("size 60x24")
	sc.sees("iex> ")
	press("\x04")
	r := <-done
	assert.Equal(t, exitDone, r.code, r.err)

	path := filepath.Join(state, "debughost", "remsh_history")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "one\necho this\none\nmore\nbusy\npassword\nline\n", string(b))
	fi, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
}

func TestHistory(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	quiet := func(format string, args ...any) { t.Errorf(format, args...) }
	h := openHistory(quiet)
	for i := range 2*maxHistory + 10 {
		h.Add(fmt.Sprint("line ", i))
	}
	h.Add("line 2009") // is the last already
	h = openHistory(quiet)
	assert.Equal(t, maxHistory, h.Len())
	assert.Equal(t, "line 2009", h.At(0))
	h = openHistory(quiet) // the file was cut
	assert.Equal(t, maxHistory, h.Len())
	assert.Equal(t, "line 2008", h.search("2008"))
	assert.Equal(t, "", h.search("line 2008"))
	assert.Empty(t, h.search("nosuch"))

	// A home that is not to be written to: the history is this session's.
	require.NoError(t, os.WriteFile(filepath.Join(state, "file"), nil, 0o600))
	t.Setenv("XDG_STATE_HOME", filepath.Join(state, "file"))
	said := ""
	h = openHistory(func(format string, args ...any) { said = fmt.Sprintf(format, args...) })
	assert.Contains(t, said, "the history is not kept")
	h.Add("kept here")
	assert.Equal(t, "kept here", h.At(0))
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", state)
	path, err := historyPath()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(state, ".local", "state", "debughost", "remsh_history"), path)
}

func TestTame(t *testing.T) {
	var f tame
	assert.Equal(t, "a\tb\nc\n", f.text("a\tb\r\nc\n", true))
	assert.Equal(t, "\x1b[1;31mred", f.text("\x1b[1;31mred", true))
	assert.Equal(t, "red", f.text("\x1b[1;31mred", false))
	assert.Equal(t, "x", f.text("x\x1b[1", true))
	assert.Equal(t, "\x1b[1;2my", f.text(";2my", true))
	assert.Equal(t, `\x1B[2J\x07`, f.text("\x1b[2J\a", true))
	assert.Equal(t, `\x1B]0;title`, f.text("\x1b]0;title", true))
	assert.Equal(t, "", f.text("\x1b["+strings.Repeat("1", 20), true))
	assert.Equal(t, `\x1B[`+strings.Repeat("1", 40), f.text(strings.Repeat("1", 20), true))
	assert.Equal(t, "\uFFFD", f.text("\xff", true))
}

func TestContinued(t *testing.T) {
	assert.Equal(t, "...(a@b)1> ", continued("iex(a@b)1> "))
	assert.Equal(t, "...(a@b)1> ", continued("...(a@b)1> "))
	assert.Equal(t, "      .. ", continued("(a@b)1>  "))
	assert.Equal(t, ".. ", continued(">"))
}

func TestInColumns(t *testing.T) {
	assert.Equal(t, "a    c\nbcd\n", inColumns([]string{"a", "bcd", "c"}, 10))
	assert.Equal(t, "a\nb\n", inColumns([]string{"a", "b"}, 1))
}

// A terminal that does not know its size says 0.
func TestWindowSize(t *testing.T) {
	for _, c := range []struct {
		columns, rows int
		err           error
		wantColumns   int
		wantRows      int
	}{
		{120, 40, nil, 120, 40}, {0, 0, nil, 80, 24}, {80, 0, nil, 80, 24}, {0, 0, errPrinted, 80, 24},
	} {
		columns, rows := windowSize(c.columns, c.rows, c.err)
		assert.Equal(t, c.wantColumns, columns)
		assert.Equal(t, c.wantRows, rows)
	}
}
