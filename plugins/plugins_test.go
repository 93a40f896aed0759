package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
	"github.com/stretchr/testify/require"
)

// programs is where the file that holds all plugins is built, once.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "plugins-test"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(programs)
	os.Exit(code)
}

// build compiles a main package of this repository as the Makefile does.
func build(t testing.TB, pkg, file string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), file)
	require.NoError(t, compile(pkg, path))
	return path
}

func compile(pkg, path string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w -X main.version=1.2.3", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

var compileAll = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs, "debughost-plugins")
	return path, compile(".", path)
})

// linked is a plugin as a link to the file that holds all plugins.
func linked(t testing.TB, name string) string {
	t.Helper()
	all, err := compileAll()
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Symlink(all, link))
	return link
}

// Each plugin keeps the contract, built alone and as a link to the file that
// holds all of them, whatever it is to find.
func TestConformance(t *testing.T) {
	t.Parallel()
	e := erltest.StartFakeEPMD(t)
	e.Set("shop", 4001)
	e.Set("stock", 4002)
	down := erltest.StartFakeEPMD(t)
	down.Close()
	member := &sdk.Self{
		Member: "a", Addr: "127.0.0.1:7946", Cluster: "test", Finds: sdk.RoleMember, Incarnation: 1,
		Secrets: []sdk.Secret{sdk.NewSecret([]byte("a secret of the test"))},
	}
	const nowhere = `{"multicast_if": "nonesuch"}`
	for name, uses := range map[string]map[string]plugintest.Plugin{
		"discovery-epmd": {
			"targets": {
				Config:     fmt.Sprintf(`{"epmd_port": %d, "nodes": ["bank@localhost"], "hosts": ["127.0.0.1"]}`, e.Port),
				FailConfig: fmt.Sprintf(`{"epmd_port": %d}`, down.Port),
			},
			"members": {
				Self:       member,
				Config:     fmt.Sprintf(`{"epmd_port": %d}`, e.Port),
				FailConfig: fmt.Sprintf(`{"epmd_port": %d}`, down.Port),
			},
		},
		"discovery-gossip": {
			"targets": {Config: "{" + heartbeats(t) + "}", FailConfig: nowhere},
			"members": {Self: member, Config: `{"multicast_if": "127.0.0.1", "multicast_addr": "239.255.7.9"}`, FailConfig: nowhere},
		},
	} {
		link, alone := linked(t, name), build(t, "./"+name, name)
		for use, p := range uses {
			t.Run(name+" "+use, func(t *testing.T) {
				t.Parallel()
				p.Path, p.Kind = link, sdk.KindDiscovery
				if use == "targets" {
					p.Path = alone
				}
				plugintest.Run(t, p)
			})
		}
	}
}

// sandboxes are what the suite runs in sandbox-process.
func sandboxes(p plugintest.Plugin) plugintest.Plugin {
	shell := func(script string) []byte { return fmt.Appendf(nil, `{"command": ["sh", "-c", %q]}`, script) }
	p.Kind = sdk.KindSandbox
	p.Spec = &sdk.SandboxSpec{Config: shell("echo hello; exec sleep 1000")}
	p.FailSpec = &sdk.SandboxSpec{Config: []byte(`{"command": ["/no/such/command"]}`)}
	p.OverLimit = []sdk.SandboxSpec{
		{Config: shell("x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"), Limits: sdk.SandboxLimits{Memory: 32 << 20}},
		{Config: shell("for i in 1 2 3 4 5; do sleep 1000 & done; wait"), Limits: sdk.SandboxLimits{Processes: 3}},
		{Config: shell("exec dd if=/dev/zero of=full bs=64k"), Limits: sdk.SandboxLimits{Disk: 1 << 20}},
	}
	return p
}

func TestSandboxConformance(t *testing.T) {
	t.Parallel()
	link, alone := linked(t, "sandbox-process"), build(t, "./sandbox-process", "sandbox-process")
	t.Run("linked", func(t *testing.T) {
		t.Parallel()
		plugintest.Run(t, sandboxes(plugintest.Plugin{Path: link}))
	})
	t.Run("alone, with nothing that the system need not allow", func(t *testing.T) {
		t.Parallel()
		plugintest.Run(t, sandboxes(plugintest.Plugin{Path: alone, Config: `{"namespaces": "off", "cgroups": "off"}`}))
	})
}

func TestSandboxBeamConformance(t *testing.T) {
	t.Parallel()
	node := func(script string) []byte {
		source := filepath.Join(t.TempDir(), "script.exs")
		require.NoError(t, os.WriteFile(source, []byte(script), 0o600))
		return fmt.Appendf(nil, `{"source": %q}`, source)
	}
	bin := filepath.Join(erltest.Dir(), erltest.Releases()[1], "bin")
	plugintest.Run(t, plugintest.Plugin{
		Path: build(t, "./sandbox-beam", "sandbox-beam"), Kind: sdk.KindSandbox,
		Config:   fmt.Sprintf(`{"path": %q}`, bin+":"+os.Getenv("PATH")),
		Timeout:  time.Minute, // a node comes up in less than a second, where nothing else is done
		Spec:     &sdk.SandboxSpec{Config: node(`IO.puts("hello")`)},
		FailSpec: &sdk.SandboxSpec{Config: node(`raise "no"`)},
		OverLimit: []sdk.SandboxSpec{
			{Config: node(`Process.sleep(1500); for i <- Stream.iterate(1, & &1 + 1), do: Process.put(i, String.duplicate("x", 1_000_000))`), Limits: sdk.SandboxLimits{Memory: 256 << 20}},
		},
	})
}

// heartbeats sends those of a node that uses libcluster until the test ends, to
// where the config says that it returns.
func heartbeats(t *testing.T) (config string) {
	t.Helper()
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	to := &net.UDPAddr{IP: net.IPv4(127, 255, 255, 255), Port: free.LocalAddr().(*net.UDPAddr).Port}
	require.NoError(t, free.Close())
	out, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() {
		require.NoError(t, out.Close())
		<-done
	})
	go func() {
		defer close(done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for range ticker.C {
			if _, err := out.WriteTo([]byte("heartbeat::\x83\x74\x00\x00\x00\x01\x77\x04node\x77\x08shop@db1"), to); err != nil {
				return
			}
		}
	}()
	return fmt.Sprintf(`"broadcast_only": true, "multicast_addr": %q, "port": %d`, to.IP, to.Port)
}

// Every directory beside this file that is a plugin is linked.
func TestEveryPluginIsLinked(t *testing.T) {
	mains, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	require.NotEmpty(t, mains)
	for _, file := range mains {
		name := filepath.Base(filepath.Dir(file))
		version = "1.2.3"
		strategy, ok := find("/usr/lib/debughost/plugins/" + name)
		require.True(t, ok, name)
		require.Equal(t, name, strategy.Describe().Name)
		require.Equal(t, "1.2.3", strategy.Describe().Version)
	}
	require.Len(t, plugins, len(mains))
}

func TestUnknownNameIsExplained(t *testing.T) {
	_, ok := find("debughost-plugins")
	require.False(t, ok)
	var out bytes.Buffer
	usage(&out)
	require.Contains(t, out.String(), "  discovery-epmd\n  discovery-gossip\n")
	require.Contains(t, out.String(), "  sandbox-process\n")
}

// BenchmarkStart is the time from the start of a plugin's process to its first
// list, with what an idle process weighs.
func BenchmarkStart(b *testing.B) {
	e := erltest.StartFakeEPMD(b)
	e.Set("shop", 4001)
	e.Set("stock", 4002)
	p := plugintest.Plugin{Path: linked(b, "discovery-epmd"), Config: fmt.Sprintf(`{"epmd_port": %d}`, e.Port)}
	var total plugintest.Figures
	for b.Loop() {
		f, err := plugintest.Measure(b.Context(), p)
		require.NoError(b, err)
		total.Start += f.Start
		total.Ready += f.Ready
		total.Answer += f.Answer
	}
	b.StopTimer()
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(ms(total.Start), "ms-start/op")
	b.ReportMetric(ms(total.Ready), "ms-configured/op")
	b.ReportMetric(ms(total.Answer), "ms-first-list/op")
	p.Idle = 3 * time.Second
	f, err := plugintest.Measure(b.Context(), p)
	require.NoError(b, err)
	b.ReportMetric(float64(f.Proportional)/(1<<20), "MB-proportional")
	b.ReportMetric(float64(f.Private)/(1<<20), "MB-private")
}
