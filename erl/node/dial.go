package node

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
)

// dial connects to a node, from its name to the end of the handshake. Every
// error is a *ConnectError. keepOld is asked when the node at that address
// says that we are connected: true gives the dial up, with dist.ErrAlive.
func (n *Node) dial(ctx context.Context, name string, o DialOptions, keepOld func(remote net.Addr) bool) (*dist.Conn, error) {
	addr, err := n.resolve(ctx, name, o)
	if err != nil {
		return nil, err
	}
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	nc, err := dial(ctx, "tcp", addr)
	if isUnknownHost(err) && o.Addr == "" && isThisMachine(name) {
		// A machine whose own name does not resolve; EPMD was asked at
		// loopback too.
		_, port, _ := net.SplitHostPort(addr)
		nc, err = dial(ctx, "tcp", net.JoinHostPort("localhost", port))
	}
	if err != nil {
		return nil, dialError(ctx, name, err)
	}
	conn, err := dist.Connect(ctx, nc, n.cfg.Dist, dist.ConnectOptions{
		Peer: name, Cookie: o.Cookie, Rename: o.Rename, TLS: o.TLS,
		KeepOld: func() bool { return keepOld(nc.RemoteAddr()) },
	})
	if err != nil {
		return nil, &ConnectError{Node: name, Stage: StageHandshake, Cause: err}
	}
	return conn, nil
}

// resolve finds the address of a node's distribution listener.
func (n *Node) resolve(ctx context.Context, name string, o DialOptions) (string, error) {
	if o.Addr != "" {
		return o.Addr, nil
	}
	short, host, ok := strings.Cut(name, "@")
	if !ok || short == "" || host == "" {
		return "", &ConnectError{Node: name, Stage: StageResolve, Hint: "a node name has the form name@host", Cause: errors.New("not a node name")}
	}
	client := o.EPMD
	if client == nil {
		client = n.cfg.EPMD
	}
	found, err := client.Lookup(ctx, host, short)
	if err != nil {
		return "", epmdError(ctx, name, host, err)
	}
	return net.JoinHostPort(host, strconv.Itoa(found.Port)), nil
}

func epmdError(ctx context.Context, name, host string, err error) error {
	e := &ConnectError{Node: name, Stage: StageEPMD, Cause: err}
	switch {
	case isUnknownHost(err):
		e.Stage, e.Hint = StageResolve, "the host "+host+" has no address here"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Hint = "no EPMD runs on " + host
	case errors.Is(err, epmd.ErrNotRegistered):
		e.Hint = "EPMD on " + host + " does not know the node: is it running, and distributed?"
	case isSilence(ctx, err):
		e.Hint = "no answer from EPMD on " + host + ": a firewall?"
	}
	return e
}

func dialError(ctx context.Context, name string, err error) error {
	e := &ConnectError{Node: name, Stage: StageDial, Cause: err}
	switch {
	case isUnknownHost(err):
		e.Stage, e.Hint = StageResolve, "the host of the node has no address here"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Hint = "nobody listens there: has the node just ended?"
	case isSilence(ctx, err):
		e.Hint = "no answer: a firewall?"
	}
	return e
}

func isUnknownHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

// isSilence tells an error that comes of no answer from one that comes of the
// attempt being given up.
func isSilence(ctx context.Context, err error) bool {
	var t interface{ Timeout() bool }
	return !errors.Is(ctx.Err(), context.Canceled) && errors.As(err, &t) && t.Timeout()
}

// isThisMachine reports whether a node's host is this machine's own name.
func isThisMachine(node string) bool {
	_, host, _ := strings.Cut(node, "@")
	own, err := os.Hostname()
	short, _, _ := strings.Cut(own, ".")
	return err == nil && (strings.EqualFold(host, own) || strings.EqualFold(host, short))
}
