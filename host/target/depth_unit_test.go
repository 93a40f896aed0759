package target

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

func newStateReader() *stateReader {
	return &stateReader{calls: &rowReader{}, print: etf.PrintOptions{Syntax: etf.Erlang, MaxBytes: 100}}
}

// TestStateOfGarbage has a target that answers anything: each is an error.
func TestStateOfGarbage(t *testing.T) {
	info := etf.Tuple{etf.Atom("gen_server"), etf.Atom("m"), etf.Atom("x"), etf.Int(1), etf.Int(2), etf.Atom("waiting"), etf.Int(-1)}
	leaf := etf.Tuple{etf.Atom("atom"), etf.Int(8), etf.Atom("a"), etf.Atom("false"), etf.Int(0), etf.List{}}
	ok := etf.Atom("ok")
	for _, reply := range []etf.Term{
		ok, etf.List{}, etf.Tuple{}, etf.Tuple{ok}, etf.Tuple{etf.Atom("what"), info}, etf.Tuple{etf.Atom("failed"), info}, etf.Tuple{etf.Atom("no_part"), info},
		etf.Tuple{etf.Atom("failed"), info, etf.Binary("bad")}, etf.Tuple{etf.Atom("no_answer"), etf.Tuple{}}, etf.Tuple{etf.Atom("no_system_messages"), ok},
		etf.Tuple{etf.Atom("large"), etf.Int(-1)}, etf.Atom("undefined"),
	} {
		assert.Error(t, newStateReader().refused("show", reply), "%v", reply)
	}
	require.NoError(t, newStateReader().refused("show", etf.Tuple{ok, info, etf.List{}, ok, leaf}))
	part := func(p etf.Term) etf.Term {
		return etf.Tuple{etf.Atom("list"), etf.Int(8), etf.List{}, etf.Atom("false"), etf.Int(1), etf.List{p}}
	}
	for _, reply := range []etf.Term{
		ok,
		etf.Tuple{ok, info},
		etf.Tuple{ok, ok, etf.List{}, ok, leaf},
		etf.Tuple{ok, info, ok, ok, leaf},
		etf.Tuple{ok, info, etf.List{}, ok, ok},
		etf.Tuple{ok, info, etf.List{}, ok, etf.Tuple{ok, ok, ok, ok, ok, ok}},
		etf.Tuple{ok, info, etf.List{}, ok, part(ok)},
		etf.Tuple{ok, info, etf.List{}, ok, part(etf.Tuple{ok, ok, ok})},
	} {
		_, err := newStateReader().state(reply)
		assert.Error(t, err, "%v", reply)
	}
	odd := part(etf.Tuple{ok, leaf, etf.Atom("none")}) // a step that nobody knows
	st, err := newStateReader().state(etf.Tuple{ok, info, etf.List{ok, etf.Int(1)}, etf.Atom("a"), odd})
	require.NoError(t, err)
	assert.Empty(t, st.Path)
	assert.Empty(t, st.Tree.Children[0].Path)
	g := &grapher{calls: &rowReader{}}
	for _, row := range []etf.Term{ok, etf.Tuple{}, etf.Tuple{ok, ok, ok, ok, ok, ok, ok, ok, ok, ok, ok}} {
		assert.Error(t, g.node(row))
	}
}

func TestOTPError(t *testing.T) {
	tg := &target{}
	killed := &node.CallError{Class: node.ClassSignal, Reason: etf.Atom("killed")}
	err := tg.otpError("show it", killed)
	assert.ErrorContains(t, err, "show it: the node ended the helper's worker")
	_, _, advice := err.(*HintError).Facts()
	assert.Contains(t, advice, "--force")
	assert.EqualError(t, tg.otpError("show it", errors.New("x")), "show it: x")
}

func TestAtomsOf(t *testing.T) {
	term := etf.Tuple{etf.Atom("a"), etf.List{etf.Atom("b"), etf.Int(1)}, etf.Map{{Key: etf.Atom("c"), Value: etf.Atom("d")}}, etf.ImproperList{Elems: []etf.Term{etf.Atom("e")}, Tail: etf.Atom("f")}}
	assert.Equal(t, []etf.Atom{"a", "b", "c", "d", "e", "f"}, atomsOf(term, nil))
}

// TestKeyPath writes steps that read back as the key that they are of.
func TestKeyPath(t *testing.T) {
	for _, syntax := range []etf.Syntax{etf.Erlang, etf.Elixir} {
		for _, key := range []etf.Term{
			etf.Atom("name"), etf.Atom("ready?"), etf.Atom("Elixir.My.Mod"), etf.Atom("odd one"), etf.Atom(""), etf.Int(-4), etf.Binary("a\"]b"), etf.Binary{0xff},
			etf.Tuple{etf.Atom("x"), etf.List{etf.Int(1), etf.Binary(")")}}, etf.Float(1.5), etf.String("text"),
		} {
			path := keyPath(key, etf.PrintOptions{Syntax: syntax})
			steps, err := parsePath(path)
			require.NoError(t, err, path)
			require.Len(t, steps, 1, path)
			want, err := etf.Encode(key)
			require.NoError(t, err)
			step := steps[0].(etf.Tuple)
			keys, _ := etf.Elements(step[1])
			assert.Contains(t, keys, etf.Term(etf.Binary(want)), path)
		}
	}
}

func TestUnmarked(t *testing.T) {
	for term, want := range map[string]string{
		"{a,'...'}": "{a,...}", "#{a => 1,'...' => '...'}": "#{a => 1,...}", "%{a: 1, ...: :...}": "%{a: 1, ...}", "[1, :...]": "[1, ...]", "%{1 => 2, :... => :...}": "%{1 => 2, ...}",
	} {
		assert.Equal(t, want, unmarked(term))
	}
	last := markLast(etf.Map{{Key: etf.Atom("..."), Value: etf.Atom("...")}, {Key: etf.Int(1), Value: etf.List{etf.Int(2)}}})
	assert.Equal(t, etf.Map{{Key: etf.Int(1), Value: etf.List{etf.Int(2)}}, {Key: etf.Atom("..."), Value: etf.Atom("...")}}, last)
}

// FuzzParsePath has it read anything without a panic.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{".a[1]{2}#b", `.("x")."y".:"z".My.Mod.-3`, ".(((", `.'`, "[{\"}]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		steps, err := parsePath(s)
		if err == nil && len(steps) == 0 && strings.TrimSpace(s) != "" {
			t.Errorf("%q has no steps", s)
		}
	})
}
