package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/debughost/debughost/erl/etf"
)

//go:embed agent/ties.erl
var tiesSource []byte

//go:embed agent/ties.beam
var tiesBeam []byte

var tiesModule = newCompanion("ties", tiesSource, tiesBeam)

// Bounds of a graph.
const (
	MaxGraphDepth = 10
	MaxGraphNodes = 2000
	// graphWide is how many links, and how many monitors, of one process are
	// followed.
	graphWide = 100
)

// GraphQuery asks for the processes that one is tied to.
type GraphQuery struct {
	Node    string
	Process string // as in InspectQuery
	Depth   int    // links and monitors to follow one after the other; default 1
	Limit   int    // processes; default 200
	Timeout time.Duration
}

// Graph is what one process is linked to and monitors, some steps away.
type Graph struct {
	Node    string
	Nodes   []GraphNode // the process itself first, then those nearer to it
	Edges   []GraphEdge
	LeftOut uint64 // links and monitors that are not shown, as far as they were seen
}

// GraphNode is a process, port or name in a graph.
type GraphNode struct {
	ID              string // pid, port or name, with @ and its node where that is another one
	Ref             ProcessRef
	Label           string
	Step            int // how many links and monitors away; -1 for one that was not looked at
	Memory          uint64
	MessageQueueLen uint64
}

// GraphEdge says that a process is linked to another, which goes both ways, or
// monitors it.
type GraphEdge struct {
	From, To string // IDs
	Kind     string // link or monitor
}

// Graph follows links and monitors from one process.
func (m *Manager) Graph(ctx context.Context, q GraphQuery) (Graph, error) {
	q.Depth = min(orDefault(q.Depth, 1), MaxGraphDepth)
	q.Limit = min(orDefault(q.Limit, 200), MaxGraphNodes)
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return Graph{}, err
	}
	pid, err := t.process(ctx, link, q.Process, false)
	if err != nil {
		return Graph{}, err
	}
	tried := fmt.Sprintf("show what %s on %s is tied to", pidText(pid), link.Name())
	reply, err := t.companionCall(ctx, link, tiesModule, "graph", pid, etf.Int(q.Depth), etf.Int(q.Limit), etf.Int(graphWide))
	if err != nil {
		return Graph{}, t.otpError(tried, err)
	}
	rows, ok := etf.Elements(reply)
	if !ok {
		return Graph{}, fmt.Errorf("%s: got %s", tried, printed(reply))
	}
	if len(rows) == 0 {
		return Graph{}, hint(fmt.Errorf("%s: %w: it has ended", tried, ErrNoProcess), "`debughost ps %s` lists those that are alive", link.Name())
	}
	g := &grapher{in: &inspection{t: t, link: link, self: link.Name()}, calls: t.rows(link), at: map[string]int{}, seen: map[GraphEdge]bool{}}
	for _, row := range rows {
		if err := g.node(row); err != nil {
			return Graph{}, fmt.Errorf("%s: %w", tried, err)
		}
	}
	for _, row := range rows {
		g.edges(row.(etf.Tuple), q.Limit)
	}
	g.out.Node = link.Name()
	return g.out, nil
}

// grapher puts a graph together.
type grapher struct {
	in    *inspection
	calls *rowReader
	at    map[string]int // where a node is in out.Nodes, by ID
	seen  map[GraphEdge]bool
	out   Graph
}

// node reads {Pid, Step, Name, Call, Label, Memory, Len, Left, Links, Monitors, By}.
func (g *grapher) node(t etf.Term) error {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 11 {
		return fmt.Errorf("got %s", printed(t))
	}
	if _, ok := e[0].(etf.Pid); !ok {
		return fmt.Errorf("got %s", printed(t))
	}
	n := GraphNode{Ref: g.in.ref(e[0]), Step: int(min(count(e[1]), MaxGraphDepth)), Label: text(e[4]), Memory: count(e[5]), MessageQueueLen: count(e[6])}
	n.Ref.RegisteredName, n.Ref.InitialCall = atom(e[2]), g.calls.mfa(e[3])
	g.out.LeftOut += count(e[7])
	g.add(n)
	return nil
}

// add adds a node unless it is there, and returns its ID.
func (g *grapher) add(n GraphNode) string {
	n.ID = n.Ref.Pid
	if n.ID == "" {
		n.ID = n.Ref.RegisteredName
	}
	if n.Ref.Node != "" {
		n.ID += "@" + n.Ref.Node
	}
	if _, ok := g.at[n.ID]; !ok {
		g.at[n.ID] = len(g.out.Nodes)
		g.out.Nodes = append(g.out.Nodes, n)
	}
	return n.ID
}

// edges adds the links and monitors of one process. A neighbour for which there
// is no room is left out.
func (g *grapher) edges(e etf.Tuple, limit int) {
	self := g.in.ref(e[0]).Pid
	for i, list := range []etf.Term{e[8], e[9], e[10]} {
		ties, _ := etf.Elements(list)
		for _, tie := range ties {
			ref := g.in.ref(tie)
			if ref.Kind == "" {
				continue
			}
			if ref.Kind == "name" && ref.Node == "" {
				ref.Pid = g.named(ref.RegisteredName)
			}
			if len(g.out.Nodes) >= limit+limit/2 && !g.known(ref) {
				g.out.LeftOut++
				continue
			}
			edge := GraphEdge{From: self, To: g.add(GraphNode{Ref: ref, Step: -1}), Kind: "monitor"}
			switch {
			case i == 0:
				edge.Kind = "link"
				if edge.From > edge.To { // the same from either end
					edge.From, edge.To = edge.To, edge.From
				}
			case i == 2:
				edge.From, edge.To = edge.To, edge.From
			}
			if !g.seen[edge] {
				g.seen[edge] = true
				g.out.Edges = append(g.out.Edges, edge)
			}
		}
	}
}

// named is the pid of a registered process of the graph, or empty.
func (g *grapher) named(name string) string {
	if i := slices.IndexFunc(g.out.Nodes, func(n GraphNode) bool { return n.Ref.RegisteredName == name && n.Ref.Node == "" }); i >= 0 {
		return g.out.Nodes[i].Ref.Pid
	}
	return ""
}

func (g *grapher) known(ref ProcessRef) bool {
	id := ref.Pid
	if id == "" {
		id = ref.RegisteredName
	}
	if ref.Node != "" {
		id += "@" + ref.Node
	}
	_, ok := g.at[id]
	return ok
}

// HeldBinary is an off-heap binary that a process refers to.
type HeldBinary struct {
	Size  uint64 // bytes
	RefC  uint64 // how many refer to it on the whole node
	Times uint64 // how often this process does
}

// mostBinaries is how many of the largest binaries of a process are shown.
const mostBinaries = 10

// binaries adds what binaries a process refers to, and the largest of them.
func (in *inspection) binaries(ctx context.Context) {
	reply, err := in.t.companionCall(ctx, in.link, tiesModule, "binaries", in.pid, etf.Int(mostBinaries))
	switch {
	case errors.Is(err, errNoAgent):
		in.missing("binaries", "they are summed up by the helper module, which is not used on this target")
		return
	case err != nil:
		in.missing("binaries", err)
		return
	}
	e, ok := reply.(etf.Tuple)
	if !ok || len(e) != 3 {
		return // it has ended
	}
	in.out.Binaries, in.out.BinaryBytes = count(e[0]), count(e[1])
	rows, _ := etf.Elements(e[2])
	for _, row := range rows {
		if b, ok := row.(etf.Tuple); ok && len(b) == 3 {
			in.out.LargestBinaries = append(in.out.LargestBinaries, HeldBinary{count(b[0]), count(b[1]), count(b[2])})
		}
	}
}
