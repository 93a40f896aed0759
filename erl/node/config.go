package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/etf"
)

// The values that zero fields of a Config stand for.
const (
	DefaultConnectTimeout = 15 * time.Second
	DefaultMailboxBytes   = 64 << 20
	DefaultMaxIncoming    = 16 << 10
)

// Config is what a Node needs. It is copied; everything but Name may be zero.
type Config struct {
	// Name is our full node name, debughost-1f@host. No two connected nodes may
	// have the same.
	Name string
	// Creation tells this incarnation of Name from earlier ones; 0 means a
	// random one.
	Creation uint32

	// Dist has the limits and times of every connection. Its Name and Creation
	// are overwritten.
	Dist dist.Config
	// EPMD asks for the ports of other nodes, and registers ours; nil means one
	// that heeds ERL_EPMD_PORT and ERL_EPMD_ADDRESS.
	EPMD *epmd.Client
	// ConnectTimeout bounds a whole attempt to connect, name resolution
	// included.
	ConnectTimeout time.Duration

	// Limits bounds the decoding of results and messages.
	Limits etf.Limits
	// MaxIncoming bounds the links to, and the monitors of, our mailboxes that
	// one peer may set up. The ones beyond it end at once with system_limit.
	MaxIncoming int

	// Accept makes the node reachable for others; nil, the default, does not.
	Accept *AcceptConfig
}

// AcceptConfig makes other nodes able to connect to us.
type AcceptConfig struct {
	// Addr is what to listen on, as host:port; default 127.0.0.1:0.
	Addr string
	// NoEPMD does not register our name with this machine's EPMD: the others
	// then need to be told the port.
	NoEPMD bool
	// Cookie says what a node that connects must prove; the zero Cookie refuses
	// it. It must not block.
	Cookie func(peer dist.Peer) dist.Cookie
}

func (c Config) withDefaults() (Config, error) {
	name, host, ok := strings.Cut(c.Name, "@")
	if !ok || name == "" || host == "" || strings.Contains(host, "@") || len(c.Name) > 255 {
		return c, fmt.Errorf("node name %q: want name@host, at most 255 bytes", c.Name)
	}
	for c.Creation == 0 {
		c.Creation = randomCreation()
	}
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = DefaultConnectTimeout
	}
	if c.EPMD == nil {
		client, err := epmd.FromEnv(os.Getenv)
		if err != nil {
			return c, err
		}
		c.EPMD = client
	}
	if c.MaxIncoming <= 0 {
		c.MaxIncoming = DefaultMaxIncoming
	}
	c.Dist.Name, c.Dist.Creation = c.Name, c.Creation
	if c.Accept != nil {
		a := *c.Accept
		if a.Addr == "" {
			a.Addr = "127.0.0.1:0"
		}
		if a.Cookie == nil {
			return c, fmt.Errorf("node %s: accepting needs a cookie", c.Name)
		}
		c.Accept = &a
	}
	return c, nil
}

// randomCreation avoids 1 to 3, which nodes before OTP 23 cycled through.
func randomCreation() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:]) &^ 3
}

// DialOptions say how to reach one node.
type DialOptions struct {
	// Cookie is what both sides have to prove.
	Cookie dist.Cookie
	// Rename is asked when the node gives itself another full name than the one
	// that was asked for, as dist.ConnectOptions says; nil refuses it.
	Rename func(answered string) (dist.Cookie, error)
	// Addr is the host:port of the node's distribution listener. Empty means
	// to ask EPMD on the host of the node's name.
	Addr string
	// EPMD is whom to ask; nil means that of Config.
	EPMD *epmd.Client
	// Dial opens the stream; nil means TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS says that what Dial opens is TLS, with a node that speaks it
	// (-proto_dist inet_tls).
	TLS bool
}
