package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"strings"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/tables.erl
var tablesSource []byte

//go:embed agent/tables.beam
var tablesBeam []byte

var tablesModule = newCompanion("tables", tablesSource, tablesBeam)

const (
	// MaxTables bounds the ETS tables of one target in one answer.
	MaxTables = 10_000
	// plainTables is how many tables a target may have for plain calls, which
	// fetch what is known of all of them.
	plainTables = 20_000
)

// What ETS tables are ranked by.
const (
	TablesByMemory = "memory"
	TablesBySize   = "size"
	TablesByName   = "name"
)

// TablesQuery asks for ETS tables.
type TablesQuery struct {
	Ask
	Sort   string // TablesByMemory (default) or TablesBySize, highest first; TablesByName
	Filter string // part of the name, case-insensitive
	Limit  int    // tables of each target; default and at most MaxTables
}

// Table is an ETS table.
type Table struct {
	Name             string // Elixir.My.Cache unabridged; several unnamed ones may share it
	ID               string // #Ref<0.1.2.3>
	Owner            string // <0.123.0>
	OwnerName        string // its registered name, else its initial call as mod:fun/arity
	Type             string // set, ordered_set, bag, duplicate_bag
	Protection       string // public, protected, private
	Size             uint64 // objects
	Memory           uint64 // bytes, binaries of more than 64 bytes not included
	Heir             string // <0.123.0>; empty for none
	Named            bool
	KeyPos           uint64
	Compressed       bool
	ReadConcurrency  bool
	WriteConcurrency string // true, false, auto
}

// Tables are some or all ETS tables of a target, in the order asked for.
type Tables struct {
	Tables []Table
	Total  int // that match; more than len(Tables) where the limit cut them
}

// Tables tells the ETS tables of targets.
func (m *Manager) Tables(ctx context.Context, q TablesQuery, out Answers[Tables]) {
	if q.Limit <= 0 || q.Limit > MaxTables {
		q.Limit = MaxTables
	}
	if q.Sort == "" {
		q.Sort = TablesByMemory
	}
	each(ctx, m, q.Ask, 0, out, func(ctx context.Context, t *target, link *node.Peer) (Tables, error) {
		reply, err := t.companionWalk(ctx, link, tablesModule, "tables", etf.Map{
			{Key: etf.Atom("sort"), Value: etf.Atom(q.Sort)},
			{Key: etf.Atom("limit"), Value: etf.Int(t.most(q.Limit))},
			{Key: etf.Atom("text"), Value: etf.Binary(strings.ToLower(q.Filter))},
			{Key: etf.Atom("share"), Value: etf.Int(t.m.budget().Share)},
		})
		if errors.Is(err, errNoAgent) {
			return t.plainTables(ctx, link, q)
		}
		if err != nil {
			return Tables{}, err
		}
		return t.parseTables(ctx, link, reply)
	})
}

// companionWalk is companionCall for what is linear in the target's size: it
// takes one of the target's walks.
func (t *target) companionWalk(ctx context.Context, link *node.Peer, c *companion, function string, args ...etf.Term) (etf.Term, error) {
	if t.m.cfg.AgentNever {
		return nil, errNoAgent
	}
	if err := t.pace(ctx, link); err != nil {
		return nil, err
	}
	if err := t.walks.enter(ctx); err != nil {
		return nil, t.noRoom(ctx, link)
	}
	defer t.walks.leave()
	return t.companionCall(ctx, link, c, function, args...)
}

// parseTables reads {Total, [Row]}.
func (t *target) parseTables(ctx context.Context, link *node.Peer, reply etf.Term) (Tables, error) {
	total, rows, err := totalled(link, "list tables", reply, 13)
	if err != nil {
		return Tables{}, err
	}
	out := Tables{Total: total, Tables: make([]Table, len(rows))}
	owners := t.newOwners()
	for i, r := range rows {
		out.Tables[i] = tableRow(r)
		owners.add(r[2], &out.Tables[i].OwnerName)
	}
	return out, owners.resolve(ctx, link)
}

// totalled reads {Total, [Row]} with rows that are tuples of a size.
func totalled(link *node.Peer, tried string, reply etf.Term, width int) (total int, rows []etf.Tuple, err error) {
	answer, ok := reply.(etf.Tuple)
	if ok && len(answer) == 2 {
		if rows, ok = tupleRows(answer[1], width); ok {
			return int(count(answer[0])), rows, nil
		}
	}
	return 0, nil, fmt.Errorf("%s of %s: got %s", tried, link.Name(), printed(reply))
}

// tupleRows reads a list of tuples that are width wide.
func tupleRows(t etf.Term, width int) ([]etf.Tuple, bool) {
	list, ok := etf.Elements(t)
	if !ok {
		return nil, false
	}
	rows := make([]etf.Tuple, len(list))
	for i, e := range list {
		if rows[i], ok = e.(etf.Tuple); !ok || len(rows[i]) != width {
			return nil, false
		}
	}
	return rows, true
}

// tableRow reads {Name, Id, Owner, Type, Protection, Size, Bytes, Heir, Named,
// Keypos, Compressed, ReadConcurrency, WriteConcurrency}.
func tableRow(r etf.Tuple) Table {
	return Table{
		Name: atom(r[0]), ID: text(r[1]), Owner: identifier(r[2]), Type: atom(r[3]), Protection: atom(r[4]),
		Size: count(r[5]), Memory: count(r[6]), Heir: identifier(r[7]), Named: truth(r[8]), KeyPos: count(r[9]),
		Compressed: truth(r[10]), ReadConcurrency: truth(r[11]), WriteConcurrency: atom(r[12]),
	}
}

func truth(t etf.Term) bool { return atom(t) == "true" }

// plainTables does without the helper: the node sends what it knows of each table.
func (t *target) plainTables(ctx context.Context, link *node.Peer, q TablesQuery) (Tables, error) {
	number, err := t.call(ctx, link, "erlang", "system_info", etf.Atom("ets_count"))
	if err != nil {
		return Tables{}, err
	}
	if n := count(number); n > plainTables {
		return Tables{}, hint(fmt.Errorf("list tables of %s: it has %d, and the helper module that would rank them there is not used on this target", link.Name(), n),
			"[targets] agent allows it")
	}
	wordSize, err := t.call(ctx, link, "erlang", "system_info", etf.Atom("wordsize"))
	if err != nil {
		return Tables{}, err
	}
	all, err := t.call(ctx, link, "ets", "all")
	if err != nil {
		return Tables{}, err
	}
	reply, err := t.call(ctx, link, "lists", "map", etf.Export{Module: "ets", Function: "info", Arity: 1}, all)
	if err != nil {
		return Tables{}, err
	}
	infos, ok := etf.Elements(reply)
	if !ok {
		return Tables{}, fmt.Errorf("list tables of %s: got %s", link.Name(), printed(reply))
	}
	var rows []plainTable
	for _, info := range infos {
		row := plainTableRow(info, count(wordSize))
		if row.ID != "" && strings.Contains(strings.ToLower(row.Name), strings.ToLower(q.Filter)) {
			rows = append(rows, row)
		}
	}
	rankPlainTables(rows, q.Sort)
	out := Tables{Total: len(rows)}
	rows = rows[:min(len(rows), t.most(q.Limit))]
	out.Tables = make([]Table, len(rows))
	owners := t.newOwners()
	for i := range rows {
		out.Tables[i] = rows[i].Table
		owners.add(rows[i].owner, &out.Tables[i].OwnerName)
	}
	return out, owners.resolve(ctx, link)
}
