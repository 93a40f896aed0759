package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSane(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 日本 🎉":  "plain é 日本 🎉",
		"a\x1b[2Jb":     `a\x1B[2Jb`,
		"a\nb\tc":       `a\x0Ab\x09c`,
		"\x7f\u0085":    `\x7F\x85`,
		"x\u202ey":      `x\x{202E}y`,
		"bad\xff":       `bad\xFF`,
		"kept \uFFFD":   "kept \uFFFD",
		"\u2028line":    `\x{2028}line`,
		"zero\u200bone": `zero\x{200B}one`,
	} {
		assert.Equal(t, want, sane(in), "%q", in)
	}
	assert.Equal(t, "a\nb\\x1B", saneLines("a\nb\x1b"))
	assert.Equal(t, "a\tb\\x0D", saneLines("a\tb\r"))
}

func TestSaneIsHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := sane(string(rapid.SliceOf(rapid.Byte()).Draw(t, "s")))
		if !utf8.ValidString(s) {
			t.Fatalf("%q is no UTF-8", s)
		}
		for _, r := range s {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q has control character %x", s, r)
			}
		}
		if again := sane(s); again != s {
			t.Fatalf("%q becomes %q", s, again)
		}
	})
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"shop@db-1.x_y": "shop@db-1.x_y", "<0.1.2>": "'<0.1.2>'", "": "''", "a'; rm -rf ~@h": `'a'\''; rm -rf ~@h'`,
	} {
		assert.Equal(t, want, shellWord(in))
	}
}

// JSON says the same with and without the escapes that protect a terminal.
func TestJSONIsTame(t *testing.T) {
	in := "a\u009b2J b\u202ec \U000e0001 é \x7f<&>"
	var b bytes.Buffer
	require.NoError(t, newEncoder(&b).Encode(in))
	assert.Equal(t, `"a\u009b2J b\u202ec \udb40\udc01 é \u007f<&>"`+"\n", b.String())
	var out string
	require.NoError(t, json.Unmarshal(b.Bytes(), &out))
	assert.Equal(t, in, out)
	assert.ErrorIs(t, newEncoder(brokenWriter{}).Encode(in), io.ErrClosedPipe)
}

func TestCSVOnTerminal(t *testing.T) {
	m := shop(t)
	r := commandWith(func(a *app) { a.outTTY = true }, "--addr", m.addr, "ps", "-o", "csv")
	assert.NotContains(t, r.out, "\x1b")
	assert.Contains(t, r.out, `evil\x1B[2J`)
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		1_234_567: "1.2 MB", 48_213_008: "48 MB", 3_000_000_000: "3.0 GB", 1<<64 - 1: "18 EB",
	} {
		assert.Equal(t, want, size(n), n)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m01s",
		2*time.Hour + 5*time.Minute: "2h05m", 50 * time.Hour: "2d02h",
	} {
		assert.Equal(t, want, age(d), d)
	}
}

func TestCut(t *testing.T) {
	assert.Equal(t, "abcdef", cut("abcdef", 6))
	assert.Equal(t, "ab…ef", cut("abcdef", 5))
	assert.Equal(t, "a…f", cut("abcdef", 3))
	assert.Equal(t, "日…語", cut("日本本語", 5))
	assert.Equal(t, 2, columns("e\u0301x"))
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		width := rapid.IntRange(1, 40).Draw(t, "width")
		if got := cut(s, width); columns(got) > width {
			t.Fatalf("cut(%q, %d) = %q has %d columns", s, width, got, columns(got))
		}
	})
}

func TestGridFits(t *testing.T) {
	g := newGrid(column{name: "a", least: 4}, column{name: "n", right: true}, column{name: "why", free: true})
	g.add("a very long cell", "12", "a reason that is longer than the terminal is wide")
	g.add("x", "", "")
	var b bytes.Buffer
	require.NoError(t, g.write(&b, 20, false))
	assert.Equal(t, "A                N  WHY\na very…ng cell  12  a reason that is longer than the terminal is wide\nx\n", b.String())
	assert.ErrorIs(t, g.write(brokenWriter{}, 0, false), io.ErrClosedPipe)
}

// What is the same in all rows goes first, then what can be spared; numbers keep
// their cells and lose of their name.
func TestGridNarrow(t *testing.T) {
	table := func() *grid {
		g := newGrid(column{name: "node", least: 6, dull: true}, column{name: "name", least: 8}, column{name: "state", dull: true},
			column{name: "message_queue_len", right: true}, column{name: "call", least: 8, spare: 2}, column{name: "status", spare: 1})
		g.add("shop@db1", "├─ a_very_long_name", "up", "1234567890", "gen_server:loop/7", "waiting")
		g.highlight(3)
		g.add("shop@db1", "b", "down", "7", "x", "running")
		g.lead = []int{3, 0}
		return g
	}
	for _, c := range []struct {
		width int
		left  []string
		text  string
	}{
		{0, nil, "NODE      NAME                 STATE  MESSAGE_QUEUE_LEN  CALL               STATUS\nshop@db1  ├─ a_very_long_name  up            1234567890  gen_server:loop/7  waiting\nshop@db1  b                    down                   7  x                  running\n"},
		{74, []string{"NODE (shop@db1)"}, "NAME                 STATE  MESSAGE_QUEUE_LEN  CALL               STATUS\n├─ a_very_long_name  up            1234567890  gen_server:loop/7  waiting\nb                    down                   7  x                  running\n"},
		{40, []string{"NODE (shop@db1)", "CALL"}, "NAME         STATE  MESSA…E_LEN  STATUS\n├─ a_v…name  up      1234567890  waiting\nb            down             7  running\n"},
		{30, []string{"NODE (shop@db1)", "CALL", "STATUS"}, "NAME        STATE  MESSA…E_LEN\n├─ a_v…ame  up      1234567890\nb           down             7\n"},
	} {
		g := table()
		left := g.narrow(c.width)
		assert.Equal(t, c.left, left, c.width)
		var b bytes.Buffer
		require.NoError(t, g.write(&b, c.width, false))
		assert.Equal(t, c.text, b.String(), c.width)
	}
	g := table()
	g.narrow(40)
	assert.Equal(t, map[[2]int]bool{{0, 2}: true}, g.hot, "the same cell stands out")
	assert.Equal(t, "abc…", cutEnd("abcdef", 4))
	assert.Equal(t, "日…", cutEnd("日本本語", 4))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// An answer that can't be written is a failure, in every format.
func TestBrokenOutput(t *testing.T) {
	m := shop(t)
	for _, args := range [][]string{
		{"ps"}, {"ps", "-o", "json"}, {"ps", "-o", "csv"}, {"targets"}, {"targets", "-o", "json"}, {"targets", "-o", "csv"},
		{"plugins"}, {"plugins", "-o", "csv"}, {"status"}, {"status", "-o", "json"}, {"kill", "a", "b"}, {"inspect", "a", "b"},
		{"version"}, {"config", "print"}, {"ps", "--watch", "1ms"},
	} {
		r := commandWith(func(a *app) { a.out = brokenWriter{} }, append([]string{"--addr", m.addr}, args...)...)
		assert.Equal(t, exitFailed, r.code, args)
		assert.Contains(t, r.err, "closed pipe", args)
	}
}

func TestTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	assert.False(t, isTerminal(w))
	assert.False(t, isTerminal(&bytes.Buffer{}))
	assert.Zero(t, widthOf(w))
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		t.Fatal("no /dev/ptmx: this system has no terminals to test with")
	}
	require.NoError(t, err)
	defer tty.Close()
	t.Setenv("TERM", "xterm")
	assert.True(t, isTerminal(tty))
	t.Setenv("COLUMNS", "77")
	assert.Equal(t, 77, widthOf(tty))
	t.Setenv("COLUMNS", "")
	assert.GreaterOrEqual(t, widthOf(tty), 0)
	t.Setenv("TERM", "dumb")
	assert.False(t, isTerminal(tty))
}
