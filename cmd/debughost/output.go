package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
)

// writeJSON prints a whole answer, indented.
func writeJSON(w io.Writer, v any) error {
	enc := newEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// newEncoder is json.NewEncoder for names of targets: <0.1.2> stays readable,
// and what a terminal would obey is escaped.
func newEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(tameWriter{w})
	enc.SetEscapeHTML(false)
	return enc
}

// tameWriter escapes, in JSON, the characters that encoding/json leaves as they
// are and a terminal does not: C1 controls and those that turn the direction
// of writing. It relies on json.Encoder writing a value at once.
type tameWriter struct{ w io.Writer }

func (t tameWriter) Write(p []byte) (int, error) {
	wild := func(r rune) bool { return r >= 0x7f && !unicode.IsGraphic(r) }
	if bytes.IndexFunc(p, wild) < 0 {
		return t.w.Write(p)
	}
	var b bytes.Buffer
	for _, r := range string(p) { // UTF-8, and non-ASCII in strings only
		switch {
		case !wild(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if _, err := t.w.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// jsonList prints lists of an object with one element a line: an answer may
// have a million, so it is written as it goes, and stays good for grep.
type jsonList struct {
	out   *bufio.Writer
	enc   *json.Encoder
	lists int
	items int
}

func newJSONList(w io.Writer) *jsonList {
	l := &jsonList{out: bufio.NewWriter(w)}
	l.enc = newEncoder(&noNewline{l.out})
	return l
}

// begin starts the list with this key.
func (l *jsonList) begin(key string) {
	if l.lists == 0 {
		l.out.WriteByte('{')
	} else {
		l.end()
		l.out.WriteByte(',')
	}
	l.lists, l.items = l.lists+1, 0
	l.out.WriteString(`"` + key + `":[`)
}

func (l *jsonList) item(v any) error {
	if l.items > 0 {
		l.out.WriteByte(',')
	}
	l.items++
	l.out.WriteByte('\n')
	return l.enc.Encode(v)
}

func (l *jsonList) end() {
	if l.items > 0 {
		l.out.WriteByte('\n')
	}
	l.out.WriteByte(']')
}

// close ends the object.
func (l *jsonList) close() error {
	l.end()
	l.out.WriteString("}\n")
	return l.out.Flush()
}

// noNewline drops the line end that json.Encoder writes behind a value.
type noNewline struct{ w io.Writer }

func (n *noNewline) Write(p []byte) (int, error) {
	if k := len(p); k > 0 && p[k-1] == '\n' {
		_, err := n.w.Write(p[:k-1])
		return k, err
	}
	return n.w.Write(p)
}

// writeCSV prints a header and rows. In a file they are as the node has them;
// on a terminal they must be harmless.
func (a *app) writeCSV(header []string, rows func(write func(...string) error) error) error {
	out := csv.NewWriter(a.out)
	write := func(cells ...string) error { return out.Write(a.csvCells(cells)) }
	if err := write(header...); err != nil {
		return err
	}
	if err := rows(write); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

func (a *app) csvCells(cells []string) []string {
	if a.outTTY {
		for i := range cells {
			cells[i] = sane(cells[i])
		}
	}
	return cells
}
