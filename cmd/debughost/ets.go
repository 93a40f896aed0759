package main

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// tableJSON is an ETS table in JSON; its keys are a contract.
type tableJSON struct {
	Node             string `json:"node"`
	Name             string `json:"name"`
	ID               string `json:"id"`
	Owner            string `json:"owner"`
	OwnerName        string `json:"owner_name"`
	Type             string `json:"type"`
	Protection       string `json:"protection"`
	Size             uint64 `json:"size"`
	Memory           uint64 `json:"memory"`
	Heir             string `json:"heir"`
	Named            bool   `json:"named"`
	KeyPos           uint64 `json:"keypos"`
	Compressed       bool   `json:"compressed"`
	ReadConcurrency  bool   `json:"read_concurrency"`
	WriteConcurrency string `json:"write_concurrency"`
}

func tableRowJSON(t *controlpb.EtsTable) tableJSON {
	return tableJSON{
		Node: t.GetNode(), Name: t.GetName(), ID: t.GetId(), Owner: t.GetOwner(), OwnerName: t.GetOwnerName(), Type: t.GetType(),
		Protection: t.GetProtection(), Size: t.GetSize(), Memory: t.GetMemory(), Heir: t.GetHeir(), Named: t.GetNamed(),
		KeyPos: t.GetKeypos(), Compressed: t.GetCompressed(), ReadConcurrency: t.GetReadConcurrency(), WriteConcurrency: t.GetWriteConcurrency(),
	}
}

// etsFlags are those of both forms of the command.
type etsFlags struct {
	list  controlpb.ListTablesRequest
	read  controlpb.ReadTableRequest
	limit uint32
	after string
}

// rowFlags and listFlags make sense for one form of the command only.
var (
	rowFlags  = []string{"match", "key", "after", "max-bytes", "syntax"}
	listFlags = []string{"sort", "filter"}
)

func (a *app) etsCommand() *cobra.Command {
	f := &etsFlags{}
	cmd := &cobra.Command{
		Use:   "ets [NODE…] | ets NODE --table TABLE | ets NODE TABLE",
		Short: "Show the ETS tables of nodes, or what is in one",
		Long: `Show the ETS tables of the nodes that are named, or of all; or rows of one table.

Of two arguments the second is a table if it has no @ in it; --table names one for
certain. A table is named as in Erlang or Elixir, or by its id, as #Ref<0.1.2.3>. Rows are chosen and cut on the node. --match takes a
literal tuple in Erlang or Elixir with _ and '$1', --key a literal. Where there are
more rows, or the time is over, the command tells the --after that goes on. Nothing
is locked in between: a row that is written meanwhile may come twice or not at all.
A private table can be read by its owner only.

memory is in bytes, without the binaries of more than 64 bytes that rows refer to.`,
		Example: `  debughost ets shop@db1
  debughost ets --sort size --limit 10
  debughost ets shop@db1 My.Cache --limit 20
  debughost ets shop@db1 My.Cache --match "{_, #{state => open}}"
  debughost ets shop@db1 My.Cache --key ':orders' -o json`,
		ValidArgsFunction: a.completeTable,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, table, rows, err := f.chosen(cmd, args)
			if err != nil {
				return err
			}
			if !rows {
				f.list.Nodes, f.list.Limit, f.list.Timeout = args, f.limit, a.targetTimeout()
				return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error { return a.ets(ctx, c, &f.list) })
			}
			f.read.Node, f.read.Table, f.read.Timeout = node, table, a.targetTimeout()
			f.read.Limit = min(f.limit, 1000)
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error { return a.etsRows(ctx, c, &f.read) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.list.Sort, "sort", "memory", "of tables: memory, size or name")
	fl.StringVar(&f.list.Filter, "filter", "", "only tables whose name contains this, in upper or lower case")
	fl.StringVar(&f.read.Table, "table", "", "the table whose rows to show")
	fl.Uint32Var(&f.limit, "limit", 100, "tables of each node (0 for 10000), or rows of the table (at most 1000)")
	fl.StringVar(&f.read.Match, "match", "", "only rows like this tuple, such as {_, '$1', #{state => open}}")
	fl.StringVar(&f.read.Key, "key", "", "only rows with this key")
	fl.StringVar(&f.after, "after", "", "where to go on, as the page before told")
	fl.Uint32Var(&f.read.MaxBytes, "max-bytes", 4096, "where each printed row is cut")
	fl.StringVar(&f.read.Syntax, "syntax", "auto", "of rows, --match and --key: auto, erlang or elixir")
	complete(cmd, "sort", "memory", "size", "name")
	complete(cmd, "syntax", "auto", "erlang", "elixir")
	return cmd
}

func (a *app) ets(ctx context.Context, c *control.Client, req *controlpb.ListTablesRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Tables.ListTables(ctx, req)
	if err != nil {
		return err
	}
	l := listing[tableJSON]{
		plural: "ets", errors: res.GetErrors(), answered: len(res.GetTotals()), note: "no table matches",
		header: []string{"node", "name", "id", "owner", "owner_name", "type", "protection", "size", "memory", "heir", "named", "keypos", "compressed", "read_concurrency", "write_concurrency"},
		csv: func(t tableJSON) []string {
			return []string{t.Node, t.Name, t.ID, t.Owner, t.OwnerName, t.Type, t.Protection, decimal(t.Size), decimal(t.Memory), t.Heir,
				strconv.FormatBool(t.Named), decimal(t.KeyPos), strconv.FormatBool(t.Compressed), strconv.FormatBool(t.ReadConcurrency), t.WriteConcurrency}
		},
		grid: []column{
			{name: "node", least: 12, dull: true}, {name: "name", least: 16}, {name: "id", least: 16, dull: true}, {name: "type", spare: 2}, {name: "protection", spare: 3},
			{name: "size", right: true}, {name: "memory", right: true}, {name: "owner", spare: 1}, {name: "owner_name", least: 12},
		},
		cells: func(t tableJSON) []string {
			id := t.ID
			if t.Named {
				id = "" // its name is enough
			}
			return []string{t.Node, short(t.Name), id, t.Type, t.Protection, decimal(t.Size), size(t.Memory), t.Owner, short(t.OwnerName)}
		},
	}
	shown := map[string]uint64{}
	for _, t := range res.GetTables() {
		shown[t.GetNode()]++
		l.rows = append(l.rows, tableRowJSON(t))
	}
	slices.SortStableFunc(l.rows, func(a, b tableJSON) int {
		switch req.GetSort() {
		case "name":
			return cmp.Compare(a.Name, b.Name)
		case "size":
			return cmp.Compare(b.Size, a.Size)
		}
		return cmp.Compare(b.Memory, a.Memory)
	})
	err = printListing(a, l)
	a.noteTotals("tables", res.GetTotals(), shown)
	return err
}

// noteTotals tells of nodes that have more than is shown.
func (a *app) noteTotals(what string, totals []*controlpb.NodeTotal, shown map[string]uint64) {
	for _, t := range totals {
		if n := shown[t.GetNode()]; t.GetTotal() > n {
			a.note("%s has %d such %s, %d are shown: --limit shows more", sane(t.GetNode()), t.GetTotal(), what, n)
		}
	}
}
