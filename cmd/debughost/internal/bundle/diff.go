package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// States of a file in a comparison.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is a file that differs between two bundles.
type Change struct {
	Path  string
	State string // Added, Removed, Changed
	Was   string // SHA-256 of the content, hexadecimal; empty where there was none
	Is    string
	Diff  string // in the unified format; empty where one of the two is no text
}

// Diff compares the files of two bundles, in the order of their paths.
func Diff(before, after []File) []Change {
	was, is := byName(before), byName(after)
	var names []string
	for name := range was {
		names = append(names, name)
	}
	for name := range is {
		if was[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []Change
	for _, name := range names {
		a, b := was[name], is[name]
		c := Change{Path: name, State: Changed, Was: sum(a), Is: sum(b)}
		switch {
		case c.Was == c.Is:
			continue
		case a == nil:
			c.State = Added
		case b == nil:
			c.State = Removed
		}
		if text(a) && text(b) {
			c.Diff = Unified(label("a", name, a), label("b", name, b), content(a), content(b))
		}
		out = append(out, c)
	}
	return out
}

func byName(files []File) map[string]*File {
	m := make(map[string]*File, len(files))
	for i := range files {
		m[files[i].Name] = &files[i]
	}
	return m
}

func label(side, name string, f *File) string {
	if f == nil {
		return "/dev/null"
	}
	return side + "/" + name
}

func content(f *File) string {
	switch {
	case f == nil:
		return ""
	case f.Link != "":
		return "link to " + f.Link + "\n"
	}
	return string(f.Data)
}

func sum(f *File) string {
	if f == nil {
		return ""
	}
	s := sha256.Sum256([]byte(content(f)))
	return hex.EncodeToString(s[:])
}

// maxText is how large a file may be that is compared line by line.
const maxText = 4 << 20

func text(f *File) bool {
	return f == nil || len(f.Data) <= maxText && bytes.IndexByte(f.Data, 0) < 0 && utf8.Valid(f.Data)
}

const (
	around = 3 // lines that are shown around a change
	// maxEdits bounds the search for the fewest edits, whose time grows with its
	// square. Texts that differ more are shown as replaced.
	maxEdits = 2000
)

// edit is a line of a comparison: '-' of the old one, '+' of the new one, ' ' of both.
type edit struct {
	op   byte
	line string
}

// Unified compares two texts as diff -u does; it is empty where they are the same.
func Unified(oldName, newName, before, after string) string {
	edits := compare(lines(before), lines(after))
	var b strings.Builder
	for at := 0; at < len(edits); {
		first := at
		for first < len(edits) && edits[first].op == ' ' {
			first++
		}
		if first == len(edits) {
			break
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "--- %s\n+++ %s\n", oldName, newName)
		}
		last := first // behind the last change of this hunk
		for i := first; i < len(edits) && i <= last+2*around; i++ {
			if edits[i].op != ' ' {
				last = i + 1
			}
		}
		from, to := max(at, first-around), min(len(edits), last+around)
		hunk(&b, edits, from, to)
		at = to
	}
	return b.String()
}

func hunk(b *strings.Builder, edits []edit, from, to int) {
	count := func(edits []edit, op byte) (n int) {
		for _, e := range edits {
			if e.op != op {
				n++
			}
		}
		return n
	}
	part := func(op byte) string {
		start, n := count(edits[:from], op), count(edits[from:to], op)
		if n > 0 {
			start++
		}
		if n == 1 {
			return fmt.Sprint(start)
		}
		return fmt.Sprintf("%d,%d", start, n)
	}
	fmt.Fprintf(b, "@@ -%s +%s @@\n", part('+'), part('-'))
	for _, e := range edits[from:to] {
		b.WriteByte(e.op)
		b.WriteString(e.line)
		if !strings.HasSuffix(e.line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

func lines(s string) []string { return slices.Collect(strings.Lines(s)) }

// compare finds the fewest lines to take out and to put in: Myers' greedy algorithm
// (An O(ND) Difference Algorithm and Its Variations, 1986).
func compare(a, b []string) []edit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out []edit
	put := func(op byte, lines []string) {
		for _, l := range lines {
			out = append(out, edit{op, l})
		}
	}
	put(' ', a[:head])
	out = append(out, shortest(a[head:len(a)-tail], b[head:len(b)-tail])...)
	put(' ', a[len(a)-tail:])
	return out
}

func shortest(a, b []string) []edit {
	most := min(len(a)+len(b), maxEdits)
	v := make([]int, 2*most+3) // by diagonal, how far along a the furthest path is
	at := func(k int) *int { return &v[k+most+1] }
	var trace [][]int // v before each number of edits, the diagonals that count
	for d := 0; d <= most; d++ {
		trace = append(trace, slices.Clone(v[most+1-d-1:most+1+d+2]))
		for k := -d; k <= d; k += 2 {
			x := 0
			if k == -d || k != d && *at(k - 1) < *at(k + 1) {
				x = *at(k + 1)
			} else {
				x = *at(k - 1) + 1
			}
			for x < len(a) && x-k < len(b) && a[x] == b[x-k] {
				x++
			}
			*at(k) = x
			if x >= len(a) && x-k >= len(b) {
				return backtrack(a, b, trace)
			}
		}
	}
	var out []edit
	for _, l := range a {
		out = append(out, edit{'-', l})
	}
	for _, l := range b {
		out = append(out, edit{'+', l})
	}
	return out
}

func backtrack(a, b []string, trace [][]int) []edit {
	var out []edit
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		v := func(k int) int { return trace[d][k+d+1] }
		k := x - y
		was := k - 1
		if k == -d || k != d && v(k-1) < v(k+1) {
			was = k + 1
		}
		wasX := v(was)
		wasY := wasX - was
		for x > max(wasX, 0) && y > max(wasY, 0) {
			x, y = x-1, y-1
			out = append(out, edit{' ', a[x]})
		}
		if d == 0 {
			break
		}
		if x == wasX {
			out = append(out, edit{'+', b[wasY]})
		} else {
			out = append(out, edit{'-', a[wasX]})
		}
		x, y = wasX, wasY
	}
	slices.Reverse(out)
	return out
}
