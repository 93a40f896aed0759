package control

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
)

// Caller is who calls: the process at the other end of the socket, as the
// kernel tells, or another member, as its certificate tells.
type Caller struct {
	UID   uint32
	OSPid int32 // 0 where the system does not tell
	Known bool  // false: the UID and OSPid mean nothing

	Member    string // the member that calls; empty for a process of this machine
	Forwarded bool   // it passes on the call of somebody else
	For       string // whose
	Call      string // tells calls apart in the audit logs of several members
}

// AuthType is for grpc.
func (Caller) AuthType() string { return "peercred" }

func (c Caller) String() string {
	switch {
	case c.Member != "" && c.For != "":
		return "member " + c.Member + " for " + c.For
	case c.Member != "":
		return "member " + c.Member
	case !c.Known:
		return "an unknown caller"
	}
	return fmt.Sprintf("uid %d", c.UID)
}

// callerKey is where the gate leaves the Caller in a call's context.
type callerKey struct{}

func callerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// localCaller is the Caller of a call on the Unix socket.
func localCaller(ctx context.Context) Caller {
	if p, ok := peer.FromContext(ctx); ok {
		if c, ok := p.AuthInfo.(Caller); ok {
			return c
		}
	}
	return Caller{}
}

// forwardedKey is the metadata of a call that a member passes on.
const forwardedKey = "debughost-forwarded-bin"

// maxForwarded bounds what a member may say of the caller.
const maxForwarded = 1024

// memberCaller returns the Caller of calls from members.
func memberCaller(name func(credentials.AuthInfo) (string, bool)) func(context.Context) Caller {
	return func(ctx context.Context) Caller {
		p, ok := peer.FromContext(ctx)
		if !ok {
			return Caller{}
		}
		member, ok := name(p.AuthInfo)
		if !ok {
			return Caller{}
		}
		c := Caller{Member: member}
		md, _ := metadata.FromIncomingContext(ctx)
		if v := md.Get(forwardedKey); len(v) > 0 {
			c.Forwarded, c.For = true, "an unknown caller"
			var f controlpb.Forwarded
			if len(v[0]) <= maxForwarded && proto.Unmarshal([]byte(v[0]), &f) == nil {
				c.For, c.Call = f.GetCaller(), f.GetCall()
			}
		}
		return c
	}
}

// peerCreds lets the server ask the kernel who connected, once a connection.
// A caller that it can't tell stays unknown, and is refused call by call.
type peerCreds struct {
	credentials.TransportCredentials
}

func newPeerCreds() credentials.TransportCredentials {
	return peerCreds{insecure.NewCredentials()}
}

func (peerCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, err := peerOf(conn)
	if err != nil {
		return conn, Caller{}, nil
	}
	return conn, c, nil
}

func (p peerCreds) Clone() credentials.TransportCredentials { return p }

func (peerCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fmt.Errorf("peer credentials are for servers")
}

// peerOf reads the credentials of the peer of a Unix socket.
func peerOf(conn net.Conn) (Caller, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return Caller{}, fmt.Errorf("read peer credentials: %T is no unix socket", conn)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Caller{}, fmt.Errorf("read peer credentials: %w", err)
	}
	var c Caller
	var credErr error
	if err := raw.Control(func(fd uintptr) { c, credErr = peerCred(int(fd)) }); err != nil {
		return Caller{}, fmt.Errorf("read peer credentials: %w", err)
	}
	if credErr != nil {
		return Caller{}, fmt.Errorf("read peer credentials: %w", credErr)
	}
	return c, nil
}
