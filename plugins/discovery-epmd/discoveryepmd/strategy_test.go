package discoveryepmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

// configured is the strategy with a config over its defaults.
func configured(t *testing.T, config string, args ...any) (*Strategy, error) {
	t.Helper()
	s := New("1").(*Strategy)
	if err := sdk.DecodeConfig(fmt.Appendf(nil, config, args...), s.Describe().Config); err != nil {
		return s, err
	}
	return s, s.Configured(t.Context())
}

// watch runs a strategy until the test ends.
func watch(t *testing.T, config string, args ...any) *watcher {
	t.Helper()
	s, err := configured(t, config, args...)
	require.NoError(t, err)
	return watchWith(t, context.Background(), s)
}

func watchWith(t *testing.T, ctx context.Context, s *Strategy) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{t: t, Strategy: s, answers: make(chan sdk.Answer)}
	done := make(chan error)
	go func() {
		done <- s.Watch(ctx, func(a sdk.Answer) error {
			if err := sdk.ValidateNodes(a.Nodes); err != nil {
				t.Errorf("emit: %v", err)
			}
			select {
			case w.answers <- a:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

type watcher struct {
	*Strategy
	stop    func()
	t       *testing.T
	answers chan sdk.Answer
}

// next is the next answer.
func (w *watcher) next() sdk.Answer {
	w.t.Helper()
	select {
	case a := <-w.answers:
		return a
	case <-time.After(20 * time.Second):
		w.t.Fatal("no answer")
		panic("not reached")
	}
}

// names waits for an answer without an error and with exactly these nodes.
func (w *watcher) names(want ...string) []sdk.Node {
	w.t.Helper()
	for {
		a := w.next()
		if a.Err == nil && slices.Equal(sorted(a.Nodes), want) {
			return a.Nodes
		}
		w.t.Logf("on the way to %v: %v, %v", want, sorted(a.Nodes), a.Err)
	}
}

func sorted(nodes []sdk.Node) []string {
	names := []string{}
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return names
}

const fast = `"poll_interval": "50ms", "timeout": "300ms", "host": "box"`

func TestLocalFollowsEPMD(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	e.Set("shop", 4001)
	e.Set("debughost-1234", 4002) // never listed
	e.Set("odd name", 4005)       // nor what no node is called
	e.Set("a@b", 4006)
	w := watch(t, `{%s}`, fast)
	nodes := w.names("shop@box")
	require.Equal(t, sdk.Node{Name: "shop@box", Addr: "127.0.0.1:4001", Metadata: map[string]string{
		"alive": "shop", "host_unknown": "true", "epmd": e.Addr(),
	}}, nodes[0])
	e.Set("stock", 4003)
	w.names("shop@box", "stock@box")
	e.Remove("shop")
	w.names("stock@box")
	e.Set("stock", 4004) // it was restarted
	require.Equal(t, "127.0.0.1:4004", w.names("stock@box")[0].Addr)
}

func TestLastAnswerStaysWhileEPMDIsOut(t *testing.T) {
	for what, answer := range map[string]func([]byte) []byte{
		"garbage":   func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"short":     func([]byte) []byte { return []byte{0} },
		"silent":    func([]byte) []byte { return nil },
		"half line": func([]byte) []byte { return []byte("\x00\x00\x11\x11name shop at po") },
	} {
		t.Run(what, func(t *testing.T) {
			e := erltest.StartFakeEPMD(t)
			e.Setenv(t)
			e.Set("shop", 4001)
			w := watch(t, `{%s}`, fast)
			w.names("shop@box")
			e.Answer(answer)
			a := w.next()
			require.Equal(t, []string{"shop@box"}, sorted(a.Nodes))
			require.ErrorContains(t, a.Err, "ask EPMD at "+e.Addr())
			require.Contains(t, sdk.Hint(a.Err), "ERL_EPMD_PORT")
			e.Answer(nil)
			w.names("shop@box")
		})
	}
}

func TestNoEPMDIsAnErrorFromTheStart(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	e.Close()
	w := watch(t, `{%s}`, fast)
	a := w.next()
	require.Empty(t, a.Nodes)
	require.ErrorContains(t, a.Err, "connection refused")
	select { // the same failure is told once
	case a := <-w.answers:
		t.Fatalf("again: %v", a)
	case <-time.After(300 * time.Millisecond):
	}
}

// A restarted EPMD knows nothing for two seconds. A node whose port is open
// stays for that long; one whose port is closed goes at once.
func TestNodesLingerWhileTheirPortIsOpen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	e.Set("alive", l.Addr().(*net.TCPAddr).Port)
	e.Set("dead", closed.Addr().(*net.TCPAddr).Port)
	w := watch(t, `{%s, "linger": "1h"}`, fast)
	w.names("alive@box", "dead@box")
	e.Remove("alive")
	e.Remove("dead")
	w.names("alive@box")
	require.NoError(t, l.Close())
	w.names()
}

func TestLingerEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	e.Set("alive", l.Addr().(*net.TCPAddr).Port)
	w := watch(t, `{%s, "linger": "200ms"}`, fast)
	w.names("alive@box")
	e.Remove("alive")
	w.names()
}

func TestListedNodesAreAlwaysListed(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	e.Set("shop", 4001)
	e.Set("other", 4002)
	w := watch(t, `{%s, "nodes": ["shop@127.0.0.1", "stock@localhost"]}`, fast)
	nodes := w.names("shop@127.0.0.1", "stock@localhost")
	require.Equal(t, sdk.Node{Name: "shop@127.0.0.1", Addr: "127.0.0.1:4001", Metadata: map[string]string{"alive": "shop", "epmd": e.Addr()}}, nodes[0])
	require.Equal(t, sdk.Node{Name: "stock@localhost", Metadata: map[string]string{"alive": "stock", "epmd": e.Addr(), "registered": "false"}}, nodes[1])
	e.Set("stock", 4003)
	require.Equal(t, "127.0.0.1:4003", w.names("shop@127.0.0.1", "stock@localhost")[1].Addr)
	e.Close()
	a := w.next()
	require.Equal(t, []string{"shop@127.0.0.1", "stock@localhost"}, sorted(a.Nodes))
	require.Equal(t, "127.0.0.1:4001", a.Nodes[0].Addr)
	require.ErrorContains(t, a.Err, "connection refused")
}

func TestHostsOfAList(t *testing.T) {
	one, two, gone := erltest.StartFakeEPMD(t), erltest.StartFakeEPMD(t), erltest.StartFakeEPMD(t)
	one.Set("shop", 4001)
	two.Set("shop", 4001)
	two.Set("stock", 4002)
	gone.Close()
	w := watch(t, `{%s, "hosts": ["127.0.0.1:%d", "localhost:%d"]}`, fast, one.Port, two.Port)
	w.names("shop@127.0.0.1", "shop@localhost", "stock@localhost")
	two.Close()
	a := w.next()
	require.Equal(t, []string{"shop@127.0.0.1", "shop@localhost", "stock@localhost"}, sorted(a.Nodes))
	require.ErrorContains(t, a.Err, two.Addr())
	one.Set("bank", 4003) // goes on beside the failure
	a = w.next()
	require.Equal(t, []string{"bank@127.0.0.1", "shop@127.0.0.1", "shop@localhost", "stock@localhost"}, sorted(a.Nodes))
	require.Error(t, a.Err)
}

func TestManyHostsFailInOneSentence(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Close()
	w := watch(t, `{%s, "mode": "hosts", "epmd_port": %d, "hosts": ["127.0.0.1","127.0.0.2","127.0.0.3","127.0.0.4","127.0.0.5"]}`, fast, e.Port)
	a := w.next()
	require.ErrorContains(t, a.Err, "; and 2 more")
	require.NotContains(t, a.Err.Error(), "\n")
	require.NotEmpty(t, sdk.Hint(a.Err))
}

func TestHostsFileIsFoundAndFollowed(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	e.Set("shop", 4001)
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("ROOTDIR", t.TempDir())
	write := func(dir, text string) {
		require.NoError(t, os.WriteFile(dir+"/.hosts.erlang.new", []byte(text), 0o600))
		require.NoError(t, os.Rename(dir+"/.hosts.erlang.new", dir+"/.hosts.erlang"))
	}
	w := watch(t, `{%s, "mode": "hosts"}`, fast)
	a := w.next()
	require.ErrorContains(t, a.Err, "there is no ")
	require.Contains(t, sdk.Hint(a.Err), "hosts_file")
	write(os.Getenv("ROOTDIR"), "'127.0.0.1'.\n")
	w.names("shop@127.0.0.1")
	write(os.Getenv("HOME"), "localhost.\n")
	w.names("shop@localhost")
	write(".", "%% both\n'localhost'. '127.0.0.1'.\n")
	w.names("shop@127.0.0.1", "shop@localhost")
	write(".", "'localhost'\n")
	a = w.next()
	require.Len(t, a.Nodes, 2, "the last list stays")
	require.ErrorContains(t, a.Err, "no full stop behind localhost")
	write(".", "'localhost'.")
	w.names("shop@localhost")
}

func TestHostsFileByName(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	e.Set("shop", 4001)
	path := t.TempDir() + "/hosts"
	w := watch(t, `{%s, "hosts_file": %q, "nodes": ["bank@localhost"]}`, fast, path)
	a := w.next()
	require.Equal(t, []string{"bank@localhost"}, sorted(a.Nodes))
	require.ErrorIs(t, a.Err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte("'127.0.0.1'."), 0o600))
	w.names("bank@localhost", "shop@127.0.0.1")
}

func TestPatterns(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	for i, name := range []string{"shop_1", "shop_2", "shop_test", "bank"} {
		e.Set(name, 4001+i)
	}
	watch(t, `{%s, "include": ["shop_*"], "exclude": ["*_test", "*2@box"]}`, fast).names("shop_1@box")
}

func TestConfigProblems(t *testing.T) {
	for config, want := range map[string]string{
		`{"mode": "gossip"}`:                  "mode: want one of auto, local, nodes, hosts",
		`{"mode": "nodes"}`:                   "nodes: mode is",
		`{"mode": "local", "nodes": ["a@b"]}`: "nodes: has no effect",
		`{"mode": "nodes", "nodes":["a@b"], "hosts": ["db1"], "hosts_file": "x"}`: "hosts: has no effect with mode \"nodes\"; hosts_file: has no effect",
		`{"nodes": ["shop", "a@b", "a@b"]}`:                                       "nodes[0]: check node \"shop\": want name@host; nodes[2]: a@b is there twice",
		`{"nodes": ["debughost-12@b"]}`:                                           "nodes[0]: nodes whose names begin with debughost",
		`{"hosts": ["db1", "db1:0", "a/b", ""]}`:                                  "hosts[1]: \"db1:0\" has no valid port; hosts[2]: \"a/b\" is not a host; hosts[3]:",
		`{"include": ["["], "exclude": [""]}`:                                     "exclude[0]: \"\" is not a pattern; include[0]: \"[\" is not a pattern",
		`{"poll_interval": "1ms"}`:                                                "poll_interval: want at least 50ms",
		`{"epmd_port": 70000}`:                                                    "epmd_port: want at most 65535",
		`{"host": "a b"}`:                                                         "host: \"a b\" cannot follow an @",
		`{"polling": 1, "hosts": "x"}`:                                            "hosts: want a list, have a string; polling: unknown key",
	} {
		_, err := configured(t, "%s", config)
		var problems *sdk.ConfigError
		require.ErrorAs(t, err, &problems, config)
		require.ErrorContains(t, err, want, config)
	}
}

func TestEnvironmentIsChecked(t *testing.T) {
	t.Setenv("ERL_EPMD_PORT", "epmd")
	_, err := configured(t, `{}`)
	require.ErrorContains(t, err, "ERL_EPMD_PORT")
}

// The real thing: nodes of each release with short and long names come and
// go, and their EPMD is killed and started again.
func TestRealNodes(t *testing.T) {
	for _, otp := range erltest.Releases() {
		t.Run(otp, func(t *testing.T) {
			e := erltest.StartEPMD(t)
			short := erltest.Start(t, erltest.Options{OTP: otp, EPMD: e})
			e.Setenv(t)
			alive := func(b *erltest.Beam) string { name, _, _ := strings.Cut(b.Name, "@"); return name }
			w := watch(t, `{"host": "localhost", "linger": "10s"}`)
			w.names(short.Name)
			long := erltest.Start(t, erltest.Options{OTP: otp, EPMD: e, Long: true})
			names := []string{short.Name, alive(long) + "@localhost"}
			slices.Sort(names)
			nodes := w.names(names...)
			ports, err := e.Names()
			require.NoError(t, err)
			for _, n := range nodes {
				require.Equal(t, "127.0.0.1:"+strconv.Itoa(ports[n.Metadata["alive"]]), n.Addr)
			}

			e.Kill()
			a := w.next()
			require.Error(t, a.Err)
			require.Equal(t, names, sorted(a.Nodes), "the last answer stays")
			require.NoError(t, e.Restart())
			w.names(names...) // the error is gone, and nobody was dropped
			registered, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			require.NoError(t, e.WaitNames(registered, func(m map[string]int) bool { return len(m) == 2 }))
			select {
			case a := <-w.answers:
				t.Errorf("nobody came or went, and the answer is %v, %v", sorted(a.Nodes), a.Err)
			default:
			}

			// The nodes were asked at their ports, and do not complain of it.
			for _, b := range []*erltest.Beam{short, long} {
				require.NotRegexp(t, `(?i)attempt|error report`, b.Log())
			}

			long.Kill()
			w.names(short.Name)
			short.Stop()
			w.names()
		})
	}
}

// A node at a given address is listed as it is, and no EPMD is asked.
func TestAddresses(t *testing.T) {
	w := watch(t, `{"addresses": {"shop@db1.example.org": "10.0.0.1:9001", "cart@db2": "", "mail@db3": "[::1]:9002"}, "exclude": ["mail"], "epmd_port": 1}`)
	a := w.next()
	require.NoError(t, a.Err)
	require.Equal(t, []sdk.Node{
		{Name: "cart@db2", Metadata: map[string]string{sdk.MetadataAlive: "cart"}},
		{Name: "shop@db1.example.org", Addr: "10.0.0.1:9001", Metadata: map[string]string{sdk.MetadataAlive: "shop"}},
	}, a.Nodes)
	for config, want := range map[string]string{
		`{"addresses": {"shop": "h:1"}}`:                        "want name@host",
		`{"addresses": {"shop@h": "h"}}`:                        "is not host:port",
		`{"addresses": {"shop@h": "h:x"}}`:                      "has no valid port",
		`{"addresses": {"shop@h": "h:65536"}}`:                  "has no valid port",
		`{"addresses": {"debughost-1@h": "h:1"}}`:               "debughost's own",
		`{"nodes": ["shop@h"], "addresses": {"shop@h": "h:1"}}`: "is in nodes, too",
		`{"mode": "nodes"}`:                                     "this list is empty",
	} {
		_, err := configured(t, "%s", config)
		require.ErrorContains(t, err, want, config)
	}
	_, err := configured(t, `{"mode": "nodes", "addresses": {"shop@h": "h:1"}}`)
	require.NoError(t, err)
}
