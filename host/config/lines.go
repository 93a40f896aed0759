package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lines says which line of a TOML file sets which key.
type lines struct {
	at    map[string]int // by key path
	twice int            // the line of the first key or table that was there before; 0 without
}

// of returns the line of a key, or of the table nearest above it, or 0.
func (l *lines) of(key string) int {
	for key != "" {
		if n := l.at[key]; n > 0 {
			return n
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// indexLines reads a file as far as it is TOML.
func indexLines(data []byte) *lines {
	ix := &lines{at: map[string]int{}}
	tables := map[string]bool{}
	count := map[string]int{} // tables so far of each array of tables
	table := ""
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			table = ix.path(&p, "", e, count)
			if tables[table] {
				ix.again(ix.at[table])
			}
			tables[table] = true
		case unstable.ArrayTable:
			list := ix.path(&p, "", e, nil)
			table = fmt.Sprintf("%s[%d]", list, count[list])
			ix.at[table] = ix.at[list]
			count[list]++
		case unstable.KeyValue:
			ix.keyValue(&p, table, e, count)
		}
	}
	return ix
}

// again notes that something is there twice.
func (l *lines) again(line int) {
	if l.twice == 0 {
		l.twice = line
	}
}

func (l *lines) keyValue(p *unstable.Parser, table string, e *unstable.Node, count map[string]int) {
	before := len(l.at)
	key := l.path(p, table, e, nil)
	if len(l.at) == before {
		l.again(l.at[key])
	}
	l.value(p, key, e.Value(), count)
}

func (l *lines) value(p *unstable.Parser, key string, v *unstable.Node, count map[string]int) {
	children := v.Children()
	switch v.Kind {
	case unstable.InlineTable:
		for children.Next() {
			l.keyValue(p, key, children.Node(), count)
		}
	case unstable.Array:
		for i := 0; children.Next(); i++ {
			at := fmt.Sprintf("%s[%d]", key, i)
			if raw := children.Node().Raw; raw.Length > 0 {
				l.at[at] = p.Shape(raw).Start.Line
			}
			l.value(p, at, children.Node(), count)
		}
	}
}

// path joins the parts of an expression's key to table, notes the line of
// each, and returns the whole. A part that names an array of tables means its
// last table, unless count is nil.
func (l *lines) path(p *unstable.Parser, table string, e *unstable.Node, count map[string]int) string {
	path := table
	for it := e.Key(); it.Next(); {
		part := it.Node()
		path = join(path, string(part.Data))
		line := p.Shape(part.Raw).Start.Line
		if l.at[path] == 0 || it.IsLast() {
			l.at[path] = line
		}
		if n := count[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
	}
	return path
}
