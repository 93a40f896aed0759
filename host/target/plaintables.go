package target

import (
	"cmp"
	"slices"

	"github.com/debughost/debughost/erl/etf"
)

// plainTable is a table that plain calls told of.
type plainTable struct {
	Table
	owner etf.Term
}

// plainTableRow reads what ets:info/1 says; a table that is gone has no id.
func plainTableRow(t etf.Term, wordSize uint64) plainTable {
	p := pairs(t)
	id, ok := p["id"]
	if !ok {
		return plainTable{}
	}
	return plainTable{Table: Table{
		Name: atom(p["name"]), ID: refText(id), Owner: identifier(p["owner"]), Type: atom(p["type"]),
		Protection: atom(p["protection"]), Size: count(p["size"]), Memory: count(p["memory"]) * wordSize,
		Heir: identifier(p["heir"]), Named: truth(p["named_table"]), KeyPos: count(p["keypos"]),
		Compressed: truth(p["compressed"]), ReadConcurrency: truth(p["read_concurrency"]), WriteConcurrency: atom(p["write_concurrency"]),
	}, owner: p["owner"]}
}

// refText writes a reference as its own node does.
func refText(t etf.Term) string {
	r, ok := t.(etf.Ref)
	if !ok {
		return ""
	}
	return etf.Format(r, etf.PrintOptions{Node: r.Node})
}

func rankPlainTables(rows []plainTable, sort string) {
	slices.SortStableFunc(rows, func(a, b plainTable) int {
		switch sort {
		case TablesByName:
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
		case TablesBySize:
			return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
		}
		return cmp.Or(cmp.Compare(b.Memory, a.Memory), cmp.Compare(a.Name, b.Name))
	})
}
