package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// mnesiaJSON is a table of Mnesia in JSON; its keys are a contract.
type mnesiaJSON struct {
	Node      string           `json:"node"`
	Table     string           `json:"table"`
	Type      string           `json:"type"`
	Storage   string           `json:"storage"`
	Size      uint64           `json:"size"`
	Memory    uint64           `json:"memory"`
	Copies    []mnesiaCopyJSON `json:"copies"`
	LoadState string           `json:"load_state"`
	ReadFrom  string           `json:"read_from"`
	LoadNode  string           `json:"load_node"`
}

type mnesiaCopyJSON struct {
	Node    string `json:"node"`
	Storage string `json:"storage"`
}

// mnesiaNodeJSON is how Mnesia is on a node that has it.
type mnesiaNodeJSON struct {
	Node           string   `json:"node"`
	State          string   `json:"state"`
	Whole          bool     `json:"whole"`
	DBNodes        []string `json:"db_nodes"`
	RunningDBNodes []string `json:"running_db_nodes"`
	Missing        []string `json:"missing"`
	Directory      string   `json:"directory"`
	Tables         uint64   `json:"tables"`
}

func (a *app) mnesiaCommand() *cobra.Command {
	req := &controlpb.ListMnesiaRequest{}
	cmd := &cobra.Command{
		Use:   "mnesia [NODE…]",
		Short: "Show Mnesia's tables, and whether its cluster is whole",
		Long: `Show the tables of Mnesia as each node sees them, of the nodes that are named or of
all that run it, and which nodes of its cluster are missing. size and memory are of
the node's own copy. load_state is local where the node reads its own copy, remote
where it reads another node's, unavailable where nobody has the table.`,
		Example: `  debughost mnesia shop@db1
  debughost mnesia -o json | jq '.nodes[] | select(.whole | not)'`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			req.Nodes, req.Timeout = nodes, a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error { return a.mnesia(ctx, c, req) })
		},
	}
	cmd.Flags().Uint32Var(&req.Limit, "limit", 1000, "tables of each node, 0 for 10000")
	return cmd
}

func (a *app) mnesia(ctx context.Context, c *control.Client, req *controlpb.ListMnesiaRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Tables.ListMnesia(ctx, req)
	if err != nil {
		return err
	}
	l := listing[mnesiaJSON]{
		plural: "mnesia", errors: res.GetErrors(), answered: len(res.GetAnswered()),
		header: []string{"node", "table", "type", "storage", "size", "memory", "copies", "load_state", "read_from", "load_node"},
		csv: func(t mnesiaJSON) []string {
			return []string{t.Node, t.Table, t.Type, t.Storage, decimal(t.Size), decimal(t.Memory), copiesText(t.Copies), t.LoadState, t.ReadFrom, t.LoadNode}
		},
		grid: []column{
			{name: "node", least: 12, dull: true}, {name: "table", least: 12}, {name: "type", spare: 2}, {name: "storage"}, {name: "size", right: true},
			{name: "memory", right: true}, {name: "load_state"}, {name: "copies", least: 16, spare: 1},
		},
		cells: func(t mnesiaJSON) []string {
			return []string{t.Node, short(t.Table), t.Type, t.Storage, decimal(t.Size), size(t.Memory), t.LoadState, copiesText(t.Copies)}
		},
	}
	for _, n := range res.GetInstances() {
		l.also = append(l.also, mnesiaNodeJSON{
			Node: n.GetNode(), State: n.GetState(), Whole: n.GetWhole(), DBNodes: append([]string{}, n.GetDbNodes()...),
			RunningDBNodes: append([]string{}, n.GetRunningDbNodes()...), Missing: append([]string{}, n.GetMissing()...),
			Directory: n.GetDirectory(), Tables: n.GetTotal(),
		})
	}
	l.alsoPlural = "nodes"
	shown := map[string]uint64{}
	for _, t := range res.GetTables() {
		shown[t.GetNode()]++
		l.rows = append(l.rows, mnesiaRow(t))
	}
	if len(l.also) == 0 {
		l.note = "no node runs Mnesia"
	}
	err = printListing(a, l)
	for _, n := range res.GetInstances() {
		switch {
		case n.GetState() != "yes":
			a.note("Mnesia does not run on %s (%s)", sane(n.GetNode()), sane(n.GetState()))
		case !n.GetWhole():
			a.note("%s misses %s: Mnesia does not run there, or they cannot see each other", sane(n.GetNode()), sane(strings.Join(n.GetMissing(), ", ")))
		}
		a.noteTotals("tables", []*controlpb.NodeTotal{{Node: n.GetNode(), Total: n.GetTotal()}}, shown)
	}
	return err
}

func mnesiaRow(t *controlpb.MnesiaTable) mnesiaJSON {
	row := mnesiaJSON{
		Node: t.GetNode(), Table: t.GetTable(), Type: t.GetType(), Storage: t.GetStorage(), Size: t.GetSize(), Memory: t.GetMemory(),
		Copies: []mnesiaCopyJSON{}, LoadState: t.GetLoadState(), ReadFrom: t.GetReadFrom(), LoadNode: t.GetLoadNode(),
	}
	for _, c := range t.GetCopies() {
		row.Copies = append(row.Copies, mnesiaCopyJSON{c.GetNode(), c.GetStorage()})
	}
	return row
}

// copiesText names the nodes, and how each keeps the table: shop@db1 (ram), …
func copiesText(copies []mnesiaCopyJSON) string {
	var out []string
	for _, c := range copies {
		out = append(out, c.Node+" ("+strings.TrimSuffix(c.Storage, "_copies")+")")
	}
	return strings.Join(out, ", ")
}
