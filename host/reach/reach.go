// Package reach opens the streams to Erlang nodes that plain TCP does not lead
// to: with TLS (OTP's inet_tls distribution), through the user's ssh, or with
// TLS through ssh.
//
// It speaks no Erlang: what it returns goes into node.DialOptions. The zero
// Route is plain TCP.
//
//	r := reach.Route{TLS: &reach.TLS{CAFile: "ca.pem"}, SSH: &reach.SSH{Via: "me@bastion"}}
//	dial := r.Dialer("shop@db1")
package reach

import (
	"context"
	"net"
)

// Dial opens a stream to host:port.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Route says how nodes are reached. It is not changed after it was made.
type Route struct {
	TLS *TLS // nil: without
	SSH *SSH // nil: directly
}

// Carrier opens what is below TLS, which is also how the EPMD of the node's host
// is asked: EPMD itself speaks no TLS. Nil means TCP.
func (r Route) Carrier() Dial {
	if r.SSH == nil {
		return nil
	}
	return r.SSH.dial
}

// Dialer opens the stream to the distribution of a node, which is given by its
// full name. Nil means TCP.
func (r Route) Dialer(node string) Dial {
	below := r.Carrier()
	if r.TLS == nil {
		return below
	}
	if below == nil {
		below = (&net.Dialer{}).DialContext
	}
	return r.TLS.over(below, node)
}
