package target

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

func TestQuoteWildcards(t *testing.T) {
	for in, want := range map[string]string{
		"{_, a}":                "{'_', a}",
		"_":                     "'_'",
		"{_a, a_, a_b, 'x_ _'}": "{_a, a_, a_b, 'x_ _'}",
		`{"_ \" _", _}`:         `{"_ \" _", '_'}`,
		`{$_, $", _}`:           `{$_, $", '_'}`,
		"{a@_, [_|_]}":          "{a@_, ['_'|'_']}",
		"é_":                    "é_",
		`"\`:                    `"\`,
	} {
		assert.Equal(t, want, quoteWildcards(in, etf.Erlang), in)
	}
	for in, want := range map[string]string{
		"{_, :_, :a_}":     "{:_, :_, :a_}",
		`{:"$1", ?_, "_"}`: `{:"$1", ?_, "_"}`,
		"%{a: _}":          "%{a: :_}",
	} {
		assert.Equal(t, want, quoteWildcards(in, etf.Elixir), in)
	}
}

func TestLocated(t *testing.T) {
	const self = etf.Atom("shop@db1")
	away := etf.Pid{Node: "cart@db2", ID: 1, Creation: 3}
	in := etf.Tuple{
		etf.Pid{ID: 1}, etf.Port{ID: 2}, etf.Ref{Len: 1}, away, etf.Int(1),
		etf.List{etf.Pid{Node: self}}, etf.ImproperList{Elems: []etf.Term{etf.Int(1)}, Tail: etf.Pid{}}, etf.Map{{Key: etf.Pid{}, Value: etf.Pid{}}},
	}
	here := etf.Pid{Node: self, Creation: 7}
	assert.Equal(t, etf.Tuple{
		etf.Pid{Node: self, ID: 1, Creation: 7}, etf.Port{Node: self, ID: 2, Creation: 7}, etf.Ref{Node: self, Len: 1, Creation: 7}, away, etf.Int(1),
		etf.List{here}, etf.ImproperList{Elems: []etf.Term{etf.Int(1)}, Tail: here}, etf.Map{{Key: here, Value: here}},
	}, located(in, self, 7))
	assert.Equal(t, etf.Pid{}, in[6].(etf.ImproperList).Tail, "the term itself stays as it is")
}

// A node may answer anything: what is not an answer is an error.
func TestResourceRepliesThatAreNone(t *testing.T) {
	link, tt := &node.Peer{}, &target{}
	ctx := context.Background()
	row := func(n int) etf.Tuple { return make(etf.Tuple, n) }
	ok := etf.Atom("ok")
	for _, reply := range []etf.Term{
		nil, ok, etf.Tuple{}, etf.Tuple{etf.Int(1), ok}, etf.Tuple{etf.Int(1), etf.List{ok}}, etf.Tuple{etf.Int(1), etf.List{row(3)}},
		etf.Tuple{etf.Atom("ok"), ok, ok, ok, ok}, etf.Tuple{etf.Atom("ok"), row(13), etf.List{ok}, ok, etf.Binary{}},
		etf.Tuple{etf.Atom("yes"), ok, ok, ok, ok, ok}, etf.Tuple{etf.Atom("yes"), ok, ok, ok, ok, etf.List{row(1)}},
		etf.Tuple{etf.Atom("refused"), row(2)},
	} {
		_, err := tt.parseTables(ctx, link, reply)
		assert.ErrorContains(t, err, "got")
		_, err = tt.parseTimers(ctx, link, reply)
		assert.ErrorContains(t, err, "got")
		_, err = tt.parseGroups(ctx, link, reply)
		assert.ErrorContains(t, err, "got")
		_, err = tt.parseTableRows(ctx, link, TableRowsQuery{}, etf.PrintOptions{}, reply)
		assert.ErrorContains(t, err, "got")
		_, err = parseMnesia(link, reply)
		assert.ErrorContains(t, err, "got")
	}
	// Rows of the right width, with nothing in them, are empty rows.
	assert.Equal(t, Port{}, portRow(row(14)))
	assert.Equal(t, Table{}, tableRow(row(13)))
	assert.Empty(t, groupKey(ok, etf.PrintOptions{}))
	assert.Equal(t, "abc…", groupKey(etf.Tuple{etf.Atom("text"), etf.Binary("abc")}, etf.PrintOptions{}))
	assert.Empty(t, plainTableRow(etf.Atom("undefined"), 8).ID)
	kind, protocol := portKind("sctp_inet", 0)
	assert.Equal(t, "sctp sctp", kind+" "+protocol)
	for syntax, example := range map[etf.Syntax]string{etf.Erlang: "{user, 17}", etf.Elixir: "{:user, 17}"} {
		assert.Contains(t, exampleLiteral("key", syntax), example)
		_, err := parseLiteral("match", exampleLiteral("match", syntax), syntax)
		assert.NoError(t, err)
	}
	assert.Equal(t, time.Minute, timeLeft(ctx))
}
