package target

import (
	"errors"
	"fmt"

	"github.com/debughost/debughost/erl/node"
)

// Kind is a kind of failure: an error that a caller branches on with errors.Is,
// and that has a stable name for programs.
type Kind struct{ code, text string }

func (k *Kind) Error() string { return k.text }

// Facts implements the control API's view of an error.
func (k *Kind) Facts() (code, node, hint string) { return k.code, "", "" }

// The kinds of failure.
var (
	// ErrNoTarget means that no target has the name asked for.
	ErrNoTarget = &Kind{"unknown_node", "no such target"}
	// ErrAmbiguous means that several targets have the part of a name asked for.
	ErrAmbiguous = &Kind{"ambiguous_node", "several targets have this name"}
	// ErrNotAttached means that the target is known but not attached.
	ErrNotAttached = &Kind{"not_attached", "not attached"}
	// ErrNoProcess means that the process does not exist (any more).
	ErrNoProcess = &Kind{"noproc", "noproc"}
	// ErrStalePid means that the pid was shown for an earlier incarnation of
	// the node and may now be another process.
	ErrStalePid = &Kind{"noproc", "the node has restarted since this pid was shown"}
	// ErrProtected means that ending the process would take the node down.
	ErrProtected = &Kind{"protected", "refused"}
	// ErrNoApp means that the target does not run, or does not know, an application.
	ErrNoApp = &Kind{"unknown_application", "no such application"}
	// ErrBadQuery means that a query's field has a value that makes no sense.
	ErrBadQuery = &Kind{"bad_request", "bad query"}
	// ErrNoTable means that the node has no ETS table of this name or id.
	ErrNoTable = &Kind{"no_table", "no such table"}
	// ErrPrivate means that only the owner of an ETS table may read it.
	ErrPrivate = &Kind{"private", "the table is private"}
	// ErrLarge means that reading what was asked for would copy very much on the
	// target.
	ErrLarge = &Kind{"too_large", "too large"}
	// ErrConflict means that things are not as the act needs them.
	ErrConflict = &Kind{"conflict", "not possible as things are"}
	// ErrNoState means that a process has no state which it tells.
	ErrNoState = &Kind{"no_state", "no state to show"}
	// ErrTimeout means that a target did not answer within its deadline.
	ErrTimeout = &Kind{"timeout", "no answer in time"}
)

// HintError is an error with advice for the person who reads it.
type HintError struct {
	Err  error
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the error without the advice.
func (e *HintError) Unwrap() error { return e.Err }

// Facts implements the control API's view of an error.
func (e *HintError) Facts() (code, nodeName, hint string) {
	var k *Kind
	var remote *node.CallError
	switch {
	case errors.As(e.Err, &k):
		code = k.code
	case errors.As(e.Err, &remote):
		code = "remote"
	}
	return code, "", e.Hint
}

func hint(err error, format string, args ...any) error {
	return &HintError{Err: err, Hint: fmt.Sprintf(format, args...)}
}
