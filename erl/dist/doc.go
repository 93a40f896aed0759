// Package dist speaks the Erlang distribution protocol over one connection:
// the handshake of version 6 (OTP 23 and later) from either side, packets,
// ticks, fragmented messages, the atom cache in what is received, and the
// control messages that links, monitors, sends and spawn requests are made of.
//
// It does not find nodes (package epmd), keep more than one connection, own
// pids or route messages to mailboxes (package node). It knows TCP only through
// net.Conn: distribution over TLS is another one of these, and four bytes of length
// in the handshake in place of two (ConnectOptions.TLS).
//
// One use:
//
//	nc, err := net.Dial("tcp", "10.0.0.5:41337")
//	conn, err := dist.Connect(ctx, nc, dist.Config{Name: "me@host", Creation: 7}, dist.ConnectOptions{
//		Peer:   "shop@10.0.0.5",
//		Cookie: dist.NewCookie(secret),
//	})
//	go conn.Run(ctx, dist.HandlerFunc(func(m *dist.Message) {
//		term, err := m.Payload.Term()
//		…
//	}))
//	err = conn.Send(ctx, &dist.Control{Op: dist.OpRegSend, From: self, ToName: "logger"}, etf.Atom("hello"))
//
// The protocol is described in the "Distribution Protocol" and "External Term
// Format" chapters of the ERTS User's Guide; where they are silent, the
// comments name the behaviour of the emulator that was observed.
package dist
