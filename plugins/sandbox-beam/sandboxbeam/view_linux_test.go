package sandboxbeam

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/plugins/internal/keeper"
)

// hostile is a mix.exs that tries what it should not be able to, and says what it could.
const hostile = `tries = [
  key: fn -> {:ok, _} = File.read(System.fetch_env!("KEY")) end,
  cookie: fn -> {:ok, _} = File.read(System.fetch_env!("COOKIE")) end,
  write: fn -> :ok = File.write(System.fetch_env!("KEY") <> ".written", "") end,
  connect: fn -> {:ok, _} = :gen_tcp.connect({127, 0, 0, 1}, String.to_integer(System.fetch_env!("PORT")), []) end
]
could = for {name, try} <- tries, (try do try.(); true rescue _ -> false end), do: name
raise "could: #{inspect(could)}"
`

func TestViewOfCompiler(t *testing.T) {
	t.Parallel()
	otp := erltest.Releases()[0]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	for name, c := range map[string]struct {
		view    string
		network bool
		could   string
	}{
		"off":      {keeper.ViewOff, false, "[:key, :cookie, :write, :connect]"},
		"network":  {keeper.ViewRequired, true, "[:connect]"},
		"required": {keeper.ViewRequired, false, "[]"},
		"auto":     {keeper.ViewAuto, false, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			s.config.View = c.view
			_, err := s.sandbox(t, "neighbour", map[string]any{"otp": otp})
			require.NoError(t, err)
			st, err := s.Inspect(t.Context(), "neighbour")
			require.NoError(t, err)
			dir := t.TempDir()
			key := write(t, filepath.Join(dir, "key"), "s3cret")
			source := filepath.Join(dir, `a b'c"d`)
			write(t, filepath.Join(source, "mix.exs"), hostile)
			_, err = s.sandbox(t, "hostile", map[string]any{
				"source": source, "otp": otp, "network": c.network,
				"env": map[string]string{"KEY": key, "COOKIE": st.CookieFile, "PORT": port},
			})
			require.ErrorContains(t, err, "could: "+c.could)
			_, err = os.Stat(key + ".written")
			require.Equal(t, c.view == keeper.ViewOff, err == nil)
		})
	}
}

// A node is seen and dialled as without a view, and sees neither others nor the data
// directory.
func TestViewOfNode(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			s.config.View = keeper.ViewRequired
			source := filepath.Join(t.TempDir(), `a b'c"d`)
			write(t, filepath.Join(source, "mix.exs"), "defmodule Shop.MixProject do\n  use Mix.Project\n  def project, do: [app: :shop, version: \"1.0.0\"]\nend\n")
			write(t, filepath.Join(source, "lib", "shop.ex"), "defmodule Shop do\n  def home, do: System.user_home!()\n  def neighbours, do: File.ls!(Path.join(home(), \"../..\"))\nend\n")
			_, err := s.sandbox(t, "shop", map[string]any{"source": source, "otp": otp})
			require.NoError(t, err)
			_, err = s.sandbox(t, "other", map[string]any{"otp": otp})
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("<<%q>>", s.home("shop")), s.call(t, "shop", "Elixir.Shop", "home"))
			require.Equal(t, `[<<"shop">>]`, s.call(t, "shop", "Elixir.Shop", "neighbours"))
			st, err := s.Inspect(t.Context(), "other")
			require.NoError(t, err)
			require.Equal(t, "user, pid, mount and ipc namespaces of its own", st.Enforced["view"])
			own := filepath.Join(s.home("other"), cookieFile)
			read := func(id, file string) string { return s.call(t, id, "file", "read_file", etf.Binary(file)) }
			require.Contains(t, read("other", own), "{ok,")
			for _, file := range []string{own, st.CookieFile, "/etc/shadow"} {
				require.Equal(t, "{error,enoent}", read("shop", file))
			}
			// What it makes of its own cookie does not lead debughost anywhere else.
			require.Equal(t, "ok", s.call(t, "other", "file", "delete", etf.Binary(own)))
			require.Equal(t, "ok", s.call(t, "other", "file", "make_symlink", etf.Binary(s.cookie("shop")), etf.Binary(own)))
			require.Equal(t, "{error,enoent}", read("other", own))
		})
	}
}
