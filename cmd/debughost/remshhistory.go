package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxHistory is how many lines of the history are kept.
const maxHistory = 1000

// history is the lines that were typed, of all sessions, in a file that only
// the user can read. It implements term.History.
type history struct {
	path  string // empty: there is no file
	lines []string
	on    bool // lines are recorded
	// Of a search: what is looked for, what was found, and where to go on.
	wanted, found string
	at            int
}

// openHistory reads the file. Without one the history is this session's.
func openHistory(note func(string, ...any)) *history {
	h := &history{on: true}
	path, err := historyPath()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		h.path = path
		err = h.load()
	}
	if err != nil {
		h.path = ""
		note("the history is not kept: %v", err)
	}
	return h
}

func historyPath() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "debughost", "remsh_history"), nil
}

// load reads the file, and cuts one that has become twice as long as it may be.
func (h *history) load() error {
	f, err := os.OpenFile(h.path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		lines++
		h.lines = append(h.lines, s.Text())
		if len(h.lines) > 2*maxHistory {
			h.lines = slices.Clone(h.lines[maxHistory:])
		}
	}
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
	if err := s.Err(); err != nil || lines <= 2*maxHistory {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", h.path, os.Getpid())
	if err := os.WriteFile(tmp, []byte(strings.Join(h.lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, h.path)
}

// record says whether the next lines are to be kept: answers to what a program
// asks are not.
func (h *history) record(on bool) { h.on = on }

// Add implements term.History. A line that begins with a space is for this
// session only.
func (h *history) Add(line string) {
	h.wanted = ""
	if !h.on || strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	if h.path == "" || line[0] == ' ' {
		return
	}
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return // it was there at the start: not worth a word in the middle of a line
	}
	defer f.Close()
	_, _ = f.WriteString(line + "\n")
}

// Len implements term.History.
func (h *history) Len() int { return len(h.lines) }

// At implements term.History; 0 is the latest line.
func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }

// search returns the latest line that contains text; with what it returned
// last, one before that. Empty: there is none.
func (h *history) search(text string) string {
	if h.wanted == "" || text != h.found {
		h.wanted, h.at = text, 0
	}
	for ; h.at < len(h.lines); h.at++ {
		if line := h.At(h.at); strings.Contains(line, h.wanted) && line != text {
			h.found = line
			h.at++
			return line
		}
	}
	return ""
}
