// Package link holds what both ends of the connection between debughost and a
// plugin must agree on before the first message. Package sdk serves by it and
// package sdk/wire dials by it; nobody else needs it.
package link

import "github.com/hashicorp/go-plugin"

// Version is the newest version of the contract in sdk/proto. It rises when a
// message changes its meaning, not when one is added.
const Version = 1

// Dispense is the name that the one go-plugin plugin of a process goes by.
const Dispense = "debughost"

// MaxMessage bounds a message in either direction, in bytes. gRPC's own
// default is 4 MiB and go-plugin's is 2 GiB.
const MaxMessage = 16 << 20

// What the host tells a plugin's process through its environment, which is
// otherwise clean.
const (
	EnvHostPID  = "DEBUGHOST_HOST_PID"  // the OS pid whose end the plugin must not survive
	EnvLogLevel = "DEBUGHOST_LOG_LEVEL" // trace, debug, info, warn, error
)

// Handshake keeps a plugin from being run by hand. It is no protection: the
// mutual TLS is.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  Version,
		MagicCookieKey:   "DEBUGHOST_PLUGIN",
		MagicCookieValue: "f2d0c9a6-7d0e-4f35-9d8c-3b8a51c0e7d4",
	}
}
