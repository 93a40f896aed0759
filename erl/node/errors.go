package node

import (
	"errors"
	"fmt"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// Errors that a caller branches on, with errors.Is.
var (
	// ErrClosed is returned by a Node whose Run has ended or is ending.
	ErrClosed = errors.New("node is closed")
	// ErrNotConnected means that there is no connection to the node in
	// question.
	ErrNotConnected = errors.New("not connected")
	// ErrNodeDown is what every NodeDownError is.
	ErrNodeDown = errors.New("node down")
	// ErrStalePid means that a process identifier is of another incarnation of
	// its node than the one that is connected. Nothing was sent.
	ErrStalePid = errors.New("process identifier of another incarnation of its node")
	// ErrForeignPid means that a process identifier is of another node than
	// the one it was to be used on. Nothing was sent.
	ErrForeignPid = errors.New("process identifier of another node")
	// ErrMailboxClosed is returned by a Mailbox that its owner closed.
	ErrMailboxClosed = errors.New("mailbox is closed")
	// ErrMailboxOverflow is returned by a Mailbox that was closed because more
	// was sent to it than it may hold.
	ErrMailboxOverflow = errors.New("mailbox was closed: too many messages")
	// ErrMailboxKilled is returned by a Mailbox that was closed by an exit
	// signal with reason kill.
	ErrMailboxKilled = errors.New("mailbox was closed: killed by an exit signal")
	// ErrNameTaken means that another mailbox has the name already.
	ErrNameTaken = errors.New("name is taken")
)

// Stage is a step of connecting to a node.
type Stage string

// The steps in their order.
const (
	StageResolve   Stage = "resolve"   // the host part of the name, to addresses
	StageEPMD      Stage = "epmd"      // ask the host's EPMD for the port
	StageDial      Stage = "dial"      // open the connection to that port
	StageHandshake Stage = "handshake" // a *dist.HandshakeError tells more
)

// ConnectError says why there is no connection to a node.
type ConnectError struct {
	Node  string
	Stage Stage
	Hint  string // what to look at, for a human; may be empty
	Cause error
}

func (e *ConnectError) Error() string {
	s := fmt.Sprintf("connect to %s: %s: %v", e.Node, e.Stage, e.Cause)
	var he *dist.HandshakeError
	if errors.As(e.Cause, &he) { // which begins with what it is
		s = fmt.Sprintf("connect to %s: %v", e.Node, e.Cause)
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Cause }

// NodeDownError is the end of everything that was under way with a node whose
// connection ended.
type NodeDownError struct {
	Node  string
	Cause error // why the connection ended, as dist.Conn says
}

func (e *NodeDownError) Error() string { return fmt.Sprintf("%s is down: %v", e.Node, e.Cause) }

// Unwrap returns the cause.
func (e *NodeDownError) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, ErrNodeDown) true.
func (e *NodeDownError) Is(target error) bool { return target == ErrNodeDown }

// SpawnError says that the node did not start a process. Reasons that nodes
// give: notsup (it does not run spawn requests), badopt, system_limit.
type SpawnError struct {
	Node   string
	Reason etf.Atom
}

func (e *SpawnError) Error() string {
	return fmt.Sprintf("spawn process on %s: %s%s", e.Node, e.Reason, spawnHint[e.Reason])
}

var spawnHint = map[etf.Atom]string{
	"notsup":       " (is it a BEAM node?)",
	"system_limit": " (its process table is full)",
}
