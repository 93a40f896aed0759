package sandboxbeam

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/sdk"
)

// pack makes a bundle of entries, and tells its path.
func pack(t testing.TB, entries ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range entries {
		text := h.PAXRecords["text"]
		h.PAXRecords, h.Size, h.Mode = nil, int64(len(text)), 0o644
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		require.NoError(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	path := filepath.Join(t.TempDir(), "bundle")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

func entry(name, text string) tar.Header {
	return tar.Header{Name: name, PAXRecords: map[string]string{"text": text}}
}

// packed makes a bundle of a directory.
func packed(t testing.TB, dir string) string {
	t.Helper()
	var entries []tar.Header
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		entries = append(entries, entry(rel, string(text)))
		return err
	}))
	return pack(t, entries...)
}

// bundled creates a sandbox of a bundle.
func (s *Strategy) bundled(t testing.TB, id, bundle string, n map[string]any) error {
	t.Helper()
	config, err := json.Marshal(n)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patienceOfTests)
	defer cancel()
	_, err = s.Create(ctx, sdk.SandboxSpec{ID: id, Config: config, Bundle: bundle})
	if err == nil {
		t.Cleanup(func() { require.NoError(t, s.Destroy(context.Background(), id)) })
	}
	return err
}

// A bundle puts nothing elsewhere than into its directory, and what it is not is told.
func TestBundleIsConfined(t *testing.T) {
	for name, c := range map[string]struct {
		entries []tar.Header
		want    string
	}{
		"up":       {[]tar.Header{entry("../x", "")}, `"../x" is not within it`},
		"absolute": {[]tar.Header{entry("/x", "")}, `"/x" is not within it`},
		"link up":  {[]tar.Header{{Name: "a", Linkname: "../x", Typeflag: tar.TypeSymlink}}, "which is not within it"},
		"link abs": {[]tar.Header{{Name: "a", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}}, "which is not within it"},
		"through": {[]tar.Header{
			{Name: "d/e/l", Linkname: "../../s", Typeflag: tar.TypeSymlink}, {Name: "s/", Typeflag: tar.TypeDir},
			{Name: "d/e/m", Linkname: "l/../../t", Typeflag: tar.TypeSymlink}, entry("d/e/m/x", ""),
		}, "escapes"},
		"hard":   {[]tar.Header{{Name: "a", Linkname: "b", Typeflag: tar.TypeLink}}, "neither a file nor a directory"},
		"device": {[]tar.Header{{Name: "a", Typeflag: tar.TypeChar}}, "neither a file nor a directory"},
		"twice":  {[]tar.Header{entry("a", ""), entry("a", "")}, "file exists"},
		"empty":  {nil, "has neither mix.exs"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := open(sdk.SandboxSpec{Bundle: pack(t, c.entries...)}, Node{}, filepath.Join(dir, "to"))
			require.ErrorContains(t, err, c.want)
			found, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, found, 1)
		})
	}
	// Links that are harmless one by one, and together lead elsewhere.
	top := t.TempDir()
	write(t, filepath.Join(top, "out.exs"), "secret")
	_, err := open(sdk.SandboxSpec{Bundle: pack(t, tar.Header{Name: "a/b/up", Linkname: "../..", Typeflag: tar.TypeSymlink},
		tar.Header{Name: "a/b/up/x.exs", Linkname: "../../../out.exs", Typeflag: tar.TypeSymlink})}, Node{Source: "x.exs"}, filepath.Join(top, "to"))
	require.Error(t, err)
	_, err = open(sdk.SandboxSpec{Bundle: write(t, filepath.Join(t.TempDir(), "x"), "no archive")}, Node{}, filepath.Join(t.TempDir(), "to"))
	require.ErrorContains(t, err, "gzip: invalid header")
	_, err = open(sdk.SandboxSpec{Bundle: pack(t, entry("a.exs", ""))}, Node{Source: "../a.exs"}, filepath.Join(t.TempDir(), "to"))
	require.ErrorContains(t, err, "want a path within it")
}

func FuzzUnpack(f *testing.F) {
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		require.NoError(f, err)
		return b
	}
	f.Add(read(pack(f, entry("mix.exs", "x"), tar.Header{Name: "l", Linkname: "mix.exs", Typeflag: tar.TypeSymlink})))
	f.Add(read(pack(f, entry("a/../../b", "x"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		defer root.Close()
		_ = unpackTo(root, bytes.NewReader(b))
	})
}

// A bundle of a script, of one script of several, of a project with a link in it.
func TestBundle(t *testing.T) {
	t.Parallel()
	s := strategy(t, "")
	otp := erltest.Releases()[1]
	require.NoError(t, s.bundled(t, "one", pack(t, entry("counter.exs", counter), entry("other.exs", "raise \"not this one\"")), map[string]any{"source": "counter.exs", "otp": otp}))
	require.Equal(t, "40", s.call(t, "one", "Elixir.Counter", "next"))
	require.NoError(t, s.bundled(t, "mix", packed(t, project(t, shop)), map[string]any{"otp": otp}))
	require.Equal(t, "5", s.call(t, "mix", "Elixir.Shop", "stock"))
	left, err := os.ReadDir(filepath.Join(s.dir, stagingDir))
	require.NoError(t, err)
	require.Empty(t, left)
}

// What `mix release` makes runs with its applications and its configuration, also that
// which is made at each start, and the flags of the emulator; and what was taken from a node with the states that were taken along.
func TestReleaseAndModules(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			dir := filepath.Join(t.TempDir(), "shop")
			require.NoError(t, os.CopyFS(dir, os.DirFS(project(t, shop))))
			write(t, filepath.Join(dir, "config", "config.exs"), "import Config\nconfig :shop, env: config_env(), name: \"Zoë\"\n")
			write(t, filepath.Join(dir, "config", "runtime.exs"), "import Config\nconfig :shop, name: System.fetch_env!(\"SHOP\") <> System.fetch_env!(\"RELEASE_NAME\")\n")
			write(t, filepath.Join(dir, "rel", "vm.args.eex"), "## the atoms\n+t 2000000 # are many\n-heart\n-name other@host\n")
			makeRelease(t, dir, otp)
			config := map[string]any{"source": filepath.Join(dir, "out"), "otp": otp}
			_, err := s.sandbox(t, "none", config)
			require.ErrorContains(t, err, `could not fetch environment variable "SHOP"`)
			config["env"] = map[string]string{"SHOP": "Zoë's "}
			_, err = s.sandbox(t, "rel", config)
			require.NoError(t, err)
			require.Equal(t, `{prod,<<"Zoë's shop"/utf8>>}`, s.call(t, "rel", "Elixir.Shop", "env"))
			require.Equal(t, "2000000", s.call(t, "rel", "erlang", "system_info", etf.Atom("atom_limit")))
			require.Equal(t, "5", s.call(t, "rel", "Elixir.Shop", "stock"))
			require.Equal(t, `<<"hello">>`, s.call(t, "rel", "Elixir.Shop", "greeting"))

			// The same as modules, as they are taken from a node.
			libs := map[string]string{}
			for _, f := range []string{"Elixir.Shop.beam", "shop.app"} {
				found, err := filepath.Glob(filepath.Join(dir, "out", "lib", "shop-*", "ebin", f))
				require.NoError(t, err)
				require.Len(t, found, 1)
				text, err := os.ReadFile(found[0])
				require.NoError(t, err)
				libs[f] = string(text)
			}
			states, err := etf.Encode(etf.List{etf.Tuple{etf.Binary("Shop.Stock"), etf.Int(77)}})
			require.NoError(t, err)
			bundle := pack(t, entry("lib/shop/ebin/Elixir.Shop.beam", libs["Elixir.Shop.beam"]), entry("lib/shop/ebin/shop.app", libs["shop.app"]),
				entry("apps", "[shop].\n"), entry("sys.config", "[{shop,[{name,taken}]}].\n"), entry("states.term", string(states)))
			require.NoError(t, s.bundled(t, "taken", bundle, map[string]any{"otp": otp}))
			require.Equal(t, "77", s.call(t, "taken", "Elixir.Shop", "stock"))
			require.Contains(t, s.call(t, "taken", "Elixir.Shop", "env"), "taken")
		})
	}
}

// makeRelease makes a release of a Mix project, in out.
func makeRelease(t *testing.T, dir, otp string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(erltest.Dir(), otp, "bin", "mix"), "release", "--path", filepath.Join(dir, "out"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MIX_ENV=prod", "HEX_OFFLINE=1", "HOME="+dir, "PATH="+filepath.Join(erltest.Dir(), otp, "bin")+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// A release may want its system started anew with the configuration that was made.
func TestReleaseReboots(t *testing.T) {
	s, otp := strategy(t, ""), erltest.Releases()[1]
	dir := filepath.Join(t.TempDir(), "shop")
	require.NoError(t, os.CopyFS(dir, os.DirFS(project(t, shop))))
	text, err := os.ReadFile(filepath.Join(dir, "mix.exs"))
	require.NoError(t, err)
	write(t, filepath.Join(dir, "mix.exs"), strings.Replace(string(text), "version:", "releases: [shop: [reboot_system_after_config: true]], version:", 1))
	write(t, filepath.Join(dir, "config", "config.exs"), "import Config\n")
	write(t, filepath.Join(dir, "config", "runtime.exs"), "import Config\nconfig :shop, name: System.pid()\nconfig :kernel, net_ticktime: 77\n")
	makeRelease(t, dir, otp)
	_, err = s.sandbox(t, "rel", map[string]any{"source": filepath.Join(dir, "out"), "otp": otp})
	require.NoError(t, err)
	require.Contains(t, s.call(t, "rel", "Elixir.Shop", "env"), s.call(t, "rel", "Elixir.System", "pid"))
	require.Equal(t, "77", s.call(t, "rel", "net_kernel", "get_net_ticktime"))
}

// A release of rebar3 may have its configuration as a text with variables in it.
func TestReleaseConfigSource(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "out")
	write(t, filepath.Join(dir, "releases", "start_erl.data"), "15.2 1.0\n")
	write(t, filepath.Join(dir, "releases", "1.0", "shop.rel"), `{release,{"shop","1.0"},{erts,"15.2"},[{kernel,"10.0"},{shop,"1.0"}]}.`)
	write(t, filepath.Join(dir, "releases", "1.0", "sys.config.src"), `[{shop,[{port,${PORT:-8080}},{name,"${NAME}"},{host,"${HOST:-h:-1}"},{none,"${NONE}"}]}].`)
	write(t, filepath.Join(dir, "lib", "shop-1.0", "ebin", "shop.app"), "")
	require.NoError(t, assemble(dir, to, []string{"NAME=a=$1", "PORT=", "HOST=db"}, &system{release: "27", apps: []string{"kernel"}}))
	text, err := os.ReadFile(filepath.Join(to, "sys.config"))
	require.NoError(t, err)
	require.Equal(t, `[{shop,[{port,8080},{name,"a=$1"},{host,"db"},{none,""}]}].`, string(text))
	require.Equal(t, []string{"shop"}, appsIn(to))
}

// A release that is newer than the system is refused.
func TestReleaseOfAnother(t *testing.T) {
	s := strategy(t, "")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "releases", "start_erl.data"), "17.0 1.0\n")
	write(t, filepath.Join(dir, "releases", "1.0", "shop.rel"), `{release,{"shop","1.0"},{erts,"17.0"},[{kernel,"11.0",permanent}]}.`)
	write(t, filepath.Join(dir, "lib", "shop-1.0", "ebin", "shop.app"), "")
	_, err := s.sandbox(t, "new", map[string]any{"source": dir, "otp": "25"})
	require.ErrorContains(t, err, "the release was made with OTP 29, and is to run on OTP 25")
}

// A rebar3 project is compiled offline, with the dependencies that were fetched before,
// and its applications are started.
func TestRebar3(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := strategy(t, "")
			dir := filepath.Join(t.TempDir(), "my 'shop'")
			write(t, filepath.Join(dir, "rebar.config"), "{erl_opts, [debug_info]}.\n{deps, [loud]}.\n")
			write(t, filepath.Join(dir, "config", "sys.config"), "[{shop,[{price,9}]}].\n")
			write(t, filepath.Join(dir, "src", "shop.app.src"), `{application,shop,[{description,"a shop"},{vsn,"1"},{registered,[]},{mod,{shop,[]}},{applications,[kernel,stdlib,loud]}]}.`)
			write(t, filepath.Join(dir, "_build", "default", "lib", "loud", "src", "loud.app.src"), `{application,loud,[{description,"loud"},{vsn,"2.1.0"},{applications,[kernel,stdlib]}]}.`)
			write(t, filepath.Join(dir, "_build", "default", "lib", "loud", "src", "loud.erl"), "-module(loud).\n-export([say/1]).\nsay(W) -> string:uppercase(W).\n")
			write(t, filepath.Join(dir, "_build", "default", "lib", "loud", "ebin", "loud.beam"), "of another release")
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "_build", "default", "lib", "shop"), 0o700))
			require.NoError(t, os.Symlink("../../../../src", filepath.Join(dir, "_build", "default", "lib", "shop", "src")))
			source := "-module(shop).\n-export([start/2, stop/1, price/0]).\nstart(_, _) -> {ok, spawn_link(fun() -> receive stop -> ok end end)}.\nstop(_) -> ok.\nprice() -> {ok, P} = application:get_env(shop, price), P.\n"
			write(t, filepath.Join(dir, "src", "shop.erl"), source)
			config := map[string]any{"source": dir, "otp": otp}
			_, err := s.sandbox(t, "r3", config)
			require.NoError(t, err)
			require.Equal(t, "9", s.call(t, "r3", "shop", "price"))
			require.Equal(t, `"HI"`, s.call(t, "r3", "loud", "say", etf.String("hi")))
			write(t, filepath.Join(dir, "src", "shop.erl"), source+"lost(\n")
			_, err = s.again(t, "r3", config)
			require.ErrorContains(t, err, "src/shop.erl")
			write(t, filepath.Join(dir, "src", "shop.erl"), strings.Replace(source, "P.\n", "P + 1.\n", 1))
			_, err = s.again(t, "r3", config)
			require.NoError(t, err)
			require.Equal(t, "10", s.call(t, "r3", "shop", "price"))
			require.NoDirExists(t, filepath.Join(dir, "_build", "default", "lib", "shop", "ebin"))
		})
	}
}
