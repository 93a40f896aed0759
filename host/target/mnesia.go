package target

import (
	"context"
	"errors"
	"fmt"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// MnesiaQuery asks for Mnesia's tables.
type MnesiaQuery struct {
	Ask
	Limit int // tables of each target; default and at most MaxTables
}

// Mnesia is what one target says of Mnesia. A target that does not run it has
// State no, or absent where it is not even loaded.
type Mnesia struct {
	State     string   // yes, no, starting, stopping, absent
	DBNodes   []string // that share the schema
	Running   []string // of them those that the target sees running
	Directory string   // empty where it has none
	Tables    []MnesiaTable
	Total     int // more than len(Tables) where the limit cut them
}

// Missing are the nodes that share the schema and do not run.
func (m Mnesia) Missing() []string {
	running := map[string]bool{}
	for _, n := range m.Running {
		running[n] = true
	}
	var out []string
	for _, n := range m.DBNodes {
		if !running[n] {
			out = append(out, n)
		}
	}
	return out
}

// MnesiaTable is one table as a target sees it. Size and memory are of its own
// copy, and 0 without one.
type MnesiaTable struct {
	Name      string
	Type      string // set, ordered_set, bag
	Storage   string // ram_copies, disc_copies, disc_only_copies, the alias of another backend; unknown: no copy here
	Size      uint64 // records
	Memory    uint64 // bytes
	Copies    []MnesiaCopy
	LoadState string // local, remote: read from another node, unavailable: from nowhere
	ReadFrom  string // node; empty where unavailable
	LoadNode  string // that the copy was loaded from; empty where unknown
}

// MnesiaCopy is a copy of a table.
type MnesiaCopy struct{ Node, Storage string }

// Mnesia tells Mnesia's tables, and whether its cluster is whole.
func (m *Manager) Mnesia(ctx context.Context, q MnesiaQuery, out Answers[Mnesia]) {
	if q.Limit <= 0 || q.Limit > MaxTables {
		q.Limit = MaxTables
	}
	each(ctx, m, q.Ask, 0, out, func(ctx context.Context, t *target, link *node.Peer) (Mnesia, error) {
		reply, err := t.companionCall(ctx, link, tablesModule, "mnesia", etf.Int(t.most(q.Limit)))
		if errors.Is(err, errNoAgent) {
			return t.plainMnesia(ctx, link, q)
		}
		if err != nil {
			return Mnesia{}, err
		}
		return parseMnesia(link, reply)
	})
}

// parseMnesia reads absent | {State, DbNodes, Running, Directory, Total, [Row]}.
func parseMnesia(link *node.Peer, reply etf.Term) (Mnesia, error) {
	if atom(reply) == "absent" {
		return Mnesia{State: "absent"}, nil
	}
	r, ok := reply.(etf.Tuple)
	if !ok || len(r) != 6 {
		return Mnesia{}, fmt.Errorf("list Mnesia's tables of %s: got %s", link.Name(), printed(reply))
	}
	rows, ok := tupleRows(r[5], 8)
	if !ok {
		return Mnesia{}, fmt.Errorf("list Mnesia's tables of %s: got %s", link.Name(), printed(reply))
	}
	out := Mnesia{State: atom(r[0]), DBNodes: atoms(r[1]), Running: atoms(r[2]), Directory: text(r[3]), Total: int(count(r[4]))}
	for _, row := range rows {
		table := MnesiaTable{
			Name: atom(row[0]), Type: atom(row[1]), Storage: atom(row[2]), Size: count(row[3]), Memory: count(row[4]),
			LoadNode: somewhere(row[7]),
		}
		for _, c := range tuples(row[5]) {
			for _, n := range atoms(c[1]) {
				table.Copies = append(table.Copies, MnesiaCopy{Node: n, Storage: atom(c[0])})
			}
		}
		switch from := atom(row[6]); from {
		case "nowhere":
			table.LoadState = "unavailable"
		case link.Name():
			table.LoadState, table.ReadFrom = "local", from
		default:
			table.LoadState, table.ReadFrom = "remote", from
		}
		out.Tables = append(out.Tables, table)
	}
	return out, nil
}

// somewhere is an atom's text, but for what Mnesia says where it does not know.
func somewhere(t etf.Term) string {
	if a := atom(t); a != "unknown" && a != "nowhere" && a != "undefined" {
		return a
	}
	return ""
}

// plainMnesia does without the helper: one call for each item of a few hundred
// tables, and no size of other backends.
func (t *target) plainMnesia(ctx context.Context, link *node.Peer, q MnesiaQuery) (Mnesia, error) {
	loaded, err := t.call(ctx, link, "erlang", "module_loaded", etf.Atom("mnesia"))
	if err != nil || !truth(loaded) {
		return Mnesia{State: "absent"}, err
	}
	system := func(item etf.Atom) etf.Term {
		var reply etf.Term
		if err == nil {
			reply, err = t.call(ctx, link, "mnesia", "system_info", item)
		}
		return reply
	}
	state := system("is_running")
	if err != nil || atom(state) != "yes" {
		return Mnesia{State: atom(state)}, err
	}
	tables := system("tables")
	size, directory := etf.Term(nil), etf.Term(nil)
	nodes, running := system("db_nodes"), system("running_db_nodes")
	if truth(system("use_dir")) {
		directory = system("directory")
	}
	if err == nil {
		size, err = t.call(ctx, link, "erlang", "system_info", etf.Atom("wordsize"))
	}
	if err != nil {
		return Mnesia{}, err
	}
	names, ok := etf.Elements(tables)
	if !ok {
		return Mnesia{}, fmt.Errorf("list Mnesia's tables of %s: got %s", link.Name(), printed(tables))
	}
	total := len(names)
	sortAtoms(names)
	names = names[:min(total, t.most(q.Limit))]
	rows, err := t.plainMnesiaRows(ctx, link, names, count(size))
	if err != nil {
		return Mnesia{}, err
	}
	return parseMnesia(link, etf.Tuple{etf.Atom("yes"), nodes, running, etf.Binary(text(directory)), etf.Int(total), rows})
}
