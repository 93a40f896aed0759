package dist

import (
	"errors"
	"fmt"
	"strings"
)

// Causes of a HandshakeError that a caller branches on, with errors.Is.
var (
	// ErrCookie means that the two nodes do not share a cookie. A node that
	// does not accept ours says nothing and closes the connection in place of
	// its answer; that, too, is reported as ErrCookie.
	ErrCookie = errors.New("the cookies do not match")
	// ErrNotAllowed means that the peer refused us (net_kernel:allow/1, or a
	// capability that it demands), or that our own Decide refused the peer.
	ErrNotAllowed = errors.New("not allowed")
	// ErrTooOld means that the peer is older than OTP 25.
	ErrTooOld = errors.New("the peer's release is too old")
	// ErrNameMismatch means that another node than the one asked for answered,
	// or that the peer's name is not a node name.
	ErrNameMismatch = errors.New("another node answered")
	// ErrSimultaneous means that both nodes dialled each other at once and this
	// connection is the one that is given up: wait for the other.
	ErrSimultaneous = errors.New("simultaneous connect")
	// ErrAlive means that one side has a connection already and keeps it.
	ErrAlive = errors.New("a connection to this node exists already")
	// ErrHandshakeTimeout means that the peer did not answer in time.
	ErrHandshakeTimeout = errors.New("no answer in time")
	// ErrTLS means that the peer speaks TLS, and was not dialled with it.
	ErrTLS = errors.New("the peer speaks TLS")
	// ErrProtocol means that the peer sent what no Erlang node sends.
	ErrProtocol = errors.New("not the Erlang distribution protocol")
)

// Reasons for the end of a connection that is up, with errors.Is.
var (
	// ErrClosed means that our side closed the connection.
	ErrClosed = errors.New("connection closed")
	// ErrPeerClosed means that the peer closed the connection, or its process
	// or machine went away.
	ErrPeerClosed = errors.New("connection closed by the peer")
	// ErrTickTimeout means that nothing was read for a whole TickTime: the
	// peer is frozen, or the network is gone.
	ErrTickTimeout = errors.New("nothing heard from the peer within the tick time")
	// ErrWriteTimeout means that the peer takes nothing off the wire.
	ErrWriteTimeout = errors.New("the peer does not read")
)

// Errors of sending, and of one message. They do not end the connection.
var (
	// ErrQueueFull is what TrySend answers when the queue has no room.
	ErrQueueFull = errors.New("send queue is full")
	// ErrTooLarge means that a message exceeds the configured limit.
	ErrTooLarge = errors.New("message too large")
	// ErrNoPayload is what reading a payload says that is not there.
	ErrNoPayload = errors.New("message has no payload")
)

// Stage is a step of the handshake.
type Stage string

// The stages in their order. "receive" and "send" of one step share a name.
const (
	StageName      Stage = "name"
	StageStatus    Stage = "status"
	StageChallenge Stage = "challenge"
	StageReply     Stage = "challenge reply"
	StageAck       Stage = "challenge ack"
)

// HandshakeError says why no connection came up.
type HandshakeError struct {
	Peer   string // the node, as far as it is known, else its address
	Stage  Stage  // how far the handshake had come
	Status string // the status that was received or sent, if any
	Cause  error  // one of the causes above, or an error of the network
	Hint   string // what to look at, for a human; may be empty
	// Answered is with ErrNameMismatch the name that the node gave itself.
	Answered string
}

func (e *HandshakeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "handshake with %s: %s: ", e.Peer, e.Stage)
	if e.Status != "" {
		fmt.Fprintf(&b, "status %s: ", e.Status)
	}
	b.WriteString(e.Cause.Error())
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *HandshakeError) Unwrap() error { return e.Cause }

// PacketError says why the bytes of a peer ended its connection.
type PacketError struct {
	Offset int64 // of the packet, in bytes received on this connection after the handshake
	Msg    string
	Cause  error // may be nil
}

func (e *PacketError) Error() string {
	s := fmt.Sprintf("packet at byte %d: %s", e.Offset, e.Msg)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *PacketError) Unwrap() error { return e.Cause }
