package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a configuration.
type Problem struct {
	Key    string // log.level, targets.cookies[1].file; empty when it concerns a source as a whole
	Origin string // /etc/debughost/config.toml:12, environment variable DEBUGHOST_LOG_LEVEL, flag --log-level
	Line   int    // in the file; 0 elsewhere
	Msg    string
	Hint   string // what to do; may be empty
}

// Error returns the problem in one line.
func (p Problem) Error() string {
	var b strings.Builder
	for _, part := range []string{p.Origin, p.Key} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(p.Msg)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems are all mistakes of all sources, in the order of their lines.
type Problems struct{ List []Problem }

// Error returns one line for each problem.
func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, one := range p.List {
		lines[i] = one.Error()
	}
	if len(lines) == 1 {
		return "read configuration: " + lines[0]
	}
	return fmt.Sprintf("read configuration: %d problems:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

func (p *Problems) add(one Problem) { p.List = append(p.List, one) }

// has reports whether there is a problem at key or below it already.
func (p *Problems) has(key string) bool {
	return slices.ContainsFunc(p.List, func(one Problem) bool {
		rest, ok := strings.CutPrefix(one.Key, key)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func (p *Problems) sort() {
	slices.SortStableFunc(p.List, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
}

// closest returns the candidate that s was most likely meant to be, or "".
func closest(s string, candidates []string) string {
	best, bestDistance := "", max(1, min(3, len(s)/3))+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: how many letters to
// insert, drop, replace or swap with their neighbour make a into b.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
