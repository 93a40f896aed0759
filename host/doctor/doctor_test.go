package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/config"
)

// place is a machine made for a test.
type place struct {
	dir string
	Options
}

// newPlace has a cookie, a plugin that says what it is, and this configuration.
func newPlace(t *testing.T, toml string) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	p.write(t, "cookie", "secret", 0o400)
	p.write(t, "bin/discovery-epmd", "#!/bin/sh\necho 'discovery-epmd v1.2.3 is a discovery plugin of debughost, which starts it' >&2\nexit 1\n", 0o755)
	p.Options = Options{
		Sources:    config.Sources{File: p.write(t, "config.toml", "metrics.address = ''\ntargets.cookie_file = 'cookie'\n"+toml, 0o600), Env: []string{}},
		DataDir:    filepath.Join(p.dir, "data"),
		Executable: filepath.Join(p.dir, "bin", "debughost"),
		UnitDirs:   []string{filepath.Join(p.dir, "etc"), filepath.Join(p.dir, "lib")},
		Hostname:   "localhost",
		Getenv:     func(string) string { return "" },
	}
	return p
}

func (p *place) write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

// env gives the examination an environment.
func (p *place) env(pairs ...string) {
	p.Getenv = func(key string) string {
		for _, pair := range pairs {
			if k, v, _ := strings.Cut(pair, "="); k == key {
				return v
			}
		}
		return ""
	}
}

// find returns the check of a name, which there must be once.
func (p *place) find(t *testing.T, name string) Check {
	t.Helper()
	checks := Examine(context.Background(), p.Options)
	var found []Check
	for _, c := range checks {
		if c.Name == name {
			found = append(found, c)
		}
	}
	require.Len(t, found, 1, "%s in %+v", name, checks)
	assert.Equal(t, found[0].State != OK, found[0].State == Warn || found[0].State == Fail)
	return found[0]
}

// expect says what the check of a name is to be.
func (p *place) expect(t *testing.T, name string, state State, detail, hint string) {
	t.Helper()
	c := p.find(t, name)
	assert.Equal(t, state, c.State, "%+v", c)
	assert.Contains(t, c.Detail, detail)
	assert.Contains(t, c.Hint, hint)
}

func TestAllInOrder(t *testing.T) {
	epmd := erltest.StartEPMD(t)
	_, port, err := net.SplitHostPort(freePort(t))
	require.NoError(t, err)
	p := newPlace(t, "metrics.address = '127.0.0.1:"+port+"'\n")
	p.Sources.File = p.write(t, "config.toml", "metrics.address = '127.0.0.1:"+port+"'\ntargets.cookie_file = 'cookie'\n", 0o600)
	p.env("ERL_EPMD_PORT=" + strconv.Itoa(epmd.Port))
	b := erltest.Start(t, erltest.Options{EPMD: epmd, Name: "shop"})
	for _, c := range Examine(context.Background(), p.Options) {
		assert.Equal(t, OK, c.State, "%+v", c)
		assert.NotContains(t, c.Detail, "secret")
	}
	p.expect(t, "config", OK, p.Sources.File+" is in order", "")
	p.expect(t, "cookie", OK, p.dir+"/cookie, mode 0400", "")
	p.expect(t, "epmd", OK, "knows shop (port ", "")
	p.expect(t, "plugin discovery-epmd", OK, p.dir+"/bin/discovery-epmd, discovery, v1.2.3", "")
	p.expect(t, "data directory", OK, "is not there yet, and can be made", "")
	p.expect(t, "metrics port", OK, "is free", "")
	assert.NotNil(t, b)
	require.NoError(t, os.MkdirAll(p.DataDir, 0o700))
	p.expect(t, "data directory", OK, "is writable, ", "")
}

func TestConfigurationWithProblems(t *testing.T) {
	p := newPlace(t, "log.levle = 'x'\nlog.format = 'y'\n")
	var got []string
	for _, c := range Examine(context.Background(), p.Options) {
		got = append(got, c.Name)
		if c.Name == "config" {
			assert.Equal(t, Fail, c.State)
		}
	}
	// What depends on it is left out, the rest is looked at.
	assert.Equal(t, 2, len(slices.DeleteFunc(slices.Clone(got), func(n string) bool { return n != "config" })))
	assert.Contains(t, got, "data directory")
	assert.NotContains(t, got, "cookie")
}

func TestCookies(t *testing.T) {
	p := newPlace(t, "[[targets.cookies]]\nnodes = 'shop*'\nfile = 'shop'\n")
	p.write(t, "shop", "x\ny", 0o400)
	p.expect(t, "cookie shop*", Fail, "bad characters", "cookie_file")
	p.write(t, "shop", "x", 0o400)
	p.expect(t, "cookie shop*", OK, "mode 0400", "")
	p.write(t, "cookie", "x", 0o644)
	p.expect(t, "config", Fail, "cookie: mode 0644", "")
	p.Sources.File = p.write(t, "config.toml", "", 0o600)
	t.Setenv("HOME", p.dir)
	t.Setenv("XDG_CONFIG_HOME", "")
	p.expect(t, "cookie", Fail, "none in "+p.dir, "mode 0400")
}

func TestHostname(t *testing.T) {
	p := newPlace(t, "node.names = 'long'\n")
	p.expect(t, "host name", OK, "localhost (short", "")
	p.expect(t, "node name", Warn, "calls itself …@127.0.0.1", "domain")
	p.Hostname = "no-such-host.invalid"
	p.expect(t, "host name", Warn, "no-such-host.invalid (long) does not resolve: ", "/etc/hosts")
}

func TestPortMappers(t *testing.T) {
	free := freePort(t)
	_, port, err := net.SplitHostPort(free)
	require.NoError(t, err)
	p := newPlace(t, "[topologies.a]\nstrategy = 'discovery-epmd'\n")
	p.env("ERL_EPMD_PORT=" + port)
	p.expect(t, "epmd", Warn, "no EPMD runs on this machine at port "+port, "ERL_EPMD_PORT")
	p.env("ERL_EPMD_PORT=x")
	p.expect(t, "epmd", Fail, "ERL_EPMD_PORT", "unset it")
	p.env()

	epmd := erltest.StartEPMD(t)
	p = newPlace(t, fmt.Sprintf("[topologies.a]\nstrategy = 'discovery-epmd'\n[topologies.a.config]\nepmd_port = %d\n"+
		"nodes = ['x@no-such-host.invalid']\nhosts = ['127.0.0.1', '127.0.0.1:%s']\n"+
		"[topologies.b]\nstrategy = 'other'\n", epmd.Port, port))
	p.expect(t, "epmd no-such-host.invalid", Fail, "does not resolve", "behind the @")
	p.expect(t, "plugin other", Fail, "it is in none of", "")
	var at []string
	for _, c := range Examine(context.Background(), p.Options) {
		if c.Name == "epmd 127.0.0.1" {
			at = append(at, string(c.State)+" "+c.Detail)
		}
	}
	require.Len(t, at, 2)
	assert.Contains(t, at[0], "warn EPMD of 127.0.0.1 at port "+strconv.Itoa(epmd.Port)+" knows no node")
	assert.Contains(t, at[1], "fail list nodes in epmd of 127.0.0.1: ")
}

func TestPlugins(t *testing.T) {
	p := newPlace(t, "")
	p.write(t, "bin/discovery-epmd", "#!/bin/sh\necho hello\n", 0o755)
	p.expect(t, "plugin discovery-epmd", Warn, "does not say what it is", "sdk")
	p.write(t, "bin/discovery-epmd", "no program", 0o755)
	p.expect(t, "plugin discovery-epmd", Fail, "exec format error", "")
	p.write(t, "bin/discovery-epmd", "#!/bin/sh\necho 'discovery-x v1 is a discovery plugin of debughost'\n", 0o755)
	p.expect(t, "plugin discovery-epmd", Fail, "it says that it is discovery-x", "")
	p.write(t, "bin/discovery-epmd", "", 0o644)
	p.expect(t, "plugin discovery-epmd", Fail, "is not executable", "")
	p.Sources.File = p.write(t, "config.toml", "metrics.address = ''\n[topologies]\n", 0o600)
	p.expect(t, "plugins", Warn, "no topology is configured", "")
	p.Sources.File = p.write(t, "config.toml", "[plugins.checksums]\ndiscovery-epmd = 'sha256:"+strings.Repeat("00", 32)+"'\n", 0o600)
	p.write(t, "bin/discovery-epmd", "x", 0o755)
	p.expect(t, "plugin discovery-epmd", Fail, "its checksum is", "")
}

func TestDataDir(t *testing.T) {
	p := newPlace(t, "")
	p.DataDir = p.write(t, "file", "", 0o600)
	p.expect(t, "data directory", Fail, "is not a directory", "--data-dir")
	p.DataDir = filepath.Join(p.dir, "file", "below")
	p.expect(t, "data directory", Fail, "", "")
	p.DataDir = filepath.Join(p.dir, "open")
	require.NoError(t, os.Mkdir(p.DataDir, 0o700))
	require.NoError(t, os.Chmod(p.DataDir, 0o777))
	p.expect(t, "data directory", Fail, "mode 0777 lets others write", "chmod 700")
	if os.Getuid() != 0 { // who may write everywhere
		p.DataDir = filepath.Join(p.dir, "closed")
		require.NoError(t, os.Mkdir(p.DataDir, 0o500))
		p.expect(t, "data directory", Fail, "is not writable", "user that debughost runs as")
		p.DataDir = filepath.Join(p.DataDir, "below")
		p.expect(t, "data directory", Fail, "cannot be made", "install -d")
	}
	assert.Equal(t, "1.5 GiB", size(3<<29))
}

func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	p := newPlace(t, "[cluster]\nbind = '"+l.Addr().String()+"'\nkey_file = 'key'\n")
	key := filepath.Join(p.dir, "key")
	k, err := cluster.CreateKeyFile(key)
	require.NoError(t, err)
	p.expect(t, "cluster port", Fail, "is in use, and no debughost answers here", "[cluster] bind")
	p.expect(t, "cluster key", OK, "1 keys, "+k.ID()+" is spoken with", "")
	p.Running = true
	p.expect(t, "cluster port", OK, "is in use while debughost runs", "")
	require.NoError(t, l.Close())
	p.expect(t, "cluster port", Warn, "is free although debughost runs", "changed")
	p.Running = false
	p.expect(t, "cluster port", OK, "is free", "")
	udp, err := net.ListenPacket("udp", l.Addr().String())
	require.NoError(t, err)
	defer udp.Close()
	p.expect(t, "cluster port", Fail, "(udp) is in use", "")

	p.Sources.File = p.write(t, "config.toml", "metrics.address = '192.0.2.1:1'\n[cluster]\nbind = 'no-such-host.invalid:1'\n", 0o600)
	p.expect(t, "metrics port", Fail, "192.0.2.1:1 is not an address of this machine", "")
	p.expect(t, "cluster port", Fail, "no-such-host.invalid", "set [cluster] bind")
	p.expect(t, "cluster key", Fail, p.DataDir+"/cluster.key", "debughost keygen")
}

func TestService(t *testing.T) {
	p := newPlace(t, "")
	p.expect(t, "service", OK, "not installed", "")
	p.write(t, "lib/debughost.service", "[Service]\nLoadCredential=a:/none\nLoadCredential=\nLoadCredential=erlang.cookie:"+p.dir+"/cookie\n LoadCredential=from-store\n", 0o644)
	p.write(t, "etc/debughost.service.d/override.conf", "[Service]\nLoadCredential=key:"+p.dir+"/key\nLoadCredential=dir:"+p.dir+"\n", 0o644)
	p.expect(t, "service", OK, "lib/debughost.service, 3 credentials", "")
	p.expect(t, "credential erlang.cookie", OK, "mode 0400", "")
	p.expect(t, "credential key", Fail, "no such file", "install -m 400")
	p.expect(t, "credential dir", Fail, "not a regular file", "")
	p.write(t, "key", "", 0o644)
	p.expect(t, "credential key", Warn, "mode 0644 lets others read it", "chmod 400")
	p.write(t, "lib/debughost.service", strings.Repeat("x", maxUnit+1), 0o644)
	p.expect(t, "service", Fail, "too long", "")
	p.env("CREDENTIALS_DIRECTORY=/no/such")
	p.expect(t, "credentials", Fail, "/no/such", "LoadCredential")
}

func TestGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := newPlace(t, "")
	assert.Len(t, Examine(ctx, p.Options), 1)
	assert.NotEmpty(t, Examine(ctx, Options{}))
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestRoutes(t *testing.T) {
	pki := erltest.NewPKI(t)
	rule := func(until time.Time) string {
		cert, key := pki.Issue(t, "debughost", until)
		return fmt.Sprintf("[[targets.tls]]\nnodes = 'shop'\nca_file = %q\ncert_file = %q\nkey_file = %q\n", pki.CAFile, cert, key)
	}
	year := time.Now().Add(365 * 24 * time.Hour)
	newPlace(t, rule(year)).expect(t, "tls shop", OK, "is valid until "+year.UTC().Format(time.DateOnly), "")
	newPlace(t, rule(time.Now().Add(time.Hour))).expect(t, "tls shop", Warn, " expires on ", "renew")
	newPlace(t, rule(time.Now().Add(-time.Hour))).expect(t, "tls shop", Fail, " has expired on ", "renew")
	newPlace(t, "[[targets.tls]]\nnodes = 'shop'\n").expect(t, "tls shop", OK, "without a certificate of ours", "")
	newPlace(t, "[[targets.tls]]\nnodes = 'shop'\nca_file = '/no/such'\n").expect(t, "tls shop", Fail, "/no/such", "ca_file")

	p := newPlace(t, "[[targets.ssh]]\nnodes = 'shop'\nvia = 'bastion'\n")
	t.Setenv("PATH", p.dir)
	p.expect(t, "ssh", Fail, "no ssh in PATH", "OpenSSH")
	p.write(t, "ssh", "", 0o755)
	p.expect(t, "ssh", OK, p.dir+"/ssh", "")
}
