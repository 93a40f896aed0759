package main

import (
	"bufio"
	"io"
	"slices"
	"strings"
)

// column of a table. One with a least width is cut, where the terminal is too
// narrow, but not below it.
type column struct {
	name  string
	right bool // numbers
	least int
	free  bool // the last one: a sentence, which may run over the terminal's edge
	tail  bool // what is cut of it is its end, not its middle
	dull  bool // may be left out where each row has the same
	spare int  // when it may be left out: the highest first, 0 never
}

// grid is a table in the making.
type grid struct {
	cols []column
	rows [][]string
	hot  map[[2]int]bool // cells to highlight, by row and column
	lead []int           // by row: columns at the start of the first cell that are never cut
}

func newGrid(cols ...column) *grid { return &grid{cols: cols, hot: map[[2]int]bool{}} }

func (g *grid) add(cells ...string) {
	for i := range cells {
		cells[i] = sane(cells[i])
	}
	g.rows = append(g.rows, cells)
}

// highlight marks a cell of the row that was added last.
func (g *grid) highlight(col int) { g.hot[[2]int{len(g.rows) - 1, col}] = true }

// print writes the table to the terminal, and a note of what did not fit.
func (a *app) print(g *grid) error {
	left := g.narrow(a.width())
	if err := g.write(a.out, a.width(), a.colors()); err != nil {
		return err
	}
	if len(left) > 0 {
		a.note("left out, since the terminal is narrow: %s; -o csv has all", strings.Join(left, ", "))
	}
	return nil
}

// narrow leaves columns out, where the terminal is too narrow, and tells which:
// dull ones before anything is cut, spare ones when cutting is not enough.
func (g *grid) narrow(width int) (left []string) {
	if width == 0 || len(g.rows) == 0 {
		return nil
	}
	leave := func(col int) {
		name := strings.ToUpper(g.cols[col].name)
		if value := g.rows[0][col]; g.same(col) && value != "" {
			name += " (" + value + ")"
		}
		left = append(left, name)
		g.drop(col)
	}
	for sum(g.fit(0), g.cols) > width {
		col := 0
		for col < len(g.cols) && !(g.cols[col].dull && g.same(col)) {
			col++
		}
		if col == len(g.cols) {
			break
		}
		leave(col)
	}
	for sum(g.fit(width), g.cols) > width {
		col := 0
		for i, c := range g.cols {
			if c.spare > g.cols[col].spare {
				col = i
			}
		}
		if g.cols[col].spare == 0 {
			break
		}
		leave(col)
	}
	return left
}

// same says whether all rows have the same in a column.
func (g *grid) same(col int) bool {
	for _, row := range g.rows {
		if row[col] != g.rows[0][col] {
			return false
		}
	}
	return true
}

func (g *grid) drop(col int) {
	g.cols = slices.Delete(slices.Clone(g.cols), col, col+1)
	for i := range g.rows {
		g.rows[i] = slices.Delete(g.rows[i], col, col+1)
	}
	hot := map[[2]int]bool{}
	for at := range g.hot {
		switch {
		case at[1] < col:
			hot[at] = true
		case at[1] > col:
			hot[[2]int{at[0], at[1] - 1}] = true
		}
	}
	g.hot = hot
}

// sum is what columns of these widths take, but for the free one.
func sum(widths []int, cols []column) int {
	total := 2 * (len(cols) - 1)
	for i, w := range widths {
		if !cols[i].free {
			total += w
		}
	}
	return total
}

// write prints the table. width 0 cuts nothing; colors allows escapes.
func (g *grid) write(w io.Writer, width int, colors bool) error {
	widths := g.fit(width)
	out := bufio.NewWriter(w)
	head := make([]string, len(g.cols))
	for i, c := range g.cols {
		head[i] = strings.ToUpper(c.name)
	}
	g.line(out, widths, head, 0, func(int) bool { return false })
	for r, row := range g.rows {
		lead := 0
		if r < len(g.lead) {
			lead = g.lead[r]
		}
		g.line(out, widths, row, lead, func(c int) bool { return colors && g.hot[[2]int{r, c}] })
	}
	return out.Flush()
}

func (g *grid) line(out *bufio.Writer, widths []int, cells []string, lead int, hot func(int) bool) {
	gap := "" // what a next cell needs before it, so that no line ends in spaces
	for i, cell := range cells {
		switch {
		case i == 0 && lead > 0 && lead < widths[i]:
			runes := []rune(cell) // what draws a tree has one column each
			cell = string(runes[:lead]) + cut(string(runes[lead:]), widths[i]-lead)
		case g.cols[i].tail:
			cell = cutEnd(cell, widths[i])
		default:
			cell = cut(cell, widths[i])
		}
		pad := strings.Repeat(" ", widths[i]-columns(cell))
		if cell == "" {
			gap += pad + "  "
			continue
		}
		if hot(i) {
			cell = "\x1b[1;31m" + cell + "\x1b[0m"
		}
		if g.cols[i].right {
			cell, pad = pad+cell, ""
		}
		out.WriteString(gap)
		out.WriteString(cell)
		gap = pad + "  "
	}
	out.WriteByte('\n')
}

// fit returns the width of each column: what its widest cell needs or, where
// that is more than the terminal has, less for the widest of those that may
// be cut.
func (g *grid) fit(width int) []int {
	widths := make([]int, len(g.cols))
	total := 2 * (len(g.cols) - 1)
	for i, c := range g.cols {
		widths[i] = columns(c.name)
		for _, row := range g.rows {
			widths[i] = max(widths[i], columns(row[i]))
		}
		if !c.free {
			total += widths[i]
		}
	}
	for width > 0 && total > width {
		widest := -1
		for i, c := range g.cols {
			if widths[i] > g.least(i, c) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return slices.Clip(widths)
}

// leastNumber is so much of the name of a column of numbers as is left of it.
const leastNumber = 8

// least is the width down to which a column is cut: of numbers, their name alone.
func (g *grid) least(col int, c column) int {
	switch {
	case c.right:
		least := min(leastNumber, columns(c.name))
		for _, row := range g.rows {
			least = max(least, columns(row[col]))
		}
		return least
	case c.least > 0:
		return max(c.least, min(columns(c.name), leastNumber))
	}
	return 1 << 30
}
