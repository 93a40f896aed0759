package control

import (
	"cmp"
	"context"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

const (
	maxLiteral = 16 << 10 // of a key or a pattern
	maxCursor  = 4 << 10  // of a place in a table
)

// tablesService tells the tables of nodes.
type tablesService struct {
	controlpb.UnimplementedTablesServer
	ask Questions
}

func (s *tablesService) ListTables(ctx context.Context, req *controlpb.ListTablesRequest) (*controlpb.ListTablesResponse, error) {
	const tried = "list tables"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	switch {
	case err != nil:
		return nil, err
	case len(req.GetFilter()) > maxText:
		return nil, badRequest(tried, "the filter is longer than %d bytes", maxText)
	case req.GetLimit() > target.MaxTables:
		return nil, badRequest(tried, "%d tables of each node are wanted, %d may be", req.GetLimit(), target.MaxTables)
	}
	switch req.GetSort() {
	case "", target.TablesByMemory, target.TablesBySize, target.TablesByName:
	default:
		return nil, badRequest(tried, "sort %q is none of memory, size, name", req.GetSort())
	}
	res := &controlpb.ListTablesResponse{}
	s.ask.Tables(ctx, target.TablesQuery{Ask: ask, Sort: req.GetSort(), Filter: req.GetFilter(), Limit: int(req.GetLimit())},
		answersTo(&res.Errors, func(node string, tables target.Tables) {
			res.Totals = append(res.Totals, totalPB(node, uint64(tables.Total)))
			for _, t := range tables.Tables {
				res.Tables = append(res.Tables, tablePB(node, t))
			}
		}))
	return unlessGivenUp(ctx, tried, res)
}

// unlessGivenUp is an answer, unless its caller gave up.
func unlessGivenUp[T any](ctx context.Context, tried string, res *T) (*T, error) {
	if err := ctx.Err(); err != nil {
		return nil, describe(tried, err)
	}
	return res, nil
}

func totalPB(node string, n uint64) *controlpb.NodeTotal {
	return &controlpb.NodeTotal{Node: clean(node), Total: n}
}

func tablePB(node string, t target.Table) *controlpb.EtsTable {
	return &controlpb.EtsTable{
		Node: clean(node), Name: clean(t.Name), Id: clean(t.ID), Owner: clean(t.Owner), OwnerName: clean(t.OwnerName),
		Type: clean(t.Type), Protection: clean(t.Protection), Size: t.Size, Memory: t.Memory, Heir: clean(t.Heir),
		Named: t.Named, Keypos: t.KeyPos, Compressed: t.Compressed, ReadConcurrency: t.ReadConcurrency,
		WriteConcurrency: clean(t.WriteConcurrency),
	}
}

func (s *tablesService) ReadTable(ctx context.Context, req *controlpb.ReadTableRequest) (*controlpb.ReadTableResponse, error) {
	tried := "read table " + clean(req.GetTable()) + " of " + clean(req.GetNode())
	q, err := tableRowsQuery(tried, req)
	if err != nil {
		return nil, err
	}
	page, err := s.ask.TableRows(ctx, q)
	if err != nil {
		return nil, describe(tried, err)
	}
	b := &budget{left: maxDetail}
	return &controlpb.ReadTableResponse{
		Table: tablePB(page.Node, page.Table), Rows: entriesPB(b, "rows", page.Rows), Scanned: page.Scanned, Next: page.Next,
	}, nil
}

func tableRowsQuery(tried string, req *controlpb.ReadTableRequest) (target.TableRowsQuery, error) {
	q := target.TableRowsQuery{
		Node: req.GetNode(), Table: req.GetTable(), Match: req.GetMatch(), Key: req.GetKey(), After: req.GetAfter(),
		Limit: int(req.GetLimit()), MaxBytes: int(req.GetMaxBytes()), Syntax: req.GetSyntax(),
	}
	if err := checkNode(tried, q.Node); err != nil {
		return q, err
	}
	switch q.Syntax {
	case "", "auto", "erlang", "elixir":
	default:
		return q, badRequest(tried, "syntax %q is none of auto, erlang, elixir", q.Syntax)
	}
	switch {
	case q.Table == "" || len(q.Table) > 4*255:
		return q, badRequest(tried, "it names no table")
	case max(len(q.Match), len(q.Key)) > maxLiteral:
		return q, badRequest(tried, "the key or the pattern is longer than %d bytes", maxLiteral)
	case len(q.After) > maxCursor:
		return q, badRequest(tried, "after is no place in a table")
	case req.GetLimit() > target.MaxTableRows:
		return q, badRequest(tried, "%d rows are wanted, %d may be", req.GetLimit(), target.MaxTableRows)
	case req.GetMaxBytes() > MaxBytes:
		return q, badRequest(tried, "rows of %d bytes are wanted, %d may be", req.GetMaxBytes(), MaxBytes)
	}
	// Printed, a page must fit into an answer.
	q.MaxBytes = min(q.MaxBytes, maxDetail/2/cmp.Or(q.Limit, 100))
	var err error
	q.Timeout, err = duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	return q, err
}

func (s *tablesService) ListMnesia(ctx context.Context, req *controlpb.ListMnesiaRequest) (*controlpb.ListMnesiaResponse, error) {
	const tried = "list Mnesia's tables"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	switch {
	case err != nil:
		return nil, err
	case req.GetLimit() > target.MaxTables:
		return nil, badRequest(tried, "%d tables of each node are wanted, %d may be", req.GetLimit(), target.MaxTables)
	}
	res := &controlpb.ListMnesiaResponse{}
	s.ask.Mnesia(ctx, target.MnesiaQuery{Ask: ask, Limit: int(req.GetLimit())},
		answersTo(&res.Errors, func(node string, m target.Mnesia) {
			res.Answered = append(res.Answered, clean(node))
			if m.State == "absent" {
				return
			}
			missing := m.Missing()
			res.Instances = append(res.Instances, &controlpb.MnesiaNode{
				Node: clean(node), State: clean(m.State), DbNodes: cleanAll(m.DBNodes), RunningDbNodes: cleanAll(m.Running),
				Missing: cleanAll(missing), Whole: m.State == "yes" && len(missing) == 0, Directory: clean(m.Directory), Total: uint64(m.Total),
			})
			for _, t := range m.Tables {
				res.Tables = append(res.Tables, mnesiaPB(node, t))
			}
		}))
	return unlessGivenUp(ctx, tried, res)
}

func mnesiaPB(node string, t target.MnesiaTable) *controlpb.MnesiaTable {
	out := &controlpb.MnesiaTable{
		Node: clean(node), Table: clean(t.Name), Type: clean(t.Type), Storage: clean(t.Storage), Size: t.Size, Memory: t.Memory,
		LoadState: t.LoadState, ReadFrom: clean(t.ReadFrom), LoadNode: clean(t.LoadNode),
	}
	for _, c := range t.Copies {
		out.Copies = append(out.Copies, &controlpb.MnesiaCopy{Node: clean(c.Node), Storage: clean(c.Storage)})
	}
	return out
}
