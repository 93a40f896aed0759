package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	controlpb "github.com/debughost/debughost/control/proto"
)

// terminalOf returns the file descriptor of a terminal.
func terminalOf(r io.Reader) (fd int, ok bool) {
	f, ok := r.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

const (
	keyInterrupt = 3  // Ctrl-C
	keyTab       = 9  // completes
	keySearch    = 18 // Ctrl-R
)

// terminalFront edits lines on a terminal in raw mode, where Ctrl-C is a key as
// others are. One goroutine reads keys; it ends with the program at the latest,
// since nothing can wake it.
type terminalFront struct {
	a       *app
	remote  remote
	term    *term.Terminal
	history *history
	keys    *keyReader
	tame    tame
	measure func() (columns, rows int)
	restore func()

	columns, rows int

	mu     sync.Mutex
	column int // where output stands on its line; 0 at its beginning
}

func newTerminalFront(a *app, fd int, r remote) (front, error) {
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	f := a.terminalFront(a.in, a.out, r, func() (int, int) {
		return windowSize(term.GetSize(fd))
	})
	f.restore = sync.OnceFunc(func() { _ = term.Restore(fd, state) })
	return f, nil
}

// windowSize takes a terminal that does not know its size (a serial line, one in a
// container, one of a script) for a usual one: they say 0.
func windowSize(columns, rows int, err error) (int, int) {
	if err != nil || columns <= 0 || rows <= 0 {
		return 80, 24
	}
	return columns, rows
}

// terminalFront is for a terminal that is in raw mode already.
func (a *app) terminalFront(in io.Reader, out io.Writer, r remote, measure func() (int, int)) *terminalFront {
	f := &terminalFront{a: a, remote: r, history: openHistory(a.note), measure: measure, restore: func() {}}
	f.keys = newKeyReader(in, r.interrupt)
	f.term = term.NewTerminal(readWriter{f.keys, out}, "")
	f.term.History = f.history
	f.term.AutoCompleteCallback = f.key
	f.resize()
	return f
}

type readWriter struct {
	io.Reader
	io.Writer
}

func (f *terminalFront) close() {
	f.keys.close()
	f.restore()
}

func (f *terminalFront) resize() {
	f.columns, f.rows = f.measure()
	_ = f.term.SetSize(max(f.columns, 1), max(f.rows, 1))
}

func (f *terminalFront) size() *controlpb.ShellSize {
	return &controlpb.ShellSize{Columns: uint32(max(f.columns, 1)), Rows: uint32(max(f.rows, 1))}
}

func (f *terminalFront) started(s *controlpb.ShellStarted) {
	_ = f.print(fmt.Sprintf("Shell on %s. Ctrl-C interrupts, Ctrl-D leaves; the node runs on.\n", s.GetNode()))
}

func (f *terminalFront) print(text string) error {
	text = f.tame.text(text, f.a.colors())
	f.mu.Lock()
	f.column = columnAfter(f.column, text)
	f.mu.Unlock()
	_, err := f.term.Write([]byte(text))
	return err
}

// columnAfter is roughly where the cursor is: it tells the beginning of a line
// from the rest.
func columnAfter(column int, text string) int {
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		column, text = 0, text[i+1:]
	}
	return column + len(text)
}

func (f *terminalFront) read(w *controlpb.ShellRead) (string, error) {
	if c, r := f.measure(); c != f.columns || r != f.rows {
		f.resize()
		f.remote.resized(f.size())
	}
	f.mu.Lock()
	fresh := f.column == 0
	f.column = 0
	f.mu.Unlock()
	prompt := sane(w.GetPrompt())
	switch {
	case w.GetMore():
		prompt = continued(prompt)
	case !fresh && w.GetWanted() == "expression": // what was printed had no line end
		_, _ = f.term.Write([]byte("\n"))
	}
	f.history.record(w.GetWanted() == "expression")
	f.keys.begin()
	defer f.keys.end()
	var line string
	var err error
	if w.GetWanted() == "password" {
		line, err = f.term.ReadPassword(prompt)
	} else {
		f.term.SetPrompt(prompt)
		line, err = f.term.ReadLine()
		f.term.SetPrompt("")
	}
	if f.keys.interrupted() {
		return "", errInterrupt
	}
	if err != nil {
		_, _ = f.term.Write([]byte("\n"))
		return "", err
	}
	return line + "\n", nil
}

// continued is the prompt of a further line of an expression.
func continued(prompt string) string {
	if rest, ok := strings.CutPrefix(prompt, "iex"); ok {
		return "..." + rest
	}
	if strings.HasPrefix(prompt, "...") {
		return prompt
	}
	return strings.Repeat(" ", max(columns(prompt)-3, 0)) + ".. "
}

// key takes the keys that x/term does not know: Tab and Ctrl-R. pos and newPos
// count bytes.
func (f *terminalFront) key(line string, pos int, key rune) (newLine string, newPos int, ok bool) {
	switch key {
	case keyTab:
		return f.complete(line, pos)
	case keySearch:
		if found := f.history.search(line); found != "" {
			return found, len(found), true
		}
		return line, pos, true
	}
	return "", 0, false
}

func (f *terminalFront) complete(line string, pos int) (string, int, bool) {
	before := line[:pos]
	if strings.TrimSpace(before) == "" {
		return before + "  " + line[pos:], pos + 2, true
	}
	c := f.remote.complete(before)
	if insert := sane(c.GetInsert()); insert != "" {
		return before + insert + line[pos:], pos + len(insert), true
	}
	if len(c.GetMatches()) > 0 {
		_, _ = f.term.Write([]byte(inColumns(c.GetMatches(), f.columns)))
	}
	return line, pos, true
}

// inColumns lays words out as ls does.
func inColumns(words []string, width int) string {
	widest := 0
	for i, w := range words {
		words[i] = sane(w)
		widest = max(widest, columns(words[i]))
	}
	perLine := max(1, width/(widest+2))
	lines := (len(words) + perLine - 1) / perLine
	var b strings.Builder
	for l := range lines {
		for i := l; i < len(words); i += lines {
			b.WriteString(words[i])
			if i+lines < len(words) {
				b.WriteString(strings.Repeat(" ", widest+2-columns(words[i])))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
