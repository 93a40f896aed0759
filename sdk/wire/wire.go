// Package wire is the host's end of the connection to a plugin: the terms that
// both ends agree on before the first message, and clients that have the same
// Go interfaces as the strategies behind them. It starts and watches no
// processes; package host/plugin and package plugintest do, with hashicorp's
// go-plugin:
//
//	client := plugin.NewClient(&plugin.ClientConfig{
//		HandshakeConfig:  wire.Handshake(),
//		VersionedPlugins: wire.Plugins(),
//		GRPCDialOptions:  wire.DialOptions(),
//		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
//		AutoMTLS:         true,
//		SkipHostEnv:      true,
//		Cmd:              cmd, // cmd.Env = wire.Env(os.Environ(), "info")
//	})
//	protocol, err := client.Client()
//	…
//	raw, err := protocol.Dispense(wire.Name)
//	strategy := raw.(*wire.Client)
//
// What a plugin answers is not trusted: every answer is checked against the
// contract, and what breaks it is an error that wraps sdk.ErrGarbage.
package wire

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/debughost/debughost/sdk/internal/link"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// Name is what the host dispenses.
const Name = link.Dispense

// MaxMessage bounds a message in either direction, in bytes.
const MaxMessage = link.MaxMessage

// Handshake keeps plugins from being run by hand.
func Handshake() plugin.HandshakeConfig { return link.Handshake() }

// Plugins is what the host can talk to, by version of the contract. The map is
// the caller's.
func Plugins() map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{link.Version: {Name: grpcPlugin{}}}
}

// DialOptions are for the connection to a plugin: they bound its messages.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(MaxMessage),
		grpc.MaxCallSendMsgSize(MaxMessage),
	)}
}

// inherited are the variables of the host that a plugin may see. No cookie and
// no key is among them.
var inherited = []string{
	"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "LOCALDOMAIN", "RES_OPTIONS",
	"ERL_EPMD_PORT", "ERL_EPMD_ADDRESS", "ERL_ROOTDIR", "ROOTDIR",
	"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT",
	"GODEBUG", "GOCOVERDIR", "GOTRACEBACK",
}

// Env is the environment of a plugin's process: of the given one what every
// plugin may see, the pid of this process, which the plugin must not survive,
// and the level that it logs at.
func Env(environ []string, logLevel string) []string {
	var env []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		for _, allowed := range inherited {
			if name == allowed {
				env = append(env, kv)
			}
		}
	}
	return append(env, link.EnvHostPID+"="+strconv.Itoa(os.Getpid()), link.EnvLogLevel+"="+logLevel)
}

// grpcPlugin makes the clients.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

func (grpcPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a host does not serve; see sdk.Serve")
}

func (grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}
