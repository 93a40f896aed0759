package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/ownership"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

// Code is the stable name of a kind of failure. Programs branch on it.
type Code string

const (
	BadRequest    Code = "bad_request"         // the question makes no sense as asked
	UnknownNode   Code = "unknown_node"        // no target has that name
	AmbiguousNode Code = "ambiguous_node"      // several have
	NotAttached   Code = "not_attached"        // the target is known, and not connected
	NoProcess     Code = "noproc"              // the process is not there (any more)
	UnknownApp    Code = "unknown_application" // the target does not run, or not know, it
	Protected     Code = "protected"           // it would take the node down; force does it
	TooLarge      Code = "too_large"           // it would copy very much on the target; force does it
	NoState       Code = "no_state"            // the process has no state that it tells
	Timeout       Code = "timeout"             // no answer in time
	Canceled      Code = "canceled"            // the caller gave up
	Remote        Code = "remote"              // the target answered with an exception
	Denied        Code = "permission_denied"   // the caller lacks the role
	BadConfig     Code = "bad_config"          // the configuration has errors; the old one is in force
	Stopping      Code = "stopping"            // the member is shutting down
	NotRunning    Code = "not_running"         // nobody answers at the address
	Taken         Code = "taken"               // somebody else has the key
	UnknownKey    Code = "unknown_key"         // nobody has the key, or the cluster no such key
	Conflict      Code = "conflict"            // things are not as the call needs them
	NoQuorum      Code = "no_quorum"           // too few members answer; force does it
	UnknownMember Code = "unknown_member"      // no member has that name
	Unreachable   Code = "unreachable_member"  // another member has to do it, and does not answer
	NotOwner      Code = "not_owner"           // another member has to do it by now
	UnknownChild  Code = "unknown_child"       // no child has that id
	ChildExists   Code = "child_exists"        // the id is in use
	Unconfirmed   Code = "unconfirmed"         // it was done, and is not certain to survive
	Joining       Code = "joining"             // this member does not know yet what the others know
	NoCandidate   Code = "no_candidate"        // no member may take the child
	NoLog         Code = "no_log"              // nothing is there that the child printed
	NoBlob        Code = "no_blob"             // no member has the bundle or the seed
	Unsupported   Code = "unsupported"         // the child's strategy cannot do that
	NoTable       Code = "no_table"            // the node has no ETS table of that name or id
	Private       Code = "private"             // only its owner may read the ETS table
	Cut           Code = "cut"                 // there are more rows; the budget of an answer ends
	Internal      Code = "internal"            // a bug
	Failed        Code = "failed"              // anything else
)

// grpcCodes says how each Code looks to a gRPC or HTTP client that does not
// read details.
var grpcCodes = map[Code]codes.Code{
	BadRequest:    codes.InvalidArgument,
	UnknownNode:   codes.NotFound,
	AmbiguousNode: codes.InvalidArgument,
	NotAttached:   codes.Unavailable,
	NoProcess:     codes.NotFound,
	UnknownApp:    codes.NotFound,
	Protected:     codes.FailedPrecondition,
	TooLarge:      codes.FailedPrecondition,
	NoState:       codes.FailedPrecondition,
	Timeout:       codes.DeadlineExceeded,
	Canceled:      codes.Canceled,
	Remote:        codes.Aborted,
	Denied:        codes.PermissionDenied,
	BadConfig:     codes.FailedPrecondition,
	Stopping:      codes.Unavailable,
	NotRunning:    codes.Unavailable,
	Taken:         codes.AlreadyExists,
	UnknownKey:    codes.NotFound,
	Conflict:      codes.FailedPrecondition,
	NoQuorum:      codes.FailedPrecondition,
	UnknownMember: codes.NotFound,
	Unreachable:   codes.Unavailable,
	NotOwner:      codes.FailedPrecondition,
	UnknownChild:  codes.NotFound,
	ChildExists:   codes.AlreadyExists,
	Unconfirmed:   codes.Aborted,
	Joining:       codes.Unavailable,
	NoCandidate:   codes.FailedPrecondition,
	NoLog:         codes.NotFound,
	NoBlob:        codes.NotFound,
	Unsupported:   codes.Unimplemented,
	NoTable:       codes.NotFound,
	Private:       codes.FailedPrecondition,
	Cut:           codes.ResourceExhausted,
	Internal:      codes.Internal,
	Failed:        codes.Unknown,
}

// Error is a failed call as both sides see it.
type Error struct {
	Code  Code
	Tried string // verb and object: kill <0.1.2> on shop@db1
	Cause string // a whole sentence for a person, with what was tried in it
	Hint  string // what the person can do; may be empty
	Node  string // the target it concerns; may be empty
}

func (e *Error) Error() string { return e.Cause }

// Facts is what an error of the engine may tell of itself beside its text.
// Empty strings say nothing.
type Facts interface {
	error
	Facts() (code, node, hint string)
}

// describe makes an Error of any error of the engine. What was tried goes
// before the error's text, unless that says so itself.
func describe(tried string, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	e = &Error{Tried: tried, Cause: clean(err.Error())}
	e.gather(err)
	switch { // the caller's own deadline may end here first, and reads as there
	case err == context.DeadlineExceeded:
		e.Cause, e.Hint = "no answer in time", "--timeout waits longer"
	case err == context.Canceled:
		e.Cause = "given up"
	}
	if e.Code == "" {
		e.Code = codeOf(err)
	}
	var hinted interface{ Hint() string }
	if e.Hint == "" && errors.As(err, &hinted) {
		e.Hint = clean(hinted.Hint())
	}
	if verb, _, _ := strings.Cut(tried, " "); tried != "" && !strings.HasPrefix(e.Cause, verb+" ") {
		e.Cause = tried + ": " + e.Cause
	}
	return e
}

// codeOf knows the errors of the engine that have no facts of their own.
func codeOf(err error) Code {
	var taken *registry.TakenError
	var notOrigin *registry.NotOriginError
	var notOwner *ownership.NotOwnerError
	switch {
	case errors.As(err, &taken):
		return Taken
	case errors.As(err, &notOrigin), errors.As(err, &notOwner):
		return NotOwner
	case errors.Is(err, registry.ErrNoQuorum):
		return NoQuorum
	case errors.Is(err, registry.ErrNotFound):
		return UnknownKey
	case errors.Is(err, registry.ErrInvalid):
		return BadRequest
	case errors.Is(err, supervisor.ErrNoRun):
		return NoLog
	case errors.Is(err, supervisor.ErrElsewhere):
		return NotOwner
	case errors.Is(err, supervisor.ErrState):
		return Conflict
	case errors.Is(err, blob.ErrNotFound):
		return NoBlob
	case errors.Is(err, cluster.ErrUnknownMember), errors.Is(err, supervisor.ErrNoMember):
		return UnknownMember
	case errors.Is(err, cluster.ErrMemberRuns):
		return Conflict
	case errors.Is(err, cluster.ErrMemberGone):
		return Unreachable
	case errors.Is(err, supervisor.ErrUnknown):
		return UnknownChild
	case errors.Is(err, supervisor.ErrExists):
		return ChildExists
	case errors.Is(err, supervisor.ErrInvalid):
		return BadRequest
	case errors.Is(err, supervisor.ErrMember):
		return Conflict
	case errors.Is(err, supervisor.ErrUnconfirmed):
		return Unconfirmed
	case errors.Is(err, supervisor.ErrJoining):
		return Joining
	case errors.Is(err, sdk.ErrNoQuorum):
		return NoQuorum
	case errors.Is(err, sdk.ErrNoCandidate):
		return NoCandidate
	case errors.Is(err, sdk.ErrUnsupported):
		return Unsupported
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	return Failed
}

// gather takes the facts of err and what it wraps; the outer ones win.
func (e *Error) gather(err error) {
	var f Facts
	for errors.As(err, &f) {
		code, node, hint := f.Facts()
		e.Code = Code(cmp.Or(string(e.Code), code))
		e.Node, e.Hint = cmp.Or(e.Node, node), cmp.Or(e.Hint, hint)
		err = errors.Unwrap(f)
	}
}

// GRPCStatus makes the error travel. grpc-go calls it.
func (e *Error) GRPCStatus() *status.Status {
	code, ok := grpcCodes[e.Code]
	if !ok {
		code = codes.Unknown
	}
	st := status.New(code, e.Cause)
	with, err := st.WithDetails(&controlpb.ErrorDetail{
		Code: string(e.Code), Tried: e.Tried, Hint: clean(e.Hint), Node: clean(e.Node),
	})
	if err != nil {
		return st
	}
	return with
}

// fromStatus makes an *Error of what a gRPC call returned. nil and errors that
// are no status stay as they are.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &Error{Code: Failed, Cause: st.Message()}
	for _, d := range st.Details() {
		if d, ok := d.(*controlpb.ErrorDetail); ok {
			e.Code, e.Tried, e.Hint, e.Node = Code(d.GetCode()), d.GetTried(), d.GetHint(), d.GetNode()
			return e
		}
	}
	// No detail: gRPC itself speaks.
	switch st.Code() {
	case codes.DeadlineExceeded:
		e.Code, e.Cause = Timeout, "call debughost: no answer in time"
		e.Hint = "debughost may be stopped or overloaded; --timeout waits longer"
	case codes.Canceled:
		e.Code, e.Cause = Canceled, "call debughost: given up"
	case codes.Unavailable:
		e.Code, e.Cause = NotRunning, "call debughost: the connection broke: "+st.Message()
		e.Hint = "is it still running? see `debughost status`"
	case codes.Unimplemented:
		e.Code, e.Cause = BadRequest, "call debughost: the running debughost does not know this call"
		e.Hint = "it is another version than this command: compare `debughost version`"
	default:
		e.Cause = "call debughost: " + st.Message()
	}
	return e
}

func badRequest(tried, format string, args ...any) *Error {
	return &Error{Code: BadRequest, Tried: tried, Cause: tried + ": " + fmt.Sprintf(format, args...)}
}

// clean makes s fit for a protobuf string, which must be UTF-8.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
