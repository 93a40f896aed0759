package cluster

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

// MaxMessage is the largest message of a call between members.
const MaxMessage = 16 << 20

// memberConn is the connection to one life of a member at one address.
type memberConn struct {
	epoch uint64
	addr  string
	conn  *grpc.ClientConn
}

func (m *memberConn) close() { _ = m.conn.Close() }

// Conn returns the connection for calls to a member, which is made when first
// used, and made anew when it breaks. It is shared by all callers: do not close
// it. It is closed when that life of the member is over; then ask again. The
// error is ErrUnknownMember or ErrMemberGone.
func (c *Cluster) Conn(member string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.table.others[member]
	switch {
	case member == c.cfg.Name:
		return nil, fmt.Errorf("connect to %s: it is this member: %w", member, ErrUnknownMember)
	case e == nil:
		return nil, fmt.Errorf("connect to %.200q: %w", member, ErrUnknownMember)
	case e.State.gone():
		return nil, fmt.Errorf("connect to %s: %w (%s since %s)", member, ErrMemberGone, e.State, e.Since.UTC().Format(time.RFC3339))
	case !c.running:
		return nil, fmt.Errorf("connect to %s: %w", member, ErrNotRunning)
	}
	if m := c.conns[member]; m != nil {
		return m.conn, nil // update has closed those of earlier lives
	}
	conn, err := c.newConn(member, e.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", member, err)
	}
	c.conns[member] = &memberConn{epoch: e.Epoch, addr: e.Addr, conn: conn}
	return conn, nil
}

// newConn makes a connection without connecting.
func (c *Cluster) newConn(member, addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+member,
		grpc.WithTransportCredentials(c.identity.client(member)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return c.cfg.Network.Dial(ctx, addr)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithIdleTimeout(0),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
	)
}

// ServerOptions are what a server on Listener needs to match what Conn does:
// credentials, the size of messages, and keepalive.
func (c *Cluster) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(c.ServerCreds()),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}
}

// endedConns removes the connections to members that are gone or have another
// life or address. The caller holds mu, and closes them without it.
func (c *Cluster) endedConns() []*memberConn {
	var out []*memberConn
	for name, m := range c.conns {
		e := c.table.others[name]
		if e == nil || e.State.gone() || e.Epoch != m.epoch || e.Addr != m.addr {
			out = append(out, m)
			delete(c.conns, name)
		}
	}
	return out
}
