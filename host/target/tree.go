package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"fmt"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/tree.erl
var treeSource []byte

//go:embed agent/tree.beam
var treeBeam []byte

var treeModule = newCompanion("tree", treeSource, treeBeam)

const (
	// MaxTree bounds the processes of one tree.
	MaxTree = 30_000
	// MaxTreeDepth bounds how deep a tree is read.
	MaxTreeDepth = 100
	// supervisorTime is how long one supervisor is waited for.
	supervisorTime = 500 * time.Millisecond
)

// TreeQuery asks for the supervision tree of one application, or of all.
type TreeQuery struct {
	Node     string
	App      string // empty means all that run
	Depth    int    // levels of supervisors; default and at most MaxTreeDepth
	Children int    // of each supervisor; default and at most MaxTree
	// Supervised leaves out the processes of an application that are not in its
	// tree: finding them is a walk over all processes of the node.
	Supervised bool
	Timeout    time.Duration
}

// TreeNode is an entry of a supervision tree: the node itself, an application, or
// a process.
type TreeNode struct {
	Name string // registered name, else the label, else the id as it prints
	ID   string // of the child specification, in the target's syntax; empty for children without one
	Pid  string // empty where it does not run
	// Type is node, application, supervisor, worker, or process for one that
	// nobody supervises.
	Type         string
	Restart      string // of a child: permanent, transient, temporary; of an application: its start type
	Shutdown     string // milliseconds, brutal_kill or infinity
	Module       string // the callback module as the specification names it, or dynamic
	InitialCall  string // mod:fun/arity
	Parent       string // of an unsupervised process: who started it
	Unsupervised bool

	Status          string // as process_info has it; restarting, terminated or remote where there is no local process
	Memory          uint64 // bytes
	MessageQueueLen uint64
	CurrentFunction string

	Strategy  string // of a supervisor, as the following
	Intensity uint64 // restarts within Period that it survives
	Period    uint64 // seconds
	Recent    uint64 // restarts within the last Period
	// Restarts is how often this debughost saw another process in this place than
	// when it looked before; of children without an id of their own, nothing is known.
	Restarts uint64
	Total    uint64 // children that there are
	// Problem is why children are missing: timeout (it did not answer), depth,
	// too_large, noproc, starting, not_a_supervisor.
	Problem string

	Children []*TreeNode
}

// Cut is how many children are not shown.
func (n *TreeNode) Cut() uint64 {
	shown := uint64(0)
	for _, c := range n.Children {
		if !c.Unsupervised {
			shown++
		}
	}
	return n.Total - min(n.Total, shown)
}

// Tree reads a supervision tree. A supervisor that does not answer costs its own
// branch.
func (m *Manager) Tree(ctx context.Context, q TreeQuery) (*TreeNode, error) {
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return nil, err
	}
	if err := t.pace(ctx, link); err != nil {
		return nil, err
	}
	if !q.Supervised {
		if err := t.walks.enter(ctx); err != nil {
			return nil, t.noRoom(ctx, link)
		}
		defer t.walks.leave()
	}
	began := time.Now()
	reply, err := t.companionCall(ctx, link, treeModule, "tree", t.treeSpec(ctx, q))
	t.rhythm.walked(began, time.Now())
	if err == errNoAgent {
		return nil, needsHelper("read the supervision tree", link, "supervisors are asked on the node, each within its own time")
	}
	if err != nil {
		return nil, err
	}
	elixir := printOptions(ctx, t, link, InspectQuery{MaxBytes: 300, ElixirGuess: true})
	r := &treeReader{rows: t.rows(link), print: elixir, self: link.Name(), bad: fmt.Errorf("read the supervision tree of %s: got %s", link.Name(), printed(reply))}
	root, err := r.read(reply, q, link)
	if err != nil {
		return nil, err
	}
	t.cost.rows(root.rows())
	t.restarts.look(root, link.Creation(), q.App)
	return root, nil
}

// rows is how many processes are in the tree.
func (n *TreeNode) rows() int {
	sum := 1
	for _, c := range n.Children {
		sum += c.rows()
	}
	return sum
}

// treeSpec is the query as the companion reads it. What time is left there is a
// little less than here, so that a part of the tree is better than none.
func (t *target) treeSpec(ctx context.Context, q TreeQuery) etf.Term {
	bound := func(n, most int) etf.Term {
		if n <= 0 || n > most {
			n = most
		}
		return etf.Int(n)
	}
	left := time.Minute
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	left -= min(left/5, time.Second)
	var app etf.Term = etf.Atom("all")
	if q.App != "" {
		app = etf.Binary(q.App)
	}
	loose := etf.Atom("true")
	if q.Supervised {
		loose = "false"
	}
	return etf.Map{
		{Key: etf.Atom("app"), Value: app},
		{Key: etf.Atom("depth"), Value: bound(q.Depth, MaxTreeDepth)},
		{Key: etf.Atom("children"), Value: bound(q.Children, MaxTree)},
		{Key: etf.Atom("rows"), Value: etf.Int(t.most(MaxTree))},
		{Key: etf.Atom("each"), Value: etf.Int(min(supervisorTime, left/2) / time.Millisecond)},
		{Key: etf.Atom("until"), Value: etf.Int(left / time.Millisecond)},
		{Key: etf.Atom("unsupervised"), Value: loose},
		{Key: etf.Atom("share"), Value: etf.Int(t.walkShare())},
	}
}

// treeReader makes a tree of the rows that the companion sends.
type treeReader struct {
	rows  *rowReader
	print etf.PrintOptions
	self  string // the target's name
	bad   error
}

// read reads {ok, [{App, Master | [], StartType, [Row], {Total, [Row]}}]}.
func (r *treeReader) read(reply etf.Term, q TreeQuery, link *node.Peer) (*TreeNode, error) {
	answer, ok := reply.(etf.Tuple)
	if !ok || len(answer) != 2 {
		return nil, r.bad
	}
	if atom(answer[0]) == "error" {
		if atom(answer[1]) == "not_running" {
			return nil, hint(fmt.Errorf("read the tree of %s on %s: %w: it is loaded and does not run", q.App, link.Name(), ErrNoApp), "`debughost apps %s` tells the state of each", link.Name())
		}
		return nil, unknownApp(q.App, link)
	}
	apps, ok := etf.Elements(answer[1])
	if !ok {
		return nil, r.bad
	}
	root := &TreeNode{Name: r.self, Type: "node", Total: uint64(len(apps))}
	for _, a := range apps {
		app, err := r.app(a)
		if err != nil {
			return nil, err
		}
		root.Children = append(root.Children, app)
	}
	if q.App != "" {
		if len(root.Children) != 1 {
			return nil, r.bad
		}
		return root.Children[0], nil
	}
	return root, nil
}

func (r *treeReader) app(t etf.Term) (*TreeNode, error) {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 5 {
		return nil, r.bad
	}
	app := &TreeNode{Name: atom(e[0]), Pid: r.pid(e[1]), Type: "application", Restart: atom(e[2])}
	rows, ok := etf.Elements(e[3])
	loose, okLoose := e[4].(etf.Tuple)
	if !ok || !okLoose || len(loose) != 2 || len(rows) > MaxTree {
		return nil, r.bad
	}
	path := []*TreeNode{app} // to the row that was read last
	for _, row := range rows {
		n, depth, err := r.row(row)
		if err != nil {
			return nil, err
		}
		if depth < 1 || depth > len(path) {
			return nil, r.bad
		}
		if n.Type == "" { // the application's own trouble
			app.Problem = n.Problem
			continue
		}
		path = append(path[:depth], n)
		path[depth-1].Children = append(path[depth-1].Children, n)
	}
	app.Total = uint64(len(app.Children))
	others, ok := etf.Elements(loose[1])
	if !ok || len(others) > MaxTree {
		return nil, r.bad
	}
	for _, row := range others {
		n, _, err := r.row(row)
		if err != nil {
			return nil, err
		}
		n.Unsupervised = true
		app.Children = append(app.Children, n)
	}
	if total := count(loose[0]); total > uint64(len(others)) {
		app.Total += total - uint64(len(others))
	}
	return app, nil
}

// row reads {Depth, Id, Pid, Type, Restart, Shutdown, Module, Info, Sup}.
func (r *treeReader) row(t etf.Term) (*TreeNode, int, error) {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 9 {
		return nil, 0, r.bad
	}
	n := &TreeNode{Pid: r.pid(e[2]), Type: atom(e[3]), Restart: atom(e[4]), Shutdown: atom(e[5]), Module: atom(e[6])}
	if ms, ok := e[5].(etf.Int); ok {
		n.Shutdown = fmt.Sprint(ms)
	}
	if e[1] != etf.Term(etf.Atom("undefined")) && !isEmpty(e[1]) {
		n.ID = etf.Format(e[1], r.print)
		n.Name = n.ID
		if a, ok := e[1].(etf.Atom); ok {
			n.Name = string(a)
		}
	}
	r.info(n, e[2], e[7])
	if s, ok := e[8].(etf.Tuple); ok && len(s) == 7 {
		n.Strategy, n.Intensity, n.Period, n.Recent = atom(s[0]), count(s[1]), count(s[2]), count(s[3])
		n.Total, n.Problem = count(s[4]), atom(s[6])
		if n.Pid == "" && n.Status != "restarting" {
			n.Type = ""
		}
	}
	return n, int(count(e[0])), nil
}

// info reads {Name | [], Memory, QueueLen, Status, MFA, MFA, Label | [], Parent}.
func (r *treeReader) info(n *TreeNode, pid, t etf.Term) {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 8 {
		switch p := pid.(type) {
		case etf.Pid:
			n.Status = "terminated" // since the supervisor answered
			if string(p.Node) != r.self {
				n.Status = "remote"
			}
		default:
			n.Status = "terminated"
			if atom(pid) == "restarting" {
				n.Status = "restarting"
			}
		}
		return
	}
	if !isEmpty(e[6]) {
		n.Name = etf.Format(e[6], r.print)
	}
	if name, ok := e[0].(etf.Atom); ok {
		n.Name = string(name)
	}
	n.Memory, n.MessageQueueLen, n.Status = count(e[1]), count(e[2]), atom(e[3])
	n.CurrentFunction, n.InitialCall = r.rows.mfa(e[4]), r.rows.mfa(e[5])
	if n.Type == "process" {
		n.Parent = r.pid(e[7])
	}
}

func isEmpty(t etf.Term) bool {
	list, ok := etf.Elements(t)
	return ok && len(list) == 0
}

// pid writes a pid, and remembers that it was shown.
func (r *treeReader) pid(t etf.Term) string {
	p, ok := t.(etf.Pid)
	if !ok {
		return ""
	}
	if string(p.Node) == r.self {
		r.rows.note(p)
	}
	return pidText(p)
}
