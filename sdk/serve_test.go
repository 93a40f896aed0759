package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk/internal/link"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// TestMain is a plugin when a test starts this binary as one.
func TestMain(m *testing.M) {
	switch os.Getenv("SDK_TEST_SERVE") {
	case "good":
		Serve(&probe{name: "discovery-probe"})
	case "bad":
		Serve(&probe{name: "Probe"})
	default:
		os.Exit(m.Run())
	}
}

// probe is a Discovery that tells what happens to it.
type probe struct {
	name   string
	err    error // of Close
	deaf   chan struct{}
	closed chan struct{}
}

func (p *probe) Describe() Info { return Info{Name: p.name, Version: "1"} }

func (p *probe) Watch(ctx context.Context, emit func(Answer) error) error {
	Logger().Warn("watching", "size", 3)
	log.Print("[ERROR] by the standard library")
	if err := emit(Answer{}); err != nil {
		return err
	}
	if p.deaf != nil {
		<-p.deaf
	}
	<-ctx.Done()
	return ctx.Err()
}

func (p *probe) Close() error {
	if p.closed != nil {
		close(p.closed)
	}
	return p.err
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// hosted serves a strategy in this process and connects to it as a host does.
// stop ends it and returns what serve returned.
func hosted(t *testing.T, s Strategy) (conn *grpc.ClientConn, logged *lockedBuffer, stop func() error) {
	t.Helper()
	before := logger.Load()
	t.Cleanup(func() { logger.Store(before); log.SetOutput(os.Stderr); log.SetFlags(log.LstdFlags) })
	t.Setenv(plugin.EnvUnixSocketDir, t.TempDir())
	t.Setenv(link.EnvLogLevel, "debug")
	logged = &lockedBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	reattach := make(chan *plugin.ReattachConfig, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- serve(s, logged, &plugin.ServeTestConfig{Context: ctx, ReattachConfigCh: reattach})
	}()
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: link.Handshake(), AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
		Reattach: <-reattach, Plugins: plugin.PluginSet{link.Dispense: grabber{&conn}},
	})
	protocol, err := client.Client()
	require.NoError(t, err)
	_, err = protocol.Dispense(link.Dispense)
	require.NoError(t, err)
	t.Cleanup(client.Kill)
	return conn, logged, func() error { cancel(); return <-ended }
}

// grabber hands out the connection.
type grabber struct{ conn **grpc.ClientConn }

func (g grabber) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }
func (g grabber) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	*g.conn = c
	return c, nil
}
func (grabber) Server(*plugin.MuxBroker) (any, error)              { return nil, nil }
func (grabber) Client(*plugin.MuxBroker, *rpc.Client) (any, error) { return nil, nil }

// firstAnswer configures the plugin and watches until the first answer.
func firstAnswer(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	_, err := pluginpb.NewBaseClient(conn).Configure(t.Context(), &pluginpb.ConfigureRequest{Config: []byte("{}")})
	require.NoError(t, err)
	stream, err := pluginpb.NewDiscoveryClient(conn).Watch(t.Context(), &pluginpb.WatchRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
}

func TestServe(t *testing.T) {
	p := &probe{name: "discovery-probe", closed: make(chan struct{})}
	conn, logged, stop := hosted(t, p)
	firstAnswer(t, conn)
	require.NoError(t, stop())
	<-p.closed
	var lines []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(logged.String()), "\n") {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		if fields["@module"] == "discovery-probe" { // else go-plugin: its test mode ends with an error
			lines = append(lines, fields)
		}
	}
	require.Len(t, lines, 2)
	require.Equal(t, "warn", lines[0]["@level"])
	require.Equal(t, "watching", lines[0]["@message"])
	require.Equal(t, "discovery-probe", lines[0]["@module"])
	require.EqualValues(t, 3, lines[0]["size"])
	require.Equal(t, "error", lines[1]["@level"])
	require.Equal(t, "by the standard library", lines[1]["@message"])
}

func TestServeWaitsForMethodsBeforeItCloses(t *testing.T) {
	p := &probe{name: "discovery-probe", closed: make(chan struct{}), deaf: make(chan struct{}), err: errors.New("disk full")}
	conn, logged, stop := hosted(t, p)
	firstAnswer(t, conn)
	time.AfterFunc(50*time.Millisecond, func() {
		select {
		case <-p.closed:
			t.Error("closed while a method runs")
		default:
		}
		close(p.deaf)
	})
	require.EqualError(t, stop(), "close discovery-probe: disk full")
	require.NotContains(t, logged.String(), "ignore the end")
}

func TestServeNamesMethodsThatDoNotEnd(t *testing.T) {
	p := &probe{name: "discovery-probe", deaf: make(chan struct{})}
	conn, logged, stop := hosted(t, p)
	firstAnswer(t, conn)
	require.NoError(t, stop())
	close(p.deaf)
	require.Contains(t, logged.String(), "methods ignore the end of their context")
	require.Contains(t, logged.String(), "Discovery/Watch")
}

func TestServeRefusesWrongStrategies(t *testing.T) {
	require.ErrorContains(t, serve(&probe{name: "probe"}, nil, nil), "serve plugin: check description: name \"probe\"")
	t.Setenv(link.EnvHostPID, "host")
	require.ErrorContains(t, serve(&probe{name: "discovery-probe"}, nil, &plugin.ServeTestConfig{}), `"host" is not a process id`)
	_, err := served{}.GRPCClient(t.Context(), nil, nil)
	require.Error(t, err)
}

// asPlugin runs this binary as the plugin that TestMain knows.
func asPlugin(t *testing.T, which string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = []string{"SDK_TEST_SERVE=" + which, plugin.EnvUnixSocketDir + "=" + t.TempDir()}
	return cmd
}

func TestStartedByHand(t *testing.T) {
	for which, want := range map[string]string{"good": "discovery-probe 1 is a discovery plugin of debughost", "bad": `name "Probe" is not lower case`} {
		out, err := asPlugin(t, which).CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 1, exit.ExitCode())
		require.Contains(t, string(out), want)
	}
}

// A plugin whose host is not its parent was started too late: it ends at once.
func TestHostGoneBeforeTheStart(t *testing.T) {
	cmd := asPlugin(t, "good")
	h := link.Handshake()
	cmd.Env = append(cmd.Env, h.MagicCookieKey+"="+h.MagicCookieValue, link.EnvHostPID+"=1073741824")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestServesTheHostThatIsItsParent(t *testing.T) {
	cmd := asPlugin(t, "good")
	h := link.Handshake()
	cmd.Env = append(cmd.Env, h.MagicCookieKey+"="+h.MagicCookieValue, link.EnvHostPID+"="+strconv.Itoa(os.Getpid()))
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^1\|1\|unix\|.*\|grpc\|`, line)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
}

func TestAwaitExit(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { awaitExit(cmd.Process.Pid); close(ended) }()
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	<-ended
	awaitExit(-1) // cannot be told: returns
}

func TestFollowHost(t *testing.T) {
	require.Error(t, followHost("-3", nil))
	gone := make(chan struct{})
	require.NoError(t, followHost("1073741824", func() { close(gone) }))
	<-gone
	require.NoError(t, followHost("", func() { t.Error("the parent is alive") }))
}

func TestLogLevel(t *testing.T) {
	require.Equal(t, hclog.Warn, logLevel("warn"))
	require.Equal(t, hclog.Info, logLevel(""))
	require.Equal(t, hclog.Info, logLevel("loud"))
}
