package sandboxbeam

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
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

// deniedEnv has the user namespace from which this program was started to be denied
// namespaces, which is none of the machine's.
const deniedEnv = "SANDBOXBEAM_TEST_DENIED"

// Where no namespaces may be made a node runs without a view and tells why, unless it is
// to have one.
func TestViewDenied(t *testing.T) {
	here, err := os.Readlink("/proc/self/ns/user")
	require.NoError(t, err)
	if outside := os.Getenv(deniedEnv); outside != "" {
		require.NotEqual(t, outside, here)
		testDenied(t)
		return
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.timeout", "3m", "-test.run", "^TestViewDenied$")
	cmd.Env = append(os.Environ(), deniedEnv+"="+here)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skip("no user namespace to deny namespaces in: ", err)
	}
	require.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	require.Contains(t, string(out), "--- PASS: TestViewDenied")
}

func testDenied(t *testing.T) {
	for _, kind := range []string{"user", "pid", "mnt"} {
		if err := os.WriteFile("/proc/sys/user/max_"+kind+"_namespaces", []byte("0"), 0); err != nil {
			t.Skip("namespaces cannot be denied in a user namespace: ", err)
		}
	}
	const why = "make namespaces: there may be no more of them"
	node := map[string]any{"otp": erltest.Releases()[0]}
	mix := map[string]any{"otp": erltest.Releases()[0], "source": project(t, shop)}

	s := strategy(t, "")
	_, err := s.sandbox(t, "shop", mix)
	require.NoError(t, err)
	require.Equal(t, "5", s.call(t, "shop", "Elixir.Shop", "stock"))
	st, err := s.Inspect(t.Context(), "shop")
	require.NoError(t, err)
	require.Contains(t, st.Enforced["view"], "none: "+why)
	require.Contains(t, st.Enforced["tree"], "no namespace")

	s = strategy(t, "")
	s.config.View = keeper.ViewRequired
	for id, config := range map[string]map[string]any{"node": node, "compiler": mix} {
		_, err = s.sandbox(t, id, config)
		require.ErrorContains(t, err, "shut in: "+why)
		require.Contains(t, sdk.Hint(err), `view = "off"`)
		require.NoDirExists(t, filepath.Dir(s.home(id)))
	}
}
