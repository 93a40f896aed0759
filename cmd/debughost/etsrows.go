package main

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// chosen decides between the two forms of the command: nodes, or a node and its table.
func (f *etsFlags) chosen(cmd *cobra.Command, args []string) (node, table string, rows bool, err error) {
	changed := func(flags []string) string {
		for _, name := range flags {
			if cmd.Flags().Changed(name) {
				return name
			}
		}
		return ""
	}
	switch {
	case f.read.Table != "":
		if len(args) != 1 {
			return "", "", false, usagef("ets: --table goes with one NODE")
		}
		node, table = args[0], f.read.Table
	case len(args) == 2 && !strings.Contains(args[1], "@"):
		node, table = args[0], args[1]
	default:
		if name := changed(rowFlags); name != "" {
			return "", "", false, usagef("ets: --%s goes with a NODE and a TABLE", name)
		}
		return "", "", false, nil
	}
	if name := changed(listFlags); name != "" {
		return "", "", false, usagef("ets: --%s does not go with a TABLE", name)
	}
	if f.limit > 1000 {
		return "", "", false, usagef("ets: limit %d is more than 1000 rows; --after goes on", f.limit)
	}
	if f.read.After, err = base64.RawURLEncoding.DecodeString(f.after); err != nil {
		return "", "", false, usagef("ets: --after is not what a page told")
	}
	return node, table, true, nil
}

// tableRowsJSON is a page of a table in JSON; its keys are a contract.
type tableRowsJSON struct {
	Table   tableJSON   `json:"table"`
	Rows    []entryJSON `json:"rows"`
	Scanned uint64      `json:"scanned"`
	Next    string      `json:"next"` // for --after; empty at the end
}

func (a *app) etsRows(ctx context.Context, c *control.Client, req *controlpb.ReadTableRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Tables.ReadTable(ctx, req)
	if err != nil {
		return err
	}
	page := tableRowsJSON{
		Table: tableRowJSON(res.GetTable()), Rows: entryRows(res.GetRows()), Scanned: res.GetScanned(),
		Next: base64.RawURLEncoding.EncodeToString(res.GetNext()),
	}
	switch a.output {
	case asJSON:
		return writeJSON(a.out, page)
	case asCSV:
		err = a.writeCSV([]string{"key", "value"}, func(write func(...string) error) error {
			for _, r := range page.Rows {
				if err := write(r.Key, r.Value); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		g := newGrid(column{name: "key", least: 24, tail: true, spare: 1}, column{name: "row", least: 60, tail: true})
		for _, r := range page.Rows {
			g.add(r.Key, r.Value)
		}
		if len(page.Rows) > 0 {
			err = a.print(g)
		}
	}
	if err != nil {
		return err
	}
	t := page.Table
	a.note("%s of %s, %s of %s: %s and %s in all, %d looked at, %d shown",
		sane(short(t.Name)), sane(t.Node), t.Protection, sane(short(t.OwnerName)), plural(t.Size, "row"), size(t.Memory), page.Scanned, len(page.Rows))
	if page.Next != "" {
		a.note("it goes on with --after %s", page.Next)
	}
	return nil
}

// completeTable offers nodes, and for the second argument tables of the first too.
func (a *app) completeTable(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	out, directive := a.completeNodes(-1)(cmd, args, prefix)
	if len(args) == 1 {
		a.ask(cmd, func(ctx context.Context, c *control.Client) error {
			res, err := c.Tables.ListTables(ctx, &controlpb.ListTablesRequest{Nodes: args, Filter: strings.TrimPrefix(prefix, "Elixir."), Limit: 200})
			for _, t := range res.GetTables() {
				for _, name := range []string{t.GetName(), short(t.GetName())} {
					if t.GetNamed() && strings.HasPrefix(name, prefix) {
						out = append(out, cobra.CompletionWithDesc(sane(name), size(t.GetMemory())))
						break
					}
				}
			}
			return err
		})
	}
	return out, directive
}
