package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

const (
	shopApp = `{application, shop, [{description, "a shop"}, {vsn, "1.2.0"}, {modules, [shop, shop_stock]}, {registered, [shop_stock]},
	{applications, [kernel, stdlib]}, {mod, {shop, []}}, {env, [{currency, "EUR"}, {api_key, "hunter2"}]}]}.
`
	shopSource = `-module(shop).
-behaviour(application).
-behaviour(supervisor).
-export([start/2, stop/1, init/1]).
start(_, _) -> supervisor:start_link({local, shop_sup}, ?MODULE, []).
stop(_) -> ok.
init([]) -> {ok, {#{intensity => 10, period => 60}, [#{id => stock, start => {shop_stock, start_link, []}}]}}.
`
	stockSource = `-module(shop_stock).
-behaviour(gen_server).
-export([start_link/0, init/1, handle_call/3, handle_cast/2, handle_info/2]).
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).
init([]) -> {ok, 3}.
handle_call(sell, _, N) -> {reply, LEFT, LEFT}.
handle_cast(_, N) -> {noreply, N}.
handle_info({delivered, M}, N) -> {noreply, N + M}.
`
)

// erlc compiles sources, by module, into a directory.
func erlc(t *testing.T, otp, dir string, sources map[string]string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for name, text := range sources {
		file := filepath.Join(t.TempDir(), name+".erl")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		out, err := exec.Command(filepath.Join(erltest.Dir(), otp, "bin", "erlc"), "+debug_info", "-o", dir, file).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

// What went wrong in a live node is tried again in a sandbox: its code, environment and
// state are taken, changed code is put in and taken out again, its messages are sent
// again, and what came of it is written to a file and started again.
func TestSandboxOfALiveNode(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, rig.TempDir(t), fmt.Sprintf("[sandbox.beam]\npath = %q\n", filepath.Join(erltest.Dir(), otp, "bin")+":"+os.Getenv("PATH")))
			stock := func(left string) string { return strings.ReplaceAll(stockSource, "LEFT", left) }
			exec := func(name, expr string) string {
				t.Helper()
				out, _ := h.Exit(t, 0, "sandbox", "exec", name, "--erlang", expr)
				return strings.TrimSpace(out)
			}
			const sell, state = "gen_server:call(shop_stock, sell)", "sys:get_state(shop_stock)"

			dir := t.TempDir()
			ebin := filepath.Join(dir, "lib", "shop", "ebin")
			erlc(t, otp, ebin, map[string]string{"shop": shopSource, "shop_stock": stock("N - 1")})
			require.NoError(t, os.WriteFile(filepath.Join(ebin, "shop.app"), []byte(shopApp), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "apps"), []byte("[shop].\n"), 0o600))
			h.Exit(t, 0, "sandbox", "create", "shop", "--from", dir)
			require.Equal(t, "2", exec("shop", sell))

			// A copy of it goes on with its state, and without its secrets.
			show, notes := h.Exit(t, 0, "sandbox", "from", "shop", "--name", "bug", "--state", "shop_stock")
			require.Contains(t, show, "bug-")
			require.Contains(t, notes, "api_key")
			require.NotContains(t, show+notes, "hunter2")
			require.Equal(t, `[{currency,"EUR"}]`, exec("bug", "application:get_all_env(shop)"))
			require.Equal(t, "1", exec("bug", sell))
			require.Equal(t, "2", exec("shop", state), "they are two")

			// Changed code goes in without a restart, what is broken does not, and an earlier
			// version comes back.
			fixed := t.TempDir()
			erlc(t, otp, fixed, map[string]string{"shop_stock": stock("max(N - 1, 0)")})
			h.Exit(t, 0, "sandbox", "reload", "bug", "--from", fixed)
			require.Equal(t, "0 0", exec("bug", sell)+" "+exec("bug", sell))
			require.NoError(t, os.WriteFile(filepath.Join(fixed, "shop_stock.beam"), []byte("no module"), 0o600))
			h.Exit(t, 1, "sandbox", "reload", "bug", "--from", fixed)
			require.Equal(t, "0", exec("bug", sell))
			var seen struct {
				Versions []struct {
					Version, From string
					Current       bool
				}
			}
			h.JSON(t, 0, &seen, "sandbox", "versions", "bug", "-o", "json")
			require.Len(t, seen.Versions, 2)
			assert.Contains(t, seen.Versions[0].From, "shop 1.2.0")
			assert.Equal(t, fixed, seen.Versions[1].From)
			diff, _ := h.Exit(t, 0, "sandbox", "diff", "bug")
			require.Equal(t, 1, strings.Count(diff, "\n"), diff)
			require.Contains(t, diff, "lib/shop/ebin/shop_stock.beam changed")
			h.Exit(t, 0, "sandbox", "rollback", "bug", seen.Versions[0].Version[:8])
			require.Equal(t, "-1", exec("bug", sell))

			// Messages of another node.
			messages := filepath.Join(t.TempDir(), "messages.json")
			require.NoError(t, os.WriteFile(messages, []byte(`{"process":{"messages":[{"value":"{delivered,5}"},{"value":"{cut","truncated":true},{"value":"%{:"}]}}`), 0o600))
			out, _ := h.Exit(t, 3, "sandbox", "replay", "bug", messages, "--to", "shop_stock")
			require.Contains(t, out, "1 message delivered")
			require.Equal(t, "4", exec("bug", state))

			// A snapshot has all of it.
			file := filepath.Join(t.TempDir(), "bug.sandbox")
			h.Exit(t, 0, "sandbox", "snapshot", "bug", "-f", file)
			h.Exit(t, 0, "sandbox", "destroy", "bug")
			h.Exit(t, 0, "sandbox", "restore", "again", file)
			require.Equal(t, "4", exec("again", state))

			// Faults.
			before := exec("again", "whereis(shop_stock)")
			h.Exit(t, 0, "sandbox", "inject", "again", "kill", "shop_stock")
			h.Eventually(t, func() error {
				if now := exec("again", "whereis(shop_stock)"); now == before || now == "undefined" {
					return fmt.Errorf("it is %s", now)
				}
				return nil
			})
			h.Exit(t, 0, "sandbox", "inject", "again", "suspend", "shop_stock")
			listed, _ := h.Exit(t, 0, "sandbox", "inject", "again", "--list")
			require.Contains(t, listed, "suspend shop_stock")
			h.Exit(t, 0, "sandbox", "inject", "again", "--clear", "all")
			require.Equal(t, "2", exec("again", sell))
			_, stderr := h.Exit(t, 1, "sandbox", "move", "again")
			require.Contains(t, stderr, "hint: ", "there is no other member")
			for _, name := range []string{"again", "shop"} {
				h.Exit(t, 0, "sandbox", "destroy", name)
			}
		})
	}
}
