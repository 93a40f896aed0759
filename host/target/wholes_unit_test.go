package target

import (
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// A node may answer anything: that is an error, never a panic.
func TestAnswersOfWholesThatMakeNoSense(t *testing.T) {
	link := &node.Peer{}
	ok, none := etf.Atom("ok"), etf.List{}
	app := func(rows, loose etf.Term) etf.Term {
		return etf.Tuple{ok, etf.List{etf.Tuple{etf.Atom("shop"), none, ok, rows, loose}}}
	}
	row := func(depth int) etf.Term {
		return etf.Tuple{etf.Int(depth), ok, etf.Atom("restarting"), etf.Atom("worker"), ok, ok, ok, none, none}
	}
	loose := etf.Tuple{etf.Int(0), none}
	r := &treeReader{rows: &rowReader{mfas: map[mfa]string{}, note: func(etf.Pid) {}}, bad: errors.New("bad"), self: "n@h"}
	for _, reply := range []etf.Term{
		ok, etf.Tuple{ok}, etf.Tuple{ok, ok}, etf.Tuple{ok, etf.List{ok}}, app(ok, loose), app(none, ok), app(none, etf.Tuple{ok, ok}),
		app(etf.List{ok}, loose), app(etf.List{row(2)}, loose), app(etf.List{row(0)}, loose), app(none, etf.Tuple{ok, etf.List{ok}}),
	} {
		_, err := r.read(reply, TreeQuery{}, link)
		assert.Error(t, err, "%v", reply)
	}
	_, err := r.read(etf.Tuple{ok, none}, TreeQuery{App: "shop"}, link)
	assert.Error(t, err)
	root, err := r.read(app(etf.List{
		row(1),
		etf.Tuple{etf.Int(1), ok, etf.Pid{Node: "other@h"}, etf.Atom("worker"), ok, ok, ok, none, none},
		etf.Tuple{etf.Int(1), ok, etf.Pid{Node: "n@h"}, etf.Atom("worker"), ok, ok, ok, none, none},
	}, etf.Tuple{etf.Int(7), none}), TreeQuery{App: "shop"}, link)
	require.NoError(t, err)
	var status []string
	for _, c := range root.Children {
		status = append(status, c.Status)
	}
	assert.Equal(t, []string{"restarting", "remote", "terminated"}, status)
	assert.EqualValues(t, 7, root.Cut())
	trouble := etf.Tuple{etf.Int(1), none, etf.Atom("undefined"), etf.Atom("supervisor"), none, none, none, none,
		etf.Tuple{none, etf.Int(0), etf.Int(0), etf.Int(0), etf.Int(0), etf.Int(0), etf.Atom("starting")}}
	root, err = r.read(app(etf.List{trouble}, loose), TreeQuery{App: "shop"}, link)
	require.NoError(t, err)
	assert.Equal(t, "starting", root.Problem)
	assert.Empty(t, root.Children)

	for _, reply := range []etf.Term{ok, etf.Tuple{ok, ok}, etf.Tuple{ok, etf.List{ok}}} {
		_, err := parseApps(link, reply)
		assert.Error(t, err, "%v", reply)
	}
	_, err = parseSystem(link, ok)
	assert.Error(t, err)
	s, err := parseSystem(link, etf.Map{
		{Key: etf.Atom("window"), Value: etf.Int(-1)}, {Key: etf.Atom("schedulers"), Value: etf.Int(1 << 40)},
		{Key: etf.Atom("schedulers_online"), Value: etf.Int(1 << 40)}, {Key: etf.Atom("dirty_cpu_schedulers"), Value: etf.Int(1 << 40)},
		{Key: etf.Atom("schedulers_busy"), Value: etf.List{etf.Tuple{etf.Int(1), etf.Int(5), etf.Int(0)}}},
		{Key: etf.Atom("limits"), Value: etf.List{ok, etf.Tuple{ok, etf.Int(1), etf.Int(0)}}}, {Key: etf.Atom("counters"), Value: etf.List{ok}},
		{Key: etf.Atom("nodes"), Value: etf.List{ok}}, {Key: etf.Atom("memory"), Value: etf.List{ok}}, {Key: ok, Value: ok},
	})
	require.NoError(t, err)
	assert.Equal(t, []float64{1}, s.Busy)
	assert.Empty(t, s.Limits)
	assert.Empty(t, s.Nodes)
}

// Children that share an id are in no place of their own, nor is what is below them.
func TestRestartBookOfSameIDs(t *testing.T) {
	var b restartBook
	for range 3 {
		tree := &TreeNode{}
		for _, pid := range []string{"<0.1.0>", "<0.2.0>", "<0.3.0>"} {
			tree.Children = append(tree.Children, &TreeNode{ID: "same", Pid: pid, Children: []*TreeNode{{ID: "below", Pid: pid + "1"}}})
		}
		b.look(tree, 1, "shop")
		for _, c := range tree.Children {
			assert.Zero(t, c.Restarts)
			assert.Zero(t, c.Children[0].Restarts)
		}
	}
	assert.Empty(t, b.places)
}

// Places of a tree are remembered up to a bound, and not beyond the node's life.
func TestRestartBook(t *testing.T) {
	var b restartBook
	tree := func(pid string) *TreeNode {
		return &TreeNode{Children: []*TreeNode{{ID: "a", Pid: pid}, {Pid: pid}, {ID: "x", Pid: pid, Unsupervised: true}}}
	}
	look := func(pid string, creation uint32) uint64 {
		n := tree(pid)
		b.look(n, creation, "shop")
		assert.Zero(t, n.Children[1].Restarts)
		return n.Children[0].Restarts
	}
	assert.EqualValues(t, 0, look("<0.1.0>", 1))
	assert.EqualValues(t, 0, look("<0.1.0>", 1))
	assert.EqualValues(t, 0, look("", 1), "it is down")
	assert.EqualValues(t, 1, look("<0.2.0>", 1))
	assert.EqualValues(t, 2, look("<0.3.0>", 1))
	assert.EqualValues(t, 0, look("<0.4.0>", 2), "another life of the node")
	assert.Len(t, b.places, 1)
	for i := range maxPlaces {
		b.places[strconv.Itoa(i)] = place{}
	}
	n := len(b.places)
	b.look(tree("<0.5.0>"), 2, "other")
	assert.Equal(t, n, len(b.places))
}
