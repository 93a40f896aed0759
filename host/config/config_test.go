package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost"
)

func TestMain(m *testing.M) {
	systemFile = "/nonexistent/debughost/config.toml"
	os.Exit(m.Run())
}

// write puts a file into dir and returns its path.
func write(t *testing.T, dir, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

func file(t *testing.T, content string) string {
	return write(t, t.TempDir(), "config.toml", content, 0o644)
}

var noEnv = []string{}

// want are the defaults, written out once more, so that nobody changes one by
// accident.
func want() *Config {
	return &Config{
		Member:  Member{Labels: map[string]string{}},
		Cluster: Cluster{Name: "debughost", Join: []string{}, Profile: "lan"},
		Metrics: Metrics{Address: "127.0.0.1:9468"},

		Log:  Log{Level: "info", Format: "text"},
		Node: Node{Names: "auto"},
		Targets: Targets{
			Include: []string{}, Exclude: []string{"epmd-starter-*"}, Agent: "auto",
			TickTime: time.Minute, ConnectTimeout: 7 * time.Second,
			BackoffMin: 200 * time.Millisecond, BackoffMax: 30 * time.Second,
			CallTimeout: 5 * time.Second, MaxCalls: 32, SchedulerShare: 100, BytesPerSecond: 32 << 20, MaxRows: 1_000_000, GoneAfter: 10 * time.Minute,
		},
		Plugins: Plugins{
			Dirs: []string{}, StartTimeout: 10 * time.Second,
			HealthInterval: 5 * time.Second, HealthTimeout: 5 * time.Second, StopTimeout: 3 * time.Second,
			RestartMin: 200 * time.Millisecond, RestartMax: 30 * time.Second,
			MaxRestarts: 10, RestartWindow: 5 * time.Minute, Checksums: map[string]string{},
		},
		Supervisor: Supervisor{Placement: "uniform", Redistribution: Passive, MaxMoves: 2, Tombstones: 7 * 24 * time.Hour},
		Events:     Events{MaxCount: 2048, MaxAge: 24 * time.Hour},
		Topologies: []Topology{{Name: "local", Strategy: "discovery-epmd", Finds: FindsTargets, Config: json.RawMessage("{}")}},
		Placements: []Strategy{{Name: "uniform", Plugin: "placement-uniform", Config: json.RawMessage("{}")}},
		Sandboxes:  []Strategy{{Name: "beam", Plugin: "sandbox-beam", Config: json.RawMessage("{}")}, {Name: "process", Plugin: "sandbox-process", Config: json.RawMessage("{}")}},
	}
}

func TestDefaults(t *testing.T) {
	got, err := Load(Sources{Env: noEnv})
	require.NoError(t, err)
	assert.Equal(t, want(), got)
}

func TestReferenceFileEqualsTheDefaults(t *testing.T) {
	disk, err := os.ReadFile("../../config.toml")
	require.NoError(t, err)
	assert.Equal(t, string(disk), debughost.ReferenceConfig)

	got, err := Load(Sources{File: "../../config.toml", Env: noEnv})
	require.NoError(t, err)
	assert.Equal(t, filepath.Base(got.File), "config.toml")
	got.File = ""
	assert.Equal(t, want(), got)

	set := defaults().tree
	for _, key := range Keys() {
		assert.True(t, exists(set, strings.Split(key, ".")), "config.toml does not have %s", key)
	}
}

func TestReferenceFileCommentsAreValid(t *testing.T) {
	// Its commented examples, uncommented, are valid as well.
	dir := t.TempDir()
	cookie := write(t, dir, "shop.cookie", "secret", 0o400)
	text := strings.NewReplacer(
		"# [[targets", "[[targets", "# nodes", "nodes", `# file = "/etc/debughost/shop.cookie"`, fmt.Sprintf("file = %q", cookie),
		"# discovery-epmd", "discovery-epmd", "…64 hexadecimal digits…", strings.Repeat("0f", 32),
		"# hosts", "hosts", "# via", "via", "# ca_file", "ca_file", "# cert_file", "cert_file", "# server_name", "server_name", "# verify", "verify",
		`# key_file = "/etc/debughost/key.pem"`, fmt.Sprintf("key_file = %q", cookie),
		"# zone", "zone", "# strategy", "strategy", "# slack", "slack",
	).Replace(debughost.ReferenceConfig)
	got, err := Load(Sources{File: file(t, text), Env: noEnv})
	require.NoError(t, err)
	assert.Equal(t, []CookieRule{{Nodes: "shop*@*", File: cookie}}, got.Targets.Cookies)
	assert.Equal(t, []TLSRule{{
		Nodes: "shop*@*", CAFile: "/etc/debughost/ca.pem", CertFile: "/etc/debughost/cert.pem", KeyFile: cookie, Verify: "full",
	}}, got.Targets.TLS)
	assert.Equal(t, []SSHRule{{"*@db?", "me@bastion"}}, got.Targets.SSH)
	assert.Equal(t, "sha256:"+strings.Repeat("0f", 32), got.Topologies[0].Checksum)
	assert.Equal(t, map[string]string{"zone": "a"}, got.Member.Labels)
	assert.Equal(t, []Strategy{{Name: "uniform", Plugin: "placement-uniform", Config: json.RawMessage(`{"slack":0.04}`)}}, got.Placements)
	assert.Equal(t, want().Sandboxes, got.Sandboxes)
	assert.JSONEq(t, `{"nodes": ["shop@db1", "shop@db2"], "hosts": ["db1", "db2"]}`, string(got.Topologies[0].Config))
}

func TestEveryKeyIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	for section := range fieldsOf(reflect.TypeFor[layout]()) {
		if section.typ.Kind() != reflect.Struct {
			continue
		}
		set := defaults().tree[section.key].(map[string]any)
		for key := range fieldsOf(section.typ) {
			name := section.key + "." + key.key
			row := fmt.Sprintf("| `%s` |", name)
			switch v := set[key.key].(type) {
			case string, int64, []any:
				text, err := json.Marshal(v)
				require.NoError(t, err)
				row = fmt.Sprintf("| `%s` | `%s` |", name, text)
			}
			_, rest, ok := strings.Cut(string(doc), row)
			assert.True(t, ok, "docs/configuration.md lacks %s", row)
			line, _, _ := strings.Cut(rest, "\n")
			assert.Equal(t, key.tag.Get("reload") == "restart", strings.HasSuffix(line, "| restart |"), name)
		}
	}
}

func TestLaterSourcesWin(t *testing.T) {
	path := file(t, `
		log.level = "warn"
		log.format = "json"
		[node]
		name = "from_file"
		[targets]
		max_calls = 1
		call_timeout = "1s"
	`)
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.String("log-level", "info", "")
	flags.String("node-name", "", "")
	flags.String("addr", "", "")
	flags.Int("targets-max-calls", 9, "")
	flags.Duration("targets-tick-time", time.Second, "")
	flags.StringSlice("targets-include", nil, "")
	require.NoError(t, flags.Parse([]string{"--node-name=from_flag", "--addr=x", "--targets-max-calls=3", "--targets-tick-time=90s", "--targets-include=a@*,b"}))
	got, err := Load(Sources{File: path, Flags: flags, Env: []string{
		"DEBUGHOST_NODE_NAME=from_env", "DEBUGHOST_LOG_LEVEL=debug", "DEBUGHOST_TARGETS_MAX_CALLS=2",
		"DEBUGHOST_TARGETS_CALL_TIMEOUT=2s", "DEBUGHOST_TARGETS_EXCLUDE=x@*, y", "DEBUGHOST_LOG_FORMAT=", "HOME=/h",
	}})
	require.NoError(t, err)
	assert.Equal(t, path, got.File)
	assert.Equal(t, Log{Level: "debug", Format: "json"}, got.Log)
	assert.Equal(t, "from_flag", got.Node.Name)
	assert.Equal(t, 3, got.Targets.MaxCalls)
	assert.Equal(t, 2*time.Second, got.Targets.CallTimeout)
	assert.Equal(t, 90*time.Second, got.Targets.TickTime)
	assert.Equal(t, []string{"a@*", "b"}, got.Targets.Include)
	assert.Equal(t, []string{"x@*", "y"}, got.Targets.Exclude)
}

func TestWhichFileIsRead(t *testing.T) {
	named, byEnv, system := file(t, `log.level="error"`), file(t, `log.level="warn"`), file(t, `log.level="trace"`)
	t.Cleanup(func(old string) func() { return func() { systemFile = old } }(systemFile))
	level := func(src Sources) string {
		cfg, err := Load(src)
		require.NoError(t, err)
		return cfg.Log.Level
	}
	env := []string{"DEBUGHOST_CONFIG=" + byEnv}
	assert.Equal(t, "error", level(Sources{File: named, Env: env}))
	assert.Equal(t, "warn", level(Sources{Env: env}))
	assert.Equal(t, "info", level(Sources{Env: noEnv}))
	systemFile = system
	assert.Equal(t, "trace", level(Sources{Env: noEnv}))
	t.Setenv("DEBUGHOST_CONFIG", named)
	assert.Equal(t, "error", level(Sources{}), "the process's own environment")

	_, err := Load(Sources{File: filepath.Join(t.TempDir(), "absent.toml"), Env: noEnv})
	assert.ErrorContains(t, err, "absent.toml: no such file")
}

func TestTopologies(t *testing.T) {
	sum := "sha256:" + strings.Repeat("ab", 32)
	got, err := Load(Sources{Env: noEnv, File: file(t, `
		[plugins.checksums]
		discovery-gossip = "`+sum+`"
		[topologies.prod]
		strategy = "discovery-epmd"
		[topologies.prod.config]
		hosts = ["db1", "db2"]
		big = 9007199254740993
		ratio = 0.1
		when = 2026-01-02T03:04:05Z
		day = 2026-01-02
		nested."key.with.dots" = { deep = [{ a = 1 }, { a = 2 }] }
		[topologies.dev]
		strategy = "discovery-gossip"
		finds = "members"
	`)})
	require.NoError(t, err)
	require.Len(t, got.Topologies, 2, "the built-in one is replaced")
	assert.Equal(t, Topology{Name: "dev", Strategy: "discovery-gossip", Finds: FindsMembers, Config: json.RawMessage("{}"), Checksum: sum}, got.Topologies[0])
	prod := got.Topologies[1]
	assert.Equal(t, FindsTargets, prod.Finds)
	assert.Equal(t, `{"big":9007199254740993,"day":"2026-01-02","hosts":["db1","db2"],"nested":{"key.with.dots":{"deep":[{"a":1},{"a":2}]}},"ratio":0.1,"when":"2026-01-02T03:04:05Z"}`, string(prod.Config))

	none, err := Load(Sources{Env: noEnv, File: file(t, "[topologies]\n")})
	require.NoError(t, err)
	assert.Empty(t, none.Topologies)
}

func TestPathsStartAtTheFile(t *testing.T) {
	path := file(t, `
		api.socket = "run/api.sock"
		targets.cookie_file = "cookies/a"
		plugins.dirs = ["plugins", "~/plugins"]
		[[targets.cookies]]
		nodes = "b*"
		file = "cookies/b"
	`)
	dir := filepath.Dir(path)
	t.Setenv("HOME", dir)
	for _, d := range []string{"cookies", "plugins"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	a := write(t, dir, "cookies/a", "a", 0o600)
	b := write(t, dir, "cookies/b", "b", 0o400)
	cfg, err := Load(Sources{File: path, Env: noEnv})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "run/api.sock"), cfg.API.Socket)
	assert.Equal(t, a, cfg.Targets.CookieFile)
	assert.Equal(t, []CookieRule{{Nodes: "b*", File: b}}, cfg.Targets.Cookies)
	assert.Equal(t, []string{filepath.Join(dir, "plugins"), filepath.Join(dir, "plugins")}, cfg.Plugins.Dirs)

	t.Chdir(filepath.Join(dir, "cookies"))
	cfg, err = Load(Sources{Env: []string{"DEBUGHOST_TARGETS_COOKIE_FILE=b"}})
	require.NoError(t, err)
	assert.Equal(t, b, cfg.Targets.CookieFile)
}

const everyProblem = `
environment variable DEBUGHOST_LOG_LEVLE: no such key (do you mean DEBUGHOST_LOG_LEVEL?)
environment variable DEBUGHOST_TARGETS_COOKIE: no such key (a secret is only ever read from a file of its own; see cookie_file)
environment variable DEBUGHOST_TOPOLOGIES_A_STRATEGY: no such key (this can be set in the file only)
environment variable DEBUGHOST_PLUGINS_FOO: no such key
environment variable DEBUGHOST_TARGETS_COOKIES: no such key (this can be set in the file only)
environment variable DEBUGHOST_TARGETS_MAX_CALLS: targets.max_calls: want a whole number, have "many"
flag --log-level: log.level: "loud" is not one of trace, debug, info, warn, error
config.toml:1: levle: unknown key (do you mean log.level?)
config.toml:3: log.levle: unknown key (do you mean log.level?)
config.toml:4: log.format: "jsno" is not one of text, json (do you mean json?)
config.toml:6: node.name: "a b" is not a node name (such as debughost or debughost@db1)
config.toml:9: targets.cookie: unknown key (a secret is only ever read from a file of its own; see cookie_file)
config.toml:10: targets.cookie_file: missing.cookie: no such file or directory
config.toml:11: targets.include[1]: "[" is not a pattern of node names (such as "shop*@*")
config.toml:11: targets.include[2]: want a text in quotes, have 3
config.toml:12: targets.tick_time: want a duration such as "500ms" or "10s", have 60
config.toml:13: targets.connect_timeout: want a duration such as "500ms" or "10s", have "soon"
config.toml:15: targets.backoff_max: 0s is less than 1ms
config.toml:16: targets.max_calls: 0 is not between 1 and 2147483647
config.toml:17: targets.gone_after: -1s is less than 0s
config.toml:18: targets.agent: want a text in quotes, have true
config.toml:19: targets.cookies[0].file: this key is required
config.toml:22: targets.cookies[1].nodes: "shop@*@x" is not a pattern of node names (such as "shop*@*")
config.toml:23: targets.cookies[1].file: open.cookie: mode 0644, and it must be accessible by its owner only (chmod 400 it)
config.toml:25: plugins.dirs[0]: missing: no such file or directory
config.toml:25: plugins.dirs[1]: shared: mode 0777 lets everybody put programs there (chmod o-w it)
config.toml:25: plugins.dirs[2]: config.toml: not a directory
config.toml:26: plugins.max_restarts: want a whole number, have "3"
config.toml:27: plugins.restart_min: 1h0m0s is more than plugins.restart_max, which is 30s
config.toml:28: plugins.checksums.discovery-epmd: "md5:00" is not sha256: with 64 hexadecimal digits (sha256sum FILE prints the digits)
config.toml:29: plugins.level: unknown key (do you mean log.level?)
config.toml:31: events.max_count: 99999999999 is not between 1 and 2147483647
config.toml:33: api.socket: want a text in quotes, have a list
config.toml:34: topologies.a.strategy: this key is required
config.toml:35: topologies.a.finds: "tragets" is not one of targets, members (do you mean targets?)
config.toml:37: topologies.b.strategy: "../evil" is not the name of a plugin (the file name of a plugin, such as discovery-epmd)
config.toml:38: topologies."c d": want a name of letters, digits, - and _
config.toml:41: topologies.e: want a table, have 1
config.toml:44: topologies.f.config: this section cannot be written as JSON: json: unsupported value: NaN
config.toml:46: member.name: want a text in quotes, have 2026-01-01, a date or time
config.toml:47: logg: unknown key (do you mean log?)
`

// TestEveryProblemIsReported has one file with every sort of mistake, and
// checks the whole report.
func TestEveryProblemIsReported(t *testing.T) {
	path := file(t, `levle = "info"
[log]
levle = "info"
format = "jsno"
[node]
name = "a b"
names = "long"
[targets]
cookie = "hunter2"
cookie_file = "missing.cookie"
include = ["ok@*", "[", 3]
tick_time = 60
connect_timeout = "soon"
backoff_min = "1m"
backoff_max = "0s"
max_calls = 0
gone_after = "-1s"
agent = true
[[targets.cookies]]
nodes = "shop@*"
[[targets.cookies]]
nodes = "shop@*@x"
file = "open.cookie"
[plugins]
dirs = ["missing", "shared", "config.toml"]
max_restarts = "3"
restart_min = "1h"
checksums = { discovery-epmd = "md5:00" }
level = 3
[events]
max_count = 99999999999
[api]
socket = ["a"]
[topologies.a]
finds = "tragets"
[topologies.b]
strategy = "../evil"
[topologies."c d"]
strategy = "x"
[topologies]
e = 1
[topologies.f]
strategy = "x"
config.nan = nan
[member]
name = 2026-01-01
[logg]
`)
	dir := filepath.Dir(path)
	write(t, dir, "open.cookie", "x", 0o644)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "shared"), 0o700))
	require.NoError(t, os.Chmod(filepath.Join(dir, "shared"), 0o777))
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.String("log-level", "", "")
	require.NoError(t, flags.Parse([]string{"--log-level=loud"}))
	_, err := Load(Sources{File: path, Flags: flags, Env: []string{
		"DEBUGHOST_TARGETS_MAX_CALLS=many", "DEBUGHOST_LOG_LEVLE=info", "DEBUGHOST_TARGETS_COOKIE=hunter2",
		"DEBUGHOST_TOPOLOGIES_A_STRATEGY=x", "DEBUGHOST_PLUGINS_FOO=x", "DEBUGHOST_TARGETS_COOKIES=x",
		"DEBUGHOST_PORT_8080_TCP=tcp://10.0.0.1:8080", "DEBUGHOST_SERVICE_HOST=10.0.0.1", "DEBUGHOST_OTP=/otp",
	}})
	var problems *Problems
	require.True(t, errors.As(err, &problems))
	got := make([]string, len(problems.List))
	for i, p := range problems.List {
		got[i] = strings.ReplaceAll(p.Error(), dir+"/", "")
	}
	assert.Equal(t, strings.TrimSpace(everyProblem), strings.Join(got, "\n"))
	assert.NotContains(t, err.Error(), "hunter2")
	assert.Contains(t, err.Error(), fmt.Sprintf("read configuration: %d problems:\n", len(got)))
}

func TestSyntaxErrorHasItsLine(t *testing.T) {
	_, err := Load(Sources{Env: noEnv, File: file(t, "[log]\nlevel = \"info\"\nlevel = \"warn\"\n")})
	assert.ErrorContains(t, err, "config.toml:3: ")
	_, err = Load(Sources{Env: noEnv, File: file(t, "[log]\n\nlevel = info\n")})
	assert.ErrorContains(t, err, "config.toml:3: ")
	assert.Equal(t, 1, strings.Count(err.Error(), "\n")+1)
}

func TestNameSortMustFit(t *testing.T) {
	for _, tc := range []struct{ name, names, want string }{
		{"debughost@db1", "short", ""},
		{"debughost@db1", "auto", ""},
		{"debughost", "long", ""},
		{"debughost@db1", "long", "is a short name"},
		{"debughost@db1.example.com", "short", "is a long name"},
		{"debughost@10.0.0.1", "long", ""},
		{"@db1", "auto", "not a node name"},
		{"a@", "auto", "not a node name"},
		{"a@b@c", "auto", "not a node name"},
	} {
		_, err := Load(Sources{Env: []string{"DEBUGHOST_NODE_NAME=" + tc.name, "DEBUGHOST_NODE_NAMES=" + tc.names}})
		if tc.want == "" {
			assert.NoError(t, err, tc)
		} else {
			assert.ErrorContains(t, err, tc.want, tc)
		}
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:7946": "", "db1:7946": "", "[::1]:0": "", "0.0.0.0:7946": "",
		"db1": "is not host:port", ":7946": "is not host:port", "db1:": "the port is not", "db1:70000": "the port is not",
		"db1:http": "the port is not", "db1:+1": "the port is not", "a b:1": "is not host:port",
	} {
		_, err := Load(Sources{Env: []string{"DEBUGHOST_CLUSTER_BIND=" + in}})
		if want == "" {
			assert.NoError(t, err, in)
		} else {
			assert.ErrorContains(t, err, want, in)
		}
	}
}

func TestClustered(t *testing.T) {
	for text, want := range map[string]bool{
		"":                           false,
		"cluster.bind='10.0.0.1:1'":  true,
		"cluster.join=['a:1','b:2']": true,
		"[topologies.m]\nstrategy='discovery-gossip'\nfinds='members'\n": true,
	} {
		cfg, err := Load(Sources{File: file(t, text), Env: noEnv})
		require.NoError(t, err)
		assert.Equal(t, want, cfg.Clustered(), text)
	}
	_, err := Load(Sources{File: file(t, "cluster.tls_ca='ca.pem'\ncluster.name='a b'\ncluster.profile='mid'\n"), Env: noEnv})
	assert.ErrorContains(t, err, "is not the name of a cluster")
	assert.ErrorContains(t, err, `"mid" is not one of`)
	_, err = Load(Sources{File: file(t, "cluster.tls_ca='ca.pem'\n"), Env: noEnv})
	assert.ErrorContains(t, err, "go together")
}

func TestJoinAsAFlag(t *testing.T) {
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.StringSlice("join", nil, "")
	flags.String("name", "", "")
	require.NoError(t, flags.Parse([]string{"--join", "a:1", "--join=b:2,c:3", "--name", "m1"}))
	cfg, err := Load(Sources{Flags: flags, Env: noEnv})
	require.NoError(t, err)
	assert.Equal(t, []string{"a:1", "b:2", "c:3"}, cfg.Cluster.Join)
	assert.Equal(t, "m1", cfg.Member.Name)
}

func TestFilesThatAreNotRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                                   "not a regular file",
		write(t, dir, "open.toml", "", 0o666): "lets everybody change it",
		write(t, dir, "big.toml", strings.Repeat("# \n", maxFile/2), 0o600): "larger than",
	} {
		_, err := Load(Sources{File: path, Env: noEnv})
		assert.ErrorContains(t, err, want)
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		pattern, node string
		want          bool
	}{
		{"shop@db1", "shop@db1", true},
		{"shop*@*", "shop_2@db1.example.com", true},
		{"shop*@*", "blog@db1", false},
		{"shop?@db1", "shop1@db1", true},
		{"shop", "shop@db1", true},
		{"shop", "shop2@db1", false},
		{"*@db1", "shop@db1", true},
		{"[", "shop@db1", false},
	} {
		assert.Equal(t, tc.want, Match(tc.pattern, tc.node), tc)
	}
	all := &Targets{}
	assert.True(t, all.Wanted("x@y"))
	some := &Targets{Include: []string{"a*", "b*"}, Exclude: []string{"*@secret"}}
	assert.True(t, some.Wanted("a1@h"))
	assert.False(t, some.Wanted("c@h"))
	assert.False(t, some.Wanted("b@secret"))
}

func TestNamesOfKeys(t *testing.T) {
	assert.Equal(t, "DEBUGHOST_TARGETS_COOKIE_FILE", EnvName("targets.cookie_file"))
	assert.Equal(t, "targets-cookie-file", FlagName("targets.cookie_file"))
	names := map[string]bool{}
	for _, k := range Keys() {
		names[EnvName(k)] = true
		names[FlagName(k)] = true
		names[LongFlagName(k)] = true
	}
	assert.Len(t, names, 2*len(Keys())+len(shortFlags), "no two keys share a name")
	assert.Equal(t, map[string]string{"member.name": "name", "cluster.join": "join", "cluster.profile": "profile", "member.labels": "label"}, shortFlags)
	assert.True(t, IsList("cluster.join"))
	assert.False(t, IsList("log.level"))
	for _, r := range reserved {
		assert.NotContains(t, slices.Collect(maps.Keys(names)), r)
	}
	assert.NotContains(t, Keys(), "targets.cookies")
	assert.NotContains(t, Keys(), "plugins.checksums")
}

func TestDiff(t *testing.T) {
	load := func(text string) *Config {
		cfg, err := Load(Sources{Env: noEnv, File: file(t, text)})
		require.NoError(t, err)
		return cfg
	}
	old := load("[topologies.a]\nstrategy='x'\n[topologies.b]\nstrategy='x'\nconfig={n=1}\n[topologies.c]\nstrategy='x'\n[topologies.s]\nstrategy='summed'\n")
	assert.True(t, Diff(old, old).None())
	next := load("log.level='debug'\nnode.name='n'\ntargets.include=['a']\n[plugins]\nrestart_max='1h'\n" +
		"[plugins.checksums]\nsummed='sha256:" + strings.Repeat("00", 32) + "'\n" +
		"[topologies.d]\nstrategy='x'\n[topologies.b]\nstrategy='x'\nconfig={n=2}\n[topologies.a]\nstrategy='x'\n[topologies.s]\nstrategy='summed'\n")
	got := Diff(old, next)
	assert.Equal(t, Changes{
		Topologies: SectionChanges{Added: []string{"d"}, Removed: []string{"c"}, Changed: []string{"b", "s"}},
		Live:       []string{"log.level", "plugins.checksums", "plugins.restart_max", "targets.include"},
		Restart:    []string{"node.name"},
	}, got)
	assert.False(t, got.None())
}

func TestClosest(t *testing.T) {
	words := []string{"level", "format", "name", "names"}
	for in, want := range map[string]string{"levle": "level", "Level": "level", "fromat": "format", "nam": "name", "nmaes": "names", "socket": "", "x": "", "": ""} {
		assert.Equal(t, want, closest(in, words), in)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(debughost.ReferenceConfig)
	f.Add("[[targets.cookies]]\n[[targets.cookies]]\nnodes = ['a']\n[a.b.c]\nd = {e.f = [1, {g = 2}]}\n")
	f.Add("topologies.a.config = [[[1, 'x'], {b = 2026-01-01}]]\n")
	path := filepath.Join(f.TempDir(), "config.toml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load(Sources{File: path, Env: noEnv})
		var problems *Problems
		if (cfg == nil) != (err != nil) || err != nil && !errors.As(err, &problems) {
			t.Fatalf("got %v and %v", cfg, err)
		}
		if cfg != nil {
			for _, topology := range cfg.Topologies {
				if !json.Valid(topology.Config) {
					t.Fatalf("not JSON: %s", topology.Config)
				}
			}
		}
	})
}

func TestRulesOfRoutes(t *testing.T) {
	dir := t.TempDir()
	key := write(t, dir, "key.pem", "x", 0o400)
	cfg, err := Load(Sources{Env: noEnv, File: write(t, dir, "config.toml", "[[targets.tls]]\nnodes = 'shop*'\nca_file = 'ca.pem'\ncert_file = 'cert.pem'\nkey_file = 'key.pem'\nverify = 'ca'\n"+
		"[[targets.ssh]]\nnodes = '*@db?'\nvia = 'me@bastion'\n", 0o600)})
	require.NoError(t, err)
	assert.Equal(t, []TLSRule{{Nodes: "shop*", CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: key, Verify: "ca"}}, cfg.Targets.TLS)
	assert.Equal(t, []SSHRule{{"*@db?", "me@bastion"}}, cfg.Targets.SSH)

	_, err = Load(Sources{Env: []string{"DEBUGHOST_TARGETS_TLS=x"}, File: write(t, dir, "config.toml",
		"[[targets.tls]]\nnodes = 'a'\ncert_file = 'c'\nverify = 'non'\n[[targets.ssh]]\nnodes = 'a'\nvia = '-oProxyCommand=x'\n[[targets.ssh]]\nvia = 'b'\n", 0o600)})
	for _, want := range []string{
		`targets.tls[0].verify: "non" is not one of full, ca, none (do you mean none?)`,
		`targets.ssh[0].via: "-oProxyCommand=x" is not a destination of ssh`,
		"targets.ssh[1].nodes: this key is required",
		"DEBUGHOST_TARGETS_TLS: no such key (this can be set in the file only)",
	} {
		assert.ErrorContains(t, err, want)
	}
	_, err = Load(Sources{Env: noEnv, File: write(t, dir, "config.toml", "[[targets.tls]]\nnodes = 'a'\ncert_file = 'c'\n", 0o600)})
	assert.ErrorContains(t, err, "config.toml:1: targets.tls: cert_file and key_file go together, and rule 1 has only one")
}

// A plugin's section may have keys with dots.
func TestKeysWithDots(t *testing.T) {
	cfg, err := Load(Sources{Env: noEnv, File: file(t, "[topologies.a]\nstrategy = 'x'\n[topologies.a.config]\naddresses = { 'shop@db1.example.org' = '10.0.0.1:9001', 'a@b' = '' }\n")})
	require.NoError(t, err)
	assert.JSONEq(t, `{"addresses": {"shop@db1.example.org": "10.0.0.1:9001", "a@b": ""}}`, string(cfg.Topologies[0].Config))
}
