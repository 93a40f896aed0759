package target_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

func (r *rig) mnesia(t testing.TB, q target.MnesiaQuery) map[string]target.Mnesia {
	t.Helper()
	all, failed := answers(func(out target.Answers[target.Mnesia]) { r.Mnesia(t.Context(), q, out) })
	require.Empty(t, failed)
	return all
}

func TestMnesia(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, otp string, never bool) {
		one := erltest.Start(t, erltest.Options{OTP: otp, Cookie: "same"})
		two := erltest.Start(t, erltest.Options{OTP: otp, Cookie: "same", Args: []string{"-mnesia", "dir", `"` + t.TempDir() + `"`}})
		r := attach(t, func(c *target.Config) { c.AgentNever = never }, one, two)
		assert.Equal(t, target.Mnesia{State: "absent"}, r.mnesia(t, target.MnesiaQuery{})[one.Name], "a node without Mnesia is no error")

		two.MustEval(t, fmt.Sprintf(`begin pong = net_adm:ping('%s'), mnesia:create_schema([node()]) end`, one.Name))
		for _, b := range []*erltest.Beam{one, two} {
			require.Equal(t, "ok", b.MustEval(t, "mnesia:start()"))
		}
		two.MustEval(t, fmt.Sprintf(`begin {ok, _} = mnesia:change_config(extra_db_nodes, ['%s']),
			{atomic, ok} = mnesia:create_table('Elixir.My.Orders', [{ram_copies, ['%s', node()]}, {type, bag}]),
			{atomic, ok} = mnesia:create_table(archive, [{disc_only_copies, [node()]}]),
			{atomic, ok} = mnesia:create_table(kept, [{disc_copies, [node()]}]),
			[mnesia:dirty_write({'Elixir.My.Orders', N, x}) || N <- lists:seq(1, 100)], mnesia:dirty_write({archive, 1, x}) end`, one.Name, one.Name))
		all := r.mnesia(t, target.MnesiaQuery{})
		byName := map[string]target.MnesiaTable{}
		for _, table := range all[two.Name].Tables {
			byName[table.Name] = table
		}
		assert.Equal(t, "yes", all[two.Name].State)
		assert.ElementsMatch(t, []string{one.Name, two.Name}, all[two.Name].DBNodes)
		assert.Empty(t, all[two.Name].Missing())
		assert.NotEmpty(t, all[two.Name].Directory)
		assert.Equal(t, 4, all[two.Name].Total, "three and the schema")
		orders := byName["Elixir.My.Orders"]
		assert.Equal(t, uint64(100), orders.Size)
		assert.Equal(t, two.MustEval(t, "mnesia:table_info('Elixir.My.Orders', memory) * 8"), fmt.Sprint(orders.Memory))
		assert.Equal(t, "bag ram_copies local", orders.Type+" "+orders.Storage+" "+orders.LoadState)
		assert.ElementsMatch(t, []target.MnesiaCopy{{Node: one.Name, Storage: "ram_copies"}, {Node: two.Name, Storage: "ram_copies"}}, orders.Copies)
		archive := byName["archive"]
		assert.Equal(t, "disc_only_copies", archive.Storage)
		assert.Equal(t, uint64(1), archive.Size)
		assert.Equal(t, two.MustEval(t, "mnesia:table_info(archive, memory)"), fmt.Sprint(archive.Memory))
		for _, table := range all[one.Name].Tables {
			if table.Name == "kept" {
				assert.Equal(t, "unknown remote "+two.Name, table.Storage+" "+table.LoadState+" "+table.ReadFrom)
			}
		}
		assert.Len(t, r.mnesia(t, target.MnesiaQuery{Limit: 1})[one.Name].Tables, 1)

		two.MustEval(t, "mnesia:stop()")
		// The other one hears of it by a message, and has it done by a process.
		one.Await(t, "mnesia:system_info(running_db_nodes) =:= [node()] andalso mnesia:table_info(kept, where_to_read)", "nowhere")
		all = r.mnesia(t, target.MnesiaQuery{})
		assert.Equal(t, target.Mnesia{State: "no"}, all[two.Name])
		assert.Equal(t, []string{two.Name}, all[one.Name].Missing())
		for _, table := range all[one.Name].Tables {
			if table.Name == "kept" {
				assert.Equal(t, "unavailable", table.LoadState)
			}
		}
		r.stop()
		one.Await(t, agents, unloaded)
	})
}
