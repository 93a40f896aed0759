package target

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

const (
	// MaxTableRows bounds the objects of one answer.
	MaxTableRows = 1000
	// tableBytes bounds what the objects of one answer may have together, before
	// they are printed.
	tableBytes = 4 << 20
	// keyBytes is where the key, which is in the object too, is cut.
	keyBytes = 256
)

// TableRowsQuery asks for some objects of one ETS table.
type TableRowsQuery struct {
	Node     string
	Table    string        // name or id: my_table, My.Table, #Ref<0.1.2.3>
	Match    string        // a literal with _ and '$1', Erlang or Elixir; empty for all
	Key      string        // a literal; empty for all
	After    []byte        // Next of the page before; nil for the first
	Limit    int           // objects, at most MaxTableRows; default 100
	MaxBytes int           // where each printed object is cut; default 4096
	Syntax   string        // of literals and answers: auto (by what the node runs), erlang, elixir
	Timeout  time.Duration // 0 means Config.CallTimeout
}

// TableRows is a page of a table.
type TableRows struct {
	Node    string
	Table   Table
	Rows    []KeyValue // Key: the printed key; Value: the printed object
	Scanned uint64     // objects that were looked at for this page
	Next    []byte     // for After of the next page; nil at the end
}

// TableRows reads a page of a table. Objects are chosen and cut on the target.
// Without a lock on the table, which nobody could take back if we were lost, an
// object that is written meanwhile may be shown twice or not at all.
func (m *Manager) TableRows(ctx context.Context, q TableRowsQuery) (TableRows, error) {
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return TableRows{}, err
	}
	q.Limit = min(cmpOr(q.Limit, 100), MaxTableRows)
	o := printOptions(ctx, t, link, InspectQuery{MaxBytes: q.MaxBytes, Elixir: q.Syntax == "elixir", ElixirGuess: q.Syntax != "erlang"})
	spec, err := q.spec(ctx, t, link, o)
	if err != nil {
		return TableRows{}, err
	}
	reply, err := t.companionWalk(ctx, link, tablesModule, "read", spec)
	var remote *node.CallError
	switch {
	case errors.Is(err, errNoAgent):
		return TableRows{}, noHelper(link, "read table "+q.Table, "objects are chosen and cut by it")
	case errors.As(err, &remote) && remote.Class == node.ClassSignal:
		return TableRows{}, hint(fmt.Errorf("read table %s of %s: its objects need more memory than the helper may take: %w", q.Table, link.Name(), err),
			"a smaller --limit or one --key may do")
	case err != nil:
		return TableRows{}, err
	}
	page, err := t.parseTableRows(ctx, link, q, o, reply)
	t.cost.rows(len(page.Rows))
	return page, err
}

func cmpOr(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// spec is the question in the helper's terms.
func (q TableRowsQuery) spec(ctx context.Context, t *target, link *node.Peer, o etf.PrintOptions) (etf.Map, error) {
	var names etf.List
	for _, name := range tableNames(q.Table) {
		names = append(names, etf.Binary(name))
	}
	key, err := literal("key", q.Key, q.Syntax, o.Syntax, link)
	if err != nil {
		return nil, err
	}
	match, err := literal("match", q.Match, q.Syntax, o.Syntax, link)
	if err != nil {
		return nil, err
	}
	return etf.Map{
		{Key: etf.Atom("table"), Value: names},
		{Key: etf.Atom("key"), Value: key},
		{Key: etf.Atom("match"), Value: match},
		{Key: etf.Atom("cursor"), Value: etf.Binary(q.After)},
		{Key: etf.Atom("limit"), Value: etf.Int(t.most(q.Limit))},
		{Key: etf.Atom("bytes"), Value: etf.Int(min(o.MaxBytes, tableBytes/q.Limit))},
		{Key: etf.Atom("time"), Value: etf.Int(timeLeft(ctx).Milliseconds() / 2)},
		{Key: etf.Atom("share"), Value: etf.Int(t.m.budget().Share)},
	}, nil
}

func timeLeft(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return time.Minute
	}
	return max(0, time.Until(end))
}

// tableNames are what the helper looks for, the likeliest first.
func tableNames(s string) []string {
	if id, ok := strings.CutPrefix(s, "#Reference<"); ok {
		return []string{"#Ref<" + id}
	}
	if strings.HasPrefix(s, "#Ref<") {
		return []string{s}
	}
	return registeredNames(s)
}

// literal encodes a term that a person wrote, as {term, Bin}, or is none. The
// target decodes it without making atoms.
func literal(what, s, syntax string, guess etf.Syntax, link *node.Peer) (etf.Term, error) {
	if s == "" {
		return etf.Atom("none"), nil
	}
	other := etf.Erlang
	if guess == etf.Erlang {
		other = etf.Elixir
	}
	term, err := parseLiteral(what, s, guess)
	if err != nil && (syntax == "" || syntax == "auto") {
		if second, otherErr := parseLiteral(what, s, other); otherErr == nil {
			term, err = second, nil
		}
	}
	if err != nil {
		return nil, hint(fmt.Errorf("read %s %.80q: %w: %w", what, s, ErrBadQuery, err), "it is a literal of %s, such as %s", guess, exampleLiteral(what, guess))
	}
	if _, ok := term.(etf.Tuple); what == "match" && !ok && !etf.Equal(term, etf.Atom("_")) {
		return nil, hint(fmt.Errorf("read match %.80q: %w: objects are tuples, and this is none", s, ErrBadQuery), "such as %s", exampleLiteral(what, guess))
	}
	b, err := etf.Encode(located(term, etf.Atom(link.Name()), link.Creation()))
	if err != nil {
		return nil, fmt.Errorf("read %s %.80q: %w: %w", what, s, ErrBadQuery, err)
	}
	return etf.Tuple{etf.Atom("term"), etf.Binary(b)}, nil
}

func parseLiteral(what, s string, syntax etf.Syntax) (etf.Term, error) {
	if what == "match" {
		s = quoteWildcards(s, syntax)
	}
	return etf.Parse(s, syntax)
}

func exampleLiteral(what string, syntax etf.Syntax) string {
	switch {
	case what == "key" && syntax == etf.Elixir:
		return `{:user, 17} or "name"`
	case what == "key":
		return `{user, 17} or <<"name">>`
	case syntax == etf.Elixir:
		return `{:_, :"$1", %{state: :open}}`
	}
	return `{_, '$1', #{state => open}}`
}

// quoteWildcards has the variable _ of a pattern read as the atom '_', which is
// what a match specification has.
func quoteWildcards(s string, syntax etf.Syntax) string {
	quoted, char := "'_'", byte('$')
	if syntax == etf.Elixir {
		quoted, char = ":_", '?'
	}
	word := func(c byte) bool {
		return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || c == '@'
	}
	var b strings.Builder
	quote := byte(0) // that we are in
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0:
			if c == '\\' && i+1 < len(s) {
				b.WriteByte(c)
				i++
				c = s[i]
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == char && i+1 < len(s) && (i == 0 || !word(s[i-1])): // a character
			b.WriteByte(c)
			i++
			c = s[i]
		case c == '_' && (i == 0 || !word(s[i-1]) && s[i-1] != ':') && (i+1 == len(s) || !word(s[i+1])):
			b.WriteString(quoted)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// located has pids, ports and references without a node belong to a node.
func located(t etf.Term, self etf.Atom, creation uint32) etf.Term {
	here := func(node *etf.Atom, at *uint32) {
		if *node == "" || *node == self {
			*node, *at = self, creation
		}
	}
	all := func(list []etf.Term) []etf.Term {
		out := make([]etf.Term, len(list))
		for i, e := range list {
			out[i] = located(e, self, creation)
		}
		return out
	}
	switch t := t.(type) {
	case etf.Pid:
		here(&t.Node, &t.Creation)
		return t
	case etf.Port:
		here(&t.Node, &t.Creation)
		return t
	case etf.Ref:
		here(&t.Node, &t.Creation)
		return t
	case etf.Tuple:
		return etf.Tuple(all(t))
	case etf.List:
		return etf.List(all(t))
	case etf.ImproperList:
		return etf.ImproperList{Elems: all(t.Elems), Tail: located(t.Tail, self, creation)}
	case etf.Map:
		out := make(etf.Map, len(t))
		for i, p := range t {
			out[i] = etf.Pair{Key: located(p.Key, self, creation), Value: located(p.Value, self, creation)}
		}
		return out
	}
	return t
}

// parseTableRows reads {ok, Row, [{Object, Cut}], Scanned, Cursor} or {refused, Why}.
func (t *target) parseTableRows(ctx context.Context, link *node.Peer, q TableRowsQuery, o etf.PrintOptions, reply etf.Term) (TableRows, error) {
	r, ok := reply.(etf.Tuple)
	if ok && len(r) == 2 && atom(r[0]) == "refused" {
		return TableRows{}, tableRefused(link, q, r[1])
	}
	if !ok || len(r) != 5 || atom(r[0]) != "ok" {
		return TableRows{}, fmt.Errorf("read table %s of %s: got %s", q.Table, link.Name(), printed(reply))
	}
	row, okRow := r[1].(etf.Tuple)
	objects, okObjects := tupleRows(r[2], 2)
	next, okNext := r[4].(etf.Binary)
	if !okRow || len(row) != 13 || !okObjects || !okNext {
		return TableRows{}, fmt.Errorf("read table %s of %s: got %s", q.Table, link.Name(), printed(reply))
	}
	out := TableRows{Node: link.Name(), Table: tableRow(row), Scanned: count(r[3])}
	if len(next) > 0 {
		out.Next = next
	}
	keys := o
	keys.MaxBytes = min(keys.MaxBytes, keyBytes)
	for _, entry := range objects {
		kv := KeyValue{}
		kv.Value, kv.Truncated = etf.FormatCut(entry[0], o)
		kv.Truncated = kv.Truncated || truth(entry[1])
		if e, ok := entry[0].(etf.Tuple); ok && out.Table.KeyPos >= 1 && out.Table.KeyPos <= uint64(len(e)) {
			kv.Key = etf.Format(e[out.Table.KeyPos-1], keys)
		}
		out.Rows = append(out.Rows, kv)
	}
	owners := t.newOwners()
	owners.add(row[2], &out.Table.OwnerName)
	return out, owners.resolve(ctx, link)
}

// tableRefused says why a table was not read.
func tableRefused(link *node.Peer, q TableRowsQuery, why etf.Term) error {
	tried := fmt.Sprintf("read table %s of %s", q.Table, link.Name())
	switch atom(why) {
	case "no_table":
		return hint(fmt.Errorf("%s: %w", tried, ErrNoTable), "`debughost ets %s` lists those that there are", link.Name())
	case "private":
		return hint(fmt.Errorf("%s: %w", tried, ErrPrivate), "only its owner may read it; `debughost state` shows what the owner tells")
	case "atom":
		return hint(fmt.Errorf("%s: %w: the key or the pattern has an atom that the node does not know, so that nothing matches", tried, ErrBadQuery), "is it spelt right? Elixir modules are Elixir.My.Module in Erlang")
	case "cursor":
		return hint(fmt.Errorf("%s: %w: the table cannot be read with this pattern or from this place", tried, ErrBadQuery), "begin again, without --after")
	}
	if e, ok := why.(etf.Tuple); ok && len(e) == 2 && atom(e[0]) == "several" {
		ids, _ := etf.Elements(e[1])
		var texts []string
		for _, id := range ids {
			texts = append(texts, text(id))
		}
		return hint(fmt.Errorf("%s: %w: several unnamed tables have this name", tried, ErrBadQuery), "give the id: %s", strings.Join(texts, " or "))
	}
	return fmt.Errorf("%s: got %s", tried, printed(why))
}
