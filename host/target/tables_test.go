package target_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// answers gathers what targets say, by node.
func answers[T any](ask func(target.Answers[T])) (map[string]T, []target.NodeError) {
	all, failed := map[string]T{}, []target.NodeError{}
	ask(target.Answers[T]{
		Answer: func(node string, a T) { all[node] = a },
		Failed: func(f target.NodeError) { failed = append(failed, f) },
	})
	return all, failed
}

// eachWay runs a test on all releases, with the helper and without.
func eachWay(t *testing.T, f func(t *testing.T, otp string, never bool)) {
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		t.Run("with the helper", func(t *testing.T) { f(t, otp, false) })
		t.Run("without", func(t *testing.T) { f(t, otp, true) })
	})
}

// tablesOf asks the one node of a rig.
func (r *rig) tablesOf(t testing.TB, b *erltest.Beam, q target.TablesQuery) target.Tables {
	t.Helper()
	all, failed := answers(func(out target.Answers[target.Tables]) { r.Tables(t.Context(), q, out) })
	require.Empty(t, failed)
	return all[b.Name]
}

// keep starts a process that evaluates expr and then lives on under a name until
// it is told to stop.
func keep(name, expr string) string {
	return fmt.Sprintf(`fun() ->
		Caller = self(),
		{Keeper, Monitor} = spawn_monitor(fun() -> register(%s, self()), %s, Caller ! {self(), ready}, receive stop -> ok end end),
		receive {Keeper, ready} -> demonitor(Monitor, [flush]), ok; {'DOWN', Monitor, _, _, Reason} -> exit(Reason) end
	end()`, name, expr)
}

const someTables = `
	ets:new('Elixir.My.Cache', [named_table, public, ordered_set, {keypos, 2}, {write_concurrency, true}]),
	[ets:insert('Elixir.My.Cache', {user, N, #{state => case N rem 2 of 0 -> open; 1 -> closed end}}) || N <- lists:seq(1, 2500)],
	ets:new(secrets, [named_table, private]), ets:insert(secrets, {password, 1}),
	ets:new(bag, [named_table, duplicate_bag, compressed]), [ets:insert(bag, {K, N}) || K <- [a, b, c], N <- lists:seq(1, 1500)],
	ets:new(twin, [{heir, whereis(init), x}]), ets:insert(ets:new(twin, []), {<<"k">>, "v"}),
	ets:insert(ets:new(big, [named_table]), {1, lists:seq(1, 200000), binary:copy(<<"x">>, 100000)})`

func TestTables(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, otp string, never bool) {
		b := erltest.Borrow(t, otp)
		b.MustEval(t, keep("holder", someTables))
		r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
		all := r.tablesOf(t, b, target.TablesQuery{})
		assert.Equal(t, b.MustEval(t, `length(ets:all())`), fmt.Sprint(all.Total))
		assert.Len(t, all.Tables, all.Total)
		byName := map[string]target.Table{}
		for i, table := range all.Tables {
			byName[table.Name] = table
			if i > 0 {
				assert.GreaterOrEqual(t, all.Tables[i-1].Memory, table.Memory)
			}
		}
		cache := byName["Elixir.My.Cache"]
		assert.Equal(t, b.MustEval(t, `ets:info('Elixir.My.Cache', id)`), cache.ID)
		assert.Equal(t, b.MustEval(t, `whereis(holder)`), cache.Owner)
		assert.Equal(t, b.MustEval(t, `ets:info('Elixir.My.Cache', memory) * erlang:system_info(wordsize)`), fmt.Sprint(cache.Memory))
		cache.ID, cache.Owner, cache.Memory = "", "", 0
		assert.Equal(t, target.Table{Name: "Elixir.My.Cache", OwnerName: "holder", Type: "ordered_set", Protection: "public", Size: 2500,
			Named: true, KeyPos: 2, WriteConcurrency: "true"}, cache)
		assert.Equal(t, "private", byName["secrets"].Protection)
		assert.True(t, byName["bag"].Compressed)

		twins := r.tablesOf(t, b, target.TablesQuery{Filter: "TWIN", Sort: target.TablesByName}).Tables
		require.Len(t, twins, 2)
		assert.False(t, twins[0].Named)
		assert.ElementsMatch(t, []string{"", b.MustEval(t, "whereis(init)")}, []string{twins[0].Heir, twins[1].Heir})

		first := r.tablesOf(t, b, target.TablesQuery{Sort: target.TablesBySize, Limit: 2})
		require.Len(t, first.Tables, 2)
		assert.Equal(t, all.Total, first.Total)
		assert.GreaterOrEqual(t, first.Tables[0].Size, first.Tables[1].Size)
		assert.GreaterOrEqual(t, first.Tables[1].Size, uint64(2500))

		_, failed := answers(func(out target.Answers[target.Tables]) {
			r.Tables(t.Context(), target.TablesQuery{Ask: target.Ask{Nodes: []string{"none"}}}, out)
		})
		require.Len(t, failed, 1)
		assert.ErrorIs(t, failed[0].Err, target.ErrNoTarget)
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

// pages reads a table to its end, and returns its rows and how many pages it took.
func (r *rig) pages(t testing.TB, q target.TableRowsQuery) (rows []target.KeyValue, pages int) {
	t.Helper()
	for {
		page, err := r.TableRows(t.Context(), q)
		require.NoError(t, err)
		rows, pages = append(rows, page.Rows...), pages+1
		if page.Next == nil {
			return rows, pages
		}
		require.NotEqual(t, q.After, page.Next)
		q.After = page.Next
	}
}

func TestTableRows(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		b.MustEval(t, keep("holder", someTables))
		r := attach(t, nil, b)
		q := target.TableRowsQuery{Node: b.Name, Table: "My.Cache", Limit: 700}
		rows, n := r.pages(t, q)
		assert.Equal(t, 4, n)
		require.Len(t, rows, 2500)
		assert.Equal(t, "1", rows[0].Key)
		assert.Equal(t, "{user,2500,#{state => open}}", rows[2499].Value)

		q.Match = "{_, _, #{state => closed}}"
		q.Limit = 1000
		rows, n = r.pages(t, q)
		assert.Equal(t, 2, n)
		assert.Len(t, rows, 1250)
		q.Match = `{:user, :"$1", %{state: :open}}`
		rows, _ = r.pages(t, q)
		assert.Len(t, rows, 1250)
		page, err := r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "My.Cache", Match: "{user, 7, _}", Syntax: "elixir"})
		assert.ErrorIs(t, err, target.ErrBadQuery, "Erlang where Elixir is asked for")
		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "My.Cache", Match: "{user, 7, _}"})
		require.NoError(t, err)
		assert.Equal(t, uint64(1), page.Scanned, "a whole key needs no scan")
		assert.Len(t, page.Rows, 1)
		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "My.Cache", Key: "12"})
		require.NoError(t, err)
		assert.Equal(t, []target.KeyValue{{Key: "12", Value: "{user,12,#{state => open}}"}}, page.Rows)
		assert.Equal(t, "holder", page.Table.OwnerName)

		// The objects of a key are all read at once, and are paged nevertheless.
		rows, _ = r.pages(t, target.TableRowsQuery{Node: b.Name, Table: "bag", Limit: 999})
		assert.Len(t, rows, 4500)
		seen := map[string]bool{}
		for _, row := range rows {
			seen[row.Value] = true
		}
		assert.Len(t, seen, 4500)
		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "bag", Key: "b", Match: "{_, 17}"})
		require.NoError(t, err)
		assert.Equal(t, []target.KeyValue{{Key: "b", Value: "{b,17}"}}, page.Rows)

		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "big", MaxBytes: 200})
		require.NoError(t, err)
		require.Len(t, page.Rows, 1)
		assert.True(t, page.Rows[0].Truncated)
		assert.LessOrEqual(t, len(page.Rows[0].Value), 200)
		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "big", Match: "{_, '...', _}"})
		require.NoError(t, err)
		assert.Empty(t, page.Rows)

		// Unnamed tables by id, or by a name that one of them has.
		twins := r.tablesOf(t, b, target.TablesQuery{Filter: "twin", Sort: target.TablesBySize}).Tables
		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: strings.Replace(twins[0].ID, "#Ref<", "#Reference<", 1)})
		require.NoError(t, err)
		assert.Equal(t, []target.KeyValue{{Key: `<<"k">>`, Value: `{<<"k">>,"v"}`}}, page.Rows)
		_, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "twin"})
		assert.ErrorIs(t, err, target.ErrBadQuery)
		assert.ErrorContains(t, err, "several")
		b.MustEval(t, keep("other", "ets:insert(ets:new(solo, []), {whereis(init)})"))
		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "solo", Key: b.MustEval(t, "whereis(init)")})
		require.NoError(t, err)
		assert.Len(t, page.Rows, 1, "a pid is that of the node")

		for _, c := range []struct {
			q    target.TableRowsQuery
			want error
		}{
			{target.TableRowsQuery{Table: "secrets"}, target.ErrPrivate},
			{target.TableRowsQuery{Table: "none_such_table"}, target.ErrNoTable},
			{target.TableRowsQuery{Table: "#Ref<0.1.2.3>"}, target.ErrNoTable},
			{target.TableRowsQuery{Table: "#Ref<x>"}, target.ErrNoTable},
			{target.TableRowsQuery{Table: "bag", Match: "{no_such_atom_here, _}"}, target.ErrBadQuery},
			{target.TableRowsQuery{Table: "bag", Match: "[a]"}, target.ErrBadQuery},
			{target.TableRowsQuery{Table: "bag", Match: "{_"}, target.ErrBadQuery},
			{target.TableRowsQuery{Table: "bag", Key: "{"}, target.ErrBadQuery},
			{target.TableRowsQuery{Table: "bag", After: []byte("junk")}, target.ErrBadQuery},
			{target.TableRowsQuery{Table: "bag", After: []byte{131, 104, 2, 106, 97, 1}}, target.ErrBadQuery},
		} {
			c.q.Node = b.Name
			_, err := r.TableRows(t.Context(), c.q)
			assert.ErrorIs(t, err, c.want, "%+v", c.q)
		}
		assert.Equal(t, "false", b.MustEval(t, `try binary_to_existing_atom(<<"no_such_", "atom_here">>) of _ -> true catch _:_ -> false end`))

		// The table goes between two pages, and the owner with it.
		page, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "My.Cache", Limit: 10})
		require.NoError(t, err)
		b.MustEval(t, `holder ! stop`)
		b.Await(t, `ets:info('Elixir.My.Cache', id)`, "undefined")
		_, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "My.Cache", Limit: 10, After: page.Next})
		assert.ErrorIs(t, err, target.ErrNoTable)
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

// A page ends when its time does, and the next goes on from there. A scan keeps
// to its share of a scheduler.
func TestTableRowsTakeTime(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	b.MustEval(t, keep("holder", `ets:new(long, [named_table]), [ets:insert(long, {N, no}) || N <- lists:seq(1, 600000)]`))
	r := attach(t, func(c *target.Config) { c.Budget = func() target.Budget { return target.Budget{Share: 1} } }, b)
	q := target.TableRowsQuery{Node: b.Name, Table: "long", Match: "{_, yes}", Timeout: 4 * time.Second}
	b.MustEval(t, "yes")
	first, err := r.TableRows(t.Context(), q)
	require.NoError(t, err)
	assert.Empty(t, first.Rows)
	assert.NotZero(t, first.Scanned)
	assert.Less(t, first.Scanned, uint64(600000))
	require.NotNil(t, first.Next)
	q.After = first.Next
	second, err := r.TableRows(t.Context(), q)
	require.NoError(t, err)
	assert.NotZero(t, second.Scanned)
	assert.NotEqual(t, first.Next, second.Next)
}

// What is too large for the helper costs it its life, and the node nothing.
func TestTableRowsTooLarge(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{Eval: keep("holder", `ets:insert(ets:new(huge, [named_table]), {1, lists:seq(1, 5000000)})`)})
	r := attach(t, nil, b)
	_, err := r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "huge", Timeout: 60 * time.Second})
	assert.ErrorContains(t, err, "more memory")
	assert.NotContains(t, b.Log(), "Max heap")
	page, err := r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "ac_tab"})
	require.NoError(t, err)
	assert.NotEmpty(t, page.Rows, "the next question is answered")
}

// A node that ends while it is asked is an error of its own.
func TestTablesOfEndingNode(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{Eval: keep("holder", `ets:new(long, [named_table]), [ets:insert(long, {N, no}) || N <- lists:seq(1, 600000)]`)})
	r := attach(t, func(c *target.Config) { c.Budget = func() target.Budget { return target.Budget{Share: 1} } }, b)
	asked := make(chan error, 1)
	go func() {
		_, err := r.TableRows(context.Background(), target.TableRowsQuery{Node: b.Name, Table: "long", Match: "{_, yes}", Timeout: 60 * time.Second})
		asked <- err
	}()
	b.Await(t, `length([P || P <- processes(), {_, Stack} <- [process_info(P, current_stacktrace)], lists:any(fun({M, _, _, _}) -> string:find(atom_to_list(M), "_tables_") =/= nomatch end, Stack)])`, "1")
	b.Kill()
	select {
	case err := <-asked:
		assert.Error(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("the question did not end with its node")
	}
}

func TestTableRowsWithoutHelper(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
	_, err := r.TableRows(t.Context(), target.TableRowsQuery{Node: b.Name, Table: "code"})
	var h *target.HintError
	require.ErrorAs(t, err, &h)
	assert.Contains(t, h.Hint, "agent")
	_, err = r.TableRows(t.Context(), target.TableRowsQuery{Node: "none", Table: "code"})
	assert.ErrorIs(t, err, target.ErrNoTarget)
}

// A frozen node costs its own answer.
func TestTablesOfFrozenNode(t *testing.T) {
	t.Parallel()
	frozen, well := erltest.Start(t, erltest.Options{}), erltest.Start(t, erltest.Options{})
	r := attach(t, nil, frozen, well)
	require.NoError(t, frozen.Freeze())
	t.Cleanup(func() { _ = frozen.Thaw() })
	ask := target.Ask{Timeout: 2 * time.Second}
	all, failed := answers(func(out target.Answers[target.Tables]) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r.Tables(ctx, target.TablesQuery{Ask: ask}, out)
	})
	assert.Contains(t, all, well.Name)
	require.Len(t, failed, 1)
	assert.Equal(t, frozen.Name, failed[0].Node)
	assert.ErrorIs(t, failed[0].Err, target.ErrTimeout)
}
