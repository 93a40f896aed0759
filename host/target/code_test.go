package target_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/host/target"
)

// What is taken of a node is read again by a node as it was: by file:consult, by the
// loader, by binary_to_term; without secrets.
func TestCode(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startTrees(t, otp)
		dir := t.TempDir()
		b.MustEval(t, `ok = application:load({application, shop, [{vsn, "1.2"}, {modules, [shop_a, gone]}, {applications, [kernel, trees]}, {mod, {shop_a, ["ä", 'Ö x']}}]}),
			{ok, _, Beam} = compile:forms([{attribute, 1, module, shop_a}]),
			ok = file:write_file("`+dir+`/shop_a.beam", Beam), true = code:add_path("`+dir+`"),
			Set = fun(K, V) -> application:set_env(shop, K, V) end,
			Set(kept, #{<<"ä"/utf8>> => ["ü", 1.5, -3, 'Ä b', <<1:3>>, [a | b], {}], x => 1 bsl 70}),
			Set(secret_key_base, hush), Set(repo, [{url, "ecto://u:hush@db/x"}]), Set(work, fun() -> ok end), Set(me, [self()])`)
		r := attach(t, nil, b)
		ask := target.Ask{Timeout: 30 * time.Second}
		code, err := r.Code(t.Context(), target.CodeQuery{Ask: ask, Node: b.Name, Apps: []string{"shop"}})
		require.NoError(t, err)
		require.Len(t, code.Apps, 2, "and what it needs, but for OTP's own")
		shop := code.Apps[0]
		assert.Equal(t, []string{"gone", "shop_a"}, shop.Modules)
		assert.Equal(t, "1.2", shop.Version)
		assert.Equal(t, []string{"repo", "secret_key_base"}, shop.Secrets)
		assert.Equal(t, []string{"me", "work"}, shop.Unwritable)
		assert.NotContains(t, string(code.SysConfig), "hush")
		for name, text := range map[string][]byte{"sys": code.SysConfig, "app": shop.File, "start": code.Start} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		}
		consulted := func(name string) string { return `element(2, file:consult("` + filepath.Join(dir, name) + `"))` }
		assert.Equal(t, "true", b.MustEval(t, `[Env] = `+consulted("sys")+`, {ok, Kept} = application:get_env(shop, kept), proplists:get_value(shop, Env) =:= [{kept, Kept}]`))
		assert.Equal(t, `{{shop_a,["ä",'Ö x']},[shop_a,gone],undefined}`, b.MustEval(t, `[{application, shop, Keys}] = `+consulted("app")+`,
			{proplists:get_value(mod, Keys), proplists:get_value(modules, Keys), proplists:get_value(env, Keys)}`))
		assert.Equal(t, "[[trees]]", b.MustEval(t, consulted("start")))

		all, err := r.Code(t.Context(), target.CodeQuery{Ask: ask, Node: b.Name, Secrets: true})
		require.NoError(t, err)
		assert.Contains(t, string(all.SysConfig), "{secret_key_base,hush}")
		_, err = r.Code(t.Context(), target.CodeQuery{Ask: ask, Node: b.Name, Apps: []string{"none"}})
		require.ErrorIs(t, err, target.ErrNoApp)

		modules, err := r.ObjectCode(t.Context(), target.ModulesQuery{Ask: ask, Node: b.Name, Modules: []string{"shop_a"}})
		require.NoError(t, err)
		disk, err := os.ReadFile(filepath.Join(dir, "shop_a.beam"))
		require.NoError(t, err)
		assert.Equal(t, []target.ObjectCode{{Module: "shop_a", Code: disk}}, modules)
		_, err = r.ObjectCode(t.Context(), target.ModulesQuery{Ask: ask, Node: b.Name, Modules: []string{"shop_a", "gone"}})
		require.ErrorContains(t, err, "read module gone of "+b.Name)
		b.MustEval(t, `{ok, _} = gen_event:start({local, 'Elixir.Shop.Bus'}), register(mute, spawn(fun() -> receive stop -> ok end end))`)
		states, err := r.States(t.Context(), target.StatesQuery{Ask: ask, Node: b.Name, Processes: []string{"Shop.Bus"}})
		require.NoError(t, err)
		term, err := etf.Decode(states, etf.Limits{})
		require.NoError(t, err)
		assert.Equal(t, `[{<<"Shop.Bus">>,[]}]`, etf.Format(term, etf.PrintOptions{}))
		short := target.Ask{Timeout: 300 * time.Millisecond}
		_, err = r.States(t.Context(), target.StatesQuery{Ask: short, Node: b.Name, Processes: []string{"mute"}})
		require.ErrorContains(t, err, "read the state of mute")
		_, err = r.States(t.Context(), target.StatesQuery{Ask: ask, Node: b.Name, Processes: []string{"nobody"}})
		require.ErrorIs(t, err, target.ErrNoProcess)
		r.stop()

		never := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
		code, err = never.Code(t.Context(), target.CodeQuery{Ask: ask, Node: b.Name, Apps: []string{"shop"}})
		require.NoError(t, err)
		assert.NotEmpty(t, code.NoEnv)
		assert.NotContains(t, string(code.SysConfig), "kept")
		assert.Equal(t, shop.File, code.Apps[0].File)
	})
}
