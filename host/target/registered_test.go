package target_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// namesOf asks all targets of the rig.
func (r *rig) namesOf(t testing.TB, q target.NamesQuery) (map[string]target.Names, []target.NodeError) {
	names, failed := map[string]target.Names{}, []target.NodeError{}
	r.Names(t.Context(), q, target.Answers[target.Names]{
		Answer: func(node string, n target.Names) { names[node] = n },
		Failed: func(f target.NodeError) { failed = append(failed, f) },
	})
	return names, failed
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, never := range []bool{false, true} {
		for _, otp := range erltest.Releases() {
			name := otp
			if never {
				name += " without the helper"
			}
			t.Run(name, func(t *testing.T) {
				b := erltest.Borrow(t, otp)
				b.MustEval(t, `register('Elixir.My.Worker', spawn(fun() -> receive stop -> ok end end))`)
				r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
				all, failed := r.namesOf(t, target.NamesQuery{})
				require.Empty(t, failed)
				names := all[b.Name]
				assert.Equal(t, len(names.Names), names.Total)
				byName := map[string]target.Name{}
				for _, n := range names.Names {
					byName[n.Name] = n
				}
				pid, err := b.Eval(`pid_to_list(whereis(code_server))`)
				require.NoError(t, err)
				assert.Equal(t, pid, `"`+byName["code_server"].Pid+`"`)
				assert.Equal(t, "process", byName["Elixir.My.Worker"].Kind)
				if !never {
					assert.Equal(t, "supervisor:kernel/1", byName["kernel_sup"].InitialCall, "what runs behind proc_lib, on every release")
					assert.NotZero(t, byName["code_server"].Memory)
				}
				all, _ = r.namesOf(t, target.NamesQuery{Filter: "my.WORK", Limit: 1})
				require.Len(t, all[b.Name].Names, 1)
				assert.Equal(t, "Elixir.My.Worker", all[b.Name].Names[0].Name)
				all, _ = r.namesOf(t, target.NamesQuery{Limit: 2})
				assert.Len(t, all[b.Name].Names, 2)
				assert.Greater(t, all[b.Name].Total, 2)

				_, failed = r.namesOf(t, target.NamesQuery{Ask: target.Ask{Nodes: []string{b.Name, "none"}}})
				require.Len(t, failed, 1)
				assert.ErrorIs(t, failed[0].Err, target.ErrNoTarget)

				r.stop()
				b.Await(t, agents, unloaded)
			})
		}
	}
}

// What is left of a companion whose removal was cut short goes with the helper: old
// code, which is in no list of modules.
func TestOldCompanionGoes(t *testing.T) {
	t.Parallel()
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, nil, b)
		_, failed := r.namesOf(t, target.NamesQuery{})
		require.Empty(t, failed)
		b.MustEval(t, `[M] = [M || {M, _} <- code:all_loaded(), lists:prefix("debughost_agent_", atom_to_list(M)), string:find(atom_to_list(M), "_names_") =/= nomatch], true = code:delete(M)`)
		r.stop()
		b.Await(t, agents, unloaded)
	})
}
