package target

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// mnesiaItems are what is asked of each table, in the order of plainMnesiaRows.
var mnesiaItems = []etf.Atom{"type", "storage_type", "size", "memory", "where_to_read", "ram_copies", "disc_copies", "disc_only_copies"}

// plainMnesiaRows makes the rows that the helper would, with one call an item.
func (t *target) plainMnesiaRows(ctx context.Context, link *node.Peer, names []etf.Term, wordSize uint64) (etf.List, error) {
	info := etf.Export{Module: "mnesia", Function: "table_info", Arity: 2}
	values := make([][]etf.Term, len(mnesiaItems))
	for i, item := range mnesiaItems {
		items := make(etf.List, len(names))
		for j := range items {
			items[j] = item
		}
		reply, err := t.call(ctx, link, "lists", "zipwith", info, etf.List(names), items)
		if err != nil {
			return nil, err
		}
		var ok bool
		if values[i], ok = etf.Elements(reply); !ok || len(values[i]) != len(names) {
			return nil, fmt.Errorf("list Mnesia's tables of %s: got %s", link.Name(), printed(reply))
		}
	}
	rows := make(etf.List, len(names))
	for j, name := range names {
		memory := count(values[3][j])
		if atom(values[1][j]) != "disc_only_copies" {
			memory *= wordSize
		}
		storage := values[1][j]
		if ext, ok := storage.(etf.Tuple); ok && len(ext) == 3 {
			storage = ext[1]
		}
		var copies etf.List
		for i := 5; i < len(mnesiaItems); i++ {
			copies = append(copies, etf.Tuple{mnesiaItems[i], values[i][j]})
		}
		rows[j] = etf.Tuple{name, values[0][j], storage, values[2][j], etf.Int(memory), copies, values[4][j], etf.Atom("unknown")}
	}
	return rows, nil
}

func sortAtoms(list []etf.Term) {
	slices.SortFunc(list, func(a, b etf.Term) int { return cmp.Compare(atom(a), atom(b)) })
}
